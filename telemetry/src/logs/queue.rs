//! Lines on their way from the threads that log to the threads that write. Logging waits for neither a terminal nor a broker: it
//! copies the line under a short lock, and what finds no room is lost, counted, and told of in a line of its own later.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::json;

/// Bytes that may wait for a writer. A line is some 500 bytes; at 50,000 lines a second this is a third of a second, and more than a
/// minute of what an edge says in a day's worst hour.
const ROOM: usize = 8 * 1024 * 1024;

/// How long a writer lets lines gather after it has written some: without that, each line of a flood would wake it, at a few
/// microseconds of the thread that logs.
const GATHER: Duration = Duration::from_millis(2);

/// The two writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Stdout or stderr.
    Console,
    /// The brokers.
    Kafka,
}

impl Sink {
    /// As metrics and lines name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Kafka => "kafka",
        }
    }
}

/// Lines in one piece, and where each of them and its key end.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    keys: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Batch {
    /// Each line, its line break included, with its key.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(&(0, 0)).chain(&self.ends);
        starts.zip(&self.ends).map(|(from, to)| (&self.keys[from.1..to.1], &self.bytes[from.0..to.0]))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.keys.clear();
        self.ends.clear();
        // A flood is over some time: what it took is given back.
        self.bytes.shrink_to(ROOM / 8);
    }
}

/// What waits for one writer.
#[derive(Debug, Default)]
struct Lane {
    batch: Batch,
    /// Lines that found no room, or that the writer has lost.
    lost: u64,
    /// Those of them, and of what was lost behind the writer, that a line has told of.
    told: u64,
    /// The writer waits to be woken.
    asleep: bool,
    /// The writer has something in hand.
    busy: bool,
}

impl Lane {
    fn has_room(&self, bytes: usize) -> bool {
        self.batch.bytes.len() + bytes <= ROOM
    }

    fn push(&mut self, line: &[u8], end: End, key: &[u8]) -> Pushed {
        if !self.has_room(line.len() + End::MAX) {
            self.lost += 1;
            return Pushed::Dropped;
        }
        let Batch { bytes, keys, ends } = &mut self.batch;
        bytes.extend_from_slice(line);
        end.write(bytes);
        keys.extend_from_slice(key);
        ends.push((bytes.len(), keys.len()));
        if std::mem::take(&mut self.asleep) { Pushed::Rings } else { Pushed::Quietly }
    }

    fn is_idle(&self) -> bool {
        self.batch.ends.is_empty() && !self.busy
    }

    /// Whether no flood comes just now.
    fn is_calm(&self) -> bool {
        self.batch.bytes.len() <= ROOM / 2
    }
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pushed {
    /// It waits, and the writer will come to it.
    Quietly,
    /// It waits, and the writer is to be woken.
    Rings,
    /// It found no room.
    Dropped,
}

/// What a line ends with.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It is whole.
    Whole,
    /// An object without a number.
    Object,
    /// An object with its number.
    Numbered(u64),
}

impl End {
    /// The longest, in bytes.
    const MAX: usize = 48;

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Whole => {}
            Self::Object => out.extend_from_slice(b"}\n"),
            Self::Numbered(number) => {
                out.extend_from_slice(b",\"event.sequence\":");
                json::count(out, number);
                out.extend_from_slice(b"}\n");
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    console: Lane,
    kafka: Option<Lane>,
    /// Lines that were given to Kafka; without it, to the console.
    sequence: u64,
    closed: bool,
}

impl State {
    fn lane(&mut self, sink: Sink) -> Option<&mut Lane> {
        match sink {
            Sink::Console => Some(&mut self.console),
            Sink::Kafka => self.kafka.as_mut(),
        }
    }

    fn is_idle(&self) -> bool {
        self.console.is_idle() && self.kafka.as_ref().is_none_or(Lane::is_idle)
    }
}

/// Where a line in JSON goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destinations {
    pub(super) console: bool,
    pub(super) kafka: bool,
}

/// The queue to both writers.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    console: Condvar,
    kafka: Condvar,
    written: Condvar,
}

