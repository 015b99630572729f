//! What an edge tells clients unasked.

use serde::Serialize;

use crate::{
    ids::{EdgeId, Mid, NodeId, PeerId, Position, RecordingId, RoomId},
    json::{self, RawJson},
    signalling::{Minfo, answer::Own},
};

/// A notification. Those with a [`Position`] are entries of the room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// A peer became a member.
    PeerJoin {
        /// The room.
        rid: RoomId,
        /// Who.
        uid: PeerId,
        /// Its edge: `bizid` and `signalid`.
        edge: EdgeId,
        /// Its place.
        position: Position,
    },
    /// A peer is no member any more.
    PeerLeave {
        /// The room.
        rid: RoomId,
        /// Who.
        uid: PeerId,
        /// Its place.
        position: Position,
    },
    /// A stream can be subscribed to.
    StreamAdd {
        /// The room.
        rid: RoomId,
        /// Whose.
        uid: PeerId,
        /// Which.
        mid: Mid,
        /// On which node.
        sfuid: NodeId,
        /// Its description.
        minfo: Minfo,
        /// The recording that is made of it.
        recording: Option<RecordingId>,
        /// Its place.
        position: Position,
    },
    /// A stream is gone.
    StreamRemove {
        /// The room.
        rid: RoomId,
        /// Whose it was.
        uid: PeerId,
        /// Which.
        mid: Mid,
        /// Why: a stable name.
        reason: &'static str,
        /// Its place.
        position: Position,
    },
    /// A stream's description is another.
    StreamUpdate {
        /// The room.
        rid: RoomId,
        /// Whose.
        uid: PeerId,
        /// Which.
        mid: Mid,
        /// Its description.
        minfo: Minfo,
        /// Its place.
        position: Position,
    },
    /// A stream is recorded from now on, or no longer.
    Recording {
        /// The room.
        rid: RoomId,
        /// Whose stream.
        uid: PeerId,
        /// Which.
        mid: Mid,
        /// Whether it is recorded.
        on: bool,
        /// Which recording has begun or ended.
        recording: RecordingId,
        /// Its place.
        position: Position,
    },
    /// A member says something.
    Broadcast {
        /// The room.
        rid: RoomId,
        /// Who.
        uid: PeerId,
        /// What, verbatim.
        data: RawJson,
        /// Its place.
        position: Position,
    },
    /// To a joiner: what survived of its own, where that was too long for the answer.
    Own {
        /// The room.
        rid: RoomId,
        /// The next of it.
        own: Own,
    },
    /// To the owner of a stream: publish again, its node is going away or gone.
    StreamMigrate {
        /// The room.
        rid: RoomId,
        /// Which.
        mid: Mid,
        /// Why.
        reason: &'static str,
    },
    /// To a peer that is put out of a room.
    PeerKick {
        /// The room.
        rid: RoomId,
        /// Who.
        uid: PeerId,
        /// Why.
        reason: &'static str,
    },
    /// To a peer whose token ends.
    TokenExpiring {
        /// In how many milliseconds.
        in_ms: u64,
    },
}

impl Notification {
    /// The names of all.
    pub const METHODS: [&'static str; 11] = [
        "peer-join",
        "peer-leave",
        "stream-add",
        "stream-remove",
        "stream-update",
        "broadcast",
        "own",
        "stream-migrate",
        "peer-kick",
        "token-expiring",
        "recording",
    ];

