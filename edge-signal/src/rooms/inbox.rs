//! What a room's task is told from outside its feed: where the log was when sockets joined, and where it is now.

use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::ids::{Epoch, Position};
use room_store::Head;
use tokio::sync::Notify;

use super::model::Known;

/// What came in.
#[derive(Debug)]
pub(super) enum Item {
    /// A socket has joined, and this is what it knows.
    Entered(Known),
    /// The end of the log, as the store has just said.
    Head(Head),
}

/// Of joins at most one for each epoch, the earliest: a room followed from there is followed for all who joined after it. Of heads
/// the last. So it is short however much comes while the task waits for the store.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Default)]
struct Waiting {
    entered: Vec<Known>,
    head: Option<Head>,
    /// From where the room was followed first: the first join that was taken out. From there it only goes back, in that epoch.
    first: Option<Position>,
}

impl Inbox {
    /// Whether it joined before the place from which the room was followed first: then the room goes back there, or has gone back
    /// further for another. What it told before that waits for this socket, too, and is told again.
    pub(super) fn entered(&self, known: Known) -> bool {
        let mut waiting = self.lock();
        let at = known.head.position;
        let goes_back = waiting.first.is_some_and(|first| first.epoch == at.epoch && first.seq > at.seq);
        match waiting.entered.iter_mut().find(|earlier| earlier.head.position.epoch == at.epoch) {
            Some(earlier) if earlier.head.position.seq > at.seq => *earlier = known,
            Some(_) => {}
            None => waiting.entered.push(known),
        }
        self.added.notify_one();
        goes_back
    }

    /// What is known of the first join that nobody has looked at yet, of this epoch.
    pub(super) fn look<T>(&self, epoch: Epoch, look: impl FnOnce(&Known) -> T) -> Option<T> {
        let waiting = self.lock();
        waiting.entered.iter().find(|known| known.head.position.epoch == epoch).map(look)
    }

    pub(super) fn head(&self, head: Head) {
        self.lock().head = Some(head);
        self.added.notify_one();
    }

    /// How much is in it.
    pub(super) fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.entered.len() + usize::from(waiting.head.is_some())
    }

    /// The next of them, joins first. Safe to drop half-way.
    pub(super) async fn next(&self) -> Item {
        loop {
            if let Some(item) = self.pop() {
                return item;
            }
            self.added.notified().await;
        }
    }

    /// The first join. Before it there is nothing that a head could be compared with.
    pub(super) async fn first(&self) -> Known {
        loop {
            if let Item::Entered(known) = self.next().await {
                return known;
            }
        }
    }

    fn pop(&self) -> Option<Item> {
        let mut waiting = self.lock();
        if waiting.entered.is_empty() {
            return waiting.head.take().map(Item::Head);
        }
        let known = waiting.entered.remove(0);
        if waiting.entered.is_empty() {
            waiting.entered = Vec::new();
        }
        waiting.first.get_or_insert(known.head.position);
        Some(Item::Entered(known))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proto::ids::Seq;

    use super::*;

    fn head(epoch: u64, seq: u64) -> Head {
        let position = Position { epoch: Epoch::of(epoch), seq: Seq::new(seq).expect("small") };
        Head { position, id: None }
    }

    fn known(epoch: u64, seq: u64) -> Known {
        Known { head: head(epoch, seq), members: Vec::new(), publications: Vec::new() }
    }

    fn next(inbox: &Inbox) -> Option<(bool, Head)> {
        inbox.next().now_or_never().map(|item| match item {
            Item::Entered(known) => (true, known.head),
            Item::Head(head) => (false, head),
        })
    }

    #[test]
    fn the_earliest_join_of_each_epoch_is_told_then_the_last_head() {
        let inbox = Inbox::default();
        inbox.head(head(1, 8));
        for (epoch, seq) in [(1, 5), (1, 7), (2, 3), (1, 4), (2, 3)] {
            inbox.entered(known(epoch, seq));
        }
        inbox.head(head(1, 9));
        assert_eq!(inbox.len(), 3);
        assert_eq!(next(&inbox), Some((true, head(1, 4))));
        assert_eq!(next(&inbox), Some((true, head(2, 3))));
        assert_eq!(next(&inbox), Some((false, head(1, 9))));
        assert_eq!(next(&inbox), None);
    }

    #[test]
    fn who_joined_before_the_place_the_room_was_followed_from_first_waits_for_it_to_go_back() {
        let inbox = Inbox::default();
        assert!(!inbox.entered(known(1, 6)), "nothing was told yet");
        assert!(!inbox.entered(known(1, 5)), "nor now: it begins there");
        assert_eq!(next(&inbox), Some((true, head(1, 5))));
        assert!(!inbox.entered(known(1, 7)));
        assert!(inbox.entered(known(1, 3)));
        assert_eq!(next(&inbox), Some((true, head(1, 3))));
        assert!(inbox.entered(known(1, 4)), "what was told from 5 on, before the room went back, waits for it, too");
        assert!(!inbox.entered(known(1, 5)), "that is in order for this one");
        assert!(!inbox.entered(known(2, 1)), "another log is healed, not read again");
    }

    #[tokio::test]
    async fn who_waits_for_the_first_join_gets_it() {
        let inbox = Inbox::default();
        inbox.head(head(1, 9));
        let (got, _) = tokio::join!(inbox.first(), async { inbox.entered(known(1, 1)) });
        assert_eq!(got.head, head(1, 1));
    }
}
