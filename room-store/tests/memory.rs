//! What only the in-memory store promises.

use proto::ids::{PeerId, RoomId, SessionId};
use room_store::{Actor, Attachment, ConnectionId, Join, MemoryRooms, RoomSettings, RoomStore};

async fn join_and_leave(store: &MemoryRooms, room: &RoomId) {
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
    store.leave(Actor { room: room.clone(), peer, session }, None).await.expect("left");
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
