//! The spool's directory: which files a recording has in it, and how they are read, written and removed. Nothing in it is reached
//! by a name from outside: all begin with a [`Stem`].
//!
//! ```text
//! STEM.part.json   from the start: what recovery needs to know
//! STEM.ogg, .webm  what is recorded
//! STEM.ended.json  the recording has ended, and its files are closed
//! STEM.json        its manifest: the files are hashed, and wait for delivery
//! STEM.ogg.upload  the id of an upload under way, to be given up when it was cut off
//! STEM.delivered   the manifest, once it is delivered: all of these may go
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::manifest::FileKind;
use super::names::{Stem, hex};

/// Recordings are for nobody but us until they are delivered.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// What is appended while a file is written that has to be there whole or not at all.
const NEW: &str = ".new";

/// Longest record that is read: thousands of gaps take a tenth of it.
const MAX_RECORD: u64 = 4 << 20;

/// Bytes that are hashed at a time.
const HASH_BLOCK: usize = 1 << 20;

/// A file of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Start,
    End,
    Manifest,
    Delivered,
    Media(FileKind),
    Upload(FileKind),
}

/// All of them, so that what goes last is last when they are removed: as long as anything is left, it can be told what it is.
const ENTRIES: [Entry; 8] = [
    Entry::Media(FileKind::Ogg),
    Entry::Media(FileKind::Webm),
    Entry::Upload(FileKind::Ogg),
    Entry::Upload(FileKind::Webm),
    Entry::End,
    Entry::Manifest,
    Entry::Start,
    Entry::Delivered,
];

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    path: PathBuf,
}

/// What is in it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The oldest recordings, and when each was last written to.
    pub(super) oldest: BTreeMap<Stem, SystemTime>,
    /// Bytes of all.
    pub(super) bytes: u64,
}

impl Entry {
    fn extension(self) -> &'static str {
        match self {
            Self::Start => "part.json",
            Self::End => "ended.json",
            Self::Manifest => "json",
            Self::Delivered => "delivered",
            Self::Media(kind) => kind.extension(),
            Self::Upload(FileKind::Ogg) => "ogg.upload",
            Self::Upload(FileKind::Webm) => "webm.upload",
        }
    }
}

impl Dir {
    /// The directory at this path, which is made if there is none.
    pub(super) fn make(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&path)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, stem: &Stem, entry: Entry) -> PathBuf {
        self.path.join(stem.file(entry.extension()))
    }

    /// Makes a file that must not be there yet.
    pub(super) fn create(&self, stem: &Stem, entry: Entry) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE).open(self.file(stem, entry))
    }

    /// Its length, if it is there.
    pub(super) fn size(&self, stem: &Stem, entry: Entry) -> io::Result<Option<u64>> {
        found(fs::metadata(self.file(stem, entry))).map(|metadata| metadata.map(|metadata| metadata.len()))
    }

    /// Reads a record; `None`: it is not there, or the machine died while it was written.
    pub(super) fn read<T: DeserializeOwned>(&self, stem: &Stem, entry: Entry) -> io::Result<Option<T>> {
        let Some(file) = found(File::open(self.file(stem, entry)))? else { return Ok(None) };
        let mut text = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Writes a record, which then is there whole, or not at all when the process dies; with `durable` also when the machine does.
    pub(super) fn write<T: Serialize>(&self, stem: &Stem, entry: Entry, value: &T, durable: bool) -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        let path = self.file(stem, entry);
        let new = with_new(&path);
        let written = write_new(&new, &text, durable).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            // Half a file on a full disk: it may go, for nobody looks at it.
            let _ = fs::remove_file(&new);
            return written;
        }
        if durable { self.sync() } else { Ok(()) }
    }

    /// Puts names that were made, changed or removed through to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Puts a file through to the disk, and says how long it is and what its SHA-256 is.
    pub(super) fn hash(&self, stem: &Stem, kind: FileKind) -> io::Result<(u64, String)> {
        let mut file = File::open(self.file(stem, Entry::Media(kind)))?;
        file.sync_all()?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut block = vec![0; HASH_BLOCK];
        loop {
            match file.read(&mut block)? {
                0 => return Ok((length, hex(&hash.finalize()))),
                read => {
                    hash.update(&block[..read]);
                    length += read as u64;
                }
            }
        }
    }

    /// Notes that a recording has been delivered. From here on its files are only removed.
    pub(super) fn mark_delivered(&self, stem: &Stem) -> io::Result<()> {
        let marker = self.file(stem, Entry::Delivered);
        match fs::rename(self.file(stem, Entry::Manifest), &marker) {
            // A full disk had no room for the manifest, but has for a name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(stem, Entry::Delivered).map(drop)?,
            renamed => renamed?,
        }
        self.sync()
    }

    /// Removes all that a recording has here.
    pub(super) fn remove(&self, stem: &Stem) -> io::Result<()> {
        for entry in ENTRIES {
            let path = self.file(stem, entry);
            found(fs::remove_file(with_new(&path)))?;
            found(fs::remove_file(path))?;
        }
        Ok(())
    }

    /// Looks through it, and names the oldest `limit` recordings.
    pub(super) fn contents(&self, limit: usize) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for file in fs::read_dir(&self.path)? {
            let file = file?;
            let Some(stem) = file.file_name().to_str().and_then(stem_of) else { continue };
            // It may just have been removed.
            let Ok(metadata) = file.metadata() else { continue };
            contents.bytes += metadata.len();
            let written = metadata.modified()?;
            let newest = contents.oldest.entry(stem).or_insert(written);
            *newest = written.max(*newest);
            if contents.oldest.len() > limit {
                contents.oldest.pop_last();
            }
        }
        Ok(contents)
    }

    /// Bytes that may still be written.
    pub(super) fn free(&self) -> io::Result<u64> {
        let system = rustix::fs::statvfs(&self.path)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn with_new(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW);
    name.into()
}

