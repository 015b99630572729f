//! Every kind of event is as its schema says, and goes where it should.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boon::{Compiler, SchemaIndex, Schemas};
use proto::ids::{BootId, Epoch, Mid, NodeId, PeerId, Position, RecordingId, RegionId, RoomId, Seq, Sid};
use serde_json::{Value, json};
use telemetry::events::{Event, EventOut, EventSink, InRoom, Recorded, Teller};
use telemetry::kafka::Full;
use telemetry::trace::{Kind, Trace};

/// Events that were taken, with their keys; none any more once it is full.
struct Taken {
    most: usize,
    events: Mutex<Vec<(String, Value)>>,
}

impl Taken {
    fn at_most(most: usize) -> Arc<Self> {
        Arc::new(Self { most, events: Mutex::default() })
    }

    fn all(&self) -> Vec<(String, Value)> {
        self.events.lock().expect("nobody panicked").clone()
    }
}

impl EventOut for Taken {
    fn put(&self, key: &str, payload: Vec<u8>) -> Result<(), Full> {
        let mut events = self.events.lock().expect("nobody panicked");
        if events.len() >= self.most {
            return Err(Full);
        }
        events.push((key.to_owned(), serde_json::from_slice(&payload).expect("JSON")));
        Ok(())
    }
}

fn published() -> Value {
    serde_json::from_str(include_str!("../../docs/events.schema.json")).expect("JSON")
}

/// The published schema, and besides that nothing is told that it does not know.
struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn read() -> Self {
        const AT: &str = "http://test.invalid/events.json";
        let mut schema = published();
        schema["unevaluatedProperties"] = Value::Bool(false);
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(AT, schema).expect("a resource");
        let index = compiler.compile(AT, &mut schemas).expect("a schema");
        Self(schemas, index)
    }

    fn check(&self, event: &Value) -> Result<(), String> {
        self.0.validate(event, self.1).map_err(|error| format!("{error:#}"))
    }

    fn kinds() -> Vec<String> {
        let schema = published();
        let kinds = schema["oneOf"].as_array().expect("a list").iter();
        kinds.map(|kind| kind["properties"]["type"]["const"].as_str().expect("a kind").to_owned()).collect()
    }
}

struct World {
    room: RoomId,
    peer: PeerId,
    mid: Mid,
    sid: Sid,
    node: NodeId,
    recording: RecordingId,
    region: RegionId,
    boot: BootId,
}

impl World {
    fn new() -> Self {
        let peer: PeerId = "ann".parse().expect("valid");
        Self {
            room: "Zürich 1".parse().expect("valid"),
            mid: Mid::of(&peer, 1),
            sid: Sid::of(&peer, 2),
            peer,
            node: "sz_1".parse().expect("valid"),
            recording: RecordingId::of(3),
            region: "sz".parse().expect("valid"),
            boot: BootId::of(4),
        }
    }

    fn at(&self) -> InRoom<'_> {
        let position = Position { epoch: Epoch::of(5), seq: Seq::new(6).expect("small") };
        InRoom { room: &self.room, position, restored: false }
    }

    fn recorded(&self) -> Recorded<'_> {
        Recorded { room: &self.room, peer: &self.peer, stream: &self.mid, recording: &self.recording }
    }

    /// One of each kind an edge tells.
    fn of_edge(&self) -> Vec<Event> {
        let Self { room, peer, mid, sid, node, .. } = self;
        vec![
            Event::room_opened(self.at()),
            Event::peer_joined(self.at(), peer),
            Event::stream_published(self.at(), peer, mid, node),
            Event::stream_subscribed(self.at(), peer, sid, mid, node),
            Event::stream_migrating(room, peer, mid, node, "draining"),
            Event::stream_unsubscribed(self.at(), peer, sid, mid, "stream_ended"),
            Event::stream_unpublished(self.at(), peer, mid, "unpublished"),
            Event::peer_left(self.at(), peer, "timeout"),
            Event::room_closed(self.at()),
        ]
    }

    /// And a node.
    fn of_node(&self) -> Vec<Event> {
        let Self { region, boot, .. } = self;
        let minute = Duration::from_mins(1);
        vec![
            Event::node_up(region, boot, "0.1.0"),
            Event::recording_started(self.recorded()),
            Event::recording_ended(self.recorded(), "failed", minute, Some("no such device".to_owned())),
            Event::recording_delivered(self.recorded(), "file:///a.json".to_owned(), json!({"version": 1})),
            Event::node_draining(region, boot, minute),
            Event::node_down(region, boot),
        ]
    }
}

fn edge(out: Option<Arc<dyn EventOut>>) -> EventSink {
    EventSink::new(Teller::edge("edge-signal", "edge-1".parse().expect("valid")), out)
}

fn node(out: Option<Arc<dyn EventOut>>) -> EventSink {
    EventSink::new(Teller::node("sfu-node", "sz_1".parse().expect("valid")), out)
}

