//! Frames as clients send them, well-formed and not, through the public interface.

use proptest::prelude::*;
use proto::{
    ids::{Epoch, Mid, PeerId, Position, RoomId, Seq, SessionToken},
    json::RawJson,
    signalling::{
        Cursor, Dropped, ErrorCode, Inbound, Join, MAX_INBOUND_BYTES, Minfo, Offer, Publish, Rejection, Request,
        StreamRef, answer, methods, parse,
    },
};
use serde_json::{Value, json};

fn request(method: &str, data: &Value) -> Inbound {
    let frame = json!({"request": true, "id": 7, "method": method, "data": data});
    parse(&frame.to_string()).expect("a request")
}

fn code(method: &str, data: &Value) -> i32 {
    request(method, data).request.expect_err("refused").code.code()
}

fn offer() -> Value {
    json!({"type": "offer", "sdp": "v=0\r\n"})
}

#[test]
fn each_method_is_read() {
    let rid = RoomId::new("r").expect("valid");
    let mid = Mid::new("u#0123456789").expect("valid");
    let ok = |method: &str, data: Value| {
        let inbound = request(method, &data);
        assert_eq!(inbound.method, Some(method));
        let read = inbound.request.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(read.rid(), (method != "refresh").then_some(&rid));
        read
    };
    let m = mid.as_str();
    let since = json!({"epoch": "000000000000beef", "seq": 4});
    let join = ok("join", json!({"rid": "r", "session": "abc", "since": since, "paging": true, "new": 1}));
    let expected = Join {
        rid: rid.clone(),
        session: Some(SessionToken::new("abc").expect("valid")),
        since: Some(Position { epoch: Epoch::of(0xbeef), seq: Seq::new(4).expect("small") }),
        paging: true,
    };
    assert_eq!(join, Request::Join(expected));
    ok("leave", json!({"rid": "r"}));
    ok("keepalive", json!({"rid": "r"}));
    let minfo = json!({"audio": true, "video": false, "x": {"y": [1]}});
    let publish = ok("publish", json!({"rid": "r", "jsep": offer(), "minfo": minfo}));
    let minfo = Minfo::new(RawJson::new(minfo.to_string()).expect("JSON")).expect("minfo");
    assert_eq!(publish, Request::Publish(Publish { rid: rid.clone(), offer: Offer("v=0\r\n".into()), minfo }));
    ok("unpublish", json!({"rid": "r", "mid": m, "sfuid": 9}));
    ok("subscribe", json!({"rid": "r", "mid": m, "jsep": offer(), "sfuid": "elsewhere"}));
    ok("unsubscribe", json!({"rid": "r", "mid": m, "sid": "s"}));
    ok("broadcast", json!({"rid": "r", "data": null}));
    ok("getusers", json!({"rid": "r"}));
    ok("getpubs", json!({"rid": "r", "cursor": Cursor::default().encode()}));
    let restart = ok("restart", json!({"rid": "r", "mid": m, "jsep": offer()}));
    assert!(matches!(restart, Request::Restart { stream: StreamRef::Publication(found), .. } if found == mid));
    let restart = ok("restart", json!({"rid": "r", "mid": m, "sid": "s", "jsep": offer()}));
    assert!(matches!(restart, Request::Restart { stream: StreamRef::Subscription(_), .. }));
    let mute = ok("mute", json!({"rid": "r", "mid": m, "audio": true}));
    assert!(matches!(mute, Request::Mute { audio: Some(true), video: None, .. }));
    let record = ok("record", json!({"rid": "r", "mid": m, "on": false}));
    assert!(matches!(record, Request::Record { on: false, .. }));
    let refresh = ok("refresh", json!({"access_token": "a.b.c"}));
    assert!(matches!(&refresh, Request::Refresh { access_token } if access_token.0 == "a.b.c"));
    assert!(!format!("{refresh:?}").contains("a.b.c"), "a token is not for logs");
}

