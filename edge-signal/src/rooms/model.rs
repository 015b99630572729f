//! A room as its members on this edge were told it is. In an epoch it changes with each entry of the log; from one epoch to the next
//! it is compared with the store, and what differs is what members have to be told. Pure.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;

use proto::ids::{Mid, PeerId, RecordingId};
use room_store::{Entry, EntryId, Event, Head, Member, Publication, RemoveReason, Snapshot};
use serde_json::Value;

/// A room's members and streams at one place of its log, all of them.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) head: Head,
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) publications: Vec<Arc<Publication>>,
}

impl From<Snapshot> for Known {
    fn from(Snapshot { head, members, publications }: Snapshot) -> Self {
        Self { head, members, publications }
    }
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Model {
    head: Option<Head>,
    members: BTreeMap<PeerId, Arc<Member>>,
    publications: BTreeMap<Mid, Arc<Publication>>,
}

/// What has to be told so that members know of another state, in this order, and how much of it is bad news.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    pub(super) events: Vec<Told>,
    /// Members and streams that were known and are not there.
    pub(super) missing: usize,
}

/// One of them: who is not told, and what.
pub(super) type Told = (Option<PeerId>, Event);

impl Model {
    /// Where the log was, as far as it was told.
    pub(super) fn head(&self) -> Option<Head> {
        self.head
    }

    /// All is as `known` says. Records that say the same as before stay: what waits for sockets refers to them.
    pub(super) fn adopt(&mut self, known: Known) {
        let Known { head, members, publications } = known;
        self.head = Some(head);
        let (old_members, old_publications) = (take(&mut self.members), take(&mut self.publications));
        self.members.extend(
            members.into_iter().map(|member| (member.peer.clone(), keep(old_members.get(&member.peer), member))),
        );
        self.publications.extend(
            publications
                .into_iter()
                .map(|stream| (stream.mid.clone(), keep(old_publications.get(&stream.mid), stream))),
        );
    }

    /// An entry of the log was told. One that the model holds already changes nothing.
    pub(super) fn apply(&mut self, entry: &Entry) {
        let Some(head) = self.head else { return };
        if entry.position != head.position.next() {
            return;
        }
        self.head = Some(Head { position: entry.position, id: Some(entry.id) });
        match &entry.event {
            Event::PeerJoin(member) => {
                self.members.insert(member.peer.clone(), Arc::clone(member));
            }
            Event::PeerLeave(peer) => {
                self.members.remove(peer);
            }
            Event::StreamAdd(stream) | Event::StreamUpdate(stream) | Event::Recording { stream, .. } => {
                self.publications.insert(stream.mid.clone(), Arc::clone(stream));
            }
            Event::StreamRemove { mid, .. } => {
                self.publications.remove(mid);
            }
            Event::Broadcast { .. } => {}
        }
    }

    pub(super) fn member(&self, peer: &PeerId) -> Option<&Arc<Member>> {
        self.members.get(peer)
    }

    /// In the order of their ids.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    pub(super) fn stream(&self, mid: &Mid) -> Option<&Arc<Publication>> {
        self.publications.get(mid)
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &Arc<Publication>> {
        self.publications.values()
    }

    /// What was told to be recorded of streams that are there, and is not by this other state.
    pub(super) fn forgotten_recordings(&self, now: &Known) -> Vec<(Mid, RecordingId)> {
        let forgotten = |stream: &Arc<Publication>| {
            let known = self.publications.get(&stream.mid).filter(|known| !has_moved(known, stream))?;
            let recording = known.recording.as_ref().filter(|_| stream.recording.is_none())?;
            Some((stream.mid.clone(), recording.clone()))
        };
        now.publications.iter().filter_map(forgotten).collect()
    }

