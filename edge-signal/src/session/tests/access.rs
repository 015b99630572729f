//! What a client may do: new tokens on a live connection, access that is withdrawn, and how much may be asked.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::world::{AUDIO, Client, World};
use crate::admission::NotAdmitted;
use crate::auth::{Access, Authenticator, Grant, SharedSecret, SigningKey, TokenError, TokenRequest, mint};
use crate::metrics::Limit;
use crate::presence;
use crate::rate::{Rate, SharedBucket};
use crate::room_rates::{RoomLimits, RoomRates};
use crate::session::{Command, MAX_BROADCAST_BYTES, Proof};
use crate::settings::LimitSettings;

fn access(rid: &str, grants: &[Grant]) -> Access {
    let secret = SharedSecret::new([1; 32]).expect("long enough");
    let request = TokenRequest {
        peer: "ann".into(),
        rid: rid.into(),
        grants: grants.to_vec(),
        ttl: Duration::from_mins(10),
        id: None,
        record: false,
        issuer: None,
        audience: None,
    };
    let now = SystemTime::now();
    let token = mint(&SigningKey::shared_secret(&secret), &request, now).expect("mints");
    Authenticator::shared_secret(&secret, None, None).verify(Some(&token), Some("ann"), now).expect("good")
}

fn proof(rid: &str, grants: &[Grant], expires_at: Option<Instant>) -> Proof {
    Proof { access: Arc::new(access(rid, grants)), expires_at }
}

fn refresh(token: &str) -> Value {
    json!({"access_token": token})
}

fn say() -> Value {
    json!({"rid": "r", "data": 1})
}

