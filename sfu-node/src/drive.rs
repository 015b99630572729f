//! The drive loop of a shard's thread: everything the core asks of the world, in one numbered list.
//!
//! Nothing here knows about rooms or SDP, and nothing of tokio runs on this thread; the event queue's sending end is merely
//! a queue that a task can await.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sfu_core::{Command, Event, Histogram, RxBatch, Shard, ShardIndex, TxBatch};
use tokio::sync::mpsc as events;

use crate::governor::{Governor, Sample};
use crate::siblings::Siblings;
use crate::stats::{Alive, Latencies, LoopTotals, ShardStats};
use crate::udp::{MediaSocket, Patience, WakeReceiver};

/// Commands that belong together: a shard carries all of them out or, when its queue is full, gets none.
pub(crate) type Order = Vec<Command>;

/// How long the loop sleeps at most while events wait for room in their queue.
const EVENT_RETRY: Duration = Duration::from_millis(10);

/// How long the loop sleeps at most while messages wait for room in a sibling's queue: media may be among them.
const SIBLING_RETRY: Duration = Duration::from_millis(1);

/// How often totals are published. More often costs cache traffic, less often makes metrics jump.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// How long a round sends before it looks for what has arrived. Audio is sent first; what is left waits for the next round. More
/// lets the kernel's queue overflow, which holds some 25 ms at 1 Gbit/s, and audio is lost with it; less makes more system calls.
const MAX_SENDING: Duration = Duration::from_millis(5);

/// A shard and its connections to the world.
pub(crate) struct Drive {
    pub(crate) index: ShardIndex,
    pub(crate) shard: Shard,
    pub(crate) governor: Governor,
    pub(crate) socket: MediaSocket,
    pub(crate) wake: WakeReceiver,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) events: events::Sender<(ShardIndex, Event)>,
    pub(crate) siblings: Siblings,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What tells a round whether it may wait.
#[derive(Default)]
struct Pending {
    /// More orders, sibling messages or datagrams are known or likely to wait, or there is more to send.
    work: bool,
    /// Events found their queue full.
    events: bool,
    /// Messages found a sibling's queue full.
    siblings: bool,
}

impl Drive {
    /// Runs until the stop flag is up and every order given before it is carried out.
    pub(crate) fn run(mut self) {
        let (mut rx, mut tx) = (RxBatch::new(), TxBatch::new());
        let mut totals = LoopTotals::default();
        let mut pending = Pending { work: true, ..Pending::default() };
        let mut round_ends = Instant::now();
        let mut next_publish = round_ends;
        let mut seen = Seen::new(round_ends);
        loop {
            // 1. Wait for datagrams, for somebody to wake us, or for the next deadline.
            self.wait(round_ends, &pending);
            let round_begins = Instant::now();
            let stopping = self.stop.load(Ordering::Acquire);
            pending = Pending::default();

            // 2. Orders of the control side. One a round: opening a transport costs a key agreement.
            let order = self.orders.try_recv();
            let ordered = order.is_ok();
            if let Ok(order) = order {
                for command in order {
                    self.shard.handle_command(round_begins, command);
                }
                pending.work = true;
            }

            // 3. What siblings have sent.
            let shard = &mut self.shard;
            pending.work |= self.siblings.receive(|message| shard.handle_sibling(round_begins, message));

            // 4. Datagrams: one receive call.
            pending.work |= self.socket.receive(&mut rx) == RxBatch::BUFFERS;
            self.shard.handle_datagrams(round_begins, &mut rx);

            // 5. Timers.
            let now = Instant::now();
            if self.shard.poll_timeout(now) <= now {
                self.shard.handle_timeout(now);
            }

            // 6. Datagrams out, until there are no more or it takes too long.
            pending.work |= self.transmit(now, &mut tx);

            // 7. Messages to siblings.
            let siblings = &mut self.siblings;
            pending.siblings = self.shard.tell_siblings(|sibling, message| siblings.send(sibling, message));
            self.siblings.wake();

            // 8. Events: they wait in the core when their queue is full, and are never lost.
            pending.events = !self.hand_over_events();

            // 9. Totals, for whoever looks, and for ourselves: is it too much?
            totals.rounds += 1;
            totals.sibling_overflows = self.siblings.overflows();
            totals.recorder_overflows = self.siblings.recorder_overflows();
            round_ends = Instant::now();
            totals.busy += round_ends - round_begins;
            if round_ends >= self.governor.next_sample() && self.govern(round_ends, totals.busy, &mut seen) {
                next_publish = round_ends;
            }
            if round_ends >= next_publish || stopping {
                next_publish = round_ends + PUBLISH_INTERVAL;
                totals.cpu = thread_cpu();
                self.publish(&totals);
            }
            // Not for datagrams: a flood of them would keep the node from ending.
            if stopping && !ordered {
                return;
            }
        }
    }

