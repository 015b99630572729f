//! Every code of the contract's table that can be provoked.

use proto::signalling::methods;
use room_store::StoreError;
use serde_json::{Value, json};
use telemetry::trace::About;

use super::world::{AUDIO, BOTH, Client, Sfu, World};
use crate::auth::{Authenticator, Grant, SharedSecret, SigningKey, TokenRequest, mint};
use crate::nodes::SfuError;
use crate::rate::Rate;
use crate::session::Subject;

fn jsep(sdp: &str) -> Value {
    json!({"type": "offer", "sdp": sdp})
}

fn publish(minfo: &Value, sdp: &str) -> Value {
    json!({"rid": "r", "jsep": jsep(sdp), "minfo": minfo})
}

fn joined(world: &mut World) -> Client {
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    ann
}

#[test]
fn unknown_methods_and_missing_data() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let unknown = (-1, "unknown_method".to_owned());
    for method in ["", "nothing", "configure", "JOIN"] {
        assert_eq!(world.refused(&mut ann, method, &json!({"rid": "r"})), unknown, "{method}");
    }
    for data in [json!(null), json!([]), json!("x"), json!(1)] {
        assert_eq!(world.refused(&mut ann, "keepalive", &data), unknown, "{data}");
    }
    world.send_text(&mut ann, r#"{"request":true,"id":77,"method":"join"}"#);
    assert_eq!(ann.answer(77)["errorCode"], -1);
}

#[test]
fn rooms_one_is_not_in_or_that_have_no_valid_name() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let expected = (2, "not_in_room".to_owned());
    let stranger =
        json!({"rid": "other", "mid": "m", "sid": "s", "jsep": jsep(AUDIO), "minfo": {}, "data": 1, "on": true});
    for method in methods().filter(|method| !matches!(*method, "join" | "refresh")) {
        assert_eq!(world.refused(&mut ann, method, &stranger), expected, "{method}");
    }
    for rid in [json!(null), json!(""), json!(1), json!("a/b"), json!("x".repeat(129)), json!("a\nb")] {
        assert_eq!(world.refused(&mut ann, "join", &json!({"rid": rid})), expected, "{rid}");
    }
    assert_eq!(world.refused(&mut ann, "join", &json!({})), expected);
}

#[test]
fn streams_that_are_not_there_or_not_ones_own() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let mut bob = world.client("bob");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut bob, "r");
    let bad_mid = (3, "bad_mid".to_owned());
    assert_eq!(world.refused(&mut ann, "unpublish", &json!({"rid": "r", "mid": mid})), bad_mid);
    assert_eq!(world.refused(&mut ann, "unpublish", &json!({"rid": "r", "mid": "nobody#0000000001"})), bad_mid);
    assert_eq!(world.refused(&mut ann, "unpublish", &json!({"rid": "r"})), bad_mid);
    let subscribe = json!({"rid": "r", "mid": "nobody#0000000001", "jsep": jsep(AUDIO)});
    assert_eq!(world.refused(&mut ann, "subscribe", &subscribe), bad_mid);
    let sid = world.subscribe(&mut ann, "r", &mid);
    let bad_sid = (4, "bad_sid".to_owned());
    assert_eq!(world.refused(&mut bob, "unsubscribe", &json!({"rid": "r", "mid": mid, "sid": sid})), bad_sid);
    assert_eq!(world.refused(&mut ann, "unsubscribe", &json!({"rid": "r", "mid": mid})), bad_sid);
    assert_eq!(world.refused(&mut ann, "unsubscribe", &json!({"rid": "r", "sid": sid})), bad_mid);
    assert_eq!(world.refused(&mut ann, "getusers", &json!({"rid": "r", "cursor": "x"})).0, 1);
}

#[test]
fn offers_that_are_none() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let wrong = [
        json!(null),
        json!("sdp"),
        json!({}),
        json!({"type": "offer"}),
        json!({"type": "answer", "sdp": AUDIO}),
        json!({"type": "offer", "sdp": 1}),
    ];
    for jsep in wrong {
        let data = json!({"rid": "r", "mid": "m", "jsep": jsep, "minfo": {"audio": true}});
        for method in ["publish", "subscribe", "restart"] {
            assert_eq!(world.refused(&mut ann, method, &data), (5, "bad_jsep".to_owned()), "{method} {data}");
        }
    }
}

