//! Whatever comes in, in whatever order: each request is answered exactly once and in time, what has to keep its order does,
//! nothing panics, and in the end nothing is under way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proto::signalling::methods;
use room_store::StoreError;
use serde_json::{Value, json};

use super::world::{AUDIO, BOTH, Client, Sfu, World};
use crate::admission::NotAdmitted;
use crate::nodes::SfuError;
use crate::session::Completion;

/// Something that happens to one of two clients.
#[derive(Debug, Clone)]
enum Event {
    /// A request: which method, in which room, about which of the streams seen so far.
    Request {
        method: &'static str,
        room: usize,
        stream: usize,
        with_op: bool,
    },
    Garbage(String),
    /// One of the commands under way ends, in this way.
    Complete {
        which: prop::sample::Index,
        how: Ending,
    },
    Hear,
    Pass {
        milliseconds: u64,
    },
    SignOfLife,
    Node(usize),
    Close,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Done,
    Unavailable,
    /// Not done, and nobody knows.
    TimeoutUndone,
    /// Done, and nobody knows.
    TimeoutDone,
}

/// All methods, and one that is none.
fn method() -> impl Strategy<Value = &'static str> {
    prop::sample::select(methods().chain(["nothing"]).collect::<Vec<_>>())
}

const ROOMS: [&str; 3] = ["a", "b", "bad/room"];

fn event() -> impl Strategy<Value = Event> {
    let ending = prop_oneof![
        6 => Just(Ending::Done),
        1 => Just(Ending::Unavailable),
        1 => Just(Ending::TimeoutUndone),
        1 => Just(Ending::TimeoutDone)
    ];
    prop_oneof![
        12 => (method(), 0..ROOMS.len(), 0usize..4, prop::bool::weighted(0.2))
            .prop_map(|(method, room, stream, with_op)| Event::Request { method, room, stream, with_op }),
        1 => "\\PC{0,40}".prop_map(Event::Garbage),
        16 => (any::<prop::sample::Index>(), ending).prop_map(|(which, how)| Event::Complete { which, how }),
        4 => Just(Event::Hear),
        3 => (0u64..4_000).prop_map(|milliseconds| Event::Pass { milliseconds }),
        3 => Just(Event::SignOfLife),
        1 => (0usize..5).prop_map(Event::Node),
        1 => prop::bool::weighted(0.05).prop_map(|close| if close { Event::Close } else { Event::Hear }),
    ]
}

/// A client, and what is known of its requests.
struct Subject {
    client: Client,
    /// When each was sent, and by what it keeps its order.
    sent: HashMap<u64, (Instant, Vec<String>)>,
    /// In the order of their answers.
    answered: Vec<u64>,
    streams: Vec<String>,
    subscriptions: Vec<String>,
}

impl Subject {
    fn new(world: &mut World, name: &str) -> Self {
        Self {
            client: world.client(name),
            sent: HashMap::new(),
            answered: Vec::new(),
            streams: vec!["nobody#0000000000".into()],
            subscriptions: vec!["nobody#0000000001".into()],
        }
    }

    fn request(&mut self, world: &mut World, method: &'static str, room: usize, stream: usize, with_op: bool) {
        let rid = ROOMS[room];
        let mid = self.streams[stream % self.streams.len()].clone();
        let sid = self.subscriptions[stream % self.subscriptions.len()].clone();
        let sdp = if stream == 3 { BOTH } else { AUDIO };
        let jsep = json!({"type": "offer", "sdp": sdp});
        let mut data = json!({"rid": rid, "mid": mid, "sid": sid, "jsep": jsep, "minfo": {"audio": true}, "data": stream, "on": stream.is_multiple_of(2), "access_token": "good"});
        if with_op {
            data["op"] = json!(format!("{method}-{stream}"));
        }
        let id = world.send(&mut self.client, method, &data);
        let lanes = match method {
            "join" | "leave" => vec![format!("room {rid}")],
            "unpublish" | "mute" | "record" | "subscribe" => vec![mid],
            "unsubscribe" => vec![mid, sid],
            "restart" => vec![sid],
            "refresh" => vec!["refresh".to_owned()],
            "broadcast" => vec!["broadcast".to_owned()],
            _ => vec![],
        };
        self.sent.insert(id, (world.now, lanes));
    }

    fn complete(&mut self, world: &mut World, which: prop::sample::Index, how: Ending) {
        let client = &mut self.client;
        if client.running.is_empty() {
            return;
        }
        let running = client.running.remove(which.index(client.running.len())).expect("it is there");
        // By its deadline every command has ended in one way or another.
        let how = if world.now > running.deadline { Ending::TimeoutUndone } else { how };
        let failed = |error| running.command.failed(error).unwrap_or(lost(&running.command));
        let completion = match how {
            Ending::Done => world.execute(client, running.command),
            Ending::Unavailable => failed(StoreError::Unavailable),
            Ending::TimeoutUndone => failed(StoreError::Timeout),
            Ending::TimeoutDone => {
                let failed = failed(StoreError::Timeout);
                world.execute(client, running.command);
                failed
            }
        };
        world.complete(client, running.id, completion);
    }

