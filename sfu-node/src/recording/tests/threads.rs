//! The recorder's threads, with files that hang, are full, or panic.

use std::collections::{HashMap, HashSet};
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ::recording::{Sink, Summary, SyncPoint};
use tokio::sync::mpsc;

use super::*;
use crate::recording::spool::{CreateError, NewRecording};
use crate::recording::{
    Change, Destination, Files, Finished, Recorder, RecorderThreads, RecordingConfig, RecordingEvent, Refused,
};

/// What goes wrong with the files of a recording whose id begins with it.
const HANGS: &str = "hangs";
const FULL: &str = "full";
const FILLS: &str = "fills";
const PANICS: &str = "panics";
const BREAKS: &str = "breaks";

/// Files in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Nothing is written while this is locked, of a recording that hangs.
    hanging: Mutex<()>,
    no_room: AtomicBool,
    /// From now on what may go wrong does.
    worst: AtomicBool,
    finished: Mutex<HashMap<String, EndReason>>,
    abandoned: Mutex<Vec<String>>,
}

struct MemoryFile {
    name: String,
    bytes: Cursor<Vec<u8>>,
    disk: Memory,
}

impl Destination for Memory {
    type File = MemoryFile;
    type Name = String;

    fn create(&self, new: &NewRecording) -> Result<Files<MemoryFile, String>, CreateError> {
        let name = new.recording.to_string();
        if name.starts_with(FULL) {
            return Err(CreateError::Full);
        }
        let file = || MemoryFile { name: name.clone(), bytes: Cursor::default(), disk: self.clone() };
        Ok(Files { audio: new.audio.then(file), video: new.video.then(file), name: name.clone() })
    }

    fn finished(&self, finished: Finished<String>) {
        self.0.finished.lock().expect("no panic").insert(finished.name, finished.reason);
    }

    fn abandon(&self, name: &String) {
        self.0.abandoned.lock().expect("no panic").push(name.clone());
    }

    fn has_room(&self) -> bool {
        !self.0.no_room.load(Ordering::Relaxed)
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let worst = self.disk.0.worst.load(Ordering::Relaxed);
        if self.name.starts_with(HANGS) {
            drop(self.disk.0.hanging.lock());
        } else if self.name.starts_with(FILLS) && worst {
            return Err(io::ErrorKind::StorageFull.into());
        } else if self.name.starts_with(BREAKS) && worst {
            return Err(io::Error::other("the disk has gone"));
        } else if self.name.starts_with(PANICS) && worst {
            panic!("as asked");
        }
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemoryFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

impl Sink for MemoryFile {
    fn sync(&mut self, _: SyncPoint) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.bytes.truncate(len)
    }
}

/// A recorder, and two shards that the test plays.
struct Running {
    recorder: Recorder,
    threads: RecorderThreads,
    events: mpsc::Receiver<RecordingEvent>,
    shards: Vec<ToRecorder>,
    heard: Vec<rtrb::Consumer<SiblingMessage>>,
    disk: Memory,
    index: u64,
}

impl Running {
    fn new(max: u32) -> Self {
        let wakers: Vec<_> = (0..2).map(|_| wake_pair().expect("an eventfd").0).collect();
        let (queues, ends) = queue::connect(&wakers);
        let (shards, heard) = ends.into_iter().unzip();
        let config = RecordingConfig { max, ..RecordingConfig::default() };
        let disk = Memory::default();
        let (recorder, threads, events) =
            Recorder::start_threads(&config, queues, disk.clone()).expect("threads can be started");
        Self { recorder, threads, events, shards, heard, disk, index: 0 }
    }

    /// Begins a recording of this publication, and waits until it has begun.
    fn begin(&mut self, id: &str, publication: u64) {
        self.recorder.start(start(id, publication, false)).expect("room");
        let started = self.next();
        assert!(matches!(started.change, Change::Started), "{started:?}");
        assert_eq!(started.recording, recording(id));
    }

