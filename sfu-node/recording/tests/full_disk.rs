//! A disk that becomes full while a recording is written, or fails, leaves files that play up to there, and an account of what is in them.

mod call;

use std::{
    collections::HashSet,
    fs,
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use call::{File, Row, Sent, audio, info, millis, video};
use recording::{AudioFormat, Kind, Packet, Recording, Sink, Summary, SyncPoint, VideoFormat, WriteError, recover};

/// A file on a disk of so many bytes, which takes half of what does not fit.
#[derive(Debug)]
struct Disk {
    file: File,
    bytes: u64,
    /// Once the file is begun its beginning cannot be written again, the first time that is tried.
    head_fails: bool,
}

impl Disk {
    fn of(bytes: u64) -> Self {
        Self { file: File::default(), bytes, head_fails: false }
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.file.position();
        let is_again = at < self.file.get_ref().len() as u64;
        if self.head_fails && is_again {
            if at > 0 {
                self.head_fails = false;
                return Err(io::Error::other("a bad block"));
            }
            return self.file.write(&bytes[..10]);
        }
        let fits = self.bytes.saturating_sub(at) as usize;
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write(&bytes[..bytes.len().min(fits)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Sink for Disk {
    fn sync(&mut self, at: SyncPoint) -> io::Result<()> {
        self.file.sync(at)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

/// What a recording came to that ended with its first error.
struct Ended {
    failed: Option<WriteError>,
    at: Duration,
    /// Packets that it was given of sound, and of the picture.
    given: [u64; 2],
    summary: Summary,
    files: Vec<Vec<u8>>,
}

/// Ten seconds of sound and picture, in the order in which they come.
fn packets() -> Vec<Sent> {
    let mut packets = audio(10);
    packets.extend(video(10));
    packets.sort_by_key(|sent| sent.at);
    packets
}

/// Records ten seconds, or less if something fails.
fn record_to(channels: u8, ogg: Disk, webm: Disk) -> Ended {
    let files = (Some((AudioFormat { channels }, ogg)), Some((VideoFormat::Vp8, webm)));
    let mut recording = Recording::new(&info(), files.0, files.1).expect("heads fit");
    let (mut failed, mut now, mut given) = (None, Duration::ZERO, [0; 2]);
    for Sent { at, kind, index, timestamp, source, marker, payload } in packets() {
        now = at;
        given[usize::from(kind == Kind::Video)] += 1;
        let packet = Packet { index, timestamp, source, marker, keyframe: false, payload: &payload };
        let handled = recording.handle_packet(at, kind, packet).and_then(|()| recording.handle_timeout(at));
        if let Err(error) = handled {
            failed = Some(error);
            break;
        }
    }
    let (summary, files) = recording.finish(now);
    let files = files.into_iter().map(|disk| disk.file.into_inner()).collect();
    Ended { failed, at: now, given, summary, files }
}

/// That the account is of what is in the files, and no packet in it is told twice or not at all.
fn is_accounted_for(ended: &Ended) {
    let [sound, picture] = &ended.summary.tracks[..] else { panic!("two tracks: {:?}", ended.summary) };
    assert_eq!([sound.packets, picture.packets], ended.given);
    assert_eq!(sound.packets, sound.written + sound.lost);
    assert_eq!(picture.packets, picture.written + picture.lost);

    let row = Row::read(&ended.files[0]);
    let sent: HashSet<_> = audio(10).into_iter().map(|sent| sent.payload).collect();
    let written = row.packets.iter().filter(|(_, packet)| sent.contains(packet)).count();
    assert_eq!(sound.written, written as u64);
    let length = sound.duration.as_secs_f64() * 1e3;
    assert!((row.length() - length).abs() < 0.1, "{} ms, not {length}", row.length());
    assert_eq!(ended.summary.ogg, sound.duration);
    let said = format!("AUDIO_LOST={}", sound.lost);
    assert!(ended.files[0].windows(said.len()).any(|bytes| bytes == said.as_bytes()), "the file says {said}");

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("webm");
    fs::write(&path, &ended.files[1]).expect("written");
    let found = recover(&path).expect("it plays");
    assert_eq!(fs::read(&path).expect("read"), ended.files[1], "it needed no mending");
    assert_eq!(found.tracks[1].written, picture.written);
    assert!(found.tracks[1].duration.abs_diff(picture.duration) <= millis(1));
    // Its sound ends up to two packets after the picture.
    assert!(found.webm.abs_diff(ended.summary.webm) <= millis(50), "{:?}, not {:?}", found.webm, ended.summary.webm);
}

#[test]
fn files_are_closed_at_the_last_whole_piece_and_the_account_is_of_what_is_in_them() {
    let large = 1 << 20;
    let whole = record_to(2, Disk::of(large), Disk::of(large));
    assert!(whole.failed.is_none() && whole.summary.tracks.iter().all(|track| track.lost == 0));
    is_accounted_for(&whole);
    for (ogg, webm) in [(12_000, large), (12_001, 30_001), (17_777, large), (large, 40_000), (large, 77_777)] {
        let ended = record_to(2, Disk::of(ogg), Disk::of(webm));
        let error = ended.failed.as_ref().expect("it did not fit");
        assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(ended.summary.unclosed, None, "it was closed where it could be");
        eprintln!(
            "{ogg}, {webm} bytes: ended at {:?} with {:?} and {:?}",
            ended.at, ended.summary.ogg, ended.summary.webm
        );
        assert!(ended.summary.tracks.iter().any(|track| track.lost > 0));
        for length in [ended.summary.ogg, ended.summary.webm] {
            assert!(ended.at.saturating_sub(length) < millis(1_500), "{length:?} of {:?}", ended.at);
        }
        is_accounted_for(&ended);
    }
}

#[test]
fn what_the_end_of_a_file_finds_no_room_for_is_accounted_for() {
    let large = 1 << 20;
    let whole = record_to(2, Disk::of(large), Disk::of(large));
    let [ogg, webm] = [0, 1].map(|file| whole.files[file].len() as u64);
    for (ogg, webm) in [(ogg - 1, large), (large, webm - 1_000)] {
        let ended = record_to(2, Disk::of(ogg), Disk::of(webm));
        assert!(ended.failed.is_none() && ended.summary.unclosed.is_some());
        assert!(ended.summary.tracks.iter().any(|track| track.lost > 0));
        is_accounted_for(&ended);
    }
}

#[test]
fn a_beginning_that_cannot_be_written_again_does_not_come_to_be_written_over() {
    let large = 1 << 20;
    let bad = || Disk { head_fails: true, ..Disk::of(large) };
    // A file that was to be mono turns out to be stereo; a picture has a size.
    for (channels, ogg, webm) in [(1, bad(), Disk::of(large)), (2, Disk::of(large), bad())] {
        let ended = record_to(channels, ogg, webm);
        assert!(ended.failed.is_some_and(|error| error.to_string().contains("a bad block")));
        assert_eq!(ended.summary.unclosed, None);
        is_accounted_for(&Ended { failed: None, ..ended });
    }
}
