//! The program `sfu-node`: arguments, settings, endpoints, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const CONFIG: &str = "
id: node-1
grpc: {listen: '127.0.0.1:0'}
admin_listen: 127.0.0.1:0
media: {ip: [127.0.0.1], first_port: 0, shards: 1, affinity: none}
";

fn program(config: &str) -> (tempfile::NamedTempFile, Command) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sfu-node"));
    command.arg("--config").arg(file.path());
    (file, command)
}

fn run(config: &str, arguments: &[&str]) -> Output {
    let (_file, mut command) = program(config);
    command.args(arguments).output().expect("ran")
}

/// A running program; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first line that is said on `stream`.
fn first_line(stream: impl Read + Send + 'static) -> String {
    let (tell, told) = mpsc::channel();
    // Ends with the program, if no line comes.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stream).read_line(&mut line);
        tell.send(line)
    });
    told.recv_timeout(PATIENCE).expect("a line in time")
}

/// How it ended, which it must do by itself.
fn ended(child: &mut Child) -> ExitStatus {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("its own child") {
            return status;
        }
        assert!(Instant::now() < give_up, "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("answered");
    response
}

#[test]
fn it_becomes_ready_serves_its_endpoints_and_ends_on_sigterm() {
    let (_file, mut command) = program(CONFIG);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut running = Running(child);
    let line = first_line(running.0.stdout.take().expect("piped"));
    let admin = line.trim().split("admin=").nth(1).expect("ready: grpc=… admin=…").to_owned();
    assert!(line.starts_with("ready: grpc=127.0.0.1:"), "{line}");
    assert!(get(&admin, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&admin, "/readyz").starts_with("HTTP/1.1 200"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(&admin, "/metrics").contains("sluice_sfu_rounds_total{shard=\"0\"}") {
        assert!(Instant::now() < deadline, "metrics are published every second");
    }
    let begun = Instant::now();
    kill_process(Pid::from_child(&running.0), Signal::TERM).expect("sent");
    assert!(ended(&mut running.0).success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn unusable_settings_end_it_with_64_and_a_line() {
    let output = run("id: a\nmedia:\n  shard: 1\n", &[]);
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(":3: media.shard: unknown key"), "{error}");
}

#[test]
fn settings_can_be_checked_and_shown() {
    let output = run(CONFIG, &["--check-config"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let output = run(CONFIG, &["--print-config"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.contains("id: node-1") && shown.contains("first_port: 0"), "{shown}");
}

#[test]
fn a_port_that_is_taken_is_an_error_to_act_on() {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let port = holder.local_addr().expect("bound").port();
    let output = run(&CONFIG.replace("first_port: 0", &format!("first_port: {port}")), &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("set another media port"), "{error}");
}
