//! What the node records: the recorder beside the shards, and what becomes of its files (`spool/`).
//!
//! ```text
//!  shards ──queues──▶ recorder: tap.rs ──batches──▶ writers: writer.rs ──▶ files of a `Destination`
//!     ▲                    │   (never touches a file)      └──▶ events
//!     └── attach, keyframe requests
//! ```
//!
//! The recorder is a sibling of all shards and costs them what one more shard with subscribers would. No shard ever waits for it, nor
//! it for a disk: whatever is too much is lost for the recording alone, and counted. A panic on one of these threads ends recordings,
//! never the node ([0016](../../../docs/decisions/0016-where-a-node-records.md)).

mod batch;
mod open;
mod queue;
mod recorder;
mod service;
mod settings;
mod spool;
mod stats;
mod tap;
#[cfg(test)]
mod tests;
mod writer;

use ::recording::{Sink, Summary};
use proto::ids::{Mid, PeerId, RecordingId, RoomId};

pub(crate) use queue::{RecorderQueues, ShardEnds, ToRecorder, connect};
pub(crate) use recorder::{Recorder, RecorderThreads, Refused};
pub(crate) use service::{Recordings, RunningRecordings};
pub use settings::{Fsync, RecordingConfig, file_url};
use spool::{CreateError, NewRecording};
use telemetry::trace::Trace;

use crate::control::{StartRecording, StartTrack};

/// Why a recording has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// It was told to.
    Stopped,
    /// What it recorded has ended.
    PublicationEnded,
    /// There is no room on the disk.
    DiskFull,
    /// It is as long as it may be.
    Limit,
    /// The node ends.
    NodeEnding,
    /// It could not go on.
    Failed(String),
}

impl EndReason {
    /// For metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::PublicationEnded => "publication_ended",
            Self::DiskFull => "disk_full",
            Self::Limit => "limit",
            Self::NodeEnding => "node_ending",
            Self::Failed(_) => "failed",
        }
    }
}

/// What becomes of recordings.
#[derive(Debug, Clone)]
pub(crate) struct RecordingEvent {
    pub(crate) recording: RecordingId,
    pub(crate) room: RoomId,
    pub(crate) uid: PeerId,
    pub(crate) mid: Mid,
    /// The request that it was begun for.
    pub(crate) trace: Option<Trace>,
    pub(crate) change: Change,
}

/// See [`RecordingEvent`].
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Its files are there.
    Started,
    /// It has ended, and its files are closed; `summary` tells what they hold. Without one there are none, or they are found closed only
    /// by the next start.
    Ended { reason: EndReason, summary: Option<Box<Summary>> },
}

/// Its files, empty.
pub(crate) struct Files<F, N> {
    pub(crate) name: N,
    /// There if there is audio.
    pub(crate) audio: Option<F>,
    /// There if there is video.
    pub(crate) video: Option<F>,
}

/// A recording that has ended, as it is told to a [`Destination`].
#[derive(Debug)]
pub(crate) struct Finished<N> {
    pub(crate) name: N,
    pub(crate) reason: EndReason,
    pub(crate) summary: Summary,
}

/// Where the files of recordings are. It is called on writers' threads, where it may wait for the disk.
pub(crate) trait Destination: Send + Sync + 'static {
    /// One file.
    type File: Sink + Send;
    /// What both files of a recording are called by.
    type Name: Clone + Send;

    /// Makes the files of a recording.
    fn create(&self, new: &NewRecording) -> Result<Files<Self::File, Self::Name>, CreateError>;

    /// Its files are closed.
    fn finished(&self, finished: Finished<Self::Name>);

    /// Its files are as whatever went wrong has left them.
    fn abandon(&self, name: &Self::Name);

    /// Whether recordings may go on; asked once a second at most.
    fn has_room(&self) -> bool;
}
