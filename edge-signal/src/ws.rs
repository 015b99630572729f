//! `/ws`: who is let in, and how those are told that are not (signalling contract, section 1). Who can never be accepted is
//! upgraded and closed with 4000; who cannot be accepted now gets 503 and `Retry-After` before the upgrade.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proto::ids::{PeerId, RegionId};
use room_store::ConnectionId;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::auth::Access;
use crate::connection::{Shared, proven, serve};
use crate::gate::{Gate, Place, Refusal};
use crate::handshake::{Knock, PROTOO, read};
use crate::metrics::{EdgeMetrics, Refused};
use crate::nodes::unix_ms;
use crate::origin;
use crate::overload::Overload;
use crate::pipe::Pipe;
use crate::presence::{Presence, Present, TooManySockets};
use crate::proxies::{Network, client_address};
use crate::proxy_header::Caller;
use crate::session::{CLOSE_FINAL, Identity};
use crate::sockets::Reset;

/// Longest message read at all. Those over the contract's 256 KiB are answered with an error as long as they are within it;
/// past it the connection ends.
const MAX_MESSAGE_BYTES: usize = 5 * 256 * 1024;
/// Read buffer of a connection, allocated with it: most frames are a few hundred bytes, and there are many connections. An offer
/// is read in several calls.
const READ_BUFFER_BYTES: usize = 1024;
/// Write buffer of a connection.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// When a client comes back that was refused because the edge is full or going away.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// When one does that was refused because the edge is overloaded: it may be over in a second, and other edges may have room now.
const RETRY_OVERLOADED: Duration = Duration::from_secs(2);

/// What the upgrade needs.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) overload: Overload,
    pub(crate) gate: Gate,
    pub(crate) presence: Presence,
    pub(crate) trusted_proxies: Vec<Network>,
    /// Only pages of this machine are let in: nobody is asked for a token.
    pub(crate) local_only: bool,
    /// Number of the next connection; begins anywhere, so that an edge that is started again uses none a second time.
    pub(crate) next_connection: AtomicU64,
    pub(crate) connections: TaskTracker,
}

/// The handler of `/ws`.
pub(crate) async fn upgrade(
    State(door): State<Arc<Door>>,
    Caller(caller): Caller,
    Extension(reset): Extension<Reset>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let metrics = &door.shared.metrics;
    if door.shared.departures.borrow().is_some() {
        return later(metrics, Refused::Draining, RETRY_AFTER);
    }
    // Before the gate: who is refused for this has used up none of what its address may open.
    if door.overload.is_on() {
        return later(metrics, Refused::Overloaded, RETRY_OVERLOADED);
    }
    let address = client_address(caller, &headers, &door.trusted_proxies);
    let place = match door.gate.enter(Some(address), Instant::now()) {
        Ok(place) => place,
        Err(refusal) => return refuse(metrics, refusal),
    };
    let stranger = if door.local_only { origin::check(&headers).err().map(ToString::to_string) } else { None };
    let knock = read(&query, &headers);
    let stranger = stranger.or_else(|| knock.region.as_ref().err().map(ToString::to_string));
    let region = knock.region.clone().unwrap_or_default();
    let mut upgrade = upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    if knock.offers_protoo {
        upgrade.set_selected_protocol(HeaderValue::from_static(PROTOO));
    }
    let let_in = match stranger {
        Some(reason) => Err(reason),
        None => match check(&door, knock).await {
            Ok(Ok(client)) => match door.presence.enter(&client.0, Instant::now()) {
                Ok(present) => Ok((client, present)),
                Err(TooManySockets) => return later(metrics, Refused::Uid, RETRY_AFTER),
            },
            Ok(Err(reason)) => Err(reason),
            Err((why, retry_after)) => return later(metrics, why, retry_after),
        },
    };
    // In a task of its own: the one that upgrades is as large as all that upgrading needs, for as long as it lives.
    upgrade.on_upgrade(move |socket| {
        let tasks = door.connections.clone();
        let pipe = Pipe::new(socket, door.shared.queued_bytes, reset, &door.shared.measures);
        match let_in {
            Ok(((peer, access), present)) => {
                drop(tasks.spawn(welcome(door, pipe, (peer, region, access), present, place)));
            }
            Err(reason) => drop(tasks.spawn(turn_away(door, pipe, reason, place))),
        }
        ready(())
    })
}

