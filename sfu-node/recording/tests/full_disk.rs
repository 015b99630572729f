//! A disk that becomes full while a recording is written leaves files that play up to there.

mod call;

use std::{
    fs,
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use call::{File, Row, Sent, audio, info, millis};
use recording::{AudioFormat, Packet, Recording, Sink, SyncPoint, VideoFormat, WriteError, recover};

/// A file on a disk of so many bytes, which takes half of what does not fit.
#[derive(Debug)]
struct Disk {
    file: File,
    bytes: u64,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = self.bytes.saturating_sub(self.file.position()) as usize;
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

/// Records until an error, or for ten seconds, and ends.
fn record_to(bytes: u64) -> (Option<WriteError>, Duration, Vec<Vec<u8>>) {
    let disk = || Disk { file: File::default(), bytes };
    let files = (Some((AudioFormat { channels: 2 }, disk())), Some((VideoFormat::Vp8, disk())));
    let mut recording = Recording::new(&info(), files.0, files.1).expect("heads fit");
    let mut failed = None;
    let mut now = Duration::ZERO;
    for Sent { at, kind, index, timestamp, source, marker, payload } in audio(10) {
        now = at;
        let packet = Packet { index, timestamp, source, marker, keyframe: false, payload: &payload };
        let handled = recording.handle_packet(at, kind, packet).and_then(|()| recording.handle_timeout(at));
        if let Err(error) = handled {
            failed = Some(error);
            break;
        }
    }
    let (summary, files) = recording.finish(now);
    assert_eq!(summary.unclosed, None, "it was closed where it could be");
    (failed, now, files.into_iter().map(|disk| disk.file.into_inner()).collect())
}

#[test]
fn files_are_closed_at_the_last_whole_piece() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("full");
    for bytes in [12_000, 12_001, 15_000, 17_777, 1 << 20] {
        let (failed, ended, files) = record_to(bytes);
        assert_eq!(failed.is_some(), bytes < 1 << 20);
        if let Some(error) = failed {
            assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
        }
        let row = Row::read(&files[0]);
        eprintln!("{bytes} bytes: ended at {ended:?}, {} ms", row.length());
        assert!(ended.saturating_sub(Duration::from_secs_f64(row.length() / 1e3)) < millis(1_500));
        for file in files {
            fs::write(&path, &file).expect("written");
            recover(&path).expect("it plays");
            assert_eq!(fs::read(&path).expect("read"), file, "it needed no mending");
        }
    }
}
