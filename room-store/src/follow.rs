//! Following a room's log: from a feed that may skip and a log that may have been lost, each entry exactly once and in
//! order. Pure: told what came in, it says what to do.
//!
//! ```text
//!             gap, lag, odd head                 fewer entries than asked for
//! Following ─────────────────────▶ Reading ─────────────────────▶ Following
//!     │  ▲                            │ lost           │ diverged
//!     │  │ restart                    ▼                ▼
//!     │  └────────────────────── Resyncing ◀── Diverged (a new epoch is to be started)
//!     └─ epoch started ──────────────▲
//! ```

use std::{collections::VecDeque, sync::Arc};

use proto::ids::{Epoch, PeerId, Position, Seq, SessionId};

use crate::{
    change::Head,
    feed::{FeedItem, RoomEvent},
    log::{Entry, EntryId, LogRead},
    record::Attachment,
};

/// Entries asked for at once. More: fewer round trips after a long gap; less: smaller answers.
pub const READ_LIMIT: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// Tell the members.
    Deliver(Arc<Entry>),
    /// Call `log_after` with these and [`READ_LIMIT`], and give the answer to [`Follower::handle_read`], or say
    /// [`Follower::handle_failure`].
    ReadLog {
        /// The last entry delivered.
        after: Position,
        /// Its identity.
        id: Option<EntryId>,
    },
    /// The store lost writes. Call `start_epoch` with this and give the answer to [`Follower::handle_epoch`], or say
    /// [`Follower::handle_failure`].
    StartEpoch {
        /// The epoch that lost writes.
        seen: Epoch,
    },
    /// The log can't tell what happened. Compare what was told with a snapshot, then [`Follower::restart`] at its head.
    Resync,
    /// Close this socket of a session: [`RoomEvent::Superseded`].
    Superseded {
        /// Whose.
        peer: PeerId,
        /// The session that was on it.
        session: SessionId,
        /// The socket.
        attachment: Attachment,
        /// Whether the session itself goes on.
        resumed: bool,
    },
}

/// Follows one room.
#[derive(Debug)]
pub struct Follower {
    /// The last entry delivered.
    last: Head,
    /// Entries up to here, of this epoch, were told by the answer this began with.
    start: Position,
    /// The last of a run of entries that were told already. Its first was checked against the log.
    known: Option<Seq>,
    state: State,
    out: VecDeque<Follow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The feed is whole so far.
    Following,
    /// An answer is awaited; what the feed brings meanwhile may be in it or not, so `again` means to ask once more.
    Reading { again: bool },
    /// A new epoch is awaited.
    Diverged,
    /// A snapshot is awaited.
    Resyncing,
}

impl Follower {
    /// Begins after a position whose state is known, by a join's answer or a snapshot.
    pub fn new(head: Head) -> Self {
        Self { last: head, start: head.position, known: None, state: State::Following, out: VecDeque::new() }
    }

    /// The last position delivered.
    pub fn position(&self) -> Position {
        self.last.position
    }

    /// Takes in what the feed yields.
    pub fn handle_item(&mut self, item: FeedItem) {
        match item {
            FeedItem::Lagged => self.read(),
            FeedItem::Event(RoomEvent::Entry(entry)) => self.handle_entry(entry),
            FeedItem::Event(RoomEvent::EpochStarted(head)) => {
                if head.position.epoch != self.last.position.epoch {
                    self.resync();
                }
            }
            FeedItem::Event(RoomEvent::Superseded { peer, session, attachment, resumed }) => {
                self.out.push_back(Follow::Superseded { peer, session, attachment, resumed });
            }
        }
    }

    /// Takes in where the log is, as a refresh says. It may be older than what the feed brought since; then reading shows that
    /// nothing is wrong.
    pub fn handle_head(&mut self, head: Head) {
        if head != self.last {
            self.read();
        }
    }

    /// Takes in the answer to [`Follow::ReadLog`].
    pub fn handle_read(&mut self, read: LogRead) {
        let State::Reading { again } = self.state else { return };
        match read {
            LogRead::Entries(entries) => {
                let more = entries.len() >= READ_LIMIT;
                self.state = State::Following;
                for entry in entries {
                    self.deliver_next(entry);
                }
                if again || more {
                    self.read();
                }
            }
            LogRead::Lost { diverged: true, .. } => {
                self.state = State::Diverged;
                self.out.push_back(Follow::StartEpoch { seen: self.last.position.epoch });
            }
            LogRead::Lost { .. } => self.resync(),
        }
    }

