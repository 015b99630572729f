//! An edge as a process of its own, which can be killed as only a process can.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::NamedTempFile;
use tokio::time::timeout;

use crate::rig::PATIENCE;

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
        let settings = format!("listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n{settings}");
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
