//! What a session on this edge's socket has, from what the store has answered and the room's log has told: enough to put it back
//! into a store that has lost it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::ids::{Mid, Sid};
use proto::signalling::Muted;
use room_store::{Publication, Released, Subscription};

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its place is kept; its node has not taken it yet.
    Reserved,
    /// Its node has it: the store is being told, or was.
    Carried,
}

/// One session's streams and subscriptions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    publications: BTreeMap<Mid, (Arc<Publication>, Stage)>,
    subscriptions: BTreeMap<Sid, (Arc<Subscription>, Stage)>,
}

impl Held {
    /// What survived of a session, as the answer to its join says.
    pub(crate) fn survived(publications: &[Arc<Publication>], subscriptions: &[Arc<Subscription>]) -> Self {
        let publication = |it: &Arc<Publication>| (it.mid.clone(), (Arc::clone(it), Stage::Carried));
        let subscription = |it: &Arc<Subscription>| (it.sid.clone(), (Arc::clone(it), Stage::Carried));
        Self {
            publications: publications.iter().map(publication).collect(),
            subscriptions: subscriptions.iter().map(subscription).collect(),
        }
    }

    /// A stream's place is kept.
    pub(crate) fn reserved(&mut self, publication: &Arc<Publication>) {
        let entry = (Arc::clone(publication), Stage::Reserved);
        self.publications.entry(publication.mid.clone()).or_insert(entry);
    }

    /// A subscription's place is kept.
    pub(crate) fn reserved_subscription(&mut self, subscription: &Arc<Subscription>) {
        let entry = (Arc::clone(subscription), Stage::Reserved);
        self.subscriptions.entry(subscription.sid.clone()).or_insert(entry);
    }

    /// The stream's node has it. If the room told of its end meanwhile, it is not known here any more, and stays so.
    pub(crate) fn carried(&mut self, mid: &Mid) {
        if let Some((_, stage)) = self.publications.get_mut(mid) {
            *stage = Stage::Carried;
        }
    }

    /// The subscription's node has it.
    pub(crate) fn carried_subscription(&mut self, sid: &Sid) {
        if let Some((_, stage)) = self.subscriptions.get_mut(sid) {
            *stage = Stage::Carried;
        }
    }

    /// A stream is gone, whoever's it was, and with it the subscriptions to it.
    pub(crate) fn removed(&mut self, mid: &Mid) {
        self.publications.remove(mid);
        self.subscriptions.retain(|_, (subscription, _)| subscription.mid != *mid);
    }

    /// A subscription is gone.
    pub(crate) fn removed_subscription(&mut self, sid: &Sid) {
        self.subscriptions.remove(sid);
    }

    /// A stream's description is another.
    pub(crate) fn updated(&mut self, publication: &Arc<Publication>) {
        if let Some((known, _)) = self.publications.get_mut(&publication.mid) {
            *known = Arc::clone(publication);
        }
    }

    /// What of a stream is muted.
    pub(crate) fn muted(&self, mid: &Mid) -> Option<Muted> {
        self.publications.get(mid).map(|(publication, _)| publication.minfo.muted())
    }

    /// Leaves only streams for which this is so, and what subscribes to whatever is left or to others' streams.
    pub(crate) fn retain_publications(&mut self, keep: impl Fn(&Mid) -> bool) {
        self.publications.retain(|mid, _| keep(mid));
    }

    /// All that nodes may have.
    pub(crate) fn on_nodes(&self) -> Released {
        let publications = self.publications.iter().map(|(mid, (it, _))| (mid.clone(), it.placement.clone()));
        let subscriptions = self.subscriptions.iter().map(|(sid, (it, _))| (sid.clone(), it.placement.clone()));
        Released { publications: publications.collect(), subscriptions: subscriptions.collect() }
    }

    /// How many streams it publishes.
    pub(crate) fn published(&self) -> usize {
        self.publications.values().filter(|(_, stage)| *stage == Stage::Carried).count()
    }

    /// The streams to be put back.
    pub(crate) fn publications(&self) -> Vec<Arc<Publication>> {
        let carried = self.publications.values().filter(|(_, stage)| *stage == Stage::Carried);
        carried.map(|(publication, _)| Arc::clone(publication)).collect()
    }

    /// The subscriptions to be put back.
    pub(crate) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        let carried = self.subscriptions.values().filter(|(_, stage)| *stage == Stage::Carried);
        carried.map(|(subscription, _)| Arc::clone(subscription)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::BootId;
    use proto::json::RawJson;
    use proto::signalling::Minfo;
    use room_store::Placement;

    use super::*;

    fn placement() -> Placement {
        Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "r".parse().expect("valid") }
    }

    fn publication(mid: &str, minfo: &str) -> Arc<Publication> {
        Arc::new(Publication {
            mid: mid.parse().expect("valid"),
            owner: "ann".parse().expect("valid"),
            minfo: Minfo::new(RawJson::new(minfo).expect("JSON")).expect("an object"),
            placement: placement(),
            confirmed: false,
            recording: None,
            always_recorded: false,
        })
    }

    fn subscription(sid: &str, mid: &str) -> Arc<Subscription> {
        Arc::new(Subscription {
            sid: sid.parse().expect("valid"),
            subscriber: "ann".parse().expect("valid"),
            mid: mid.parse().expect("valid"),
            placement: placement(),
            confirmed: false,
        })
    }

    fn counts(held: &Held) -> (usize, usize) {
        (held.publications().len(), held.subscriptions().len())
    }

    #[test]
    fn what_its_node_has_is_put_back_and_what_is_only_reserved_is_not() {
        let mut held = Held::default();
        held.reserved(&publication("m", "{}"));
        held.reserved_subscription(&subscription("s", "other"));
        assert_eq!(counts(&held), (0, 0));
        held.carried(&"m".parse().expect("valid"));
        held.carried_subscription(&"s".parse().expect("valid"));
        assert_eq!(counts(&held), (1, 1));
    }

    #[test]
    fn a_stream_whose_end_was_heard_before_its_beginning_was_answered_does_not_come_back() {
        let mut held = Held::default();
        let mid: Mid = "m".parse().expect("valid");
        held.reserved(&publication("m", "{}"));
        held.carried(&mid);
        held.removed(&mid);
        held.carried(&mid);
        held.updated(&publication("m", "{}"));
        assert_eq!(counts(&held), (0, 0));
    }

    #[test]
    fn a_streams_end_ends_the_subscriptions_to_it_and_no_others() {
        let mut held = Held::survived(&[publication("m", "{}")], &[subscription("s", "x"), subscription("t", "y")]);
        held.removed(&"x".parse().expect("valid"));
        assert_eq!(held.subscriptions().iter().map(|it| it.sid.to_string()).collect::<Vec<_>>(), ["t"]);
        assert_eq!(held.publications().len(), 1);
    }

    #[test]
    fn a_changed_description_is_what_is_put_back() {
        let mut held = Held::survived(&[publication("m", "{}")], &[]);
        held.updated(&publication("m", r#"{"muted":{"audio":true,"video":false}}"#));
        assert!(held.publications()[0].minfo.muted().audio);
    }
}
