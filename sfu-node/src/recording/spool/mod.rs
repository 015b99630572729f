//! The spool: where recordings are written, and wait until they are where `recording.url` says. Its directory is this process'
//! alone, and what is in it survives the process. The recorder's threads call [`Spool::create`] and [`Spool::finished`], which block
//! for a few operations of the file system; all else is done by the task [`Spool::deliver`].

mod deliver;
mod dir;
mod manifest;
mod names;
mod queue;
mod recover;
mod store;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use proto::ids::{Mid, NodeId, PeerId, RecordingId, RoomId};
use recording::Summary;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::deliver::Deliveries;
use self::dir::{Dir, Entry};
use self::manifest::{End, FileKind, Start};
use self::names::{Stem, unix_ms};
use self::store::Store;
use super::settings::{Fsync, RecordingConfig};

pub(crate) use self::deliver::{Delivered, SpoolEvent};
pub(crate) use self::manifest::{Manifest, Reason};
pub(crate) use self::names::Name;
pub(crate) use self::store::{StoreError, check_options, try_store};

/// The file that says whose the spool is.
const LOCK: &str = "lock";

/// Ends that are kept in memory because the disk was full. What is beyond is closed by recovery, which knows less.
const MAX_UNWRITTEN: usize = 1_000;

/// The spool.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: Dir,
    store: Store,
    node: NodeId,
    min_free: u64,
    /// Whether records are put through to the disk at once.
    durable: bool,
    book: Mutex<Book>,
    /// Something has ended.
    wake: Notify,
    /// Held as long as the spool is in use; the system lets go of it when the process ends in any way.
    _lock: File,
}

/// What is not to be seen in the directory.
#[derive(Debug, Default)]
struct Book {
    /// Being recorded.
    active: BTreeSet<Stem>,
    /// Ended since the task last looked: at most as many as were active.
    closed: Vec<Stem>,
    /// Ends that the disk had no room for.
    unwritten: BTreeMap<Stem, End>,
    /// Those that recovery closes though it was this process that recorded them, and has told of their end.
    abandoned: BTreeSet<Stem>,
}

/// A recording that begins.
#[derive(Clone, Debug)]
pub(crate) struct NewRecording {
    /// Its id.
    pub(crate) recording: RecordingId,
    /// The room it is in.
    pub(crate) room: RoomId,
    /// Whose stream it is of.
    pub(crate) uid: PeerId,
    /// The stream.
    pub(crate) mid: Mid,
    /// When it begins.
    pub(crate) started: SystemTime,
    /// Whether there is sound.
    pub(crate) audio: bool,
    /// Whether there is a picture.
    pub(crate) video: bool,
}

/// Where it is to be written; open for reading and writing.
#[derive(Debug)]
pub(crate) struct SpoolFiles {
    /// What to call it when it has ended.
    pub(crate) name: Name,
    /// With sound: for Ogg.
    pub(crate) audio: Option<File>,
    /// With a picture: for `WebM`.
    pub(crate) video: Option<File>,
}

/// A recording that has ended, whose files are closed.
#[derive(Debug)]
pub(crate) struct Finished {
    /// What [`Spool::create`] called it.
    pub(crate) name: Name,
    /// What became of it.
    pub(crate) summary: Summary,
    /// Why it ended.
    pub(crate) reason: Reason,
    /// What went wrong, for people.
    pub(crate) detail: Option<String>,
}

/// Why there is no spool.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// Nothing is to be recorded.
    #[error("recording.url is not set")]
    Unset,
    /// The directory cannot be used.
    #[error("recording.spool_dir {}: {error}", path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error("recording.spool_dir {} is in use by another process: each node needs one of its own", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The place that recordings are delivered to.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// Less than `recording.min_free` would be free.
    #[error("the spool is full")]
    Full,
    /// A file could not be made.
    #[error("the spool: {0}")]
    Io(#[from] io::Error),
}

impl Spool {
    /// Opens the spool of this node. What is in it is looked at by the task.
    pub(crate) fn open(config: &RecordingConfig, node: &NodeId) -> Result<Self, SpoolError> {
        let (Some(url), Some(path)) = (&config.url, config.spool()) else { return Err(SpoolError::Unset) };
        let unusable = |error| SpoolError::Dir { path: path.clone(), error };
        let dir = Dir::make(path.clone()).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let store = Store::open(url, &config.store)?;
        Ok(Self::of(dir, store, lock, config, node))
    }

