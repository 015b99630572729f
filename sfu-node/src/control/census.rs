//! How much is live, and how what is not has ended: for metrics, and for who asks the node.

use std::collections::BTreeMap;

use proto::sfu::GoneReason;
use sfu_core::sdp::MediaKind;

use super::registry::Registry;
use super::{Control, Refusal};
use crate::overload::Level;

/// Transports that carried nothing but subscriptions to a publication that has ended: their watchers are not told of each.
pub(super) const PUBLICATION_ENDED: &str = "publication_ended";

/// Every reason that [`Refusal::reason`] knows.
pub(crate) const REFUSALS: [&str; 7] =
    ["full", "draining", "superseded", "overloaded", "connecting", "no_publication", "busy"];

/// How much is live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) rooms: usize,
    /// Clients, by room.
    pub(crate) peers: usize,
    pub(crate) transports: usize,
    pub(crate) publications: usize,
    pub(crate) subscriptions: usize,
    pub(crate) watchers: usize,
    pub(crate) watchers_lagged: u64,
    /// What is refused.
    pub(crate) level: Level,
}

/// Every reason for which transports end, none of them yet.
pub(super) fn none_closed() -> BTreeMap<&'static str, u64> {
    let told = [
        GoneReason::Closed,
        GoneReason::NeverConnected,
        GoneReason::ConsentExpired,
        GoneReason::DtlsFailed,
        GoneReason::ClosedByClient,
        GoneReason::NodeEnding,
    ];
    told.into_iter().map(GoneReason::name).chain([PUBLICATION_ENDED]).map(|reason| (reason, 0)).collect()
}

impl Control {
    /// Counts what is live.
    pub(crate) fn census(&self) -> Census {
        let registry = self.lock();
        Census {
            rooms: registry.rooms(),
            peers: registry.peers(),
            transports: registry.transports.len(),
            publications: registry.publications.len(),
            subscriptions: registry.subscriptions.len(),
            watchers: registry.watchers.len(),
            watchers_lagged: registry.watchers.lagged(),
            level: registry.level,
        }
    }

    /// Transports that have ended since the start, by reason.
    pub(crate) fn closed(&self) -> BTreeMap<&'static str, u64> {
        self.lock().closed.clone()
    }

    /// Transports that are live.
    pub(crate) fn transports(&self) -> usize {
        self.lock().transports.len()
    }

    /// Tracks by direction and kind. Takes the lock for a fraction of a millisecond per thousand streams.
    pub(crate) fn tracks(&self) -> [(&'static str, &'static str, usize); 4] {
        let registry = self.lock();
        let [audio_in, video_in] = registry.tracks_in();
        let [audio_out, video_out] = registry.tracks_out();
        [("in", "audio", audio_in), ("in", "video", video_in), ("out", "audio", audio_out), ("out", "video", video_out)]
    }
}

impl Registry {
    fn tracks_in(&self) -> [usize; 2] {
        by_kind(self.publications.values().flat_map(|publication| &publication.tracks).map(|track| track.spec.kind))
    }

    fn tracks_out(&self) -> [usize; 2] {
        by_kind(self.subscriptions.values().flat_map(|subscription| {
            let source = self.publications.get(&subscription.publication);
            source
                .into_iter()
                .flat_map(|source| subscription.tracks.iter().map(|track| source.tracks[track.source].spec.kind))
        }))
    }
}

/// Audio, then video.
fn by_kind(kinds: impl Iterator<Item = MediaKind>) -> [usize; 2] {
    kinds.fold([0, 0], |[audio, video], kind| match kind {
        MediaKind::Audio => [audio + 1, video],
        MediaKind::Video => [audio, video + 1],
    })
}

impl Refusal {
    /// For metrics: why something was refused that was well said. `None`: it was not.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::NoTransports(why) => Some(why.as_str()),
            Self::NoPublication(_) => Some("no_publication"),
            Self::Busy(_) => Some("busy"),
            Self::Invalid(_)
            | Self::NothingFor(_)
            | Self::NoTransport(_)
            | Self::Conflict(_)
            | Self::NoRecording(_) => None,
        }
    }
}
