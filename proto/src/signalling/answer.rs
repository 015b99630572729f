//! Answers to requests, as frames.
//!
//! What goes out of several places is a type here; frames are written whole, never patched together by hand.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    ids::{EdgeId, Mid, NodeId, PeerId, Position, RecordingId, RoomId, SessionToken, Sid},
    json::{self, RawJson},
    signalling::{Cursor, Minfo, Rejection, RequestId},
};

/// The frame of a request that was carried out. `data` writes an object.
pub fn accepted(id: &RequestId, data: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Frame<'a, T> {
        response: bool,
        id: &'a RawJson,
        ok: bool,
        data: &'a T,
    }
    let frame = Frame { response: true, id: id.raw(), ok: true, data };
    json::frame(&frame)
}

/// The frame of a request that was refused.
pub fn refused(id: &RequestId, rejection: &Rejection) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Retry {
        retry_after_ms: u64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Frame<'a> {
        response: bool,
        id: &'a RawJson,
        ok: bool,
        error_code: i32,
        error_reason: &'a str,
        error: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Retry>,
    }
    // Rounded up: who waits exactly so long must not come too early.
    let retry = |after: Duration| Retry { retry_after_ms: after.as_nanos().div_ceil(1_000_000) as u64 };
    let frame = Frame {
        response: true,
        id: id.raw(),
        ok: false,
        error_code: rejection.code.code(),
        error_reason: &rejection.reason,
        error: rejection.code.name(),
        data: rejection.retry_after.map(retry),
    };
    json::frame(&frame)
}

/// `{}`: carried out, nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Done {}

/// An SDP answer as a `jsep`.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(pub String);

impl std::fmt::Debug for Answer {
    /// Without the SDP, which carries addresses and passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut jsep = serializer.serialize_struct("Answer", 2)?;
        jsep.serialize_field("type", "answer")?;
        jsep.serialize_field("sdp", &self.0)?;
        jsep.end()
    }
}

/// An entry of `users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The room.
    pub rid: RoomId,
    /// Who.
    pub uid: PeerId,
    /// Its edge: `signalid` and `bizid`.
    pub edge: EdgeId,
}

impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut user = serializer.serialize_struct("User", 4)?;
        user.serialize_field("rid", &self.rid)?;
        user.serialize_field("uid", &self.uid)?;
        user.serialize_field("signalid", &self.edge)?;
        user.serialize_field("bizid", &self.edge)?;
        user.end()
    }
}

/// An entry of `pubs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pub {
    /// The room.
    pub rid: RoomId,
    /// Whose.
    pub uid: PeerId,
    /// Which.
    pub mid: Mid,
    /// On which node.
    pub sfuid: NodeId,
    /// Its description.
    pub minfo: Minfo,
    /// The recording that is made of it. Written only when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
}

/// An entry of `own.subs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sub {
    /// Which.
    pub sid: Sid,
    /// To which stream.
    pub mid: Mid,
    /// On which node.
    pub sfuid: NodeId,
}

/// What survived of a joiner's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Own {
    /// Its streams.
    pub pubs: Vec<Pub>,
    /// Its subscriptions.
    pub subs: Vec<Sub>,
    /// Whether an `own` notification goes on with them. Written only when true.
    #[serde(skip_serializing_if = "is_false")]
    pub more: bool,
}

/// Answer to `join`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JoinAnswer {
    /// Others' streams.
    pub pubs: Vec<Pub>,
    /// Other members.
    pub users: Vec<User>,
    /// What survived of its own.
    pub own: Own,
    /// To resume with.
    pub session: SessionToken,
    /// Where the room's log is: `epoch` and `seq`.
    #[serde(flatten)]
    pub position: Position,
    /// How long the session outlives its socket, in seconds.
    pub grace: f64,
    /// The missed notifications can't be told; the snapshot is the truth. Written only when true.
    #[serde(skip_serializing_if = "is_false")]
    pub resync: bool,
    /// Where the lists go on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "encode_cursor")]
    pub more: Option<Cursor>,
    /// How many notifications go on with the lists. Written only where there are such.
    #[serde(skip_serializing_if = "is_zero")]
    pub rest: usize,
}

/// Answer to `publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishAnswer {
    /// The SFU's answer.
    pub jsep: Answer,
    /// The new stream.
    pub mid: Mid,
    /// Its node.
    pub sfuid: NodeId,
    /// The recording that is made of it. Written only when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
}

/// Answer to `record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordAnswer {
    /// The recording that is made, or has ended. Written only when there is, or was, one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
}

/// Answer to `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscribeAnswer {
    /// The SFU's answer.
    pub jsep: Answer,
    /// The new subscription.
    pub sid: Sid,
    /// Its node.
    pub sfuid: NodeId,
}

/// Answer to `restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestartAnswer {
    /// The SFU's answer.
    pub jsep: Answer,
}

/// Answer to `getusers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsersAnswer {
    /// Other members.
    pub users: Vec<User>,
    /// Where the list goes on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "encode_cursor")]
    pub more: Option<Cursor>,
}

/// Answer to `getpubs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PubsAnswer {
    /// Others' streams.
    pub pubs: Vec<Pub>,
    /// Where the list goes on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "encode_cursor")]
    pub more: Option<Cursor>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

#[allow(clippy::ref_option, reason = "serde gives a reference")]
fn encode_cursor<S: Serializer>(cursor: &Option<Cursor>, serializer: S) -> Result<S::Ok, S::Error> {
    cursor.as_ref().map(Cursor::encode).serialize(serializer)
}