/// The recording that a file of this name belongs to. Its id, which a stem ends with, has no `.`: all after the last part of a name that
/// could be one is extension, and so the longest extension is the right one.
fn stem_of(name: &str) -> Option<Stem> {
    let name = name.strip_suffix(NEW).unwrap_or(name);
    let without = |entry: &Entry| name.strip_suffix(entry.extension())?.strip_suffix('.');
    ENTRIES.iter().filter_map(without).min_by_key(|stem| stem.len()).and_then(Stem::parse)
}

fn write_new(path: &Path, text: &[u8], durable: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(text)?;
    if durable { file.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stem(second: u32) -> Stem {
        Stem::parse(&format!("20261130T1452{second:02}.000Z_al.ice_id-{second}")).expect("a stem")
    }

    fn dir() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().expect("a directory");
        let dir = Dir::make(place.path().join("a/spool")).expect("made");
        (place, dir)
    }

    #[test]
    fn only_we_can_read_what_waits() {
        let (_place, dir) = dir();
        dir.create(&stem(1), Entry::Media(FileKind::Ogg)).expect("made");
        dir.write(&stem(1), Entry::Start, &1, true).expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.file(&stem(1), Entry::Media(FileKind::Ogg))), 0o600);
        assert_eq!(mode(&dir.file(&stem(1), Entry::Start)), 0o600);
    }

    #[test]
    fn a_file_of_the_spool_is_never_made_twice() {
        let (_place, dir) = dir();
        dir.create(&stem(1), Entry::Media(FileKind::Webm)).expect("made");
        let again = dir.create(&stem(1), Entry::Media(FileKind::Webm)).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_oldest_are_found_first_whatever_else_lies_there() {
        let (_place, dir) = dir();
        for second in [5, 3, 1, 4, 2] {
            dir.create(&stem(second), Entry::Media(FileKind::Ogg)).expect("made");
            dir.write(&stem(second), Entry::Start, &7, false).expect("written");
        }
        fs::write(dir.path().join("lock"), "12345").expect("written");
        fs::write(dir.path().join("holiday.ogg"), "12345").expect("written");
        let contents = dir.contents(3).expect("read");
        assert_eq!(contents.oldest.into_keys().collect::<Vec<_>>(), [1, 2, 3].map(stem));
        assert_eq!(contents.bytes, 5);
        assert_eq!(dir.contents(6).expect("read").oldest.len(), 5);
    }

    #[test]
    fn every_file_tells_which_recording_it_is_of() {
        for entry in ENTRIES {
            for new in ["", NEW] {
                assert_eq!(stem_of(&format!("{}{new}", stem(1).file(entry.extension()))), Some(stem(1)), "{entry:?}");
            }
        }
    }

    #[test]
    fn half_a_record_is_none() {
        let (_place, dir) = dir();
        assert_eq!(dir.read::<u32>(&stem(1), Entry::Start).expect("read"), None);
        fs::write(dir.file(&stem(1), Entry::Start), "").expect("written");
        assert_eq!(dir.read::<u32>(&stem(1), Entry::Start).expect("read"), None);
        dir.write(&stem(1), Entry::Start, &7, true).expect("written");
        assert_eq!(dir.read::<u32>(&stem(1), Entry::Start).expect("read"), Some(7));
    }

    #[test]
    fn what_is_delivered_goes_and_nothing_else() {
        let (_place, dir) = dir();
        for entry in ENTRIES {
            dir.create(&stem(1), entry).expect("made");
        }
        dir.create(&stem(2), Entry::Start).expect("made");
        fs::write(with_new(&dir.file(&stem(1), Entry::End)), "{").expect("written");
        dir.remove(&stem(1)).expect("removed");
        dir.remove(&stem(1)).expect("there is nothing to do");
        let contents = dir.contents(9).expect("read");
        assert_eq!(contents.oldest.into_keys().collect::<Vec<_>>(), [stem(2)]);
    }
}
