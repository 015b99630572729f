//! Calls are counted and timed by method and result.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::http::{HeaderMap, Request, Response};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::{Counter, Histogram};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::metrics::catalogue::{REQUEST_SECONDS, REQUESTS};

/// Methods by their names in the service and in metrics.
const METHODS: [(&str, &str); 8] = [
    ("Negotiate", "negotiate"),
    ("Restart", "restart"),
    ("CloseTransports", "close_transports"),
    ("Watch", "watch"),
    ("Describe", "describe"),
    ("Survey", "survey"),
    ("SetMetadata", "set_metadata"),
    ("Record", "record"),
];

/// Results that are told apart; the last is any other.
const RESULTS: [(Code, &str); 9] = [
    (Code::Ok, "ok"),
    (Code::InvalidArgument, "invalid_argument"),
    (Code::NotFound, "not_found"),
    (Code::AlreadyExists, "already_exists"),
    (Code::ResourceExhausted, "resource_exhausted"),
    (Code::FailedPrecondition, "failed_precondition"),
    (Code::Aborted, "aborted"),
    (Code::Unavailable, "unavailable"),
    (Code::Unknown, "other"),
];

/// A service of gRPC around which it is done; clones count together.
#[derive(Clone)]
pub(super) struct Metered<S> {
    service: S,
    methods: Arc<[Method]>,
}

/// The metrics of one method.
#[derive(Clone)]
struct Method {
    seconds: Histogram,
    /// In the order of [`RESULTS`].
    results: [Counter; RESULTS.len()],
}

impl<S> Metered<S> {
    pub(super) fn new(service: S) -> Self {
        Self { service, methods: METHODS.iter().map(|(_, name)| Method::register(name)).collect() }
    }
}

impl Method {
    fn register(method: &str) -> Self {
        Self {
            seconds: REQUEST_SECONDS.histogram(&[("method", method)]),
            results: RESULTS.map(|(_, result)| REQUESTS.counter(&[("method", method), ("result", result)])),
        }
    }

    fn answered(&self, code: Code, begun: Instant) {
        self.seconds.record(begun.elapsed());
        let result = RESULTS.iter().position(|(known, _)| *known == code).unwrap_or(RESULTS.len() - 1);
        self.results[result].increment(1);
    }
}

impl<S: NamedService> NamedService for Metered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for Metered<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<R>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = METHODS.iter().position(|(name, _)| request.uri().path().rsplit('/').next() == Some(*name));
        let method = method.map(|method| self.methods[method].clone());
        let begun = Instant::now();
        let answer = self.service.call(request);
        let answered = move |answer: &Result<Response<R>, Infallible>| {
            if let (Some(method), Ok(response)) = (method, answer) {
                method.answered(code(response.headers()), begun);
            }
        };
        async move {
            let answer = answer.await;
            answered(&answer);
            answer
        }
        .boxed()
    }
}

/// What a call came to. A failure of ours comes with the headers, for nothing follows them.
fn code(headers: &HeaderMap) -> Code {
    Status::from_header_map(headers).map_or(Code::Ok, |status| status.code())
}
