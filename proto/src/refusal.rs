//! Why a node takes no transport, or makes no recording, as it stands in the metadata of its status: what a caller does next
//! depends on it, and the status' text is for people.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The key in the status' metadata.
const KEY: &str = "sluice-refusal";

/// Why a node takes no transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoTransport {
    /// It has as many as it may have.
    Full,
    /// It is going away.
    Draining,
    /// Another process goes by its id.
    Superseded,
    /// What it has keeps it busier than is good. Callers that do not know of it read it as [`Self::Full`].
    Overloaded,
    /// This client has too many that are still connecting: another node would not help.
    Connecting,
}

impl NoTransport {
    /// Each.
    pub const ALL: [Self; 5] = [Self::Full, Self::Draining, Self::Superseded, Self::Overloaded, Self::Connecting];

    /// Whether another node may take it.
    pub fn is_of_this_node(self) -> bool {
        self != Self::Connecting
    }

    /// The status that says so.
    pub fn status(self, reason: impl Into<String>) -> Status {
        saying(Code::ResourceExhausted, reason.into(), self.as_str())
    }

    /// What a status says; `None`: it says nothing of the kind.
    pub fn of(status: &Status) -> Option<Self> {
        let said = said_by(status)?;
        Self::ALL.into_iter().find(|each| each.as_str() == said)
    }

    /// As it stands in the status, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Superseded => "superseded",
            Self::Overloaded => "overloaded",
            Self::Connecting => "connecting",
        }
    }
}

/// Why a node makes no recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoRecording {
    /// It is not set up to record, or is about to end.
    Never,
    /// This very recording has ended, by itself or because it was to.
    Ended,
    /// This very recording is running, without a kind that the stream has now.
    Outgrown,
    /// It makes as many as it may.
    Full,
}

impl NoRecording {
    /// The status that says so.
    pub fn status(self, reason: impl Into<String>) -> Status {
        let code = match self {
            Self::Never | Self::Ended | Self::Outgrown => Code::FailedPrecondition,
            Self::Full => Code::ResourceExhausted,
        };
        saying(code, reason.into(), self.as_str())
    }

    /// What a status says; `None`: it says nothing of the kind.
    pub fn of(status: &Status) -> Option<Self> {
        let said = said_by(status)?;
        [Self::Never, Self::Ended, Self::Outgrown, Self::Full].into_iter().find(|each| each.as_str() == said)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Never => "no-recording",
            Self::Ended => "recording-ended",
            Self::Outgrown => "recording-outgrown",
            Self::Full => "recordings-full",
        }
    }
}

fn saying(code: Code, reason: String, why: &'static str) -> Status {
    let mut status = Status::new(code, reason);
    status.metadata_mut().insert(KEY, MetadataValue::from_static(why));
    status
}

fn said_by(status: &Status) -> Option<&str> {
    status.metadata().get(KEY)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_why_nothing_is_recorded_again() {
        let codes = [
            (NoRecording::Never, Code::FailedPrecondition),
            (NoRecording::Ended, Code::FailedPrecondition),
            (NoRecording::Outgrown, Code::FailedPrecondition),
            (NoRecording::Full, Code::ResourceExhausted),
        ];
        for (why, code) in codes {
            let status = why.status("text");
            assert_eq!((status.code(), status.message()), (code, "text"));
            assert_eq!(NoRecording::of(&status), Some(why));
            assert_eq!(NoTransport::of(&status), None);
        }
    }

    #[test]
    fn a_status_says_why_again() {
        for why in NoTransport::ALL {
            let status = why.status("text");
            assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "text"));
            assert_eq!(NoTransport::of(&status), Some(why));
        }
        assert!(NoTransport::Overloaded.is_of_this_node() && !NoTransport::Connecting.is_of_this_node());
    }

    #[test]
    fn other_statuses_say_nothing_of_it() {
        assert_eq!(NoTransport::of(&Status::resource_exhausted("full")), None);
        let mut unknown = Status::resource_exhausted("");
        unknown.metadata_mut().insert(KEY, MetadataValue::from_static("tired"));
        assert_eq!(NoTransport::of(&unknown), None);
    }
}