#[test]
fn a_method_is_known_by_its_name_though_its_fields_are_refused() {
    for method in methods() {
        let inbound = request(method, &json!({}));
        assert_eq!((inbound.method, inbound.request.is_err()), (Some(method), true));
    }
    assert_eq!(request("nothing", &json!({})).method, None);
}

#[test]
fn each_wrong_field_has_its_code() {
    let full = json!({"rid": "r", "mid": "m", "sid": "s", "jsep": offer(), "minfo": {}, "data": 1, "on": true});
    let uses = [
        (
            "rid",
            2,
            "join leave keepalive publish unpublish subscribe unsubscribe broadcast getusers getpubs restart mute record",
        ),
        ("mid", 3, "unpublish subscribe unsubscribe mute record"),
        ("sid", 4, "unsubscribe"),
        ("jsep", 5, "publish subscribe restart"),
        ("minfo", 7, "publish"),
    ];
    for (field, expected, methods) in uses {
        for method in methods.split(' ') {
            for wrong in [json!(null), json!(7), json!([]), json!("\u{0}")] {
                let mut data = full.clone();
                data[field] = wrong.clone();
                assert_eq!(code(method, &data), expected, "{method} with {field} {wrong}");
            }
            let mut data = full.clone();
            data.as_object_mut().expect("an object").remove(field);
            assert_eq!(code(method, &data), expected, "{method} without {field}");
        }
    }
    assert_eq!(code("mute", &json!({"rid": "r", "mid": "m", "video": 1})), 7);
    for on in [json!(null), json!(1), json!("true")] {
        assert_eq!(code("record", &json!({"rid": "r", "mid": "m", "on": on})), -1);
    }
    assert_eq!(code("restart", &json!({"rid": "r", "jsep": offer()})), 3);
    assert_eq!(code("restart", &json!({"rid": "r", "sid": 1, "jsep": offer()})), 4);
    assert_eq!(code("publish", &json!({"rid": "r", "jsep": {"type": "answer", "sdp": ""}, "minfo": {}})), 5);
    assert_eq!(code("broadcast", &json!({"rid": "r"})), -1);
    for token in [json!(null), json!(7), json!(["a.b.c"])] {
        assert_eq!(code("refresh", &json!({"access_token": token})), 401);
    }
    assert_eq!(code("getusers", &json!({"rid": "r", "cursor": "x"})), 1);
    assert_eq!(code("getpubs", &json!({"rid": "r", "cursor": 1})), 3);
    assert_eq!(code("leave", &json!({"rid": "r", "op": 1})), 413);
    assert_eq!(code("leave", &json!({"rid": "r", "op": "x".repeat(129)})), 413);
}

#[test]
fn without_method_or_data_there_is_no_request() {
    for frame in [
        r#"{"request":true,"id":1,"method":"sing","data":{}}"#,
        r#"{"request":true,"id":1,"data":{}}"#,
        r#"{"request":true,"id":1,"method":7,"data":{}}"#,
        r#"{"request":true,"id":1,"method":"join"}"#,
        r#"{"request":true,"id":1,"method":"join","data":null}"#,
        r#"{"request":true,"id":1,"method":"join","data":[]}"#,
        r#"{"request":true,"id":1,"method":"join","data":"{}"}"#,
    ] {
        let refused = parse(frame).expect("a request").request.expect_err(frame);
        assert_eq!(refused.code, ErrorCode::UnknownMethod, "{frame}");
    }
}

