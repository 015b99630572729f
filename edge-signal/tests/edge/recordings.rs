//! What is recorded, as edges, store and node agree on it whatever happens to any of them.

use std::time::Duration;

use proto::ids::{Mid, RecordingId, RoomId};
use proto::refusal::NoRecording;
use room_store::{MemoryRooms, RoomStore as _, SetBy, SetRecording};
use serde_json::{Value, json};
use tonic::Status;

use crate::rig::client::Client;
use crate::rig::sfu::{Behaviour, TestSfu};
use crate::rig::{PATIENCE, SECRET, TestEdge, store};

/// Ann, who publishes, and Bob, on an edge each.
struct Call {
    rooms: MemoryRooms,
    sfu: TestSfu,
    _edges: [TestEdge; 2],
    ann: Client,
    bob: Client,
    mid: String,
}

async fn call() -> Call {
    let (rooms, sfu) = (store(), TestSfu::start("sfu-1", "boot-1").await);
    let nodes = [("sfu-1", sfu.address)];
    let edge = |id: &str| TestEdge::start(&format!("id: {id}\nsession: {{secret: {SECRET}}}\n"), &rooms, &nodes);
    let edges = [edge("one"), edge("two")];
    for edge in &edges {
        edge.ready().await;
    }
    let mut ann = Client::joined(edges[0].address, "ann", "r").await;
    let mut bob = Client::joined(edges[1].address, "bob", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].as_str().expect("a mid").to_owned();
    bob.notified("stream-add").await;
    sfu.state.watched("r").await;
    Call { rooms, sfu, _edges: edges, ann, bob, mid }
}

impl Call {
    async fn record(&mut self, on: bool) -> String {
        let answer = self.bob.done("record", json!({"rid": "r", "mid": self.mid, "on": on})).await;
        answer["recording"].as_str().expect("an id").to_owned()
    }

    /// What the store says, without telling anybody's node.
    async fn set(&self, expected: Option<&str>, recording: Option<&str>) {
        let id = |text: Option<&str>| text.map(|text| RecordingId::new(text).expect("valid"));
        let by = SetBy::Edge(RoomId::new("r").expect("valid"));
        let mid = Mid::new(&self.mid).expect("valid");
        let set = SetRecording { by, mid, expected: id(expected), recording: id(recording) };
        self.rooms.set_recording(set).await.expect("there");
    }

    async fn ann_hears(&mut self, on: bool, recording: &str) {
        let told = self.ann.notified("recording").await;
        assert_eq!((&told["on"], &told["recording"], &told["mid"]), (&json!(on), &json!(recording), &json!(self.mid)));
    }

    async fn recorded(&mut self) -> Value {
        self.bob.done("getpubs", json!({"rid": "r"})).await["pubs"][0]["recording"].clone()
    }
}

#[tokio::test]
async fn a_stream_is_recorded_by_its_node_and_everybody_is_told() {
    let mut call = call().await;
    let id = call.record(true).await;
    assert_eq!(call.sfu.state.recording(&call.mid).as_ref(), Some(&id));
    call.ann_hears(true, &id).await;
    assert_eq!(call.recorded().await, json!(id));
    assert_eq!(call.record(false).await, id);
    assert_eq!(call.sfu.state.recording(&call.mid), None);
    call.ann_hears(false, &id).await;
    assert_eq!(call.recorded().await, Value::Null);
}

#[tokio::test]
async fn a_node_that_does_not_record_is_said() {
    let mut call = call().await;
    call.sfu.state.record_nothing(Some(NoRecording::Never));
    let refused = call.bob.ask("record", json!({"rid": "r", "mid": call.mid, "on": true})).await;
    assert_eq!(refused["errorCode"], 409, "{refused}");
    assert!(refused["errorReason"].as_str().expect("a reason").contains("does not record"), "{refused}");
    assert_eq!(call.ann.notified("recording").await["on"], true);
    assert_eq!(call.ann.notified("recording").await["on"], false);
    let minfo = json!({"audio": true, "record": true});
    let jsep = json!({"type": "offer", "sdp": crate::rig::client::AUDIO});
    let published = call.ann.done("publish", json!({"rid": "r", "jsep": jsep, "minfo": minfo})).await;
    assert_eq!(published["recording"], Value::Null, "{published}");
}

