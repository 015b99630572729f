//! One attempt at a time, shared by all who wait for it. It goes on when they give up, and ends with its owner.

use std::sync::{Mutex, PoisonError};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio_util::task::AbortOnDropHandle;

type Attempt<T> = Shared<BoxFuture<'static, Option<T>>>;

/// What is attempted. `None` as its outcome: the runtime ended.
pub(super) struct Flight<T: Clone>(Mutex<Option<Attempt<T>>>);

impl<T: Clone> Default for Flight<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    /// The attempt under way, or the last one's outcome while that `is_of_use`; else a new one.
    pub(super) fn attempt<F: Future<Output = T> + Send + 'static>(
        &self,
        is_of_use: impl FnOnce(&T) -> bool,
        start: impl FnOnce() -> F,
    ) -> Attempt<T> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_use = current.take().filter(|attempt| match attempt.peek() {
            None => true,
            Some(None) => false,
            Some(Some(outcome)) => is_of_use(outcome),
        });
        let attempt = of_use.unwrap_or_else(|| {
            let running = AbortOnDropHandle::new(tokio::spawn(start()));
            async move { running.await.ok() }.boxed().shared()
        });
        current.insert(attempt).clone()
    }
}
