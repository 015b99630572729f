//! Who may revoke, what, and what they are told.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use http::Method;
use room_store::MemoryRevocations;
use tower::ServiceExt as _;

use super::*;
use crate::admission::Admission;
use crate::auth::{Authenticator, Grant, SharedSecret, SigningKey, TokenRequest, mint};

const SECRET: [u8; 32] = [7; 32];

struct Asked {
    status: StatusCode,
    body: Value,
    retry_after: bool,
}

struct Subject {
    router: Router,
    revocations: MemoryRevocations,
    from: &'static str,
}

impl Subject {
    fn with_keys() -> Self {
        let secret = SharedSecret::new(SECRET).expect("long enough");
        Self::new(Authenticator::shared_secret(&secret, None, None))
    }

    fn open() -> Self {
        Self::new(Authenticator::open())
    }

    fn new(authenticator: Authenticator) -> Self {
        let revocations = MemoryRevocations::default();
        let admission = Arc::new(Admission::new(authenticator, None, &revocations));
        let operators = Arc::new(Operators::new(admission, Vec::new()));
        let router = routes(Arc::new(revocations.clone()), operators);
        Self { router, revocations, from: "127.0.0.1:5" }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Asked {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:9080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).expect("a request");
        let from: SocketAddr = self.from.parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(from));
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (status, retry_after) = (response.status(), response.headers().contains_key("retry-after"));
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        Asked { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null), retry_after }
    }

    async fn revoke(&self, token: Option<&str>, body: &Value) -> Asked {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.ask(Method::POST, "/revoke", &headers, &body.to_string()).await
    }

    async fn list(&self, query: &str, token: &str) -> Asked {
        let bearer = format!("Bearer {token}");
        self.ask(Method::GET, &format!("/revocations{query}"), &[("authorization", &bearer)], "").await
    }

    fn count(&self) -> usize {
        self.revocations.watch().borrow().0.len()
    }
}

fn token(peer: &str, rid: &str, grants: &[Grant]) -> String {
    let key = SigningKey::shared_secret(&SharedSecret::new(SECRET).expect("long enough"));
    let request = TokenRequest {
        peer: peer.into(),
        rid: rid.into(),
        grants: grants.to_vec(),
        ttl: Duration::from_mins(1),
        id: Some("op1".to_owned()),
        record: false,
        issuer: None,
        audience: None,
    };
    mint(&key, &request, SystemTime::now()).expect("mints")
}

fn admin() -> String {
    token("operator", "*", &[Grant::Admin])
}

#[tokio::test]
async fn an_operator_revokes_a_peer_or_a_token() {
    let subject = Subject::with_keys();
    let order = json!({"peer": "ann", "lifetime": "2h"});
    assert_eq!(subject.revoke(Some(&admin()), &order).await.status, StatusCode::OK);
    assert_eq!(subject.revoke(Some(&admin()), &json!({"token": "t1"})).await.status, StatusCode::OK);
    let list = Arc::clone(&subject.revocations.watch().borrow());
    let lifetime = |revoked: &Revoked| {
        let times = list.0[revoked];
        times.until.duration_since(times.at).expect("later")
    };
    assert_eq!(lifetime(&Revoked::Peer(PeerId::new("ann").expect("valid"))), Duration::from_hours(2));
    assert_eq!(lifetime(&Revoked::Token("t1".to_owned())), Duration::from_hours(24));
}

#[tokio::test]
async fn nobody_else_does() {
    let subject = Subject::with_keys();
    let order = json!({"peer": "ann"});
    let rest = [Grant::Publish, Grant::Subscribe, Grant::Broadcast, Grant::Record];
    for (token, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("x.y.z".to_owned()), StatusCode::UNAUTHORIZED),
        (Some(token("ann", "*", &rest)), StatusCode::FORBIDDEN),
        (Some(token("ann", "r", &[Grant::Admin])), StatusCode::FORBIDDEN),
        (Some(token("ann", "r*", &[Grant::Admin])), StatusCode::FORBIDDEN),
    ] {
        let asked = subject.revoke(token.as_deref(), &order).await;
        assert_eq!(asked.status, status, "{token:?}");
        assert!(asked.body["errorReason"].is_string());
        assert_eq!(subject.list("", &token.unwrap_or_default()).await.status, status);
    }
    assert_eq!(subject.count(), 0);
    assert_eq!(subject.revoke(Some(&admin()), &json!({"token": "op1"})).await.status, StatusCode::OK);
    assert_eq!(subject.revoke(Some(&admin()), &order).await.status, StatusCode::UNAUTHORIZED, "nor who was revoked");
}

