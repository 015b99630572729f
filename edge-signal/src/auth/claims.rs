//! The claims of an access token, checked strictly: a missing, mistyped or unknown value is a refusal, never a default.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ids::PeerId;
use room_store::MAX_TOKEN_ID;
use serde_json::{Map, Value};

use super::{Access, Grant, Grants, RoomScope, TokenError};

/// How far the clocks of edge and token maker may be apart, for `nbf` and `iat`. `exp` has none: a token's end is its end.
const LEEWAY: Duration = Duration::from_secs(30);

/// What the claims grant to `peer` at `now`.
pub(super) fn access(
    claims: &Value,
    peer: Option<&str>,
    issuer: Option<&str>,
    audience: Option<&str>,
    now: SystemTime,
) -> Result<Access, TokenError> {
    let claims = claims.as_object().ok_or(TokenError::Invalid)?;
    let expires_at = time(claims, "exp")?.ok_or(TokenError::Claim("exp"))?;
    if now >= expires_at {
        return Err(TokenError::Expired);
    }
    let issued_at = time(claims, "iat")?;
    for start in [time(claims, "nbf")?, issued_at] {
        if start.is_some_and(|start| start > now + LEEWAY) {
            return Err(TokenError::NotYetValid);
        }
    }
    check_issuer(claims, issuer)?;
    check_audience(claims, audience)?;
    let subject = text(claims, "sub")?;
    if peer.is_some_and(|peer| peer != subject) {
        return Err(TokenError::OtherPeer);
    }
    let subject = Some(PeerId::new(subject).map_err(|_| TokenError::Claim("sub"))?);
    let (rooms, grants, token) = (rooms(claims)?, grants(claims)?, token_id(claims)?);
    let is_recorded = flag(claims, "record")?;
    Ok(Access { rooms, grants, expires_at: Some(expires_at), subject, issued_at, token, is_recorded })
}

fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, TokenError> {
    claims.get(name).and_then(Value::as_str).ok_or(TokenError::Claim(name))
}

fn flag(claims: &Map<String, Value>, name: &'static str) -> Result<bool, TokenError> {
    claims.get(name).map_or(Ok(false), |value| value.as_bool().ok_or(TokenError::Claim(name)))
}

/// A `NumericDate` (RFC 7519, section 2): a JSON number of seconds, possibly with a fraction.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<SystemTime>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let wrong = TokenError::Claim(name);
    let since_epoch = match value.as_u64() {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::try_from_secs_f64(value.as_f64().ok_or(wrong)?).map_err(|_| wrong)?,
    };
    UNIX_EPOCH.checked_add(since_epoch).ok_or(wrong).map(Some)
}

/// One that is too long to be revoked by is none.
fn token_id(claims: &Map<String, Value>) -> Result<Option<Box<str>>, TokenError> {
    if !claims.contains_key("jti") {
        return Ok(None);
    }
    let id = text(claims, "jti")?;
    if (1..=MAX_TOKEN_ID).contains(&id.len()) { Ok(Some(id.into())) } else { Err(TokenError::Claim("jti")) }
}

fn rooms(claims: &Map<String, Value>) -> Result<RoomScope, TokenError> {
    let rid = text(claims, "rid")?;
    match rid.strip_suffix('*') {
        _ if rid.is_empty() => Err(TokenError::Claim("rid")),
        Some(prefix) if prefix.contains('*') => Err(TokenError::Claim("rid")),
        Some(prefix) => Ok(RoomScope::Prefix(prefix.to_owned())),
        None => Ok(RoomScope::Exactly(rid.to_owned())),
    }
}

fn grants(claims: &Map<String, Value>) -> Result<Grants, TokenError> {
    let wrong = TokenError::Claim("grants");
    let list = claims.get("grants").and_then(Value::as_array).ok_or(wrong)?;
    list.iter().map(|grant| grant.as_str().and_then(Grant::from_name).ok_or(wrong)).collect()
}

fn check_issuer(claims: &Map<String, Value>, wanted: Option<&str>) -> Result<(), TokenError> {
    match wanted {
        Some(wanted) if text(claims, "iss")? != wanted => Err(TokenError::Claim("iss")),
        _ => Ok(()),
    }
}

/// RFC 7519, section 4.1.3: a token meant for somebody else is refused, also by one who has no name of its own.
fn check_audience(claims: &Map<String, Value>, ours: Option<&str>) -> Result<(), TokenError> {
    let named = match (claims.get("aud"), ours) {
        (None, None) => return Ok(()),
        (Some(Value::String(one)), Some(ours)) => one == ours,
        (Some(Value::Array(many)), Some(ours)) => {
            many.iter().all(Value::is_string) && many.iter().any(|one| one.as_str() == Some(ours))
        }
        _ => false,
    };
    if named { Ok(()) } else { Err(TokenError::Claim("aud")) }
}
