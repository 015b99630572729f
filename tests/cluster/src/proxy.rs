//! A link that can be cut: a TCP proxy in front of one server, for whoever is given its address.
//!
//! It passes bytes, or refuses connections, or swallows what it gets as a network does that drops every packet, or holds replies
//! back. A mode holds for all connections of a caller, also for those that are open. Who calls is told by the process at the other
//! end, so that a node can be cut from one edge and not from another although both use the address it advertises.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use std::{fs, io};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::ports;

/// Bytes passed on at a time.
const CHUNK: usize = 16 * 1_024;
/// Chunks held back at a time; past that the server is read no further, as with a full window.
const MAX_HELD: usize = 1_024;
/// Between two tries to listen again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It passes everything.
    #[default]
    Pass,
    /// Open connections are reset, new ones as well.
    Refuse,
    /// Connections stand and nothing comes through, in neither direction; new ones are made and carry nothing.
    Swallow,
    /// What the server says comes so much later.
    Delay(Duration),
}

/// Modes by the process that calls; `None`: everybody else.
type Modes = HashMap<Option<u32>, Mode>;

/// A link to one server. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    modes: watch::Sender<Modes>,
    server: watch::Sender<SocketAddr>,
    task: AbortHandle,
}

impl Proxy {
    /// A link to `server`, the same for everybody.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        Self::new(server, false)
    }

    /// A link to `server` that tells its callers apart.
    pub fn by_caller(server: SocketAddr) -> io::Result<Self> {
        Self::new(server, true)
    }

    fn new(server: SocketAddr, by_caller: bool) -> io::Result<Self> {
        let address = ports::free();
        let (modes, seen) = watch::channel(Modes::new());
        let (server, target) = watch::channel(server);
        let listener = listen(address)?;
        let task: JoinHandle<()> = tokio::spawn(accept(listener, target, seen, by_caller));
        Ok(Self { address, modes, server, task: task.abort_handle() })
    }

    /// Where to call.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the link does this, for everybody.
    pub fn set(&self, mode: Mode) {
        self.modes.send_modify(|modes| *modes = Modes::from([(None, mode)]));
    }

    /// From now on it does this to the process `pid` only.
    pub fn set_for(&self, pid: u32, mode: Mode) {
        self.modes.send_modify(|modes| _ = modes.insert(Some(pid), mode));
    }

    /// The server is elsewhere from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

/// Takes connections until the proxy is dropped; those it has taken end with it.
async fn accept(
    listener: TcpListener,
    server: watch::Receiver<SocketAddr>,
    modes: watch::Receiver<Modes>,
    by_caller: bool,
) {
    let address = listener.local_addr();
    let mut links = JoinSet::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let caller = address.as_ref().ok().filter(|_| by_caller).and_then(|to| caller(from, *to));
        while links.try_join_next().is_some() {}
        let link = Link { caller, modes: modes.clone() };
        links.spawn(link.run(stream, *server.borrow()));
    }
}

/// One connection.
#[derive(Clone)]
struct Link {
    caller: Option<u32>,
    modes: watch::Receiver<Modes>,
}

impl Link {
    fn mode(&self) -> Mode {
        let modes = self.modes.borrow();
        modes.get(&self.caller).or_else(|| modes.get(&None)).copied().unwrap_or_default()
    }

    async fn run(self, mut client: TcpStream, server: SocketAddr) {
        let mut changes = self.modes.clone();
        let mut relay = Box::pin(relay(self.clone(), &mut client, server));
        let refused = loop {
            if self.mode() == Mode::Refuse {
                break true;
            }
            tokio::select! {
                () = &mut relay => break false,
                changed = changes.changed() => if changed.is_err() { break true },
            }
        };
        drop(relay);
        if refused {
            // Reset, not closed.
            let _ = client.set_zero_linger();
        }
    }

