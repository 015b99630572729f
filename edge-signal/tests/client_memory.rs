//! What a client that says nothing costs an edge in memory, as the system counts it: there can be tens of thousands of them, and
//! nearly all are idle.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough that what the edge allocates once does not count.
const CLIENTS: usize = 3_000;
/// Clients that come before: whatever grows by doubling has grown, and allocators have their arenas.
const BEFORE: usize = 500;
/// Most bytes for each: the goal is 12 KiB, and what it takes some 9, a third of it for what its log lines say of it.
const EACH: usize = 11 * 1_024;
/// Longest anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running edge, gone on drop.
struct Edge {
    process: Child,
    address: SocketAddr,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Edge {
    fn start(directory: &Path) -> Self {
        let port = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let (clients, admin) = (port(), port());
        let path = directory.join("edge.yaml");
        let settings = format!(
            "id: edge-1\nlisten: 127.0.0.1:{clients}\nadmin_listen: 127.0.0.1:{admin}\nlog: {{level: error}}\n\
             overload: {{cpu: 1, lag: 10s, memory: 1}}\n\
             limits: {{connections: 8000, connections_per_address: 8000, connection_rate: 10000, connection_burst: 10000}}\n"
        );
        std::fs::write(&path, settings).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-signal"));
        let process =
            command.arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
        let edge = Self { process, address: (Ipv4Addr::LOCALHOST, clients).into() };
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect(edge.address).is_err() {
            assert!(Instant::now() < give_up, "the edge does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        edge
    }

    /// Resident memory, bytes.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let kib =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).expect("a line");
        kib.parse::<usize>().expect("a number") * 1_024
    }

    /// The least it comes to within a while: what a handshake leaves behind goes a moment after it.
    fn memory_at_rest(&self) -> usize {
        let looks = (0..10).map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            self.memory()
        });
        looks.min().expect("ten")
    }

    /// A client that has connected, asked one thing, and been answered.
    fn client(&self, number: usize) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).expect("connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        let request = format!(
            "GET /ws?peer=client-{number} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: protoo\r\n\r\n",
            self.address
        );
        socket.write_all(request.as_bytes()).expect("sent");
        assert!(read_until(&mut socket, b"\r\n\r\n").starts_with(b"HTTP/1.1 101 "));
        let question = br#"{"request":true,"id":1,"method":"keepalive","data":{"rid":"elsewhere"}}"#;
        // A text frame of less than 126 bytes, masked with nothing.
        let head = [0x81, 0x80 | u8::try_from(question.len()).expect("short"), 0, 0, 0, 0];
        socket.write_all(&[&head[..], question].concat()).expect("sent");
        let answer = read_until(&mut socket, br#""error":"not_in_room""#);
        assert!(answer.len() > 2, "no answer");
        socket
    }
}

fn read_until(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 1_024]);
    while !all.windows(end.len()).any(|window| window == end) {
        let length = socket.read(&mut buffer).expect("in time");
        assert!(length > 0, "closed after {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..length]);
    }
    all
}

#[test]
fn an_idle_client_costs_some_kilobytes() {
    let wanted = u64::try_from(CLIENTS + BEFORE + 200).expect("few");
    assert!(rlimit::increase_nofile_limit(wanted).expect("a limit") >= wanted, "more open files must be allowed");
    let directory = tempfile::tempdir().expect("a directory");
    let edge = Edge::start(directory.path());
    let _first: Vec<_> = (0..BEFORE).map(|number| edge.client(number)).collect();
    let before = edge.memory_at_rest();
    let _clients: Vec<_> = (BEFORE..BEFORE + CLIENTS).map(|number| edge.client(number)).collect();
    let each = edge.memory_at_rest().saturating_sub(before) / CLIENTS;
    assert!(each > 1_024, "{each} bytes cannot be: the clients are not there");
    assert!(each <= EACH, "a client costs {each} bytes");
}
