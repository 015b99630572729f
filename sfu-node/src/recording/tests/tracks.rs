//! What the recorder asks of shards, and what it makes of what they say.

use ::recording::Kind;

use super::*;
use crate::recording::batch::WAITING_BYTES;

const ROUND: Duration = Duration::from_millis(20);

fn attach(publication: u64, tracks: u16) -> String {
    format!("{:?}", SiblingMessage::Attach(PublicationHandle(publication), tracks, RECORDER))
}

fn said(played: &mut Played) -> Vec<String> {
    played.heard().iter().map(|message| format!("{message:?}")).collect()
}

/// Recordings, tracks and positions of packets, in order.
fn packets(batches: &[Batch]) -> Vec<(RecordingKey, Kind, u64)> {
    let packet = |batch: &Batch, entry: &Entry| match entry {
        Entry::Packet(key, kind, copied) => {
            assert_eq!(batch.packet(copied).payload, OPUS);
            Some((*key, *kind, batch.packet(copied).index))
        }
        _ => None,
    };
    batches.iter().flat_map(|batch| batch.entries.iter().filter_map(|entry| packet(batch, entry))).collect()
}

fn dropped(batches: &[Batch]) -> Vec<(RecordingKey, Kind, u64)> {
    let dropped = |entry: &Entry| match entry {
        Entry::Dropped(key, kind, packets) => Some((*key, *kind, *packets)),
        _ => None,
    };
    batches.iter().flat_map(|batch| &batch.entries).filter_map(dropped).collect()
}

#[test]
fn a_shard_is_told_until_it_answers_then_every_second_and_at_the_end() {
    let mut played = Played::new();
    played.start(start("a", 7, true));
    assert_eq!(said(&mut played), [attach(7, 0b11)]);
    played.round(ROUND);
    assert_eq!(said(&mut played), [attach(7, 0b11)], "its publication may not have been there yet");
    played.answer(7, None);
    played.answer_for(7, 1, None);
    let mut renewals = 0;
    for _ in 0..500 {
        played.round(ROUND);
        played.answer(7, None);
        renewals += said(&mut played).len();
    }
    assert!((9..=11).contains(&renewals), "{renewals} in ten seconds");
    played.stop("a");
    assert_eq!(said(&mut played), [attach(7, 0)]);
    played.round(Duration::from_secs(2));
    assert!(said(&mut played).is_empty());
    assert!(played.tap.is_idle());
}

#[test]
fn a_recording_has_begun_once_its_shard_lends_all_its_tracks() {
    let mut played = Played::new();
    let (_, beginning) = played.begin(start("a", 7, true));
    played.round(ROUND);
    played.answer(7, None);
    played.round(ROUND);
    assert!(!beginning.has_begun(), "not its picture");
    played.answer_for(7, 1, None);
    played.round(ROUND);
    assert!(beginning.has_begun());
    played.heard();
    let (_, again) = played.begin(start("b", 7, true));
    assert!(again.has_begun(), "the tracks are lent already");
    // A track that was lent for another recording alone is asked for anew.
    played.stop("b");
    played.stop("a");
    let (_, first) = played.begin(start("c", 8, false));
    played.answer(8, None);
    played.round(ROUND);
    let (_, grown) = played.begin(start("d", 8, true));
    played.round(ROUND);
    assert!(first.has_begun() && !grown.has_begun());
    assert!(said(&mut played).contains(&attach(8, 0b11)));
    played.answer_for(8, 1, None);
    played.round(ROUND);
    assert!(grown.has_begun());
    played.stop("d");
    let (_, grown) = played.begin(start("e", 8, true));
    assert!(!grown.has_begun(), "its picture was not lent meanwhile");
}

#[test]
fn packets_are_copied_in_order_and_their_memory_goes_back() {
    let mut played = Played::new();
    played.start(start("a", 7, true));
    let lent = Arc::new(packet(played.now, 1, 0));
    played.send(SiblingMessage::Media(PublicationHandle(7), 0, lent.clone()));
    played.packet(7, 1, 10);
    played.packet(7, 0, 2);
    // Of nobody's recording.
    played.packet(7, 2, 1);
    played.packet(8, 0, 1);
    let arrived = played.now;
    let batches = played.round(Duration::from_millis(300));
    assert_eq!(Arc::strong_count(&lent), 1);
    let key = RecordingKey(1);
    assert_eq!(packets(&batches), [(key, Kind::Audio, 1), (key, Kind::Video, 10), (key, Kind::Audio, 2)]);
    for entry in &batches[0].entries {
        if let Entry::Packet(_, _, copied) = entry {
            assert_eq!(copied.arrived, arrived, "not when the recorder looked");
        }
    }
    assert_eq!(batches[0].at, Some(played.now));
}

