//! What a recording writes to: a file, or what behaves like one.

use std::{
    fs::File,
    io::{self, Cursor, Seek, Write},
};

/// Where in its file a recording stands when it asks for what it wrote to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPoint {
    /// A page of Ogg or a cluster of `WebM` is complete: what was written so far can be played.
    Page,
    /// The file is complete.
    End,
}

/// A file that is written, in which a few bytes near its beginning are written again when their values are known.
pub trait Sink: Write + Seek {
    /// Told after each whole piece. What is done then is the sink's choice, from nothing to `fsync`; a sink that gathers writes must
    /// pass them on here, for what is promised of a killed process holds from here.
    fn sync(&mut self, at: SyncPoint) -> io::Result<()>;

    /// Cuts what lies beyond `len` off: a piece that a full disk took half of.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Synced to the disk at its end only.
impl Sink for File {
    fn sync(&mut self, at: SyncPoint) -> io::Result<()> {
        match at {
            SyncPoint::Page => Ok(()),
            SyncPoint::End => self.sync_data(),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// A file in memory.
impl Sink for Cursor<Vec<u8>> {
    fn sync(&mut self, _: SyncPoint) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.get_mut().truncate(len as usize);
        Ok(())
    }
}