    /// Looks at what was sent to the client.
    fn look(&mut self, now: Instant) -> Result<(), TestCaseError> {
        for frame in std::mem::take(&mut self.client.sent) {
            if frame["response"] != true {
                self.learn(&frame["data"]);
                continue;
            }
            let id = frame["id"].as_u64().expect("a number");
            let (since, _) = self.sent.get(&id).expect("asked");
            prop_assert!(!self.answered.contains(&id), "answered twice: {frame}");
            prop_assert!(now <= *since + Duration::from_secs(10), "answered late: {frame}");
            prop_assert_eq!(frame["ok"].is_boolean(), true);
            prop_assert!(frame["ok"] == false || frame["data"].is_object());
            // What was refused before its turn, for its form or the rate, has no place in the order.
            let refused_at_once = matches!(frame["errorCode"].as_i64(), Some(-1 | 413 | 429)) || now == *since;
            if !refused_at_once {
                self.check_order(id)?;
            }
            self.answered.push(id);
            self.learn(&frame["data"]);
        }
        prop_assert!(self.client.longest_frame < 128 * 1024);
        Ok(())
    }

    /// No request that keeps its order with this one, and was sent after it, was answered before it, unless it was refused
    /// before its turn.
    fn check_order(&self, id: u64) -> Result<(), TestCaseError> {
        let (_, lanes) = &self.sent[&id];
        for earlier in self.sent.keys().filter(|earlier| **earlier < id && !self.answered.contains(earlier)) {
            let shared = self.sent[earlier].1.iter().find(|lane| lanes.contains(lane));
            prop_assert!(shared.is_none(), "{id} was answered before {earlier}: {shared:?}");
        }
        Ok(())
    }

    fn learn(&mut self, data: &Value) {
        if let Some(mid) = data["mid"].as_str() {
            self.streams.push(mid.to_owned());
        }
        if let Some(sid) = data["sid"].as_str() {
            self.subscriptions.push(sid.to_owned());
        }
    }
}

/// An SFU command that was lost.
fn lost(command: &crate::session::Command) -> Completion {
    match command {
        crate::session::Command::Candidates { .. } => Completion::Candidates(Vec::new()),
        crate::session::Command::Prove { .. } => {
            Completion::Proven(Err(NotAdmitted::KeysAway { retry_after: Duration::from_secs(1) }))
        }
        crate::session::Command::Restart { .. } => Completion::Restarted(Err(SfuError::Unreachable)),
        crate::session::Command::Record { .. } => Completion::Recorded(Err(SfuError::Unreachable)),
        _ => Completion::Negotiated(Err(SfuError::Unreachable)),
    }
}

fn node(number: usize) -> Sfu {
    match number {
        0 => Sfu::Fails(SfuError::Unreachable),
        1 => Sfu::Fails(SfuError::BadSdp("bad".into())),
        2 => Sfu::Fails(SfuError::NotFound),
        3 => Sfu::Fails(SfuError::Full("the node is full".into())),
        _ => Sfu::Works,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn every_request_is_answered_once_in_time_and_in_order(
        script in prop::collection::vec((0usize..2, event()), 1..150),
    ) {
        let mut world = World::new();
        world.nodes.insert("sfu-2", Sfu::Works);
        let mut subjects = [Subject::new(&mut world, "ann"), Subject::new(&mut world, "bob")];
        for (who, event) in script {
            let subject = &mut subjects[who];
            match event {
                Event::Request { method, room, stream, with_op } if subject.client.closed.is_none() => {
                    subject.request(&mut world, method, room, stream, with_op);
                }
                Event::Request { .. } => {}
                Event::Garbage(text) => world.send_text(&mut subject.client, &text),
                Event::Complete { which, how } => subject.complete(&mut world, which, how),
                Event::Hear => world.hear(&mut subject.client),
                Event::Pass { milliseconds } => pass(&mut world, &mut subjects, milliseconds)?,
                Event::SignOfLife => subject.client.session.handle_sign_of_life(world.now),
                Event::Node(number) => drop(world.nodes.insert("sfu-1", node(number))),
                Event::Close => {
                    subject.client.session.close(4000, "test");
                    world.collect(&mut subject.client);
                }
            }
            let now = world.now;
            for subject in &mut subjects {
                subject.look(now)?;
            }
        }
        pass(&mut world, &mut subjects, 10_000)?;
        for mut subject in subjects {
            if subject.client.closed.is_none() {
                prop_assert_eq!(subject.answered.len(), subject.sent.len(), "all are answered");
            }
            world.settle(&mut subject.client);
            subject.client.session.handle_closed();
            world.collect(&mut subject.client);
            world.settle(&mut subject.client);
            prop_assert!(subject.client.session.is_finished(), "nothing is left under way");
        }
    }
}

/// Time passes for all, in steps short enough to see when an answer came.
fn pass(world: &mut World, subjects: &mut [Subject], milliseconds: u64) -> Result<(), TestCaseError> {
    let end = world.now + Duration::from_millis(milliseconds);
    while world.now < end {
        let start = world.now;
        for subject in &mut *subjects {
            world.now = start;
            world.pass(&mut subject.client, Duration::from_millis(250).min(end - start));
            subject.look(world.now)?;
        }
    }
    Ok(())
}
