//! What a killed process leaves, cut at any byte, is recovered to a file that plays all that was whole.

mod call;

use std::{fs, time::Duration};

use call::{File, Row, Step, audio, info, millis, run, video};
use recording::{AudioFormat, Recording, RecoverError, VideoFormat, recover};

/// The audio file, and with video the other, as they lie on the disk after `seconds` without having been ended.
fn left_after(seconds: u64, with_video: bool) -> Vec<Vec<u8>> {
    let steps = audio(seconds).into_iter().chain(video(seconds)).map(Step::Packet).collect();
    let video = with_video.then(|| (VideoFormat::Vp8, File::default()));
    let begun = Recording::new(&info(), Some((AudioFormat { channels: 2 }, File::default())), video).expect("memory");
    let recording = run(begun, steps, millis(seconds * 1_000));
    recording.sinks().map(|sink| sink.get_ref().clone()).collect()
}

#[test]
fn nothing_is_lost_but_the_last_second() {
    for (file, seconds) in left_after(10, true).into_iter().zip([10.0, 10.0]) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("left");
        fs::write(&path, &file).expect("written");
        let summary = recover(&path).expect("recovered");
        eprintln!("{} bytes: {:?} of {seconds} s", file.len(), summary.duration);
        assert!(summary.duration >= Duration::from_secs(9));
        for track in &summary.tracks {
            assert!(track.written > 200 && track.packets == track.written, "what the file holds: {track:?}");
        }
    }
}

#[test]
fn an_ogg_file_cut_at_any_byte_is_recovered() {
    let file = left_after(4, false).remove(0);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("left.ogg");
    let mut lengths = Vec::new();
    for cut in (file.len() - 6_000..=file.len()).step_by(7).chain(file.len() - 30..=file.len()) {
        fs::write(&path, &file[..cut]).expect("written");
        let summary = recover(&path).expect("recovered");
        let recovered = fs::read(&path).expect("read");
        let row = Row::read(&recovered);
        assert_eq!(recovered[14..18], file[14..18], "the number of its stream");
        assert!((row.length() - summary.duration.as_secs_f64() * 1e3).abs() < 0.1);
        assert_eq!(recover(&path).expect("complete"), summary, "a second time changes nothing");
        assert_eq!(fs::read(&path).expect("read"), recovered);
        lengths.push(row.length());
    }
    eprintln!("{} cuts: {:?} to {:?} ms", lengths.len(), lengths.first(), lengths.last());
    assert!(lengths.last().is_some_and(|length| *length > 3_000.0));
}

#[test]
fn a_webm_file_cut_at_any_byte_is_recovered() {
    let file = left_after(4, true).remove(1);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("left.webm");
    for cut in (file.len() - 20_000..=file.len()).step_by(41).chain(file.len() - 30..=file.len()) {
        fs::write(&path, &file[..cut]).expect("written");
        let summary = recover(&path).expect("recovered");
        assert_eq!((summary.tracks[0].channels, summary.tracks[1].width), (2, 640));
        let recovered = fs::read(&path).expect("read");
        assert_eq!(recover(&path).expect("complete"), summary, "a second time changes nothing");
        assert_eq!(fs::read(&path).expect("read"), recovered);
    }
}

#[test]
fn a_file_of_no_sound_or_of_another_kind_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("left");
    let file = left_after(1, false).remove(0);
    for (bytes, is_empty) in
        [(&b""[..], true), (&file[..100], true), (b"OggS", true), (b"hello", false), (&[0; 99], false)]
    {
        fs::write(&path, bytes).expect("written");
        let error = recover(&path).expect_err("nothing to play");
        assert_eq!(matches!(error, RecoverError::Empty), is_empty, "{error}");
    }
}

#[test]
fn a_long_file_whose_beginning_is_damaged_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("damaged");
    for whole in left_after(10, true) {
        // In what it begins with, and after that.
        for damaged in [100..200, 6_000..6_100] {
            let mut file = whole.clone();
            file[damaged].fill(0xaa);
            fs::write(&path, &file).expect("written");
            match recover(&path) {
                Err(RecoverError::Foreign(_)) => assert!(fs::read(&path).expect("read") == file, "it is left as it is"),
                Ok(summary) => assert!(!summary.duration.is_zero()),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn what_comes_after_a_damaged_place_is_not_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("damaged.ogg");
    let mut file = left_after(60, false).remove(0);
    file[20_000..20_100].fill(0);
    fs::write(&path, &file).expect("written");
    let error = recover(&path).expect_err("most of it could be played");
    assert!(matches!(error, RecoverError::Foreign(_)), "{error}");
    assert!(fs::read(&path).expect("read") == file);
}

#[test]
fn an_ended_file_is_left_as_it_is() {
    let (summary, files) = call::record(audio(3).into_iter().map(Step::Packet).collect(), millis(3_000), true);
    let dir = tempfile::tempdir().expect("a directory");
    for file in files {
        let path = dir.path().join("whole");
        fs::write(&path, file.get_ref()).expect("written");
        let recovered = recover(&path).expect("whole");
        assert_eq!(&fs::read(&path).expect("read"), file.get_ref());
        assert_eq!(recovered.duration.as_millis() / 10, summary.duration.as_millis() / 10);
    }
}
