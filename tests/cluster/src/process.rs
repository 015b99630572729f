//! A program under test, as a process: started from its settings, waited for until it says `ready:`, then stopped, frozen or killed
//! as an operator or a crash would. It is gone when this is dropped; its log is shown if the test has failed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// For a start on a machine that is busy with other scenarios.
const PATIENCE: Duration = Duration::from_secs(30);
/// By this `./test` finds what it has started.
const RUN_MARK: &str = "TEST_RUN_MARK";
/// Lines of its log that a failed test shows.
const TAIL: usize = 60;

/// For how long a squeezed process is stopped, and then runs: far above what packets may wait on a node, far below what anybody hears.
const SQUEEZED: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(20));

/// A process and what it needs to be started again.
#[derive(Debug)]
pub struct Process {
    name: String,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// Run in front of it: a program and its arguments that run it in turn, as the same process.
    inside: Vec<String>,
    child: Option<Child>,
    /// How often it has become ready.
    readies: usize,
}

impl Process {
    /// Starts `binary` with these settings. Its files are in `directory`.
    pub fn start(directory: &Path, name: &str, binary: &str, settings: &str) -> anyhow::Result<Self> {
        Self::start_inside(directory, name, binary, settings, Vec::new())
    }

    /// The same, run by another program.
    pub fn start_inside(
        directory: &Path,
        name: &str,
        binary: &str,
        settings: &str,
        inside: Vec<String>,
    ) -> anyhow::Result<Self> {
        let config = directory.join(format!("{name}.yaml"));
        fs::write(&config, settings)?;
        let log = directory.join(format!("{name}.log"));
        let (name, binary) = (name.to_owned(), find(binary)?);
        let mut process = Self { name, binary, config, log, inside, child: None, readies: 0 };
        process.restart()?;
        Ok(process)
    }

    /// Starts it again, with the same settings. It must not run.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "{} still runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let words = self.inside.iter().map(OsString::from).chain([self.binary.clone().into_os_string()]);
        let words: Vec<OsString> = words.collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.env_clear().env("RUST_BACKTRACE", "1");
        // What runs it in turn is looked for there.
        command.envs(env::var_os("PATH").filter(|_| !self.inside.is_empty()).map(|path| ("PATH", path)));
        command.envs(env::var_os(RUN_MARK).map(|mark| (RUN_MARK, mark)));
        self.child = Some(command.spawn().with_context(|| format!("{} cannot be started", self.binary.display()))?);
        Ok(())
    }

    /// What its last line `ready: KEY=ADDRESS …` says, once it has written one since its last start.
    pub async fn ready(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("ready: ")).collect();
            if let Some(line) = lines.last().filter(|_| lines.len() > self.readies) {
                self.readies = lines.len();
                let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
                return Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
            }
            if let Some(status) = self.child.as_mut().context("it does not run")?.try_wait()? {
                anyhow::bail!("{} ended ({status}) before it was ready", self.name);
            }
            anyhow::ensure!(Instant::now() < deadline, "{} is not ready within {PATIENCE:?}", self.name);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Stops it from running, as a machine that hangs, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT })
    }

    /// Lets it run for a quarter of the time only, in turns of [`SQUEEZED`], as on a machine that others have, until what is given is dropped.
    pub fn squeeze(&self) -> io::Result<Squeezed> {
        let child = self.child.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Squeezed::start(Pid::from_child(child)))
    }

    /// How it ended by itself, which it must within this time.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        let child = self.child.as_mut().context("it does not run")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not end within {within:?}", self.name);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// All it has written.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let child = self.child.as_ref().ok_or(io::ErrorKind::NotFound)?;
        kill_process(Pid::from_child(child), signal).map_err(Into::into)
    }
}

/// A process that gets less of the machine than it wants.
#[derive(Debug)]
pub struct Squeezed {
    over: Arc<AtomicBool>,
    turns: Option<JoinHandle<()>>,
}

impl Squeezed {
    fn start(pid: Pid) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let turns = thread::spawn(move || {
            // A process that has ended cannot be stopped, and need not go on.
            while !ends.load(Ordering::Relaxed) && kill_process(pid, Signal::STOP).is_ok() {
                thread::sleep(SQUEEZED.0);
                let _ = kill_process(pid, Signal::CONT);
                thread::sleep(SQUEEZED.1);
            }
        });
        Self { over, turns: Some(turns) }
    }
}

impl Drop for Squeezed {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(turns) = self.turns.take() {
            // It only stops and continues, and does not panic.
            let _ = turns.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let text = self.text();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of what {} wrote:", self.name);
            lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| eprintln!("{line}"));
        }
        self.kill();
    }
}

/// A program of the workspace: in `TEST_BIN_DIR` if that is set, otherwise beside what runs now, where cargo puts it.
fn find(binary: &str) -> anyhow::Result<PathBuf> {
    let directory = match env::var_os("TEST_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        // target/PROFILE/deps/scenarios-HASH
        None => env::current_exe()?.ancestors().nth(2).context("the test runs from nowhere")?.to_owned(),
    };
    let path = directory.join(binary);
    anyhow::ensure!(
        path.exists(),
        "{} is not there: `cargo build -p edge-signal -p sfu-node` first, or name a directory in TEST_BIN_DIR",
        path.display()
    );
    Ok(path)
}
