//! `record`, and what is recorded from its beginning.

use std::time::{Duration, SystemTime};

use proto::refusal::NoRecording;
use room_store::StoreError;
use serde_json::{Value, json};

use super::world::{AUDIO, BOTH, Client, World};
use crate::auth::{Access, Authenticator, Grant, SharedSecret, SigningKey, TokenRequest, mint};
use crate::nodes::SfuError;
use crate::rate::Rate;
use crate::session::{Command, Completion};

const ALL_BUT: [Grant; 4] = [Grant::Publish, Grant::Subscribe, Grant::Broadcast, Grant::Admin];

fn access(peer: &str, grants: &[Grant], record: bool) -> Access {
    let secret = SharedSecret::new([1; 32]).expect("long enough");
    let request = TokenRequest {
        peer: peer.into(),
        rid: "*".into(),
        grants: grants.to_vec(),
        ttl: Duration::from_mins(10),
        id: None,
        record,
        issuer: None,
        audience: None,
    };
    let now = SystemTime::now();
    let token = mint(&SigningKey::shared_secret(&secret), &request, now).expect("mints");
    Authenticator::shared_secret(&secret, None, None).verify(Some(&token), Some(peer), now).expect("good")
}

fn record(mid: &str, on: bool) -> Value {
    json!({"rid": "r", "mid": mid, "on": on})
}

fn publishing(minfo: &Value) -> Value {
    json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": minfo})
}

/// Rooms whose names begin with `r` are recorded.
fn recorded_room() -> World {
    let mut config = World::config(Rate::new(1_000_000, 1_000_000), Duration::from_mins(1));
    config.recording.rooms = vec!["r*".parse().expect("a pattern")];
    World::of(config)
}

/// Ann, who publishes, and Bob, both in the room.
fn scene(world: &mut World) -> (Client, Client, String) {
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut ann, "r");
    for client in [&mut ann, &mut bob] {
        world.hear(client);
        client.notified();
    }
    (ann, bob, mid)
}

fn heard(world: &mut World, client: &mut Client) -> Vec<(bool, String)> {
    world.hear(client);
    let recordings = client.notified().into_iter().filter(|(method, _)| method == "recording");
    let told = |data: Value| (data["on"] == true, data["recording"].as_str().expect("a text").to_owned());
    recordings.map(|(_, data)| told(data)).collect()
}

#[test]
fn anybody_who_may_records_anybodys_stream_and_all_others_are_told() {
    let mut world = World::new();
    let (mut ann, mut bob, mid) = scene(&mut world);
    let id = world.done(&mut bob, "record", &record(&mid, true))["recording"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), &world.told_to_record), (22, &vec![(id.clone(), true)]));
    assert_eq!(heard(&mut world, &mut ann), [(true, id.clone())], "the owner, too");
    assert_eq!(heard(&mut world, &mut bob), [], "who asked has its answer");
    let mut cat = world.client("cat");
    assert_eq!(world.join(&mut cat, "r")["pubs"][0]["recording"], json!(id));
    assert_eq!(world.done(&mut ann, "record", &record(&mid, true)), json!({"recording": id}), "it is recorded already");
    assert_eq!(world.done(&mut ann, "record", &record(&mid, false)), json!({"recording": id}));
    assert_eq!(world.told_to_record.last(), Some(&(id.clone(), false)));
    assert_eq!(heard(&mut world, &mut bob), [(false, id)]);
    assert_eq!(world.done(&mut ann, "record", &record(&mid, false)), json!({}), "it is not recorded");
    assert_eq!(heard(&mut world, &mut bob), []);
    assert_eq!(world.refused(&mut ann, "record", &record("ann#0", true)).0, 3);
    assert_eq!(world.refused(&mut ann, "record", &record("ann#0", false)).0, 3);
}

