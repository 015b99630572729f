//! What rooms cost an edge that runs on a store of its own: there can be a hundred thousand, and nearly all of them are idle.
#![allow(unsafe_code, reason = "counting what is allocated takes an allocator, and that trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use edge_signal::{Edge, EdgeParts, EdgeSettings, Stores, TcpConnector};
use futures_util::{SinkExt as _, StreamExt as _};
use proto::ids::RoomId;
use room_store::{MemoryRevocations, MemoryRooms, RoomSettings, RoomStore as _, StaticNodes};
use serde_json::{Value, json};
use telemetry::events::{EventSink, Teller};
use telemetry::settings::Sources;
use telemetry::{Metrics, Readiness};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

/// The system's allocator, counting the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `pointer` came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Longest anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const SOCKETS: usize = 40;
const ROOMS_EACH: usize = 16;
const ROOMS: usize = SOCKETS * ROOMS_EACH;
/// Most bytes for a room with one member in it: its log and member in the store, the task that follows it, and both ends of
/// what is told.
const OCCUPIED: usize = 6 * 1_024;
/// Most bytes for a room that everybody has left, kept for those who come back.
const EMPTY: usize = 1_536;
/// Most bytes for a forgotten room: maps keep some places for what may come.
const FORGOTTEN: usize = 256;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn edge(rooms: &MemoryRooms) -> (Edge, CancellationToken) {
    let text = "listen: 127.0.0.1:0\nlimits: {message_rate: 100000, message_burst: 100000}\noverload: {cpu: 1, lag: 10s, memory: 1}\n";
    let settings: EdgeSettings = Sources::text("test.yaml", text).load().expect("good settings");
    let shutdown = CancellationToken::new();
    let parts = EdgeParts {
        stores: Stores {
            rooms: Arc::new(rooms.clone()),
            nodes: Arc::new(StaticNodes::new(std::iter::empty())),
            revocations: Arc::new(MemoryRevocations::default()),
            edges: None,
            own_store: true,
        },
        connector: Arc::new(TcpConnector::default()),
        pages: Router::new(),
        readiness: Readiness::new(),
        metrics: Metrics::install().expect("installed"),
        events: EventSink::new(Teller::edge("edge-signal", settings.edge_id()), None),
    };
    (Edge::start(&settings, parts, shutdown.clone()).expect("starts"), shutdown)
}

async fn connect(address: SocketAddr, number: usize) -> Socket {
    let connecting = connect_async(format!("ws://{address}/ws?peer=peer{number}"));
    timeout(PATIENCE, connecting).await.expect("in time").expect("connects").0
}

/// One request about each room of each socket, every one of which must be carried out.
async fn ask_all(sockets: &mut [Socket], method: &str) {
    for (number, socket) in sockets.iter_mut().enumerate() {
        for room in 0..ROOMS_EACH {
            let data = json!({"rid": name(number, room)});
            let frame = json!({"request": true, "id": room, "method": method, "data": data}).to_string();
            socket.send(Message::text(frame)).await.expect("sent");
        }
        for _ in 0..ROOMS_EACH {
            answered(socket).await;
        }
    }
}

async fn answered(socket: &mut Socket) {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("in time").expect("open").expect("open");
        if let Message::Text(text) = message {
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(frame["ok"], true, "{frame}");
            return;
        }
    }
}

fn name(socket: usize, room: usize) -> String {
    format!("room-{socket}-{room}")
}

/// Waits until the store knows none of the rooms.
async fn all_forgotten(rooms: &MemoryRooms, sockets: &mut [Socket]) {
    let give_up = Instant::now() + PATIENCE;
    for number in 0..ROOMS {
        let room: RoomId = name(number / ROOMS_EACH, number % ROOMS_EACH).parse().expect("valid");
        while rooms.head(&room).await.expect("answered").is_some() {
            assert!(Instant::now() < give_up, "{room} is not forgotten");
            pause(sockets).await;
        }
    }
}

/// Bytes in use, once they are at most so many: what a request leaves behind goes a moment after its answer.
async fn settled(at_most: usize, sockets: &mut [Socket]) -> usize {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let in_use = IN_USE.load(Ordering::Relaxed);
        if in_use <= at_most || Instant::now() > give_up {
            return in_use;
        }
        pause(sockets).await;
    }
}

/// Bytes in use, once they get no fewer any more.
async fn at_rest(sockets: &mut [Socket]) -> usize {
    let give_up = Instant::now() + PATIENCE;
    let mut in_use = IN_USE.load(Ordering::Relaxed);
    loop {
        for _ in 0..5 {
            pause(sockets).await;
        }
        let before = std::mem::replace(&mut in_use, IN_USE.load(Ordering::Relaxed));
        if in_use >= before {
            return before;
        }
        assert!(Instant::now() < give_up, "memory does not settle");
    }
}

/// A moment in which all sockets are heard of.
async fn pause(sockets: &mut [Socket]) {
    for socket in sockets {
        socket.send(Message::Pong(axum::body::Bytes::new())).await.expect("sent");
    }
    sleep(Duration::from_millis(100)).await;
}

fn each(before: usize, now: usize) -> usize {
    now.saturating_sub(before) / ROOMS
}

#[tokio::test]
async fn a_room_costs_some_kilobytes_with_one_in_it_and_next_to_nothing_empty() {
    let ttl = Duration::from_secs(3);
    let rooms = MemoryRooms::new(RoomSettings { ttl, grace: ttl, ..RoomSettings::default() });
    let (edge, shutdown) = edge(&rooms);
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        sockets.push(connect(edge.address(), number).await);
    }
    // Whatever is allocated once, by the edge and for each socket.
    ask_all(&mut sockets, "join").await;
    ask_all(&mut sockets, "leave").await;
    all_forgotten(&rooms, &mut sockets).await;
    let before = at_rest(&mut sockets).await;

    ask_all(&mut sockets, "join").await;
    let occupied = each(before, settled(before + ROOMS * OCCUPIED, &mut sockets).await);
    assert!(occupied > 0 && occupied <= OCCUPIED, "a room with one in it keeps {occupied} bytes");

    ask_all(&mut sockets, "leave").await;
    let empty = each(before, settled(before + ROOMS * EMPTY, &mut sockets).await);
    assert!(empty <= EMPTY, "an empty room keeps {empty} bytes");
    let forgotten = each(before, settled(before + ROOMS * FORGOTTEN, &mut sockets).await);
    assert!(forgotten <= FORGOTTEN, "a forgotten room keeps {forgotten} bytes");
    shutdown.cancel();
    timeout(PATIENCE, edge.stopped()).await.expect("stops in time");
}
