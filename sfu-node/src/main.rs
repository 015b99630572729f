//! The program `sfu-node`: settings, logs, ports and signals around the library of the same name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use sfu_node::{Node, NodeConfig};
use telemetry::settings::{EXIT_USAGE, Sources, to_yaml};
use telemetry::{Metrics, Readiness, cancel_on_signal, init_logs};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An SFU node: moves the media of calls, as edges tell it to.
#[derive(Debug, Parser)]
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
            return error.print().map_or(ExitCode::FAILURE, |()| ExitCode::from(code));
        }
    };
    let config: NodeConfig = match Sources::of_process(arguments.config).load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("sfu-node: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if arguments.print_config {
        print(&to_yaml(&config));
    }
    if arguments.print_config || arguments.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sfu-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The boot order: logs, metrics, the node, its port, the operators' port; then it waits.
#[tokio::main]
async fn run(config: &NodeConfig) -> anyhow::Result<()> {
    init_logs(&config.log)?;
    let metrics = Metrics::install()?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("watching for signals")?;
    let upkeep = tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let readiness = Readiness::new();
    let mut node = Node::start(config, readiness.latch("node"), shutdown.clone())?;
    let grpc = node.listen(&config.grpc).await?;
    let admin = TcpListener::bind(config.admin_listen)
        .await
        .with_context(|| format!("admin_listen on {}: is the port taken? Set another", config.admin_listen))?;
    let admin_address = admin.local_addr()?;
    let routes = telemetry::routes(readiness, metrics);
    let admin = tokio::spawn(
        axum::serve(admin, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future(),
    );
    tracing::info!(%grpc, admin = %admin_address, "ready");
    print(&format!("ready: grpc={grpc} admin={admin_address}\n"));
    node.ended().await;
    // A scrape that hangs does not keep the process.
    admin.abort();
    upkeep.await?;
    Ok(())
}

/// Stdout is for whoever started this program, and may be closed.
fn print(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