    /// What members who know this have to be told to know `now`. Streams go before their owners and come after them, as in a log.
    pub(super) fn differences(&self, now: &Known) -> Differences {
        let members: BTreeMap<&PeerId, &Arc<Member>> = now.members.iter().map(|it| (&it.peer, it)).collect();
        let streams: BTreeMap<&Mid, &Arc<Publication>> = now.publications.iter().map(|it| (&it.mid, it)).collect();
        let mut events: Vec<Told> = Vec::new();
        for gone in self.publications.values().filter(|it| streams.get(&it.mid).is_none_or(|now| has_moved(it, now))) {
            let left = !members.contains_key(&gone.owner);
            let reason = if left { RemoveReason::OwnerLeft } else { RemoveReason::TransportEnded };
            events.push((None, Event::StreamRemove { owner: gone.owner.clone(), mid: gone.mid.clone(), reason }));
        }
        for gone in self.members.keys().filter(|peer| !members.contains_key(peer)) {
            events.push((Some(gone.clone()), Event::PeerLeave(gone.clone())));
        }
        let missing = events.len();
        for new in now.members.iter().filter(|member| !self.members.contains_key(&member.peer)) {
            events.push((Some(new.peer.clone()), Event::PeerJoin(Arc::clone(new))));
        }
        for stream in &now.publications {
            match self.publications.get(&stream.mid) {
                Some(known) if has_moved(known, stream) => {
                    events.push((Some(stream.owner.clone()), Event::StreamAdd(Arc::clone(stream))));
                }
                Some(known) => {
                    // It changes what is recorded as well: whoever follows the events one by one has each as it is then.
                    if says_other(known, stream) {
                        events.push((Some(stream.owner.clone()), Event::StreamUpdate(Arc::clone(stream))));
                    }
                    events.extend(recorded_otherwise(known, stream).map(|event| (None, event)));
                }
                None => events.push((Some(stream.owner.clone()), Event::StreamAdd(Arc::clone(stream)))),
            }
        }
        Differences { events, missing }
    }
}

fn keep<T: PartialEq>(old: Option<&Arc<T>>, new: Arc<T>) -> Arc<T> {
    match old {
        Some(old) if *old == new => Arc::clone(old),
        _ => new,
    }
}

/// Whether a stream is another than the one known by its id.
fn has_moved(known: &Publication, now: &Publication) -> bool {
    known.owner != now.owner || known.placement.node != now.placement.node || known.placement.boot != now.placement.boot
}

/// Whether a stream's description means something else: a store may write the same in other words.
fn says_other(known: &Publication, now: &Publication) -> bool {
    let meaning = |stream: &Publication| serde_json::from_str::<Value>(stream.minfo.raw().get()).ok();
    known.minfo != now.minfo && meaning(known) != meaning(now)
}

/// What has become of its recording. Who has begun or ended it may have been told so by an answer that the log lost.
fn recorded_otherwise(known: &Publication, now: &Arc<Publication>) -> Option<Event> {
    let recording = now.recording.as_ref().or(known.recording.as_ref())?.clone();
    (known.recording != now.recording).then(|| Event::Recording { stream: Arc::clone(now), recording })
}

