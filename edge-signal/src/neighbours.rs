//! The other edges: this one says in the directory what it is, and sends its clients to the others when it alone does not see the
//! room store, or all of it. An edge that sees no store while nobody does keeps its clients: elsewhere they would fare no better.

use std::sync::Arc;
use std::time::Duration;

use proto::ids::{BootId, EdgeId, RegionId};
use room_store::{EdgeDirectory, EdgeMap, EdgeRecord, EdgeRegistration, LEASE_TTL, RoomStore};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::departure::{Departure, Why};
use crate::sight::Sight;

/// How often it is looked at who sees what.
const INTERVAL: Duration = Duration::from_millis(500);
/// For how long an edge sees no store while another does, at least, before it sends its clients away: if the store itself goes or comes
/// back, every edge has said so by then.
const CERTAIN: Duration = Duration::from_secs(5);
/// How long it has not seen the store by then, at least: what took the store from it may have taken the other edge with it, whose entry
/// says that it sees the store until its lease has ended, and etcd has found that out. Where the ttl is below some 25 s, sessions of
/// quiet clients may end before that: they join anew, which beats being sent to nobody.
const OUTLIVES_ENTRIES: Duration = LEASE_TTL.saturating_add(Duration::from_secs(1));
/// Share of the ttl in which an edge makes up its mind, and in which its clients then go: a quiet client may have been heard of last
/// a third of the ttl before the outage, and that may have been told the store another quarter before it.
const SHARE: u32 = 8;
/// How long a client whose turn has come is given for what it has under way: without a store that is nothing that could end well.
const FINISH: Duration = Duration::from_secs(1);
/// How long taking away our own entry may take: clients are gone by then, and somebody waits for the end.
const WITHDRAW_TIME: Duration = Duration::from_millis(300);

/// What this edge says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) edge: EdgeId,
    pub(crate) boot: BootId,
    pub(crate) region: RegionId,
}

/// This edge among others.
pub(crate) struct Neighbours {
    pub(crate) me: Identity,
    pub(crate) directory: Arc<dyn EdgeDirectory>,
    pub(crate) sight: watch::Receiver<Sight>,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) departures: Arc<watch::Sender<Option<Departure>>>,
}

impl Neighbours {
    /// Until shutdown, when the entry is taken away.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut said = self.record();
        let registration = self.directory.register(said.clone());
        shutdown.run_until_cancelled(self.look_on(&mut said, &*registration)).await;
        match timeout(WITHDRAW_TIME, registration.withdraw()).await {
            Ok(Ok(())) => {}
            // Its lease ends by itself.
            Ok(Err(error)) => tracing::info!(%error, "this edge's entry in the directory is left to its lease"),
            Err(_) => tracing::info!("this edge's entry in the directory is left to its lease"),
        }
    }

    async fn look_on(&self, said: &mut EdgeRecord, registration: &dyn EdgeRegistration) {
        let (mut namesake, mut loneliness) = (None, Loneliness::default());
        let mut changes = self.departures.subscribe();
        let mut sight = self.sight.clone();
        loop {
            let record = self.record();
            if record != *said {
                registration.update(record.clone());
                *said = record;
            }
            let map = Arc::clone(&self.directory.watch().borrow());
            self.mind_namesake(&map, &mut namesake);
            self.mind_clients(&map, &mut loneliness);
            tokio::select! {
                () = sleep(INTERVAL.mul_f64(rand::random_range(0.75..1.25))) => {}
                _ = changes.changed() => {}
                _ = sight.changed() => {}
            }
        }
    }

    fn record(&self) -> EdgeRecord {
        EdgeRecord {
            edge: self.me.edge.clone(),
            boot: self.me.boot.clone(),
            region: self.me.region.clone(),
            sees_store: self.sight.borrow().life().is_some() && self.store.part_away_since().is_none(),
            takes_clients: self.departures.borrow().is_none(),
        }
    }

    /// Two processes of one name would take each other's sessions for their own.
    fn mind_namesake(&self, map: &EdgeMap, known: &mut Option<BootId>) {
        let other = namesake(&self.me, map);
        if other != known.as_ref() {
            if let Some(boot) = other {
                tracing::error!(edge = %self.me.edge, %boot, "another edge has this one's `id`: end one of them");
            }
            *known = other.cloned();
        }
    }

    /// Sends clients away, or calls that off.
    fn mind_clients(&self, map: &EdgeMap, loneliness: &mut Loneliness) {
        let (sight, part) = (*self.sight.borrow(), self.store.part_away_since());
        let blind = blind_alone_since(&self.me.edge, sight, part, map, self.directory.is_reachable());
        let ttl = self.store.settings().ttl;
        let sends = loneliness.is_certain(blind, certain_after(sight, ttl), Instant::now());
        self.departures.send_if_modified(|departure| match departure {
            None if sends => {
                tracing::error!("another edge sees the room store, and this one does not: its clients are sent there");
                let (begun, spread) = (Instant::now(), ttl / SHARE);
                *departure = Some(Departure { begun, spread, finish: FINISH, why: Why::Blind });
                true
            }
            Some(Departure { why: Why::Blind, .. }) if !sends => {
                tracing::info!("clients are welcome again");
                *departure = None;
                true
            }
            _ => false,
        });
    }
}