#[test]
fn frames_of_no_known_kind_are_dropped() {
    for (frame, why) in [
        ("", Dropped::NotAnObject),
        ("{", Dropped::NotAnObject),
        ("null", Dropped::NotAnObject),
        ("[{\"request\":true}]", Dropped::NotAnObject),
        ("{}", Dropped::UnknownKind),
        (r#"{"request":false,"id":1}"#, Dropped::UnknownKind),
        (r#"{"request":1,"id":1}"#, Dropped::UnknownKind),
        (r#"{"request":true,"method":"join","data":{}}"#, Dropped::NoId),
        (r#"{"request":true,"id":"1","method":"join","data":{}}"#, Dropped::NoId),
        (r#"{"request":true,"id":null,"method":"join","data":{}}"#, Dropped::NoId),
        (r#"{"response":true,"id":1,"ok":true,"data":{}}"#, Dropped::Response),
    ] {
        assert_eq!(parse(frame), Err(why), "{frame}");
    }
}

#[test]
fn a_request_sent_as_a_notification_has_no_id() {
    let inbound = parse(r#"{"notification":true,"method":"leave","data":{"rid":"r"}}"#).expect("a notification");
    assert_eq!(inbound.id, None);
    assert!(inbound.request.is_ok());
}

#[test]
fn ids_are_echoed_as_they_were_written() {
    for id in ["0", "-0", "1.50", "-7", "1e3", "9007199254740993", "18446744073709551616", "0.1e-7"] {
        let frame = format!(r#"{{"request":true,"id":{id},"method":"x","data":{{}}}}"#);
        let id_read = parse(&frame).expect("a request").id.expect("an id");
        assert_eq!(
            answer::accepted(&id_read, &answer::Done {}),
            format!(r#"{{"response":true,"id":{id},"ok":true,"data":{{}}}}"#)
        );
    }
}

#[test]
fn a_refusal_says_code_name_reason_and_when_to_retry() {
    let id = parse(r#"{"request":true,"id":0,"method":"x"}"#).expect("a request").id.expect("an id");
    assert_eq!(
        answer::refused(&id, &Rejection::new(ErrorCode::BadSdp, "line 3: \"a=\"")),
        r#"{"response":true,"id":0,"ok":false,"errorCode":6,"errorReason":"line 3: \"a=\"","error":"bad_sdp"}"#
    );
    let limited = answer::refused(&id, &Rejection::rate_limited(std::time::Duration::from_millis(250)));
    assert!(limited.ends_with(r#""error":"rate_limited","data":{"retryAfterMs":250}}"#), "{limited}");
    let longer = answer::refused(&id, &Rejection::rate_limited(std::time::Duration::from_micros(250_001)));
    assert!(longer.ends_with(r#"{"retryAfterMs":251}}"#), "not too early: {longer}");
}

#[test]
fn what_is_too_large_or_too_deep_is_refused_with_its_id() {
    let refused = |frame: String| {
        let inbound = parse(&frame).expect("a request");
        assert_eq!(inbound.id.expect("an id").get(), "3");
        assert_eq!(inbound.request.expect_err("refused").code, ErrorCode::TooLarge);
    };
    let broadcast =
        |data: &str| format!(r#"{{"data":{{"rid":"r","data":{data}}},"request":true,"id":3,"method":"broadcast"}}"#);
    refused(broadcast(&format!("\"{}\"", "x".repeat(MAX_INBOUND_BYTES))));
    for depth in [100, 10_000, 100_000] {
        refused(broadcast(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))));
        refused(broadcast(&format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))));
    }
    let unclosed = "[".repeat(200_000);
    assert_eq!(parse(&unclosed), Err(Dropped::NotAnObject));
    assert_eq!(parse(&broadcast(&unclosed)), Err(Dropped::NotAnObject));
}

#[test]
fn of_a_key_given_twice_the_last_counts() {
    let inbound =
        parse(r#"{"request":true,"id":1,"id":2,"method":"join","method":"leave","data":{"rid":7,"rid":"r"}}"#);
    let inbound = inbound.expect("a request");
    assert_eq!(inbound.id.expect("an id").get(), "2");
    assert_eq!(inbound.request, Ok(Request::Leave { rid: RoomId::new("r").expect("valid") }));
}

#[test]
fn a_session_or_since_that_cannot_be_read_does_not_keep_a_client_out() {
    for (session, since) in
        [(json!(7), json!("x")), (json!("a b"), json!({})), (json!([]), json!({"epoch": 1, "seq": 2}))]
    {
        let inbound = request("join", &json!({"rid": "r", "session": session, "since": since}));
        let Ok(Request::Join(join)) = inbound.request else { panic!("not a join") };
        assert_eq!((join.session, join.since), (None, Some(Position::NONE)));
    }
}

#[test]
fn an_op_goes_with_any_request() {
    let inbound = request("leave", &json!({"rid": "r", "op": "abc-1"}));
    assert_eq!(inbound.op.expect("an op").as_str(), "abc-1");
}

#[test]
fn a_join_is_answered_as_the_contract_has_it() {
    let rid = RoomId::new("r").expect("valid");
    let uid = PeerId::new("u").expect("valid");
    let data = answer::JoinAnswer {
        pubs: vec![],
        users: vec![answer::User { rid, uid, edge: "e".parse().expect("valid") }],
        own: answer::Own::default(),
        session: SessionToken::new("s").expect("valid"),
        position: Position { epoch: Epoch::of(1), seq: Seq::new(2).expect("small") },
        grace: 30.0,
        resync: false,
        more: None,
        rest: 0,
    };
    assert_eq!(
        serde_json::to_value(&data).expect("JSON"),
        json!({
            "pubs": [], "users": [{"rid": "r", "uid": "u", "signalid": "e", "bizid": "e"}],
            "own": {"pubs": [], "subs": []}, "session": "s", "epoch": "0000000000000001", "seq": 2, "grace": 30.0,
        })
    );
    let paged = answer::JoinAnswer { resync: true, more: Some(Cursor::default()), ..data };
    let value = serde_json::to_value(&paged).expect("JSON");
    assert_eq!(value["resync"], json!(true));
    assert!(Cursor::decode(value["more"].as_str().expect("text")).is_some());
    let followed = answer::JoinAnswer { more: None, rest: 7, ..paged };
    assert_eq!(serde_json::to_value(&followed).expect("JSON")["rest"], json!(7));
}

/// Any JSON, nested a little.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("offer")),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Keys that mean something, and others.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "rid",
        "mid",
        "sid",
        "jsep",
        "minfo",
        "type",
        "sdp",
        "data",
        "op",
        "since",
        "cursor",
        "session",
        "access_token",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(String::from), ".{0,3}"]
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(methods().collect::<Vec<_>>()).prop_map(String::from), 1 => ".{0,9}"]
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_request_with_an_id_is_always_read_or_refused(method in method(), data in any_json(), id in any::<u64>()) {
        let frame = json!({"request": true, "id": id, "method": method, "data": data}).to_string();
        let inbound = parse(&frame).expect("a request with a number for its id");
        let echoed = inbound.id.expect("an id");
        prop_assert_eq!(echoed.get(), id.to_string());
    }

    #[test]
    fn a_frame_cut_off_anywhere_is_dropped(data in any_json(), cut in 0.0..1.0) {
        let frame = json!({"request": true, "id": 1, "method": "broadcast", "data": {"rid": "r", "data": data}}).to_string();
        let at = (frame.len() as f64 * cut) as usize;
        if let Some(part) = frame.get(..at) {
            prop_assert_eq!(parse(part), Err(Dropped::NotAnObject));
        }
    }

    #[test]
    fn what_is_broadcast_comes_out_byte_for_byte(data in any_json()) {
        let text = serde_json::to_string_pretty(&data).expect("JSON");
        let frame = format!(r#"{{"request":true,"id":1,"method":"broadcast","data":{{"data":{text},"rid":"r"}}}}"#);
        let Ok(Request::Broadcast { data, .. }) = parse(&frame).expect("a request").request else {
            panic!("not a broadcast")
        };
        prop_assert_eq!(data.get(), text);
    }

    #[test]
    fn a_cursor_survives_its_text(user in prop::option::of("[^\\pC/#*?\\[\\]{}]{1,20}"), stream in prop::option::of("[^\\pC]{1,20}")) {
        let cursor = Cursor {
            users_after: user.and_then(|text| PeerId::new(text).ok()),
            pubs_after: stream.and_then(|text| Mid::new(text).ok()),
        };
        prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
    }
}