#[test]
fn sdp_the_sfu_cannot_use() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let mid = world.publish(&mut ann, "r");
    world.nodes.insert("sfu-1", Sfu::Fails(SfuError::BadSdp("line 2: no fingerprint".into())));
    let answer = world.ask(&mut ann, "publish", &publish(&json!({"audio": true}), AUDIO));
    assert_eq!((&answer["errorCode"], &answer["error"]), (&json!(6), &json!("bad_sdp")));
    assert_eq!(answer["errorReason"], "line 2: no fingerprint");
    assert_eq!(world.refused(&mut ann, "subscribe", &json!({"rid": "r", "mid": mid, "jsep": jsep(AUDIO)})).0, 6);
    assert_eq!(world.refused(&mut ann, "restart", &json!({"rid": "r", "mid": mid, "jsep": jsep(AUDIO)})).0, 6);
    world.closed_transports.dedup();
    assert_eq!(world.closed_transports.len(), 2, "what was begun is taken back: {:?}", world.closed_transports);
}

#[test]
fn descriptions_that_are_none_or_contradict_the_offer() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let bad_minfo = (7, "bad_minfo".to_owned());
    for minfo in [json!(null), json!([]), json!("x"), json!({"audio": "true"}), json!({"audio": false, "video": false})]
    {
        assert_eq!(world.refused(&mut ann, "publish", &publish(&minfo, BOTH)), bad_minfo, "{minfo}");
    }
    assert_eq!(world.refused(&mut ann, "publish", &publish(&json!({"audio": true, "video": false}), BOTH)), bad_minfo);
    assert_eq!(world.refused(&mut ann, "publish", &publish(&json!({"audio": false, "video": true}), BOTH)), bad_minfo);
    assert!(world.offered.is_empty(), "refused before the SFU is asked");
    assert_eq!(world.refused(&mut ann, "publish", &publish(&json!({"audio": true, "video": true}), AUDIO)), bad_minfo);
    world.nodes.insert("sfu-1", Sfu::AudioOnly);
    assert_eq!(world.refused(&mut ann, "publish", &publish(&json!({"video": true}), BOTH)), bad_minfo);
    let mut bob = world.client("bob");
    assert_eq!(world.join(&mut bob, "r")["pubs"], json!([]), "none of them is left behind");
}

#[test]
fn sfus_that_fail_or_are_not_there() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let mid = world.publish(&mut ann, "r");
    let one = publish(&json!({"audio": true}), AUDIO);
    let subscribe = json!({"rid": "r", "mid": mid, "jsep": jsep(AUDIO)});
    let table = [
        (SfuError::Failed("broken".into()), 8, 9),
        (SfuError::Unreachable, 12, 12),
        (SfuError::Full("the node is full".into()), 10, 9),
        (SfuError::NotFound, 8, 3),
        (SfuError::Restarted, 12, 3),
    ];
    for (error, published, subscribed) in table {
        world.nodes.insert("sfu-1", Sfu::Fails(error.clone()));
        assert_eq!(world.refused(&mut ann, "publish", &one).0, published, "{error:?}");
        assert_eq!(world.refused(&mut ann, "subscribe", &subscribe).0, subscribed, "{error:?}");
    }
    world.nodes.clear();
    assert_eq!(world.refused(&mut ann, "publish", &one), (10, "no_sfu".to_owned()));
}

#[test]
fn what_must_not_happen_is_told_with_the_trace_that_stands_in_the_log() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    ann.traces = Some(Vec::new());
    world.nodes.insert("sfu-1", Sfu::Longwinded);
    let answer = world.ask(&mut ann, "publish", &publish(&json!({"audio": true}), AUDIO));
    assert_eq!((&answer["errorCode"], &answer["error"]), (&json!(14), &json!("internal")));
    let traces = ann.traces.take().expect("set above");
    let reason = answer["errorReason"].as_str().expect("a reason");
    assert!(
        matches!(&traces[..], [trace] if trace.len() == 32 && reason.contains(trace.as_str())),
        "{traces:?} {reason}"
    );
    assert!(ann.longest_frame < 128 * 1024);
}

