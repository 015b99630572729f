//! `sluice token`: an access token for a client, signed with the configured secret.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use clap::Args;
use edge_signal::auth::{Grant, TokenRequest, mint};
use edge_signal::settings::AuthSettings;
use proto::ids::{PeerId, RoomId};
use telemetry::settings::Period;

/// What the token is to say.
#[derive(Debug, Args)]
pub(crate) struct TokenFlags {
    /// Who may use it (uid)
    #[arg(long, value_name = "UID")]
    peer: PeerId,
    /// Which room (rid), or which rooms: the beginning of their names and a *
    #[arg(long, value_name = "RID")]
    room: String,
    /// What it allows: any of publish, subscribe, broadcast, record, admin
    #[arg(long, value_delimiter = ',', value_parser = grant, default_value = "publish,subscribe,broadcast")]
    grants: Vec<Grant>,
    /// How long it is good for: 90s, 30m, 12h
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Period,
}

/// Makes the token.
pub(crate) fn token(flags: TokenFlags, auth: &AuthSettings, now: SystemTime) -> anyhow::Result<String> {
    let TokenFlags { peer, room, grants, ttl } = flags;
    check_room(&room)?;
    ensure!(Duration::from(ttl) > Duration::ZERO, "--ttl: a token that has expired already is of no use");
    let request = TokenRequest {
        peer: peer.to_string(),
        rid: room,
        grants,
        ttl: ttl.into(),
        issuer: auth.issuer.clone(),
        audience: auth.audience.clone(),
    };
    let secret = auth.shared_secret()?.context(
        "no secret to sign with: set auth.hs256_secret_file in the settings (--config FILE), or SLUICE_AUTH__HS256_SECRET",
    )?;
    Ok(mint(&secret, &request, now)?)
}

fn grant(name: &str) -> Result<Grant, String> {
    let names = || Grant::ALL.map(Grant::name).join(", ");
    Grant::from_name(name).ok_or_else(|| format!("not one of {}", names()))
}

/// A room's name, or the beginning of one and a `*`.
fn check_room(room: &str) -> anyhow::Result<()> {
    match room.strip_suffix('*') {
        Some("") => Ok(()),
        name => RoomId::new(name.unwrap_or(room)).map(drop).context("--room"),
    }
}

#[cfg(test)]
mod tests {
    use edge_signal::auth::{Authenticator, SharedSecret};
    use telemetry::settings::Secret;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn flags(room: &str) -> TokenFlags {
        TokenFlags {
            peer: PeerId::new("ann").expect("valid"),
            room: room.to_owned(),
            grants: vec![Grant::Publish],
            ttl: Period::seconds(60),
        }
    }

    fn auth() -> AuthSettings {
        AuthSettings {
            hs256_secret: Some(Secret::new(SECRET)),
            issuer: Some("us".to_owned()),
            audience: Some("sluice".to_owned()),
            ..AuthSettings::default()
        }
    }

    #[test]
    fn an_edge_with_the_same_settings_accepts_the_token() {
        let now = SystemTime::now();
        let token = token(flags("room-*"), &auth(), now).expect("a token");
        let secret = SharedSecret::new(SECRET).expect("long enough");
        let edge = Authenticator::shared_secret(&secret, Some("us".to_owned()), Some("sluice".to_owned()));
        let access = edge.verify(Some(&token), Some("ann"), now).expect("let in");
        assert!(access.allows_room("room-1") && !access.allows_room("other"));
        assert!(access.allows(Grant::Publish) && !access.allows(Grant::Admin));
    }

    #[test]
    fn the_secret_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{SECRET}\n")).expect("written");
        let in_file = AuthSettings { hs256_secret: None, hs256_secret_file: Some(file.path().into()), ..auth() };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(
            token(flags("a"), &in_file, now).expect("a token"),
            token(flags("a"), &auth(), now).expect("the same")
        );
    }

    #[test]
    fn what_no_edge_would_accept_is_not_made() {
        let now = SystemTime::now();
        assert!(token(flags("a/b"), &auth(), now).is_err());
        assert!(token(TokenFlags { ttl: Period::seconds(0), ..flags("a") }, &auth(), now).is_err());
        let error = token(flags("a"), &AuthSettings::default(), now).expect_err("no secret").to_string();
        assert!(error.contains("SLUICE_AUTH__HS256_SECRET"), "{error}");
        let short = AuthSettings { hs256_secret: Some(Secret::new("short")), ..AuthSettings::default() };
        assert!(token(flags("a"), &short, now).is_err());
    }
}
