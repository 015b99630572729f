//! What is let in and what is not.

mod algorithms;
mod documents;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn secret() -> SharedSecret {
    SharedSecret::new(SECRET).expect("long enough")
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn authenticator() -> Authenticator {
    Authenticator::shared_secret(&secret(), None, None)
}

fn good() -> Value {
    json!({"sub": "ann", "exp": NOW + 600, "rid": "room", "grants": ["publish", "subscribe"]})
}

fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).expect("signs")
}

fn verify(claims: &Value) -> Result<Access, TokenError> {
    authenticator().verify(Some(&signed(claims)), Some("ann"), now())
}

/// `good()` with one claim replaced, or taken out when `value` is `None`.
fn with(name: &str, value: Option<Value>) -> Value {
    let mut claims = good();
    let object = claims.as_object_mut().expect("an object");
    match value {
        Some(value) => object.insert(name.to_owned(), value),
        None => object.remove(name),
    };
    claims
}

#[test]
fn a_good_token_grants_what_it_says_and_nothing_more() {
    let access = verify(&good()).expect("good");
    assert!(access.allows(Grant::Publish) && access.allows(Grant::Subscribe));
    assert!(!access.allows(Grant::Broadcast) && !access.allows(Grant::Record) && !access.allows(Grant::Admin));
    assert!(access.allows_room("room"));
    assert!(!access.allows_room("room2") && !access.allows_room("roo"));
    assert_eq!(access.expires_at(), Some(now() + Duration::from_mins(10)));
}

#[test]
fn a_prefix_covers_rooms_that_begin_with_it() {
    let access = verify(&with("rid", Some(json!("team-*")))).expect("good");
    assert!(access.allows_room("team-") && access.allows_room("team-1"));
    assert!(!access.allows_room("team") && !access.allows_room("other-team-1"));
    assert!(verify(&with("rid", Some(json!("*")))).expect("good").allows_room("any"));
}

#[test]
fn a_missing_or_mistyped_claim_is_refused_and_named() {
    for name in ["sub", "exp", "rid", "grants"] {
        assert_eq!(verify(&with(name, None)), Err(TokenError::Claim(name)), "{name} missing");
        assert_eq!(verify(&with(name, Some(Value::Null))), Err(TokenError::Claim(name)), "{name} null");
        assert!(verify(&with(name, Some(json!({})))).is_err(), "{name} an object");
    }
    for name in ["exp", "nbf", "iat"] {
        for wrong in [json!("1900000000"), json!(-1), json!(true), Value::Null, json!(1e300)] {
            assert_eq!(verify(&with(name, Some(wrong.clone()))), Err(TokenError::Claim(name)), "{name} {wrong}");
        }
    }
    for name in ["exp", "nbf", "iat"] {
        assert!(verify(&with(name, Some(json!([1])))).is_err(), "{name} a list");
    }
    for wrong in [json!("publish"), json!([1]), json!(["publish", "fly"]), json!([null])] {
        assert_eq!(verify(&with("grants", Some(wrong))), Err(TokenError::Claim("grants")));
    }
    for wrong in [json!("true"), json!(1), Value::Null] {
        assert_eq!(verify(&with("record", Some(wrong))), Err(TokenError::Claim("record")));
    }
    for recorded in [true, false] {
        assert_eq!(verify(&with("record", Some(json!(recorded)))).expect("good").is_recorded(), recorded);
    }
    for wrong in [json!(""), json!("a*b*"), json!(["room"])] {
        assert_eq!(verify(&with("rid", Some(wrong))), Err(TokenError::Claim("rid")));
    }
}

#[test]
fn expiry_has_no_leeway_and_beginnings_have_thirty_seconds() {
    assert_eq!(verify(&with("exp", Some(json!(NOW)))), Err(TokenError::Expired));
    assert!(TokenError::Expired.to_string().ends_with("token expired"), "as clients know it");
    assert!(verify(&with("exp", Some(json!(NOW + 1)))).is_ok());
    assert!(verify(&with("exp", Some(json!(NOW as f64 + 0.5)))).is_ok());
    for name in ["nbf", "iat"] {
        assert!(verify(&with(name, Some(json!(NOW + 30)))).is_ok());
        assert_eq!(verify(&with(name, Some(json!(NOW + 31)))), Err(TokenError::NotYetValid));
    }
}

#[test]
fn a_token_for_somebody_else_is_refused() {
    let token = signed(&with("sub", Some(json!("bob"))));
    assert_eq!(authenticator().verify(Some(&token), Some("ann"), now()), Err(TokenError::OtherPeer));
    assert!(authenticator().verify(Some(&token), None, now()).is_ok(), "asked about its own peer");
}

