//! `POST /revoke` and `GET /revocations`, for [operators](crate::operators).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use proto::ids::PeerId;
use room_store::{DirectoryError, MAX_TOKEN_ID, Revocations, Revoked, RevokedTimes};
use serde::Deserialize;
use serde_json::{Value, json};
use telemetry::settings::Period;
use tokio::time::timeout;

use crate::operators::{Operators, RETRY_AFTER, Refusal};
use crate::proxy_header::Caller;

/// Longest request body: a uid, a time and some JSON.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// How long a revocation holds unless the request says otherwise. Longer than any token ought to live.
const LIFETIME: Duration = Duration::from_hours(24);
/// Shortest that is of any use: edges that are out of touch for a moment have to hear of it.
const MIN_LIFETIME: Duration = Duration::from_mins(1);
/// What keeping one may take. When there is no answer by then, it is to be said again.
const KEEPING: Duration = Duration::from_secs(5);
/// Revocations in one answer, at most and by default.
const PAGE: (usize, usize) = (1_000, 100);

struct Desk {
    revocations: Arc<dyn Revocations>,
    operators: Arc<Operators>,
}

/// The two routes.
pub(crate) fn routes(revocations: Arc<dyn Revocations>, operators: Arc<Operators>) -> Router {
    Router::new()
        .route("/revoke", post(revoke))
        .route("/revocations", get(list))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(Desk { revocations, operators }))
}

/// What `POST /revoke` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[serde(default)]
    peer: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    lifetime: Option<Period>,
}

async fn revoke(
    State(desk): State<Arc<Desk>>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    desk.operators.admit(caller, &headers).await?;
    let (revoked, lifetime) = read(&headers, &body)?;
    match timeout(KEEPING, desk.revocations.revoke(revoked.clone(), lifetime)).await {
        Ok(Ok(())) => {
            tracing::info!(?revoked, lifetime_s = lifetime.as_secs(), "revoked");
            Ok(Json(json!({})))
        }
        Ok(Err(DirectoryError::Full)) => {
            let reason = "as many revocations as there may be are in force";
            Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_revocations", reason))
        }
        Ok(Err(DirectoryError::TooLong)) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_request", "token: too long"))
        }
        Ok(Err(DirectoryError::Unavailable | DirectoryError::Ended)) | Err(_) => {
            let reason = "revocations cannot be kept now, and this one may or may not be in force: say it again";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "revocations_unavailable", reason).later(RETRY_AFTER))
        }
    }
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<(Revoked, Duration), Refusal> {
    let wrong = |reason: String| Refusal::new(StatusCode::BAD_REQUEST, "bad_request", reason);
    // A page of another origin can send other types without asking first.
    let is_json = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/json");
    if !headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        let reason = "the body must be application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_request", reason));
    }
    let Order { peer, token, lifetime } = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let revoked = match (peer, token) {
        (Some(peer), None) => Revoked::Peer(PeerId::new(&peer).map_err(|error| wrong(format!("peer: {error}")))?),
        (None, Some(token)) if (1..=MAX_TOKEN_ID).contains(&token.len()) => Revoked::Token(token),
        (None, Some(_)) => return Err(wrong(format!("token: a jti has 1 to {MAX_TOKEN_ID} bytes"))),
        _ => return Err(wrong("one of peer and token must be there".to_owned())),
    };
    let lifetime = lifetime.map_or(LIFETIME, Duration::from);
    if lifetime < MIN_LIFETIME {
        return Err(wrong("lifetime: at least 1m".to_owned()));
    }
    Ok((revoked, lifetime))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after: Option<String>,
}

async fn list(
    State(desk): State<Arc<Desk>>,
    Caller(caller): Caller,
    headers: HeaderMap,
    Query(Pages { limit, after }): Query<Pages>,
) -> Result<Json<Value>, Refusal> {
    desk.operators.admit(caller, &headers).await?;
    let wrong = |reason: &str| Refusal::new(StatusCode::BAD_REQUEST, "bad_request", reason);
    let limit = limit.unwrap_or(PAGE.1);
    if !(1..=PAGE.0).contains(&limit) {
        return Err(wrong("limit: 1 to 1000"));
    }
    let after = after.map(|text| cursor(&text).ok_or_else(|| wrong("after: not one that was given"))).transpose()?;
    let list = Arc::clone(&desk.revocations.watch().borrow());
    let now = SystemTime::now();
    let is_later = |revoked: &Revoked| after.as_ref().is_none_or(|after| revoked > after);
    let mut page = list.0.iter().filter(|(revoked, times)| is_later(revoked) && now < times.until);
    let shown: Vec<_> = page.by_ref().take(limit).collect();
    let mut answer =
        json!({"revocations": shown.iter().map(|(revoked, times)| entry(revoked, times)).collect::<Vec<_>>()});
    if let (Some((last, _)), Some(_)) = (shown.last(), page.next()) {
        answer["more"] = written(last).into();
    }
    Ok(Json(answer))
}

fn entry(revoked: &Revoked, times: &RevokedTimes) -> Value {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (at, until) = (seconds(times.at), seconds(times.until));
    match revoked {
        Revoked::Peer(peer) => json!({"peer": peer.as_str(), "at": at, "until": until}),
        Revoked::Token(token) => json!({"token": token, "at": at, "until": until}),
    }
}

fn written(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Peer(peer) => format!("peer:{peer}"),
        Revoked::Token(token) => format!("token:{token}"),
    }
}

fn cursor(text: &str) -> Option<Revoked> {
    match text.split_once(':')? {
        ("peer", peer) => PeerId::new(peer).ok().map(Revoked::Peer),
        ("token", token) => Some(Revoked::Token(token.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
