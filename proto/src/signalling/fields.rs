//! The fields of a request's `data`, read one by one into types; the first that is wrong refuses the request with the code
//! that the contract gives it.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::{
    ids::{IdError, Mid, OpId, Position, RoomId, SessionToken, Sid},
    json::RawJson,
    signalling::{
        ErrorCode, Minfo, Rejection,
        request::{AccessToken, Cursor, Offer},
    },
};

type Read<T> = Result<T, Rejection>;

/// `data` of a request. Unknown keys are never looked at; of a key given twice the last counts.
pub(super) struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// `None`: not an object.
    pub(super) fn of(data: &'a RawValue) -> Option<Self> {
        serde_json::from_str(data.get()).ok().map(Self)
    }

    /// The value's text. A `null` is as good as absent.
    fn raw(&self, key: &str) -> Option<&'a RawValue> {
        self.0.get(key).copied().filter(|value| value.get() != "null")
    }

    fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.raw(key)?.get()).ok()
    }

    fn id<T>(&self, key: &'static str, code: ErrorCode, new: fn(&str) -> Result<T, IdError>) -> Read<T> {
        let missing = || Rejection::new(code, format!("{key} is missing or not a string"));
        let text = self.text(key).ok_or_else(missing)?;
        new(&text).map_err(|error| Rejection::new(code, error.to_string()))
    }

    pub(super) fn rid(&self) -> Read<RoomId> {
        self.id("rid", ErrorCode::NotInRoom, |text| RoomId::new(text))
    }

    pub(super) fn mid(&self) -> Read<Mid> {
        self.id("mid", ErrorCode::BadMid, |text| Mid::new(text))
    }

    pub(super) fn sid(&self) -> Read<Sid> {
        self.id("sid", ErrorCode::BadSid, |text| Sid::new(text))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    pub(super) fn offer(&self) -> Read<Offer> {
        let fail = |reason| Rejection::new(ErrorCode::BadJsep, reason);
        let raw = self.raw("jsep").ok_or_else(|| fail("jsep is missing"))?;
        let fields: HashMap<String, &RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| fail("jsep is not an object"))?;
        let text = |key| fields.get(key).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
        match (text("type").as_deref(), text("sdp")) {
            (Some("offer"), Some(sdp)) => Ok(Offer(sdp)),
            (Some(_), Some(_)) => Err(fail("jsep.type is not \"offer\"")),
            _ => Err(fail("jsep.type or jsep.sdp is missing or not a string")),
        }
    }

    pub(super) fn minfo(&self) -> Read<Minfo> {
        let fail = |reason: String| Rejection::new(ErrorCode::BadMinfo, reason);
        let raw = self.raw("minfo").ok_or_else(|| fail("minfo is missing".into()))?;
        let raw = RawJson::new(raw.get()).map_err(|error| fail(error.to_string()))?;
        Minfo::new(raw).map_err(|error| fail(error.to_string()))
    }

    /// Any JSON value, `null` included.
    pub(super) fn verbatim(&self, key: &'static str) -> Read<RawJson> {
        let missing = || Rejection::new(ErrorCode::UnknownMethod, format!("{key} is missing"));
        let raw = self.0.get(key).ok_or_else(missing)?;
        RawJson::new(raw.get()).map_err(|error| Rejection::new(ErrorCode::Internal, error.to_string()))
    }

    /// What is not a boolean contradicts what a stream can be.
    pub(super) fn optional_bool(&self, key: &'static str) -> Read<Option<bool>> {
        let wrong = |_| Rejection::new(ErrorCode::BadMinfo, format!("{key} is not a boolean"));
        self.raw(key).map(|value| serde_json::from_str(value.get()).map_err(wrong)).transpose()
    }

    /// Without it nobody knows what is asked for.
    pub(super) fn required_bool(&self, key: &'static str) -> Read<bool> {
        let missing = || Rejection::new(ErrorCode::UnknownMethod, format!("{key} is missing or not a boolean"));
        self.raw(key).and_then(|value| serde_json::from_str(value.get()).ok()).ok_or_else(missing)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|value| value.get() == "true")
    }

    pub(super) fn session(&self) -> Option<SessionToken> {
        SessionToken::new(self.text("session")?).ok()
    }

    pub(super) fn access_token(&self) -> Read<AccessToken> {
        let missing = || Rejection::new(ErrorCode::Unauthenticated, "access_token is missing or not a string");
        self.text("access_token").map(AccessToken).ok_or_else(missing)
    }

    pub(super) fn since(&self) -> Option<Position> {
        let raw = self.raw("since")?;
        Some(serde_json::from_str(raw.get()).unwrap_or(Position::NONE))
    }

    /// A cursor is made of a uid and a mid: a malformed one is refused as the one its list is about.
    pub(super) fn cursor(&self, code: ErrorCode) -> Read<Option<Cursor>> {
        if !self.has("cursor") {
            return Ok(None);
        }
        let cursor = self.text("cursor").and_then(|text| Cursor::decode(&text));
        cursor.map(Some).ok_or_else(|| Rejection::new(code, "cursor is not one that was given"))
    }

    /// An `op` that can't be kept must not be passed over: its request could be done twice.
    pub(super) fn op(&self) -> Read<Option<OpId>> {
        if !self.has("op") {
            return Ok(None);
        }
        let refuse = || Rejection::new(ErrorCode::TooLarge, "op is not a string of 1 to 128 characters");
        let text = self.text("op").ok_or_else(refuse)?;
        OpId::new(text).map(Some).map_err(|_| refuse())
    }
}