#[tokio::test]
async fn orders_that_mean_nothing_are_refused() {
    let subject = Subject::with_keys();
    for order in [
        json!({}),
        json!({"peer": "ann", "token": "t"}),
        json!({"peer": "a/b"}),
        json!({"peer": 1}),
        json!({"token": ""}),
        json!({"token": "x".repeat(MAX_TOKEN_ID + 1)}),
        json!({"peer": "ann", "lifetime": "1s"}),
        json!({"peer": "ann", "lifetime": "ever"}),
        json!({"peer": "ann", "lifetime": "90000h"}),
        json!({"peer": "ann", "because": "x"}),
        json!([]),
    ] {
        let asked = subject.revoke(Some(&admin()), &order).await;
        assert_eq!((asked.status, &asked.body["error"]), (StatusCode::BAD_REQUEST, &json!("bad_request")), "{order}");
    }
    let long = subject.revoke(Some(&admin()), &json!({"peer": "x".repeat(5_000)})).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    let bearer = format!("Bearer {}", admin());
    let form = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    let asked = subject.ask(Method::POST, "/revoke", &form, r#"{"peer":"ann"}"#).await;
    assert_eq!(asked.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(subject.count(), 0);
}

#[tokio::test]
async fn what_is_revoked_is_listed_in_pages() {
    let subject = Subject::with_keys();
    for n in 0..5 {
        let revoked = if n < 3 { json!({"peer": format!("p{n}")}) } else { json!({"token": format!("t:{n}")}) };
        assert_eq!(subject.revoke(Some(&admin()), &revoked).await.status, StatusCode::OK);
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    for _ in 0..3 {
        let page = subject.list(&query, &admin()).await.body;
        for entry in page["revocations"].as_array().expect("a list") {
            assert!(entry["until"].as_u64() > entry["at"].as_u64(), "{entry}");
            seen.push(entry.get("peer").or(entry.get("token")).expect("one").clone());
        }
        match page["more"].as_str() {
            Some(more) => query = format!("?limit=2&after={more}"),
            None => query.clear(),
        }
    }
    assert_eq!((json!(seen), query), (json!(["p0", "p1", "p2", "t:3", "t:4"]), String::new()));
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?after=x", "?after=peer:a/b", "?more=1"] {
        assert_eq!(subject.list(bad, &admin()).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn without_keys_only_programs_of_this_machine_revoke() {
    let mut subject = Subject::open();
    let json = ("content-type", "application/json");
    let order = r#"{"peer":"ann"}"#;
    for stranger in [
        ("origin", "https://evil.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("via", "1.1 proxy"),
    ] {
        let asked = subject.ask(Method::POST, "/revoke", &[json, stranger], order).await;
        assert_eq!(asked.status, StatusCode::FORBIDDEN, "{stranger:?}");
    }
    subject.from = "192.0.2.1:5";
    assert_eq!(subject.revoke(None, &json!({"peer": "ann"})).await.status, StatusCode::FORBIDDEN);
    assert_eq!(subject.count(), 0);
    for own in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
        subject.from = own;
        assert_eq!(subject.revoke(None, &json!({"peer": "ann"})).await.status, StatusCode::OK, "{own}");
    }
}

#[tokio::test]
async fn orders_come_no_faster_than_all_edges_can_be_told() {
    let mut subject = Subject::with_keys();
    let mut refused = None;
    for n in 0..1_000 {
        // From many places: those of one are bounded as well.
        subject.from = ["192.0.2.1:5", "192.0.2.2:5", "192.0.2.3:5", "192.0.2.4:5"][n % 4];
        let asked = subject.revoke(Some(&admin()), &json!({"peer": "ann"})).await;
        if asked.status != StatusCode::OK {
            refused = Some(asked);
            break;
        }
    }
    let refused = refused.expect("bounded");
    assert_eq!((refused.status, refused.retry_after), (StatusCode::TOO_MANY_REQUESTS, true));
    subject.from = "192.0.2.5:5";
    let elsewhere = subject.revoke(Some(&admin()), &json!({"peer": "ann"})).await.status;
    assert_eq!(elsewhere, StatusCode::TOO_MANY_REQUESTS, "of all operators together");
}

#[tokio::test]
async fn a_stranger_who_asks_without_end_is_stopped_and_keeps_no_operator_away() {
    let mut subject = Subject::with_keys();
    subject.from = "192.0.2.1:5";
    let mut statuses = BTreeSet::new();
    for _ in 0..1_000 {
        statuses.insert(subject.revoke(Some("x.y.z"), &json!({"peer": "ann"})).await.status);
    }
    assert_eq!(statuses, [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].into());
    subject.from = "192.0.2.2:5";
    assert_eq!(subject.revoke(Some(&admin()), &json!({"peer": "ann"})).await.status, StatusCode::OK);
}

/// Revocations whose keeper is away, or full.
struct Failing(DirectoryError);

#[async_trait::async_trait]
impl Revocations for Failing {
    fn watch(&self) -> tokio::sync::watch::Receiver<Arc<room_store::RevocationList>> {
        MemoryRevocations::default().watch()
    }

    fn watch_loaded(&self) -> tokio::sync::watch::Receiver<bool> {
        MemoryRevocations::default().watch_loaded()
    }

    async fn revoke(&self, _: Revoked, _: Duration) -> Result<(), DirectoryError> {
        Err(self.0)
    }
}

#[tokio::test]
async fn a_keeper_that_is_away_or_full_is_told_as_that() {
    for (error, status, retry_after) in [
        (DirectoryError::Unavailable, StatusCode::SERVICE_UNAVAILABLE, true),
        (DirectoryError::Full, StatusCode::INSUFFICIENT_STORAGE, false),
    ] {
        let failing = Failing(error);
        let admission = Arc::new(Admission::new(Authenticator::open(), None, &failing));
        let router = routes(Arc::new(failing), Arc::new(Operators::new(admission, Vec::new())));
        let subject = Subject { router, revocations: MemoryRevocations::default(), from: "127.0.0.1:5" };
        let asked = subject.revoke(None, &json!({"peer": "ann"})).await;
        assert_eq!((asked.status, asked.retry_after), (status, retry_after), "{error}");
        assert!(asked.body["error"].is_string());
    }
}