/// Entries of differences stand at no place of their own.
pub(super) const NO_ENTRY: EntryId = EntryId(0);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::ids::{BootId, Epoch, Position, Seq};
    use proto::json::RawJson;
    use proto::signalling::Minfo;
    use room_store::Placement;

    use super::*;

    fn head(epoch: u64, seq: u64) -> Head {
        Head {
            position: Position { epoch: Epoch::of(epoch), seq: Seq::new(seq).expect("small") },
            id: Some(EntryId(seq)),
        }
    }

    fn member(name: &str) -> Arc<Member> {
        Arc::new(Member { peer: name.parse().expect("valid"), edge: "e".parse().expect("valid") })
    }

    fn stream(owner: &str, mid: &str, minfo: &str) -> Arc<Publication> {
        let placement =
            Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "r".parse().expect("valid") };
        Arc::new(Publication {
            mid: mid.parse().expect("valid"),
            owner: owner.parse().expect("valid"),
            minfo: Minfo::new(RawJson::new(minfo).expect("JSON")).expect("an object"),
            placement,
            confirmed: true,
            recording: None,
            always_recorded: false,
        })
    }

    fn known(at: Head, members: &[&str], streams: &[(&str, &str, &str)]) -> Known {
        let members = members.iter().map(|name| member(name)).collect();
        let publications = streams.iter().map(|(owner, mid, minfo)| stream(owner, mid, minfo)).collect();
        Known { head: at, members, publications }
    }

    fn short(told: &[Told]) -> Vec<String> {
        let short = |(_, event): &Told| match event {
            Event::PeerJoin(member) => format!("+{}", member.peer),
            Event::PeerLeave(peer) => format!("-{peer}"),
            Event::StreamAdd(stream) => format!("+{}", stream.mid),
            Event::StreamRemove { mid, reason, .. } => format!("-{mid} {}", reason.name()),
            Event::StreamUpdate(stream) => format!("~{}", stream.mid),
            Event::Recording { stream, recording } => {
                format!("{} {recording} {}", stream.mid, if stream.recording.is_some() { "on" } else { "off" })
            }
            Event::Broadcast { .. } => "!".to_owned(),
        };
        told.iter().map(short).collect()
    }

    #[test]
    fn exactly_what_differs_is_told_in_the_order_of_a_log() {
        let mut model = Model::default();
        model.adopt(known(
            head(1, 9),
            &["ann", "bob", "cat"],
            &[("bob", "b1", "{}"), ("cat", "c1", "{}"), ("cat", "c2", "{}")],
        ));
        let now = known(
            head(2, 3),
            &["ann", "cat", "dan"],
            &[("cat", "c1", r#"{"muted":{"audio":true,"video":true}}"#), ("dan", "d1", "{}")],
        );
        let differences = model.differences(&now);
        assert_eq!(short(&differences.events), ["-b1 owner_left", "-c2 transport_ended", "-bob", "+dan", "~c1", "+d1"]);
        assert_eq!(differences.missing, 3);
        model.adopt(now.clone());
        assert_eq!(model.differences(&now), Differences::default());
    }

    #[test]
    fn a_description_in_other_words_is_no_difference() {
        let mut model = Model::default();
        model.adopt(known(head(1, 9), &["ann"], &[("ann", "a1", r#"{"x":1,"muted":{"audio":true}}"#)]));
        let same = known(head(2, 3), &["ann"], &[("ann", "a1", r#"{"muted": {"audio":true}, "x":1}"#)]);
        assert_eq!(model.differences(&same), Differences::default());
        let other = known(head(2, 3), &["ann"], &[("ann", "a1", r#"{"muted": {"audio":true}, "x":2}"#)]);
        assert_eq!(short(&model.differences(&other).events), ["~a1"]);
    }

    #[test]
    fn what_is_recorded_otherwise_is_told_once() {
        let recorded = |mid: &str, id: Option<&str>| {
            let recording = id.map(|id| id.parse().expect("valid"));
            Arc::new(Publication { recording, ..(*stream("ann", mid, "{}")).clone() })
        };
        let at = |epoch, ids: [Option<&str>; 3]| {
            let streams = ["a1", "a2", "a3"].iter().zip(ids).map(|(mid, id)| recorded(mid, id)).collect();
            Known { publications: streams, ..known(head(epoch, 1), &["ann"], &[]) }
        };
        let mut model = Model::default();
        model.adopt(at(1, [None, Some("R1"), Some("R2")]));
        let now = at(2, [Some("R0"), None, Some("R3")]);
        let differences = model.differences(&now);
        assert_eq!(short(&differences.events), ["a1 R0 on", "a2 R1 off", "a3 R3 on"]);
        assert_eq!(differences.missing, 0, "no stream is");
        let forgotten = model.forgotten_recordings(&now);
        assert_eq!(forgotten, [("a2".parse().expect("valid"), "R1".parse().expect("valid"))]);
        model.adopt(now.clone());
        assert_eq!(model.differences(&now), Differences::default());
    }

    #[test]
    fn an_entry_is_applied_once_and_only_in_its_place() {
        let mut model = Model::default();
        model.adopt(known(head(1, 1), &["ann"], &[]));
        let entry = |seq, event| Entry { position: head(1, seq).position, id: EntryId(seq), cause: None, event };
        model.apply(&entry(1, Event::PeerLeave("ann".parse().expect("valid"))));
        model.apply(&entry(3, Event::PeerLeave("ann".parse().expect("valid"))));
        assert_eq!(model.head(), Some(head(1, 1)));
        model.apply(&entry(2, Event::PeerJoin(member("bob"))));
        let now = known(head(1, 2), &["ann", "bob"], &[]);
        assert_eq!((model.head(), model.differences(&now)), (Some(now.head), Differences::default()));
    }

    proptest! {
        /// Whatever was known and whatever is: who is told the differences knows what is.
        #[test]
        fn differences_lead_from_one_state_to_the_other(
            before in prop::collection::btree_set(0u8..12, 0..8),
            after in prop::collection::btree_set(0u8..12, 0..8),
            streams_before in prop::collection::btree_set((0u8..12, 0u8..3), 0..12),
            streams_after in prop::collection::btree_set((0u8..12, 0u8..3), 0..12),
        ) {
            let state = |at, members: &std::collections::BTreeSet<u8>, streams: &std::collections::BTreeSet<(u8, u8)>| Known {
                head: at,
                members: members.iter().map(|name| member(&format!("p{name}"))).collect(),
                publications: streams
                    .iter()
                    .filter(|(owner, _)| members.contains(owner))
                    .map(|(owner, number)| stream(&format!("p{owner}"), &format!("p{owner}s{number}"), "{}"))
                    .collect(),
            };
            let (one, other) = (state(head(1, 0), &before, &streams_before), state(head(2, 0), &after, &streams_after));
            let mut model = Model::default();
            model.adopt(one);
            let told = model.differences(&other);
            for (index, (cause, event)) in told.events.into_iter().enumerate() {
                let seq = index as u64 + 1;
                model.apply(&Entry { position: head(1, seq).position, id: EntryId(seq), cause, event });
            }
            prop_assert_eq!(model.differences(&other).events, vec![]);
        }
    }
}
