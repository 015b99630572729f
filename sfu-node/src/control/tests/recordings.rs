//! What is recorded, against a recorder that only notes what it is told.

use std::sync::{Arc, Mutex};

use proto::ids::RecordingId;
use proto::refusal::NoRecording;
use proto::sfu::RecordingEnd;

use super::*;

/// Notes beginnings and ends, and refuses when told to.
#[derive(Default)]
struct Notes {
    told: Mutex<Vec<String>>,
    refuses: Mutex<Option<NoRecording>>,
}

impl Records for Notes {
    fn start(&self, start: StartRecording) -> Result<Beginning, NoRecording> {
        if let Some(why) = *self.refuses.lock().expect("not poisoned") {
            return Err(why);
        }
        let StartRecording { recording, room, uid, mid, tracks, .. } = start;
        self.told.lock().expect("not poisoned").push(format!("+{recording} {room} {uid} {mid} {}", tracks.len()));
        Ok(Beginning::new().1)
    }

    fn stop(&self, recording: &RecordingId) {
        self.told.lock().expect("not poisoned").push(format!("-{recording}"));
    }

    fn takes(&self) -> bool {
        self.refuses.lock().expect("not poisoned").is_none()
    }
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().expect("not poisoned"))
    }
}

fn rig() -> (Rig, Arc<Notes>) {
    let (Rig { control, orders }, notes) = (Rig::new(), Arc::new(Notes::default()));
    (Rig { control: control.recording_by(notes.clone()), orders }, notes)
}

fn id(text: &str) -> RecordingId {
    RecordingId::new(text).expect("valid")
}

fn mid(text: &str) -> Mid {
    Mid::new(text).expect("valid")
}

impl Rig {
    fn record(&self, stream: &str, recording: &str, on: bool) -> Result<(), Code> {
        let result = self.control.record(&mid(stream), &id(recording), on);
        result.map(drop).map_err(|refusal| Status::from(refusal).code())
    }

    fn refusal(&self, stream: &str, recording: &str) -> Option<NoRecording> {
        let refused = self.control.record(&mid(stream), &id(recording), true).expect_err("refused");
        NoRecording::of(&Status::from(refused))
    }

    /// What a snapshot says is recorded of the only stream.
    fn recorded(&self) -> String {
        let mut queue = self.watch_unread();
        let snapshot = self.snapshot(&mut queue, &mut VecDeque::from([room()]));
        snapshot.publications[0].recording_id.clone()
    }
}