    /// Takes in the answer to [`Follow::StartEpoch`].
    pub fn handle_epoch(&mut self, _head: Option<Head>) {
        if self.state == State::Diverged {
            self.resync();
        }
    }

    /// A call failed. The same is asked again; the caller waits before it asks the store.
    pub fn handle_failure(&mut self) {
        let again = match self.state {
            State::Following => return,
            State::Reading { .. } => self.ask(),
            State::Diverged => Follow::StartEpoch { seen: self.last.position.epoch },
            State::Resyncing => Follow::Resync,
        };
        self.out.push_back(again);
    }

    /// Goes on after a snapshot. What the feed brought since it was taken is read from the log.
    pub fn restart(&mut self, head: Head) {
        (self.last, self.start, self.known, self.state) = (head, head.position, None, State::Following);
        self.out.retain(|follow| matches!(follow, Follow::Superseded { .. }));
        self.read();
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Follow> {
        self.out.pop_front()
    }

    fn handle_entry(&mut self, entry: Arc<Entry>) {
        match self.state {
            State::Reading { .. } => self.state = State::Reading { again: true },
            State::Diverged | State::Resyncing => {}
            State::Following if entry.position == self.last.position.next() => {
                self.known = None;
                self.deliver_next(entry);
            }
            State::Following if self.is_repeated(&entry) => {}
            State::Following => {
                if !self.goes_on_with_known(&entry) {
                    self.read();
                }
            }
        }
    }

    /// After a lag the feed still holds what the log has told meanwhile. That it is that, and no other life of the log, is
    /// asked once for all of it: what would hide in it shows in the next head.
    fn goes_on_with_known(&mut self, entry: &Entry) -> bool {
        let is_known = entry.position.epoch == self.last.position.epoch && entry.position.seq < self.last.position.seq;
        let before = std::mem::replace(&mut self.known, is_known.then_some(entry.position.seq));
        is_known && before.is_some_and(|before| before.next() == entry.position.seq)
    }

    /// An entry that was told before, as far as can be known.
    fn is_repeated(&self, entry: &Entry) -> bool {
        let told_by_start = entry.position.epoch == self.start.epoch && entry.position.seq < self.start.seq;
        told_by_start || (entry.position == self.last.position && Some(entry.id) == self.last.id)
    }

    fn deliver_next(&mut self, entry: Arc<Entry>) {
        if entry.position == self.last.position.next() {
            self.last = Head { position: entry.position, id: Some(entry.id) };
            self.out.push_back(Follow::Deliver(entry));
        }
    }

    fn read(&mut self) {
        match &mut self.state {
            State::Following => {
                self.state = State::Reading { again: false };
                let ask = self.ask();
                self.out.push_back(ask);
            }
            State::Reading { again } => *again = true,
            State::Diverged | State::Resyncing => {}
        }
    }

    fn ask(&self) -> Follow {
        Follow::ReadLog { after: self.last.position, id: self.last.id }
    }

    fn resync(&mut self) {
        if self.state != State::Resyncing {
            self.state = State::Resyncing;
            self.out.retain(|follow| !matches!(follow, Follow::ReadLog { .. } | Follow::StartEpoch { .. }));
            self.out.push_back(Follow::Resync);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Event;

    fn epoch(number: u64) -> Epoch {
        Epoch::of(number)
    }

    fn head(seq: u64) -> Head {
        let position = Position { epoch: epoch(1), seq: Seq::new(seq).expect("small") };
        Head { position, id: (seq > 0).then_some(EntryId(seq)) }
    }

    fn entry(seq: u64, id: u64) -> Arc<Entry> {
        let event = Event::PeerLeave("p".parse().expect("valid"));
        Arc::new(Entry { position: head(seq).position, id: EntryId(id), cause: None, event })
    }

    fn feed(follower: &mut Follower, seq: u64) {
        follower.handle_item(FeedItem::Event(RoomEvent::Entry(entry(seq, seq))));
    }

    fn delivered(follower: &mut Follower) -> Vec<u64> {
        std::iter::from_fn(|| follower.poll())
            .map(|follow| match follow {
                Follow::Deliver(entry) => entry.position.seq.get(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn asked_after(follower: &mut Follower, seq: u64) {
        let Head { position: after, id } = head(seq);
        assert_eq!(follower.poll(), Some(Follow::ReadLog { after, id }));
        assert_eq!(follower.poll(), None);
    }

    #[test]
    fn entries_in_order_are_delivered_and_known_ones_are_not() {
        let mut follower = Follower::new(head(3));
        for seq in [1, 2, 3, 4, 5, 5, 6] {
            feed(&mut follower, seq);
        }
        assert_eq!(delivered(&mut follower), [4, 5, 6]);
    }

    #[test]
    fn a_gap_is_closed_from_the_log() {
        let mut follower = Follower::new(head(0));
        feed(&mut follower, 1);
        feed(&mut follower, 4);
        assert!(matches!(follower.poll(), Some(Follow::Deliver(_))));
        asked_after(&mut follower, 1);
        feed(&mut follower, 5);
        follower.handle_read(LogRead::Entries(vec![entry(2, 2), entry(3, 3), entry(4, 4)]));
        assert_eq!(follower.poll().map(|follow| matches!(follow, Follow::Deliver(_))), Some(true));
        assert_eq!(follower.poll().map(|follow| matches!(follow, Follow::Deliver(_))), Some(true));
        assert_eq!(follower.poll().map(|follow| matches!(follow, Follow::Deliver(_))), Some(true));
        asked_after(&mut follower, 4);
        follower.handle_read(LogRead::Entries(vec![entry(5, 5)]));
        feed(&mut follower, 6);
        assert_eq!(delivered(&mut follower), [5, 6]);
    }

    #[test]
    fn what_the_feed_still_holds_after_a_lag_is_checked_once() {
        let mut follower = Follower::new(head(2));
        follower.handle_item(FeedItem::Lagged);
        asked_after(&mut follower, 2);
        follower.handle_read(LogRead::Entries((3..=9).map(|seq| entry(seq, seq)).collect()));
        assert_eq!(delivered(&mut follower), [3, 4, 5, 6, 7, 8, 9]);
        feed(&mut follower, 4);
        asked_after(&mut follower, 9);
        follower.handle_read(LogRead::Entries(vec![]));
        for seq in [5, 6, 7, 8, 9] {
            feed(&mut follower, seq);
        }
        assert_eq!(follower.poll(), None);
        feed(&mut follower, 10);
        assert_eq!(delivered(&mut follower), [10]);
        feed(&mut follower, 9);
        asked_after(&mut follower, 10);
    }

    #[test]
    fn a_lost_tail_shows_in_the_head() {
        let mut follower = Follower::new(head(2));
        follower.handle_head(head(2));
        assert_eq!(follower.poll(), None);
        follower.handle_head(head(3));
        asked_after(&mut follower, 2);
    }

    #[test]
    fn a_failed_read_is_asked_again() {
        let mut follower = Follower::new(head(2));
        follower.handle_item(FeedItem::Lagged);
        asked_after(&mut follower, 2);
        follower.handle_failure();
        asked_after(&mut follower, 2);
    }

    #[test]
    fn another_entry_at_a_known_place_starts_an_epoch() {
        let mut follower = Follower::new(head(4));
        follower.handle_item(FeedItem::Event(RoomEvent::Entry(entry(4, 99))));
        asked_after(&mut follower, 4);
        follower.handle_read(LogRead::Lost { head: Some(head(4)), diverged: true });
        assert_eq!(follower.poll(), Some(Follow::StartEpoch { seen: epoch(1) }));
        let fresh = Head { position: Position { epoch: epoch(2), seq: Seq::START }, id: None };
        follower.handle_item(FeedItem::Event(RoomEvent::EpochStarted(fresh)));
        follower.handle_epoch(Some(fresh));
        assert_eq!(follower.poll(), Some(Follow::Resync));
        assert_eq!(follower.poll(), None);
        follower.restart(fresh);
        assert_eq!(follower.poll(), Some(Follow::ReadLog { after: fresh.position, id: None }));
    }
}
