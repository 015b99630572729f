//! What the tests of whole edges share: edges on free ports, raw WebSocket clients, and SFU nodes that do what they are told,
//! also wrong.

pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod directory;
pub(crate) mod keys;
pub(crate) mod process;
pub(crate) mod sfu;
pub(crate) mod tls;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use edge_signal::{Edge, EdgeParts, EdgeSettings, Stores, TcpConnector};
use room_store::{MemoryRevocations, MemoryRooms, NodeDirectory, RoomSettings, RoomStore, StaticNodes};
use telemetry::events::{EventOut, EventSink, Teller};
use telemetry::settings::{Settings as _, Sources};
use telemetry::{Metrics, Readiness};
use tokio_util::sync::CancellationToken;

use self::sfu::TestSfu;

/// Longest anything in these tests is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The secret that edges of these tests share.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A running edge.
pub(crate) struct TestEdge {
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    pub(crate) readiness: Readiness,
    edge: Option<Edge>,
    shutdown: CancellationToken,
}

impl TestEdge {
    /// An edge with these settings (YAML; `listen` is any free port), this store and these nodes.
    pub(crate) fn start(settings: &str, rooms: &MemoryRooms, nodes: &[(&str, SocketAddr)]) -> Self {
        Self::sharing(settings, rooms, nodes, &MemoryRevocations::default())
    }

    /// The same, with what was revoked.
    pub(crate) fn sharing(
        settings: &str,
        rooms: &MemoryRooms,
        nodes: &[(&str, SocketAddr)],
        revocations: &MemoryRevocations,
    ) -> Self {
        Self::in_memory(settings, rooms, nodes, revocations, None)
    }

    /// The same, whose events are heard.
    pub(crate) fn telling(
        settings: &str,
        rooms: &MemoryRooms,
        nodes: &[(&str, SocketAddr)],
        told: Arc<dyn EventOut>,
    ) -> Self {
        Self::in_memory(settings, rooms, nodes, &MemoryRevocations::default(), Some(told))
    }

    fn in_memory(
        settings: &str,
        rooms: &MemoryRooms,
        nodes: &[(&str, SocketAddr)],
        revocations: &MemoryRevocations,
        told: Option<Arc<dyn EventOut>>,
    ) -> Self {
        let mut settings = read(settings);
        for (id, address) in nodes {
            settings.nodes.push(edge_signal::settings::NodeSettings {
                id: id.parse().expect("valid"),
                region: None,
                grpc: format!("http://{address}"),
                weight: 1,
            });
        }
        settings.check().expect("good settings");
        let stores = Stores {
            rooms: Arc::new(rooms.clone()),
            nodes: Arc::new(StaticNodes::new(settings.node_records())),
            edges: None,
            revocations: Arc::new(revocations.clone()),
            own_store: true,
        };
        Self::with_stores(&settings, stores, told)
    }

    /// An edge with these settings, this store and this directory.
    pub(crate) fn of(settings: &str, rooms: Arc<dyn RoomStore>, nodes: Arc<dyn NodeDirectory>) -> Self {
        Self::with_stores(
            &read(settings),
            Stores { rooms, nodes, edges: None, revocations: Arc::new(MemoryRevocations::default()), own_store: true },
            None,
        )
    }

    /// An edge on the stores that its settings name.
    pub(crate) fn connected(settings: &str) -> Self {
        let settings = read(settings);
        let stores = Stores::connect(&settings).expect("usable settings");
        Self::with_stores(&settings, stores, None)
    }

    fn with_stores(settings: &EdgeSettings, stores: Stores, told: Option<Arc<dyn EventOut>>) -> Self {
        let connector = TcpConnector::new(
            settings.grpc.tls.client_config().expect("good files"),
            settings.grpc.tls.server_name.clone(),
        );
        let (shutdown, readiness) = (CancellationToken::new(), Readiness::new());
        let parts = EdgeParts {
            stores,
            connector: Arc::new(connector),
            pages: Router::new(),
            readiness: readiness.clone(),
            metrics: Metrics::install().expect("installed"),
            events: EventSink::new(Teller::edge("edge-signal", settings.edge_id()), told),
        };
        let edge = Edge::start(settings, parts, shutdown.clone()).expect("starts");
        Self { address: edge.address(), admin_address: edge.admin_address(), readiness, edge: Some(edge), shutdown }
    }

    /// An edge alone, with a store of its own.
    pub(crate) fn alone(settings: &str) -> Self {
        Self::start(settings, &store(), &[])
    }

    /// Waits until it says it is ready.
    pub(crate) async fn ready(&self) {
        tokio::time::timeout(PATIENCE, self.readiness.ready()).await.expect("ready in time");
    }

    /// Asks it to stop.
    pub(crate) fn drain(&self) {
        self.shutdown.cancel();
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let edge = self.edge.take().expect("runs");
        tokio::time::timeout(PATIENCE, edge.stopped()).await.expect("stops in time");
    }

    /// Sends a plain HTTP request and gives all that comes back.
    pub(crate) async fn http(&self, path: &str, headers: &str) -> String {
        Self::http_at(self.address, path, headers).await
    }

    /// Revokes what the order (JSON) says, by a program of this machine.
    pub(crate) async fn revoke(&self, order: &str, headers: &str) -> String {
        let headers = format!("{headers}Content-Type: application/json\r\nContent-Length: {}\r\n", order.len());
        Self::exchange(self.admin_address, &format!("POST /revoke HTTP/1.1\r\n{headers}"), order).await
    }

    /// Tells it to drain, by a program of this machine.
    pub(crate) async fn drain_at(admin: SocketAddr, headers: &str) -> String {
        let headers = format!("{headers}Content-Length: 0\r\n");
        Self::exchange(admin, &format!("POST /drain HTTP/1.1\r\n{headers}"), "").await
    }

    /// The same, at another address.
    pub(crate) async fn http_at(address: SocketAddr, path: &str, headers: &str) -> String {
        Self::exchange(address, &format!("GET {path} HTTP/1.1\r\n{headers}"), "").await
    }

    async fn exchange(address: SocketAddr, head: &str, body: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
        let request = format!("{head}Host: localhost\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.expect("answers in time").expect("readable");
        answer
    }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn read(settings: &str) -> EdgeSettings {
    // All tests are one process here, and it has much to do.
    let settings = format!("listen: 127.0.0.1:0\noverload: {{cpu: 1, lag: 10s, memory: 1}}\n{settings}");
    Sources::text("test.yaml", settings).load().expect("good settings")
}

/// A store with the usual settings.
pub(crate) fn store() -> MemoryRooms {
    MemoryRooms::new(RoomSettings::default())
}

/// Two edges on one store, with one node.
pub(crate) async fn two_edges(rooms: &MemoryRooms) -> (TestSfu, TestEdge, TestEdge) {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let nodes = [("sfu-1", sfu.address)];
    let edge = |id: &str| TestEdge::start(&format!("id: {id}\nsession: {{secret: {SECRET}}}\n"), rooms, &nodes);
    let (one, two) = (edge("one"), edge("two"));
    one.ready().await;
    two.ready().await;
    (sfu, one, two)
}