fn ended(queue: &mut WatchQueue) -> Vec<(String, RecordingEnd)> {
    let events = std::iter::from_fn(|| queue.events.try_recv().ok());
    let ended = events.filter_map(|event| match event.as_ref() {
        watch_event::Event::RecordingEnded(ended) => Some((ended.recording_id.clone(), ended.reason())),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_recording_begins_once_and_ends_once_however_often_it_is_asked_for() {
    let (rig, notes) = rig();
    let stream = rig.published("ann");
    let mut queue = rig.watch();
    for _ in 0..2 {
        assert_eq!(rig.record(&stream, "R1", true), Ok(()));
    }
    assert_eq!(notes.take(), ["+R1 room ann ann#1 2"]);
    assert_eq!(rig.recorded(), "R1");
    assert_eq!(rig.control.survey(Cursor::default()).live.publications[0].recording_id, "R1");
    for _ in 0..2 {
        assert_eq!(rig.record(&stream, "R1", false), Ok(()));
    }
    assert_eq!(notes.take()[0], "-R1");
    assert_eq!((rig.recorded().as_str(), ended(&mut queue)), ("", vec![("R1".to_owned(), RecordingEnd::Stopped)]));
    assert_eq!(rig.refusal(&stream, "R1"), Some(NoRecording::Ended), "it is over");
    assert_eq!(rig.record(&stream, "R2", true), Ok(()), "another may begin");
}

#[test]
fn an_end_that_comes_before_its_beginning_wins() {
    let (rig, notes) = rig();
    let stream = rig.published("ann");
    assert_eq!(rig.record(&stream, "R1", false), Ok(()));
    assert_eq!(rig.refusal(&stream, "R1"), Some(NoRecording::Ended));
    assert!(notes.take().iter().all(|told| told == "-R1"));
}

#[test]
fn another_recording_ends_the_one_before() {
    let (rig, notes) = rig();
    let stream = rig.published("ann");
    let mut queue = rig.watch();
    rig.record(&stream, "R1", true).expect("begun");
    rig.record(&stream, "R2", true).expect("begun");
    assert_eq!(notes.take(), ["+R1 room ann ann#1 2", "+R2 room ann ann#1 2", "-R1"]);
    assert_eq!((rig.recorded().as_str(), ended(&mut queue)), ("R2", vec![("R1".to_owned(), RecordingEnd::Stopped)]));
    rig.record(&stream, "R1", false).expect("it is over");
    assert_eq!(rig.recorded(), "R2");
}

#[test]
fn what_ends_by_itself_is_told_and_not_begun_again() {
    let (rig, _notes) = rig();
    let stream = rig.published("ann");
    let mut queue = rig.watch();
    rig.record(&stream, "R1", true).expect("begun");
    for _ in 0..2 {
        rig.control.recording_ended(&mid(&stream), &id("R1"), RecordingEnd::DiskFull);
    }
    assert_eq!(ended(&mut queue), [("R1".to_owned(), RecordingEnd::DiskFull)]);
    assert_eq!(rig.refusal(&stream, "R1"), Some(NoRecording::Ended));
    rig.control.recording_ended(&mid("nobody#1"), &id("R1"), RecordingEnd::Failed);
}

#[test]
fn what_is_refused_stays_refused() {
    let (rig, notes) = rig();
    let stream = rig.published("ann");
    *notes.refuses.lock().expect("not poisoned") = Some(NoRecording::Full);
    assert_eq!(rig.refusal(&stream, "R1"), Some(NoRecording::Full));
    assert!(!rig.control.records(), "streams that are to be recorded go elsewhere");
    *notes.refuses.lock().expect("not poisoned") = None;
    assert_eq!(rig.refusal(&stream, "R1"), Some(NoRecording::Ended), "its asker was told that it is not made");
    assert_eq!((rig.control.records(), rig.record(&stream, "R2", true)), (true, Ok(())));
}

#[test]
fn a_node_without_a_recorder_says_so_and_an_unknown_stream_is_unknown() {
    let rig = Rig::new();
    let stream = rig.published("ann");
    assert!(!rig.control.records());
    assert_eq!(rig.refusal(&stream, "R1"), Some(NoRecording::Never));
    assert_eq!(rig.record(&stream, "R1", true), Err(Code::FailedPrecondition));
    for on in [true, false] {
        assert_eq!(rig.record("nobody#1", "R1", on), Err(Code::NotFound));
    }
}

#[test]
fn a_further_offer_leaves_the_recording_as_it_is_and_the_streams_end_is_its_end() {
    let (rig, notes) = rig();
    let stream = rig.published("ann");
    rig.record(&stream, "R1", true).expect("begun");
    let mut queue = rig.watch();
    rig.negotiate(publish("ann", &stream, &[AUDIO, VIDEO, ("audio", "2", "sendonly")])).expect("a further offer");
    assert_eq!(rig.recorded(), "R1");
    rig.control.close_transports(&[TransportId::new(&stream).expect("valid")]);
    assert_eq!(ended(&mut queue), [], "the stream's end says it");
    assert_eq!(notes.take(), ["+R1 room ann ann#1 2"], "the recorder hears of it from the shard");
    assert_eq!(rig.record(&stream, "R1", false), Err(Code::NotFound));
}

#[test]
fn a_recording_that_a_further_offer_has_outgrown_is_told_and_another_has_all_kinds() {
    let (rig, notes) = rig();
    rig.negotiate(publish("ann", "ann#1", &[AUDIO])).expect("published");
    rig.record("ann#1", "R1", true).expect("begun");
    rig.negotiate(publish("ann", "ann#1", &[AUDIO, VIDEO])).expect("a further offer");
    assert_eq!(rig.refusal("ann#1", "R1"), Some(NoRecording::Outgrown));
    assert_eq!(rig.recorded(), "R1", "it goes on until another has begun");
    *notes.refuses.lock().expect("not poisoned") = Some(NoRecording::Full);
    assert_eq!((rig.refusal("ann#1", "R2"), rig.recorded().as_str()), (Some(NoRecording::Full), "R1"));
    *notes.refuses.lock().expect("not poisoned") = None;
    for _ in 0..2 {
        assert_eq!(rig.record("ann#1", "R3", true), Ok(()));
    }
    assert_eq!(notes.take(), ["+R1 room ann ann#1 1", "+R3 room ann ann#1 2", "-R1"]);
    assert_eq!(rig.refusal("ann#1", "R1"), Some(NoRecording::Ended));
}

#[test]
fn many_that_have_ended_are_remembered_within_a_bound() {
    let (rig, _notes) = rig();
    let stream = rig.published("ann");
    for number in 0..100 {
        rig.record(&stream, &format!("R{number}"), true).expect("begun");
    }
    assert_eq!(rig.refusal(&stream, "R98"), Some(NoRecording::Ended));
    rig.record(&stream, "R0", true).expect("long forgotten");
}
