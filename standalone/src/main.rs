//! `sluice`: an edge, an SFU node, in-memory stores and a demo page in one program that needs nothing else.

mod config;
mod pages;
mod revoke;
mod server;
mod token;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::{Parser, Subcommand};
use telemetry::kafka::KafkaSettings;
use telemetry::program::{self, ConfigArguments, ConfigFile};
use telemetry::settings::{EXIT_USAGE, Sources};
use telemetry::{OtlpSettings, Service, cancel_on_signal, init_logs};
use tokio_util::sync::CancellationToken;

use config::{AccessConfig, Flags, SluiceConfig};
use revoke::RevokeFlags;
use server::Server;
use token::TokenFlags;

/// Calls in the browser, from one program: signalling, media and a page to try it on.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Make an access token with the secret of the settings, which may be an edge's (only `auth` of them is read)
    Token {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        flags: TokenFlags,
    },
    /// Withdraw a peer's access, or one token's, on all edges; the settings may be an edge's (only `auth` of them is read)
    Revoke {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        flags: RevokeFlags,
    },
}

fn main() -> ExitCode {
    let Arguments { command, config, flags } = match program::arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match command {
        Some(Subcommands::Token { file, flags }) => make_token(file, flags),
        Some(Subcommands::Revoke { file, flags }) => revoke_access(file, flags),
        None => program::run_by("sluice", config, |config: &mut SluiceConfig| config.apply(flags), run),
    }
}

fn make_token(file: ConfigFile, flags: TokenFlags) -> ExitCode {
    let complain = |what: &dyn Display| program::complain("sluice", what, EXIT_USAGE);
    match Sources::of_process(file.config).load::<AccessConfig>() {
        Ok(config) => match token::token(flags, &config.auth, SystemTime::now()) {
            Ok(made) => {
                // Beside the token, not with it: scripts take what is on stdout.
                tell(&format!("its id, to revoke it by: {}", made.id));
                program::print(&format!("{}\n", made.token))
            }
            Err(error) => complain(&format_args!("{error:#}")),
        },
        Err(error) => complain(&error),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn revoke_access(file: ConfigFile, flags: RevokeFlags) -> ExitCode {
    match Sources::of_process(file.config).load::<AccessConfig>() {
        Ok(config) => match revoke::revoke(flags, &config.auth, SystemTime::now()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => program::complain("sluice", format_args!("{error:#}"), 1),
        },
        Err(error) => program::complain("sluice", &error, EXIT_USAGE),
    }
}

/// To whoever sits there, if somebody does.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn run(config: &SluiceConfig) -> anyhow::Result<()> {
    program::block_on(serve(config)).context("there is no runtime")?
}

async fn serve(config: &SluiceConfig) -> anyhow::Result<()> {
    let service = Service { name: "sluice", version: env!("CARGO_PKG_VERSION"), id: config.id.to_string() };
    // It needs nothing else to run, and so knows nothing of brokers and collectors.
    let logs = init_logs(&config.log, &KafkaSettings::default(), &OtlpSettings::default(), &service)?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("signals cannot be watched")?;
    if let Some(server) = Server::start(config, &shutdown).await? {
        program::print(&format!("ready: {}\n", server.url()));
        server.ended().await;
    }
    logs.close();
    Ok(())
}
