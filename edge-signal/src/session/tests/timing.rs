//! Deadlines, order, pings, expiry.

use std::time::Duration;

use room_store::{JoinKind, StoreError};
use serde_json::{Value, json};

use super::world::{AUDIO, Client, Sfu, World, hole};
use crate::auth::Access;
use crate::nodes::SfuError;
use crate::rate::Rate;
use crate::session::{Command, Completion, Detached};

const TEN: Duration = Duration::from_secs(10);

fn publish() -> Value {
    json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}})
}

fn joined(world: &mut World, name: &str) -> Client {
    let mut client = world.client(name);
    world.join(&mut client, "r");
    client
}

#[test]
fn requests_whose_store_never_answers_are_answered_in_time() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    let mut ids = vec![world.send(&mut ann, "getusers", &json!({"rid": "r"}))];
    ids.push(world.send(&mut ann, "leave", &json!({"rid": "r"})));
    ids.push(world.send(&mut ann, "keepalive", &json!({"rid": "r"})));
    world.pass(&mut ann, TEN);
    for id in ids {
        assert_eq!(ann.answer(id)["errorCode"], 11);
    }
    assert!(ann.sent.is_empty());
}

#[test]
fn a_request_whose_sfu_never_answers_is_answered_in_time_and_taken_back() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    let id = world.send(&mut ann, "publish", &publish());
    run_until(&mut world, &mut ann, |command| matches!(command, Command::Negotiate { .. }));
    world.pass(&mut ann, TEN);
    assert_eq!(ann.answer(id)["errorCode"], 12);
    let late = ann.running.pop_front().expect("still under way");
    let completion = world.execute(&mut ann, late.command);
    world.complete(&mut ann, late.id, completion);
    assert!(ann.sent.is_empty(), "answered once");
    assert!(
        matches!(&ann.detached[..], [Detached::RemovePublication { .. }, Detached::Close(_)]),
        "{:?}",
        ann.detached
    );
    world.settle(&mut ann);
    let mut bob = world.client("bob");
    assert_eq!(world.join(&mut bob, "r")["pubs"], json!([]));
}

#[test]
fn a_join_answered_too_late_leaves_its_session_to_the_grace() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    let id = world.send(&mut ann, "join", &json!({"rid": "r"}));
    world.pass(&mut ann, TEN);
    assert_eq!(ann.answer(id)["errorCode"], 11);
    world.settle(&mut ann);
    assert_eq!(world.refused(&mut ann, "keepalive", &json!({"rid": "r"})).0, 2);
    world.join(&mut ann, "r");
    world.done(&mut ann, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn every_command_ends_before_its_request_must_be_answered() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    let start = world.now;
    world.send(&mut ann, "publish", &publish());
    for _ in 0..3 {
        let running = ann.running.pop_front().expect("one at a time");
        assert!(running.deadline <= start + Duration::from_secs(9));
        world.now = running.deadline.min(start + Duration::from_secs(8));
        let completion = world.execute(&mut ann, running.command);
        world.complete(&mut ann, running.id, completion);
    }
    let last = ann.running.pop_front().expect("the confirmation");
    assert!(last.deadline <= start + Duration::from_secs(9));
}

#[test]
fn a_step_whose_predecessor_used_up_the_time_still_gets_some() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    let start = world.now;
    world.send(&mut ann, "publish", &publish());
    for _ in 0..2 {
        let running = ann.running.pop_front().expect("one at a time");
        world.now = start + Duration::from_secs(9);
        let completion = world.execute(&mut ann, running.command);
        world.complete(&mut ann, running.id, completion);
    }
    let next = ann.running.pop_front().expect("a further step");
    assert!(next.deadline > world.now);
    assert!(next.deadline <= start + Duration::from_millis(9_250), "by when the request is answered");
}

#[test]
fn a_request_that_waited_all_its_time_for_others_is_refused_and_not_begun() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    world.send(&mut ann, "leave", &json!({"rid": "r"}));
    let waiting = world.send(&mut ann, "join", &json!({"rid": "r"}));
    world.pass(&mut ann, Duration::from_millis(9_100));
    let late = ann.running.pop_front().expect("still under way");
    let completion = world.execute(&mut ann, late.command);
    world.complete(&mut ann, late.id, completion);
    assert_eq!(ann.answer(waiting)["errorCode"], 429);
    assert!(ann.running.is_empty());
}

#[test]
fn requests_of_a_room_wait_for_its_join() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    let join = world.send(&mut ann, "join", &json!({"rid": "r"}));
    let publish = world.send(&mut ann, "publish", &publish());
    let other = world.send(&mut ann, "join", &json!({"rid": "other"}));
    assert_eq!(ann.running.len(), 2, "the other room does not wait");
    world.settle(&mut ann);
    for id in [join, publish, other] {
        assert_eq!(ann.answer(id)["ok"], true);
    }
}

