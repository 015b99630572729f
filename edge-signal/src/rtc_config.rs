//! `/rtc-config`: what a client should know before it connects: ICE servers, and the limits it will meet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use proto::signalling::{MAX_INBOUND_BYTES, MAX_OUTBOUND_BYTES};
use serde::Serialize;

use crate::admission::Admission;
use crate::gate::Gate;
use crate::handshake;
use crate::metrics::EdgeMetrics;
use crate::proxies::{Network, client_address};
use crate::proxy_header::Caller;
use crate::session::{MAX_BROADCAST_BYTES, MAX_MINFO_BYTES, Pace};
use crate::settings::{EdgeSettings, IceServer};
use crate::ws::{later, refuse};

/// What the handler needs.
pub(crate) struct RtcConfig {
    admission: Arc<Admission>,
    /// A check of a signature costs as much here as at `/ws`.
    gate: Gate,
    trusted_proxies: Vec<Network>,
    metrics: EdgeMetrics,
    answer: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    ice_servers: Vec<Server<'a>>,
    limits: Limits,
}

/// `RTCIceServer` of the W3C API.
#[derive(Serialize)]
struct Server<'a> {
    urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    inbound_bytes: usize,
    outbound_bytes: usize,
    minfo_bytes: usize,
    broadcast_bytes: usize,
    requests_per_second: u32,
    requests_at_once: u32,
    rooms: usize,
    streams: usize,
    subscriptions: usize,
    keepalive_ms: u64,
    grace_ms: u64,
}

impl RtcConfig {
    pub(crate) fn new(settings: &EdgeSettings, admission: Arc<Admission>, gate: Gate, metrics: EdgeMetrics) -> Self {
        let limits = &settings.limits;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let answer = Answer {
            ice_servers: settings.rtc.ice_servers.iter().map(server).collect(),
            limits: Limits {
                inbound_bytes: MAX_INBOUND_BYTES,
                outbound_bytes: MAX_OUTBOUND_BYTES,
                minfo_bytes: MAX_MINFO_BYTES,
                broadcast_bytes: MAX_BROADCAST_BYTES,
                requests_per_second: limits.message_rate,
                requests_at_once: limits.message_burst,
                rooms: limits.rooms_per_connection,
                streams: limits.streams_per_member,
                subscriptions: limits.subscriptions_per_member,
                keepalive_ms: millis(Pace::of(settings.session.ttl.into()).ping),
                grace_ms: millis(settings.session.grace.into()),
            },
        };
        let answer = serde_json::to_value(answer).expect("invariant: text keys only");
        Self { admission, gate, trusted_proxies: settings.trusted_proxies.clone(), metrics, answer }
    }
}

fn server(server: &IceServer) -> Server<'_> {
    Server {
        urls: &server.urls,
        username: server.username.as_deref(),
        credential: server.credential.as_ref().map(telemetry::settings::Secret::expose),
    }
}

/// What a browser asks before it lets a page of another origin send its token in a header (CORS preflight).
pub(crate) async fn preflight() -> impl IntoResponse {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, allowed)
}

/// The handler of `/rtc-config`. Pages of any origin may ask: the token is the proof, no cookie is.
pub(crate) async fn answer(
    State(config): State<Arc<RtcConfig>>,
    Caller(caller): Caller,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let any_origin = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (header::CACHE_CONTROL, "no-store")];
    let address = client_address(caller, &headers, &config.trusted_proxies);
    let _place = match config.gate.enter(Some(address), Instant::now()) {
        Ok(place) => place,
        Err(refusal) => return (any_origin, refuse(&config.metrics, refusal)).into_response(),
    };
    let token = handshake::token(&query, &headers);
    match config.admission.prove(token.as_deref(), None).await {
        Ok(_) => (any_origin, Json(&config.answer)).into_response(),
        Err(error) => {
            if let Some((why, retry_after)) = error.for_now() {
                return (any_origin, later(&config.metrics, why, retry_after)).into_response();
            }
            let refusal = serde_json::json!({"error": "unauthenticated", "errorReason": error.to_string()});
            (StatusCode::UNAUTHORIZED, any_origin, Json(refusal)).into_response()
        }
    }
}
