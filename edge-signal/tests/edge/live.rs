//! What operators see live.

use serde_json::{Value, json};

use crate::rig::call::Call;
use crate::rig::client::Client;
use crate::rig::sfu::TestSfu;
use crate::rig::{SECRET, TestEdge, store};

/// A program of this machine; `Host` is the rig's own.
async fn live(edge: &TestEdge, query: &str) -> (u16, Value) {
    answer(&TestEdge::http_at(edge.address, &format!("/live.json{query}"), "").await)
}

fn answer(text: &str) -> (u16, Value) {
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn an_operator_sees_rooms_members_streams_and_nodes() {
    let sfu = TestSfu::start("s1", "a").await;
    let edge = TestEdge::start("", &store(), &[("s1", sfu.address)]);
    edge.ready().await;
    let mut call = Call::between(&edge, &edge).await;
    let _elsewhere = Client::joined(edge.address, "dan", "q").await;
    call.ann.done("mute", json!({"rid": "r", "mid": call.mid, "audio": true})).await;
    assert_eq!(call.bob.notified("stream-update").await["mid"], call.mid);
    let (status, shown) = live(&edge, "").await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["counts"], json!({"rooms": 2, "members": 4, "streams": 1}));
    assert_eq!(shown["edge"]["connections"], 4);
    assert_eq!((&shown["nodes"][0]["id"], &shown["nodes"][0]["state"]), (&json!("s1"), &json!("ready")));
    assert_eq!(shown["nodes"][0]["load"]["pressure"], 0.0);
    let rooms = shown["rooms"].as_array().expect("rooms");
    assert_eq!(rooms.iter().map(|room| &room["rid"]).collect::<Vec<_>>(), ["q", "r"]);
    let ann = &rooms[1]["members"][0];
    assert_eq!((&ann["uid"], &ann["streams"][0]["mid"]), (&json!("ann"), &call.mid));
    assert_eq!(ann["streams"][0]["muted"], json!({"audio": true, "video": false}));
    assert_eq!((&ann["streams"][0]["node"], &ann["streams"][0]["recorded"]), (&json!("s1"), &json!(false)));
    assert_eq!(rooms[1]["members"][1], json!({"uid": "bob", "streams": []}));
}

#[tokio::test]
async fn many_rooms_come_in_pages() {
    let edge = TestEdge::alone("");
    let mut clients = Vec::new();
    for room in ["c", "a", "d", "b"] {
        clients.push(Client::joined(edge.address, "ann", room).await);
    }
    let names = |shown: &Value| -> Vec<String> {
        let rooms = shown["rooms"].as_array().expect("rooms").iter();
        rooms.map(|room| room["rid"].as_str().expect("a name").to_owned()).collect()
    };
    let (_, first) = live(&edge, "?limit=3").await;
    assert_eq!((names(&first), &first["more"]), (vec!["a".into(), "b".into(), "c".into()], &json!("c")));
    let (_, rest) = live(&edge, "?limit=3&after=c").await;
    assert_eq!((names(&rest), rest.get("more")), (vec!["d".into()], None));
    for wrong in ["?limit=0", "?limit=501", "?after=", "?what=1"] {
        assert_eq!(live(&edge, wrong).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn with_authentication_only_operators_see_anything() {
    let edge = TestEdge::alone(&format!("auth: {{hs256_secret: {SECRET:?}}}\n"));
    assert_eq!(live(&edge, "").await.0, 401);
}

#[tokio::test]
async fn a_page_of_another_origin_sees_nothing() {
    let edge = TestEdge::alone("");
    let foreign = "Origin: https://example.org\r\n";
    assert_eq!(answer(&TestEdge::http_at(edge.address, "/live.json", foreign).await).0, 403);
}
