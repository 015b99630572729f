//! JWKS documents: which of their keys are used, and which documents are not.

use proptest::prelude::*;

use super::algorithms::{PAIRS, generated};
use super::*;

fn document(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys, "more": 1}).to_string().into_bytes()
}

fn read(keys: &[Value]) -> Result<Jwks, JwksError> {
    Jwks::read(&document(keys))
}

fn changed(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk[name] = value;
    jwk
}

#[test]
fn keys_of_each_algorithm_are_used_by_their_kid() {
    let keys: Vec<_> = PAIRS.iter().enumerate().map(|(n, pair)| pair.jwk(Some(&format!("k{n}")))).collect();
    let read = read(&keys).expect("good");
    assert_eq!((read.keys.len(), read.unfit.len()), (3, 0));
    let edge = Authenticator::new(Keyring::default(), None, None);
    for (n, pair) in PAIRS.iter().enumerate() {
        let token = pair.signed(Some(&format!("k{n}")), &good());
        assert!(edge.verify_with(&read.keys, Some(&token), Some("ann"), now()).is_ok(), "{}", pair.algorithm);
        assert_eq!(edge.verify(Some(&token), Some("ann"), now()), Err(TokenError::UnknownKey));
        let other = pair.signed(Some(&format!("k{}", (n + 1) % 3)), &good());
        assert_eq!(edge.verify_with(&read.keys, Some(&other), Some("ann"), now()), Err(TokenError::Invalid));
    }
}

