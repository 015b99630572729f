//! A server's process: killed and reaped on drop, stopped and continued like one that hangs.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to be there.
pub(crate) const START: Duration = Duration::from_secs(20);

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it says goes to a file.
    pub(crate) fn start(program: &str, arguments: &[String], directory: &Path, log: &str) -> Self {
        let log = directory.join(log);
        let file = File::create(&log).expect("a log file");
        let errors = file.try_clone().expect("a second handle");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory);
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{program} does not start, is it installed? {error}"));
        Self { child, log }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: whether it has done what it was to do.
    pub(crate) fn succeeds(&mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.success())
    }

    /// What it has said, for a failed test's message.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lets it hang: it keeps its sockets and answers nothing.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a program has said something; false: it has ended before, or not said it within this time.
pub(crate) async fn said_within(process: &mut Process, what: &str, within: Duration) -> bool {
    let said = tokio::time::timeout(within, async {
        while !process.said().contains(what) {
            if process.has_ended() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        true
    });
    said.await.unwrap_or(false)
}

/// Waits until something is so, for as long as a server may take to start.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(START, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} in time");
}
