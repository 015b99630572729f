//! What the account allows over a new epoch, and what not.

use super::*;

impl Scene {
    /// The store loses everything.
    fn loses_all(&mut self) {
        (self.epoch, self.seq) = ("e2".into(), 0);
    }

    /// Goes on from a snapshot of the log as it is now.
    fn goes_on(&mut self, uid: &str, change: impl FnOnce(View) -> View) {
        let (place, view) = (self.place(self.seq), change(view_without(uid, self)));
        let joined = Joined { since: None, place, resync: true, view, own: BTreeSet::new() };
        self.of(uid).note(Happened::Joined(joined));
    }

    fn all_go_on(&mut self) {
        for uid in ["ann", "bob", "cid"] {
            self.goes_on(uid, |view| view);
        }
    }

    fn audit_of_loss(&self) -> Audit {
        audit(&self.journals, &Expected { store_lost: true, ..Expected::default() })
    }
}

/// The store lost everything after Ann had said 1 to nobody: all are in a new epoch, where she says 2.
fn new_epoch(view_of_bob: impl Fn(View) -> View) -> Scene {
    let mut scene = Scene::of_three();
    scene.says_to("ann", 1, &[]);
    scene.loses_all();
    scene.goes_on("ann", |view| view);
    scene.goes_on("bob", view_of_bob);
    scene.goes_on("cid", |view| view);
    scene.says("ann", 2);
    scene
}

#[test]
fn over_a_new_epoch_broadcasts_may_be_lost_and_are_counted_but_no_member() {
    let counted = new_epoch(|view| view).audit_of_loss();
    assert_eq!(counted.violations, [""; 0]);
    assert_eq!((counted.new_epochs, counted.lost_broadcasts, counted.said), (1, 1, 2));
    new_epoch(|view| view).is_caught("1 new epochs although the store lost nothing");
    let lacking = new_epoch(|mut view| {
        view.members.remove("cid");
        view
    });
    let found = lacking.audit_of_loss().violations;
    assert_eq!(found, ["room: bob at the end lacks members [\"cid\"]"]);
}

#[test]
fn what_differs_after_a_loss_comes_at_one_place_and_the_same_of_it_only_once() {
    let healed = |said: &[u64]| {
        let mut scene = new_epoch(|view| view);
        let bob = scene.of("bob");
        // He is told what differs at the place from which he then goes on.
        let answer = bob.entries.iter().position(|(_, what)| matches!(what, Happened::Joined(joined) if joined.resync));
        let place = Place { epoch: "e2".into(), seq: 0 };
        for n in said {
            let told = Happened::Told(place.clone(), broadcast("cid", *n));
            bob.entries.insert(answer.expect("he joined"), (std::time::Instant::now(), told));
        }
        scene.audit_of_loss().violations
    };
    assert_eq!(healed(&[8, 9]), [""; 0]);
    let found = healed(&[8, 9, 8]);
    assert!(matches!(&found[..], [one] if one.contains("bob: told e2/0 twice, while it joined")), "{found:?}");
}

#[test]
fn what_is_asked_for_in_the_last_epoch_must_be_told_to_somebody() {
    let mut scene = new_epoch(|view| view);
    // Ann is answered, and the log says nothing.
    scene.of("ann").note(Happened::Says(3));
    scene.of("ann").note(Happened::Said(3));
    assert_eq!(scene.audit_of_loss().violations, ["room: ann said [3], and nobody was told"]);
    // The same at a place of the log that others know to be there.
    let mut scene = new_epoch(|view| view);
    scene.says_to("ann", 3, &[]);
    scene.says("bob", 1);
    let found = scene.audit_of_loss().violations;
    assert!(found.contains(&"room: ann said [3], and nobody was told".to_owned()), "{found:?}");
}

#[test]
fn what_was_asked_for_before_the_last_epoch_may_be_lost_when_it_is_answered_in_it_too() {
    for asks_again in [false, true] {
        let mut scene = Scene::of_three();
        scene.of("ann").note(Happened::Says(1));
        scene.loses_all();
        scene.all_go_on();
        if asks_again {
            scene.of("ann").note(Happened::Repeats(1));
        }
        scene.of("ann").note(Happened::Said(1));
        let audit = scene.audit_of_loss();
        assert_eq!((audit.violations, audit.lost_broadcasts), (vec![], 1));
    }
}

#[test]
fn whoever_is_first_in_the_last_epoch_may_speak_to_nobody_there() {
    let mut scene = Scene::of_three();
    scene.loses_all();
    scene.goes_on("ann", |view| view);
    scene.says_to("ann", 1, &[]);
    scene.goes_on("bob", |view| view);
    scene.goes_on("cid", |view| view);
    scene.says("ann", 2);
    let audit = scene.audit_of_loss();
    assert_eq!((audit.violations, audit.lost_broadcasts), (vec![], 0));
}

#[test]
fn what_one_did_alone_in_an_earlier_epoch_excuses_no_loss_in_the_last() {
    let mut scene = Scene::of_three();
    // Only Ann goes on far enough to see that there was something: her own.
    scene.publishes("ann", "ann#1", &json!({}));
    for uid in ["bob", "cid"] {
        scene.of(uid).entries.retain(|(_, what)| !matches!(what, Happened::Told(_, Notice::StreamAdd { .. })));
    }
    scene.tell(&["ann"], &broadcast("bob", 1));
    scene.of("bob").note(Happened::Says(1));
    scene.loses_all();
    scene.all_go_on();
    scene.says("ann", 2);
    assert_eq!(scene.audit_of_loss().violations, [""; 0]);
    scene.of("ann").note(Happened::Says(3));
    scene.of("ann").note(Happened::Said(3));
    assert_eq!(scene.audit_of_loss().violations, ["room: ann said [3], and nobody was told"]);
}