    /// Waits until the shard has been asked for each of these publications.
    fn until_attached(&mut self, publications: &[u64]) {
        let give_up = Instant::now() + Duration::from_secs(20);
        let mut missing: HashSet<u64> = publications.iter().copied().collect();
        while !missing.is_empty() {
            assert!(Instant::now() < give_up, "not asked for {missing:?}");
            match self.heard[1].pop() {
                Ok(SiblingMessage::Attach(publication, ..)) => drop(missing.remove(&publication.0)),
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Packets of these publications, 10 ms apart as they are received.
    fn send(&mut self, publications: &[u64], packets: usize) {
        for _ in 0..packets {
            self.index += 1;
            for publication in publications {
                let packet = Arc::new(packet(Instant::now(), self.index, 0));
                self.shards[1].send(SiblingMessage::Media(PublicationHandle(*publication), 0, packet));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn next(&mut self) -> RecordingEvent {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let event = async { tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await };
        runtime.block_on(event).expect("in time").expect("the recorder runs")
    }

    /// The end of this recording, which is the next that is told.
    fn end_of(&mut self, id: &str) -> (EndReason, Option<Summary>) {
        let event = self.next();
        assert_eq!(event.recording, recording(id));
        match event.change {
            Change::Ended { reason, summary } => (reason, summary.map(|summary| *summary)),
            Change::Started => panic!("{id} has not ended"),
        }
    }

    /// Goes on with packets until this recording ends by itself.
    fn until_it_ends(&mut self, id: &str, publications: &[u64]) -> EndReason {
        self.disk.0.worst.store(true, Ordering::Relaxed);
        for _ in 0..1_000 {
            self.send(publications, 1);
            if !self.events.is_empty() {
                return self.end_of(id).0;
            }
        }
        panic!("{id} does not end");
    }

    fn stop(&mut self, id: &str) -> Summary {
        self.recorder.stop(&recording(id));
        let (reason, summary) = self.end_of(id);
        assert_eq!(reason, EndReason::Stopped);
        assert_eq!(self.disk.0.finished.lock().expect("no panic").get(id), Some(&EndReason::Stopped));
        summary.expect("closed")
    }
}

fn counts(summary: &Summary) -> (u64, u64, u64) {
    let [audio] = &summary.tracks[..] else { panic!("one track: {summary:?}") };
    (audio.packets, audio.dropped, audio.lost)
}

#[test]
fn what_is_received_is_recorded() {
    let mut running = Running::new(10);
    running.begin("a", 7);
    running.send(&[7], 50);
    assert_eq!(counts(&running.stop("a")), (50, 0, 0));
}

#[test]
fn a_disk_that_hangs_for_two_seconds_loses_nothing_and_holds_up_no_shard() {
    let mut running = Running::new(10);
    running.begin("hangs", 7);
    let disk = running.disk.clone();
    let hanging = disk.0.hanging.lock().expect("no panic");
    // Its packets, and those of recordings behind it on the same writer.
    for other in 0..8 {
        running.recorder.start(start(&format!("other-{other}"), 100 + other, false)).expect("room");
    }
    let publications: Vec<u64> = std::iter::once(7).chain(100..108).collect();
    running.until_attached(&publications);
    let before = Instant::now();
    running.send(&publications, 200);
    let sent = before.elapsed();
    assert!(sent < Duration::from_secs(10), "nobody waits for the disk: {sent:?}");
    drop(hanging);
    running.recorder.end();
    assert!(running.threads.join(Duration::from_secs(20)));
    let mut ended = 0;
    while let Ok(event) = running.events.try_recv() {
        let Change::Ended { reason, summary } = event.change else { continue };
        assert_eq!(reason, EndReason::NodeEnding);
        assert_eq!(counts(&summary.expect("closed")), (200, 0, 0), "{}", event.recording);
        ended += 1;
    }
    assert_eq!(ended, 9);
}

#[test]
fn a_full_disk_ends_the_recording_that_meets_it() {
    let mut running = Running::new(10);
    running.recorder.start(start("full", 6, false)).expect("its writer will see");
    assert_eq!(running.end_of("full"), (EndReason::DiskFull, None));
    running.begin("b", 8);
    running.begin("fills", 7);
    assert_eq!(running.until_it_ends("fills", &[7, 8]), EndReason::DiskFull);
    assert_eq!(running.disk.0.finished.lock().expect("no panic").get("fills"), Some(&EndReason::DiskFull));
    let (packets, dropped, _) = counts(&running.stop("b"));
    assert_eq!((packets, dropped), (running.index, 0));
}

#[test]
fn too_little_room_ends_all_recordings_while_they_can_still_be_closed() {
    let mut running = Running::new(10);
    running.begin("a", 7);
    running.disk.0.no_room.store(true, Ordering::Relaxed);
    let (reason, summary) = running.end_of("a");
    assert_eq!(reason, EndReason::DiskFull);
    assert!(summary.is_some());
    assert_eq!(running.recorder.start(start("b", 8, false)).err(), Some(Refused::NoRoom));
    running.disk.0.no_room.store(false, Ordering::Relaxed);
    let give_up = Instant::now() + Duration::from_secs(20);
    while running.recorder.start(start("b", 8, false)).is_err() {
        assert!(Instant::now() < give_up, "there is room again");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_panics_or_breaks_ends_its_recording_and_no_other() {
    let mut running = Running::new(10);
    for (publication, id) in [(7, "panics"), (8, "breaks")] {
        running.disk.0.worst.store(false, Ordering::Relaxed);
        running.begin("good", 9);
        running.begin(id, publication);
        let EndReason::Failed(why) = running.until_it_ends(id, &[publication, 9]) else {
            panic!("{id} has not failed")
        };
        assert!(why.contains("as asked") || why.contains("the disk has gone"), "{why}");
        assert_eq!(counts(&running.stop("good")).1, 0);
    }
    assert_eq!(*running.disk.0.abandoned.lock().expect("no panic"), ["panics"]);
}

#[test]
fn no_more_recordings_run_than_may() {
    let mut running = Running::new(2);
    running.begin("a", 7);
    running.begin("b", 8);
    assert_eq!(running.recorder.start(start("c", 9, false)).err(), Some(Refused::Full));
    running.stop("a");
    running.begin("c", 9);
}

#[test]
fn at_the_end_of_the_node_all_recordings_are_closed() {
    let running = Running::new(100);
    let ids: Vec<_> = (0..50).map(|number| format!("r{number}")).collect();
    for (publication, id) in (0..).zip(&ids) {
        running.recorder.start(start(id, publication, false)).expect("room");
    }
    running.recorder.end();
    assert!(running.threads.join(Duration::from_secs(20)));
    let finished = running.disk.0.finished.lock().expect("no panic");
    assert!(ids.iter().all(|id| finished.get(id) == Some(&EndReason::NodeEnding)), "{finished:?}");
    assert_eq!(running.recorder.start(start("late", 1, false)).err(), Some(Refused::Ending));
}