    fn wait(&mut self, now: Instant, pending: &Pending) {
        if pending.work {
            return;
        }
        let mut timeout = self.shard.poll_timeout(now).saturating_duration_since(now);
        if pending.events {
            timeout = timeout.min(EVENT_RETRY);
        }
        if pending.siblings {
            timeout = timeout.min(SIBLING_RETRY);
        }
        if self.governor.level() > 0 {
            timeout = timeout.min(self.governor.next_sample().saturating_duration_since(now));
        }
        // Without a timeout there is nothing to wait for: the queues are looked into anyway.
        if !timeout.is_zero() && self.socket.wait(&self.wake, timeout).woken {
            self.wake.lower();
        }
    }

    fn publish(&self, totals: &LoopTotals) {
        let shard = &self.shard;
        let alive = Alive {
            transports: shard.transports(),
            subscribed_tracks: shard.subscribed_tracks(),
            shed_subscriptions: shard.shed_subscriptions(),
            shedding: shard.shedding(),
        };
        let latencies = Latencies { delays: *shard.delays(), receive_waits: *self.socket.waits() };
        self.stats.publish(alive, &latencies, shard.counters(), self.socket.totals(), totals);
    }

    /// Leaves out as much video as the shard's load asks for. True when that is another share than before.
    fn govern(&mut self, now: Instant, busy: Duration, seen: &mut Seen) -> bool {
        let before = std::mem::replace(seen, Seen::of(now, busy, &self.shard, &self.socket));
        let level = self.governor.handle_sample(now, &seen.since(&before));
        let changed = level != self.shard.shedding();
        if changed {
            self.shard.set_shedding(now, level);
        }
        changed
    }

    /// True when there is more to send: its time was up.
    fn transmit(&mut self, mut now: Instant, tx: &mut TxBatch) -> bool {
        let mut patience = Patience::new();
        let until = now + MAX_SENDING;
        loop {
            let more = self.shard.poll_transmit(now, tx);
            if !tx.is_empty() {
                self.socket.send(tx, &mut patience);
                tx.clear();
                now = Instant::now();
            }
            if !more || now >= until {
                return more;
            }
        }
    }

    /// False when some have to wait.
    fn hand_over_events(&mut self) -> bool {
        loop {
            match self.events.try_reserve() {
                Ok(room) => match self.shard.poll_event() {
                    Some(event) => room.send((self.index, event)),
                    None => return true,
                },
                Err(events::error::TrySendError::Full(())) => return false,
                // The control side has ended: this thread is about to be told so as well.
                Err(events::error::TrySendError::Closed(())) => {
                    while self.shard.poll_event().is_some() {}
                    return true;
                }
            }
        }
    }
}

/// What the governor's samples are differences of.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    busy: Duration,
    delays: Histogram,
    waits: Histogram,
    sent: u64,
    paused: u64,
    late: u64,
}

impl Seen {
    fn new(at: Instant) -> Self {
        let none = Histogram::default();
        Self { at, busy: Duration::ZERO, delays: none, waits: none, sent: 0, paused: 0, late: 0 }
    }

    #[allow(clippy::useless_conversion, reason = "in a build that counts nothing they are of another type")]
    fn of(at: Instant, busy: Duration, shard: &Shard, socket: &MediaSocket) -> Self {
        let counters = shard.counters();
        Self {
            delays: *shard.delays(),
            waits: *socket.waits(),
            sent: u64::from(counters.packets_sent),
            paused: u64::from(counters.shed_paused),
            late: u64::from(counters.shed_late),
            at,
            busy,
        }
    }

    fn since(&self, before: &Self) -> Sample {
        let elapsed = self.at.saturating_duration_since(before.at).as_secs_f32();
        let busy = self.busy.saturating_sub(before.busy).as_secs_f32();
        Sample {
            wait: self.delays.mean_since(&before.delays).max(self.waits.mean_since(&before.waits)),
            busy: if elapsed > 0.0 { busy / elapsed } else { 0.0 },
            sent: self.sent - before.sent,
            paused: self.paused - before.paused,
            late: self.late - before.late,
        }
    }
}

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