#[test]
fn a_new_token_counts_from_its_refresh_on() {
    let mut world = World::new();
    world.proofs.insert("more", Ok(proof("*", &[Grant::Broadcast], None)));
    world.proofs.insert("less", Ok(proof("r", &[], None)));
    let mut ann = world.client_with("ann", access("r", &[]), None);
    world.join(&mut ann, "r");
    assert_eq!(world.refused(&mut ann, "broadcast", &say()).0, 403);
    assert_eq!(world.done(&mut ann, "refresh", &refresh("more")), json!({}));
    world.done(&mut ann, "broadcast", &say());
    world.join(&mut ann, "s");
    world.done(&mut ann, "leave", &json!({"rid": "s"}));
    world.done(&mut ann, "refresh", &refresh("less"));
    assert_eq!(world.refused(&mut ann, "broadcast", &say()).0, 403);
    assert_eq!(world.refused(&mut ann, "join", &json!({"rid": "s"})).0, 403);
    world.done(&mut ann, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn the_end_of_a_new_token_is_announced_again_and_the_old_ones_does_not_count() {
    let mut world = World::new();
    let start = world.now;
    let at = |seconds| start + Duration::from_secs(seconds);
    world.proofs.insert("new", Ok(proof("r", &[], Some(at(400)))));
    let mut ann = world.client_with("ann", access("r", &[]), Some(at(61)));
    let pass = |world: &mut World, ann: &mut Client, seconds| {
        for _ in 0..seconds {
            world.pass(ann, Duration::from_secs(1));
            ann.session.handle_sign_of_life(world.now);
            world.collect(ann);
        }
    };
    pass(&mut world, &mut ann, 2);
    assert_eq!(ann.notified(), [("token-expiring".to_owned(), json!({"inMs": 60_000}))]);
    world.done(&mut ann, "refresh", &refresh("new"));
    pass(&mut world, &mut ann, 337);
    assert_eq!((ann.notified(), ann.closed), (vec![], None));
    pass(&mut world, &mut ann, 2);
    assert_eq!(ann.notified(), [("token-expiring".to_owned(), json!({"inMs": 60_000}))]);
    pass(&mut world, &mut ann, 60);
    assert_eq!(ann.closed, Some((4000, "token expired")));
}

#[test]
fn a_token_that_will_not_do_changes_nothing() {
    let mut world = World::new();
    world.proofs.insert("narrow", Ok(proof("other", &[Grant::Broadcast], None)));
    world.proofs.insert("revoked", Err(NotAdmitted::Revoked));
    let retry_after = Duration::from_secs(5);
    world.proofs.insert("away", Err(NotAdmitted::KeysAway { retry_after }));
    for error in [TokenError::Expired, TokenError::OtherPeer, TokenError::Claim("exp")] {
        world.proofs.insert("bad", Err(NotAdmitted::Token(error)));
        let mut ann = world.client_with("ann", access("r", &[Grant::Broadcast]), None);
        world.join(&mut ann, "r");
        assert_eq!(world.refused(&mut ann, "refresh", &refresh("bad")), (401, "unauthenticated".to_owned()));
        assert_eq!(world.refused(&mut ann, "refresh", &refresh("revoked")).0, 401);
        let narrow = world.ask(&mut ann, "refresh", &refresh("narrow"));
        assert_eq!(narrow["errorCode"], 403);
        assert!(narrow["errorReason"].as_str().expect("text").contains("room r,"), "{narrow}");
        let away = world.ask(&mut ann, "refresh", &refresh("away"));
        assert_eq!((&away["errorCode"], &away["data"]["retryAfterMs"]), (&json!(429), &json!(5_000)));
        world.done(&mut ann, "broadcast", &say());
    }
}

#[test]
fn a_room_that_is_being_joined_must_be_covered_too() {
    let mut world = World::new();
    world.proofs.insert("narrow", Ok(proof("r", &[], None)));
    let mut ann = world.client_with("ann", access("*", &[]), None);
    world.join(&mut ann, "r");
    let join = world.send(&mut ann, "join", &json!({"rid": "s"}));
    let joining = ann.running.pop_front().expect("under way");
    assert_eq!(world.refused(&mut ann, "refresh", &refresh("narrow")).0, 403);
    let completion = world.execute(&mut ann, joining.command);
    world.complete(&mut ann, joining.id, completion);
    assert_eq!(ann.answer(join)["ok"], true);
}

/// More requests than run at once hold up a join until the refresh that came before it has been carried out.
#[test]
fn a_join_that_waited_is_held_against_the_token_that_counts_when_it_begins() {
    let mut world = World::new();
    world.proofs.insert("narrow", Ok(proof("r", &[], None)));
    let mut ann = world.client_with("ann", access("*", &[]), None);
    world.join(&mut ann, "r");
    for _ in 0..31 {
        world.send(&mut ann, "getusers", &json!({"rid": "r"}));
    }
    let refreshed = world.send(&mut ann, "refresh", &refresh("narrow"));
    let join = world.send(&mut ann, "join", &json!({"rid": "s"}));
    let proving = ann.running.pop_back().expect("under way");
    assert!(matches!(proving.command, Command::Prove { .. }), "the join waits: {proving:?}");
    let completion = world.execute(&mut ann, proving.command);
    world.complete(&mut ann, proving.id, completion);
    assert_eq!(ann.answer(refreshed)["ok"], true);
    assert_eq!(ann.answer(join)["errorCode"], 403);
    world.settle(&mut ann);
}

#[test]
fn leaving_a_room_takes_no_token_that_is_for_it() {
    let mut world = World::new();
    let mut ann = world.client_with("ann", access("r", &[]), None);
    assert_eq!(world.refused(&mut ann, "keepalive", &json!({"rid": "s"})).0, 403);
    assert_eq!(world.refused(&mut ann, "leave", &json!({"rid": "s"})).0, 2, "not in it, and that is all");
}

#[test]
fn refreshes_count_in_the_order_they_were_sent() {
    let mut world = World::new();
    world.proofs.insert("first", Ok(proof("r", &[Grant::Broadcast], None)));
    world.proofs.insert("second", Ok(proof("r", &[], None)));
    let mut ann = world.client_with("ann", access("r", &[]), None);
    world.join(&mut ann, "r");
    let ids = ["first", "second"].map(|token| world.send(&mut ann, "refresh", &refresh(token)));
    assert_eq!(ann.running.len(), 1, "one after the other");
    world.settle(&mut ann);
    assert!(ids.into_iter().all(|id| ann.answer(id)["ok"] == true));
    assert_eq!(world.refused(&mut ann, "broadcast", &say()).0, 403);
}

#[test]
fn a_revoked_client_is_closed_for_good_and_leaves_nothing_behind() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    world.publish(&mut ann, "r");
    world.hear(&mut bob);
    bob.notified();
    let join = world.send(&mut ann, "join", &json!({"rid": "s"}));
    world.send(
        &mut ann,
        "publish",
        &json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}}),
    );
    ann.session.handle_revoked();
    world.collect(&mut ann);
    assert_eq!(ann.closed, Some((4000, "access revoked")));
    world.settle(&mut ann);
    assert!(ann.session.is_finished() && ann.try_answer(join).is_none());
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["stream-remove", "peer-leave"]);
    let mut cat = world.client("cat");
    assert_eq!(world.join(&mut cat, "s")["users"], json!([]), "the join that was under way is taken back");
    ann.session.handle_revoked();
    world.collect(&mut ann);
    assert!(ann.session.is_finished());
}

