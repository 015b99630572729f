//! Shard threads: started, pinned, fed and stopped. What such a thread does is in `drive.rs`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sfu_core::dtls::Identity;
use sfu_core::{Event, Shard, ShardConfig, ShardIndex};
use tokio::sync::mpsc as events;

use crate::config::Affinity;
use crate::drive::{Drive, Order};
use crate::governor::{Governor, Marks};
use crate::recording::{self, RecorderQueues};
use crate::siblings;
use crate::stats::ShardStats;
use crate::udp::{MediaSocket, Waker, wake_pair};

/// Orders that wait for one shard. One takes up to some 200 µs: more would make callers wait longer than their deadline.
const ORDERS: usize = 1_024;

/// Most shards of a node: the core marks a set of siblings by the bits of a word, and one of them is the recorder's.
pub(crate) const MAX_SHARDS: usize = sfu_core::MAX_SIBLINGS - 1;

/// A running shard, as the control side sees it.
pub(crate) struct ShardHandle {
    pub(crate) index: ShardIndex,
    /// Where its socket is bound.
    pub(crate) bound: SocketAddr,
    pub(crate) stats: Arc<ShardStats>,
    orders: mpsc::SyncSender<Order>,
    waker: Waker,
}

/// The shard has more to do than it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shard has too many orders waiting")]
pub(crate) struct Busy;

impl ShardHandle {
    /// Queues an order, whole or not at all.
    pub(crate) fn order(&self, order: Order) -> Result<(), Busy> {
        self.try_order(order).map_err(|_| Busy)
    }

    /// Likewise; gives an order back for which there is no room.
    pub(crate) fn try_order(&self, order: Order) -> Result<(), Order> {
        // A queue without a reader is one of a node that is ending; nobody waits for the outcome any more.
        self.orders.try_send(order).map_err(|refused| match refused {
            mpsc::TrySendError::Full(order) | mpsc::TrySendError::Disconnected(order) => order,
        })?;
        self.waker.wake();
        Ok(())
    }
}

#[cfg(test)]
impl ShardHandle {
    /// A handle without a thread, and the queue of its orders.
    pub(crate) fn detached(index: u8) -> (Self, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::sync_channel(ORDERS);
        let (waker, _) = wake_pair().expect("an eventfd");
        let bound = SocketAddr::from(([127, 0, 0, 1], 40_000 + u16::from(index)));
        (Self { index: ShardIndex(index), bound, stats: Arc::new(ShardStats::new()), orders, waker }, receiver)
    }
}

/// The threads of a node's shards.
pub(crate) struct ShardThreads {
    stop: Arc<AtomicBool>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
}

impl ShardThreads {
    /// Lets every shard carry out the orders it has, and waits for their threads. Blocks, for milliseconds.
    pub(crate) fn stop(mut self) {
        self.signal();
        for thread in self.threads.drain(..) {
            // A thread that panicked has taken the process with it: see `AbortOnPanic`.
            let _ = thread.join();
        }
    }

    fn signal(&self) {
        self.stop.store(true, Ordering::Release);
        for waker in &self.wakers {
            waker.wake();
        }
    }
}

impl Drop for ShardThreads {
    fn drop(&mut self) {
        self.signal();
    }
}

/// Running shards: handles, threads, and the recorder's ends of the queues if there is to be a recorder.
pub(crate) type Started = (Vec<ShardHandle>, ShardThreads, Option<RecorderQueues>);

/// Starts a thread per socket. Events of all shards go to `events`. `recorded`: there is going to be a recorder. Beyond `marks` a
/// shard leaves out video.
pub(crate) fn start(
    sockets: Vec<MediaSocket>,
    affinity: &Affinity,
    identity: &Arc<Identity>,
    events: &events::Sender<(ShardIndex, Event)>,
    recorded: bool,
    marks: Marks,
) -> io::Result<Started> {
    let wakes = sockets.iter().map(|_| wake_pair()).collect::<io::Result<Vec<_>>>()?;
    let wakers: Vec<Waker> = wakes.iter().map(|(waker, _)| waker.clone()).collect();
    let mut siblings = siblings::connect(&wakers);
    let recorder = recorded.then(|| {
        let (queues, ends) = recording::connect(&wakers);
        siblings.iter_mut().zip(ends).for_each(|(shard, ends)| shard.add_recorder(ends));
        queues
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = ShardThreads { stop: stop.clone(), wakers, threads: Vec::new() };
    let mut handles = Vec::new();
    for (number, ((socket, siblings), (waker, wake))) in sockets.into_iter().zip(siblings).zip(wakes).enumerate() {
        let index = ShardIndex(number as u8);
        let stats = Arc::new(ShardStats::new());
        let (orders, receiver) = mpsc::sync_channel(ORDERS);
        handles.push(ShardHandle { index, bound: socket.local_addr()?, stats: stats.clone(), orders, waker });
        let now = Instant::now();
        let drive = Drive {
            index,
            shard: Shard::new(ShardConfig { index, identity: identity.clone() }, now),
            governor: Governor::new(marks, now),
            socket,
            wake,
            orders: receiver,
            events: events.clone(),
            siblings,
            stats,
            stop: stop.clone(),
        };
        let cpu = affinity.cpu(number);
        let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
            let _abort = AbortOnPanic;
            pin(cpu, number);
            drive.run();
        });
        running.threads.push(thread?);
    }
    Ok((handles, running, recorder))
}

