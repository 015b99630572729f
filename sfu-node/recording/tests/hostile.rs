//! Whatever a client sends, a recording does not panic, and its files grow by no more than what was sent and the time that passed.

mod call;

use std::time::Duration;

use call::{Row, Sent, info, millis};
use proptest::prelude::*;
use recording::{AudioFormat, Kind, Packet, Recording, SenderClock, VideoFormat};

/// A packet some way on from the last: by index, timestamp, time and source; its marker, whether it is video, its payload.
type Step = (u64, u32, u64, u32, bool, bool, Vec<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = prop_oneof![8 => Just(1_u64), 1 => 0_u64..4, 1 => 0_u64..40_000];
    let timestamp = prop_oneof![6 => Just(960_u32), 2 => 0_u32..20_000, 1 => any::<u32>(), 1 => Just(1 << 31)];
    let time = prop_oneof![8 => 0_u64..40, 1 => 0_u64..5_000];
    let source = prop_oneof![30 => Just(0_u32), 1 => Just(1_u32)];
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 1_440..1_441),
        1 => Just(Vec::new()),
        2 => Just(vec![0x1b, 2, 1, 1]),
        2 => Just(vec![0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 8, 0, 8, 0, 1]),
    ];
    prop::collection::vec((index, timestamp, time, source, any::<bool>(), any::<bool>(), payload), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_grow_by_what_was_sent_and_the_time_that_passed(steps in steps()) {
        let files = (Some((AudioFormat { channels: 1 }, call::File::default())), Some((VideoFormat::Vp8, call::File::default())));
        let mut recording = Recording::new(&info(), files.0, files.1).expect("memory");
        let (mut index, mut timestamp, mut now, mut source, mut sent) = (70_000_u64, 0_u32, 0_u64, 0_u32, 0);
        for (index_step, timestamp_step, time, source_step, marker, is_video, payload) in steps {
            index += index_step;
            timestamp = timestamp.wrapping_add(timestamp_step);
            source += source_step;
            for tick in (now..now + time).step_by(250) {
                recording.handle_timeout(millis(tick)).expect("memory");
            }
            now += time;
            let kind = if is_video { Kind::Video } else { Kind::Audio };
            sent += payload.len() + 64;
            let packet = Packet { index, timestamp, source, marker, keyframe: false, payload: &payload };
            recording.handle_packet(millis(now), kind, packet).expect("memory");
            let ntp = u64::from(timestamp) << 20;
            recording.handle_clock(millis(now), kind, SenderClock { source, ntp, rtp: timestamp ^ 5 });
        }
        let (summary, files) = recording.finish(millis(now));
        prop_assert_eq!(summary.unclosed, None);
        let row = Row::read(files[0].get_ref());
        prop_assert!(row.length() <= now as f64 * 1.001 + 1_001.0, "{} ms in {now}", row.length());
        prop_assert!(summary.webm <= millis(now + now / 1_000 + 4_001), "{:?} in {now}", summary.webm);
        // 20 ms of silence are 3 bytes, in WebM with 13 of its own, and in Ogg with the head of a page now and then.
        let most = 2 * sent + 20_000 + (now as usize + 1_000) * 2;
        for file in &files {
            prop_assert!(file.get_ref().len() <= most, "{} bytes of {sent} in {now} ms", file.get_ref().len());
        }
    }
}

#[test]
fn packets_that_claim_more_time_than_passed_do_not_get_it_by_overlapping() {
    let packets = [(70_001, 960), (70_009, 40_320), (70_010, 43_200)].map(|(index, timestamp)| {
        let payload = vec![0x1b, 2, 1, 1];
        Sent { at: Duration::ZERO, kind: Kind::Audio, index, timestamp, source: 0, marker: false, payload }
    });
    let (_, row) = call::record_audio(packets.into(), Duration::ZERO);
    assert!(row.length() <= 1_001.0, "{} ms", row.length());
}

#[test]
fn frames_that_come_faster_than_milliseconds_do_not_make_time() {
    const FRAMES: u64 = 20_000;
    let file = Some((VideoFormat::Vp8, call::File::default()));
    let mut recording = Recording::new(&info(), None, file).expect("memory");
    for index in 0..FRAMES {
        let payload = &[0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 8, 0, 8, 0, 1];
        let packet = Packet { index, timestamp: 7, source: 0, marker: true, keyframe: true, payload };
        recording.handle_packet(millis(500), Kind::Video, packet).expect("memory");
    }
    recording.handle_timeout(millis(1_000)).expect("memory");
    assert!(recording.wants_keyframe(), "those left out may be referred to");
    let (summary, _) = recording.finish(millis(1_000));
    let track = &summary.tracks[0];
    eprintln!("{} written, {:?}", track.written, summary.webm);
    assert!(summary.webm <= millis(5_001), "{:?}", summary.webm);
    assert!(track.written > 1_000 && track.written + track.undecodable == FRAMES, "{track:?}");
}

#[test]
fn every_first_byte_of_opus_is_recorded_or_refused() {
    let mut packets = Vec::new();
    for toc in 0..=255_u8 {
        for (number, payload) in [vec![toc], vec![toc, 1], vec![toc, 2, 1, 1], vec![toc; 1_440]].into_iter().enumerate()
        {
            let index = u64::from(toc) * 4 + number as u64;
            let (at, timestamp) = (millis(index * 120), index as u32 * 5_760);
            packets.push(Sent { at, kind: Kind::Audio, index, timestamp, source: 0, marker: false, payload });
        }
    }
    let end = Duration::from_millis(256 * 4 * 120);
    let count = packets.len() as u64;
    let (summary, row) = call::record_audio(packets, end);
    let track = &summary.tracks[0];
    eprintln!("{} written, {} invalid, length {} ms", track.written, track.invalid, row.length());
    assert_eq!(track.written + track.invalid, count);
    assert!(track.invalid > 0 && track.written > 400);
    assert!((row.length() - end.as_secs_f64() * 1e3).abs() <= 120.0);
}
