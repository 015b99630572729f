//! The account itself is put to the test: a room whose members were told everything passes, and each way of telling it wrong is
//! found.

mod epochs;

use serde_json::{Value, json};

use super::*;

const EPOCH: &str = "e1";

/// A room of three and the log of all they do, told to each but its cause.
struct Scene {
    journals: Vec<Journal>,
    epoch: Arc<str>,
    seq: u64,
    /// Whoever joins is told of these.
    views: View,
}

impl Scene {
    /// Ann, Bob and Cid come in this order.
    fn of_three() -> Self {
        let mut scene = Self { journals: Vec::new(), epoch: EPOCH.into(), seq: 0, views: View::default() };
        for uid in ["ann", "bob", "cid"] {
            scene.comes(uid);
        }
        scene
    }

    fn place(&self, seq: u64) -> Place {
        Place { epoch: Arc::clone(&self.epoch), seq }
    }

    fn of(&mut self, uid: &str) -> &mut Journal {
        self.journals.iter_mut().find(|journal| &*journal.uid == uid).expect("a member")
    }

    /// The next entry of the log, told to all of `to`.
    fn tell(&mut self, to: &[&str], notice: &Notice) -> Place {
        self.seq += 1;
        let place = self.place(self.seq);
        for uid in to {
            self.of(uid).note(Happened::Told(place.clone(), notice.clone()));
        }
        place
    }

    fn others(uid: &str) -> Vec<&'static str> {
        ["ann", "bob", "cid"].into_iter().filter(|other| *other != uid).collect()
    }

    fn comes(&mut self, uid: &str) {
        let there: Vec<String> = self.journals.iter().map(|journal| journal.uid.to_string()).collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        self.tell(&there, &Notice::PeerJoin { uid: uid.to_owned() });
        let (place, view) = (self.place(self.seq), self.views.clone());
        self.views.members.insert(uid.to_owned());
        let mut journal = Journal::new(uid, "room");
        journal.note(joined(None, place, view));
        self.journals.push(journal);
    }

    fn says(&mut self, uid: &str, n: u64) -> Place {
        self.says_to(uid, n, &Self::others(uid))
    }

    fn says_to(&mut self, uid: &str, n: u64, to: &[&str]) -> Place {
        self.of(uid).note(Happened::Says(n));
        let place = self.tell(to, &broadcast(uid, n));
        self.of(uid).note(Happened::Said(n));
        place
    }

    fn publishes(&mut self, uid: &str, mid: &str, minfo: &Value) {
        self.tell(&Self::others(uid), &stream_add(uid, mid, minfo));
        self.of(uid).note(Happened::Published { mid: mid.to_owned(), minfo: minfo.clone() });
        self.views
            .streams
            .insert(mid.to_owned(), Stream { uid: uid.to_owned(), minfo: minfo.clone(), recording: None });
    }

    fn audit(&self) -> Audit {
        audit(&self.journals, &Expected::default())
    }

    /// The account must find exactly this, and not more.
    fn is_caught(&self, what: &str) {
        let violations = self.audit().violations;
        assert!(violations.iter().any(|violation| violation.contains(what)), "not {what:?} but {violations:?}");
    }

    fn passes(&self) -> Audit {
        let audit = self.audit();
        assert_eq!(audit.violations, [""; 0]);
        audit
    }

    /// Drops what a member was told at a place.
    fn forget(&mut self, uid: &str, place: &Place) {
        let journal = self.of(uid);
        let before = journal.entries.len();
        journal.entries.retain(|(_, what)| !matches!(what, Happened::Told(at, _) if at == place));
        assert_eq!(journal.entries.len() + 1, before, "it was told");
    }
}

fn joined(since: Option<Place>, place: Place, view: View) -> Happened {
    Happened::Joined(Joined { since, place, resync: false, view, own: BTreeSet::new() })
}

fn broadcast(uid: &str, n: u64) -> Notice {
    Notice::Broadcast { uid: uid.to_owned(), data: json!({"n": n}) }
}

fn stream_add(uid: &str, mid: &str, minfo: &Value) -> Notice {
    Notice::StreamAdd { uid: uid.to_owned(), mid: mid.to_owned(), minfo: minfo.clone(), recording: None }
}

