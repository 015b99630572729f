//! `sluice`: an edge, an SFU node, in-memory stores and a demo page in one program that needs nothing else.

mod config;
mod pages;
mod server;
mod token;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::{Parser, Subcommand};
use telemetry::program::{self, ConfigArguments, ConfigFile};
use telemetry::settings::{EXIT_USAGE, Sources};
use telemetry::{cancel_on_signal, init_logs};
use tokio_util::sync::CancellationToken;

use config::{Flags, SluiceConfig};
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
    /// Make an access token with the secret of the settings
    Token {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        flags: TokenFlags,
    },
}

fn main() -> ExitCode {
    let Arguments { command, config, flags } = match program::arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match command {
        Some(Subcommands::Token { file, flags }) => make_token(file, flags),
        None => program::run_by("sluice", config, |config: &mut SluiceConfig| config.apply(flags), run),
    }
}

fn make_token(file: ConfigFile, flags: TokenFlags) -> ExitCode {
    let complain = |what: &dyn Display| program::complain("sluice", what, EXIT_USAGE);
    match Sources::of_process(file.config).load::<SluiceConfig>() {
        Ok(config) => match token::token(flags, &config.auth, SystemTime::now()) {
            Ok(token) => program::print(&format!("{token}\n")),
            Err(error) => complain(&format_args!("{error:#}")),
        },
        Err(error) => complain(&error),
    }
}

#[tokio::main]
async fn run(config: &SluiceConfig) -> anyhow::Result<()> {
    init_logs(&config.log)?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("signals cannot be watched")?;
    if let Some(server) = Server::start(config, &shutdown).await? {
        program::print(&format!("ready: {}\n", server.url()));
        server.ended().await;
    }
    Ok(())
}