#[test]
fn a_store_out_of_reach() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let mid = world.publish(&mut ann, "r");
    for error in [StoreError::Unavailable, StoreError::Timeout] {
        world.store_fails = Some(error);
        let data = json!({
            "rid": "r", "mid": mid, "sid": "s", "jsep": jsep(AUDIO), "minfo": {"audio": true}, "data": 1, "on": true,
        });
        for method in methods().filter(|method| *method != "refresh") {
            assert_eq!(world.refused(&mut ann, method, &data), (11, "store_unavailable".to_owned()), "{method}");
        }
    }
    world.store_fails = None;
    world.done(&mut ann, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn what_a_token_does_not_grant() {
    let mut world = World::new();
    let secret = SharedSecret::new([1; 32]).expect("long enough");
    let request = TokenRequest {
        peer: "ann".into(),
        rid: "r".into(),
        grants: vec![Grant::Subscribe],
        ttl: std::time::Duration::from_mins(10),
        id: None,
        record: false,
        issuer: None,
        audience: None,
    };
    let now = std::time::SystemTime::now();
    let token = mint(&SigningKey::shared_secret(&secret), &request, now).expect("mints");
    let authenticator = Authenticator::shared_secret(&secret, None, None);
    let access = authenticator.verify(Some(&token), Some("ann"), now).expect("good");
    let mut ann = world.client_with("ann", access, None);
    let forbidden = (403, "forbidden".to_owned());
    assert_eq!(world.refused(&mut ann, "join", &json!({"rid": "other"})), forbidden);
    world.join(&mut ann, "r");
    assert_eq!(world.refused(&mut ann, "publish", &publish(&json!({"audio": true}), AUDIO)), forbidden);
    assert_eq!(world.refused(&mut ann, "broadcast", &json!({"rid": "r", "data": 1})), forbidden);
    assert_eq!(world.refused(&mut ann, "mute", &json!({"rid": "r", "mid": "m", "audio": true})), forbidden);
    assert_eq!(world.refused(&mut ann, "record", &json!({"rid": "r", "mid": "m", "on": true})), forbidden);
    assert_eq!(world.refused(&mut ann, "restart", &json!({"rid": "r", "mid": "m", "jsep": jsep(AUDIO)})), forbidden);
    let mut bob = world.client("bob");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut bob, "r");
    world.subscribe(&mut ann, "r", &mid);
}

#[test]
fn limits_of_a_connection() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    for rid in ["a", "b", "c"] {
        world.join(&mut ann, rid);
    }
    assert_eq!(world.refused(&mut ann, "join", &json!({"rid": "d"})), (409, "conflict".to_owned()));
    world.join(&mut ann, "c");
    world.done(&mut ann, "leave", &json!({"rid": "a"}));
    world.join(&mut ann, "d");
}

#[test]
fn limits_of_a_room() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    for _ in 0..16 {
        world.publish(&mut ann, "r");
    }
    assert_eq!(
        world.refused(&mut ann, "publish", &publish(&json!({"audio": true}), AUDIO)),
        (409, "conflict".to_owned())
    );
}

#[test]
fn more_ops_than_are_remembered() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let join = |op: Option<usize>| json!({"rid": "r", "op": op.map(|op| op.to_string())});
    for op in 0..1_024 {
        world.done(&mut ann, "join", &join(Some(op)));
    }
    world.done(&mut ann, "join", &join(None));
    let answer = world.ask(&mut ann, "join", &join(Some(1_024)));
    assert_eq!((answer["errorCode"].as_i64(), answer["data"]["retryAfterMs"].as_i64()), (Some(429), Some(1_000)));
    for op in 0..2_000 {
        world.done(&mut ann, "broadcast", &json!({"rid": "r", "data": 1, "op": format!("said {op}")}));
    }
}

#[test]
fn messages_and_fields_over_their_limits() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let too_large = (413, "too_large".to_owned());
    assert_eq!(world.refused(&mut ann, "broadcast", &json!({"rid": "r", "data": "x".repeat(1 << 20)})), too_large);
    assert_eq!(world.refused(&mut ann, "broadcast", &json!({"rid": "r", "data": "x".repeat(125 * 1024)})), too_large);
    let minfo = json!({"audio": true, "note": "x".repeat(5_000)});
    assert_eq!(world.refused(&mut ann, "publish", &publish(&minfo, AUDIO)), too_large);
    assert_eq!(world.refused(&mut ann, "keepalive", &json!({"rid": "r", "op": "x".repeat(129)})), too_large);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    world.send_text(
        &mut ann,
        &format!(r#"{{"request":true,"id":5000,"method":"broadcast","data":{{"rid":"r","data":{deep}}}}}"#),
    );
    assert_eq!(ann.answer(5000)["errorCode"], 413);
    world.done(&mut ann, "broadcast", &json!({"rid": "r", "data": "x".repeat(119 * 1024)}));
}

#[test]
fn the_largest_broadcast_still_fits_into_a_notification() {
    let mut world = World::new();
    let name = "\u{10ffff}".repeat(128);
    let (mut ann, mut bob) = (world.client(&name), world.client("bob"));
    world.join(&mut ann, &name);
    world.join(&mut bob, &name);
    world.done(&mut ann, "broadcast", &json!({"rid": name, "data": "x".repeat(120 * 1024 - 2)}));
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["broadcast"]);
    assert!(bob.longest_frame < 128 * 1024);
}