fn view_without(uid: &str, scene: &Scene) -> View {
    let mut view = scene.views.clone();
    view.members.remove(uid);
    view.streams.retain(|_, stream| stream.uid != uid);
    view
}

fn recording(uid: &str, mid: &str, on: bool, id: &str) -> Notice {
    Notice::Recording { uid: uid.to_owned(), mid: mid.to_owned(), on, recording: id.to_owned() }
}

/// Ann publishes, and bob has that recorded.
fn recorded() -> Scene {
    let mut scene = Scene::of_three();
    scene.publishes("ann", "ann#1", &json!({"audio": true}));
    scene.tell(&["ann", "cid"], &recording("ann", "ann#1", true, "R1"));
    let (mid, id) = ("ann#1".to_owned(), "R1".to_owned());
    scene.of("bob").note(Happened::Recorded { mid, on: true, recording: id });
    scene
}

#[test]
fn a_recording_is_told_to_all_but_who_asked_for_it() {
    let mut scene = recorded();
    assert_eq!(scene.passes().own, 2, "ann's stream, and what bob asked for");
    scene.tell(&["ann", "bob", "cid"], &recording("ann", "ann#1", false, "R1"));
    scene.passes();
}

#[test]
fn a_recording_that_somebody_is_not_told_of_is_caught() {
    let mut scene = recorded();
    scene.tell(&["ann", "bob"], &recording("ann", "ann#1", false, "R1"));
    scene.is_caught("cid: was not told");
    scene.is_caught("ann#1 is recorded as");
}

#[test]
fn a_recording_that_ends_without_having_begun_is_caught() {
    let mut scene = recorded();
    scene.tell(&["ann", "bob", "cid"], &recording("ann", "ann#1", false, "R2"));
    scene.is_caught("a recording ends that was not there");
}

#[test]
fn a_room_that_is_told_everything_passes() {
    let mut scene = Scene::of_three();
    for n in 0..10 {
        scene.says("ann", n);
        scene.says("bob", n);
    }
    scene.publishes("cid", "cid#1", &json!({"audio": true}));
    let audit = scene.passes();
    // Two of three heard each of the 20 broadcasts and the stream; ann heard bob and cid come, bob cid.
    assert_eq!((audit.notifications, audit.said, audit.lost_broadcasts), (2 * 21 + 3, 20, 0));
    assert_eq!(audit.own, 21, "each of them is a hole in its cause's numbers");
}

#[test]
fn one_lost_notification_is_found_in_the_middle_and_at_the_end() {
    for last in [3, 9] {
        let mut scene = Scene::of_three();
        let places: Vec<Place> = (0..10).map(|n| scene.says("ann", n)).collect();
        scene.forget("bob", &places[last]);
        scene.is_caught("bob: was not told");
    }
}

#[test]
fn what_nobody_was_told_is_found() {
    let mut scene = Scene::of_three();
    scene.says_to("ann", 1, &[]);
    scene.is_caught("ann said [1], and nobody was told");
    scene.says("ann", 2);
    scene.is_caught("nobody was told e1/4");
}

#[test]
fn what_is_said_with_nobody_else_there_is_no_loss_but_more_of_it_is() {
    let mut scene = Scene::of_three();
    scene.journals.truncate(1);
    scene.of("ann").entries.truncate(1);
    (scene.seq, scene.views.members) = (1, ["ann".to_owned()].into());
    scene.says_to("ann", 1, &[]);
    scene.comes("bob");
    scene.says_to("ann", 2, &["bob"]);
    assert_eq!(scene.passes().lost_broadcasts, 0);
    scene.of("ann").note(Happened::Says(3));
    scene.of("ann").note(Happened::Said(3));
    scene.is_caught("ann said [1, 3], and nobody was told");
}

#[test]
fn the_same_twice_is_found() {
    let mut scene = Scene::of_three();
    let place = scene.says("ann", 1);
    scene.of("cid").note(Happened::Told(place, broadcast("ann", 1)));
    scene.is_caught("cid: told e1/4 twice, the same");
}

#[test]
fn a_wrong_order_is_found() {
    let mut scene = Scene::of_three();
    scene.says("ann", 1);
    scene.says("ann", 2);
    let entries = &mut scene.of("bob").entries;
    let last = entries.len() - 1;
    entries.swap(last, last - 1);
    scene.is_caught("bob: told e1/4 after e1/5");
}