#[test]
fn a_join_waits_until_the_client_has_taken_what_followed_an_earlier_one() {
    let mut world = World::new();
    let mut bob = joined(&mut world, "bob");
    let mut ann = world.client("ann");
    let since = world.join(&mut ann, "r");
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
    ann.is_slow = true;
    let since = json!({"epoch": since["epoch"], "seq": since["seq"]});
    let again = world.done(&mut ann, "join", &json!({"rid": "r", "since": since}));
    assert_eq!(again["resync"], json!(null));
    let other = world.send(&mut ann, "join", &json!({"rid": "other"}));
    let keepalive = world.send(&mut ann, "keepalive", &json!({"rid": "r"}));
    world.settle(&mut ann);
    assert_eq!(ann.answer(keepalive)["ok"], true, "the rest of its rooms goes on");
    assert!(ann.try_answer(other).is_none());
    world.take_rest(&mut ann);
    assert_eq!(ann.methods(), ["broadcast"]);
    world.settle(&mut ann);
    assert_eq!(ann.answer(other)["ok"], true);
}

#[test]
fn a_join_of_a_client_that_takes_nothing_is_refused_in_time() {
    let mut world = World::new();
    let mut bob = joined(&mut world, "bob");
    let mut ann = world.client("ann");
    let since = world.join(&mut ann, "r");
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
    ann.is_slow = true;
    world.done(&mut ann, "join", &json!({"rid": "r", "since": {"epoch": since["epoch"], "seq": since["seq"]}}));
    let other = world.send(&mut ann, "join", &json!({"rid": "other"}));
    world.pass(&mut ann, TEN);
    assert_eq!(ann.answer(other)["errorCode"], 429);
}

#[test]
fn a_leave_waits_for_what_was_asked_before_it() {
    let mut world = World::new();
    let (mut ann, mut bob) = (joined(&mut world, "ann"), joined(&mut world, "bob"));
    let publish = world.send(&mut ann, "publish", &publish());
    let leave = world.send(&mut ann, "leave", &json!({"rid": "r"}));
    let after = world.send(&mut ann, "keepalive", &json!({"rid": "r"}));
    world.settle(&mut ann);
    assert_eq!(ann.answer(publish)["ok"], true);
    assert_eq!(ann.answer(leave)["ok"], true);
    assert_eq!(ann.answer(after)["errorCode"], 2);
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["stream-add", "stream-remove", "peer-leave"]);
}

#[test]
fn a_leave_counts_although_its_client_closed_before_its_turn() {
    let mut world = World::new();
    let (mut ann, mut bob) = (joined(&mut world, "ann"), joined(&mut world, "bob"));
    world.send(&mut ann, "getusers", &json!({"rid": "r"}));
    world.send(&mut ann, "leave", &json!({"rid": "r"}));
    ann.session.handle_closed();
    world.collect(&mut ann);
    world.settle(&mut ann);
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["peer-leave"]);
}

#[test]
fn a_leave_that_a_join_follows_leaves_nothing_when_its_client_closes() {
    let mut world = World::new();
    let (mut ann, mut bob) = (joined(&mut world, "ann"), joined(&mut world, "bob"));
    for method in ["getusers", "leave", "join"] {
        world.send(&mut ann, method, &json!({"rid": "r"}));
    }
    ann.session.handle_closed();
    world.collect(&mut ann);
    world.settle(&mut ann);
    world.hear(&mut bob);
    assert_eq!(bob.methods(), [""; 0], "it may come back within its grace");
}

#[test]
fn quick_requests_overtake_slow_ones_of_other_streams() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    let slow = world.send(&mut ann, "publish", &publish());
    let quick = world.send(&mut ann, "keepalive", &json!({"rid": "r"}));
    let keepalive = ann.running.pop_back().expect("beside it");
    let completion = world.execute(&mut ann, keepalive.command);
    world.complete(&mut ann, keepalive.id, completion);
    assert_eq!(ann.answer(quick)["ok"], true);
    world.settle(&mut ann);
    assert_eq!(ann.answer(slow)["ok"], true);
}

