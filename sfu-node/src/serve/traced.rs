//! Calls are carried out under the id of the request that they are made for (W3C `traceparent`), if they name one.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::http::Request;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use telemetry::trace::{Kind, TRACEPARENT, Trace};
use tonic::server::NamedService;
use tower::Service;

/// A service of gRPC around which it is done.
#[derive(Debug, Clone)]
pub(super) struct Traced<S>(pub(super) S);

impl<S: NamedService> NamedService for Traced<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Error = Infallible>,
    S::Future: Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let Some(caller) = caller.and_then(Trace::from_traceparent) else {
            return Either::Left(self.0.call(request));
        };
        let name = method(request.uri().path());
        let step = caller.step(rand::random());
        Either::Right(step.follow(name, Kind::Server, caller, self.0.call(request)).boxed())
    }
}

/// What the call is, of those that a trace goes with: a name of ours, whatever the caller writes.
fn method(path: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["Negotiate", "Restart", "CloseTransports", "Describe", "Survey", "SetMetadata", "Record"];
    let called = path.rsplit('/').next().unwrap_or_default();
    KNOWN.into_iter().find(|name| *name == called).unwrap_or("call")
}