#[tokio::test]
async fn of_nodes_some_of_which_record_one_that_does_takes_what_is_to_be_recorded() {
    let (plain, recording) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    plain.state.record_nothing(Some(NoRecording::Never));
    let nodes = [("sfu-1", plain.address), ("sfu-2", recording.address)];
    let edge = TestEdge::start("recording: {rooms: ['recorded-*']}\n", &store(), &nodes);
    edge.ready().await;
    plain.state.described().await;
    recording.state.described().await;
    let publish = async |room: &str, minfo: Value| {
        let mut client = Client::joined(edge.address, &format!("ann-{room}"), room).await;
        let jsep = json!({"type": "offer", "sdp": crate::rig::client::AUDIO});
        client.done("publish", json!({"rid": room, "jsep": jsep, "minfo": minfo})).await
    };
    for number in 0..8 {
        let published = publish(&format!("recorded-{number}"), json!({"audio": true})).await;
        assert_eq!((&published["sfuid"], published["recording"].is_string()), (&json!("sfu-2"), true), "{published}");
        // Its room is on either node then; of others in it, those that are recorded are where that is done.
        let room = format!("room-{number}");
        let mut first = Client::joined(edge.address, "first", &room).await;
        assert_eq!(first.publish(&room).await["ok"], true);
        let published = publish(&room, json!({"audio": true, "record": true})).await;
        assert_eq!((&published["sfuid"], published["recording"].is_string()), (&json!("sfu-2"), true), "{published}");
    }
    recording.die();
    let published = publish("recorded-8", json!({"audio": true})).await;
    assert_eq!((&published["sfuid"], &published["recording"]), (&json!("sfu-1"), &Value::Null), "a call goes on");
}

#[tokio::test]
async fn a_node_that_records_and_has_not_answered_yet_is_waited_for_a_moment() {
    let (plain, recording) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    plain.state.record_nothing(Some(NoRecording::Never));
    recording.freeze();
    let nodes = [("sfu-1", plain.address), ("sfu-2", recording.address)];
    let edge = TestEdge::start("recording: {rooms: ['*']}\n", &store(), &nodes);
    edge.ready().await;
    plain.state.described().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let later = async {
        // By then it is being waited for; were it not, the other would have been taken.
        tokio::time::sleep(Duration::from_millis(200)).await;
        recording.thaw();
    };
    let (published, ()) = tokio::join!(ann.publish("r"), later);
    let published = &published["data"];
    assert_eq!((&published["sfuid"], published["recording"].is_string()), (&json!("sfu-2"), true), "{published}");
}

#[tokio::test]
async fn what_a_node_ends_by_itself_is_told_to_everybody() {
    let mut call = call().await;
    let id = call.record(true).await;
    call.ann_hears(true, &id).await;
    call.sfu.state.end_recording(&call.mid.clone()).await;
    call.ann_hears(false, &id).await;
    let told = call.bob.notified("recording").await;
    assert_eq!((&told["on"], &told["recording"]), (&json!(false), &json!(id)), "who asked for it, too");
}

#[tokio::test]
async fn what_ended_while_nobody_watched_is_told_when_somebody_does_again() {
    let mut call = call().await;
    let id = call.record(true).await;
    call.ann_hears(true, &id).await;
    call.sfu.state.end_recording_silently(&call.mid);
    call.sfu.state.cut_watches();
    call.ann_hears(false, &id).await;
    assert_eq!(call.sfu.state.recording(&call.mid), None, "it is not begun again");
}

#[tokio::test]
async fn what_the_store_says_and_no_node_was_told_begins() {
    let mut call = call().await;
    call.set(None, Some("R1")).await;
    call.ann_hears(true, "R1").await;
    call.sfu.state.cut_watches();
    let (state, mid) = (&call.sfu.state, &call.mid);
    state.until(|| state.recording(mid).as_deref() == Some("R1")).await;
}

#[tokio::test]
async fn what_begins_is_insisted_on_when_its_node_does_not_answer_at_first() {
    let mut call = call().await;
    call.set(None, Some("R1")).await;
    call.ann_hears(true, "R1").await;
    // All that both edges try of one call each.
    call.sfu.state.behave(Behaviour::FailsFirst(6, Status::unavailable("busy")));
    call.sfu.state.cut_watches();
    let (state, mid) = (&call.sfu.state, &call.mid);
    state.until(|| state.recording(mid).as_deref() == Some("R1")).await;
}

#[tokio::test]
async fn what_nobody_wants_any_more_ends() {
    let mut call = call().await;
    let id = call.record(true).await;
    call.set(Some(&id), None).await;
    call.sfu.state.cut_watches();
    let (state, mid) = (&call.sfu.state, &call.mid);
    state.until(|| state.recording(mid).is_none()).await;
}

#[tokio::test]
async fn a_store_that_lost_everything_is_told_again_and_nobody_notices() {
    let mut call = call().await;
    let id = call.record(true).await;
    call.ann_hears(true, &id).await;
    call.rooms.forget_everything();
    let is_back = async {
        while call
            .rooms
            .snapshot(&RoomId::new("r").expect("valid"))
            .await
            .ok()
            .flatten()
            .is_none_or(|room| room.publications.first().is_none_or(|stream| stream.recording.is_none()))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_back).await.expect("it is put back");
    // Longer than the rooms take to be compared.
    call.ann.idle(Duration::from_secs(2)).await;
    assert_eq!(call.sfu.state.recording(&call.mid).as_ref(), Some(&id), "it goes on");
    assert_eq!(call.record(false).await, id);
    call.ann_hears(false, &id).await;
}
