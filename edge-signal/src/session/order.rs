//! Which requests of one connection may run beside each other. `join` and `leave` of a room, and everything that names the
//! same stream, keep the order in which they came; the rest may overtake. Pure bookkeeping: it knows nothing of what a
//! request does.

use std::collections::VecDeque;

/// Identifies a request within its connection; handed out in order of arrival.
pub(super) type Ticket = u64;

/// What a request needs for itself while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// The room it acts in.
    pub(super) room: Option<String>,
    /// Whether it changes membership (`join`, `leave`): nothing else of that room runs beside it.
    pub(super) exclusive: bool,
    /// Whether it ends membership.
    pub(super) leaves: bool,
    /// Whether its answer is a snapshot, which may be long.
    pub(super) snapshot: bool,
    /// The streams and subscriptions it names, by `mid` or `sid`.
    pub(super) streams: Vec<String>,
}

impl Claims {
    fn conflicts_with(&self, other: &Self) -> bool {
        let same_room = self.room.is_some() && self.room == other.room;
        (same_room && (self.exclusive || other.exclusive))
            || self.streams.iter().any(|stream| other.streams.contains(stream))
    }
}

/// The requests of a connection that are not finished, in order of arrival.
///
/// Looks through all of them for each change: there are at most a few hundred, mostly a handful.
#[derive(Debug, Default)]
pub(super) struct Order {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    claims: Claims,
    running: bool,
}

impl Order {
    /// Takes a request in; it runs once [`Order::next`] has named it.
    pub(super) fn push(&mut self, ticket: Ticket, claims: Claims) {
        self.entries.push_back(Entry { ticket, claims, running: false });
    }

    /// Marks as running, and names, the first request that may run now and does not. Those answered with a snapshot may only
    /// if `snapshots`.
    pub(super) fn next(&mut self, most_running: usize, snapshots: bool) -> Option<Ticket> {
        if self.entries.iter().filter(|entry| entry.running).count() >= most_running {
            return None;
        }
        let index = (0..self.entries.len()).find(|&index| {
            let entry = &self.entries[index];
            let held = entry.running || (entry.claims.snapshot && !snapshots);
            !held && !self.entries.range(..index).any(|earlier| earlier.claims.conflicts_with(&entry.claims))
        })?;
        self.entries[index].running = true;
        Some(self.entries[index].ticket)
    }