    fn of(dir: Dir, store: Store, lock: File, config: &RecordingConfig, node: &NodeId) -> Self {
        let shared = Shared {
            dir,
            store,
            node: node.clone(),
            min_free: config.min_free,
            durable: config.fsync != Fsync::Never,
            book: Mutex::default(),
            wake: Notify::new(),
            _lock: lock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the files of a recording.
    pub(crate) fn create(&self, new: &NewRecording) -> Result<SpoolFiles, CreateError> {
        if !self.has_room() {
            return Err(CreateError::Full);
        }
        let kinds = [(FileKind::Ogg, new.audio), (FileKind::Webm, new.video)];
        let start = Start {
            recording: new.recording.clone(),
            room: new.room.clone(),
            uid: new.uid.clone(),
            mid: new.mid.clone(),
            node: self.shared.node.clone(),
            started_ms: unix_ms(new.started),
            files: kinds.into_iter().filter_map(|(kind, wanted)| wanted.then_some(kind)).collect(),
        };
        let name = start.name();
        // From here on the task leaves it alone.
        if !self.shared.book().active.insert(name.stem().clone()) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        match self.shared.make_files(&name, &start) {
            Ok((audio, video)) => Ok(SpoolFiles { name, audio, video }),
            Err(error) => {
                self.shared.book().active.remove(name.stem());
                Err(error.into())
            }
        }
    }

    /// Takes a recording that has ended. What cannot be written about it, for want of room, is kept in memory until it is delivered.
    pub(crate) fn finished(&self, finished: Finished) {
        let Finished { name, summary, reason, detail } = finished;
        let end = self.shared.files(name.stem()).map(|files| End::of(&summary, reason, detail, files));
        let written = end.and_then(|end| match self.shared.dir.write(name.stem(), Entry::End, &end, false) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.shared.keep_end(name.stem(), end);
                Err(error)
            }
        });
        if let Err(error) = written {
            tracing::warn!(files = %name, %error, "the end of a recording could not be noted in the spool");
        }
        self.shared.close(name.stem());
    }

    /// Gives up on a recording whose recorder was lost: its files are closed by recovery.
    pub(crate) fn abandon(&self, name: &Name) {
        self.shared.abandon(name.stem());
        self.shared.close(name.stem());
    }

    /// Whether recordings may go on: there is `recording.min_free` left. A system that cannot say is not held against them.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.dir.free().map_or(true, |free| free >= self.shared.min_free)
    }

    /// Delivers what is in the spool, and what comes into it, until `shutdown`, and for a second more; `told` hears of each, and must
    /// not wait.
    pub(crate) async fn deliver(self, told: impl Fn(SpoolEvent) + Send + Sync + 'static, shutdown: CancellationToken) {
        Deliveries::new(self.shared, Arc::new(told)).run(shutdown).await;
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Whoever panicked in here has left nothing half done: each change is one step.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what a recording begins with; nothing of it is left if that fails.
    fn make_files(&self, name: &Name, start: &Start) -> io::Result<(Option<File>, Option<File>)> {
        let stem = name.stem();
        // Another recording of the same name would be one of the same id.
        if self.dir.size(stem, Entry::Start)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let made = self.dir.write(stem, Entry::Start, start, self.durable).and_then(|()| {
            let make = |kind: FileKind| {
                start.files.contains(&kind).then(|| self.dir.create(stem, Entry::Media(kind))).transpose()
            };
            Ok((make(FileKind::Ogg)?, make(FileKind::Webm)?))
        });
        if made.is_err() {
            // They are empty, and if they stay, recovery finds that out.
            let _ = self.dir.remove(stem);
        }
        made
    }

    /// A recording's files, and how long they are.
    fn files(&self, stem: &Stem) -> io::Result<Vec<(FileKind, u64)>> {
        let mut files = Vec::new();
        for kind in [FileKind::Ogg, FileKind::Webm] {
            if let Some(size) = self.dir.size(stem, Entry::Media(kind))? {
                files.push((kind, size));
            }
        }
        Ok(files)
    }

    fn keep_end(&self, stem: &Stem, end: End) {
        let mut book = self.book();
        if book.unwritten.len() < MAX_UNWRITTEN {
            book.unwritten.insert(stem.clone(), end);
        }
    }

    fn unwritten_end(&self, stem: &Stem) -> Option<End> {
        self.book().unwritten.get(stem).cloned()
    }

    fn abandon(&self, stem: &Stem) {
        let mut book = self.book();
        if book.abandoned.len() < MAX_UNWRITTEN {
            book.abandoned.insert(stem.clone());
        }
    }

    fn is_abandoned(&self, stem: &Stem) -> bool {
        self.book().abandoned.contains(stem)
    }

    fn forget(&self, stem: &Stem) {
        let mut book = self.book();
        book.unwritten.remove(stem);
        book.abandoned.remove(stem);
    }

    /// Hands a recording to the task.
    fn close(&self, stem: &Stem) {
        let mut book = self.book();
        if book.active.remove(stem) {
            book.closed.push(stem.clone());
            drop(book);
            self.wake.notify_one();
        }
    }

    fn take_closed(&self) -> Vec<Stem> {
        std::mem::take(&mut self.book().closed)
    }

    /// Those of these that nobody is writing to.
    fn not_active<'a>(&self, found: &'a BTreeMap<Stem, SystemTime>) -> Vec<(&'a Stem, &'a SystemTime)> {
        let book = self.book();
        found.iter().filter(|(stem, _)| !book.active.contains(*stem)).collect()
    }
}
