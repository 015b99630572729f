//! Where a room's log was when sockets joined, on its way to the room's task.

use std::sync::{Mutex, PoisonError};

use room_store::Head;
use tokio::sync::Notify;

/// At most one place for each epoch, the earliest: a room followed from there is followed for all who joined after it. So
/// it is short however many join while the task waits for the store.
#[derive(Default)]
pub(super) struct Entered {
    heads: Mutex<Vec<Head>>,
    added: Notify,
}

impl Entered {
    pub(super) fn push(&self, head: Head) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        match heads.iter_mut().find(|known| known.position.epoch == head.position.epoch) {
            Some(known) if known.position.seq > head.position.seq => *known = head,
            Some(_) => {}
            None => heads.push(head),
        }
        self.added.notify_one();
    }

    /// The next of them. Safe to drop half-way.
    pub(super) async fn next(&self) -> Head {
        loop {
            if let Some(head) = self.pop() {
                return head;
            }
            self.added.notified().await;
        }
    }

    fn pop(&self) -> Option<Head> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        (!heads.is_empty()).then(|| heads.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proto::ids::{Epoch, Position, Seq};

    use super::*;

    fn head(epoch: u64, seq: u64) -> Head {
        let position = Position { epoch: Epoch::of(epoch), seq: Seq::new(seq).expect("small") };
        Head { position, id: None }
    }

    #[test]
    fn the_earliest_place_of_each_epoch_is_told() {
        let entered = Entered::default();
        for place in [head(1, 5), head(1, 7), head(2, 3), head(1, 4), head(2, 3)] {
            entered.push(place);
        }
        assert_eq!(entered.next().now_or_never(), Some(head(1, 4)));
        assert_eq!(entered.next().now_or_never(), Some(head(2, 3)));
        assert_eq!(entered.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn who_waits_for_one_gets_it() {
        let entered = Entered::default();
        let (got, ()) = tokio::join!(entered.next(), async { entered.push(head(1, 1)) });
        assert_eq!(got, head(1, 1));
    }
}
