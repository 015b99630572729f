//! What is wrong with an offer, in words that its sender can act on.

use crate::{dtls::FingerprintError, ice::CredentialError};

/// Why an offer cannot be used. Line numbers count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The whole is too long.
    #[error("the SDP is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// There are more of something than any browser sends.
    #[error("line {line}: more than {limit} {what}")]
    TooMany {
        /// Where the bound was passed.
        line: usize,
        /// Plural noun.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A line does not follow the grammar.
    #[error("line {line}: {problem}")]
    Syntax {
        /// The line.
        line: usize,
        /// What it should have been.
        problem: &'static str,
    },
    /// A line carries a value that cannot be used.
    #[error("line {line}: {source}")]
    Credential {
        /// The line.
        line: usize,
        /// What is wrong with it.
        source: CredentialError,
    },
    /// There is no m-line.
    #[error("there is no m-line")]
    NoSections,
    /// Something is missing from the session and from the m-line that carries the transport.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// No `a=fingerprint` can be used.
    #[error("line {line}: {source}")]
    Fingerprint {
        /// The last such line.
        line: usize,
        /// What is wrong with it.
        source: FingerprintError,
    },
    /// Two m-lines have the same `a=mid`.
    #[error("line {line}: a=mid:{mid} is used twice")]
    DuplicateMid {
        /// The second one.
        line: usize,
        /// The identification tag.
        mid: Box<str>,
    },
    /// The offerer wants to be the DTLS server, or a lite agent.
    #[error("the offer says {0}, which leaves nobody to start")]
    Role(&'static str),
    /// An m-line that is to be used is not in the BUNDLE group.
    #[error("m-line {mid} is not in the a=group:BUNDLE")]
    NotBundled {
        /// Its identification tag.
        mid: Box<str>,
    },
    /// An m-line that is to be used does not offer rtcp-mux.
    #[error("m-line {mid} does not offer a=rtcp-mux")]
    NoRtcpMux {
        /// Its identification tag.
        mid: Box<str>,
    },
    /// Two m-lines of one transport give the same payload type or extension id different meanings.
    #[error("m-line {mid}: {what} means something else in another m-line")]
    Conflict {
        /// The later m-line's identification tag.
        mid: Box<str>,
        /// What is in conflict.
        what: &'static str,
    },
    /// No m-line can be used: each is refused, of a kind that was not asked for, or has no codec that is supported.
    #[error("no m-line can be used: opus/48000/2 and VP8/90000 over UDP/TLS/RTP/SAVPF are supported")]
    NothingUsable,
    /// The plans do not fit the offer, or the local description is incomplete. Not the offerer's fault.
    #[error("cannot answer: {0}")]
    BadPlan(&'static str),
    /// A restart offer has the credentials of the offer before.
    #[error("a restart needs new a=ice-ufrag and a=ice-pwd")]
    NotRestarted,
    /// A restart offer describes something else than the offer it restarts.
    #[error("a restart must not change {0}")]
    ChangedByRestart(&'static str),
}