/// Since when this edge has been the one that sees less.
#[derive(Debug, Default)]
struct Loneliness(Option<Instant>);

impl Loneliness {
    /// `blind`: as was found just now, since when it has not seen the store, if another does.
    fn is_certain(&mut self, blind: Option<Instant>, certain: Duration, now: Instant) -> bool {
        self.0 = blind.and(self.0.or(Some(now)));
        let lasts = |since: Option<Instant>, time| since.is_some_and(|since| now.duration_since(since) >= time);
        lasts(self.0, certain) && lasts(blind, OUTLIVES_ENTRIES)
    }
}

/// How long this edge has to be the one that sees less. While it sees some of the store no lease runs out: there is time, and the return
/// of a part that was silent is noticed later than that of all.
fn certain_after(sight: Sight, ttl: Duration) -> Duration {
    if sight.life().is_some() { CERTAIN } else { CERTAIN.min(ttl / SHARE) }
}

/// The start of another process that has this edge's name.
fn namesake<'a>(me: &Identity, map: &'a EdgeMap) -> Option<&'a BootId> {
    map.get(&me.edge).map(|record| &record.boot).filter(|boot| **boot != me.boot)
}

/// Since when the store, or a `part` of it, has been out of this edge's reach, if it is the one that sees less: another edge of which the
/// directory tells now sees all of it and takes clients.
fn blind_alone_since(
    me: &EdgeId,
    sight: Sight,
    part: Option<Instant>,
    map: &EdgeMap,
    is_reachable: bool,
) -> Option<Instant> {
    let sees = |record: &EdgeRecord| record.edge != *me && record.sees_store && record.takes_clients;
    let blind = match sight {
        Sight::Lost { since, .. } => Some(since),
        Sight::Seen { .. } => part,
        Sight::Never => None,
    };
    blind.filter(|_| is_reachable && map.values().any(sees))
}

#[cfg(test)]
mod tests {
    use room_store::Life;

    use super::*;

    fn edge(name: &str, sees_store: bool, takes_clients: bool) -> (EdgeId, EdgeRecord) {
        let edge: EdgeId = name.parse().expect("valid");
        let region = "r".parse().expect("valid");
        (edge.clone(), EdgeRecord { edge, boot: BootId::of(1), region, sees_store, takes_clients })
    }

    fn is_alone(sight: Sight, others: &[(EdgeId, EdgeRecord)], is_reachable: bool) -> bool {
        let map = others.iter().cloned().collect();
        blind_alone_since(&"me".parse().expect("valid"), sight, None, &map, is_reachable).is_some()
    }

    #[test]
    fn an_edge_that_sees_a_part_of_the_store_sees_less_than_one_that_sees_all() {
        let since = Instant::now();
        let seen = Sight::Seen { life: Life(1), since, is_another: false };
        let alone = |others: &[(EdgeId, EdgeRecord)]| {
            let map = others.iter().cloned().collect();
            blind_alone_since(&"me".parse().expect("valid"), seen, Some(since), &map, true)
        };
        assert_eq!(alone(&[edge("a", true, true)]), Some(since));
        assert_eq!(alone(&[edge("b", false, true)]), None, "a part that nobody sees");
    }

