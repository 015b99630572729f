//! What a request can be refused with.

use std::{borrow::Cow, fmt, time::Duration};

/// The contract's error codes. Numbers and names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No such method, or `data` missing.
    UnknownMethod,
    /// `uid` missing or malformed.
    BadUid,
    /// `rid` missing or malformed, or the peer is not a member.
    NotInRoom,
    /// `mid` missing, unknown, or not this peer's own.
    BadMid,
    /// `sid` missing or not this peer's own.
    BadSid,
    /// `jsep` missing or of the wrong type.
    BadJsep,
    /// SDP unparsable or not usable.
    BadSdp,
    /// `minfo` missing or contradicts the SDP.
    BadMinfo,
    /// The SFU could not take the stream.
    PublishFailed,
    /// The SFU could not give the stream.
    SubscribeFailed,
    /// No SFU is available in any allowed region.
    NoSfu,
    /// Room state is out of reach for now.
    StoreUnavailable,
    /// The SFU did not answer in time.
    SfuUnreachable,
    /// Anything else.
    Internal,
    /// Token missing, invalid or expired.
    Unauthenticated,
    /// The token does not grant this.
    Forbidden,
    /// Room full, or a limit of the room is reached.
    Conflict,
    /// Message or field over its limit.
    TooLarge,
    /// Too many requests.
    RateLimited,
}

impl ErrorCode {
    /// All of them, by number.
    pub const ALL: [Self; 19] = [
        Self::UnknownMethod,
        Self::BadUid,
        Self::NotInRoom,
        Self::BadMid,
        Self::BadSid,
        Self::BadJsep,
        Self::BadSdp,
        Self::BadMinfo,
        Self::PublishFailed,
        Self::SubscribeFailed,
        Self::NoSfu,
        Self::StoreUnavailable,
        Self::SfuUnreachable,
        Self::Internal,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Conflict,
        Self::TooLarge,
        Self::RateLimited,
    ];

    /// `errorCode`.
    pub fn code(self) -> i32 {
        self.entry().0
    }

    /// `error`: a stable name for programs.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (i32, &'static str) {
        match self {
            Self::UnknownMethod => (-1, "unknown_method"),
            Self::BadUid => (1, "bad_uid"),
            Self::NotInRoom => (2, "not_in_room"),
            Self::BadMid => (3, "bad_mid"),
            Self::BadSid => (4, "bad_sid"),
            Self::BadJsep => (5, "bad_jsep"),
            Self::BadSdp => (6, "bad_sdp"),
            Self::BadMinfo => (7, "bad_minfo"),
            Self::PublishFailed => (8, "publish_failed"),
            Self::SubscribeFailed => (9, "subscribe_failed"),
            Self::NoSfu => (10, "no_sfu"),
            Self::StoreUnavailable => (11, "store_unavailable"),
            Self::SfuUnreachable => (12, "sfu_unreachable"),
            Self::Internal => (14, "internal"),
            Self::Unauthenticated => (401, "unauthenticated"),
            Self::Forbidden => (403, "forbidden"),
            Self::Conflict => (409, "conflict"),
            Self::TooLarge => (413, "too_large"),
            Self::RateLimited => (429, "rate_limited"),
        }
    }
}

/// A request refused: what its client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which error.
    pub code: ErrorCode,
    /// `errorReason`, for people.
    pub reason: Cow<'static, str>,
    /// When to try again; written as `data.retryAfterMs`.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    /// A refusal with a reason for people.
    pub fn new(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into(), retry_after: None }
    }

    /// [`ErrorCode::RateLimited`], with the time after which a request is taken again.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let reason = Cow::Borrowed("too many requests");
        Self { code: ErrorCode::RateLimited, reason, retry_after: Some(retry_after) }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.reason)
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_each_used_once() {
        for (index, one) in ErrorCode::ALL.iter().enumerate() {
            for other in &ErrorCode::ALL[index + 1..] {
                assert!(one.code() < other.code(), "in the order of the contract's table");
                assert_ne!(one.name(), other.name());
            }
        }
    }
}
