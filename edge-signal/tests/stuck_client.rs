//! What a client costs that never reads: the edge and the system keep some of what it is told, and the edge lets it go before that is
//! a megabyte, and the system with it.
#![allow(
    unsafe_code,
    reason = "counting what is allocated takes an allocator, and that trait is unsafe; as are questions about a socket by number"
)]

mod system;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use edge_signal::{Edge, EdgeParts, EdgeSettings, Stores, TcpConnector};
use futures_util::{SinkExt as _, StreamExt as _};
use proto::ids::{BootId, Mid, PeerId, SessionId};
use proto::json::RawJson;
use proto::signalling::Minfo;
use room_store::redis::{RedisConfig, RedisRooms};
use room_store::{Assertion, ConnectionId, Hold, Placement, Publication, Reassert, RoomSettings, RoomStore as _};
use serde_json::{Value, json};
use servers::Redis;
use telemetry::events::{EventSink, Teller};
use telemetry::settings::Sources;
use telemetry::{Metrics, Readiness};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::sync::CancellationToken;

/// The system's allocator, counting the bytes in use, and the most there have been.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
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
const PATIENCE: Duration = Duration::from_mins(1);
/// Clients that never read, each in a room of its own, so that none shares what waits for it with another.
const STUCK: usize = 3;
/// What a room's log keeps at the most (`RoomSettings`).
const MAX_LOG_ENTRIES: usize = 1_024;
const MAX_LOG_BYTES: usize = 1 << 20;
/// How long the system may know a connection that the edge closes: as long as its client is given for the close, and some.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);
/// Broadcasts between two looks at who was let go: looking costs more than saying.
const ROUNDS: usize = 32;
/// What each may cost at the most, in the edge and in the system.
const A_MEGABYTE: usize = 1 << 20;

type Socket = WebSocketStream<TcpStream>;

/// What is in use is everybody's: one test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn edge(further: &str) -> (Edge, CancellationToken) {
    let text = "listen: 127.0.0.1:0\nlimits: {message_rate: 1000000, message_burst: 1000000, room_message_rate: 1000000, \
                room_message_burst: 1000000, room_broadcast_bytes: 1000000000, edge_message_rate: 1000000, edge_message_burst: 1000000}\n\
                overload: {cpu: 1, lag: 10s, memory: 1}\n";
    let settings: EdgeSettings = Sources::text("test.yaml", format!("{text}{further}")).load().expect("good settings");
    let shutdown = CancellationToken::new();
    let parts = EdgeParts {
        stores: Stores::connect(&settings).expect("in this process"),
        connector: Arc::new(TcpConnector::new(settings.grpc.tls.client_config().expect("no files"), None)),
        pages: Router::new(),
        readiness: Readiness::new(),
        metrics: Metrics::install().expect("installed"),
        events: EventSink::new(Teller::edge("edge-signal", settings.edge_id()), None),
    };
    (Edge::start(&settings, parts, shutdown.clone()).expect("starts"), shutdown)
}

/// `narrow`: the system takes little for the client, so that the edge soon has to.
async fn joined(address: SocketAddr, peer: &str, room: &str, narrow: bool) -> Socket {
    let mut socket = connected(address, peer, narrow).await;
    ask(&mut socket, "join", json!({"rid": room})).await;
    socket
}

async fn connected(address: SocketAddr, peer: &str, narrow: bool) -> Socket {
    let socket = TcpSocket::new_v4().expect("a socket");
    if narrow {
        socket.set_recv_buffer_size(4 * 1_024).expect("set");
    }
    let stream = timeout(PATIENCE, socket.connect(address)).await.expect("in time").expect("connects");
    let small = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(0);
    let url = format!("ws://{address}/ws?peer={peer}");
    client_async_with_config(url, stream, Some(small)).await.expect("upgraded").0
}

async fn ask(socket: &mut Socket, method: &str, data: Value) -> Value {
    let frame = json!({"request": true, "id": 1, "method": method, "data": data}).to_string();
    socket.send(Message::text(frame)).await.expect("sent");
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("in time").expect("open").expect("open");
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        if frame["response"] == true {
            assert_eq!(frame["ok"], true, "{frame}");
            return frame["data"].clone();
        }
    }
}

fn address(socket: &Socket) -> SocketAddr {
    socket.get_ref().local_addr().expect("bound")
}

/// The most that the system keeps for one of them.
fn kept_of_each(edge: SocketAddr, clients: &[SocketAddr]) -> usize {
    clients.iter().filter_map(|&client| system::kept(edge, client)).max().unwrap_or_default()
}