#[test]
fn a_stream_goes_to_another_node_when_the_first_does_not_take_it() {
    for error in [SfuError::Unreachable, SfuError::Restarted, SfuError::Full("the node is full".into())] {
        for op in [None, Some("p")] {
            let mut world = World::new();
            world.nodes.insert("sfu-1", Sfu::Fails(error.clone()));
            world.nodes.insert("sfu-2", Sfu::Works);
            let mut ann = joined(&mut world, "ann");
            let mut data = publish();
            data["op"] = json!(op);
            let published = world.done(&mut ann, "publish", &data);
            assert_eq!(published["sfuid"], "sfu-2");
            assert_eq!(world.offered.len(), 2);
            assert_ne!(world.offered[0].transport_id, world.offered[1].transport_id);
            assert!(world.closed_transports.contains(&world.offered[0].transport_id), "the first try is closed");
            let mut bob = world.client("bob");
            assert_eq!(world.join(&mut bob, "r")["pubs"].as_array().expect("a list").len(), 1);
        }
    }
}

#[test]
fn a_client_is_pinged_and_closed_when_nothing_comes_from_it() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    world.pass(&mut ann, Duration::from_secs(59));
    assert_eq!((ann.pings, ann.closed), (2, None));
    ann.session.handle_sign_of_life(world.now);
    world.pass(&mut ann, Duration::from_secs(59));
    assert_eq!(ann.closed, None);
    world.pass(&mut ann, Duration::from_secs(1));
    assert_eq!(ann.closed.expect("closed").0, 1001);
    assert!(matches!(&ann.detached[..], [Detached::SocketClosed { .. }]));
    assert!(ann.session.is_finished());
}

#[test]
fn a_client_that_answers_pings_is_heard_of_well_within_any_ttl() {
    for ttl in [5, 6, 20, 59, 60, 600].map(Duration::from_secs) {
        let mut world = World::with_ttl(ttl);
        let mut ann = joined(&mut world, "ann");
        let (mut pings, mut touched, mut last) = (ann.pings, ann.touched, world.now);
        let start = world.now;
        while world.now < start + ttl * 3 {
            world.pass(&mut ann, ttl / 60);
            if ann.pings > pings {
                pings = ann.pings;
                ann.session.handle_sign_of_life(world.now);
                world.collect(&mut ann);
            }
            if ann.touched > touched {
                (touched, last) = (ann.touched, world.now);
            }
            assert!(world.now - last <= ttl / 2, "not heard of for {:?} of {ttl:?}", world.now - last);
        }
        assert_eq!(ann.closed, None);
        world.pass(&mut ann, ttl);
        assert_eq!(ann.closed.expect("closed").0, 1001, "no longer than its sessions live");
    }
}

#[test]
fn frames_refresh_leases_but_not_each_one() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    for _ in 0..100 {
        world.pass(&mut ann, Duration::from_millis(100));
        ann.session.handle_sign_of_life(world.now);
        world.collect(&mut ann);
    }
    assert!((2..=4).contains(&ann.touched), "{}", ann.touched);
}

#[test]
fn a_token_is_announced_to_expire_and_ends_the_connection_for_good() {
    let mut world = World::new();
    let expires_at = world.now + Duration::from_secs(90);
    let mut ann = world.client_with("ann", Access::unrestricted(), Some(expires_at));
    world.pass(&mut ann, Duration::from_secs(29));
    assert!(ann.notified().is_empty());
    world.pass(&mut ann, Duration::from_secs(1));
    assert_eq!(ann.notified(), [("token-expiring".to_owned(), json!({"inMs": 60_000}))]);
    ann.session.handle_sign_of_life(world.now);
    world.pass(&mut ann, Duration::from_secs(59));
    assert_eq!(ann.closed, None);
    world.pass(&mut ann, Duration::from_secs(1));
    assert_eq!(ann.closed, Some((4000, "token expired")), "and not for its silence");
}

#[test]
fn a_token_that_expires_soon_is_announced_at_once() {
    let mut world = World::new();
    let expires_at = world.now + Duration::from_secs(10);
    let mut ann = world.client_with("ann", Access::unrestricted(), Some(expires_at));
    world.pass(&mut ann, Duration::ZERO);
    assert_eq!(ann.notified(), [("token-expiring".to_owned(), json!({"inMs": 10_000}))]);
}

#[test]
fn a_closed_socket_ends_in_order_whatever_was_under_way() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    world.send(&mut ann, "publish", &publish());
    world.send(&mut ann, "join", &json!({"rid": "other"}));
    world.send(&mut ann, "leave", &json!({"rid": "r"}));
    run_until(&mut world, &mut ann, |command| matches!(command, Command::Negotiate { .. }));
    ann.session.handle_closed();
    world.collect(&mut ann);
    assert!(!ann.session.is_finished());
    world.settle(&mut ann);
    assert!(ann.session.is_finished());
    assert_eq!(
        world.closed_transports.len(),
        2,
        "closed by the flow, and once more with the record: {:?}",
        world.closed_transports
    );
    let mut again = world.client("ann");
    let rejoined = world.join(&mut again, "r");
    assert_eq!(rejoined["own"]["pubs"], json!([]));
}

