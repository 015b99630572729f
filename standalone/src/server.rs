//! The server of `sluice`: a node, in-memory stores and an edge, started in that order and ended together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use edge_signal::{BadAddress, Connector, Edge, EdgeParts, StartError, Stores};
use room_store::{Capacity, MemoryNodes, MemoryRevocations, MemoryRooms, NodeRecord};
use sfu_node::{Entry, Node, NodeConfig};
use telemetry::events::{EventSink, Teller};
use telemetry::{Metrics, Readiness};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config::SluiceConfig;
use crate::pages;

/// How long the parts may take to find each other. It is a matter of milliseconds; beyond this something is broken.
const READY_TIME: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct Server {
    node: Node,
    edge: Edge,
    url: String,
}

/// Reaches the one node inside this process.
struct OwnNode(Channel);

impl Connector for OwnNode {
    fn channel(&self, _: &NodeRecord) -> Result<Channel, BadAddress> {
        Ok(self.0.clone())
    }
}

impl Server {
    /// Starts everything; when this returns, calls work. It ends when `shutdown` is cancelled; none if that was before.
    pub(crate) async fn start(config: &SluiceConfig, shutdown: &CancellationToken) -> anyhow::Result<Option<Self>> {
        let metrics = Metrics::install()?;
        metrics.identify("sluice", env!("CARGO_PKG_VERSION"));
        tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
        let readiness = Readiness::new();
        let settings = config.node();
        let events = EventSink::new(Teller::node("sluice", settings.id.clone()), None);
        let mut node = Node::start(&settings, events, readiness.latch("node"), shutdown.clone()).map_err(|error| {
            let context = match error {
                sfu_node::StartError::Recording(_) => "recordings cannot be kept (--recordings)",
                _ => "media cannot be received (--media-ip, --media-port)",
            };
            anyhow::Error::from(error).context(context)
        })?;
        node.announce();
        // As in a cluster: what placement and operators see of the node is what it reports.
        let nodes = MemoryNodes::new();
        node.register(Arc::new(nodes.clone()), entry(&settings));
        let settings = config.edge();
        let parts = EdgeParts {
            stores: Stores {
                rooms: Arc::new(MemoryRooms::new(settings.room_settings())),
                nodes: Arc::new(nodes),
                revocations: Arc::new(MemoryRevocations::default()),
                edges: None,
                own_store: true,
            },
            connector: Arc::new(OwnNode(node.channel())),
            pages: pages::routes(),
            readiness: readiness.clone(),
            metrics,
            events: EventSink::new(Teller::edge("sluice", settings.edge_id()), None),
        };
        let edge = Edge::start(&settings, parts, shutdown.clone()).map_err(|error| explained(error, config))?;
        let scheme = if config.tls.cert.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/", reachable(edge.address()));
        let server = Self { node, edge, url };
        match shutdown.run_until_cancelled(timeout(READY_TIME, readiness.ready())).await {
            Some(Ok(())) => Ok(Some(server)),
            Some(Err(_)) => bail!("not ready after {READY_TIME:?}: see /readyz"),
            None => {
                server.ended().await;
                Ok(None)
            }
        }
    }

    /// Where the page is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until both have ended.
    pub(crate) async fn ended(self) {
        tokio::join!(self.node.ended(), self.edge.stopped());
    }
}

/// What the directory is told of the node.
fn entry(settings: &NodeConfig) -> Entry {
    let capacity = Capacity { egress_bps: settings.capacity.egress_bps, tracks: settings.capacity.tracks };
    Entry { address: "in this process".to_owned(), weight: settings.weight, capacity }
}

/// Says what to do, where that is known.
fn explained(error: StartError, config: &SluiceConfig) -> anyhow::Error {
    let advice = match &error {
        StartError::Listen { address, error } => {
            let setting = if config.admin_listen == Some(*address) { "admin_listen" } else { "--listen" };
            match error.kind() {
                std::io::ErrorKind::AddrInUse => Some(format!(
                    "another program has port {}: end it, or choose another port with {setting} (0: any free one)",
                    address.port()
                )),
                std::io::ErrorKind::AddrNotAvailable => {
                    Some(format!("this machine has no address {}: choose another with {setting}", address.ip()))
                }
                std::io::ErrorKind::PermissionDenied => {
                    Some(format!("ports below 1024 need privileges: choose another with {setting}"))
                }
                _ => None,
            }
        }
        StartError::Settings(_) => None,
    };
    match advice {
        Some(advice) => anyhow::Error::new(error).context(advice),
        None => error.into(),
    }
}

/// The address to type into a browser on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use sfu_node::MediaConfig;

    use super::*;

    #[tokio::test]
    async fn a_server_that_is_told_to_end_while_it_starts_ends_at_once() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let media = MediaConfig { first_port: 0, shards: Some(1), ..MediaConfig::default() };
        let config = SluiceConfig { listen, media, ..SluiceConfig::default() };
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let server = timeout(READY_TIME / 2, Server::start(&config, &shutdown)).await.expect("at once");
        assert!(server.expect("it is no error").is_none());
    }

    #[test]
    fn the_address_shown_can_be_typed_into_a_browser() {
        for (bound, shown) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:2", "127.0.0.1:2"),
            ("[::]:3", "[::1]:3"),
            ("192.0.2.1:4", "192.0.2.1:4"),
        ] {
            assert_eq!(reachable(bound.parse().expect("an address")).to_string(), shown);
        }
    }
}
