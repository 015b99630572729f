//! Life events: what happened to rooms, members, streams, recordings and nodes, each told once, by who caused it. `docs/events.md` says
//! what holds for them, `docs/events.schema.json` how each is written. Not logs: they have a topic of their own and a version, and
//! others' programs count on them.

mod sink;

use std::time::Duration;

use proto::ids::{BootId, EdgeId, Epoch, Mid, NodeId, PeerId, Position, RecordingId, RegionId, RoomId, Seq, Sid};
use serde::Serialize;
use serde_json::Value;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

pub use self::sink::{EventOut, EventSink};

/// Version of the schema. A field or a kind that is added does not change it; whoever reads ignores what it does not know.
const VERSION: u8 = 1;

/// What happened. Each kind has one constructor, which takes exactly what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    version: u8,
    id: String,
    time: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    teller: Option<Teller>,
    #[serde(flatten)]
    subject: Subject,
    #[serde(flatten)]
    detail: Detail,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Teller {
    service: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<EdgeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeId>,
}

impl Teller {
    /// An edge, in a program of this name.
    pub fn edge(service: &'static str, edge: EdgeId) -> Self {
        Self { service, edge: Some(edge), node: None }
    }

    /// A node, in a program of this name.
    pub fn node(service: &'static str, node: NodeId) -> Self {
        Self { service, edge: None, node: Some(node) }
    }

    /// Its own id: the key of what is about no room.
    fn id(&self) -> &str {
        let edge = self.edge.as_ref().map(EdgeId::as_str);
        edge.or_else(|| self.node.as_ref().map(NodeId::as_str)).unwrap_or(self.service)
    }
}

/// What it is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Subject {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<PeerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Mid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<Sid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<RecordingId>,
}

/// What else is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    sfuid: Option<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    restored: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<RegionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<BootId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    software: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Where in a room something happened.
#[derive(Debug, Clone, Copy)]
pub struct InRoom<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// Where its log was then.
    pub position: Position,
    /// Nothing happened but that the room store learnt again what it had lost.
    pub restored: bool,
}

/// A recording, and whose stream it is of.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// The stream's owner.
    pub peer: &'a PeerId,
    /// The stream.
    pub stream: &'a Mid,
    /// The recording.
    pub recording: &'a RecordingId,
}

impl Event {
    fn new(kind: &'static str, subject: Subject, detail: Detail) -> Self {
        let id = format!("{:032x}", rand::random::<u128>());
        Self { version: VERSION, id, time: now(), kind, teller: None, subject, detail, trace: None }
    }

    fn in_room(kind: &'static str, at: InRoom<'_>, subject: Subject, detail: Detail) -> Self {
        let InRoom { room, position: Position { epoch, seq }, restored } = at;
        let subject = Subject { room: Some(room.clone()), epoch: Some(epoch), seq: Some(seq), ..subject };
        Self::new(kind, subject, Detail { restored, ..detail })
    }

    fn of_recording(kind: &'static str, of: Recorded<'_>, detail: Detail) -> Self {
        let subject = Subject {
            room: Some(of.room.clone()),
            peer: Some(of.peer.clone()),
            stream: Some(of.stream.clone()),
            recording: Some(of.recording.clone()),
            ..Subject::default()
        };
        Self::new(kind, subject, detail)
    }

    /// Somebody is in the room, where nobody was.
    pub fn room_opened(at: InRoom<'_>) -> Self {
        Self::in_room("room-opened", at, Subject::default(), Detail::default())
    }

    /// Nobody is in the room any more.
    pub fn room_closed(at: InRoom<'_>) -> Self {
        Self::in_room("room-closed", at, Subject::default(), Detail::default())
    }

    /// A peer's session began.
    pub fn peer_joined(at: InRoom<'_>, peer: &PeerId) -> Self {
        Self::in_room("peer-joined", at, Subject::peer(peer), Detail::default())
    }

    /// A peer's session ended.
    pub fn peer_left(at: InRoom<'_>, peer: &PeerId, reason: &'static str) -> Self {
        Self::in_room("peer-left", at, Subject::peer(peer), Detail::because(reason))
    }

    /// A stream can be subscribed to; it enters at a node.
    pub fn stream_published(at: InRoom<'_>, owner: &PeerId, stream: &Mid, node: &NodeId) -> Self {
        Self::in_room("stream-published", at, Subject::stream(owner, stream), Detail::on(node))
    }