/// A world with these limits for what rooms are told and for the edge.
fn limited(room: Rate, edge: Rate) -> World {
    let mut config = World::config(Rate::new(1_000_000, 1_000_000), Duration::from_mins(1));
    config.room_limits.messages = RoomRates::new(room);
    config.edge_requests = SharedBucket::new(edge, Instant::now());
    World::of(config)
}

const PLENTY: fn() -> Rate = || Rate::new(1_000_000, 1_000_000);

fn refused_for(answer: &Value, client: &mut Client, limit: Limit) {
    assert_eq!((&answer["errorCode"], &answer["errorReason"]), (&json!(429), &json!(limit.reason())), "{answer}");
    let wait = answer["data"]["retryAfterMs"].as_u64().expect("a number");
    assert!((1..=100).contains(&wait), "{wait}");
    assert_eq!(std::mem::take(&mut client.limited), [limit]);
}

#[test]
fn the_sockets_of_one_uid_share_what_it_may_ask() {
    let mut world = World::new();
    let shared = Arc::new(presence::Shared::new(SharedBucket::new(Rate::new(10, 4), world.now)));
    let proof = || Proof { access: Arc::new(Access::unrestricted()), expires_at: None };
    let mut one = world.client_of("ann", proof(), Arc::clone(&shared));
    let mut two = world.client_of("ann", proof(), shared);
    let mut other = world.client("bob");
    world.join(&mut one, "r");
    world.join(&mut two, "s");
    world.done(&mut one, "keepalive", &json!({"rid": "r"}));
    world.done(&mut two, "keepalive", &json!({"rid": "s"}));
    for client in [&mut one, &mut two] {
        let answer = world.ask(client, "getusers", &json!({"rid": "r"}));
        refused_for(&answer, client, Limit::Uid);
    }
    world.join(&mut other, "r");
    world.pass(&mut one, Duration::from_millis(101));
    world.done(&mut one, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn the_members_of_a_room_share_what_it_is_told() {
    // Two for the stream.
    let mut world = limited(Rate::new(10, 5), PLENTY());
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    for client in [&mut ann, &mut bob] {
        world.join(client, "r");
        world.join(client, "s");
    }
    let mid = world.publish(&mut ann, "r");
    world.done(&mut ann, "broadcast", &say());
    world.done(&mut bob, "broadcast", &say());
    world.done(&mut ann, "mute", &json!({"rid": "r", "mid": mid, "audio": true}));
    for client in [&mut ann, &mut bob] {
        let answer = world.ask(client, "broadcast", &say());
        refused_for(&answer, client, Limit::Room);
    }
    let answer = world.ask(&mut ann, "mute", &json!({"rid": "r", "mid": mid, "audio": false}));
    refused_for(&answer, &mut ann, Limit::Room);
    world.done(&mut ann, "broadcast", &json!({"rid": "s", "data": 1}));
    world.done(&mut ann, "getusers", &json!({"rid": "r"}));
    world.pass(&mut bob, Duration::from_millis(101));
    world.done(&mut bob, "broadcast", &say());
}

/// A world with this limit for joins of a room.
fn with_joins(rate: Rate) -> World {
    let mut config = World::config(Rate::new(1_000_000, 1_000_000), Duration::from_mins(1));
    config.room_limits.joins = RoomRates::new(rate);
    World::of(config)
}

#[test]
fn who_comes_and_goes_is_held_up_and_others_are_not_told_of_it_all_the_time() {
    let mut world = with_joins(Rate::new(10, 3));
    let (mut ann, mut bob) = (world.client("ann"), world.client_with("bob", access("*", &[]), None));
    let in_r = json!({"rid": "r"});
    world.join(&mut ann, "r");
    for _ in 0..2 {
        world.join(&mut bob, "r");
        world.done(&mut bob, "leave", &in_r);
    }
    for _ in 0..9 {
        let answer = world.ask(&mut bob, "join", &in_r);
        refused_for(&answer, &mut bob, Limit::RoomJoins);
    }
    world.hear(&mut ann);
    assert_eq!(ann.methods(), ["peer-join", "peer-leave", "peer-join", "peer-leave"]);
    world.join(&mut bob, "s");
    world.pass(&mut bob, Duration::from_millis(101));
    world.join(&mut bob, "r");
    world.done(&mut bob, "leave", &in_r);
}

#[test]
fn who_comes_back_is_not_held_up_by_those_who_come_and_go() {
    let mut world = with_joins(Rate::new(10, 2));
    let mut ann = world.client("ann");
    let session = world.join(&mut ann, "r")["session"].clone();
    let back = json!({"rid": "r", "session": session});
    ann.session.handle_closed();
    world.collect(&mut ann);
    world.settle(&mut ann);
    let mut bob = world.client("bob");
    world.join(&mut bob, "r");
    let answer = world.ask(&mut bob, "join", &json!({"rid": "r", "session": "made up"}));
    refused_for(&answer, &mut bob, Limit::RoomJoins);
    let mut ann = world.client("ann");
    world.done(&mut ann, "join", &back);
    // The session that it has ended is none to come back with.
    world.done(&mut ann, "leave", &json!({"rid": "r"}));
    let answer = world.ask(&mut ann, "join", &back);
    assert_eq!(answer["errorReason"], Limit::RoomJoins.reason(), "{answer}");
}

#[test]
fn a_stream_counts_for_its_coming_and_its_going() {
    let mut world = limited(Rate::new(10, 3), PLENTY());
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    let mid = world.publish(&mut ann, "r");
    let minfo = json!({"audio": true, "video": false});
    let publish = json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": minfo});
    let answer = world.ask(&mut ann, "publish", &publish);
    refused_for(&answer, &mut ann, Limit::Room);
    world.done(&mut ann, "unpublish", &json!({"rid": "r", "mid": mid}));
    world.done(&mut ann, "broadcast", &say());
}

#[test]
fn what_is_said_while_a_join_is_under_way_counts_as_well() {
    let mut world = limited(Rate::new(10, 3), PLENTY());
    let mut ann = world.client("ann");
    let ids: Vec<u64> = ["join", "broadcast", "broadcast", "broadcast", "broadcast"]
        .into_iter()
        .map(|method| world.send(&mut ann, method, &say()))
        .collect();
    world.settle(&mut ann);
    let codes: Vec<_> = ids.into_iter().map(|id| ann.answer(id)["errorCode"].as_i64()).collect();
    assert_eq!(codes, [None, None, None, None, Some(429)]);
}

/// By the edge's own numbers: half of what may wait for a client.
#[test]
fn large_broadcasts_are_no_more_at_once_than_a_client_on_a_slow_link_can_have_waiting() {
    let mut config = World::config(Rate::new(1_000_000, 1_000_000), Duration::from_mins(1));
    config.room_limits = RoomLimits::new(&LimitSettings::default());
    let mut world = World::of(config);
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    let large = json!({"rid": "r", "data": "x".repeat(MAX_BROADCAST_BYTES - 2)});
    world.done(&mut ann, "broadcast", &large);
    world.done(&mut ann, "broadcast", &large);
    let answer = world.ask(&mut ann, "broadcast", &large);
    assert_eq!((&answer["errorCode"], &answer["errorReason"]), (&json!(429), &json!(Limit::Room.reason())));
    let wait = answer["data"]["retryAfterMs"].as_u64().expect("a number");
    assert!((300..=500).contains(&wait), "{wait}");
    world.done(&mut ann, "broadcast", &say());
    world.pass(&mut ann, Duration::from_millis(510));
    world.done(&mut ann, "broadcast", &large);
    let too_long = json!({"rid": "s", "data": "x".repeat(MAX_BROADCAST_BYTES)});
    world.join(&mut ann, "s");
    for _ in 0..9 {
        assert_eq!(world.refused(&mut ann, "broadcast", &too_long).0, 413, "it takes nothing from what others may say");
    }
}

#[test]
fn who_is_not_in_a_room_takes_nothing_from_it() {
    let mut world = limited(Rate::new(10, 1), PLENTY());
    let (mut ann, mut mallory) = (world.client("ann"), world.client("mallory"));
    world.join(&mut ann, "r");
    for _ in 0..9 {
        assert_eq!(world.refused(&mut mallory, "broadcast", &say()).0, 2);
    }
    world.done(&mut ann, "broadcast", &say());
}

#[test]
fn all_clients_of_an_edge_share_what_it_may_be_asked() {
    let mut world = limited(PLENTY(), Rate::new(10, 3));
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    world.done(&mut bob, "keepalive", &json!({"rid": "r"}));
    for client in [&mut ann, &mut bob] {
        let answer = world.ask(client, "keepalive", &json!({"rid": "r"}));
        refused_for(&answer, client, Limit::Edge);
    }
    world.pass(&mut ann, Duration::from_millis(101));
    world.done(&mut ann, "keepalive", &json!({"rid": "r"}));
}
