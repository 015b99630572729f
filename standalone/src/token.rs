//! `sluice token`: an access token for a client, signed with the configured secret or with a private key. And what `sluice revoke`
//! shows for itself: one for an operator.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use clap::Args;
use edge_signal::auth::{Grant, SigningKey, TokenRequest, mint};
use edge_signal::settings::AuthSettings;
use proto::ids::{PeerId, RoomId};
use room_store::MAX_TOKEN_ID;
use telemetry::settings::Period;

/// How long a token for one request is good: the clocks of two machines may be apart.
const OPERATORS_TTL: Duration = Duration::from_mins(2);

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
    /// Its name (`jti`), by which it can be revoked alone [default: a random one]
    #[arg(long, value_name = "JTI", value_parser = token_id)]
    id: Option<String>,
    /// Have all that its holder publishes recorded
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    key: KeyFlags,
}

/// What to sign with.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KeyFlags {
    /// Private key to sign with, in PEM: RSA for RS256, P-256 for ES256, Ed25519 for `EdDSA` [default: the secret of the settings]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Name of that key (`kid`), as the edge's settings have it
    #[arg(long, value_name = "KID", requires = "key_file")]
    kid: Option<String>,
}

/// A token that was made.
pub(crate) struct Made {
    pub(crate) token: String,
    /// Its `jti`.
    pub(crate) id: String,
}

/// Makes the token.
pub(crate) fn token(flags: TokenFlags, auth: &AuthSettings, now: SystemTime) -> anyhow::Result<Made> {
    let TokenFlags { peer, room, grants, ttl, id, record, key } = flags;
    check_room(&room)?;
    let id = id.unwrap_or_else(random_id);
    ensure!(Duration::from(ttl) > Duration::ZERO, "--ttl: a token that has expired already is of no use");
    let request = TokenRequest {
        peer: peer.to_string(),
        rid: room,
        grants,
        ttl: ttl.into(),
        id: Some(id.clone()),
        record,
        issuer: auth.issuer.clone(),
        audience: auth.audience.clone(),
    };
    let key = signing_key(&key, auth)?.context(
        "no secret to sign with: set auth.hs256_secret_file in the settings (--config FILE), or SLUICE_AUTH__HS256_SECRET; \
         or give a private key with --key-file",
    )?;
    Ok(Made { token: mint(&key, &request, now)?, id })
}

/// A token to show to an edge's operators' address; `None`: there is nothing to sign it with.
pub(crate) fn operators_token(key: &KeyFlags, auth: &AuthSettings, now: SystemTime) -> anyhow::Result<Option<String>> {
    let Some(key) = signing_key(key, auth)? else { return Ok(None) };
    let request = TokenRequest {
        peer: "operator".to_owned(),
        rid: "*".to_owned(),
        grants: vec![Grant::Admin],
        ttl: OPERATORS_TTL,
        id: Some(random_id()),
        record: false,
        issuer: auth.issuer.clone(),
        audience: auth.audience.clone(),
    };
    Ok(Some(mint(&key, &request, now)?))
}

fn signing_key(flags: &KeyFlags, auth: &AuthSettings) -> anyhow::Result<Option<SigningKey>> {
    match &flags.key_file {
        Some(path) => Ok(Some(private_key(path)?.named(flags.kid.clone()))),
        None => Ok(auth.shared_secret()?.as_ref().map(SigningKey::shared_secret)),
    }
}

fn private_key(path: &Path) -> anyhow::Result<SigningKey> {
    let named = || format!("--key-file: {}", path.display());
    let pem = std::fs::read(path).with_context(named)?;
    SigningKey::from_pem(&pem).with_context(named)
}