/// Who knocks, or the reason why that one never gets in; `Err`: when to find out, and why not now.
async fn check(door: &Door, knock: Knock) -> Result<Result<(PeerId, Access), String>, (Refused, Duration)> {
    let peer = match knock.peer {
        Ok(peer) => peer,
        Err(error) => return Ok(Err(error.to_string())),
    };
    match door.shared.admission.prove(knock.token.as_deref(), Some(&peer)).await {
        Ok(access) => Ok(Ok((peer, access))),
        Err(error) => error.for_now().map_or_else(|| Ok(Err(error.to_string())), Err),
    }
}

type Guest = (PeerId, Option<RegionId>, Access);

/// No `async fn`, for that would keep a place for each argument beside the one where it is used.
fn welcome(
    door: Arc<Door>,
    pipe: Pipe,
    (peer, region, access): Guest,
    present: Present,
    place: Place,
) -> impl Future<Output = ()> + use<> {
    let connection = ConnectionId(door.next_connection.fetch_add(1, Ordering::Relaxed));
    // Of the highest level, so that no `log.level` but `off` takes the peer from lines that are written.
    let span = tracing::error_span!("client", %peer, connection = connection.0);
    let metrics = &door.shared.metrics;
    metrics.connections_total.increment(1);
    metrics.connections.set(door.gate.open() as f64);
    let (opened_ms, shared) = (unix_ms(SystemTime::now()), Arc::clone(present.shared()));
    let identity = Identity { peer, connection, region, proof: proven(access), opened_ms, shared };
    let served = serve(pipe, identity, present, Arc::clone(&door.shared)).instrument(span);
    async move {
        served.await;
        drop(place);
        door.shared.metrics.connections.set(door.gate.open() as f64);
    }
}

async fn turn_away(door: Arc<Door>, pipe: Pipe, reason: String, place: Place) {
    door.shared.metrics.refused(Refused::Credentials);
    tracing::debug!(reason, "connection refused for good");
    pipe.close(CLOSE_FINAL, &reason).await;
    drop(place);
}

/// Who is refused at the gate is told when to come back.
pub(crate) fn refuse(metrics: &EdgeMetrics, refusal: Refusal) -> Response {
    later(metrics, (&refusal).into(), refusal.retry_after().unwrap_or(RETRY_AFTER))
}

pub(crate) fn later(metrics: &EdgeMetrics, why: Refused, after: Duration) -> Response {
    metrics.refused(why);
    let seconds = whole_seconds(after);
    // Spread, so that those refused together do not come back together.
    let seconds = seconds + rand::random_range(0..=seconds);
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds.to_string())], "try again later\n").into_response()
}

/// What `Retry-After` can say, and no less than `after`: who comes back too early is refused once more.
pub(crate) fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn those_refused_together_are_not_told_to_come_back_together() {
        let metrics = EdgeMetrics::register();
        let told = |after| -> BTreeSet<u64> {
            let seconds = |_| {
                let answer = later(&metrics, Refused::Full, after);
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                answer.headers()[header::RETRY_AFTER].to_str().expect("text").parse().expect("seconds")
            };
            (0..200).map(seconds).collect()
        };
        assert_eq!(told(Duration::ZERO), [1, 2].into());
        let five = told(Duration::from_secs(5));
        assert!(five.len() > 3 && five.iter().all(|seconds| (5..=10).contains(seconds)), "{five:?}");
        assert_eq!(told(Duration::from_millis(1_001)), [2, 3, 4].into(), "not before its time");
    }
}