#[test]
fn too_many_requests() {
    let mut world = World::with_rate(Rate::new(10, 5));
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    let answers: Vec<Value> = (0..10).map(|_| world.ask(&mut ann, "keepalive", &json!({"rid": "r"}))).collect();
    assert!(answers[..4].iter().all(|answer| answer["ok"] == true));
    let refused = &answers[4];
    assert_eq!((&refused["errorCode"], &refused["error"]), (&json!(429), &json!("rate_limited")));
    let wait = refused["data"]["retryAfterMs"].as_u64().expect("a number");
    assert!((1..=100).contains(&wait));
    world.pass(&mut ann, std::time::Duration::from_millis(wait + 1));
    world.done(&mut ann, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn too_many_requests_at_once() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    let ids: Vec<u64> = (0..600).map(|_| world.send(&mut ann, "getusers", &json!({"rid": "r"}))).collect();
    assert!(ann.running.len() <= 32, "{}", ann.running.len());
    world.settle(&mut ann);
    let answers: Vec<Value> = ids.into_iter().map(|id| ann.answer(id)).collect();
    assert!(answers[..512].iter().all(|answer| answer["ok"] == true));
    assert!(answers[512..].iter().all(|answer| answer["errorCode"] == 429 && answer["data"]["retryAfterMs"] == 1000));
}

#[test]
fn frames_of_no_known_kind_are_dropped_and_counted() {
    let mut world = World::new();
    let mut ann = joined(&mut world);
    for text in [
        "",
        "x",
        "[]",
        "1",
        "\"request\"",
        "{}",
        "{",
        r#"{"request":false,"id":1,"method":"join","data":{}}"#,
        r#"{"request":true,"method":"join","data":{}}"#,
        r#"{"request":true,"id":"1","method":"join","data":{}}"#,
        r#"{"request":true,"id":null,"method":"join","data":{}}"#,
        r#"{"response":true,"id":1,"ok":true,"data":{}}"#,
        r#"{"request":1,"id":1,"method":"join","data":{}}"#,
    ] {
        let before = ann.dropped.len();
        world.send_text(&mut ann, text);
        assert_eq!(ann.dropped.len(), before + 1, "{text}");
    }
    assert!(ann.sent.is_empty());
    world.done(&mut ann, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn joins_under_way_count_among_a_connections_rooms() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    let rooms = ["a", "b", "c", "d", "a"];
    let joins = rooms.map(|rid| world.send(&mut ann, "join", &json!({"rid": rid})));
    world.settle(&mut ann);
    assert_eq!(joins.map(|id| ann.answer(id)["ok"] == true), [true, true, true, false, true]);
    world.done(&mut ann, "leave", &json!({"rid": "a"}));
    world.join(&mut ann, "d");
}

#[test]
fn what_is_said_of_a_request_names_its_room_and_its_stream_whatever_came_of_it() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.refused(&mut ann, "keepalive", &json!({"rid": "s"}));
    world.refused(&mut ann, "refresh", &json!({"access_token": "unknown"}));
    world.join(&mut ann, "r");
    let mid = world.publish(&mut ann, "r");
    world.join(&mut bob, "r");
    world.subscribe(&mut bob, "r", &mid);
    world.refused(&mut ann, "mute", &json!({"rid": "r", "mid": "none", "audio": true}));
    // What names no room is about the one that the client is in.
    world.refused(&mut ann, "refresh", &json!({"access_token": "unknown"}));
    world.refused(&mut ann, "dance", &json!({}));
    world.join(&mut ann, "s");
    world.refused(&mut ann, "refresh", &json!({"access_token": "unknown"}));
    let said = |client: &mut Client| -> Vec<String> {
        let text = |(method, subject): (Option<&str>, Subject)| {
            let About { room, mid } = subject.about();
            format!("{} {} {}", method.unwrap_or("?"), room.unwrap_or("-"), mid.unwrap_or("-"))
        };
        client.answered.drain(..).map(text).collect()
    };
    let expected = [
        "keepalive s -".to_owned(),
        "refresh - -".to_owned(),
        "join r -".to_owned(),
        format!("publish r {mid}"),
        "mute r none".to_owned(),
        "refresh r -".to_owned(),
        "? r -".to_owned(),
        "join s -".to_owned(),
        "refresh - -".to_owned(),
    ];
    assert_eq!(said(&mut ann), expected);
    assert_eq!(said(&mut bob), ["join r -".to_owned(), format!("subscribe r {mid}")]);
}