/// 128 bits: nobody else's.
fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// One that can be revoked by.
pub(crate) fn token_id(id: &str) -> Result<String, String> {
    if (1..=MAX_TOKEN_ID).contains(&id.len()) { Ok(id.to_owned()) } else { Err(format!("1 to {MAX_TOKEN_ID} bytes")) }
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
    use edge_signal::auth::{Authenticator, Keyring, PublicKeyAlgorithm, SharedSecret, VerifyingKey};
    use telemetry::settings::Secret;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn flags(room: &str) -> TokenFlags {
        TokenFlags {
            peer: PeerId::new("ann").expect("valid"),
            room: room.to_owned(),
            grants: vec![Grant::Publish],
            ttl: Period::seconds(60),
            id: None,
            record: false,
            key: KeyFlags::default(),
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
        let Made { token, .. } = token(flags("room-*"), &auth(), now).expect("a token");
        let secret = SharedSecret::new(SECRET).expect("long enough");
        let edge = Authenticator::shared_secret(&secret, Some("us".to_owned()), Some("sluice".to_owned()));
        let access = edge.verify(Some(&token), Some("ann"), now).expect("let in");
        assert!(access.allows_room("room-1") && !access.allows_room("other"));
        assert!(access.allows(Grant::Publish) && !access.allows(Grant::Admin) && !access.is_recorded());
        let recorded = TokenFlags { record: true, ..flags("room-*") };
        let Made { token, .. } = super::token(recorded, &auth(), now).expect("a token");
        assert!(edge.verify(Some(&token), Some("ann"), now).expect("let in").is_recorded());
    }

    #[test]
    fn the_secret_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{SECRET}\n")).expect("written");
        let in_file = AuthSettings { hs256_secret: None, hs256_secret_file: Some(file.path().into()), ..auth() };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let named = || TokenFlags { id: Some("one".to_owned()), ..flags("a") };
        assert_eq!(
            token(named(), &in_file, now).expect("a token").token,
            token(named(), &auth(), now).expect("the same").token
        );
    }

    #[test]
    fn what_no_edge_would_accept_is_not_made() {
        let now = SystemTime::now();
        assert!(token(flags("a/b"), &auth(), now).is_err());
        assert!(token(TokenFlags { ttl: Period::seconds(0), ..flags("a") }, &auth(), now).is_err());
        let error = token(flags("a"), &AuthSettings::default(), now).err().expect("no secret").to_string();
        assert!(error.contains("SLUICE_AUTH__HS256_SECRET"), "{error}");
        let short = AuthSettings { hs256_secret: Some(Secret::new("short")), ..AuthSettings::default() };
        assert!(token(flags("a"), &short, now).is_err());
    }

    #[test]
    fn a_private_key_signs_what_its_public_half_checks() {
        let now = SystemTime::now();
        for (algorithm, name) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, PublicKeyAlgorithm::ES256),
            (&rcgen::PKCS_ED25519, PublicKeyAlgorithm::EdDsa),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key");
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), pair.serialize_pem()).expect("written");
            let key = KeyFlags { key_file: Some(file.path().into()), kid: Some("k1".to_owned()) };
            let public = VerifyingKey::from_pem(name, Some("k1".to_owned()), pair.public_key_pem().as_bytes());
            let edge = Authenticator::new(Keyring::new(vec![public.expect("good")]).expect("one"), None, None);
            let made =
                token(TokenFlags { key: key.clone(), ..flags("a") }, &AuthSettings::default(), now).expect("made");
            assert!(edge.verify(Some(&made.token), Some("ann"), now).is_ok(), "{name}");
            let operators = operators_token(&key, &AuthSettings::default(), now).expect("made").expect("a key");
            let access = edge.verify(Some(&operators), None, now).expect("good");
            assert!(access.allows(Grant::Admin) && access.allows_all_rooms() && !access.allows(Grant::Publish));
        }
    }

    #[test]
    fn a_file_that_holds_no_usable_private_key_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        for pem in ["prose".to_owned(), p384.serialize_pem(), p256.public_key_pem()] {
            std::fs::write(file.path(), &pem).expect("written");
            let key = KeyFlags { key_file: Some(file.path().into()), kid: None };
            let flags = TokenFlags { key, ..flags("a") };
            let error = token(flags, &auth(), SystemTime::now()).err().expect("no key");
            assert!(error.to_string().contains(&file.path().display().to_string()), "{error:#}");
        }
    }
}
