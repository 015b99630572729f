//! What rooms in Redis take of its memory.

use proto::{
    ids::{EdgeId, PeerId, Position, RoomId, Seq, SessionId},
    json::RawJson,
};
use room_store::{
    Actor, Attachment, Broadcast, ConnectionId, EntryId, Event, Join, LogRead, RoomSettings, RoomStore,
    redis::{RedisConfig, RedisRooms},
};
use servers::Redis;

fn connect(redis: &Redis, settings: RoomSettings) -> RedisRooms {
    RedisRooms::connect(&RedisConfig::new(redis.url().parse().expect("a URL")), settings).expect("a configuration")
}

async fn join(rooms: &RedisRooms, room: &RoomId) -> Actor {
    let peer = PeerId::new("p").expect("valid");
    let attachment = Attachment { edge: EdgeId::new("edge").expect("valid"), connection: ConnectionId(1) };
    let (fresh, op) = (SessionId::of(rand::random()), None);
    let join = Join { room: room.clone(), peer: peer.clone(), attachment, resume: None, since: None, fresh, op };
    let session = rooms.join(join).await.expect("joined").session;
    Actor { room: room.clone(), peer, session }
}

async fn say(rooms: &RedisRooms, actor: &Actor, bytes: usize) {
    let data = RawJson::of(&"x".repeat(bytes - 2)).expect("a text is JSON");
    let said = Broadcast { actor: actor.clone(), data, entry: EntryId(rand::random()), op: None };
    rooms.broadcast(said).await.expect("a member");
}

/// Bytes of the broadcasts that the room's log still tells.
async fn kept(rooms: &RedisRooms, room: &RoomId) -> usize {
    let head = rooms.head(room).await.expect("answered").expect("a room").position;
    let mut bytes = 0;
    for seq in (0..head.seq.get()).rev() {
        let after = Position { seq: Seq::new(seq).expect("small"), ..head };
        let LogRead::Entries(entries) = rooms.log_after(room, after, None, 1).await.expect("answered") else { break };
        if let Event::Broadcast { data, .. } = &entries[0].event {
            bytes += data.get().len();
        }
    }
    bytes
}

async fn total(redis: &Redis, what: &str) -> usize {
    redis.command(&["HGET", "sluice:2:totals", what]).await.text().parse().expect("a number")
}

#[tokio::test]
async fn who_fills_many_rooms_takes_a_bounded_part_of_memory_and_nothing_from_others() {
    const TOTAL: usize = 1 << 18;
    let redis = Redis::start().await;
    let rooms = connect(&redis, RoomSettings { total_log_bytes: TOTAL, ..RoomSettings::default() });
    let named = |kind: &str| (0..60).map(|n| RoomId::new(format!("{kind} {n}")).expect("valid")).collect::<Vec<_>>();
    let (quiet, loud) = (named("quiet"), named("loud"));
    let mut actors = Vec::new();
    for (room, times, bytes) in quiet.iter().map(|room| (room, 1, 50)).chain(loud.iter().map(|room| (room, 20, 1_000)))
    {
        let actor = join(&rooms, room).await;
        for _ in 0..times {
            say(&rooms, &actor, bytes).await;
        }
        actors.push(actor);
    }
    let (mut in_quiet, mut in_loud) = (0, 0);
    for (quiet, loud) in quiet.iter().zip(&loud) {
        in_quiet += kept(&rooms, quiet).await;
        in_loud += kept(&rooms, loud).await;
    }
    assert_eq!(in_quiet, 60 * 50, "what is said in quiet rooms stays");
    assert!(in_quiet + in_loud <= TOTAL, "{in_loud} bytes are kept");
    assert!(in_loud >= TOTAL / 4, "no more than needed is forgotten: {in_loud} bytes are kept");
    assert_eq!(total(&redis, "bytes").await, in_quiet + in_loud, "what is counted is what there is");
    assert_eq!(total(&redis, "occupied").await, actors.len());
    for actor in actors {
        rooms.leave(actor, None).await.expect("left");
    }
    assert_eq!((total(&redis, "bytes").await, total(&redis, "occupied").await), (0, 0));
}

#[tokio::test]
async fn an_empty_room_ends_by_itself_where_no_edge_is_left_and_one_that_is_joined_again_does_not() {
    let redis = Redis::start().await;
    let rooms = connect(&redis, RoomSettings::default());
    let (left, back) = (RoomId::new("left").expect("valid"), RoomId::new("back").expect("valid"));
    for room in [&left, &back] {
        let actor = join(&rooms, room).await;
        rooms.leave(actor, None).await.expect("left");
    }
    join(&rooms, &back).await;
    for key in redis.command(&["KEYS", "sluice:2:{left}:*"]).await.list() {
        let ttl = redis.command(&["PTTL", key.text()]).await;
        assert!(matches!(ttl, servers::Reply::Number(1..)), "{}: {ttl:?}", key.text());
    }
    for key in redis.command(&["KEYS", "sluice:2:{back}:*"]).await.list() {
        assert_eq!(redis.command(&["PTTL", key.text()]).await, servers::Reply::Number(-1), "{}", key.text());
    }
}