#[test]
fn keys_for_other_things_are_passed_over() {
    let good = PAIRS[1].jwk(Some("good"));
    let rsa = PAIRS[0].jwk(Some("rsa"));
    let others = [
        json!({"kty": "oct", "kid": "secret", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
        json!({"kty": "oct", "kid": "secret2", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
        json!({"kty": "EC", "crv": "secp256k1", "kid": "c", "x": "AA", "y": "AA"}),
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AA"}),
        json!("a key"),
        json!(null),
        json!({}),
        changed(&rsa, "use", json!("enc")),
        changed(&rsa, "alg", json!("RSA-OAEP")),
        changed(&rsa, "alg", json!("RS512")),
        changed(&rsa, "alg", json!("PS256")),
        changed(&rsa, "alg", json!("HS256")),
        changed(&rsa, "key_ops", json!(["encrypt"])),
        changed(&PAIRS[2].jwk(Some("ed")), "alg", json!("ES256")),
    ];
    for other in &others {
        let read = read(&[other.clone(), good.clone()]).expect("the good one is there");
        assert_eq!((read.keys.len(), read.unfit), (1, vec![]), "{other}");
        assert!(matches!(self::read(std::slice::from_ref(other)), Err(JwksError::NoKeys)), "{other}");
    }
    let used = [changed(&rsa, "use", json!("sig")), changed(&rsa, "key_ops", json!(["verify"]))];
    assert!(used.into_iter().all(|key| read(&[key]).is_ok()));
}

#[test]
fn a_secret_in_a_document_signs_nothing() {
    let oct = json!({"kty": "oct", "kid": "secret", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let read = read(&[oct, PAIRS[2].jwk(Some("ed"))]).expect("one is good");
    let edge = Authenticator::new(Keyring::default(), None, None);
    for kid in ["secret", "ed"] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.to_owned());
        let token = encode(&header, &good(), &EncodingKey::from_secret(SECRET)).expect("signs");
        assert!(edge.verify_with(&read.keys, Some(&token), Some("ann"), now()).is_err(), "{kid}");
    }
}

#[test]
fn keys_that_are_damaged_or_weak_are_named_and_not_used() {
    let good = PAIRS[1].jwk(Some("good"));
    let (rsa, ec, ed) = (PAIRS[0].jwk(Some("k")), PAIRS[1].jwk(Some("k")), PAIRS[2].jwk(Some("k")));
    let number = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
    let point = URL_SAFE_NO_PAD.decode(ed["x"].as_str().expect("text")).expect("base64");
    for (key, why) in [
        (changed(&rsa, "n", number(&[0xff; 128])), KeyError::Weak(1_024)),
        (changed(&rsa, "n", number(&[])), KeyError::Weak(0)),
        (changed(&rsa, "n", number(&[0xff; 1_024])), KeyError::TooLong(8_192)),
        (changed(&rsa, "n", number(&[0xfe; 256])), KeyError::Damaged),
        (changed(&rsa, "e", number(&[1])), KeyError::Damaged),
        (changed(&rsa, "e", number(&[2])), KeyError::Damaged),
        (changed(&rsa, "e", number(&[])), KeyError::Damaged),
        (changed(&rsa, "n", json!("not base64!")), KeyError::Damaged),
        (changed(&ec, "x", number(&[7; 32])), KeyError::OtherAlgorithm(PublicKeyAlgorithm::ES256)),
        (changed(&ec, "y", number(&[])), KeyError::OtherAlgorithm(PublicKeyAlgorithm::ES256)),
        (changed(&ed, "x", number(&[])), KeyError::Damaged),
        (changed(&ed, "x", number(&point[..31])), KeyError::Damaged),
        (changed(&ed, "x", number(&[&point[..], &[0]].concat())), KeyError::Damaged),
        (changed(&ed, "kid", json!("")), KeyError::BadKid),
    ] {
        let read = read(&[key.clone(), good.clone()]).expect("the good one is there");
        assert_eq!((read.keys.len(), read.unfit), (1, vec![why]), "{key}");
    }
}

#[test]
fn documents_that_cannot_be_used_are_refused_whole() {
    for text in ["", "{}", "[]", "{\"keys\": {}}", "{\"keys\": [", "<html>"] {
        assert!(matches!(Jwks::read(text.as_bytes()), Err(JwksError::NotJwks)), "{text}");
    }
    assert!(matches!(read(&[]), Err(JwksError::NoKeys)));
    let key = PAIRS[2].jwk(Some("k"));
    assert!(matches!(read(&vec![key.clone(); 65]), Err(JwksError::TooMany)));
    assert!(matches!(read(&[key.clone(), key]), Err(JwksError::Keys(KeyringError::DuplicateKid(1)))));
}

#[test]
fn a_token_without_a_kid_is_checked_with_the_one_key_there_is() {
    let edge = Authenticator::new(Keyring::default(), None, None);
    let (alone, pair) = (read(&[PAIRS[2].jwk(Some("k"))]).expect("good"), &PAIRS[2]);
    assert!(edge.verify_with(&alone.keys, Some(&pair.signed(None, &good())), Some("ann"), now()).is_ok());
}

#[test]
fn a_token_without_a_kid_that_no_key_fits_may_be_of_one_that_is_published_next() {
    let [old, new] = [(); 2].map(|()| generated(PublicKeyAlgorithm::EdDsa, &rcgen::PKCS_ED25519));
    let edge = Authenticator::shared_secret(&secret(), None, None);
    let published = read(&[old.jwk(Some("old"))]).expect("good");
    let token = new.signed(None, &good());
    for further in [&Keyring::default(), &published.keys] {
        assert_eq!(edge.verify_with(further, Some(&token), Some("ann"), now()), Err(TokenError::UnknownKey));
    }
    assert_eq!(edge.verify(Some(&token), Some("ann"), now()), Err(TokenError::Invalid), "nobody publishes");
    let forged = encode(&Header::new(Algorithm::HS256), &good(), &EncodingKey::from_secret(&[7; 32])).expect("signs");
    let verified = edge.verify_with(&published.keys, Some(&forged), Some("ann"), now());
    assert_eq!(verified, Err(TokenError::Invalid), "nobody publishes secrets");
    let expired = old.signed(None, &with("exp", Some(json!(NOW - 1))));
    assert_eq!(edge.verify_with(&published.keys, Some(&expired), Some("ann"), now()), Err(TokenError::Expired));
}

proptest! {
    /// Numbers of any length and content: read or not, never a panic, and nor when a token is checked with them.
    #[test]
    fn no_key_panics(
        kind in prop::sample::select(vec![("RSA", ""), ("EC", "P-256"), ("EC", "P-384"), ("OKP", "Ed25519")]),
        numbers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 4),
    ) {
        let [a, b, c, d] = &numbers[..] else { panic!("four") };
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({"kty": kind.0, "crv": kind.1, "kid": "k", "n": text(a), "e": text(b), "x": text(c), "y": text(d)});
        let edge = Authenticator::new(Keyring::default(), None, None);
        if let Ok(read) = read(&[key]) {
            for pair in PAIRS.iter() {
                let token = pair.signed(Some("k"), &good());
                prop_assert!(edge.verify_with(&read.keys, Some(&token), Some("ann"), now()).is_err());
            }
        }
    }

    #[test]
    fn no_document_panics(text in ".{0,200}") {
        prop_assert!(Jwks::read(text.as_bytes()).is_err());
    }
}
