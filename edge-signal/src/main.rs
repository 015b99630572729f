//! The program `edge-signal`: reads its settings, starts an edge, ends it on a signal.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use clap::Parser;
use edge_signal::{Edge, EdgeParts, EdgeSettings, Stores, TcpConnector};
use proto::ids::EdgeId;
use telemetry::events::{EventSink, Teller};
use telemetry::program::{self, ConfigArguments};
use telemetry::{Metrics, Readiness, Service, cancel_on_signal, init_logs};
use tokio_util::sync::CancellationToken;

/// Where operators find it unless told otherwise: on this machine only.
const ADMIN_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9080);

/// An `id` that is to be the machine's name.
const AUTO: &str = "auto";

/// An edge: WebSocket signalling for clients, SFU nodes behind it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

fn main() -> ExitCode {
    let found_by_default = |settings: &mut EdgeSettings| {
        settings.admin_listen.get_or_insert(ADMIN_LISTEN);
        if settings.id.as_ref().is_some_and(|id| id.as_str() == AUTO) {
            // A machine without a name that would do is refused as an edge without one.
            settings.id = EdgeId::new(program::host_name()).ok();
        }
        if !settings.shares_rooms() && !settings.is_registered() {
            settings.id = Some(settings.edge_id());
        }
    };
    match program::arguments::<Arguments>() {
        Ok(Arguments { config }) => program::run_by("edge-signal", config, found_by_default, run),
        Err(code) => code,
    }
}

fn run(settings: &EdgeSettings) -> anyhow::Result<()> {
    program::block_on(serve(settings)).context("there is no runtime")?
}

async fn serve(settings: &EdgeSettings) -> anyhow::Result<()> {
    let service =
        Service { name: "edge-signal", version: env!("CARGO_PKG_VERSION"), id: settings.edge_id().to_string() };
    let logs = init_logs(&settings.log, &settings.kafka, &settings.otlp, &service)?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("signals cannot be watched")?;
    if settings.nodes.is_empty() && !settings.is_registered() {
        tracing::warn!("no SFU nodes are set (`nodes` or `etcd.endpoints`): this edge is never ready");
    }
    let metrics = Metrics::install()?;
    metrics.identify("edge-signal", env!("CARGO_PKG_VERSION"));
    tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let readiness = Readiness::new();
    let teller = Teller::edge("edge-signal", settings.edge_id());
    let events = EventSink::to_topic(teller, logs.producer(), &settings.kafka.events_topic);
    let parts = EdgeParts {
        stores: Stores::connect(settings)?,
        connector: Arc::new(TcpConnector::new(
            settings.grpc.tls.client_config()?,
            settings.grpc.tls.server_name.clone(),
        )),
        pages: Router::new(),
        readiness: readiness.clone(),
        metrics,
        events,
    };
    let edge = Edge::start(settings, parts, shutdown.clone())?;
    if shutdown.run_until_cancelled(readiness.ready()).await.is_some() {
        program::print(&format!("ready: clients={} admin={}\n", edge.address(), edge.admin_address()));
    }
    edge.stopped().await;
    logs.close();
    Ok(())
}
