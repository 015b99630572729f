//! Public keys of each algorithm: what they check, what they never check, and which cannot be used.

use std::sync::LazyLock;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use proptest::prelude::*;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::{RsaPrivateKey, rand_core::OsRng};

use super::*;

/// A key pair, generated once for all tests: RSA takes a while.
pub(super) struct Pair {
    pub(super) algorithm: PublicKeyAlgorithm,
    private: String,
    pub(super) public: String,
}

pub(super) static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let (private, public) = rsa_pair(2_048);
    vec![
        Pair { algorithm: PublicKeyAlgorithm::RS256, private, public },
        generated(PublicKeyAlgorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        generated(PublicKeyAlgorithm::EdDsa, &rcgen::PKCS_ED25519),
    ]
});

fn rsa_pair(bits: usize) -> (String, String) {
    let private = RsaPrivateKey::new(&mut OsRng, bits).expect("a key");
    let public = private.to_public_key().to_public_key_pem(LineEnding::LF).expect("PEM");
    (private.to_pkcs8_pem(LineEnding::LF).expect("PEM").to_string(), public)
}

pub(super) fn generated(algorithm: PublicKeyAlgorithm, how: &'static rcgen::SignatureAlgorithm) -> Pair {
    let pair = rcgen::KeyPair::generate_for(how).expect("a key");
    Pair { algorithm, private: pair.serialize_pem(), public: pair.public_key_pem() }
}

impl Pair {
    pub(super) fn signing(&self) -> SigningKey {
        SigningKey::from_pem(self.private.as_bytes()).expect("a private key")
    }

    fn encoding(&self) -> EncodingKey {
        let pem = self.private.as_bytes();
        match self.algorithm {
            PublicKeyAlgorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            PublicKeyAlgorithm::ES256 => EncodingKey::from_ec_pem(pem),
            PublicKeyAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem),
        }
        .expect("a private key")
    }

    pub(super) fn verifying(&self, kid: Option<&str>) -> VerifyingKey {
        VerifyingKey::from_pem(self.algorithm, kid.map(str::to_owned), self.public.as_bytes()).expect("a public key")
    }

    /// Claims as they are, which [`mint`] would never write.
    pub(super) fn signed(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm.of_library());
        header.kid = kid.map(str::to_owned);
        encode(&header, claims, &self.encoding()).expect("signs")
    }

    /// As a JWKS server writes it.
    pub(super) fn jwk(&self, kid: Option<&str>) -> Value {
        let pem = self.public.as_bytes();
        let key = match self.algorithm {
            PublicKeyAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            PublicKeyAlgorithm::ES256 => DecodingKey::from_ec_pem(pem),
            PublicKeyAlgorithm::EdDsa => DecodingKey::from_ed_pem(pem),
        };
        let jwk = Jwk::from_decoding_key(&key.expect("good"), Some(self.algorithm.of_library())).expect("good");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }
}

fn ring(keys: impl IntoIterator<Item = VerifyingKey>) -> Authenticator {
    Authenticator::new(Keyring::new(keys.into_iter().collect()).expect("good together"), None, None)
}

fn let_in(edge: &Authenticator, token: &str) -> Result<Access, TokenError> {
    edge.verify(Some(token), Some("ann"), now())
}

#[test]
fn each_key_checks_what_its_owner_signed_and_nothing_that_another_did() {
    for (index, owner) in PAIRS.iter().enumerate() {
        let token = mint(&owner.signing(), &request(), now()).expect("mints");
        for (other, pair) in PAIRS.iter().enumerate() {
            let verified = let_in(&ring([pair.verifying(None)]), &token);
            assert_eq!(verified.is_ok(), other == index, "{} by {}", owner.algorithm, pair.algorithm);
        }
        assert_eq!(let_in(&authenticator(), &token), Err(TokenError::Invalid));
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    for pair in PAIRS.iter() {
        let der = pem_body(&pair.public);
        for secret in [pair.public.as_bytes(), pair.public.trim().as_bytes(), der.as_slice(), b""] {
            for kid in [None, Some("k1")] {
                let mut header = Header::new(Algorithm::HS256);
                header.kid = kid.map(str::to_owned);
                let token = encode(&header, &good(), &EncodingKey::from_secret(secret)).expect("signs");
                let edge = ring([pair.verifying(Some("k1")), VerifyingKey::shared_secret(&self::secret())]);
                assert_eq!(let_in(&edge, &token), Err(TokenError::Invalid), "{}", pair.algorithm);
            }
        }
    }
}

fn pem_body(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
}

#[test]
fn a_named_key_is_used_with_its_own_algorithm_only() {
    let [rs, es, ed] = &PAIRS[..] else { panic!("three") };
    let edge = ring([rs.verifying(Some("rs")), es.verifying(Some("es")), ed.verifying(Some("ed"))]);
    for pair in PAIRS.iter() {
        for kid in ["rs", "es", "ed"] {
            let is_its = let_in(&ring([pair.verifying(Some(kid))]), &pair.signed(Some(kid), &good())).is_ok();
            assert!(is_its);
            let verified = let_in(&edge, &pair.signed(Some(kid), &good()));
            let its_own = pair.algorithm.name().to_lowercase().starts_with(kid);
            assert_eq!(verified.is_ok(), its_own, "{} with {kid}", pair.algorithm);
        }
    }
}

#[test]
fn the_family_of_an_algorithm_is_not_the_algorithm() {
    let pair = &PAIRS[0];
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS512] {
        let token = encode(&Header::new(algorithm), &good(), &pair.encoding()).expect("signs");
        assert_eq!(let_in(&ring([pair.verifying(None)]), &token), Err(TokenError::Invalid), "{algorithm:?}");
    }
}

