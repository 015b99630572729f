//! The recorder's threads, and the control side's handle of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use std::{convert::Infallible, io};

use proto::ids::RecordingId;
use tokio::sync::{mpsc, watch};

use super::batch::{Flags, Waiting, link};
use super::open::{Begin, Writing};
use super::queue::RecorderQueues;
use super::settings::RecordingConfig;
use super::stats::RecorderMetrics;
use super::tap::Tap;
use super::writer::Writer;
use super::{Destination, EndReason, RecordingEvent, StartRecording};
use crate::control::Beginning;

/// How often the recorder looks into its queues: nothing wakes it, because that would cost a shard a system call for each of its rounds.
/// What is recorded comes to its file so much later; a second may pass in all until it is there.
const ROUND: Duration = Duration::from_millis(20);

/// Likewise while nothing is recorded: to throw away what may come late.
const IDLE_ROUND: Duration = Duration::from_millis(250);

/// Threads that write. Each waits for its own files; one alone would have a sync of every recording's page behind the next.
const WRITERS: usize = 4;

/// Commands that wait. They are taken within a round, whatever disks do: this is what a room's recordings being ended at once takes.
const COMMANDS: usize = 16_384;

/// Events that wait. What finds no room is told later, by the thread that has it.
const EVENTS: usize = 1_024;

/// How often a writer that is behind is tried again at the end.
const RETRY: Duration = Duration::from_millis(5);

/// What the recorder is told.
enum Command {
    Start(Box<Begin>, watch::Sender<bool>),
    Stop(RecordingId),
    /// Ends all, and the recorder.
    End,
}

/// Why a recording does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// There are `recording.max`.
    #[error("as many recordings are running as may")]
    Full,
    /// There is no room on the disk.
    #[error("the disk has no room for more recordings")]
    NoRoom,
    /// The node is ending.
    #[error("the node is ending")]
    Ending,
}

/// A recorder, as the control side has it. Nothing here waits.
pub(crate) struct Recorder {
    commands: SyncSender<Command>,
    active: Arc<AtomicUsize>,
    max: usize,
    /// What writers have seen of the disk last.
    no_room: Arc<AtomicBool>,
}

/// Its threads.
pub(crate) struct RecorderThreads {
    /// Disconnected when the last of them has ended.
    ended: Receiver<Infallible>,
}

impl Recorder {
    /// Starts the threads. What becomes of recordings is told on the channel.
    pub(crate) fn start_threads<D: Destination>(
        config: &RecordingConfig,
        queues: RecorderQueues,
        destination: D,
    ) -> io::Result<(Self, RecorderThreads, mpsc::Receiver<RecordingEvent>)> {
        let metrics = RecorderMetrics::register(1 + WRITERS);
        let writing = Writing { fsync: config.fsync, bytes: metrics.bytes.clone() };
        let (events, told) = mpsc::channel(EVENTS);
        let (commands, orders) = sync_channel(COMMANDS);
        let (running, ended) = sync_channel(0);
        let (destination, waiting) = (Arc::new(destination), Waiting::default());
        let (active, no_room) = (Arc::default(), Arc::default());
        let mut links = Vec::new();
        for number in 0..WRITERS {
            let (link, batches) = link(&waiting);
            links.push(link);
            let (shared, counted) = ((Arc::clone(&active), Arc::clone(&no_room)), (metrics.clone(), 1 + number));
            let writer = Writer::new(destination.clone(), writing.clone(), events.clone(), shared, counted);
            let running = running.clone();
            thread::Builder::new().name(format!("rec-writer-{number}")).spawn(move || {
                writer.run(&batches);
                drop(running);
            })?;
        }
        let tap = Tap::new(queues, links, config.max_length.into(), metrics, Instant::now());
        thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            run(tap, &orders);
            drop(running);
        })?;
        Ok((Self { commands, active, max: config.max as usize, no_room }, RecorderThreads { ended }, told))
    }

    /// Begins a recording; that it could not is told as an event, too, if that comes out later.
    pub(crate) fn start(&self, start: StartRecording) -> Result<Beginning, Refused> {
        if self.no_room.load(Ordering::Relaxed) {
            return Err(Refused::NoRoom);
        }
        let more = |active: usize| (active < self.max).then_some(active + 1);
        self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| Refused::Full)?;
        let (began, started) = (Instant::now(), SystemTime::now());
        let begin = Begin { start, began, started, flags: Arc::new(Flags::default()) };
        let (begun, beginning) = Beginning::new();
        let started = self.commands.try_send(Command::Start(Box::new(begin), begun));
        started.map(|()| beginning).map_err(|refused| {
            self.active.fetch_sub(1, Ordering::AcqRel);
            match refused {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Disconnected(_) => Refused::Ending,
            }
        })
    }

    /// Ends one with all that came until now. An unknown one has ended already.
    pub(crate) fn stop(&self, recording: &RecordingId) {
        if let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Stop(recording.clone())) {
            tracing::error!(%recording, "the recorder hangs: a recording goes on until its stream ends");
        }
    }

    /// Whether there are fewer than `recording.max`, and room for more.
    pub(crate) fn takes(&self) -> bool {
        self.active.load(Ordering::Acquire) < self.max && !self.no_room.load(Ordering::Relaxed)
    }

    /// Has all recordings end, and then the threads.
    pub(crate) fn end(&self) {
        // If there is no room for it, they end when the last handle of the recorder goes.
        let _ = self.commands.try_send(Command::End);
    }
}

impl RecorderThreads {
    /// Waits until all files are closed, after [`Recorder::end`]. False when that takes longer than `within`: the next start closes them.
    pub(crate) fn join(&self, within: Duration) -> bool {
        matches!(self.ended.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
    }
}

/// The recorder's thread. A panic ends the recordings there are, and it goes on with the next.
fn run(mut tap: Tap, commands: &Receiver<Command>) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(|| rounds(&mut tap, commands))) {
        // What it said, with its place, is on stderr already.
        drop(panic);
        tracing::error!("the recorder has panicked: all recordings end");
        tap.fail("the recorder has failed");
        // Whatever it was, it is not done over and over at the cost of shards.
        thread::sleep(ROUND);
    }
    tap.end_all(Instant::now(), &EndReason::NodeEnding);
    // Who waits for this does so for a bounded time, and then ends the process.
    while !tap.round(Instant::now()) {
        thread::sleep(RETRY);
    }
}

/// Until it is told to end, or nobody is there to tell it anything any more.
fn rounds(tap: &mut Tap, commands: &Receiver<Command>) {
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next {
            tap.round(now);
            next = now + if tap.is_idle() { IDLE_ROUND } else { ROUND };
        }
        match commands.recv_timeout(next.saturating_duration_since(now)) {
            Ok(Command::Start(begin, begun)) => {
                tap.start(*begin, begun);
                next = next.min(Instant::now() + ROUND);
            }
            Ok(Command::Stop(recording)) => tap.stop(Instant::now(), &recording),
            Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
