//! What an edge tells of a room, as the rig reads it off the wire: with a reader of its own, so that a mistake in the product's
//! types shows.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A place in a room's log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which life of the log.
    pub epoch: Arc<str>,
    /// Which entry of it, from 1.
    pub seq: u64,
}

/// What an entry of a room's log says.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Somebody became a member.
    PeerJoin {
        /// Who.
        uid: String,
    },
    /// Somebody is a member no more.
    PeerLeave {
        /// Who.
        uid: String,
    },
    /// There is a stream.
    StreamAdd {
        /// Whose.
        uid: String,
        /// Which.
        mid: String,
        /// Its description.
        minfo: Value,
        /// The recording that is made of it.
        recording: Option<String>,
    },
    /// A stream's description is another.
    StreamUpdate {
        /// Whose.
        uid: String,
        /// Which.
        mid: String,
        /// Its description.
        minfo: Value,
    },
    /// A stream is recorded, or no longer.
    Recording {
        /// Whose stream, whoever asked.
        uid: String,
        /// Which.
        mid: String,
        /// Whether it is recorded.
        on: bool,
        /// Which recording has begun or ended.
        recording: String,
    },
    /// A stream is gone.
    StreamRemove {
        /// Whose it was.
        uid: String,
        /// Which.
        mid: String,
        /// Why.
        reason: String,
    },
    /// Somebody said something.
    Broadcast {
        /// Who.
        uid: String,
        /// What.
        data: Value,
    },
}

/// Why a frame is none of the contract's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: {1}")]
pub struct Malformed(pub &'static str, pub String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

impl Place {
    /// Reads `epoch` and `seq` of an answer or a notification.
    pub fn read(data: &Value) -> Result<Self, Malformed> {
        let epoch = data["epoch"].as_str().ok_or_else(|| malformed("no epoch", data))?;
        let seq = data["seq"].as_u64().ok_or_else(|| malformed("no seq", data))?;
        Ok(Self { epoch: epoch.into(), seq })
    }
}

impl Notice {
    /// Reads a notification; `None` for those that are no part of the room's log.
    pub fn read(method: &str, data: &Value) -> Result<Option<(Place, Self)>, Malformed> {
        let text =
            |key: &str| data[key].as_str().map(str::to_owned).ok_or_else(|| malformed("a text is missing", data));
        let notice = match method {
            "peer-join" => Self::PeerJoin { uid: text("uid")? },
            "peer-leave" => Self::PeerLeave { uid: text("uid")? },
            "stream-add" => Self::StreamAdd {
                uid: text("uid")?,
                mid: text("mid")?,
                minfo: data["minfo"].clone(),
                recording: data["recording"].as_str().map(str::to_owned),
            },
            "recording" => Self::Recording {
                uid: text("uid")?,
                mid: text("mid")?,
                on: data["on"].as_bool().ok_or_else(|| malformed("on is missing", data))?,
                recording: text("recording")?,
            },
            "stream-update" => {
                Self::StreamUpdate { uid: text("uid")?, mid: text("mid")?, minfo: data["minfo"].clone() }
            }
            "stream-remove" => Self::StreamRemove { uid: text("uid")?, mid: text("mid")?, reason: text("reason")? },
            "broadcast" => Self::Broadcast { uid: text("uid")?, data: data["data"].clone() },
            _ => return Ok(None),
        };
        Ok(Some((Place::read(data)?, notice)))
    }

    /// Whom it is about: its cause, unless the server ended something by itself. Who had a stream recorded is not said.
    pub fn uid(&self) -> &str {
        match self {
            Self::PeerJoin { uid }
            | Self::PeerLeave { uid }
            | Self::StreamAdd { uid, .. }
            | Self::StreamUpdate { uid, .. }
            | Self::Recording { uid, .. }
            | Self::StreamRemove { uid, .. }
            | Self::Broadcast { uid, .. } => uid,
        }
    }

    /// Whether the one it is about caused it and is therefore not told. A stream that its node lost was ended by the server.
    pub fn is_own_of(&self, member: &str) -> bool {
        let by_server =
            matches!(self, Self::StreamRemove { reason, .. } if reason == "node_lost" || reason == "transport_ended");
        self.uid() == member && !by_server
    }
}

fn malformed(what: &'static str, data: &Value) -> Malformed {
    Malformed(what, data.to_string())
}
