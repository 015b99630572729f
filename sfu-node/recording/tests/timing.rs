//! Where sound comes to be in the file, in virtual time. Each test prints what it measured.

mod call;

use std::time::Duration;

use call::{FRAME, File, Row, Sent, audio, info, millis, random, record_audio, unique};
use recording::{AudioFormat, Kind, Recording};

/// Where a packet of an even stream belongs: when it was captured.
fn captured(sent: &Sent) -> f64 {
    sent.at.as_secs_f64() * 1e3 - 20.0
}

/// Where a packet belongs by its number in an even stream, however late it came.
fn by_index(sent: &Sent) -> f64 {
    (sent.index - 1_000) as f64 * 20.0
}

fn padding(before: &Sent, index: u64) -> Sent {
    Sent { index, payload: Vec::new(), timestamp: before.timestamp, ..before.clone() }
}

#[test]
fn an_even_stream_is_in_the_file_as_it_was_sent() {
    let packets = audio(60);
    let (summary, row) = record_audio(packets.clone(), millis(60_000));
    let (worst, missing) = row.errors(&packets, captured);
    eprintln!("even: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 0.1 && missing == 0 && (row.length() - 60_000.0).abs() <= 0.1);
    let track = &summary.tracks[0];
    assert_eq!((track.packets, track.written, track.lost, track.late), (3_000, 3_000, 0, 0));
    assert_eq!((track.filled, track.gaps.len()), (Duration::ZERO, 0));
}

#[test]
fn five_percent_of_loss_and_padding_cost_no_time() {
    let mut seed = 42;
    let (mut packets, mut index) = (Vec::new(), 1_000);
    for sent in audio(60) {
        packets.push(Sent { index, ..sent.clone() });
        index += 1;
        for _ in 0..random(&mut seed, 3) {
            packets.push(padding(&sent, index));
            index += 1;
        }
    }
    let all = packets.len();
    packets.retain(|_| random(&mut seed, 20) != 0);
    let lost = all - packets.len();
    let (summary, row) = record_audio(packets.clone(), millis(60_000));
    let (worst, missing) = row.errors(packets.iter().filter(|sent| !sent.payload.is_empty()), captured);
    eprintln!("5 % loss: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 0.1 && missing == 0 && (row.length() - 60_000.0).abs() <= 20.0);
    // What is lost before the first and after the last packet, nobody knows of.
    assert!(summary.tracks[0].lost.abs_diff(lost as u64) <= 3);
    assert!(summary.tracks[0].filled >= millis(1_500) && summary.tracks[0].filled <= millis(5_000));
}

#[test]
fn what_the_node_drops_before_the_first_packet_and_after_the_last_is_lost_too() {
    let audio_alone = Some((AudioFormat { channels: 2 }, File::default()));
    let mut recording = Recording::new(&info(), audio_alone, None).expect("memory");
    recording.handle_dropped(Kind::Audio, 3);
    for sent in audio(1) {
        call::give(&mut recording, &sent);
    }
    recording.handle_dropped(Kind::Audio, 4);
    let (summary, _) = recording.finish(millis(1_000));
    assert_eq!((summary.tracks[0].dropped, summary.tracks[0].lost), (7, 7));
}

#[test]
fn jitter_and_reordering_leave_no_trace() {
    let mut seed = 7;
    let mut packets = audio(60);
    for sent in &mut packets {
        sent.at += millis(random(&mut seed, 120));
    }
    let (summary, row) = record_audio(packets.clone(), millis(60_000));
    let (worst, missing) = row.errors(&packets, by_index);
    eprintln!("reordered: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 20.0 && missing == 0 && (row.length() - 60_000.0).abs() <= 20.0);
    assert_eq!((summary.tracks[0].lost, summary.tracks[0].jumps), (0, 0));
}

#[test]
fn a_burst_after_three_seconds_of_nothing_is_all_in_the_file() {
    let mut packets = audio(30);
    for sent in &mut packets {
        if (10_000..13_000).contains(&sent.at.as_millis()) {
            sent.at = millis(13_000);
        }
    }
    let (summary, row) = record_audio(packets.clone(), millis(30_000));
    let (worst, missing) = row.errors(&packets, by_index);
    eprintln!("burst: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 0.1 && missing == 0 && (row.length() - 30_000.0).abs() <= 0.1);
    assert_eq!((summary.tracks[0].lost, summary.tracks[0].jumps), (0, 0));
}

#[test]
fn dtx_whose_timestamps_go_on_is_filled() {
    let mut packets = audio(60);
    packets.retain(|sent| sent.at.as_millis() / 1_000 % 3 != 1 || sent.index % 20 == 0);
    for (number, sent) in packets.iter_mut().enumerate() {
        sent.index = 1_000 + number as u64;
    }
    let (summary, row) = record_audio(packets.clone(), millis(60_000));
    let (worst, missing) = row.errors(&packets, captured);
    eprintln!("DTX: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 0.1 && missing == 0 && (row.length() - 60_000.0).abs() <= 0.1);
    assert_eq!((summary.tracks[0].lost, summary.tracks[0].jumps), (0, 0));
    assert!(summary.tracks[0].filled > millis(18_000));
}

/// Leaves out ten seconds, after which numbers go on and timestamps have gone on by `advance` milliseconds; with jitter.
fn muted(advance: u64) -> Vec<Sent> {
    let mut seed = 3;
    let mut packets = audio(60);
    packets.retain(|sent| !(20_000..30_000).contains(&(sent.at.as_millis() - 20)));
    for sent in packets.iter_mut().filter(|sent| sent.at >= millis(30_000)) {
        sent.index -= 500;
        sent.timestamp = sent.timestamp.wrapping_sub(10_000 * 48).wrapping_add(advance as u32 * 48);
    }
    for sent in &mut packets {
        sent.at += millis(random(&mut seed, 15));
    }
    packets
}

#[test]
fn ten_seconds_of_mute_are_ten_seconds_whatever_timestamps_say() {
    for advance in [0, 10_000, 20, 400, 9_000, 60_000, 1_000_000] {
        let packets = muted(advance);
        let (summary, row) = record_audio(packets.clone(), millis(60_000));
        let due = |sent: &Sent| by_index(sent) + if sent.index >= 2_000 { 10_000.0 } else { 0.0 };
        let (worst, missing) = row.errors(&packets, due);
        eprintln!(
            "mute, timestamps on by {advance} ms: worst {worst} ms, missing {missing}, length {} ms",
            row.length()
        );
        assert!(worst <= 20.0 && missing == 0 && (row.length() - 60_000.0).abs() <= 20.0);
        assert_eq!(summary.tracks[0].lost, 0);
        assert_eq!(summary.tracks[0].jumps, u64::from(advance != 10_000));
        let gap = summary.tracks[0].gaps.iter().max_by_key(|gap| gap.length).expect("the mute");
        assert!(gap.at.abs_diff(millis(20_000)) <= millis(20) && gap.length.abs_diff(millis(10_000)) <= millis(20));
    }
}

#[test]
fn another_ssrc_goes_on_in_time() {
    let mut seed = 5;
    let mut packets = audio(60);
    for sent in packets.iter_mut().filter(|sent| sent.index >= 2_000) {
        sent.source = 1;
        sent.timestamp = sent.timestamp.wrapping_mul(7);
        sent.timestamp = (sent.index as u32 - 2_000).wrapping_mul(FRAME).wrapping_add(77);
    }
    for sent in &mut packets {
        sent.at += millis(random(&mut seed, 50));
    }
    let (summary, row) = record_audio(packets.clone(), millis(60_000));
    let (worst, missing) = row.errors(&packets, by_index);
    eprintln!("SSRC: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 20.0 && missing == 0 && (row.length() - 60_000.0).abs() <= 20.0);
    assert_eq!((summary.tracks[0].source_changes, summary.tracks[0].lost), (1, 0));
}

#[test]
fn a_stream_that_begins_late_and_ends_early_is_as_long_as_the_recording() {
    let packets: Vec<_> = audio(20).into_iter().filter(|sent| sent.at > millis(7_000)).collect();
    let (summary, row) = record_audio(packets.clone(), millis(33_333));
    let (worst, missing) = row.errors(&packets, captured);
    eprintln!("late and early: worst {worst} ms, missing {missing}, length {} ms", row.length());
    assert!(worst <= 2.5 && missing == 0 && (row.length() - 33_333.0).abs() <= 0.1);
    assert_eq!(summary.duration.as_millis(), 33_333);
    let (summary, row) = record_audio(Vec::new(), millis(5_000));
    assert_eq!((row.length().round(), summary.tracks[0].packets), (5_000.0, 0), "nothing ever came");
}

#[test]
fn a_clock_that_runs_fast_or_slow_is_the_files() {
    for parts_in_a_million in [-200_i64, -100, 100, 200] {
        let mut packets = audio(600);
        for sent in &mut packets {
            let micros = sent.at.as_micros() as i64;
            sent.at = Duration::from_micros((micros - micros * parts_in_a_million / 1_000_000) as u64);
        }
        let (summary, row) = record_audio(packets.clone(), packets[packets.len() - 1].at);
        let (worst, missing) = row.errors(packets.iter().step_by(97), by_index);
        eprintln!("clock {parts_in_a_million}: worst {worst} ms, length {} ms", row.length());
        assert!(worst <= 20.0 && missing == 0);
        assert_eq!((summary.tracks[0].jumps, summary.tracks[0].lost), (0, 0));
    }
}

#[test]
fn what_comes_too_late_is_counted_and_its_place_is_filled() {
    let mut packets = audio(10);
    packets[100].at += millis(900);
    let (summary, row) = record_audio(packets.clone(), millis(10_000));
    let (worst, missing) = row.errors(&packets, by_index);
    assert!(worst <= 0.1 && missing == 1 && (row.length() - 10_000.0).abs() <= 0.1);
    let track = &summary.tracks[0];
    assert_eq!((track.lost, track.late, track.filled), (1, 1, millis(20)));
}

#[test]
fn frames_of_any_length_stand_side_by_side() {
    // 2.5, 5, 10, 20, 40, 60 and 120 ms.
    let kinds: [(&[u8], u32); 7] = [
        (&[0xe0, 1], 120),
        (&[0xe8, 2], 240),
        (&[0xf0, 3], 480),
        (&[0xf8, 4], 960),
        (&[0x10, 5], 1_920),
        (&[0x18, 6], 2_880),
        (&[0x1b, 2, 7, 7], 5_760),
    ];
    let (mut packets, mut timestamp) = (Vec::new(), 0_u32);
    for number in 0..700 {
        let (payload, samples) = kinds[number as usize % 7];
        timestamp += samples;
        packets.push(Sent {
            at: Duration::from_micros(u64::from(timestamp) * 1_000 / 48),
            kind: Kind::Audio,
            index: number,
            timestamp: timestamp - samples,
            source: 0,
            marker: false,
            payload: [payload, &unique(number)[1..]].concat(),
        });
        // Two equal frames need an even number of bytes.
        if number % 7 == 6 {
            let payload = &mut packets[number as usize].payload;
            payload.truncate(payload.len() / 2 * 2);
        }
    }
    let end = packets[699].at;
    let (summary, row) = record_audio(packets.clone(), end);
    let due = |sent: &Sent| f64::from(sent.timestamp) / 48.0;
    let (worst, missing) = row.errors(&packets, due);
    eprintln!("lengths: worst {worst} ms, missing {missing}");
    assert!(worst <= 0.1 && missing == 0);
    assert_eq!(summary.tracks[0].invalid, 0);
}

/// Two seconds of speech, then three of DTX, a packet in 400 ms, and so on.
fn speech_with_pauses(seconds: u64) -> Vec<Sent> {
    let mut packets = audio(seconds);
    packets.retain(|sent| {
        let number = (sent.index - 1_000) % 250;
        number < 100 || number % 20 == 0
    });
    for (number, sent) in packets.iter_mut().enumerate() {
        sent.index = 1_000 + number as u64;
    }
    packets
}

/// Records without ending, with a look every `every` ms, and gives the file with its length after each write.
fn written(packets: &[Sent], every: u64) -> (File, Vec<(Duration, usize)>) {
    let audio_alone = Some((AudioFormat { channels: 2 }, File::default()));
    let mut recording = Recording::new(&info(), audio_alone, None).expect("memory");
    let len = |recording: &Recording<File>| recording.sinks().map(|file| file.get_ref().len()).sum::<usize>();
    let (mut lengths, mut next, mut tick) = (vec![(Duration::ZERO, len(&recording))], packets.iter().peekable(), 0);
    while next.peek().is_some() {
        while let Some(sent) = next.next_if(|sent| sent.at <= millis(tick)) {
            call::give(&mut recording, sent);
            lengths.push((sent.at, len(&recording)));
        }
        recording.handle_timeout(millis(tick)).expect("memory");
        lengths.push((millis(tick), len(&recording)));
        tick += every;
    }
    let file = recording.sinks().next().expect("the Ogg file").clone();
    (file, lengths)
}

/// Where pages end: in the file, and in samples.
fn pages(file: &[u8]) -> Vec<(usize, u64)> {
    let (mut pages, mut at) = (Vec::new(), 0);
    while at < file.len() {
        let segments = usize::from(file[at + 26]);
        let lacing = &file[at + 27..at + 27 + segments];
        let position = u64::from_le_bytes(file[at + 6..at + 14].try_into().expect("8 bytes"));
        at += 27 + segments + lacing.iter().map(|segment| usize::from(*segment)).sum::<usize>();
        pages.push((at, position));
    }
    pages
}

#[test]
fn a_page_spans_a_second_at_most_and_is_written_within_a_second() {
    let lossless = speech_with_pauses(60);
    // One in the middle of speech, one just before a pause, one just after it, one of it.
    let lost = |position: usize| {
        let mut packets = lossless.clone();
        packets.remove(position);
        packets
    };
    let streams = [lossless.clone(), audio(60), lost(50), lost(99), lost(108), lost(107)];
    let second = Duration::from_secs(1);
    for (number, packets) in streams.iter().enumerate() {
        for every in [20, 75, 120, 150] {
            let (file, lengths) = written(packets, every);
            let pages = pages(file.get_ref());
            let row = Row::read(file.get_ref());
            let (mut span, mut age, mut missing) = (0, Duration::ZERO, Duration::ZERO);
            for (before, page) in pages[1..].iter().zip(&pages[2..]) {
                let (at, _) = *lengths.iter().find(|(_, len)| *len >= page.0).expect("it was written");
                let begun = Duration::from_micros(before.1 * 1_000 / 48);
                span = span.max(page.1 - before.1);
                // Killed just before, the process leaves a file that ends where the page begins.
                missing = missing.max(at.saturating_sub(begun));
                let of_page = row.packets.iter().filter(|(position, _)| (before.1..page.1).contains(position));
                let arrivals = of_page.filter_map(|(_, payload)| packets.iter().find(|sent| sent.payload == *payload));
                age = age.max(at.saturating_sub(arrivals.map(|sent| sent.at).min().unwrap_or(at)));
            }
            eprintln!("{number}, looked at every {every} ms: span {span}, age {age:?}, missing {missing:?}");
            assert!(pages.len() > 60 && span <= 48_000 && age <= second);
            // The last stream lacks a packet of a pause: what is missing longer is silence.
            assert!(missing <= second || number == streams.len() - 1);
        }
    }
}