#[test]
fn without_the_grant_nothing_is_recorded_and_nothing_made() {
    let mut world = World::new();
    let mut ann = world.client_with("ann", access("ann", &ALL_BUT, false), None);
    world.join(&mut ann, "r");
    let mid = world.publish(&mut ann, "r");
    let forbidden = (403, "forbidden".to_owned());
    for on in [true, false] {
        assert_eq!(world.refused(&mut ann, "record", &record(&mid, on)), forbidden);
    }
    let offered = world.offered.len();
    let minfo = json!({"audio": true, "record": true});
    assert_eq!(world.refused(&mut ann, "publish", &publishing(&minfo)), forbidden);
    assert_eq!((world.offered.len(), world.told_to_record.len()), (offered, 0));
    let minfo = json!({"audio": true, "record": false});
    world.done(&mut ann, "publish", &publishing(&minfo));
    assert_eq!(world.refused(&mut ann, "publish", &publishing(&json!({"record": 1}))).0, 7);
}

#[test]
fn a_stream_that_wants_it_is_recorded_before_anybody_knows_it() {
    let mut world = World::new();
    let (mut ann, mut bob, _) = scene(&mut world);
    let published = world.done(&mut ann, "publish", &publishing(&json!({"audio": true, "record": true})));
    let id = published["recording"].as_str().expect("an id").to_owned();
    assert_eq!(world.told_to_record, [(id.clone(), true)]);
    world.hear(&mut bob);
    let told = bob.notified();
    assert_eq!((told.len(), told[0].0.as_str(), &told[0].1["recording"]), (1, "stream-add", &json!(id)));
    world.done(&mut bob, "record", &record(published["mid"].as_str().expect("a mid"), false));
    assert_eq!(heard(&mut world, &mut ann), [(false, id)], "it may be ended as any other");
}

#[test]
fn a_call_goes_on_where_its_node_does_not_record() {
    for (error, ends) in [(SfuError::NoRecording(NoRecording::Full), 0), (SfuError::Unreachable, 1)] {
        let mut world = World::new();
        let (mut ann, mut bob, _) = scene(&mut world);
        world.records = Err(error);
        let published = world.done(&mut ann, "publish", &publishing(&json!({"audio": true, "record": true})));
        assert_eq!(published.get("recording"), None);
        world.hear(&mut bob);
        let told = bob.notified();
        assert_eq!((told.len(), told[0].1.get("recording")), (1, None), "nobody is told of what is not");
        let ended = world.told_to_record.iter().filter(|(_, on)| !on).count();
        assert_eq!(ended, ends, "one that may have begun is ended");
    }
}

#[test]
fn a_publish_that_is_asked_for_again_ends_no_recording_when_its_node_does_not_answer() {
    let mut world = World::new();
    let (mut ann, mut bob, _) = scene(&mut world);
    let mut request = publishing(&json!({"audio": true, "record": true}));
    request["op"] = json!("p1");
    let published = world.done(&mut ann, "publish", &request);
    world.records = Err(SfuError::Unreachable);
    assert_eq!(world.done(&mut ann, "publish", &request)["recording"], published["recording"]);
    assert_eq!(heard(&mut world, &mut bob), []);
    assert!(world.told_to_record.iter().all(|(_, on)| *on), "{:?}", world.told_to_record);
}

/// Ann's stream is recorded, and she adds a picture; the recordings before and after, and what Bob is told.
fn adding_a_picture(records: Result<(), SfuError>) -> (World, String, Value, Vec<(bool, String)>) {
    let mut world = World::new();
    let (mut ann, mut bob, _) = scene(&mut world);
    let mut request = publishing(&json!({"record": true}));
    request["op"] = json!("p1");
    let first = world.done(&mut ann, "publish", &request)["recording"].as_str().expect("an id").to_owned();
    (world.outgrown, world.records) = (Some(first.clone()), records);
    request["jsep"]["sdp"] = json!(BOTH);
    let recording = world.done(&mut ann, "publish", &request)["recording"].clone();
    let told = heard(&mut world, &mut bob);
    (world, first, recording, told)
}