    #[test]
    fn an_edge_sees_less_only_where_another_sees_more_and_takes_clients() {
        let since = Instant::now();
        let lost = Sight::Lost { life: Life(1), since, is_another: false };
        let (good, blind, leaving) = (edge("a", true, true), edge("b", false, true), edge("c", true, false));
        let me = edge("me", true, true);
        assert!(is_alone(lost, &[good.clone(), blind.clone()], true));
        assert!(!is_alone(lost, &[blind, leaving, me], true), "nobody sees more");
        assert!(!is_alone(lost, std::slice::from_ref(&good), false), "what the directory says may be old");
        assert!(!is_alone(Sight::Seen { life: Life(1), since, is_another: false }, std::slice::from_ref(&good), true));
        assert!(!is_alone(Sight::Never, &[good], true));
    }

    /// A store that was down for all is seen again by one after the other.
    #[test]
    fn clients_go_only_when_it_is_certain_that_this_edge_alone_sees_no_store() {
        let start = Instant::now();
        let lost = Sight::Lost { life: Life(1), since: start, is_another: false };
        let certain = certain_after(lost, Duration::from_mins(1));
        let (moment, blind) = (Duration::from_millis(1), Some(start));
        let start = start + OUTLIVES_ENTRIES;
        let mut loneliness = Loneliness::default();
        assert!(!loneliness.is_certain(blind, certain, start), "the other may just be first");
        assert!(!loneliness.is_certain(blind, certain, start + CERTAIN - moment));
        assert!(!loneliness.is_certain(None, certain, start + CERTAIN), "nobody sees it, or everybody does");
        assert!(!loneliness.is_certain(blind, certain, start + CERTAIN * 2));
        assert!(!loneliness.is_certain(blind, certain, start + CERTAIN * 3 - moment));
        assert!(loneliness.is_certain(blind, certain, start + CERTAIN * 3));
        assert!(!Loneliness::default().is_certain(blind, certain, start + CERTAIN * 4), "however long it has been");
    }

    /// Looks at a store with a part that hangs take long, so edges see its return seconds apart.
    #[test]
    fn an_edge_that_misses_a_part_of_the_store_waits_as_long_whatever_leases_are() {
        let seen = Sight::Seen { life: Life(1), since: Instant::now(), is_another: false };
        let lost = Sight::Lost { life: Life(1), since: Instant::now(), is_another: false };
        let short = Duration::from_secs(20);
        assert!(certain_after(seen, short) > certain_after(lost, short));
        assert_eq!(certain_after(seen, short), certain_after(seen, short * 100));
    }

    /// What took the store from this edge took the other with it: its entry says still that all is well.
    #[test]
    fn clients_are_not_sent_to_an_edge_whose_entry_may_have_outlived_it() {
        for ttl in [5, 20, 39, 60].map(Duration::from_secs) {
            let (mut loneliness, start) = (Loneliness::default(), Instant::now());
            for tenth in 0..=OUTLIVES_ENTRIES.as_millis() as u64 / 100 {
                let now = start + Duration::from_millis(tenth * 100);
                let lost = Sight::Lost { life: Life(1), since: start, is_another: false };
                let is_certain = loneliness.is_certain(Some(start), certain_after(lost, ttl), now);
                assert_eq!(is_certain, now >= start + LEASE_TTL + Duration::from_secs(1), "{ttl:?}, {tenth}");
            }
        }
    }

    #[test]
    fn another_process_of_the_same_name_shows_by_its_start() {
        let me = |boot| Identity {
            edge: "a".parse().expect("valid"),
            boot: BootId::of(boot),
            region: "r".parse().expect("valid"),
        };
        let map: EdgeMap = [edge("a", true, true), edge("b", true, true)].into();
        assert_eq!(namesake(&me(1), &map), None);
        assert_eq!(namesake(&me(2), &map), Some(&BootId::of(1)));
        assert_eq!(namesake(&me(2), &EdgeMap::new()), None);
    }
}
