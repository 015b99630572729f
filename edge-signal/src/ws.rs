//! `/ws`: who is let in, and how those are told that are not (signalling contract, section 1). Who can never be accepted is
//! upgraded and closed with 4000; who cannot be accepted now gets 503 and `Retry-After` before the upgrade.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proto::ids::PeerId;
use room_store::ConnectionId;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::auth::{Access, Authenticator};
use crate::connection::{Shared, serve};
use crate::gate::{Gate, Place, Refusal};
use crate::handshake::{Knock, PROTOO, read};
use crate::metrics::Refused;
use crate::origin;
use crate::pipe::Pipe;
use crate::proxies::{Network, client_address};
use crate::session::{CLOSE_FINAL, Identity};

/// Longest message read at all. Those over the contract's 256 KiB are answered with an error as long as they are within it;
/// past it the connection ends.
const MAX_MESSAGE_BYTES: usize = 5 * 256 * 1024;
/// Read buffer of a connection: most frames are a few hundred bytes, and there are many connections.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Write buffer of a connection.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// When a client comes back that was refused because the edge is full or going away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the upgrade needs.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) gate: Gate,
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
    ConnectInfo(socket): ConnectInfo<SocketAddr>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if door.shared.departures.borrow().is_some() {
        door.shared.metrics.refused(Refused::Draining);
        return come_back(RETRY_AFTER);
    }
    let address = client_address(socket.ip(), &headers, &door.trusted_proxies);
    let place = match door.gate.enter(Some(address), Instant::now()) {
        Ok(place) => place,
        Err(refusal) => return refuse(&door, refusal),
    };
    let stranger = if door.local_only { origin::check(&headers).err() } else { None };
    let knock = read(&query, &headers);
    let mut upgrade = upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    if knock.offers_protoo {
        upgrade.set_selected_protocol(HeaderValue::from_static(PROTOO));
    }
    let let_in = stranger.map_or_else(|| check(&door, knock), |reason| Err(reason.to_owned()));
    let tasks = door.connections.clone();
    upgrade.on_upgrade(move |socket| {
        let served = async move {
            match let_in {
                Ok((peer, access)) => welcome(&door, socket, peer, access, place).await,
                Err(reason) => turn_away(&door, socket, &reason, place).await,
            }
        };
        tasks.track_future(served)
    })
}

fn check(door: &Door, knock: Knock) -> Result<(PeerId, Access), String> {
    let peer = knock.peer.map_err(|error| error.to_string())?;
    let access = door.authenticator.verify(knock.token.as_deref(), Some(peer.as_str()), SystemTime::now());
    Ok((peer, access.map_err(|error| error.to_string())?))
}

async fn welcome(door: &Door, socket: WebSocket, peer: PeerId, access: Access, place: Place) {
    let connection = ConnectionId(door.next_connection.fetch_add(1, Ordering::Relaxed));
    let span = tracing::info_span!("client", %peer, connection = connection.0);
    let metrics = &door.shared.metrics;
    metrics.connections_total.increment(1);
    metrics.connections.set(door.gate.open() as f64);
    let expires_at = access.expires_at().and_then(instant_of);
    let identity = Identity { peer, connection, access, expires_at };
    serve(socket, identity, Arc::clone(&door.shared)).instrument(span).await;
    drop(place);
    metrics.connections.set(door.gate.open() as f64);
}

async fn turn_away(door: &Door, socket: WebSocket, reason: &str, place: Place) {
    door.shared.metrics.refused(Refused::Credentials);
    tracing::debug!(reason, "connection refused for good");
    Pipe::new(socket).close(CLOSE_FINAL, reason).await;
    drop(place);
}

fn refuse(door: &Door, refusal: Refusal) -> Response {
    door.shared.metrics.refused((&refusal).into());
    match refusal {
        Refusal::Full | Refusal::AddressFull => come_back(RETRY_AFTER),
        Refusal::TooFast { retry_after } => come_back(retry_after),
    }
}

/// Whole seconds is all the header can say; spread, so that those refused together do not come back together.
fn come_back(after: Duration) -> Response {
    let seconds = after.as_secs().max(1) + rand::random_range(0..=after.as_secs().max(1));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds.to_string())], "try again later\n").into_response()
}

/// The moment on the monotonic clock; `None`: too far away to matter.
fn instant_of(time: SystemTime) -> Option<Instant> {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}
