//! A server that publishes keys, as identity providers do: it rotates, goes away and comes back on the same address, and says wrong
//! things when told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use edge_signal::auth::{Grant, SigningKey, TokenRequest, mint};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A key that signs, by its name.
pub(crate) struct TestKey {
    pub(crate) kid: String,
    pair: rcgen::KeyPair,
}

impl TestKey {
    pub(crate) fn generate(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        Self { kid: kid.to_owned(), pair }
    }

    pub(crate) fn private_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    pub(crate) fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// As a server publishes it.
    pub(crate) fn published(&self) -> Value {
        let key = DecodingKey::from_ed_pem(self.public_pem().as_bytes()).expect("good");
        let mut jwk = Jwk::from_decoding_key(&key, Some(Algorithm::EdDSA)).expect("good");
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).expect("JSON")
    }

    /// A token of that peer for room `r`, and everything in it.
    pub(crate) fn token(&self, peer: &str) -> String {
        self.mint(peer, Some(self.kid.clone()))
    }

    /// The same, without the key's name in it.
    pub(crate) fn unnamed_token(&self, peer: &str) -> String {
        self.mint(peer, None)
    }

    fn mint(&self, peer: &str, kid: Option<String>) -> String {
        let key = SigningKey::from_pem(self.private_pem().as_bytes()).expect("good").named(kid);
        let request = TokenRequest {
            peer: peer.to_owned(),
            rid: "r".to_owned(),
            grants: Grant::ALL.to_vec(),
            ttl: Duration::from_mins(10),
            id: None,
            record: false,
            issuer: None,
            audience: None,
        };
        mint(&key, &request, SystemTime::now()).expect("mints")
    }
}

/// The server.
pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    published: Arc<Published>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Published {
    answer: Mutex<(StatusCode, String)>,
    asked: AtomicUsize,
}

impl KeyServer {
    pub(crate) async fn start(keys: &[&TestKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut server = Self { address, published: Arc::default(), serving: None };
        server.publish(keys);
        server.serve(listener);
        server
    }

    /// These, and no others, from now on.
    pub(crate) fn publish(&self, keys: &[&TestKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
        self.say(StatusCode::OK, json!({"keys": keys}).to_string());
    }

    pub(crate) fn say(&self, status: StatusCode, body: String) {
        *self.published.answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, body);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    /// Waits until it has been asked once more.
    pub(crate) async fn asked_again(&self) {
        let before = self.asked();
        let again = async {
            while self.asked() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(super::PATIENCE, again).await.expect("asked in time");
    }

    /// Nobody answers on its address any more.
    pub(crate) async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// It is there again.
    pub(crate) async fn come_back(&mut self) {
        self.serve(TcpListener::bind(self.address).await.expect("still free"));
    }

    fn serve(&mut self, listener: TcpListener) {
        let routes = Router::new().route("/keys", get(answer)).with_state(Arc::clone(&self.published));
        self.serving = Some(tokio::spawn(async move { axum::serve(listener, routes).await.expect("serves") }));
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn answer(State(published): State<Arc<Published>>) -> (StatusCode, String) {
    published.asked.fetch_add(1, Ordering::SeqCst);
    published.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
