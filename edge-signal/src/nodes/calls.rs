//! One call to an SFU node: within its deadline, repeated where that is safe, its failure turned into what the edge can
//! act on. Every call of the service is safe to repeat (ids are made before it), so whatever may have been lost is sent
//! again.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proto::refusal::{NoRecording, NoTransport};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Response, Status};

use crate::metrics::SfuResult;

/// How long one attempt may take before it counts as lost. A node answers within milliseconds; this leaves room for one
/// retransmitted SYN (1 s) and still for two attempts within a request's time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// More attempts would only add load to a node that is in trouble.
const MAX_ATTEMPTS: u32 = 3;
/// Mean pause before the second attempt; doubled for the third.
const BACKOFF: Duration = Duration::from_millis(100);
/// Calls to one node that are under way at a time. A node that answers within a few milliseconds takes thousands a second this way;
/// of one that does not, no more than this is waited for at once, and no connection's limit of streams is reached (200, with
/// [`MAX_RECORDS`]).
const MAX_RUNNING: usize = 128;
/// Likewise calls about recordings, which are answered when these have begun: some 20 ms, and a quarter of a second where a shard is busy.
/// Nothing else waits behind them.
const MAX_RECORDS: usize = 64;
/// Calls that wait for their turn: what a room of a thousand asks for at once. Further ones fail at once, so that a node that is stuck
/// costs this edge a bounded amount of memory.
const MAX_WAITING: usize = 2_048;
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
    /// The node takes nothing more: it is full, overloaded, or going away; says which.
    #[error("{0}")]
    Full(String),
    /// Too many transports of this client are still connecting, and another node would not change that.
    #[error("{0}")]
    Connecting(String),
    /// It makes no recording, or not this one.
    #[error("{}", no_recording(*.0))]
    NoRecording(NoRecording),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl SfuError {
    /// What a call came to, for those who count.
    pub(super) fn result<T>(of: &Result<T, Self>) -> SfuResult {
        match of {
            Ok(_) => SfuResult::Ok,
            Err(Self::Unreachable) => SfuResult::Unreachable,
            Err(_) => SfuResult::Refused,
        }
    }
}

fn no_recording(why: NoRecording) -> &'static str {
    match why {
        NoRecording::Never => "the SFU does not record, or no more",
        NoRecording::Ended => "this recording has just ended",
        NoRecording::Outgrown => "this recording lacks a kind that the stream has now",
        NoRecording::Full => "the SFU makes as many recordings as it may, or has no room for more",
    }
}

impl From<Status> for SfuError {
    fn from(status: Status) -> Self {
        if let Some(why) = NoRecording::of(&status) {
            return Self::NoRecording(why);
        }
        match status.code() {
            _ if is_lost(&status) => Self::Unreachable,
            Code::InvalidArgument => Self::BadSdp(presentable(status.message())),
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition => Self::Restarted,
            Code::ResourceExhausted if NoTransport::of(&status) == Some(NoTransport::Connecting) => {
                Self::Connecting(presentable(status.message()))
            }
            Code::ResourceExhausted => Self::Full(presentable(status.message())),
            _ => Self::Failed(presentable(status.message())),
        }
    }
}

/// The calls to one node, bounded.
pub(super) struct Outstanding {
    /// Those that may be under way at a time.
    most: usize,
    turns: Semaphore,
    waiting: AtomicUsize,
}

impl Outstanding {
    /// Of calls that are answered at once.
    pub(super) fn quick() -> Self {
        Self::new(MAX_RUNNING)
    }

    /// Of calls about recordings.
    pub(super) fn records() -> Self {
        Self::new(MAX_RECORDS)
    }

    fn new(running: usize) -> Self {
        Self { most: running, turns: Semaphore::new(running), waiting: AtomicUsize::new(0) }
    }

    /// Those under way.
    pub(super) fn running(&self) -> usize {
        self.most - self.turns.available_permits()
    }

    /// Those that wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A call's turn; `None`: there is none in time, or too many wait for theirs.
    pub(super) async fn turn(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        let _waits = Waits::begin(&self.waiting)?;
        timeout_at(deadline, self.turns.acquire()).await.ok()?.ok()
    }
}

/// Counts one that waits for as long as it does.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Option<Self> {
        let waits = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

pub(super) fn presentable(message: &str) -> String {
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

    #[tokio::test(start_paused = true)]
    async fn calls_to_a_node_that_is_stuck_are_bounded_and_its_turns_come_back() {
        let (calls, deadline) = (Outstanding::quick(), Instant::now() + Duration::from_secs(5));
        let mut turns = Vec::new();
        for _ in 0..MAX_RUNNING {
            turns.push(calls.turn(deadline).await.expect("there is one"));
        }
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(calls.turn(deadline))).collect();
        for turn in &mut waiting {
            assert!(futures_util::poll!(turn).is_pending());
        }
        assert_eq!((calls.running(), calls.waiting()), (MAX_RUNNING, MAX_WAITING));
        assert!(futures_util::poll!(Box::pin(calls.turn(deadline))).is_ready(), "too many wait");
        turns.pop();
        assert!(waiting.swap_remove(0).await.is_some());
        assert!(waiting.swap_remove(0).await.is_none(), "not in time");
        assert_eq!(Instant::now(), deadline);
        drop(waiting);
        assert_eq!(calls.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_status_means_one_thing() {
        let connecting = NoTransport::Connecting.status("too many");
        assert_eq!(SfuError::from(connecting), SfuError::Connecting("too many".into()));
        for why in [NoTransport::Draining, NoTransport::Overloaded] {
            assert_eq!(SfuError::from(why.status("x")), SfuError::Full("x".into()));
        }
        for why in [NoRecording::Never, NoRecording::Ended, NoRecording::Full] {
            assert_eq!(SfuError::from(why.status("x")), SfuError::NoRecording(why));
        }
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
