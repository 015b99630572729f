//! From what lies in the spool to a manifest: of a recording that ended in order, or of one that a killed process left. Blocking,
//! and safe to be cut off anywhere and done again.

use std::io;

use recording::{Kind, RecoverError, Summary};

use super::dir::{Dir, Entry};
use super::manifest::{ClosedFile, End, FileKind, Manifest, Reason, Start, Track};
use super::names::{Name, Stem};

/// What a recording in the spool is ready for.
#[derive(Debug)]
pub(super) enum Settled {
    /// For delivery.
    Ready(Box<Ready>),
    /// For nothing: it has been delivered, or never began.
    Gone,
}

/// A recording that waits for delivery.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: Name,
    pub(super) manifest: Manifest,
    /// Whether the manifest was made just now.
    pub(super) is_new: bool,
}

/// Why a recording is ready for nothing yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error("the spool: {0}")]
    Spool(#[from] io::Error),
    /// Somebody has to look: only what is written at a recording's start says whose it is.
    #[error(
        "its .part.json is missing or damaged, so that nobody knows what it is: remove its files, or put that back"
    )]
    Unknown,
}

/// Makes it ready. `end`: what could not be written about its end, for want of room.
pub(super) fn settle(dir: &Dir, stem: &Stem, end: Option<End>) -> Result<Settled, SettleError> {
    if dir.size(stem, Entry::Delivered)?.is_some() {
        dir.remove(stem)?;
        return Ok(Settled::Gone);
    }
    let start = dir.read::<Start>(stem, Entry::Start)?.filter(|start| start.name().stem() == stem);
    let Some(start) = start else { return unknown(dir, stem) };
    let name = start.name();
    if let Some(manifest) = dir.read(stem, Entry::Manifest)? {
        return Ok(Settled::Ready(Box::new(Ready { name, manifest, is_new: false })));
    }
    let end = if let Some(end) = end { Some(end) } else { dir.read(stem, Entry::End)? };
    let end = match end {
        Some(end) if is_whole(dir, stem, &end)? => end,
        _ => recovered(dir, stem, &start)?,
    };
    let hashes = end.files.iter().map(|file| Ok(dir.hash(stem, file.kind)?.1)).collect::<io::Result<_>>()?;
    let manifest = Manifest::new(&start, end, hashes);
    if let Err(error) = dir.write(stem, Entry::Manifest, &manifest, true) {
        // A full disk gets its room back by deliveries.
        tracing::debug!(recording = %name, %error, "the manifest is kept in memory");
    }
    Ok(Settled::Ready(Box::new(Ready { name, manifest, is_new: true })))
}

/// Without the record of its start: nothing, unless something was recorded.
fn unknown(dir: &Dir, stem: &Stem) -> Result<Settled, SettleError> {
    for kind in [FileKind::Ogg, FileKind::Webm] {
        if dir.size(stem, Entry::Media(kind))?.is_some_and(|size| size > 0) {
            return Err(SettleError::Unknown);
        }
    }
    dir.remove(stem)?;
    Ok(Settled::Gone)
}

/// Whether its files are what they were when they were closed: the machine may have died since.
fn is_whole(dir: &Dir, stem: &Stem, end: &End) -> io::Result<bool> {
    for file in &end.files {
        if dir.size(stem, Entry::Media(file.kind))? != Some(file.bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Closes the files of a recording that did not end in order.
fn recovered(dir: &Dir, stem: &Stem, start: &Start) -> Result<End, SettleError> {
    let (mut summaries, mut files, mut detail) = (Vec::new(), Vec::new(), None);
    for &kind in &start.files {
        if dir.size(stem, Entry::Media(kind))?.is_none() {
            continue;
        }
        let summary = match recording::recover(&dir.file(stem, Entry::Media(kind))) {
            Ok(summary) => summary,
            Err(RecoverError::Empty) => continue,
            Err(RecoverError::Io(error)) => return Err(error.into()),
            // Rather a file that nobody can play than none.
            Err(error @ RecoverError::Foreign(_)) => {
                detail = Some(error.to_string());
                Summary::default()
            }
        };
        files.push(ClosedFile::of(kind, dir.size(stem, Entry::Media(kind))?.unwrap_or(0), &summary));
        summaries.push(summary);
    }
    let detail = detail.or_else(|| summaries.iter().find_map(|summary| summary.unclosed.clone()));
    let duration_ms = summaries.iter().map(|summary| summary.duration.as_millis() as u64).max().unwrap_or(0);
    Ok(End { reason: Reason::Interrupted, detail, recovered: true, duration_ms, tracks: tracks(&summaries), files })
}

/// Each track once: sound that is in both files is told of the first, which is the Ogg.
fn tracks(summaries: &[Summary]) -> Vec<Track> {
    let of = |kind: Kind| summaries.iter().flat_map(|summary| &summary.tracks).find(move |track| track.kind == kind);
    [Kind::Audio, Kind::Video].into_iter().filter_map(of).map(Track::of).collect()
}