#[test]
fn what_comes_before_a_stop_is_recorded() {
    let mut played = Played::new();
    played.start(start("a", 7, false));
    played.packet(7, 0, 1);
    played.stop("a");
    played.packet(7, 0, 2);
    let batches = played.round(ROUND);
    assert_eq!(packets(&batches), [(RecordingKey(1), Kind::Audio, 1)]);
    assert_eq!(ends(&batches), [(RecordingKey(1), EndReason::Stopped)]);
}

#[test]
fn what_finds_the_queue_full_is_counted_by_track_and_costs_no_other_shard_anything() {
    let mut played = Played::new();
    played.start(start("a", 7, true));
    played.round(ROUND);
    for index in 0..20_000 {
        played.packet(7, (index % 4 == 0).into(), index);
    }
    assert_eq!(played.shards[1].overflows(), 20_000 - 16_384);
    assert_eq!(played.shards[0].overflows(), 0);
    let batches = played.round(ROUND);
    assert_eq!(packets(&batches).len(), 16_384);
    // There is room again: what was lost is told, whether anything else comes or not.
    assert!(played.shards[1].tell_missed());
    let mut lost = dropped(&played.round(ROUND));
    lost.sort_by_key(|(_, _, packets)| *packets);
    let key = RecordingKey(1);
    assert_eq!(lost, [(key, Kind::Video, 904), (key, Kind::Audio, 2_712)]);
    played.packet(7, 0, 20_000);
    assert_eq!(packets(&played.round(ROUND)), [(key, Kind::Audio, 20_000)]);
}

#[test]
fn a_disk_that_hangs_costs_no_more_memory_than_is_set_for_it_and_all_that_is_beyond_is_counted() {
    let mut played = Played::new();
    let publications = [7, 8, 9, 10, 11];
    for publication in publications {
        played.start(start(&publication.to_string(), publication, false));
    }
    let payload = [0xf8; 1_000];
    let mut sent = 0;
    for round in 0..1_000 {
        for number in 0..100 {
            let mut fields = packet_fields(played.now);
            fields.index = sent;
            let packet = Arc::new(Packet::new(&fields, &payload).expect("small"));
            let publication = PublicationHandle(publications[number % publications.len()]);
            played.shards[1].send(SiblingMessage::Media(publication, 0, packet));
            sent += 1;
        }
        for publication in publications {
            played.answer(publication, Some((round, round as u32)));
        }
        // The writer takes nothing.
        played.now += ROUND;
        played.tap.round(played.now);
    }
    for publication in publications {
        played.stop(&publication.to_string());
    }
    let (mut taken, mut lost) = (0, 0);
    loop {
        let batches = played.batches();
        if batches.is_empty() {
            break;
        }
        for batch in &batches {
            let packets = batch.entries.iter().filter(|entry| matches!(entry, Entry::Packet(..))).count();
            taken += packets;
            // Of each recording its begin, its end, a clock and a loss.
            let others = batch.entries.len() - packets;
            assert!(others <= 4 * publications.len(), "{others} entries that no bound is for");
        }
        lost += dropped(&batches).iter().map(|(_, _, packets)| *packets as usize).sum::<usize>();
        for batch in batches {
            played.batches.done(batch);
        }
        played.tap.round(played.now);
    }
    let bytes = taken * payload.len();
    assert!(bytes <= WAITING_BYTES && bytes > WAITING_BYTES / 2, "{bytes}");
    assert_eq!((taken + lost) as u64, sent);
    assert!(lost > 0);
}

fn packet_fields(arrived: Instant) -> PacketFields {
    PacketFields {
        index: 0,
        timestamp: 0,
        source: 0,
        marker: false,
        keyframe: false,
        audio_level: None,
        vp8: None,
        arrived,
    }
}

#[test]
fn a_recording_ends_with_its_publication_also_when_the_word_of_it_was_lost() {
    let mut played = Played::new();
    played.start(start("a", 7, false));
    played.start(start("b", 8, false));
    played.round(ROUND);
    played.send(SiblingMessage::Closed(PublicationHandle(7)));
    assert_eq!(ends(&played.round(ROUND)), [(RecordingKey(1), EndReason::PublicationEnded)]);
    let mut seconds = 0;
    let ended = loop {
        let ended = ends(&played.round(Duration::from_secs(1)));
        if !ended.is_empty() {
            break ended;
        }
        seconds += 1;
        if seconds < 10 {
            played.answer(8, None);
        }
        assert!(seconds < 60, "an answered renewal counts from then on");
    };
    assert_eq!(ended, [(RecordingKey(2), EndReason::PublicationEnded)]);
    assert!(seconds > 35, "{seconds}");
}

