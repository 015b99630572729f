//! What the account allows over a new epoch, and what not.

use super::*;

/// The store lost everything after Ann had said 1 to nobody: all are in a new epoch, where she says 2.
fn new_epoch(view_of_bob: impl Fn(View) -> View) -> Scene {
    let mut scene = Scene::of_three();
    scene.says_to("ann", 1, &[]);
    (scene.epoch, scene.seq) = ("e2".into(), 0);
    for uid in ["ann", "bob", "cid"] {
        let (place, view) = (scene.place(0), view_without(uid, &scene));
        let view = if uid == "bob" { view_of_bob(view) } else { view };
        let joined = Joined { since: None, place, resync: true, view, own: BTreeSet::new() };
        scene.of(uid).note(Happened::Joined(joined));
    }
    scene.says("ann", 2);
    scene
}

#[test]
fn over_a_new_epoch_broadcasts_may_be_lost_and_are_counted_but_no_member() {
    let expected = Expected { store_lost: true, ..Expected::default() };
    let counted = audit(&new_epoch(|view| view).journals, &expected);
    assert_eq!(counted.violations, [""; 0]);
    assert_eq!((counted.new_epochs, counted.lost_broadcasts, counted.said), (1, 1, 2));
    new_epoch(|view| view).is_caught("1 new epochs although the store lost nothing");
    let lacking = new_epoch(|mut view| {
        view.members.remove("cid");
        view
    });
    let found = audit(&lacking.journals, &expected).violations;
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
        audit(&scene.journals, &Expected { store_lost: true, ..Expected::default() }).violations
    };
    assert_eq!(healed(&[8, 9]), [""; 0]);
    let found = healed(&[8, 9, 8]);
    assert!(matches!(&found[..], [one] if one.contains("bob: told e2/0 twice, while it joined")), "{found:?}");
}
