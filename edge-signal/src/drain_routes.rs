//! `POST /drain`, for [operators](crate::operators): the same as SIGTERM. How clients are sent away is `departure`'s.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use telemetry::begin_drain;
use tokio_util::sync::CancellationToken;

use crate::operators::{Operators, Refusal};
use crate::proxy_header::Caller;

struct Desk {
    drain: CancellationToken,
    operators: Arc<Operators>,
}

/// The route. `drain` is what SIGTERM cancels.
pub(crate) fn routes(drain: CancellationToken, operators: Arc<Operators>) -> Router {
    Router::new().route("/drain", post(ask)).with_state(Arc::new(Desk { drain, operators }))
}

async fn ask(
    State(desk): State<Arc<Desk>>,
    Caller(caller): Caller,
    headers: HeaderMap,
) -> Result<(StatusCode, &'static str), Refusal> {
    desk.operators.admit(caller, &headers).await?;
    Ok(begin_drain(&desk.drain, &headers))
}