    /// Waits until something may pass.
    async fn passable(&mut self) {
        while self.mode() == Mode::Swallow {
            if self.modes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Carries bytes both ways until one side ends.
async fn relay(mut link: Link, client: &mut TcpStream, server: SocketAddr) {
    let _ = client.set_nodelay(true);
    link.passable().await;
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    let _ = upstream.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = upstream.split();
    let (delayed, late) = mpsc::channel(MAX_HELD);
    let answers = async {
        // What was said before the end still comes through.
        tokio::join!(hold_back(link.clone(), from_server, delayed), down(link.clone(), late, to_client));
    };
    tokio::select! {
        () = up(link.clone(), from_client, to_server) => {}
        () = answers => {}
    }
}

async fn up(mut link: Link, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        link.passable().await;
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

/// What the server says, with the time at which it may come through.
async fn hold_back(link: Link, mut from: ReadHalf<'_>, to: mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let late = match link.mode() {
            Mode::Delay(late) => late,
            _ => Duration::ZERO,
        };
        if to.send((Instant::now() + late, buffer[..len].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn down(mut link: Link, mut late: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: WriteHalf<'_>) {
    while let Some((at, chunk)) = late.recv().await {
        sleep_until(at).await;
        link.passable().await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// The process at the other end of a connection from this machine.
fn caller(from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let inode = socket_inode(&fs::read_to_string("/proc/net/tcp").ok()?, from, to)?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))
    })
}

/// Finds a connection in the kernel's table (`proc_net_tcp(5)`).
fn socket_inode(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let (from, to) = (in_table(from)?, in_table(to)?);
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&from.as_str()) && words.get(2) == Some(&to.as_str()))
            .then(|| words.get(9)?.parse().ok())?
    })
}

/// An address as the table writes it: the kernel's own order of bytes.
fn in_table(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(address) => {
            Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Says everything back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn said_back(stream: &mut TcpStream, within: Duration) -> bool {
        let mut one = [0];
        let _ = stream.write_all(b"x").await;
        matches!(timeout(within, stream.read(&mut one)).await, Ok(Ok(1)))
    }

    const SOON: Duration = Duration::from_secs(5);
    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_link_passes_swallows_delays_and_refuses() {
        let proxy = Proxy::start(echo().await).expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        assert!(said_back(&mut stream, SOON).await);
        proxy.set(Mode::Swallow);
        assert!(!said_back(&mut stream, SHORT).await);
        let mut fresh = TcpStream::connect(proxy.address()).await.expect("a connection is made");
        assert!(!said_back(&mut fresh, SHORT).await);
        proxy.set(Mode::Delay(Duration::from_millis(300)));
        let mut late = TcpStream::connect(proxy.address()).await.expect("connects");
        let begun = Instant::now();
        assert!(said_back(&mut late, SOON).await && begun.elapsed() >= Duration::from_millis(300));
        proxy.set(Mode::Refuse);
        let mut one = [0];
        assert!(timeout(SOON, late.read(&mut one)).await.expect("ends").is_err(), "it is reset");
        proxy.set(Mode::Pass);
        let mut again = TcpStream::connect(proxy.address()).await.expect("connects");
        assert!(said_back(&mut again, SOON).await);
    }

    #[tokio::test]
    async fn a_link_is_cut_for_one_process_only() {
        let proxy = Proxy::by_caller(echo().await).expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        assert!(said_back(&mut stream, SOON).await);
        proxy.set_for(std::process::id() + 1, Mode::Swallow);
        assert!(said_back(&mut stream, SOON).await);
        proxy.set_for(std::process::id(), Mode::Swallow);
        assert!(!said_back(&mut stream, SHORT).await);
    }

    #[test]
    fn a_connection_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
            1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        let (client, server) = (SocketAddr::from(([127, 0, 0, 1], 50_000)), SocketAddr::from(([127, 0, 0, 1], 8_080)));
        assert_eq!(socket_inode(table, client, server), Some(4712));
        assert_eq!(socket_inode(table, server, client), Some(4711));
    }
}