#[test]
fn a_session_the_store_lost_is_told_at_the_next_request() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    world.store.forget_everything();
    assert_eq!(world.refused(&mut ann, "keepalive", &json!({"rid": "r"})).0, 2);
    let joined = world.join(&mut ann, "r");
    assert_eq!(joined["seq"], 1);
}

#[test]
fn a_hole_in_what_a_room_tells_closes_the_socket_so_that_it_comes_back() {
    let mut world = World::new();
    let (mut ann, mut bob) = (joined(&mut world, "ann"), joined(&mut world, "bob"));
    world.hear(&mut ann);
    let id = world.send(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
    world.settle(&mut bob);
    bob.answer(id);
    // Ann's feed begins anew behind the broadcast.
    let room = "r".parse().expect("valid");
    ann.session.handle_signal(&room, &hole());
    world.collect(&mut ann);
    assert_eq!(ann.closed.expect("closed").0, 1012);
}

#[test]
fn a_failed_join_leaves_an_earlier_membership_of_the_socket_as_it_was() {
    let mut world = World::new();
    let (mut ann, mut bob) = (joined(&mut world, "ann"), joined(&mut world, "bob"));
    world.hear(&mut ann);
    ann.notified();
    world.store_fails = Some(StoreError::Unavailable);
    assert_eq!(world.refused(&mut ann, "join", &json!({"rid": "r"})).0, 11);
    world.store_fails = None;
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
    world.hear(&mut ann);
    assert_eq!(ann.methods(), ["broadcast"]);
}

#[test]
fn an_unknown_outcome_is_not_left_behind() {
    let mut world = World::new();
    let mut ann = joined(&mut world, "ann");
    let id = world.send(&mut ann, "publish", &publish());
    run_until(&mut world, &mut ann, |command| matches!(command, Command::ConfirmPublication { .. }));
    let running = ann.running.pop_front().expect("the confirmation");
    let failed = running.command.failed(StoreError::Timeout).expect("a store command");
    let done = world.execute(&mut ann, running.command);
    assert!(matches!(done, Completion::Publication(Ok(_))), "done, but nobody hears of it");
    world.complete(&mut ann, running.id, failed);
    assert_eq!(ann.answer(id)["errorCode"], 11);
    world.settle(&mut ann);
    let mut bob = world.client("bob");
    assert_eq!(world.join(&mut bob, "r")["pubs"], json!([]));
}

#[test]
fn how_a_client_joined_is_seen_by_its_session() {
    use futures_util::FutureExt as _;
    use room_store::RoomStore as _;

    let mut world = World::new();
    let mut ann = world.client("ann");
    let id = world.send(&mut ann, "join", &json!({"rid": "r"}));
    let running = ann.running.pop_front().expect("the join");
    let Command::Join(join) = running.command.clone() else { panic!("a join") };
    let completion = world.execute(&mut ann, running.command);
    let again = world.store.join(join).now_or_never().expect("at once").expect("repeated");
    assert_eq!(again.how, JoinKind::Resumed, "a repeated call finds what the first one made");
    world.complete(&mut ann, running.id, completion);
    assert_eq!(ann.answer(id)["ok"], true);
}

/// Carries out commands until the next one is as asked for.
fn run_until(world: &mut World, client: &mut Client, wanted: impl Fn(&Command) -> bool) {
    for _ in 0..100 {
        if let Some(index) = client.running.iter().position(|running| wanted(&running.command)) {
            let found = client.running.remove(index).expect("it is there");
            while let Some(running) = client.running.pop_front() {
                let completion = world.execute(client, running.command);
                world.complete(client, running.id, completion);
            }
            client.running.push_front(found);
            return;
        }
        let running = client.running.pop_front().expect("something under way");
        let completion = world.execute(client, running.command);
        world.complete(client, running.id, completion);
    }
    panic!("never came");
}

#[test]
fn whatever_a_client_sends_too_much_of_is_not_read_for_a_while() {
    let mut world = World::with_rate(Rate::new(10, 20));
    for (bytes, frames) in [(0, 20), (256 * 1024 - 1, 1)] {
        let mut ann = world.client("ann");
        for _ in 0..frames {
            assert_eq!(ann.session.reads_not_before(world.now), None);
            ann.session.handle_read(world.now, bytes);
        }
        ann.session.handle_read(world.now, 256 * 1024);
        let again = ann.session.reads_not_before(world.now).expect("not now");
        assert!(again - world.now <= Duration::from_secs(2), "no longer than the burst takes");
        world.now = again;
        assert_eq!(ann.session.reads_not_before(world.now), None);
    }
}