#[test]
fn a_token_without_a_signature_is_refused_whatever_the_keys() {
    let claims = URL_SAFE_NO_PAD.encode(good().to_string());
    for pair in PAIRS.iter() {
        for alg in ["none", "NONE", pair.algorithm.name(), "HS256"] {
            let head = URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": alg}).to_string());
            for signature in ["", "AAAA", &URL_SAFE_NO_PAD.encode([0; 64]), &URL_SAFE_NO_PAD.encode([0; 256])] {
                let token = format!("{head}.{claims}.{signature}");
                assert_eq!(let_in(&ring([pair.verifying(None)]), &token), Err(TokenError::Invalid), "{alg}");
            }
        }
    }
}

#[test]
fn critical_extensions_are_refused_with_each_key() {
    for pair in PAIRS.iter() {
        for crit in [vec![], vec!["exp".to_owned()]] {
            let mut header = Header::new(pair.algorithm.of_library());
            header.crit = Some(crit);
            let token = encode(&header, &good(), &pair.encoding()).expect("signs");
            assert_eq!(let_in(&ring([pair.verifying(None)]), &token), Err(TokenError::Invalid));
        }
    }
}

#[test]
fn keys_can_follow_one_another() {
    let (old, new) = (generated(PublicKeyAlgorithm::EdDsa, &rcgen::PKCS_ED25519), &PAIRS[2]);
    let edge = ring([old.verifying(Some("old")), new.verifying(Some("new")), VerifyingKey::shared_secret(&secret())]);
    assert!(let_in(&edge, &old.signed(Some("old"), &good())).is_ok());
    assert!(let_in(&edge, &new.signed(Some("new"), &good())).is_ok());
    assert!(let_in(&edge, &signed(&good())).is_ok(), "a token without a kid is the secret's");
    assert_eq!(let_in(&edge, &new.signed(Some("old"), &good())), Err(TokenError::Invalid));
    assert_eq!(let_in(&edge, &new.signed(Some("newer"), &good())), Err(TokenError::UnknownKey));
    assert_eq!(let_in(&edge, &new.signed(None, &good())), Err(TokenError::Invalid), "two could be meant");
    assert!(let_in(&ring([new.verifying(Some("new"))]), &new.signed(None, &good())).is_ok(), "one can be");
    assert!(let_in(&ring([new.verifying(None)]), &new.signed(Some("any"), &good())).is_ok(), "it has no name");
}

#[test]
fn keys_that_cannot_be_told_apart_are_refused() {
    let key = |kid: Option<&str>| PAIRS[2].verifying(kid);
    let twice = Keyring::new(vec![key(Some("a")), key(Some("b")), key(Some("a"))]).expect_err("ambiguous");
    assert_eq!((twice, twice.index()), (KeyringError::DuplicateKid(2), 2));
    let unnamed = Keyring::new(vec![key(None); MAX_UNNAMED + 1]).expect_err("too many");
    assert_eq!(unnamed, KeyringError::TooManyUnnamed(MAX_UNNAMED));
    assert!(Keyring::new(vec![key(None); MAX_UNNAMED]).is_ok());
}