#[test]
fn every_kind_is_as_its_schema_says() {
    let (world, taken, schema) = (World::new(), Taken::at_most(100), Schema::read());
    for event in world.of_edge() {
        edge(Some(taken.clone())).emit(event);
    }
    for event in world.of_node() {
        node(Some(taken.clone())).emit(event);
    }
    let told = taken.all();
    for (_, event) in &told {
        schema.check(event).unwrap_or_else(|error| panic!("{event}: {error}"));
    }
    let mut kinds: Vec<_> = told.iter().map(|(_, event)| event["type"].as_str().expect("a kind").to_owned()).collect();
    let mut known = Schema::kinds();
    kinds.sort();
    known.sort();
    assert_eq!(kinds, known, "each kind once, and no other");
}

#[test]
fn the_schema_refuses_what_is_no_event() {
    let (world, taken, schema) = (World::new(), Taken::at_most(100), Schema::read());
    edge(Some(taken.clone())).emit(Event::peer_left(world.at(), &world.peer, "timeout"));
    let (_, good) = taken.all().remove(0);
    schema.check(&good).expect("good");
    for key in ["version", "id", "time", "type", "service", "edge", "room", "epoch", "seq", "peer", "reason"] {
        let mut event = good.clone();
        event.as_object_mut().expect("an object").remove(key);
        assert!(schema.check(&event).is_err(), "without {key}");
    }
    for (key, value) in [
        ("version", json!(2)),
        ("type", json!("peer-joined")),
        ("reason", json!("bored")),
        ("seq", json!(-1)),
        ("time", json!("yesterday")),
        ("trace", json!("abc")),
        ("sfuid", json!("sz_1")),
    ] {
        let mut event = good.clone();
        event[key] = value;
        assert!(schema.check(&event).is_err(), "with another {key}");
    }
}

#[tokio::test]
async fn what_the_store_learnt_again_is_marked_and_a_request_is_named() {
    let (world, taken, schema) = (World::new(), Taken::at_most(100), Schema::read());
    let restored = InRoom { restored: true, ..world.at() };
    let trace = Trace::new(7, 8);
    let tell = async { edge(Some(taken.clone())).emit(Event::peer_joined(restored, &world.peer)) };
    trace.follow("test", Kind::Internal, trace, tell).await;
    let (_, event) = taken.all().remove(0);
    schema.check(&event).expect("good");
    assert_eq!((&event["restored"], &event["trace"]), (&json!(true), &json!(trace.id().to_string())));
    assert_eq!((&event["epoch"], &event["seq"]), (&json!("0000000000000005"), &json!(6)));
}

#[test]
fn a_rooms_events_have_its_key_and_a_nodes_its_own() {
    let (world, taken) = (World::new(), Taken::at_most(100));
    edge(Some(taken.clone())).emit(Event::room_opened(world.at()));
    node(Some(taken.clone())).emit(Event::recording_started(world.recorded()));
    node(Some(taken.clone())).emit(Event::node_down(&world.region, &world.boot));
    let keys: Vec<_> = taken.all().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["Zürich 1", "Zürich 1", "sz_1"]);
}

#[test]
fn each_event_has_an_id_of_its_own() {
    let (world, taken) = (World::new(), Taken::at_most(1_000));
    for _ in 0..1_000 {
        edge(Some(taken.clone())).emit(Event::room_opened(world.at()));
    }
    let ids: BTreeSet<_> = taken.all().iter().map(|(_, event)| event["id"].to_string()).collect();
    assert_eq!(ids.len(), 1_000);
}

/// Lines of a log of this test's own.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(run: impl FnOnce()) -> Vec<Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, run);
    let bytes = lines.0.lock().expect("nobody panicked").clone();
    let text = String::from_utf8(bytes).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn without_anywhere_else_to_go_events_are_lines_of_the_log() {
    let world = World::new();
    let lines = logged(|| {
        edge(None).emit(Event::stream_subscribed(world.at(), &world.peer, &world.sid, &world.mid, &world.node));
        node(None).emit(Event::recording_delivered(world.recorded(), "file:///a".to_owned(), json!({"version": 1})));
    });
    let [subscribed, delivered] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&subscribed["level"], &subscribed["event.action"]), (&json!("INFO"), &json!("stream-subscribed")));
    assert_eq!((&subscribed["room"], &subscribed["peer"]), (&json!("Zürich 1"), &json!("ann")));
    assert_eq!((&subscribed["seq"], &subscribed["sfuid"]), (&json!(6), &json!("sz_1")));
    assert_eq!(subscribed.get("event.reason"), None, "what is not known is not there");
    assert_eq!(delivered["manifest"], "{\"version\":1}");
}

#[test]
fn what_finds_no_room_is_not_waited_for_and_goes_to_the_log() {
    let (world, taken) = (World::new(), Taken::at_most(1));
    let sink = edge(Some(taken.clone()));
    let lines = logged(|| {
        sink.emit(Event::room_opened(world.at()));
        sink.emit(Event::room_closed(world.at()));
    });
    assert_eq!(taken.all().len(), 1);
    assert_eq!((lines.len(), &lines[0]["event.action"]), (1, &json!("room-closed")));
}
