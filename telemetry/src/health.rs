//! `/healthz` (alive), `/readyz` (wants traffic) and `/metrics`, and the latches that make a process ready.
//!
//! Alive and ready differ: a draining process is alive but not ready. Nothing here restarts or stops anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::metrics::Metrics;

/// How long a scrape waits for the one before it. Those of several who watch take turns; Prometheus itself waits for 10 s.
const TURN: Duration = Duration::from_secs(2);

/// How long each step of asking whether a process is alive may take.
const ASKING: Duration = Duration::from_secs(2);

type Conditions = BTreeMap<&'static str, Condition>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Ready,
    Waiting(Cow<'static, str>),
}

/// Whether this process wants traffic: when it has latches and every one of them is ready. Clones share the latches.
#[derive(Debug, Clone, Default)]
pub struct Readiness(watch::Sender<Conditions>);

/// One part's say in the readiness of the process. Dropped, it is not ready for good.
#[derive(Debug)]
pub struct Latch {
    part: &'static str,
    conditions: watch::Sender<Conditions>,
}

impl Readiness {
    /// Without a latch, so not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A latch for `part` (shown to whoever asks why the process is not ready), which is starting.
    pub fn latch(&self, part: &'static str) -> Latch {
        let latch = Latch { part, conditions: self.0.clone() };
        latch.wait("starting");
        latch
    }

    /// Waits until the process is ready.
    pub async fn ready(&self) {
        let mut conditions = self.0.subscribe();
        // The sender is `self`: the channel cannot close while this waits.
        let _ = conditions.wait_for(all_ready).await;
    }

    fn reasons(&self) -> Result<(), String> {
        let conditions = self.0.borrow();
        if all_ready(&conditions) {
            return Ok(());
        }
        let waiting = conditions.iter().filter_map(|(part, condition)| match condition {
            Condition::Ready => None,
            Condition::Waiting(reason) => Some(format!("{part}: {reason}\n")),
        });
        Err(waiting.collect())
    }
}

fn all_ready(conditions: &Conditions) -> bool {
    !conditions.is_empty() && conditions.values().all(|condition| *condition == Condition::Ready)
}

impl Latch {
    /// This part wants traffic.
    pub fn ready(&self) {
        self.set(&Condition::Ready);
    }

    /// This part wants none for now; `reason` is for people.
    pub fn wait(&self, reason: impl Into<Cow<'static, str>>) {
        self.set(&Condition::Waiting(reason.into()));
    }

    fn set(&self, condition: &Condition) {
        self.conditions
            .send_if_modified(|conditions| conditions.insert(self.part, condition.clone()).as_ref() != Some(condition));
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.wait("ended");
    }
}

/// The three routes, for the listener of the operators.
pub fn routes(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(exposition).with_state(Scrapes { metrics, turn: Arc::new(Semaphore::new(1)) }))
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.reasons() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons),
    }
}

/// One at a time, and on a thread that may block: writing some thousand series takes milliseconds.
#[derive(Clone)]
struct Scrapes {
    metrics: Metrics,
    turn: Arc<Semaphore>,
}

async fn exposition(State(Scrapes { metrics, turn }): State<Scrapes>) -> Response {
    let Ok(Ok(turn)) = timeout(TURN, turn.acquire_owned()).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes\n").into_response();
    };
    let written = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        metrics.render()
    });
    match written.await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        // The process ends.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Asks `/healthz` of the process that has `admin_listen` on this machine, and blocks meanwhile: for a container's healthcheck, whose image
/// has no other program that could. An address of every interface is asked on loopback.
pub(crate) fn ask_alive(mut address: SocketAddr) -> io::Result<()> {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        });
    }
    let mut stream = TcpStream::connect_timeout(&address, ASKING)?;
    stream.set_read_timeout(Some(ASKING))?;
    stream.set_write_timeout(Some(ASKING))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut status = [0; b"HTTP/1.0 200".len()];
    stream.read_exact(&mut status)?;
    if status.starts_with(b"HTTP/1.") && status.ends_with(b" 200") {
        return Ok(());
    }
    Err(io::Error::other(format!("{address} answers {}", String::from_utf8_lossy(&status))))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_process_is_ready_when_all_its_parts_are() {
        let readiness = Readiness::new();
        let router = routes(readiness.clone(), Metrics::install().expect("installed"));
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        let media = readiness.latch("media");
        let store = readiness.latch("store");
        media.ready();
        assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "store: starting\n".to_owned()));
        store.ready();
        assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
        media.wait("draining");
        assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "media: draining\n".to_owned()));
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_part_that_ended_is_not_ready() {
        let readiness = Readiness::new();
        let media = readiness.latch("media");
        media.ready();
        assert_eq!(readiness.reasons(), Ok(()));
        drop(media);
        assert_eq!(readiness.reasons(), Err("media: ended\n".to_owned()));
    }

    #[tokio::test]
    async fn readiness_can_be_awaited() {
        let readiness = Readiness::new();
        let media = readiness.latch("media");
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        media.ready();
        waiting.await.expect("woken");
    }

    #[tokio::test]
    async fn metrics_are_served_in_prometheus_format() {
        let metrics = Metrics::install().expect("installed");
        metrics::gauge!("sluice_test_served").set(1.0);
        let (status, body) = get(&routes(Readiness::new(), metrics), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("sluice_test_served 1"), "{body}");
    }
}