#[test]
fn keys_that_are_none_or_weak_are_named() {
    let [rs, es, ed] = &PAIRS[..] else { panic!("three") };
    let read = |algorithm, pem: &str| VerifyingKey::from_pem(algorithm, None, pem.as_bytes()).err();
    let rs256 = PublicKeyAlgorithm::RS256;
    assert_eq!(read(rs256, &rsa_pair(1_024).1), Some(KeyError::Weak(1_024)));
    for pair in PAIRS.iter() {
        assert_eq!(read(pair.algorithm, &pair.private), Some(KeyError::Private));
        assert_eq!(read(pair.algorithm, &format!("{}{}", pair.public, pair.public)), Some(KeyError::Several));
        for other in PublicKeyAlgorithm::ALL.into_iter().filter(|other| *other != pair.algorithm) {
            assert_eq!(read(other, &pair.public), Some(KeyError::OtherAlgorithm(other)), "{}", pair.algorithm);
        }
        let cut = pair.public.replacen(&pair.public[40..48], "", 1);
        assert!(read(pair.algorithm, &cut).is_some(), "{cut}");
    }
    for prose in [
        "",
        "certainly\n",
        "-----BEGIN PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(matches!(read(rs256, prose), Some(KeyError::NoPublicKey | KeyError::OtherAlgorithm(_))), "{prose}");
    }
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("a certificate");
    assert_eq!(
        read(es.algorithm, &made.cert.pem()),
        Some(KeyError::NoPublicKey),
        "a certificate's key is not for this"
    );
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    assert_eq!(read(es.algorithm, &p384.public_key_pem()), Some(KeyError::OtherAlgorithm(es.algorithm)));
    for kid in [String::new(), "k".repeat(257)] {
        assert_eq!(VerifyingKey::from_pem(ed.algorithm, Some(kid), ed.public.as_bytes()).err(), Some(KeyError::BadKid));
    }
    assert!(SigningKey::from_pem(rsa_pair(1_024).0.as_bytes()).is_err(), "nor is signed with one");
    assert!(SigningKey::from_pem(rs.public.as_bytes()).is_err());
}

/// What a claim can be, and whether that is good.
fn claim(good: Vec<Value>, bad: Vec<Value>) -> impl Strategy<Value = (Value, bool)> {
    let good = prop::sample::select(good).prop_map(|value| (value, true));
    let bad = prop::sample::select(bad).prop_map(|value| (value, false));
    prop_oneof![8 => good, 1 => bad]
}

type Claims = [(&'static str, (Value, bool)); 7];

fn any_claims() -> impl Strategy<Value = Claims> {
    let never = || vec![json!("1"), json!(null), json!(-1), json!([]), json!({}), json!(true)];
    let times = |good: &[u64], bad: &[u64]| {
        let bad = bad.iter().map(|at| json!(at)).chain(never()).collect();
        claim(good.iter().map(|at| json!(at)).collect(), bad)
    };
    let texts = |good: &[&str], bad: &[Value]| claim(good.iter().map(|it| json!(it)).collect(), bad.to_vec());
    (
        texts(&["ann"], &[json!("bob"), json!(""), json!("a/b"), json!(1), json!(null), json!(["ann"])]),
        times(&[NOW + 1, NOW + 600], &[NOW, NOW - 1, 0]),
        times(&[0, NOW, NOW + 30], &[NOW + 31]),
        times(&[0, NOW, NOW + 30], &[NOW + 31]),
        texts(&["r", "r*", "*"], &[json!(""), json!("**"), json!(7), json!(null)]),
        claim(
            vec![json!([]), json!(["publish"]), json!(["admin", "record"])],
            vec![json!("publish"), json!(["fly"]), json!([1]), json!(null), json!({})],
        ),
        texts(&["t1"], &[json!(""), json!(1), json!(null), json!("x".repeat(129))]),
    )
        .prop_map(|(sub, exp, nbf, iat, rid, grants, jti)| {
            [("sub", sub), ("exp", exp), ("nbf", nbf), ("iat", iat), ("rid", rid), ("grants", grants), ("jti", jti)]
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// With whichever algorithm: in if and only if every claim is good.
    #[test]
    fn one_bad_claim_is_enough_to_be_refused(claims in any_claims()) {
        let is_good = claims.iter().all(|(_, (_, is_good))| *is_good);
        let claims = Value::Object(claims.into_iter().map(|(name, (value, _))| (name.to_owned(), value)).collect());
        prop_assert_eq!(verify(&claims).is_ok(), is_good, "{}", &claims);
        for pair in PAIRS.iter() {
            let verified = let_in(&ring([pair.verifying(Some("k"))]), &pair.signed(Some("k"), &claims));
            prop_assert_eq!(verified.is_ok(), is_good, "{} {}", pair.algorithm, &claims);
        }
    }

    /// Neither head, claims nor signature can be changed, in any bit.
    #[test]
    fn no_change_to_a_token_survives(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
        for pair in PAIRS.iter() {
            let token = pair.signed(None, &good());
            let at = at.index(token.len());
            // The last character has bits that mean nothing, and that the decoder insists on being zero.
            let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
            let verified = let_in(&ring([pair.verifying(None)]), &changed);
            prop_assert_eq!(verified.is_ok(), changed == token, "{} at {}", pair.algorithm, at);
        }
    }

    #[test]
    fn no_token_panics(token in "[ -~]{0,80}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let edge = ring(PAIRS.iter().map(|pair| pair.verifying(None)));
        prop_assert!(let_in(&edge, &token).is_err());
        prop_assert!(let_in(&edge, &parts.join(".")).is_err());
    }
}