#[test]
fn two_contents_of_one_place_are_found() {
    let mut scene = Scene::of_three();
    let place = scene.says("ann", 1);
    scene.of("ann").note(Happened::Says(2));
    scene.forget("cid", &place);
    scene.of("cid").note(Happened::Told(place, broadcast("ann", 2)));
    scene.is_caught("others");
}

#[test]
fn a_broadcast_that_nobody_said_or_that_is_done_twice_is_found() {
    let mut scene = Scene::of_three();
    scene.tell(&["bob", "cid"], &broadcast("ann", 7));
    scene.is_caught("ann never said");
    let mut scene = Scene::of_three();
    scene.says("ann", 1);
    scene.of("ann").note(Happened::Repeats(1));
    scene.tell(&["bob", "cid"], &broadcast("ann", 1));
    scene.is_caught("ann said 1 once, and it was told at");
}

#[test]
fn what_a_member_did_itself_is_not_told_to_it() {
    let mut scene = Scene::of_three();
    scene.of("ann").note(Happened::Says(1));
    scene.tell(&["ann", "bob", "cid"], &broadcast("ann", 1));
    scene.is_caught("ann: what a member did itself is told to it");
}

#[test]
fn whoever_is_put_out_without_having_gone_is_found() {
    let mut scene = Scene::of_three();
    scene.tell(&["ann", "bob"], &Notice::PeerLeave { uid: "cid".to_owned() });
    scene.is_caught("was done by nobody");
    scene.is_caught("ann at the end lacks members [\"cid\"]");
    let expected = Expected { expired: ["cid".to_owned()].into(), ..Expected::default() };
    scene.of("cid").note(Happened::Lost(None));
    let audit = audit(&scene.journals, &expected);
    assert_eq!(audit.violations, [""; 0]);
    assert_eq!(audit.leaves, BTreeMap::from([("cid".to_owned(), 1)]));
}

#[test]
fn a_stream_that_ends_by_itself_is_found() {
    let mut scene = Scene::of_three();
    scene.publishes("cid", "cid#1", &json!({}));
    let remove =
        Notice::StreamRemove { uid: "cid".to_owned(), mid: "cid#1".to_owned(), reason: "node_lost".to_owned() };
    scene.tell(&["ann", "bob"], &remove);
    scene.is_caught("was done by nobody");
    scene.is_caught("cid: was not told e1/5");
}

/// Cid's stream ends with its node, as all are told, Cid too, who then publishes it no more.
fn stream_ends_with_its_node() -> Scene {
    let mut scene = Scene::of_three();
    scene.publishes("cid", "cid#1", &json!({}));
    let remove =
        Notice::StreamRemove { uid: "cid".to_owned(), mid: "cid#1".to_owned(), reason: "node_lost".to_owned() };
    scene.tell(&["ann", "bob", "cid"], &remove);
    scene.of("cid").note(Happened::Missed("cid#1".to_owned()));
    scene
}

#[test]
fn only_streams_that_were_on_a_lost_node_may_end_with_it() {
    let scene = stream_ends_with_its_node();
    let with = |lost: &str| {
        audit(&scene.journals, &Expected { streams_lost: [lost.to_owned()].into(), ..Expected::default() })
    };
    assert_eq!(with("cid#1").violations, [""; 0]);
    let found = with("cid#2").violations;
    assert!(matches!(&found[..], [one] if one.contains("was done by nobody")), "{found:?}");
}

#[test]
fn a_stream_with_another_description_is_found() {
    let mut scene = Scene::of_three();
    scene.tell(&["ann", "bob"], &stream_add("cid", "cid#1", &json!({"audio": true})));
    scene
        .of("cid")
        .note(Happened::Published { mid: "cid#1".to_owned(), minfo: json!({"audio": true, "label": "desk"}) });
    scene.is_caught("has otherwise [\"cid#1\"]");
}

