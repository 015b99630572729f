//! One call to an SFU node: within its deadline, repeated where that is safe, its failure turned into what the edge can
//! act on. Every call of the service is safe to repeat (ids are made before it), so whatever may have been lost is sent
//! again.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Response, Status};

/// How long one attempt may take before it counts as lost. A node answers within milliseconds; this leaves room for one
/// retransmitted SYN (1 s) and still for two attempts within a request's time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// More attempts would only add load to a node that is in trouble.
const MAX_ATTEMPTS: u32 = 3;
/// Mean pause before the second attempt; doubled for the third.
const BACKOFF: Duration = Duration::from_millis(100);
/// Longest text of a node that is shown to a client.
const MAX_REASON_CHARS: usize = 300;

/// Why a node did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SfuError {
    /// It did not answer in time, or cannot be reached.
    #[error("the SFU did not answer in time")]
    Unreachable,
    /// The SDP cannot be used; says which line or what is missing.
    #[error("{0}")]
    BadSdp(String),
    /// What the call names is not on the node.
    #[error("not on this SFU")]
    NotFound,
    /// It has been started anew since it was chosen, and has lost all it had.
    #[error("the SFU was restarted")]
    Restarted,
    /// The node takes nothing more, at all or of this client; says which.
    #[error("{0}")]
    Full(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<Status> for SfuError {
    fn from(status: Status) -> Self {
        match status.code() {
            _ if is_lost(&status) => Self::Unreachable,
            Code::InvalidArgument => Self::BadSdp(presentable(status.message())),
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition => Self::Restarted,
            Code::ResourceExhausted => Self::Full(presentable(status.message())),
            _ => Self::Failed(presentable(status.message())),
        }
    }
}

/// Calls until an answer comes, for as often and as long as allowed. `attempt` makes one call.
pub(super) async fn call<T, F>(deadline: Instant, mut attempt: impl FnMut() -> F) -> Result<T, SfuError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    for tries in 1.. {
        let attempt_deadline = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
        match timeout_at(attempt_deadline, attempt()).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) if !is_lost(&status) => return Err(status.into()),
            Ok(Err(_)) | Err(_) => {}
        }
        let again = Instant::now() + jittered(BACKOFF * 2u32.pow(tries - 1));
        if tries >= MAX_ATTEMPTS || again >= deadline {
            break;
        }
        sleep_until(again).await;
    }
    Err(SfuError::Unreachable)
}

/// Half to one and a half times `mean`, so that callers that failed together do not come back together.
pub(super) fn jittered(mean: Duration) -> Duration {
    mean.mul_f64(rand::random_range(0.5..1.5))
}

/// Whether the call or its answer was lost on the way, as opposed to answered. Transport errors come as `Unknown` with
/// their cause.
fn is_lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => true,
        Code::Unknown => status.source().is_some(),
        _ => false,
    }
}

fn presentable(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn calls(answers: &[Result<(), Status>], within: Duration) -> (Result<(), SfuError>, usize) {
        let made = Cell::new(0);
        let result = call(Instant::now() + within, || {
            let answer = answers[made.get().min(answers.len() - 1)].clone();
            made.set(made.get() + 1);
            async move { answer.map(Response::new) }
        })
        .await;
        (result, made.get())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_lost_is_sent_again() {
        let answers = [Err(Status::unavailable("")), Err(Status::deadline_exceeded("")), Ok(())];
        assert_eq!(calls(&answers, Duration::from_secs(5)).await, (Ok(()), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_taken_as_it_is() {
        let answers = [Err(Status::invalid_argument("line 3: \r\nno codec"))];
        let expected = Err(SfuError::BadSdp("line 3: no codec".to_owned()));
        assert_eq!(calls(&answers, Duration::from_secs(5)).await, (expected, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_after_three_attempts() {
        let answers = [Err(Status::unavailable(""))];
        assert_eq!(calls(&answers, Duration::from_mins(1)).await, (Err(SfuError::Unreachable), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_never_answers_takes_no_longer_than_the_deadline() {
        let start = Instant::now();
        let result = call::<(), _>(start + Duration::from_secs(4), std::future::pending).await;
        assert_eq!(result, Err(SfuError::Unreachable));
        assert!(start.elapsed() <= Duration::from_secs(4));
    }

    #[test]
    fn each_status_means_one_thing() {
        assert_eq!(SfuError::from(Status::not_found("x")), SfuError::NotFound);
        assert_eq!(SfuError::from(Status::failed_precondition("x")), SfuError::Restarted);
        assert_eq!(SfuError::from(Status::resource_exhausted("x")), SfuError::Full("x".into()));
        assert_eq!(SfuError::from(Status::already_exists("taken")), SfuError::Failed("taken".into()));
        assert_eq!(SfuError::from(Status::unknown("bug")), SfuError::Failed("bug".into()));
        assert_eq!(SfuError::from(Status::from_error(std::io::Error::other("reset").into())), SfuError::Unreachable);
        let long = "x".repeat(10_000);
        assert_eq!(SfuError::from(Status::internal(long)), SfuError::Failed("x".repeat(MAX_REASON_CHARS)));
    }
}