fn pin(cpu: Option<usize>, shard: usize) {
    let Some(cpu) = cpu else { return };
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        tracing::warn!(shard, cpu, "cannot be pinned to this CPU; the kernel places it");
    }
}

/// How long a process that aborts waits for its log to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Ends the process when its thread panics. A node without one of its shards would be alive to its edges while a share of
/// its clients is mute; a process that ends is noticed, started again, and has another boot id, by which edges know what is
/// gone.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            // The panic itself, with its place, is in the log or on stderr already.
            tracing::error!(thread = thread::current().name(), "a shard has panicked: the process ends");
            telemetry::flush_logs(LAST_WORDS);
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;
    use std::process;

    use sfu_core::sdp::IceCredentials;
    use sfu_core::{CloseReason, Command, OpenTransport, TransportHandle};

    use super::*;

    const PANIC: &str = "SFU_NODE_TEST_PANIC";

    /// The next event, which must come.
    fn next(events: &mut events::Receiver<(ShardIndex, Event)>) -> (ShardIndex, Event) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let event = async { tokio::time::timeout(Duration::from_secs(20), events.recv()).await };
        runtime.block_on(event).expect("in time").expect("the shard runs")
    }

    fn two() -> (Vec<ShardHandle>, ShardThreads, events::Receiver<(ShardIndex, Event)>) {
        let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let sockets = (0..2).map(|_| MediaSocket::bind(address).expect("bound")).collect();
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let (sender, receiver) = events::channel(16);
        let (handles, threads, _) =
            start(sockets, &Affinity::None, &identity, &sender, false, Marks::default()).expect("started");
        (handles, threads, receiver)
    }

    #[test]
    fn shards_have_their_own_ports_and_stop_when_told() {
        let (handles, threads, _events) = two();
        assert_ne!(handles[0].bound.port(), handles[1].bound.port());
        threads.stop();
        for handle in handles {
            std::net::UdpSocket::bind(handle.bound).expect("the port is free again");
        }
    }

    #[test]
    fn an_end_of_a_transport_is_told_however_late_somebody_listens() {
        let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let socket = MediaSocket::bind(address).expect("bound");
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        // Room for one event: all others have to wait in the shard.
        let (sender, mut events) = events::channel(1);
        let (handles, threads, _) =
            start(vec![socket], &Affinity::None, &identity, &sender, false, Marks::default()).expect("started");
        let all: BTreeSet<u64> = (0..100).collect();
        for number in &all {
            let transport = TransportHandle(*number);
            let open = OpenTransport {
                transport,
                local: IceCredentials::from_random([*number as u8; 24]),
                fingerprint: identity.fingerprint(),
                rtcp_ssrc: 1,
            };
            handles[0].order(vec![Command::OpenTransport(open)]).expect("room");
            handles[0].order(vec![Command::CloseTransport(transport)]).expect("room");
        }
        let mut closed = BTreeSet::new();
        while closed != all {
            match next(&mut events) {
                (ShardIndex(0), Event::TransportClosed(transport, CloseReason::Commanded)) => {
                    assert!(closed.insert(transport.0), "told once");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        threads.stop();
    }

    #[test]
    fn a_shard_runs_on_the_cpu_it_is_given() {
        let socket = MediaSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let (sender, mut events) = events::channel(1);
        let cpu = core_affinity::get_core_ids().expect("known").last().expect("there is one").id;
        let cpus = Affinity::Cpus(vec![cpu]);
        let (handles, threads, _) =
            start(vec![socket], &cpus, &identity, &sender, false, Marks::default()).expect("started");
        // An answer to an order: the thread has been pinned by then.
        let open = OpenTransport {
            transport: TransportHandle(1),
            local: IceCredentials::from_random([1; 24]),
            fingerprint: identity.fingerprint(),
            rtcp_ssrc: 1,
        };
        let close = Command::CloseTransport(TransportHandle(1));
        handles[0].order(vec![Command::OpenTransport(open), close]).expect("room");
        // Carried out.
        next(&mut events);
        let pinned = |thread: std::fs::DirEntry| {
            let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let allowed =
                read("status").lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:").map(str::to_owned));
            read("comm").starts_with("shard-") && allowed.is_some_and(|list| list.trim() == cpu.to_string())
        };
        let mut threads_of_process = std::fs::read_dir("/proc/self/task").expect("Linux").filter_map(Result::ok);
        assert!(threads_of_process.any(pinned));
        threads.stop();
    }

    #[test]
    fn a_full_queue_refuses_the_order() {
        let (handle, _orders) = ShardHandle::detached(0);
        for _ in 0..ORDERS {
            assert_eq!(handle.order(Vec::new()), Ok(()));
        }
        assert_eq!(handle.order(Vec::new()), Err(Busy));
    }

    #[test]
    fn a_shard_that_panics_takes_the_process_down() {
        if std::env::var_os(PANIC).is_some() {
            // In the process started below.
            thread::spawn(|| {
                let _abort = AbortOnPanic;
                panic!("as asked");
            })
            .join()
            .expect_err("not reached: the process has ended");
            return;
        }
        let name = "shard::tests::a_shard_that_panics_takes_the_process_down";
        let program = std::env::current_exe().expect("this test's program");
        let output = process::Command::new(program)
            .args(["--exact", name, "--nocapture"])
            .env(PANIC, "1")
            .output()
            .expect("ran");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    }
}
