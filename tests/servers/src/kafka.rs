//! Kafka: the real broker, alone (`KRaft`), from its Maven artifacts: `pom.xml` beside this crate's manifest names them, `./test`
//! puts them under target/kafka.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    ports::free_port,
    process::{Process, said_within},
};

/// How often a start is tried: somebody else may take a port that was free.
const STARTS: usize = 3;
/// A start takes 7 s on an idle machine, and this one is busy with other tests.
const START: Duration = Duration::from_mins(1);
/// What it says when it takes messages.
const STARTED: &str = "Kafka Server started";
/// A directory is formatted for a cluster with this id; there is no other to mistake it for.
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

/// A broker. Started again, it has its ports and what it had on disk.
#[derive(Debug)]
pub struct Kafka {
    process: Option<Process>,
    ports: Ports,
    directory: TempDir,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    clients: u16,
    controller: u16,
}

impl Kafka {
    /// A new one, with no topics: they are made when something is sent to them, with three partitions.
    pub async fn start() -> Self {
        for _ in 0..STARTS {
            let mut broker = Self::not_started();
            broker.run();
            if broker.comes_up().await {
                return broker;
            }
        }
        panic!("Kafka does not start");
    }

    /// One that is not there: nobody listens at its address until it is started.
    pub fn not_started() -> Self {
        let ports = Ports { clients: free_port(), controller: free_port() };
        let directory = TempDir::with_prefix("kafka-").expect("a temporary directory");
        let broker = Self { process: None, ports, directory };
        fs::write(broker.directory.path().join("server.properties"), broker.settings()).expect("its settings");
        broker
    }

    /// Where clients find it, the same after a new start.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    /// Kills it: its sockets close at once.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it on the same ports, with what it has on disk; returns when it takes messages.
    pub async fn start_again(&mut self) {
        self.stop();
        self.run();
        assert!(self.comes_up().await, "Kafka takes its ports again");
    }

    /// Lets it hang: it keeps its sockets and answers nothing.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    fn run(&mut self) {
        if !self.directory.path().join("data").exists() {
            self.format();
        }
        self.process = Some(self.java(&["kafka.Kafka", "server.properties"], "kafka.log"));
    }

    fn format(&self) {
        let arguments = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", "server.properties"];
        let mut formatting = self.java(&arguments, "format.log");
        assert!(formatting.succeeds(), "Kafka's directory is not formatted:\n{}", formatting.said());
    }

    fn java(&self, arguments: &[&str], log: &str) -> Process {
        // Little memory and little compilation: it serves one test, for a minute or two.
        let fixed = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"];
        let classes = format!("{}/*", artifacts().display());
        let all = fixed.into_iter().chain([classes.as_str()]).chain(arguments.iter().copied());
        let all: Vec<String> = all.map(str::to_owned).collect();
        Process::start("java", &all, self.directory.path(), log)
    }

    /// Whether it serves; not so when one of its ports was taken.
    async fn comes_up(&mut self) -> bool {
        let process = self.process.as_mut().expect("it was started");
        let serves = said_within(process, STARTED, START).await;
        if serves {
            // It says so a moment before it is so for a topic that has yet to be made.
            sleep(Duration::from_millis(100)).await;
        }
        serves
    }

    fn settings(&self) -> String {
        let Ports { clients, controller } = self.ports;
        let data = self.directory.path().join("data");
        format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{clients}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nnum.partitions=3\nauto.create.topics.enable=true\noffsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.num.partitions=1\ntransaction.state.log.min.isr=1\n",
            data.display()
        )
    }
}

/// Where its archives are.
fn artifacts() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/kafka");
    let path = std::env::var_os("TEST_KAFKA").map_or(target, PathBuf::from);
    assert!(path.is_dir(), "{} is not there: `./test` makes it, or TEST_KAFKA names another", path.display());
    path
}
