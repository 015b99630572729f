//! An edge as a process of its own, which can be killed as only a process can.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::time::timeout;

use crate::rig::{PATIENCE, TestEdge};

/// By this `./test` finds what it has started.
const RUN_MARK: &str = "TEST_RUN_MARK";

/// It, killed on drop.
pub(crate) struct EdgeProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    _settings: NamedTempFile,
}

impl EdgeProcess {
    /// Starts one and waits until it says that it is ready.
    pub(crate) async fn start(settings: &str) -> Self {
        let file = NamedTempFile::new().expect("a file");
        // It shares its machine with other tests, which is no reason to refuse anybody unless the test is about that.
        let overload = if settings.contains("overload:") { "" } else { "overload: {cpu: 1, lag: 10s, memory: 1}\n" };
        let settings = format!("listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n{overload}{settings}");
        std::fs::write(file.path(), settings).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-signal"));
        command.arg("--config").arg(file.path()).env_clear().stdout(Stdio::piped()).stderr(Stdio::null());
        command.envs(env::var_os(RUN_MARK).map(|mark| (RUN_MARK, mark)));
        let mut child = command.spawn().expect("runs");
        let stdout = child.stdout.take().expect("piped");
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, address: nowhere, admin_address: nowhere, _settings: file };
        let said = timeout(PATIENCE, reading).await;
        if said.is_err() {
            // So that the reader ends, too.
            process.kill();
        }
        let line = said.expect("ready in time").expect("not cancelled").expect("readable");
        let named = |name: &str| {
            let address = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
            address.unwrap_or_else(|| panic!("it said {line:?}"))
        };
        process.address = named("clients=");
        process.admin_address = named("admin=");
        process
    }

    /// The process.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("it runs");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                match self.child.try_wait().expect("it is ours") {
                    Some(status) => return status,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(PATIENCE, ended).await.expect("ended in time")
    }

    /// The value of one of its metrics, named with its labels.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let answer = TestEdge::http_at(self.admin_address, "/metrics", "").await;
        let value = answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {answer}")).parse().expect("a number")
    }

    /// Kills it: no goodbye to anybody.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for EdgeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
