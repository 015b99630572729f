//! Text frames from clients, read into requests.
//!
//! Everything here is linear in the frame's length and needs no stack in proportion to its nesting.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::{
    ids::OpId,
    json::{RawJson, depth_within},
    signalling::{
        ErrorCode, Rejection,
        fields::Fields,
        request::{Join, Publish, Request, StreamRef, Subscribe},
    },
};

/// Longest inbound frame, in bytes.
pub const MAX_INBOUND_BYTES: usize = 256 * 1024;

/// Longest id that is echoed: more digits than any number type of any client has.
pub const MAX_ID_BYTES: usize = 64;
/// Deepest nesting of an inbound frame. Other clients have to read what is passed on.
pub const MAX_DEPTH: usize = 64;

/// A request's id: a JSON number, echoed as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(RawJson);

impl RequestId {
    /// Takes any JSON number of at most [`MAX_ID_BYTES`], of any size and precision.
    pub fn new(raw: RawJson) -> Option<Self> {
        let text = raw.get();
        let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        (is_number && text.len() <= MAX_ID_BYTES).then_some(Self(raw))
    }

    /// The number's text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    pub(super) fn raw(&self) -> &RawJson {
        &self.0
    }
}

/// A frame of a known kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// To answer with. `None`: sent as a notification, carried out without an answer.
    pub id: Option<RequestId>,
    /// The client's name for its intent.
    pub op: Option<OpId>,
    /// Its method's name, one of [`methods`]; `None`: of no known method.
    pub method: Option<&'static str>,
    /// What is asked for, or why it can't be.
    pub request: Result<Request, Rejection>,
}

/// Why a frame is dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Dropped {
    /// Not JSON, or not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// None of a request, a notification.
    #[error("of no known kind")]
    UnknownKind,
    /// A request whose id is missing, no number or longer than any: an answer would find nobody.
    #[error("a request without a numeric id")]
    NoId,
    /// An answer, to nothing that was asked.
    #[error("an answer to no question")]
    Response,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NotAnObject, Self::UnknownKind, Self::NoId, Self::Response];

    /// Stable name, for a counter.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::UnknownKind => "unknown_kind",
            Self::NoId => "no_id",
            Self::Response => "response",
        }
    }
}

/// Reads a text frame. A frame over [`MAX_INBOUND_BYTES`] or [`MAX_DEPTH`] is refused, but with its id, if one can be found.
pub fn parse(text: &str) -> Result<Inbound, Dropped> {
    let frame: HashMap<String, &RawValue> = serde_json::from_str(text).map_err(|_| Dropped::NotAnObject)?;
    let says = |key: &str| frame.get(key).is_some_and(|value| value.get() == "true");
    let id = if says("request") {
        let raw = frame.get("id").and_then(|raw| RawJson::new(raw.get()).ok());
        Some(raw.and_then(RequestId::new).ok_or(Dropped::NoId)?)
    } else if says("notification") {
        None
    } else if says("response") {
        return Err(Dropped::Response);
    } else {
        return Err(Dropped::UnknownKind);
    };
    let named = frame.get("method").and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let method = named.and_then(|named| METHODS.iter().find(|(name, _)| *name == named));
    let data = frame.get("data").copied();
    let (op, request) = match check_bounds(text).and_then(|()| read(method, data)) {
        Ok((op, request)) => (op, Ok(request)),
        Err(rejection) => (None, Err(rejection)),
    };
    Ok(Inbound { id, op, method: method.map(|(name, _)| *name), request })
}

/// The names of all methods.
pub fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

fn check_bounds(text: &str) -> Result<(), Rejection> {
    let refuse = |reason| Err(Rejection::new(ErrorCode::TooLarge, reason));
    if text.len() > MAX_INBOUND_BYTES {
        return refuse("the message is longer than 256 KiB");
    }
    if !depth_within(text, MAX_DEPTH) {
        return refuse("the message is nested more than 64 deep");
    }
    Ok(())
}

fn read(method: Option<&Method>, data: Option<&RawValue>) -> Result<(Option<OpId>, Request), Rejection> {
    let (_, reader) = method.ok_or_else(|| Rejection::new(ErrorCode::UnknownMethod, "no such method"))?;
    let missing = || Rejection::new(ErrorCode::UnknownMethod, "data is missing or not an object");
    let fields = data.and_then(Fields::of).ok_or_else(missing)?;
    let request = reader(&fields)?;
    Ok((fields.op()?, request))
}

/// A name, and how its data is read.
type Method = (&'static str, fn(&Fields<'_>) -> Result<Request, Rejection>);

const METHODS: [Method; 14] = [
    ("join", |f| {
        let rid = f.rid()?;
        Ok(Request::Join(Join { rid, session: f.session(), since: f.since(), paging: f.flag("paging") }))
    }),
    ("leave", |f| Ok(Request::Leave { rid: f.rid()? })),
    ("keepalive", |f| Ok(Request::KeepAlive { rid: f.rid()? })),
    ("publish", |f| Ok(Request::Publish(Publish { rid: f.rid()?, offer: f.offer()?, minfo: f.minfo()? }))),
    ("unpublish", |f| Ok(Request::Unpublish { rid: f.rid()?, mid: f.mid()? })),
    ("subscribe", |f| Ok(Request::Subscribe(Subscribe { rid: f.rid()?, mid: f.mid()?, offer: f.offer()? }))),
    ("unsubscribe", |f| Ok(Request::Unsubscribe { rid: f.rid()?, mid: f.mid()?, sid: f.sid()? })),
    ("broadcast", |f| Ok(Request::Broadcast { rid: f.rid()?, data: f.verbatim("data")? })),
    ("getusers", |f| Ok(Request::GetUsers { rid: f.rid()?, cursor: f.cursor(ErrorCode::BadUid)? })),
    ("getpubs", |f| Ok(Request::GetPubs { rid: f.rid()?, cursor: f.cursor(ErrorCode::BadMid)? })),
    ("restart", |f| Ok(Request::Restart { rid: f.rid()?, stream: stream(f)?, offer: f.offer()? })),
    ("refresh", |f| Ok(Request::Refresh { access_token: f.access_token()? })),
    ("mute", |f| {
        let (rid, mid) = (f.rid()?, f.mid()?);
        Ok(Request::Mute { rid, mid, audio: f.optional_bool("audio")?, video: f.optional_bool("video")? })
    }),
    ("record", |f| Ok(Request::Record { rid: f.rid()?, mid: f.mid()?, on: f.required_bool("on")? })),
];

/// A `sid` names a subscription, also when the `mid` it is to stands beside it.
fn stream(fields: &Fields<'_>) -> Result<StreamRef, Rejection> {
    if fields.has("sid") { fields.sid().map(StreamRef::Subscription) } else { fields.mid().map(StreamRef::Publication) }
}