#[test]
fn another_key_or_a_changed_byte_is_refused() {
    let other = encode(&Header::new(Algorithm::HS256), &good(), &EncodingKey::from_secret(&[7; 32])).expect("signs");
    assert_eq!(authenticator().verify(Some(&other), Some("ann"), now()), Err(TokenError::Invalid));
    let token = signed(&good());
    let (head, rest) = token.split_once('.').expect("three parts");
    let (_, signature) = rest.split_once('.').expect("three parts");
    let claims = URL_SAFE_NO_PAD.encode(with("sub", Some(json!("ann2"))).to_string());
    let forged = format!("{head}.{claims}.{signature}");
    assert_eq!(authenticator().verify(Some(&forged), Some("ann2"), now()), Err(TokenError::Invalid));
}

#[test]
fn the_tokens_alg_never_widens_what_is_accepted() {
    let claims = URL_SAFE_NO_PAD.encode(good().to_string());
    for alg in ["none", "None", "HS1", "RS256", "ES256", "EdDSA", ""] {
        let head = URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": alg}).to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{head}.{claims}.{signature}");
            assert_eq!(authenticator().verify(Some(&token), Some("ann"), now()), Err(TokenError::Invalid), "{alg}");
        }
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = encode(&Header::new(algorithm), &good(), &EncodingKey::from_secret(SECRET)).expect("signs");
        assert_eq!(authenticator().verify(Some(&token), Some("ann"), now()), Err(TokenError::Invalid), "{algorithm:?}");
    }
}

#[test]
fn a_critical_extension_is_refused() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".to_owned()]);
    let token = encode(&header, &good(), &EncodingKey::from_secret(SECRET)).expect("signs");
    assert_eq!(authenticator().verify(Some(&token), Some("ann"), now()), Err(TokenError::Invalid));
}

#[test]
fn garbage_and_absence_are_refused() {
    let authenticator = authenticator();
    assert_eq!(authenticator.verify(None, Some("ann"), now()), Err(TokenError::Missing));
    for garbage in ["", ".", "..", "...", "a.b.c", "\u{0}", "ä.ö.ü"] {
        assert_eq!(authenticator.verify(Some(garbage), Some("ann"), now()), Err(TokenError::Invalid), "{garbage:?}");
    }
    let long = "a".repeat(MAX_TOKEN_BYTES + 1);
    assert_eq!(authenticator.verify(Some(&long), Some("ann"), now()), Err(TokenError::TooLong));
}

#[test]
fn issuer_and_audience_are_checked_when_set() {
    let authenticator = Authenticator::shared_secret(&secret(), Some("app".into()), Some("sluice".into()));
    let verify = |iss: Value, aud: Value| {
        let mut claims = with("iss", Some(iss));
        claims["aud"] = aud;
        authenticator.verify(Some(&signed(&claims)), Some("ann"), now())
    };
    assert!(verify(json!("app"), json!("sluice")).is_ok());
    assert!(verify(json!("app"), json!(["other", "sluice"])).is_ok());
    assert_eq!(verify(json!("app2"), json!("sluice")), Err(TokenError::Claim("iss")));
    for aud in [json!("other"), json!([]), json!(["sluice", 1]), json!(1)] {
        assert_eq!(verify(json!("app"), aud), Err(TokenError::Claim("aud")));
    }
    assert_eq!(authenticator.verify(Some(&signed(&good())), Some("ann"), now()), Err(TokenError::Claim("iss")));
}

#[test]
fn a_token_meant_for_an_audience_is_refused_by_an_edge_without_a_name() {
    assert_eq!(verify(&with("aud", Some(json!("elsewhere")))), Err(TokenError::Claim("aud")));
}

#[test]
fn a_short_or_empty_secret_is_none() {
    for length in [0, 1, 31] {
        assert_eq!(SharedSecret::new(vec![b'x'; length]), Err(SecretTooShort(length)));
    }
}

fn request() -> TokenRequest {
    TokenRequest {
        peer: "ann".into(),
        rid: "room".into(),
        grants: vec![Grant::Publish, Grant::Admin],
        ttl: Duration::from_mins(1),
        id: None,
        record: false,
        issuer: None,
        audience: None,
    }
}

#[test]
fn what_is_minted_is_accepted_until_it_expires() {
    let token = mint(&SigningKey::shared_secret(&secret()), &request(), now()).expect("mints");
    let access = authenticator().verify(Some(&token), Some("ann"), now()).expect("good");
    assert!(access.allows(Grant::Publish) && access.allows(Grant::Admin) && !access.allows(Grant::Subscribe));
    let later = now() + Duration::from_mins(1);
    assert_eq!(authenticator().verify(Some(&token), Some("ann"), later), Err(TokenError::Expired));
}

#[test]
fn an_open_edge_asks_for_nothing() {
    let access = Authenticator::open().verify(None, Some("anyone"), now()).expect("open");
    assert!(access.allows_room("any") && Grant::ALL.into_iter().all(|grant| access.allows(grant)));
    assert_eq!(access.expires_at(), None);
}
