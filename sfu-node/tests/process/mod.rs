//! The program `sfu-node` as a process of a test: killed when dropped.

#![allow(dead_code, reason = "each test program uses its own part of this module")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The least that a test's node is told.
pub(crate) const CONFIG: &str = "
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

/// Runs it to its end.
pub(crate) fn run(config: &str, arguments: &[&str]) -> Output {
    let (_file, mut command) = program(config);
    command.args(arguments).output().expect("ran")
}

/// A running program that is ready.
pub(crate) struct Running {
    child: Child,
    /// Where its service is.
    pub(crate) grpc: String,
    admin: String,
    /// What else it says on stdout.
    lines: Arc<Mutex<Vec<String>>>,
    _config: tempfile::NamedTempFile,
}

impl Running {
    /// Starts it and waits for its line.
    pub(crate) fn start(config: &str) -> Self {
        let (file, mut command) = program(config);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        let lines = Arc::default();
        let line = ready_line(child.stdout.take().expect("piped"), Arc::clone(&lines));
        let mut running = Self { child, grpc: String::new(), admin: String::new(), lines, _config: file };
        let (grpc, admin) = line.trim().split_once(" admin=").expect("ready: grpc=… admin=…");
        grpc.strip_prefix("ready: grpc=").expect("ready: grpc=…").clone_into(&mut running.grpc);
        admin.clone_into(&mut running.admin);
        running
    }

    /// What a path of its admin port answers.
    pub(crate) fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path}"), "")
    }

    /// What its admin port answers to this request with these further headers.
    pub(crate) fn ask(&self, request: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("answered");
        response
    }

    /// What it has said on stdout so far, but for its first line.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("sent");
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its own child");
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("its own child").is_none()
    }

    /// How it ended, which it must do by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its own child") {
                return status;
            }
            assert!(Instant::now() < give_up, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line that says that it is ready; all others are kept.
fn ready_line(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> String {
    let (tell, told) = mpsc::sync_channel(1);
    // Ends with the program.
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if line.starts_with("ready: ") {
                tell.send(line).expect("the test waits");
            } else {
                lines.lock().expect("no panic").push(line);
            }
        }
    });
    told.recv_timeout(PATIENCE).expect("a line in time")
}