#[test]
fn a_publisher_s_clock_is_told_with_the_source_it_belongs_to_and_once() {
    let clocks = |batches: &[Batch]| -> Vec<(u32, u64, u32)> {
        let clock = |entry: &Entry| match entry {
            Entry::Clock(_, Kind::Audio, _, clock) => Some((clock.source, clock.ntp, clock.rtp)),
            _ => None,
        };
        batches.iter().flat_map(|batch| &batch.entries).filter_map(clock).collect()
    };
    let mut played = Played::new();
    played.start(start("a", 7, false));
    // Of a source that was there before: its number comes with its first packet.
    played.answer(7, Some((70, 7)));
    let before = played.now;
    let other = |source, index| SiblingMessage::Media(PublicationHandle(7), 0, Arc::new(packet(before, index, source)));
    assert!(clocks(&played.round(ROUND)).is_empty());
    played.send(other(3, 1));
    played.answer(7, Some((70, 7)));
    assert_eq!(clocks(&played.round(ROUND)), [(3, 70, 7)]);
    played.answer(7, Some((80, 8)));
    assert_eq!(clocks(&played.round(ROUND)), [(3, 80, 8)]);
    // Another source: the shard says first that it knows nothing of it.
    played.answer(7, None);
    played.send(other(4, 9_000));
    assert!(clocks(&played.round(ROUND)).is_empty());
    played.answer(7, Some((90, 1)));
    // Late, of the source before.
    played.send(other(3, 2));
    assert_eq!(clocks(&played.round(ROUND)), [(4, 90, 1)]);
}

#[test]
fn a_keyframe_is_asked_for_once_a_second_as_long_as_one_is_wanted() {
    let mut played = Played::new();
    let flags = played.start(start("a", 7, true));
    let asked = |played: &mut Played, rounds: usize| -> usize {
        let mut asked = 0;
        for _ in 0..rounds {
            played.round(ROUND);
            let request =
                |message: &SiblingMessage| matches!(message, SiblingMessage::KeyframeRequest(PublicationHandle(7), 1));
            asked += played.heard().iter().filter(|message| request(message)).count();
        }
        asked
    };
    assert_eq!(asked(&mut played, 50), 0);
    flags.wants_keyframe.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(asked(&mut played, 175), 4);
    flags.wants_keyframe.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(asked(&mut played, 100), 0);
}

#[test]
fn one_recording_may_follow_another_of_the_same_stream_without_a_gap() {
    let mut played = Played::new();
    played.start(start("a", 7, false));
    played.packet(7, 0, 1);
    played.round(ROUND);
    played.start(start("b", 7, false));
    played.packet(7, 0, 2);
    played.stop("a");
    played.heard();
    played.packet(7, 0, 3);
    let batches = played.round(Duration::from_secs(1));
    let [first, second] = [RecordingKey(1), RecordingKey(2)];
    assert_eq!(packets(&batches), [(first, Kind::Audio, 2), (second, Kind::Audio, 2), (second, Kind::Audio, 3)]);
    assert!(said(&mut played).contains(&attach(7, 1)), "it is recorded all the time");
}

#[test]
fn a_recording_becomes_no_longer_than_is_set() {
    let mut played = Played::new();
    played.start(start("a", 7, false));
    for _ in 0..59 {
        assert!(ends(&played.round(Duration::from_mins(1))).is_empty());
        played.answer(7, None);
    }
    assert_eq!(ends(&played.round(Duration::from_mins(1))), [(RecordingKey(1), EndReason::Limit)]);
}

#[test]
fn what_its_writer_has_ended_is_asked_of_no_shard_any_more() {
    let mut played = Played::new();
    let flags = played.start(start("a", 7, false));
    played.round(ROUND);
    played.heard();
    flags.ended.store(true, std::sync::atomic::Ordering::Release);
    assert!(ends(&played.round(Duration::from_millis(100))).is_empty());
    assert!(said(&mut played).contains(&attach(7, 0)));
    assert!(played.tap.is_idle());
}

#[test]
fn after_a_failure_of_the_recorder_everything_has_ended_and_new_recordings_begin() {
    let mut played = Played::new();
    played.start(start("a", 7, false));
    played.round(ROUND);
    played.heard();
    played.tap.fail("a test");
    assert_eq!(said(&mut played), [attach(7, 0)]);
    let batches = played.round(ROUND);
    let failed = |entry: &Entry| matches!(entry, Entry::EndAll(EndReason::Failed(why)) if why == "a test");
    assert!(batches.iter().flat_map(|batch| &batch.entries).any(failed));
    played.start(start("a", 7, false));
    played.packet(7, 0, 1);
    assert_eq!(packets(&played.round(ROUND)), [(RecordingKey(2), Kind::Audio, 1)]);
}
