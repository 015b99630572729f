//! What an edge leaves with a publication on its node, so that the stream's record can be made again from the node alone: its
//! description and its owner's session. Nodes give it back as it was; since what comes from a node comes from outside, it is read
//! as strictly as a request.
//!
//! `{"v":1,"session":"…","at_ms":…,"always_recorded":true,"minfo":{…}}`. A reader of version 1 ignores keys it does not know; what it could not do without them would
//! be another version.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::ids::SessionId;
use proto::json::depth_within;
use proto::signalling::{MAX_DEPTH, Minfo};
use room_store::Publication;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version written, and the only one read.
const VERSION: u32 = 1;
/// Most bytes that are read: what a node takes. The longest that is written is less than half of it.
const MAX_BYTES: usize = 16 * 1024;

/// Why metadata says nothing.
#[derive(Debug, Error)]
pub(crate) enum MetadataError {
    #[error("{0} bytes are too many")]
    TooLong(usize),
    #[error("it is not what an edge writes: {0}")]
    Malformed(String),
    #[error("it is of version {0}")]
    OtherVersion(u32),
}

/// What is known of a publication beside its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Its owner's session in the room.
    pub(crate) session: SessionId,
    /// When its edge saw a sign of that session, Unix time: when the socket was opened that published it, or when that changed the
    /// description. Of two sessions of one peer it tells the later. 0: its edge does not say so yet.
    pub(crate) at_ms: u64,
    /// It is recorded by order. An edge that does not say so yet knows no recordings.
    pub(crate) always_recorded: bool,
    pub(crate) minfo: Minfo,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    session: SessionId,
    #[serde(default)]
    at_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    always_recorded: bool,
    minfo: Minfo,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Metadata {
    /// What is to be known of a stream of this session.
    pub(crate) fn of(stream: &Publication, session: SessionId, at_ms: u64) -> Self {
        Self { session, at_ms, always_recorded: stream.always_recorded, minfo: stream.minfo.clone() }
    }

    /// As nodes keep it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self { session, at_ms, always_recorded, minfo } = self.clone();
        let written = Written { v: VERSION, session, at_ms, always_recorded, minfo };
        serde_json::to_vec(&written).expect("invariant: texts and a number under text keys are JSON")
    }

    /// What a node gave back.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > MAX_BYTES {
            return Err(MetadataError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| MetadataError::Malformed(error.to_string()))?;
        if !depth_within(text, MAX_DEPTH) {
            return Err(MetadataError::Malformed("it is nested too deep".to_owned()));
        }
        let malformed = |error: serde_json::Error| MetadataError::Malformed(error.to_string());
        let Version { v } = serde_json::from_str(text).map_err(malformed)?;
        if v != VERSION {
            return Err(MetadataError::OtherVersion(v));
        }
        let Written { session, at_ms, always_recorded, minfo, .. } = serde_json::from_str(text).map_err(malformed)?;
        Ok(Self { session, at_ms, always_recorded, minfo })
    }
}

/// Unix time.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::json::RawJson;

    use super::*;
    use crate::session::MAX_MINFO_BYTES;

    fn metadata(minfo: &str) -> Metadata {
        let raw = RawJson::new(minfo.to_owned()).expect("JSON");
        let (session, minfo) = (SessionId::of(7), Minfo::new(raw).expect("a minfo"));
        Metadata { session, at_ms: 1_700_000_000_000, always_recorded: true, minfo }
    }

    #[test]
    fn what_is_written_is_read_and_the_description_keeps_its_text() {
        for minfo in [r#"{"audio": true,"x": [1,  2.50]}"#, "{}", r#"{"muted":{"audio":true,"video":false}}"#] {
            let written = metadata(minfo);
            let read = Metadata::read(&written.to_bytes()).expect("our own");
            assert_eq!(read, written);
            assert_eq!(read.minfo.raw().get(), minfo);
        }
    }

    #[test]
    fn the_longest_that_is_published_fits() {
        let long = format!(r#"{{"x":"{}"}}"#, "y".repeat(MAX_MINFO_BYTES - 8));
        let written = metadata(&long).to_bytes();
        assert!(written.len() < MAX_BYTES / 2, "{}", written.len());
        assert!(Metadata::read(&written).is_ok());
    }

    #[test]
    fn a_reader_ignores_further_keys_and_refuses_other_versions_and_what_is_missing() {
        let read = |text: &str| Metadata::read(text.as_bytes()).map_err(|error| error.to_string());
        assert!(read(r#"{"v":1,"session":"abc","minfo":{},"later":1}"#).is_ok());
        assert_eq!(read(r#"{"v":2,"session":"abc"}"#), Err("it is of version 2".to_owned()));
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"audio":true}"#,
            r#"{"v":1}"#,
            r#"{"v":1,"session":"abc","minfo":[]}"#,
            r#"{"v":1,"session":"","minfo":{}}"#,
            r#"{"v":1,"session":"a\u0000","minfo":{}}"#,
            r#"{"v":1,"session":"abc","minfo":{"audio":1}}"#,
            r#"{"v":1,"session":"abc","at_ms":-1,"minfo":{}}"#,
            r#"{"v":-1,"session":"abc","minfo":{}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!(r#"{{"v":1,"session":"abc","minfo":{{"x":{}{}}}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert!(read(&deep).is_err());
        assert!(Metadata::read(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(Metadata::read(&[0xff, 0xfe]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_node_gives_back_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Metadata::read(&bytes);
        }
    }
}
