//! The node's entry in the node directory: made when edges can reach the node, told of its load and state, taken away when it
//! ends. The directory being out of reach changes nothing for the node: it is tried again, and media flows.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use room_store::{DirectoryError, Load, NodeRecord, NodeRegistration, NodeRegistry, NodeState};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::control::{Control, Phase};
use crate::metrics::catalogue::{REGISTERED, REGISTRATION_FAILURES};

/// Longest that one word to the directory may take: an entry that is told this late is told with the next word.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of a node waits for its entry to go, within the second that its calls get. Later its lease ends anyway.
const WITHDRAW_TIMEOUT: Duration = Duration::from_millis(900);

/// Mean pause before the first further attempt; doubled with each.
const MIN_PAUSE: Duration = Duration::from_millis(500);

/// Longest mean pause: how late a directory that has room again is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Keeps the node registered until it ends, or somebody else has its id.
pub(crate) struct Registrar {
    registry: Arc<dyn NodeRegistry>,
    record: NodeRecord,
    control: Arc<Control>,
    phase: watch::Receiver<Phase>,
    load: watch::Receiver<Load>,
    metrics: RegistrationMetrics,
}

struct RegistrationMetrics {
    registered: Gauge,
    failures: Counter,
}

/// Why an entry is kept no longer.
enum Over {
    /// The node ends.
    Ending,
    /// Another process has registered with its id.
    Superseded,
}

impl Registrar {
    /// Of a node that this record describes; state and load of it are the node's own.
    pub(crate) fn new(
        registry: Arc<dyn NodeRegistry>,
        record: NodeRecord,
        control: Arc<Control>,
        load: watch::Receiver<Load>,
    ) -> Self {
        let metrics =
            RegistrationMetrics { registered: REGISTERED.gauge(&[]), failures: REGISTRATION_FAILURES.counter(&[]) };
        Self { registry, record, phase: control.phase(), control, load, metrics }
    }

    /// Does it.
    pub(crate) async fn run(mut self) {
        self.metrics.registered.set(0.0);
        let Some(entry) = self.register().await else { return };
        match self.keep(entry.as_ref()).await {
            Over::Ending => match timeout(WITHDRAW_TIMEOUT, entry.withdraw()).await {
                Ok(Ok(())) => tracing::info!("taken out of the node directory"),
                Ok(Err(error)) => tracing::warn!(%error, "not taken out of the node directory: the lease will end"),
                Err(_) => tracing::warn!("not taken out of the node directory in time: the lease will end"),
            },
            Over::Superseded => {
                tracing::error!(
                    node = %self.record.node,
                    "another process has registered with this node's id: this one takes nothing new; give one of them \
                     another id, and restart this one"
                );
                self.control.supersede();
            }
        }
        self.metrics.registered.set(0.0);
    }

