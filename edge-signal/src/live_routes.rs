//! `GET /live.json`, for [operators](crate::operators): who is in which room through this edge, with which streams, and how loaded the
//! nodes say they are. Only where one edge sees everything (`sluice`); a fleet has its dashboards.
//!
//! It shows no token, no address, and nothing that clients say to each other.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use proto::ids::{EdgeId, PeerId, RoomId};
use room_store::{Member, NodeDirectory, NodeRecord, NodeState, Publication};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::operators::{Operators, Refusal};
use crate::proxy_header::Caller;
use crate::rooms::{RoomShown, Rooms};

/// Rooms in one answer, at most and by default.
const PAGE: (usize, usize) = (500, 100);

/// What there is to see.
pub(crate) struct Scene {
    pub(crate) edge: EdgeId,
    pub(crate) rooms: Rooms,
    pub(crate) directory: Arc<dyn NodeDirectory>,
    /// A task per client's socket.
    pub(crate) connections: TaskTracker,
    pub(crate) operators: Arc<Operators>,
}

/// The route.
pub(crate) fn routes(scene: Scene) -> Router {
    Router::new().route("/live.json", get(show)).with_state(Arc::new(scene))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after: Option<String>,
}

async fn show(
    State(scene): State<Arc<Scene>>,
    Caller(caller): Caller,
    headers: HeaderMap,
    Query(Pages { limit, after }): Query<Pages>,
) -> Result<([(header::HeaderName, &'static str); 1], Json<Value>), Refusal> {
    scene.operators.admit(caller, &headers).await?;
    let wrong = |reason: &str| Refusal::new(StatusCode::BAD_REQUEST, "bad_request", reason);
    let limit = limit.unwrap_or(PAGE.1);
    if !(1..=PAGE.0).contains(&limit) {
        return Err(wrong("limit: 1 to 500"));
    }
    let after = after.map(|text| RoomId::new(&text).map_err(|_| wrong("after: no room's id"))).transpose()?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(scene.shown(after.as_ref(), limit))))
}

impl Scene {
    fn shown(&self, after: Option<&RoomId>, limit: usize) -> Value {
        let (rooms, more) = self.rooms.shown(after, limit);
        let map = self.directory.map();
        let mut answer = json!({
            "edge": {"id": self.edge, "version": env!("CARGO_PKG_VERSION"), "connections": self.connections.len()},
            "counts": self.rooms.counts(),
            "nodes": map.nodes.values().map(|node| node_shown(node)).collect::<Vec<_>>(),
            "rooms": rooms.iter().map(room_shown).collect::<Vec<_>>(),
        });
        if let (true, Some(last)) = (more, rooms.last()) {
            answer["more"] = last.id.as_str().into();
        }
        answer
    }
}

fn node_shown(node: &NodeRecord) -> Value {
    let load = &node.load;
    json!({
        "id": node.node,
        "region": node.region,
        "version": node.version,
        "state": match node.state {
            NodeState::Ready => "ready",
            NodeState::Draining => "draining",
        },
        "load": {
            "pressure": load.pressure,
            "cpu": load.cpu,
            "busy": load.busy,
            "memory": load.memory,
            "delay_us": load.delay_us,
            "egress_bps": load.egress_bps,
            "packets_per_second": load.packets_per_second,
            "tracks": load.tracks,
            "loss": load.loss,
        },
        "capacity": {"egress_bps": node.capacity.egress_bps, "tracks": node.capacity.tracks},
    })
}

fn room_shown(room: &RoomShown) -> Value {
    let mut streams: HashMap<&PeerId, Vec<Value>> = HashMap::new();
    for stream in &room.publications {
        streams.entry(&stream.owner).or_default().push(stream_shown(stream));
    }
    let mut member =
        |member: &Arc<Member>| json!({"uid": member.peer, "streams": streams.remove(&member.peer).unwrap_or_default()});
    json!({"rid": room.id, "members": room.members.iter().map(&mut member).collect::<Vec<_>>()})
}

fn stream_shown(stream: &Publication) -> Value {
    let muted = stream.minfo.muted();
    json!({
        "mid": stream.mid,
        "node": stream.placement.node,
        "audio": stream.minfo.audio().unwrap_or(true),
        "video": stream.minfo.video().unwrap_or(true),
        "muted": {"audio": muted.audio, "video": muted.video},
        "recorded": stream.recording.is_some(),
    })
}
