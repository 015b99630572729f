//! Sluice's SFU node with a gRPC port and one for operators, and nothing else.

use proto::ids::NodeId;
use sfu_node::{Affinity, GrpcConfig, MediaConfig, MediaIp, Node, NodeConfig, OverloadConfig};
use std::net::{Ipv4Addr, SocketAddr};
use telemetry::events::{EventSink, Teller};
use telemetry::settings::Period;
use telemetry::{Metrics, Readiness};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Starts a node on loopback, on free ports, that lives as long as the runtime: its gRPC, and where operators ask.
pub(super) async fn start(shards: u16) -> anyhow::Result<(SocketAddr, SocketAddr)> {
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
    let (shutdown, readiness, metrics) = (CancellationToken::new(), Readiness::new(), Metrics::install()?);
    tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let events = EventSink::new(Teller::node("sfu-node", config.id.clone()), None);
    let mut node = Node::start(&config, events, readiness.latch("media"), shutdown)?;
    let address = node.listen(&grpc).await?;
    tokio::spawn(node.ended());
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let admin_address = admin.local_addr()?;
    tokio::spawn(axum::serve(admin, telemetry::routes(readiness, metrics)).into_future());
    Ok((address, admin_address))
}