    /// Tries until there is an entry; `None`: the node ends.
    async fn register(&mut self) -> Option<Box<dyn NodeRegistration>> {
        let mut pause = MIN_PAUSE;
        loop {
            self.note();
            let registered = tokio::select! {
                biased;
                () = ending(&mut self.phase) => return None,
                registered = timeout(CALL_TIMEOUT, self.registry.register(self.record.clone())) => registered,
            };
            match registered {
                Ok(Ok(entry)) => {
                    tracing::info!(address = %self.record.address, "registered in the node directory");
                    return Some(entry);
                }
                Ok(Err(error)) => self.failed(error),
                Err(_) => self.failed(DirectoryError::Unavailable),
            }
            let again = pause.mul_f64(rand::random_range(0.5..1.5));
            tokio::select! {
                biased;
                () = ending(&mut self.phase) => return None,
                () = sleep(again) => {}
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Tells the directory what changes.
    async fn keep(&mut self, entry: &dyn NodeRegistration) -> Over {
        let mut told = self.record.state;
        let mut reachable = true;
        loop {
            let phase = *self.phase.borrow_and_update();
            if phase == Phase::Ending {
                return Over::Ending;
            }
            let (state, load) = (state(phase), *self.load.borrow_and_update());
            // A state that could not be told is told again with the next load.
            let say = async { if state == told { entry.report(load).await } else { entry.set_state(state).await } };
            let said = tokio::select! {
                biased;
                // A load that is on its way holds up neither a drain nor the end.
                _ = self.phase.changed() => continue,
                said = timeout(CALL_TIMEOUT, say) => said,
            };
            match said {
                Ok(Ok(())) => {
                    told = state;
                    self.metrics.registered.set(1.0);
                    if !std::mem::replace(&mut reachable, true) {
                        tracing::info!("the node directory is back");
                    }
                }
                Ok(Err(DirectoryError::Ended)) => return Over::Superseded,
                Ok(Err(error)) => self.unreachable(error, &mut reachable),
                Err(_) => self.unreachable(DirectoryError::Unavailable, &mut reachable),
            }
            // Neither sender ends before the node does.
            tokio::select! {
                biased;
                _ = self.phase.changed() => {}
                _ = self.load.changed() => {}
            }
        }
    }

    /// What the entry is to say, as it stands.
    fn note(&mut self) {
        self.record.state = state(*self.phase.borrow_and_update());
        self.record.load = *self.load.borrow_and_update();
    }

    fn unreachable(&self, error: DirectoryError, reachable: &mut bool) {
        if std::mem::replace(reachable, false) {
            self.failed(error);
        }
        self.metrics.registered.set(0.0);
    }

    fn failed(&self, error: DirectoryError) {
        self.metrics.failures.increment(1);
        tracing::warn!(%error, "the node directory does not know of this node, or not as it is: trying again");
    }
}

/// Waits until the node ends.
async fn ending(phase: &mut watch::Receiver<Phase>) {
    // A sender that is gone has ended as well.
    let _ = phase.wait_for(|phase| *phase == Phase::Ending).await;
}

fn state(phase: Phase) -> NodeState {
    match phase {
        Phase::Ready => NodeState::Ready,
        Phase::Draining { .. } | Phase::Superseded | Phase::Ending => NodeState::Draining,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proto::ids::{BootId, NodeId};
    use room_store::{Capacity, MemoryNodes, NodeDirectory, NodeMap};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    struct Rig {
        control: Arc<Control>,
        load: watch::Sender<Load>,
        registrar: JoinHandle<()>,
    }

    fn record() -> NodeRecord {
        NodeRecord {
            node: NodeId::new("node-1").expect("valid"),
            boot: Some(BootId::of(1)),
            region: "sz".parse().expect("valid"),
            address: "http://10.0.0.1:7000".to_owned(),
            weight: 3,
            capacity: Capacity::default(),
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: "1".to_owned(),
        }
    }

    fn start(registry: impl NodeRegistry) -> Rig {
        let control = Arc::new(Control::without_shards());
        let (load, measured) = watch::channel(Load::default());
        let registrar = Registrar::new(Arc::new(registry), record(), control.clone(), measured);
        Rig { control, load, registrar: tokio::spawn(registrar.run()) }
    }

    /// Waits until the map is like this; in virtual time, this long at most.
    async fn until(nodes: &MemoryNodes, is_so: impl FnMut(&Arc<NodeMap>) -> bool) -> Arc<NodeMap> {
        let mut map = nodes.watch();

        timeout(Duration::from_mins(10), map.wait_for(is_so)).await.expect("in time").expect("open").clone()
    }

    /// A directory that is out of reach for the first attempts, and later says nothing to what it is told.
    struct Troubled {
        nodes: MemoryNodes,
        fails: AtomicUsize,
        mute: bool,
    }

    struct Mute;

    #[tonic::async_trait]
    impl NodeRegistry for Troubled {
        async fn register(&self, record: NodeRecord) -> Result<Box<dyn NodeRegistration>, DirectoryError> {
            let fails = |left: usize| left.checked_sub(1);
            if self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
                return Err(DirectoryError::Unavailable);
            }
            if self.mute { Ok(Box::new(Mute)) } else { self.nodes.register(record).await }
        }
    }

    #[tonic::async_trait]
    impl NodeRegistration for Mute {
        async fn report(&self, _: Load) -> Result<(), DirectoryError> {
            std::future::pending().await
        }

        async fn set_state(&self, _: NodeState) -> Result<(), DirectoryError> {
            std::future::pending().await
        }

        async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn others_see_the_node_as_it_is_until_it_ends() {
        let nodes = MemoryNodes::new();
        let rig = start(nodes.clone());
        let map = until(&nodes, |map| map.nodes.contains_key("node-1")).await;
        assert_eq!(NodeRecord { reports: 0, ..map.nodes["node-1"].as_ref().clone() }, record());
        rig.load.send_replace(Load { tracks: 7, ..Load::default() });
        until(&nodes, |map| map.nodes["node-1"].load.tracks == 7).await;
        rig.control.drain(Duration::ZERO).await;
        until(&nodes, |map| map.nodes["node-1"].state == NodeState::Draining).await;
        rig.control.end();
        until(&nodes, |map| map.nodes.is_empty()).await;
        rig.registrar.await.expect("ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_out_of_reach_is_tried_again_with_what_is_true_by_then() {
        let nodes = MemoryNodes::new();
        let rig = start(Troubled { nodes: nodes.clone(), fails: 10.into(), mute: false });
        rig.load.send_replace(Load { tracks: 7, ..Load::default() });
        let map = until(&nodes, |map| map.nodes.contains_key("node-1")).await;
        assert_eq!(map.nodes["node-1"].load.tracks, 7);
        rig.control.end();
        rig.registrar.await.expect("ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_may_end_while_the_directory_is_out_of_reach() {
        let rig = start(Troubled { nodes: MemoryNodes::new(), fails: usize::MAX.into(), mute: false });
        sleep(Duration::from_mins(5)).await;
        let begun = Instant::now();
        rig.control.end();
        rig.registrar.await.expect("ended");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_does_not_answer_holds_nothing_up() {
        let rig = start(Troubled { nodes: MemoryNodes::new(), fails: 0.into(), mute: true });
        sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        rig.control.drain(Duration::from_secs(3)).await;
        rig.control.end();
        rig.registrar.await.expect("ended");
        assert_eq!(begun.elapsed(), WITHDRAW_TIMEOUT, "the entry alone is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_with_one_id_the_newer_stays_registered_and_the_older_takes_nothing_new() {
        let nodes = MemoryNodes::new();
        let older = start(nodes.clone());
        until(&nodes, |map| map.nodes.contains_key("node-1")).await;
        let newer = nodes.register(NodeRecord { boot: Some(BootId::of(2)), ..record() }).await.expect("registered");
        older.load.send_replace(Load::default());
        older.registrar.await.expect("it has given up");
        assert_eq!(*older.control.phase().borrow(), Phase::Superseded);
        assert_eq!(nodes.map().nodes["node-1"].boot, Some(BootId::of(2)));
        newer.report(Load::default()).await.expect("it has the id");
    }
}
