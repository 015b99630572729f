//! Who may ask on operators' routes: with authentication, who has a token with the grant `admin` for all rooms; without, only programs of
//! this machine. What they may ask is the routes' business.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::admission::{Admission, NotAdmitted};
use crate::auth::Grant;
use crate::gate::{Gate, GateLimits};
use crate::handshake;
use crate::metrics::Refused;
use crate::origin;
use crate::proxies::{Network, client_address, is_forwarded};
use crate::rate::{Rate, SharedBucket};
use crate::ws::whole_seconds;

/// Requests per second, and at once, of all operators. A script of theirs revokes many after each other; each change goes to every
/// edge. And as many of one address, whoever is there: a check of a signature is not for nothing.
const RATE: (u32, u32) = (50, 200);
/// When to try again where nothing better is known.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Tells operators from others.
pub(crate) struct Operators {
    admission: Arc<Admission>,
    trusted_proxies: Vec<Network>,
    /// Before it is known who asks; so that strangers take nothing of what operators have.
    gate: Gate,
    /// Of operators.
    requests: SharedBucket,
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    name: &'static str,
    reason: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, name: &'static str, reason: impl Into<String>) -> Self {
        Self { status, name, reason: reason.into(), retry_after: None }
    }

    fn too_many(retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests").later(retry_after)
    }

    pub(crate) fn later(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.name, "errorReason": self.reason}));
        let mut response = (self.status, body).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(after).into());
        }
        response
    }
}

impl Operators {
    pub(crate) fn new(admission: Arc<Admission>, trusted_proxies: Vec<Network>) -> Self {
        let rate = Rate::new(RATE.0, RATE.1);
        // How many ask at once is for their sockets' own gate.
        let limits =
            GateLimits { connections: usize::MAX, per_address: usize::MAX, rate: Some(rate), total_rate: None };
        let requests = SharedBucket::new(rate, Instant::now());
        Self { admission, trusted_proxies, gate: Gate::new(limits), requests }
    }

    /// Whether this one may ask, and now.
    pub(crate) async fn admit(&self, address: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        let client = client_address(address, headers, &self.trusted_proxies);
        let entered = self.gate.enter(Some(client), Instant::now());
        let _place = entered.map_err(|refusal| Refusal::too_many(refusal.retry_after().unwrap_or(RETRY_AFTER)))?;
        self.authorize(address, headers).await?;
        self.requests.take(1, Instant::now()).map_err(Refusal::too_many)
    }

    async fn authorize(&self, address: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.admission.is_open() {
            return admit_local(address, headers);
        }
        let unauthenticated =
            |error: NotAdmitted| Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", error.to_string());
        let token = handshake::authorization(headers);
        let access = match self.admission.prove(token, None).await {
            Ok(access) => access,
            Err(error) => {
                let Some((why, retry_after)) = error.for_now() else { return Err(unauthenticated(error)) };
                let name = if why == Refused::Keys { "keys_unavailable" } else { "revocations_unavailable" };
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, name, error.to_string());
                return Err(refusal.later(retry_after));
            }
        };
        if access.allows(Grant::Admin) && access.allows_all_rooms() {
            return Ok(());
        }
        let reason = "the token does not grant admin for all rooms (rid *)";
        Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", reason))
    }
}

/// A program of this machine, and no page in one of its browsers.
fn admit_local(address: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_local = address.to_canonical().is_loopback() && !is_forwarded(headers) && origin::check(headers).is_ok();
    if is_local {
        return Ok(());
    }
    let reason = "without authentication only from this machine";
    Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", reason))
}