#[test]
fn where_a_further_offer_adds_a_kind_another_recording_has_both() {
    let (world, first, recording, told) = adding_a_picture(Ok(()));
    let second = recording.as_str().expect("an id").to_owned();
    assert_ne!(second, first);
    assert_eq!(told, [(true, second.clone())], "which ends the one before");
    assert_eq!(world.told_to_record, [(first.clone(), true), (first, true), (second, true)]);
}

#[test]
fn where_no_further_recording_may_begin_the_one_before_goes_on() {
    let (world, first, recording, told) = adding_a_picture(Err(SfuError::NoRecording(NoRecording::Full)));
    assert_eq!(recording, json!(first));
    assert_eq!(told.last(), Some(&(true, first)), "{told:?}");
    assert!(world.told_to_record.iter().all(|(_, on)| *on), "{:?}", world.told_to_record);
}

#[test]
fn who_asks_for_a_recording_that_was_outgrown_is_answered_with_it() {
    let mut world = World::new();
    let (mut ann, mut bob, mid) = scene(&mut world);
    let id = world.done(&mut bob, "record", &record(&mid, true))["recording"].clone();
    world.outgrown = id.as_str().map(str::to_owned);
    assert_eq!(world.done(&mut ann, "record", &record(&mid, true))["recording"], id);
}

#[test]
fn what_a_node_refuses_is_undone_and_said() {
    let cases = [
        (SfuError::NoRecording(NoRecording::Never), 409),
        (SfuError::NoRecording(NoRecording::Full), 409),
        (SfuError::Unreachable, 12),
        (SfuError::Restarted, 12),
        (SfuError::NotFound, 3),
    ];
    for (error, code) in cases {
        let mut world = World::new();
        let (mut ann, mut bob, mid) = scene(&mut world);
        world.records = Err(error.clone());
        assert_eq!(world.refused(&mut bob, "record", &record(&mid, true)).0, code, "{error:?}");
        let told: Vec<bool> = heard(&mut world, &mut ann).into_iter().map(|(on, _)| on).collect();
        assert_eq!(told, [true, false], "{error:?}");
        assert_eq!(world.done(&mut ann, "getpubs", &json!({"rid": "r"}))["pubs"], json!([]));
        let pubs = world.done(&mut bob, "getpubs", &json!({"rid": "r"}))["pubs"].clone();
        assert_eq!(pubs[0].get("recording"), None, "{error:?}");
        let is_ended = world.told_to_record.iter().any(|(_, on)| !on);
        assert_eq!(is_ended, error == SfuError::Unreachable, "one that may have begun is ended");
    }
}

#[test]
fn who_asks_for_what_is_recorded_already_ends_nothing_when_its_node_does_not_answer() {
    let mut world = World::new();
    let (mut ann, mut bob, mid) = scene(&mut world);
    let id = world.done(&mut bob, "record", &record(&mid, true))["recording"].clone();
    world.records = Err(SfuError::Unreachable);
    assert_eq!(world.refused(&mut ann, "record", &record(&mid, true)).0, 12);
    world.records = Ok(());
    assert_eq!(world.done(&mut bob, "getpubs", &json!({"rid": "r"}))["pubs"][0]["recording"], id);
    world.records = Err(SfuError::NoRecording(NoRecording::Ended));
    assert_eq!(world.refused(&mut ann, "record", &record(&mid, true)).0, 409);
    assert_eq!(world.done(&mut bob, "getpubs", &json!({"rid": "r"}))["pubs"][0].get("recording"), None);
}