    /// Its method's name.
    pub fn method(&self) -> &'static str {
        match self {
            Self::PeerJoin { .. } => Self::METHODS[0],
            Self::PeerLeave { .. } => Self::METHODS[1],
            Self::StreamAdd { .. } => Self::METHODS[2],
            Self::StreamRemove { .. } => Self::METHODS[3],
            Self::StreamUpdate { .. } => Self::METHODS[4],
            Self::Broadcast { .. } => Self::METHODS[5],
            Self::Own { .. } => Self::METHODS[6],
            Self::StreamMigrate { .. } => Self::METHODS[7],
            Self::PeerKick { .. } => Self::METHODS[8],
            Self::TokenExpiring { .. } => Self::METHODS[9],
            Self::Recording { .. } => Self::METHODS[10],
        }
    }

    /// The frame. The same for every client it goes to: write it once.
    pub fn to_frame(&self) -> String {
        #[derive(Serialize)]
        struct Frame<'a> {
            notification: bool,
            method: &'static str,
            data: Body<'a>,
        }
        let frame = Frame { notification: true, method: self.method(), data: self.body() };
        json::frame(&frame)
    }

    fn body(&self) -> Body<'_> {
        let mut data = Body::default();
        match self {
            Self::PeerJoin { rid, uid, edge, position } => {
                data = Body { bizid: Some(edge), signalid: Some(edge), ..data.of(rid, uid, *position) };
            }
            Self::PeerLeave { rid, uid, position } => data = data.of(rid, uid, *position),
            Self::StreamAdd { rid, uid, mid, sfuid, minfo, recording, position } => {
                let of = data.of(rid, uid, *position);
                let recording = recording.as_ref();
                data = Body { mid: Some(mid), sfuid: Some(sfuid), minfo: Some(minfo), recording, ..of };
            }
            Self::StreamRemove { rid, uid, mid, reason, position } => {
                data = Body { mid: Some(mid), reason: Some(reason), ..data.of(rid, uid, *position) };
            }
            Self::StreamUpdate { rid, uid, mid, minfo, position } => {
                data = Body { mid: Some(mid), minfo: Some(minfo), ..data.of(rid, uid, *position) };
            }
            Self::Recording { rid, uid, mid, on, recording, position } => {
                let of = data.of(rid, uid, *position);
                data = Body { mid: Some(mid), on: Some(*on), recording: Some(recording), ..of };
            }
            Self::Broadcast { rid, uid, data: said, position } => {
                data = Body { data: Some(said), ..data.of(rid, uid, *position) };
            }
            Self::Own { rid, own } => data = Body { rid: Some(rid), own: Some(own), ..data },
            Self::StreamMigrate { rid, mid, reason } => {
                data = Body { rid: Some(rid), mid: Some(mid), reason: Some(reason), ..data };
            }
            Self::PeerKick { rid, uid, reason } => {
                data = Body { rid: Some(rid), uid: Some(uid), reason: Some(reason), ..data };
            }
            Self::TokenExpiring { in_ms } => data.in_ms = Some(*in_ms),
        }
        data
    }
}

/// Every field a notification can have, in the order they are written; those it hasn't are left out.
#[derive(Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    rid: Option<&'a RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a PeerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<&'a Mid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sfuid: Option<&'a NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bizid: Option<&'a EdgeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signalid: Option<&'a EdgeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minfo: Option<&'a Minfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<&'a RecordingId>,
    #[serde(flatten)]
    own: Option<&'a Own>,
    #[serde(rename = "inMs", skip_serializing_if = "Option::is_none")]
    in_ms: Option<u64>,
    #[serde(flatten)]
    position: Option<Position>,
}

impl<'a> Body<'a> {
    fn of(self, rid: &'a RoomId, uid: &'a PeerId, position: Position) -> Self {
        Self { rid: Some(rid), uid: Some(uid), position: Some(position), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Seq};

    #[test]
    fn frames_are_as_the_contract_has_them() {
        let rid = RoomId::new("r").expect("valid");
        let uid = PeerId::new("u").expect("valid");
        let edge = EdgeId::new("e").expect("valid");
        let position = Position { epoch: Epoch::of(1), seq: Seq::new(7).expect("small") };
        let join = Notification::PeerJoin { rid: rid.clone(), uid: uid.clone(), edge, position };
        assert_eq!(
            join.to_frame(),
            r#"{"notification":true,"method":"peer-join","data":{"rid":"r","uid":"u","bizid":"e","signalid":"e","epoch":"0000000000000001","seq":7}}"#
        );
        let data = RawJson::new("[1e400, null]").expect("JSON");
        let broadcast = Notification::Broadcast { rid: rid.clone(), uid, data, position };
        assert_eq!(
            broadcast.to_frame(),
            r#"{"notification":true,"method":"broadcast","data":{"rid":"r","uid":"u","data":[1e400, null],"epoch":"0000000000000001","seq":7}}"#
        );
        let recording = RecordingId::new("R1").expect("valid");
        let mid = Mid::new("u#1").expect("valid");
        let (rid2, uid2) = (rid.clone(), PeerId::new("u").expect("valid"));
        assert_eq!(
            Notification::Recording { rid: rid2, uid: uid2, mid, on: true, recording, position }.to_frame(),
            r#"{"notification":true,"method":"recording","data":{"rid":"r","uid":"u","mid":"u#1","on":true,"recording":"R1","epoch":"0000000000000001","seq":7}}"#
        );
        let own = Own { more: true, ..Own::default() };
        assert_eq!(
            Notification::Own { rid: rid.clone(), own }.to_frame(),
            r#"{"notification":true,"method":"own","data":{"rid":"r","pubs":[],"subs":[],"more":true}}"#
        );
        assert_eq!(
            Notification::TokenExpiring { in_ms: 60_000 }.to_frame(),
            r#"{"notification":true,"method":"token-expiring","data":{"inMs":60000}}"#
        );
    }

    #[test]
    fn a_broadcast_of_null_is_written() {
        let rid = RoomId::new("r").expect("valid");
        let uid = PeerId::new("u").expect("valid");
        let data = RawJson::new("null").expect("JSON");
        let frame = Notification::Broadcast { rid, uid, data, position: Position::NONE }.to_frame();
        assert!(frame.contains(r#""data":null"#), "{frame}");
    }
}
