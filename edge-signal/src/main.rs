//! The program `edge-signal`: reads its settings, starts an edge, ends it on a signal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use clap::Parser;
use edge_signal::{Edge, EdgeParts, EdgeSettings, Stores, TcpConnector};
use room_store::{MemoryRooms, StaticNodes};
use telemetry::settings::{EXIT_USAGE, Sources, to_yaml};
use telemetry::{Metrics, Readiness, cancel_on_signal, init_logs};
use tokio_util::sync::CancellationToken;

/// Where operators find it unless told otherwise: on this machine only.
const ADMIN_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9080);

/// An edge: WebSocket signalling for clients, SFU nodes behind it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings, in YAML; every key can also be set by a variable: `SLUICE_` and its path, `__` between levels
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings and do nothing else
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force, secrets masked, and do nothing else
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, whatever clap calls them.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    let mut settings: EdgeSettings = match Sources::of_process(arguments.config).load() {
        Ok(settings) => settings,
        Err(error) => return complain(&error.to_string(), EXIT_USAGE),
    };
    settings.admin_listen = settings.admin_listen.or(Some(ADMIN_LISTEN));
    if arguments.print_config {
        return print(&to_yaml(&settings));
    }
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

#[tokio::main]
async fn run(settings: &EdgeSettings) -> anyhow::Result<()> {
    init_logs(&settings.log)?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("signals cannot be watched")?;
    let metrics = Metrics::install()?;
    tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let readiness = Readiness::new();
    let parts = EdgeParts {
        stores: Stores {
            rooms: Arc::new(MemoryRooms::new(settings.room_settings())),
            nodes: Arc::new(StaticNodes::new(settings.node_records())),
            own_store: true,
        },
        connector: Arc::new(TcpConnector),
        pages: Router::new(),
        readiness: readiness.clone(),
        metrics,
    };
    let edge = Edge::start(settings, parts, shutdown.clone())?;
    if shutdown.run_until_cancelled(readiness.ready()).await.is_some() {
        print(&format!("ready: clients={} admin={}\n", edge.address(), edge.admin_address()));
    }
    edge.stopped().await;
    Ok(())
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    use std::io::Write as _;
    // Without a stderr there is nobody to tell; the code says it, too.
    let _ = writeln!(std::io::stderr(), "edge-signal: {text}");
    ExitCode::from(code)
}