impl Queue {
    pub(super) fn new(with_kafka: bool) -> Self {
        let state = State { kafka: with_kafka.then(Lane::default), ..State::default() };
        Self { state: Mutex::new(state), console: Condvar::new(), kafka: Condvar::new(), written: Condvar::new() }
    }

    /// A line for people, whole.
    pub(super) fn push_text(&self, line: &[u8]) {
        let pushed = self.state().console.push(line, End::Whole, b"");
        self.follow_up(Sink::Console, pushed);
    }

    /// An object but for its end, which is its number: lines that Kafka takes (without Kafka: the console) are numbered without a gap,
    /// in the order in which they are sent. A line that finds no room has no number.
    pub(super) fn push_json(&self, line: &[u8], key: &[u8], to: Destinations) {
        let (mut to_kafka, mut to_console) = (Pushed::Quietly, Pushed::Quietly);
        let mut guard = self.state();
        let state = &mut *guard;
        let (next, bytes) = (state.sequence + 1, line.len() + End::MAX);
        let numbered = match &state.kafka {
            Some(kafka) => to.kafka && kafka.has_room(bytes),
            None => to.console && state.console.has_room(bytes),
        };
        let end = if numbered { End::Numbered(next) } else { End::Object };
        if let Some(kafka) = &mut state.kafka
            && to.kafka
        {
            to_kafka = kafka.push(line, end, key);
        }
        if to.console {
            to_console = state.console.push(line, end, b"");
        }
        state.sequence += u64::from(numbered);
        drop(guard);
        self.follow_up(Sink::Kafka, to_kafka);
        self.follow_up(Sink::Console, to_console);
    }

    /// What waits for the writer, which has written `spare`; waits for some, at most for `patience`, and gives none when it is only
    /// time to look around. `None`: it is over.
    pub(super) fn next(&self, sink: Sink, mut spare: Batch, patience: Duration) -> Option<Batch> {
        if !spare.ends.is_empty() {
            std::thread::sleep(GATHER);
        }
        spare.clear();
        let mut state = self.state();
        let until = Instant::now() + patience;
        loop {
            let closed = state.closed;
            let lane = state.lane(sink)?;
            lane.busy = false;
            let left = until.saturating_duration_since(Instant::now());
            if !lane.batch.ends.is_empty() || left.is_zero() && !closed {
                lane.busy = true;
                return Some(std::mem::replace(&mut lane.batch, spare));
            }
            self.written.notify_all();
            if closed {
                return None;
            }
            lane.asleep = true;
            state = self.bell(sink).wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if let Some(lane) = state.lane(sink) {
                lane.asleep = false;
            }
        }
    }

    /// The writer has lost some.
    pub(super) fn lose(&self, sink: Sink, lines: u64) {
        if let Some(lane) = self.state().lane(sink) {
            lane.lost += lines;
        }
        super::count_dropped(sink, lines);
    }

    /// Lines that found no room or that the writer has lost, since the process started.
    pub(super) fn lost(&self, sink: Sink) -> u64 {
        self.state().lane(sink).map_or(0, |lane| lane.lost)
    }

    /// Those that no line has told of yet, and the next one is to; `behind` were lost behind the writer.
    pub(super) fn take_untold(&self, sink: Sink, behind: u64) -> u64 {
        self.state().lane(sink).map_or(0, |lane| {
            let untold = (lane.lost + behind).saturating_sub(lane.told);
            lane.told += untold;
            untold
        })
    }

    /// Whether a line that is pushed next finds room: one that tells of lost lines must not be lost itself.
    pub(super) fn is_calm(&self, sink: Sink) -> bool {
        self.state().lane(sink).is_none_or(|lane| lane.is_calm())
    }

    /// Waits until all that was pushed is written, at most until `by`; whether it is.
    pub(super) fn flush(&self, by: Instant) -> bool {
        self.wait_until(by, |state| state.is_idle())
    }

    /// Likewise for one writer.
    pub(super) fn flush_to(&self, sink: Sink, by: Instant) -> bool {
        self.wait_until(by, |state| state.lane(sink).is_none_or(|lane| lane.is_idle()))
    }