/// Waits until the system has nothing of these connections any more, though their clients are still there.
async fn forgotten(edge: SocketAddr, clients: &[SocketAddr]) {
    let until = tokio::time::Instant::now() + FORGOTTEN_WITHIN;
    while let Some(client) = clients.iter().find(|&&client| system::knows(edge, client)) {
        assert!(tokio::time::Instant::now() < until, "the system still knows the connection of {client}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn let_go(metrics: &Metrics) -> usize {
    let shown = metrics.render();
    let count = shown.lines().find_map(|line| line.strip_prefix("sluice_edge_slow_clients_total "));
    count.expect("registered").parse().expect("a number")
}

/// What a frame costs depends on its size: many small ones cost more beside their bytes.
#[tokio::test]
async fn a_client_that_never_reads_costs_a_megabyte_at_most_and_is_let_go() {
    let _alone = ALONE.lock().await;
    let (edge, shutdown) = edge("");
    let metrics = Metrics::install().expect("installed");
    for size in [16, 4_000, 100_000] {
        let mut talkers = Vec::new();
        for n in 0..STUCK {
            talkers.push(joined(edge.address(), &format!("talker{n}"), &room(size, n), false).await);
        }
        // What rooms' logs keep is not for these clients: it is there before they come.
        for _ in 0..MAX_LOG_ENTRIES.min(MAX_LOG_BYTES / size + 2) {
            say_everywhere(&mut talkers, size).await;
        }
        // Nor is what saying itself takes, here and there.
        MOST.store(IN_USE.load(Ordering::Relaxed), Ordering::Relaxed);
        say_everywhere(&mut talkers, size).await;
        let before = MOST.load(Ordering::Relaxed);
        let mut stuck = Vec::new();
        for n in 0..STUCK {
            stuck.push(joined(edge.address(), &format!("stuck{n}"), &room(size, n), true).await);
        }
        let gone = let_go(&metrics);
        MOST.store(before, Ordering::Relaxed);
        let clients: Vec<SocketAddr> = stuck.iter().map(address).collect();
        let (mut said, mut kept) = (0, 0);
        while let_go(&metrics) < gone + STUCK {
            for _ in 0..ROUNDS {
                say_everywhere(&mut talkers, size).await;
                kept = kept.max(kept_of_each(edge.address(), &clients));
            }
            said += ROUNDS;
            assert!(said * size < 1 << 30 && said < 100_000, "nobody is let go");
        }
        let each = (MOST.load(Ordering::Relaxed) - before) / STUCK;
        assert!(
            each + kept <= A_MEGABYTE,
            "with frames of {size}, a client that never reads costs {each} + {kept} bytes"
        );
        assert!(each >= A_MEGABYTE / 4, "with frames of {size}, {each} bytes cannot be: nothing was kept");
        assert!(kept >= A_MEGABYTE / 16, "with frames of {size}, the system cannot keep only {kept} bytes");
        forgotten(edge.address(), &clients).await;
    }
    shutdown.cancel();
    timeout(PATIENCE, edge.stopped()).await.expect("stops in time");
}

/// A room full of streams, put into the store as if by another edge: some 13 MB, more than the system takes for a client.
async fn fill(redis: &Redis, room: &str) {
    const MEMBERS: u64 = 250;
    let config = RedisConfig::new(redis.url().parse().expect("a URL"));
    let rooms = RedisRooms::connect(&config, RoomSettings::default()).expect("a configuration");
    let minfo = json!({"audio": true, "note": "x".repeat(3_000)}).to_string();
    let minfo = Minfo::new(RawJson::new(minfo).expect("JSON")).expect("an object");
    let placement =
        Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "default".parse().expect("valid") };
    let session = |number: u64| {
        let peer: PeerId = format!("member{number}").parse().expect("valid");
        let publications = (0..16).map(|stream| {
            let (mid, owner) = (Mid::of(&peer, stream), peer.clone());
            Arc::new(Publication {
                mid,
                owner,
                minfo: minfo.clone(),
                placement: placement.clone(),
                confirmed: true,
                recording: None,
                always_recorded: false,
            })
        });
        let publications = publications.collect();
        let hold = Hold { peer, session: SessionId::of(u128::from(number)), connection: ConnectionId(number) };
        Assertion { hold, publications, subscriptions: Vec::new() }
    };
    let (room, edge) = (room.parse().expect("valid"), "elsewhere".parse().expect("valid"));
    let reassert = Reassert { room, edge, sessions: (0..MEMBERS).map(session).collect() };
    rooms.reassert(reassert).await.expect("put back");
}

/// Waits until clients that never read cost less each than this: what their joins took for a moment is given back.
async fn settled(before: usize, most_each: usize) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let each = IN_USE.load(Ordering::Relaxed).saturating_sub(before) / STUCK;
        if each <= most_each {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "a client that never reads costs {each} bytes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_left_of_a_large_room_costs_a_stuck_client_less_than_a_megabyte_whatever_the_store() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start().await;
    fill(&redis, "large").await;
    let (edge, shutdown) = edge(&format!(
        "id: one\nredis: {{url: '{}'}}\nnodes: [{{id: other, grpc: 'http://127.0.0.1:9'}}]\n\
         session: {{secret: 0123456789abcdef0123456789abcdef}}\n",
        redis.url()
    ));
    // The room itself is here for everybody: what is counted is there for the stuck alone. The answer comes after all of it.
    let mut reader = joined(edge.address(), "reader", "large", false).await;
    ask(&mut reader, "keepalive", json!({"rid": "large"})).await;
    let mut stuck: Vec<Socket> = Vec::new();
    for n in 0..STUCK {
        stuck.push(connected(edge.address(), &format!("stuck{n}"), true).await);
    }
    let before = IN_USE.load(Ordering::Relaxed);
    for socket in &mut stuck {
        let answer = ask(socket, "join", json!({"rid": "large"})).await;
        assert!(answer["rest"].as_u64() > Some(3_000), "{}", answer["rest"]);
    }
    settled(before, A_MEGABYTE / 2).await;
    let clients: Vec<SocketAddr> = stuck.iter().map(address).collect();
    let kept = kept_of_each(edge.address(), &clients);
    assert!((A_MEGABYTE / 16..=A_MEGABYTE / 2).contains(&kept), "the system keeps {kept} bytes");
    shutdown.cancel();
    timeout(PATIENCE, edge.stopped()).await.expect("stops in time");
}

fn room(size: usize, n: usize) -> String {
    format!("room-{size}-{n}")
}

/// Each in its own room.
async fn say_everywhere(talkers: &mut [Socket], size: usize) {
    for (n, talker) in talkers.iter_mut().enumerate() {
        ask(talker, "broadcast", json!({"rid": room(size, n), "data": "x".repeat(size)})).await;
    }
}
