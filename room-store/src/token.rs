//! Session tokens: what a client shows to go on with its session, on whatever edge.
//!
//! A token is a session's id and a signature (HMAC-SHA-256) over it, the room and the peer. Edges sign and verify; stores only
//! see ids. So a token says something even to a store that has lost the session, and one that was made up never gets that
//! far. All edges of a deployment share the secret.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use proto::ids::{PeerId, RoomId, SessionId, SessionToken};
use sha2::Sha256;

/// Shortest secret, in bytes: that of the hash.
const MIN_SECRET: usize = 32;

/// A secret too short to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session secret is shorter than 32 bytes")]
pub struct WeakSecret;

/// Signs and verifies session tokens.
#[derive(Clone)]
pub struct SessionSigner(Hmac<Sha256>);

impl SessionSigner {
    /// `secret`: at least 32 bytes, the same on every edge.
    pub fn new(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < MIN_SECRET {
            return Err(WeakSecret);
        }
        Hmac::new_from_slice(secret).map(Self).map_err(|_| WeakSecret)
    }

    /// A signer of its own, for an edge that shares sessions with no other: its tokens end with the process.
    pub fn random() -> Self {
        let secret: [u8; MIN_SECRET] = rand::random();
        Self::new(&secret).expect("invariant: the secret is long enough")
    }

    /// The token of a session.
    pub fn sign(&self, room: &RoomId, peer: &PeerId, session: &SessionId) -> SessionToken {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.mac(room, peer, session).finalize().into_bytes());
        SessionToken::new(format!("{session}.{signature}"))
            .expect("invariant: 64, a dot and 43 characters of its alphabet")
    }

    /// The session a token is of, if it was signed for this room and peer. Compared in constant time.
    pub fn verify(&self, room: &RoomId, peer: &PeerId, token: &SessionToken) -> Option<SessionId> {
        let (session, signature) = token.as_str().rsplit_once('.')?;
        let session = SessionId::new(session).ok()?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(room, peer, &session).verify_slice(&signature).is_ok().then_some(session)
    }

    /// No field contains a control character, so zero bytes keep them apart.
    fn mac(&self, room: &RoomId, peer: &PeerId, session: &SessionId) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for field in ["sluice session 1", room.as_str(), peer.as_str(), session.as_str()] {
            mac.update(field.as_bytes());
            mac.update(&[0]);
        }
        mac
    }
}

impl std::fmt::Debug for SessionSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSigner")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (RoomId, PeerId, SessionId) {
        (RoomId::new("r").expect("valid"), PeerId::new("p").expect("valid"), SessionId::of(7))
    }

    #[test]
    fn a_token_is_good_for_its_room_and_peer_only() {
        let signer = SessionSigner::new(&[7; 32]).expect("long enough");
        let (room, peer, session) = names();
        let token = signer.sign(&room, &peer, &session);
        assert_eq!(signer.verify(&room, &peer, &token), Some(session));
        assert_eq!(signer.verify(&RoomId::new("other").expect("valid"), &peer, &token), None);
        assert_eq!(signer.verify(&room, &PeerId::new("other").expect("valid"), &token), None);
    }

    #[test]
    fn another_edge_with_the_secret_verifies_it_and_one_without_does_not() {
        let (room, peer, session) = names();
        let token = SessionSigner::new(&[7; 32]).expect("long enough").sign(&room, &peer, &session);
        assert!(SessionSigner::new(&[7; 32]).expect("long enough").verify(&room, &peer, &token).is_some());
        assert!(SessionSigner::new(&[8; 32]).expect("long enough").verify(&room, &peer, &token).is_none());
        assert!(SessionSigner::random().verify(&room, &peer, &token).is_none());
    }

    #[test]
    fn no_change_to_a_token_survives() {
        let signer = SessionSigner::new(&[7; 32]).expect("long enough");
        let (room, peer, session) = names();
        let token = signer.sign(&room, &peer, &session);
        let text = token.as_str();
        let mut forged =
            vec![session.to_string(), format!("{session}."), ".".to_owned(), text[..text.len() - 1].to_owned()];
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            forged.push(String::from_utf8(bytes).expect("ASCII"));
        }
        for forgery in forged {
            let forgery = SessionToken::new(&forgery).expect("well-formed");
            assert_eq!(signer.verify(&room, &peer, &forgery), None, "{forgery}");
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(SessionSigner::new(&[7; 31]).is_err());
        assert!(SessionSigner::new(&[]).is_err());
    }
}