    /// A stream ended.
    pub fn stream_unpublished(at: InRoom<'_>, owner: &PeerId, stream: &Mid, reason: &'static str) -> Self {
        Self::in_room("stream-unpublished", at, Subject::stream(owner, stream), Detail::because(reason))
    }

    /// A peer is sent a stream; it leaves by a node.
    pub fn stream_subscribed(at: InRoom<'_>, peer: &PeerId, subscription: &Sid, stream: &Mid, node: &NodeId) -> Self {
        let subject = Subject { subscription: Some(subscription.clone()), ..Subject::stream(peer, stream) };
        Self::in_room("stream-subscribed", at, subject, Detail::on(node))
    }

    /// A peer is sent a stream no more.
    pub fn stream_unsubscribed(
        at: InRoom<'_>,
        peer: &PeerId,
        subscription: &Sid,
        stream: &Mid,
        reason: &'static str,
    ) -> Self {
        let subject = Subject { subscription: Some(subscription.clone()), ..Subject::stream(peer, stream) };
        Self::in_room("stream-unsubscribed", at, subject, Detail::because(reason))
    }

    /// A stream's owner is told to publish it again, as its node is going away.
    pub fn stream_migrating(room: &RoomId, owner: &PeerId, stream: &Mid, node: &NodeId, reason: &'static str) -> Self {
        let subject = Subject { room: Some(room.clone()), ..Subject::stream(owner, stream) };
        Self::new("stream-migrating", subject, Detail { reason: Some(reason), ..Detail::on(node) })
    }

    /// A recording began.
    pub fn recording_started(of: Recorded<'_>) -> Self {
        Self::of_recording("recording-started", of, Detail::default())
    }

    /// A recording ended. `error`: what failed, if that is why.
    pub fn recording_ended(of: Recorded<'_>, reason: &'static str, duration: Duration, error: Option<String>) -> Self {
        let duration_ms = u64::try_from(duration.as_millis()).ok();
        Self::of_recording("recording-ended", of, Detail { duration_ms, error, ..Detail::because(reason) })
    }

    /// A recording's files are where they belong, at `url`; `manifest` as it lies beside them.
    pub fn recording_delivered(of: Recorded<'_>, url: String, manifest: Value) -> Self {
        let detail = Detail { url: Some(url), manifest: Some(manifest), ..Detail::default() };
        Self::of_recording("recording-delivered", of, detail)
    }

    /// A node takes calls. `software`: its version.
    pub fn node_up(region: &RegionId, boot: &BootId, software: &'static str) -> Self {
        let detail = Detail { software: Some(software), ..Detail::node(region, boot) };
        Self::new("node-up", Subject::default(), detail)
    }

    /// A node takes no new streams, and ends what is left in this time.
    pub fn node_draining(region: &RegionId, boot: &BootId, left: Duration) -> Self {
        let deadline_ms = u64::try_from(left.as_millis()).ok();
        Self::new("node-draining", Subject::default(), Detail { deadline_ms, ..Detail::node(region, boot) })
    }

    /// A node has ended in order. (One that dies tells nobody.)
    pub fn node_down(region: &RegionId, boot: &BootId) -> Self {
        Self::new("node-down", Subject::default(), Detail::node(region, boot))
    }

    /// The same with this id, for what may be told more than once.
    #[must_use]
    pub fn with_id(self, id: u128) -> Self {
        Self { id: format!("{id:032x}"), ..self }
    }

    /// Its kind: `peer-joined`, …
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl Subject {
    fn peer(peer: &PeerId) -> Self {
        Self { peer: Some(peer.clone()), ..Self::default() }
    }

    fn stream(peer: &PeerId, stream: &Mid) -> Self {
        Self { stream: Some(stream.clone()), ..Self::peer(peer) }
    }
}

impl Detail {
    fn because(reason: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::default() }
    }

    fn on(node: &NodeId) -> Self {
        Self { sfuid: Some(node.clone()), ..Self::default() }
    }

    fn node(region: &RegionId, boot: &BootId) -> Self {
        Self { region: Some(region.clone()), boot: Some(boot.clone()), ..Self::default() }
    }
}

/// As RFC 3339 writes it, in UTC, to the microsecond.
fn now() -> String {
    let mut text = String::new();
    // A string takes all that is written.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
