//! The program `sfu-node`: settings, logs, ports and signals around the library of the same name.

use std::net::SocketAddr;
use std::process::ExitCode;
#[cfg(feature = "etcd")]
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use proto::ids::NodeId;
#[cfg(feature = "etcd")]
use room_store::etcd::EtcdDirectory;
use sfu_node::{Node, NodeConfig};
use telemetry::events::{EventSink, Teller};
use telemetry::program::{self, ConfigArguments};
use telemetry::{Metrics, Readiness, Service, cancel_in_turn, init_logs};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An `id` that is to be the machine's name.
const AUTO: &str = "auto";

/// An SFU node: moves the media of calls, as edges tell it to.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

fn main() -> ExitCode {
    match program::arguments::<Arguments>() {
        Ok(Arguments { config }) => program::run_by("sfu-node", config, name_by_machine, run),
        Err(code) => code,
    }
}

/// Where the settings leave it to the machine what the node is called. One whose name is no id is called `auto`, and at most one such is
/// of use.
fn name_by_machine(config: &mut NodeConfig) {
    if config.id.as_str() == AUTO
        && let Ok(id) = NodeId::new(program::host_name())
    {
        config.id = id;
    }
}

fn run(config: &NodeConfig) -> anyhow::Result<()> {
    program::block_on(serve(config)).context("there is no runtime")?
}

/// The boot order: logs, metrics, the node, its port, the operators' port, the directory; then it waits, drains and ends, the log last.
async fn serve(config: &NodeConfig) -> anyhow::Result<()> {
    let service = Service { name: "sfu-node", version: env!("CARGO_PKG_VERSION"), id: config.id.to_string() };
    let logs = init_logs(&config.log, &config.kafka, &config.otlp, &service)?;
    let metrics = Metrics::install()?;
    metrics.identify(service.name, service.version);
    let (drain, shutdown) = (CancellationToken::new(), CancellationToken::new());
    cancel_in_turn([drain.clone(), shutdown.clone()]).context("watching for signals")?;
    let upkeep = tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let readiness = Readiness::new();
    let teller = Teller::node("sfu-node", config.id.clone());
    let events = EventSink::to_topic(teller, logs.producer(), &config.kafka.events_topic);
    let mut node = Node::start(config, events, readiness.latch("node"), shutdown.clone())?;
    let grpc = node.listen(&config.grpc).await?;
    let admin = TcpListener::bind(config.admin_listen)
        .await
        .with_context(|| format!("admin_listen on {}: is the port taken? Set another", config.admin_listen))?;
    let admin_address = admin.local_addr()?;
    let routes = telemetry::routes(readiness, metrics).merge(telemetry::drain_route(drain.clone()));
    let served = axum::serve(admin, routes.into_make_service_with_connect_info::<SocketAddr>());
    let admin = tokio::spawn(served.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
    #[cfg(feature = "etcd")]
    if config.etcd.is_set() {
        let directory = EtcdDirectory::connect(&config.etcd).context("etcd")?;
        node.register(Arc::new(directory), config.entry(grpc));
    }
    node.announce();
    tracing::info!(%grpc, admin = %admin_address, "ready");
    program::print(&format!("ready: grpc={grpc} admin={admin_address}\n"));
    if shutdown.run_until_cancelled(drain.cancelled()).await.is_some() {
        node.drain(config.drain.timeout.into()).await;
    }
    shutdown.cancel();
    node.ended().await;
    // A scrape that hangs does not keep the process.
    admin.abort();
    upkeep.await?;
    logs.close();
    Ok(())
}