#[test]
fn a_state_that_does_not_follow_from_what_was_told_is_found() {
    for (notice, why) in [
        (Notice::PeerJoin { uid: "bob".to_owned() }, "a member joins again"),
        (Notice::PeerLeave { uid: "eve".to_owned() }, "somebody leaves who was not there"),
        (stream_add("eve", "eve#1", &json!({})), "a stream of somebody who is not there"),
        (
            Notice::StreamRemove { uid: "bob".to_owned(), mid: "bob#1".to_owned(), reason: "unpublished".to_owned() },
            "a stream is removed that was not there",
        ),
    ] {
        let mut scene = Scene::of_three();
        scene.tell(&["ann", "cid"], &notice);
        scene.is_caught(why);
    }
    let mut scene = Scene::of_three();
    scene.publishes("bob", "bob#1", &json!({}));
    scene.of("bob").note(Happened::Left);
    scene.tell(&["ann", "cid"], &Notice::PeerLeave { uid: "bob".to_owned() });
    scene.is_caught("a member leaves before its streams are removed");
}

/// Bob's connection is lost, Ann says 1 and 2, Bob is back with `since` and is told `told` of them.
fn bob_resumes(told: &[u64]) -> Scene {
    let mut scene = Scene::of_three();
    let since = scene.place(scene.seq);
    scene.of("bob").note(Happened::Lost(None));
    let places: Vec<Place> = [1, 2].map(|n| scene.says_to("ann", n, &["cid"])).into();
    let (place, view) = (scene.place(scene.seq), view_without("bob", &scene));
    scene.of("bob").note(joined(Some(since), place, view));
    for n in told {
        scene.of("bob").note(Happened::Told(places[*n as usize - 1].clone(), broadcast("ann", *n)));
    }
    scene
}

#[test]
fn a_member_that_resumes_must_be_told_all_it_missed_once() {
    assert_eq!(bob_resumes(&[1, 2]).passes().resumed, 1);
    bob_resumes(&[2]).is_caught("bob: was not told e1/4");
    bob_resumes(&[1]).is_caught("bob: was not told e1/5");
    bob_resumes(&[1, 2, 2]).is_caught("bob: told e1/5 twice");
}

#[test]
fn the_same_twice_is_found_while_a_join_is_under_way() {
    // Bob joins anew on his connection, and is told meanwhile what the answer has, too.
    let joins = |told: &[u64], again: &[u64]| {
        let mut scene = Scene::of_three();
        let places: Vec<Place> = [1, 2].map(|n| scene.says_to("ann", n, &["cid"])).into();
        let (place, view) = (scene.place(scene.seq), view_without("bob", &scene));
        let tell = |scene: &mut Scene, told: &[u64]| {
            for n in told {
                let what = Happened::Told(places[*n as usize - 1].clone(), broadcast("ann", *n));
                scene.of("bob").note(what);
            }
        };
        tell(&mut scene, told);
        scene.of("bob").note(Happened::Joining);
        tell(&mut scene, again);
        scene.of("bob").note(joined(None, place, view));
        scene
    };
    joins(&[], &[]).passes();
    joins(&[1], &[2]).passes();
    joins(&[], &[1, 2, 1]).is_caught("bob: told e1/4 twice, while it joined");
    joins(&[1], &[1, 2]).is_caught("bob: told e1/4 twice, while it joined");
}

#[test]
fn an_answer_whose_state_is_not_what_was_told_is_found() {
    let mut scene = Scene::of_three();
    let since = scene.place(scene.seq);
    scene.of("bob").note(Happened::Lost(None));
    let mut view = view_without("bob", &scene);
    view.members.remove("cid");
    let place = scene.place(scene.seq);
    scene.of("bob").note(joined(Some(since), place, view));
    scene.is_caught("another state than the answer: has members [\"cid\"]");
}

#[test]
fn what_the_wire_says_is_read_or_refused() {
    let data = json!({"uid": "ann", "mid": "ann#1", "reason": "unpublished", "epoch": "e", "seq": 4});
    let read = Notice::read("stream-remove", &data).expect("good").expect("of the log");
    assert_eq!(read.0, Place { epoch: "e".into(), seq: 4 });
    assert_eq!(Notice::read("stream-migrate", &json!({"mid": "x"})), Ok(None));
    assert!(Notice::read("peer-join", &json!({"uid": "ann", "epoch": "e"})).is_err());
    assert!(Notice::read("peer-join", &json!({"epoch": "e", "seq": 1})).is_err());
    let twice = json!({"users": [{"uid": "a"}, {"uid": "a"}], "pubs": []});
    assert!(View::read(&twice).is_err());
}
