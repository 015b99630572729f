//! What only the in-memory store promises.

use proto::{
    ids::{PeerId, Position, RoomId, Seq, SessionId},
    json::RawJson,
};
use room_store::{
    Actor, Attachment, Broadcast, ConnectionId, EntryId, Event, Join, LogRead, MemoryRooms, RoomSettings, RoomStore,
};

async fn join(store: &MemoryRooms, room: &RoomId) -> Actor {
    let peer = PeerId::new("p").expect("valid");
    let edge = "edge".parse().expect("valid");
    let join = Join {
        room: room.clone(),
        peer: peer.clone(),
        attachment: Attachment { edge, connection: ConnectionId(1) },
        resume: None,
        since: None,
        fresh: SessionId::of(1),
        op: None,
    };
    let session = store.join(join).await.expect("joined").session;
    Actor { room: room.clone(), peer, session }
}

async fn join_and_leave(store: &MemoryRooms, room: &RoomId) {
    let actor = join(store, room).await;
    store.leave(actor, None).await.expect("left");
}

async fn say(store: &MemoryRooms, actor: &Actor, entry: u64, bytes: usize) {
    let data = RawJson::of(&"x".repeat(bytes - 2)).expect("a text is JSON");
    let said = Broadcast { actor: actor.clone(), data, entry: EntryId(entry), op: None };
    store.broadcast(said).await.expect("a member");
}

/// Bytes of the broadcasts that the room's log still tells.
async fn kept(store: &MemoryRooms, room: &RoomId) -> usize {
    let head = store.head(room).await.expect("answered").expect("a room").position;
    let mut bytes = 0;
    for seq in (0..head.seq.get()).rev() {
        let after = Position { seq: Seq::new(seq).expect("small"), ..head };
        let read = store.log_after(room, after, None, 1).await.expect("answered");
        let LogRead::Entries(entries) = read else { break };
        if let Event::Broadcast { data, .. } = &entries[0].event {
            bytes += data.get().len();
        }
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn the_longest_empty_rooms_give_way_when_there_are_many() {
    let store = MemoryRooms::new(RoomSettings::default());
    let rooms: Vec<RoomId> = (0..40_000).map(|n| RoomId::new(format!("room {n}")).expect("valid")).collect();
    for room in &rooms {
        join_and_leave(&store, room).await;
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    let mut kept = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        if store.head(room).await.expect("answered").is_some() {
            kept.push(number);
        }
    }
    assert!((1..=16_384).contains(&kept.len()), "{} rooms are kept", kept.len());
    assert!(kept.contains(&39_999) && !kept.contains(&0));
}

#[tokio::test(start_paused = true)]
async fn who_fills_many_rooms_takes_a_bounded_part_of_memory_and_nothing_from_others() {
    const TOTAL: usize = 1 << 20;
    let store = MemoryRooms::new(RoomSettings { total_log_bytes: TOTAL, ..RoomSettings::default() });
    let quiet: Vec<RoomId> = (0..200).map(|n| RoomId::new(format!("quiet {n}")).expect("valid")).collect();
    for room in &quiet {
        let actor = join(&store, room).await;
        say(&store, &actor, 1, 50).await;
    }
    let loud: Vec<RoomId> = (0..200).map(|n| RoomId::new(format!("loud {n}")).expect("valid")).collect();
    for room in &loud {
        let actor = join(&store, room).await;
        for entry in 0..20 {
            say(&store, &actor, entry, 1_000).await;
        }
    }
    let (mut in_quiet, mut in_loud) = (0, 0);
    for room in &quiet {
        in_quiet += kept(&store, room).await;
    }
    for room in &loud {
        in_loud += kept(&store, room).await;
    }
    assert_eq!(in_quiet, 200 * 50, "what is said in quiet rooms stays");
    assert!(in_quiet + in_loud <= TOTAL, "{in_loud} bytes are kept");
    assert!(in_loud >= TOTAL / 4, "no more than needed is forgotten: {in_loud} bytes are kept");
    for room in &loud {
        let head = store.head(room).await.expect("answered").expect("a room");
        store.log_after(room, head.position, head.id, 1).await.expect("positions go on");
    }
}
