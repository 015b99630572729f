//! Sluice's SFU node with a gRPC port, and nothing else.

use proto::ids::NodeId;
use sfu_node::{Affinity, GrpcConfig, MediaConfig, MediaIp, Node, NodeConfig, OverloadConfig};
use std::net::{Ipv4Addr, SocketAddr};
use telemetry::Readiness;
use telemetry::events::{EventSink, Teller};
use telemetry::settings::Period;
use tokio_util::sync::CancellationToken;

/// Starts a node on loopback, on free ports, that lives as long as the runtime.
pub(super) async fn start(shards: u16) -> anyhow::Result<SocketAddr> {
    let id = NodeId::new("load-test")?;
    let grpc = GrpcConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), ..GrpcConfig::default() };
    let media = MediaConfig {
        ip: vec![MediaIp::Address(Ipv4Addr::LOCALHOST.into())],
        first_port: 0,
        shards: Some(shards),
        affinity: Affinity::Auto,
        ..MediaConfig::default()
    };
    // What is measured is what it does, and not what it leaves away.
    let overload =
        OverloadConfig { refuse: 1.5, shed: 2.0, delay: Period::seconds(3_600), ..OverloadConfig::default() };
    let config = NodeConfig { grpc: grpc.clone(), media, overload, ..NodeConfig::new(id) };
    let shutdown = CancellationToken::new();
    let events = EventSink::new(Teller::node("sfu-node", config.id.clone()), None);
    let mut node = Node::start(&config, events, Readiness::new().latch("media"), shutdown)?;
    let address = node.listen(&grpc).await?;
    tokio::spawn(node.ended());
    Ok(address)
}
