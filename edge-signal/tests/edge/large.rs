//! Rooms whose snapshot is more than an edge ever keeps waiting for one client.

use std::collections::BTreeSet;

use proto::ids::{BootId, Mid, PeerId, RoomId, SessionId};
use proto::json::RawJson;
use proto::signalling::Minfo;
use room_store::{Actor, Attachment, ConnectionId, Join, MemoryRooms, Placement, ReservePublication, RoomStore as _};
use serde_json::{Value, json};

use crate::rig::client::Client;
use crate::rig::{TestEdge, store};

const MEMBERS: u64 = 200;
const STREAMS_EACH: u64 = 16;
const STREAMS: usize = (MEMBERS * STREAMS_EACH) as usize;

/// A room full of streams with long descriptions, whose members are on another edge: some 13 MB.
async fn full_room(rooms: &MemoryRooms, name: &str) {
    let room = RoomId::new(name).expect("valid");
    let minfo = json!({"audio": true, "note": "x".repeat(4_000)}).to_string();
    let minfo = Minfo::new(RawJson::new(minfo).expect("JSON")).expect("an object");
    let placement =
        Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "default".parse().expect("valid") };
    for member in 0..MEMBERS {
        let peer = PeerId::new(format!("member{member}")).expect("valid");
        let attachment = Attachment { edge: "elsewhere".parse().expect("valid"), connection: ConnectionId(member) };
        let fresh = SessionId::of(u128::from(member) + 1);
        let (room, resume, since, op) = (room.clone(), None, None, None);
        let join = Join { room: room.clone(), peer: peer.clone(), attachment, resume, since, fresh, op };
        let session = rooms.join(join).await.expect("joined").session;
        let actor = Actor { room, peer: peer.clone(), session };
        for stream in 0..STREAMS_EACH {
            let mid = Mid::of(&peer, stream);
            let (minfo, candidates) = (minfo.clone(), vec![placement.clone()]);
            let request = ReservePublication {
                actor: actor.clone(),
                mid: mid.clone(),
                minfo,
                candidates,
                recording: None,
                always_recorded: false,
                op: None,
            };
            rooms.reserve_publication(request).await.expect("reserved");
            rooms.confirm_publication(actor.clone(), &mid).await.expect("confirmed");
        }
    }
}

fn mids(streams: &[Value]) -> Vec<String> {
    streams.iter().map(|stream| stream["mid"].as_str().expect("a mid").to_owned()).collect()
}

#[tokio::test]
async fn a_client_that_knows_no_pages_learns_all_of_a_large_room_and_then_what_happened_meanwhile() {
    let rooms = store();
    full_room(&rooms, "large").await;
    let edge = TestEdge::start("", &rooms, &[]);
    let mut ann = Client::connect(edge.address, "ann").await;
    let join = ann.send("join", &json!({"rid": "large"})).await;
    let mut bob = Client::connect(edge.address, "bob").await;
    bob.done("join", json!({"rid": "large", "paging": true})).await;
    // Ann has read nothing yet, and what is for her is more than all buffers on the way hold.
    for n in 0..100 {
        bob.done("broadcast", json!({"rid": "large", "data": n})).await;
    }
    let answer = ann.answer(join).await;
    let mut streams = mids(answer["data"]["pubs"].as_array().expect("a list"));
    assert!(streams.len() < STREAMS);
    while streams.len() < STREAMS {
        let stream = ann.notified("stream-add").await;
        assert_eq!(stream["seq"], answer["data"]["seq"]);
        streams.push(stream["mid"].as_str().expect("a mid").to_owned());
    }
    assert_eq!(streams.iter().collect::<BTreeSet<_>>().len(), STREAMS, "each once");
    for n in 0..100 {
        assert_eq!(ann.notified("broadcast").await["data"], n);
    }
    let others = answer["data"]["users"].as_array().expect("a list").len() + ann.heard().await.len();
    assert_eq!(others as u64, MEMBERS + 1, "the rest of the members, and Bob; nothing else");
}

/// Says things of four kilobytes each in `r`, from `first` on.
async fn say(client: &mut Client, first: usize, count: usize) {
    for n in first..first + count {
        client.done("broadcast", json!({"rid": "r", "data": [n, "x".repeat(4_000)]})).await;
    }
}

/// A member, with what it takes to come back to where it is.
async fn leaver(edge: &TestEdge) -> Value {
    let mut bob = Client::connect(edge.address, "bob").await;
    let joined = bob.done("join", json!({"rid": "r"})).await;
    let since = json!({"epoch": joined["epoch"], "seq": joined["seq"]});
    json!({"rid": "r", "session": joined["session"], "since": since})
}

const CHATTY: &str = "limits: {message_burst: 100000, uid_message_burst: 100000, room_message_burst: 100000, \
                      room_broadcast_bytes: 1000000000}\n";

#[tokio::test]
async fn who_comes_back_is_told_all_it_missed_however_much_and_then_what_happened_meanwhile() {
    const MISSED: usize = 240;
    let rooms = store();
    let edge = TestEdge::start(CHATTY, &rooms, &[]);
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let back = leaver(&edge).await;
    say(&mut ann, 0, MISSED).await;
    let mut bob = Client::connect(edge.address, "bob").await;
    let joined = bob.done("join", back).await;
    assert!(joined.get("resync").is_none(), "{joined}");
    say(&mut ann, MISSED, 10).await;
    for n in 0..MISSED + 10 {
        assert_eq!(bob.notified("broadcast").await["data"][0], n);
    }
    assert_eq!(bob.heard().await, []);
}

#[tokio::test]
async fn two_large_rooms_can_be_joined_at_once() {
    let rooms = store();
    full_room(&rooms, "one").await;
    full_room(&rooms, "two").await;
    let edge = TestEdge::start("", &rooms, &[]);
    let mut ann = Client::connect(edge.address, "ann").await;
    let joins = [ann.send("join", &json!({"rid": "one"})).await, ann.send("join", &json!({"rid": "two"})).await];
    let mut streams = 0;
    for join in joins {
        let answer = ann.answer(join).await;
        assert_eq!(answer["ok"], true, "{answer}");
        streams += answer["data"]["pubs"].as_array().expect("a list").len();
    }
    while streams < 2 * STREAMS {
        ann.notified("stream-add").await;
        streams += 1;
    }
    ann.done("keepalive", json!({"rid": "two"})).await;
}