    fn wait_until(&self, by: Instant, is_done: impl Fn(&mut State) -> bool) -> bool {
        let mut state = self.state();
        while !is_done(&mut state) {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The writers end when they have written what is there.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.console.notify_all();
        self.kafka.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing above stops halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, sink: Sink) -> &Condvar {
        match sink {
            Sink::Console => &self.console,
            Sink::Kafka => &self.kafka,
        }
    }

    fn follow_up(&self, sink: Sink, pushed: Pushed) {
        match pushed {
            Pushed::Quietly => {}
            Pushed::Rings => self.bell(sink).notify_one(),
            Pushed::Dropped => super::count_dropped(sink, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Destinations = Destinations { console: true, kafka: true };

    fn lines(queue: &Queue, sink: Sink) -> Vec<String> {
        let batch = queue.next(sink, Batch::default(), Duration::ZERO).expect("open");
        batch.lines().map(|(_, line)| String::from_utf8(line.to_vec()).expect("text")).collect()
    }

    #[test]
    fn lines_for_kafka_are_numbered_without_a_gap_and_others_not_at_all() {
        let queue = Queue::new(true);
        queue.push_json(b"{\"a\":1", b"room", BOTH);
        queue.push_json(b"{\"b\":1", b"", Destinations { console: true, kafka: false });
        queue.push_json(b"{\"c\":1", b"other", BOTH);
        let numbered = ["{\"a\":1,\"event.sequence\":1}\n", "{\"c\":1,\"event.sequence\":2}\n"];
        assert_eq!(lines(&queue, Sink::Console), [numbered[0], "{\"b\":1}\n", numbered[1]]);
        let batch = queue.next(Sink::Kafka, Batch::default(), Duration::ZERO).expect("open");
        let keys: Vec<&[u8]> = batch.lines().map(|(key, _)| key).collect();
        assert_eq!(keys, [b"room".as_slice(), b"other"]);
        let sent: Vec<&[u8]> = batch.lines().map(|(_, line)| line).collect();
        assert_eq!(sent, numbered.map(str::as_bytes));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_takes_no_number() {
        let queue = Queue::new(true);
        let line = vec![b'x'; ROOM / 4];
        for _ in 0..5 {
            queue.push_json(&line, b"", Destinations { console: false, kafka: true });
        }
        assert_eq!((queue.lost(Sink::Kafka), queue.lost(Sink::Console)), (2, 0));
        assert!(!queue.is_calm(Sink::Kafka) && queue.is_calm(Sink::Console), "what tells of them would be lost, too");
        assert_eq!(lines(&queue, Sink::Kafka).len(), 3);
        assert!(queue.is_calm(Sink::Kafka), "the writer has them");
        queue.push_json(b"{\"a\":1", b"", BOTH);
        assert_eq!(lines(&queue, Sink::Kafka), ["{\"a\":1,\"event.sequence\":4}\n"]);
    }

    #[test]
    fn what_was_lost_is_to_be_told_once_wherever_it_was_lost() {
        let queue = Queue::new(true);
        queue.lose(Sink::Kafka, 3);
        assert_eq!((queue.take_untold(Sink::Kafka, 2), queue.take_untold(Sink::Console, 0)), (5, 0));
        assert_eq!((queue.take_untold(Sink::Kafka, 2), queue.take_untold(Sink::Kafka, 4)), (0, 2));
    }

    #[test]
    fn a_flush_waits_for_what_a_writer_has_in_hand() {
        let queue = Queue::new(false);
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(queue.flush(soon()));
        queue.push_text(b"a\n");
        assert!(!queue.flush(soon()), "nobody has taken it");
        let batch = queue.next(Sink::Console, Batch::default(), Duration::ZERO).expect("open");
        assert!(!queue.flush(soon()), "it is not written yet");
        let writer = std::thread::scope(|scope| {
            let writer = scope.spawn(|| queue.next(Sink::Console, batch, Duration::from_secs(5)));
            assert!(queue.flush(Instant::now() + Duration::from_secs(5)));
            queue.close();
            writer.join().expect("no panic")
        });
        assert!(writer.is_none(), "closed and empty");
    }
}
