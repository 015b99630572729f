//! `POST /drain`, for programs of this machine: the same as SIGTERM, for those who have no way to send one.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio_util::sync::CancellationToken;

/// The route. `drain` is what SIGTERM cancels. Asked from another machine it answers 403: nothing here knows who an operator is. It
/// needs `into_make_service_with_connect_info::<SocketAddr>`.
pub fn drain_route(drain: CancellationToken) -> Router {
    Router::new().route("/drain", post(ask)).with_state(drain)
}

async fn ask(
    State(drain): State<CancellationToken>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if !from.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "only from this machine\n").into_response();
    }
    begin_drain(&drain, &headers).into_response()
}

/// Begins the drain for whoever may ask for it: 202, and 200 when it has begun before. JSON is demanded of the request (its body may
/// be empty) because a page in a browser of this machine cannot send that to another origin without being asked first.
pub fn begin_drain(drain: &CancellationToken, headers: &HeaderMap) -> (StatusCode, &'static str) {
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !json {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "say content-type: application/json\n");
    }
    if drain.is_cancelled() {
        return (StatusCode::OK, "draining already\n");
    }
    tracing::info!("told to drain");
    drain.cancel();
    (StatusCode::ACCEPTED, "draining\n")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::connect_info::MockConnectInfo;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn ask(drain: &CancellationToken, from: &str, kind: &str) -> StatusCode {
        let from: SocketAddr = from.parse().expect("an address");
        let request =
            Request::post("/drain").header(header::CONTENT_TYPE, kind).body(Body::empty()).expect("a request");
        let router = drain_route(drain.clone()).layer(MockConnectInfo(from));
        router.oneshot(request).await.expect("infallible").status()
    }

    #[tokio::test]
    async fn a_program_of_this_machine_begins_the_drain_once() {
        let drain = CancellationToken::new();
        assert_eq!(ask(&drain, "[::ffff:127.0.0.1]:1", "application/json").await, StatusCode::ACCEPTED);
        assert!(drain.is_cancelled());
        assert_eq!(ask(&drain, "[::1]:1", "application/json; charset=utf-8").await, StatusCode::OK);
    }

    #[tokio::test]
    async fn other_machines_and_web_pages_begin_nothing() {
        let drain = CancellationToken::new();
        assert_eq!(ask(&drain, "192.0.2.1:1", "application/json").await, StatusCode::FORBIDDEN);
        assert_eq!(ask(&drain, "127.0.0.1:1", "text/plain").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(!drain.is_cancelled());
    }
}