#[test]
fn what_is_to_end_ends_though_its_node_does_not_answer() {
    let mut world = World::new();
    let (mut ann, mut bob, mid) = scene(&mut world);
    world.done(&mut bob, "record", &record(&mid, true));
    heard(&mut world, &mut ann);
    world.records = Err(SfuError::Unreachable);
    assert_eq!(world.refused(&mut bob, "record", &record(&mid, false)).0, 12);
    assert_eq!(heard(&mut world, &mut ann).len(), 1);
    let ended: Vec<bool> = world.told_to_record.iter().map(|(_, on)| *on).collect();
    assert_eq!(ended, [true, false, false], "its node is told until it answers");
    world.records = Err(SfuError::NotFound);
    assert_eq!(world.done(&mut bob, "record", &record(&mid, false)), json!({}));
}

#[test]
fn a_rooms_rule_records_every_stream_and_only_an_admin_ends_that() {
    let mut world = recorded_room();
    let mut ann = world.client_with("ann", access("ann", &[Grant::Publish, Grant::Record], false), None);
    world.join(&mut ann, "r");
    let mid = world.publish(&mut ann, "r");
    assert_eq!(world.told_to_record.len(), 1);
    assert_eq!(world.refused(&mut ann, "record", &record(&mid, false)).0, 403);
    let mut root = world.client_with("root", access("root", &[Grant::Record, Grant::Admin], false), None);
    world.join(&mut root, "r");
    assert!(world.done(&mut root, "record", &record(&mid, false))["recording"].is_string());
    assert!(
        world.done(&mut ann, "record", &record(&mid, true))["recording"].is_string(),
        "and anybody begins it again"
    );
    world.join(&mut ann, "other");
    world.publish(&mut ann, "other");
    assert_eq!(world.told_to_record.len(), 3, "other rooms are not recorded");
}

#[test]
fn a_tokens_claim_records_all_that_its_holder_publishes() {
    let mut world = World::new();
    let mut ann = world.client_with("ann", access("ann", &[Grant::Publish], true), None);
    let mut bob = world.client_with("bob", access("bob", &[Grant::Publish, Grant::Record], false), None);
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let (anns, bobs) = (world.publish(&mut ann, "r"), world.publish(&mut bob, "r"));
    assert_eq!(world.told_to_record.len(), 1);
    assert_eq!(world.refused(&mut bob, "record", &record(&anns, false)).0, 403, "nor may others end it");
    assert_eq!(world.done(&mut bob, "record", &record(&bobs, false)), json!({}));
}

#[test]
fn what_nobody_waits_for_any_more_is_not_left_on_unless_it_will_be_asked_for_again() {
    for with_op in [false, true] {
        let mut world = World::new();
        let (_ann, mut bob, mid) = scene(&mut world);
        let mut data = record(&mid, true);
        if with_op {
            data["op"] = json!("r1");
        }
        let id = world.send(&mut bob, "record", &data);
        let running = bob.running.pop_front().expect("the store is asked");
        assert!(matches!(running.command, Command::SetRecording(_)));
        world.pass(&mut bob, Duration::from_secs(11));
        assert_eq!(bob.answer(id)["ok"], false);
        let completion = world.execute(&mut bob, running.command);
        assert!(matches!(completion, Completion::Publication(Ok(_))));
        world.complete(&mut bob, running.id, completion);
        world.settle(&mut bob);
        let pubs = world.done(&mut bob, "getpubs", &json!({"rid": "r"}))["pubs"].clone();
        assert_eq!(pubs[0].get("recording").is_some(), with_op);
        if with_op {
            assert!(world.done(&mut bob, "record", &data)["recording"].is_string());
        }
    }
}

#[test]
fn a_store_that_is_away_is_said_and_nothing_is_told_to_a_node() {
    let mut world = World::new();
    let (mut ann, _bob, mid) = scene(&mut world);
    world.store_fails = Some(StoreError::Unavailable);
    for on in [true, false] {
        assert_eq!(world.refused(&mut ann, "record", &record(&mid, on)).0, 11);
    }
    assert_eq!(world.told_to_record, []);
}
