use std::sync::atomic::{AtomicUsize, Ordering};

use room_store::{
    Capacity, Load, MemoryNodes, MemoryRooms, NodeRegistration, NodeRegistry as _, NodeState, RoomSettings,
};
use tonic::transport::Channel;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts what it is asked for.
#[derive(Default)]
struct Counting {
    inner: TcpConnector,
    asked: AtomicUsize,
}

impl Connector for Counting {
    fn channel(&self, node: &NodeRecord) -> Result<Channel, BadAddress> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.channel(node)
    }
}

struct Rig {
    nodes: Nodes,
    directory: MemoryNodes,
    connector: Arc<Counting>,
    shutdown: CancellationToken,
    _events: mpsc::Receiver<NodeEvent>,
}

impl Rig {
    fn start() -> Self {
        let (events, receiver) = mpsc::channel(16);
        let (directory, connector, shutdown) =
            (MemoryNodes::new(), Arc::<Counting>::default(), CancellationToken::new());
        let nodes = Nodes::start(NodesConfig {
            connector: Arc::clone(&connector) as Arc<dyn Connector>,
            directory: Arc::new(directory.clone()),
            region: "here".parse().expect("valid"),
            members: Arc::new(Members::new(Arc::new(MemoryRooms::new(RoomSettings::default())))),
            sight: Sight::steady(),
            events,
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
            metrics: EdgeMetrics::register(),
        });
        Self { nodes, directory, connector, shutdown, _events: receiver }
    }

    async fn register(&self, address: &str) -> Box<dyn NodeRegistration> {
        let record = NodeRecord {
            node: "sfu-1".parse().expect("valid"),
            boot: None,
            region: "here".parse().expect("valid"),
            address: address.to_owned(),
            weight: 1,
            capacity: Capacity::default(),
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: String::new(),
        };
        self.directory.register(record).await.expect("registered")
    }

    /// Has a map taken in that differs from the one before only in what the node reports.
    async fn another_map(&self, held: &dyn NodeRegistration) {
        let mut changes = self.nodes.changes();
        held.report(Load::default()).await.expect("current");
        tokio::time::timeout(PATIENCE, changes.changed()).await.expect("taken in").expect("it lives");
    }

    async fn until_asked(&self, count: usize) {
        let mut changes = self.nodes.changes();
        while self.asked() < count {
            tokio::time::timeout(PATIENCE, changes.changed()).await.expect("asked in time").expect("it lives");
        }
    }

    fn asked(&self) -> usize {
        self.connector.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_tried_once_each_time_it_changes() {
    let rig = Rig::start();
    let bad = rig.register("https://127.0.0.1:9").await;
    for _ in 0..5 {
        rig.another_map(&*bad).await;
    }
    assert_eq!(rig.asked(), 1, "each try is an ERROR in the log");
    let worse = rig.register("in this process").await;
    for _ in 0..5 {
        rig.another_map(&*worse).await;
    }
    assert_eq!(rig.asked(), 2);
    let _good = rig.register("http://127.0.0.1:9").await;
    rig.until_asked(3).await;
    assert!(rig.nodes.inner.node(&"sfu-1".parse().expect("valid")).is_some(), "it can be used now");
    let _bad = rig.register("https://127.0.0.1:9").await;
    rig.until_asked(4).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_node_whose_address_cannot_be_used() {
    let rig = Rig::start();
    let bad = rig.register("https://127.0.0.1:9").await;
    rig.another_map(&*bad).await;
    let start = Instant::now();
    let room: RoomId = "r".parse().expect("valid");
    let new = NewStream { room: &room, region: None, avoid: &[], is_recorded: false };
    assert!(rig.nodes.candidates(&new, start + PATIENCE).await.is_empty());
    assert_eq!(start.elapsed(), Duration::ZERO, "it cannot come");
}