    /// Takes a request out, running or not.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        self.entries.retain(|entry| entry.ticket != ticket);
    }

    /// The last request that waits to change the membership of a room is to leave it.
    pub(super) fn will_leave(&self, room: &str) -> bool {
        let mut waiting = self.entries.iter().rev().filter(|entry| !entry.running && entry.claims.exclusive);
        waiting.find(|entry| entry.claims.room.as_deref() == Some(room)).is_some_and(|entry| entry.claims.leaves)
    }

    /// A join of the room is under way or waits.
    pub(super) fn will_join(&self, room: &str) -> bool {
        let mut joins = self.entries.iter().filter(|entry| entry.claims.snapshot);
        joins.any(|entry| entry.claims.room.as_deref() == Some(room))
    }

    /// The earliest request that `ticket` waits for.
    pub(super) fn blocker_of(&self, ticket: Ticket) -> Option<Ticket> {
        let index = self.entries.iter().position(|entry| entry.ticket == ticket)?;
        let claims = &self.entries[index].claims;
        self.entries.range(..index).find(|earlier| earlier.claims.conflicts_with(claims)).map(|earlier| earlier.ticket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_room(room: &str, exclusive: bool, streams: &[&str]) -> Claims {
        let streams = streams.iter().map(|&stream| stream.to_owned()).collect();
        Claims { room: Some(room.to_owned()), exclusive, leaves: false, snapshot: exclusive, streams }
    }

    fn running(order: &mut Order) -> Vec<Ticket> {
        std::iter::from_fn(|| order.next(usize::MAX, true)).collect()
    }

    #[test]
    fn a_join_holds_back_its_room_and_no_other() {
        let mut order = Order::default();
        order.push(1, in_room("a", true, &[]));
        order.push(2, in_room("a", false, &[]));
        order.push(3, in_room("b", false, &[]));
        assert_eq!(running(&mut order), [1, 3]);
        order.remove(1);
        assert_eq!(running(&mut order), [2]);
    }

    #[test]
    fn a_leave_waits_for_what_came_before_it() {
        let mut order = Order::default();
        order.push(1, in_room("a", false, &["m1"]));
        order.push(2, in_room("a", true, &[]));
        order.push(3, in_room("a", false, &["m2"]));
        assert_eq!(running(&mut order), [1]);
        assert_eq!(order.blocker_of(3), Some(2));
        order.remove(1);
        assert_eq!(running(&mut order), [2]);
        order.remove(2);
        assert_eq!(running(&mut order), [3]);
    }

    #[test]
    fn what_names_one_stream_keeps_order_and_the_rest_overtakes() {
        let mut order = Order::default();
        order.push(1, in_room("a", false, &["m1"]));
        order.push(2, in_room("a", false, &["m1", "s1"]));
        order.push(3, in_room("a", false, &["s1"]));
        order.push(4, in_room("a", false, &["m2"]));
        assert_eq!(running(&mut order), [1, 4]);
        order.remove(1);
        assert_eq!(running(&mut order), [2]);
        order.remove(2);
        assert_eq!(running(&mut order), [3]);
    }

    #[test]
    fn a_snapshot_waits_for_another_and_holds_back_its_room_only() {
        let mut order = Order::default();
        order.push(1, in_room("a", true, &[]));
        order.push(2, in_room("a", false, &[]));
        order.push(3, in_room("b", false, &[]));
        assert_eq!((order.next(9, false), order.next(9, false)), (Some(3), None));
        assert_eq!((order.next(9, true), order.next(9, true)), (Some(1), None));
    }

    #[test]
    fn no_more_run_than_allowed() {
        let mut order = Order::default();
        for ticket in 0..5 {
            order.push(ticket, Claims::default());
        }
        assert_eq!((order.next(2, true), order.next(2, true), order.next(2, true)), (Some(0), Some(1), None));
        order.remove(0);
        assert_eq!(order.next(2, true), Some(2));
    }

    proptest! {
        /// Whatever comes and in whatever order it ends: of two that conflict, the later starts after the earlier ended,
        /// and in the end all have run.
        #[test]
        fn conflicting_requests_run_in_order(
            requests in prop::collection::vec((0u8..3, prop::bool::weighted(0.2), prop::collection::vec(0u8..4, 0..3)), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 80),
        ) {
            let all: Vec<Claims> = requests.iter().map(|(room, exclusive, streams)| Claims {
                room: Some(room.to_string()),
                exclusive: *exclusive,
                leaves: false,
                snapshot: false,
                streams: streams.iter().map(|stream| format!("m{stream}")).collect(),
            }).collect();
            let mut order = Order::default();
            for (ticket, claims) in all.iter().enumerate() {
                order.push(ticket as Ticket, claims.clone());
            }
            let (mut live, mut ended): (Vec<Ticket>, Vec<Ticket>) = (Vec::new(), Vec::new());
            for pick in picks {
                while let Some(ticket) = order.next(8, true) {
                    for earlier in 0..ticket {
                        if all[earlier as usize].conflicts_with(&all[ticket as usize]) {
                            prop_assert!(ended.contains(&earlier));
                        }
                    }
                    live.push(ticket);
                }
                if live.is_empty() {
                    break;
                }
                let ticket = live.swap_remove(pick.index(live.len()));
                order.remove(ticket);
                ended.push(ticket);
            }
            prop_assert_eq!(ended.len(), all.len());
        }
    }
}
