//! `sluice`: an edge, an SFU node, in-memory stores and a demo page in one program that needs nothing else.

mod config;
mod pages;
mod server;
mod token;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::{Parser, Subcommand};
use telemetry::settings::{EXIT_USAGE, Sources, to_yaml};
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
    file: ConfigFile,
    #[command(flatten)]
    flags: Flags,
    /// Check the settings and do nothing else
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force, secrets masked, and do nothing else
    #[arg(long)]
    print_config: bool,
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

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// Settings, in YAML; every key can also be set by a variable: `SLUICE_` and its path, `__` between levels
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    if let Some(Subcommands::Token { file, flags }) = arguments.command {
        return match Sources::of_process(file.config).load::<SluiceConfig>() {
            Ok(config) => match token::token(flags, &config.auth, SystemTime::now()) {
                Ok(token) => print(&format!("{token}\n")),
                Err(error) => complain(&format!("{error:#}"), EXIT_USAGE),
            },
            Err(error) => complain(&error.to_string(), EXIT_USAGE),
        };
    }
    let sources = Sources::of_process(arguments.file.config);
    let config = match sources.load_with(|config: &mut SluiceConfig| config.apply(arguments.flags)) {
        Ok(config) => config,
        Err(error) => return complain(&error.to_string(), EXIT_USAGE),
    };
    if arguments.print_config {
        return print(&to_yaml(&config));
    }
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

#[tokio::main]
async fn run(config: &SluiceConfig) -> anyhow::Result<()> {
    init_logs(&config.log)?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone()).context("signals cannot be watched")?;
    let server = Server::start(config, &shutdown).await?;
    print(&format!("ready: {}\n", server.url()));
    server.ended().await;
    Ok(())
}

/// Stdout is for whoever started this program, and may be closed.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    // Without a stderr there is nobody to tell; the code says it, too.
    let _ = writeln!(std::io::stderr(), "sluice: {text}");
    ExitCode::from(code)
}
