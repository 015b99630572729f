//! What every program of Sluice does around its service: arguments, settings, what it prints, how it exits.
//!
//! Exit codes: 0, 64 for arguments and settings that cannot be used (before anything has started), 1 for what failed later.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::health;
use crate::settings::{EXIT_USAGE, Settings, Sources, to_yaml};

/// How long the end of a program waits for threads that are blocked.
const BLOCKED: Duration = Duration::from_millis(100);

/// Where settings are read from.
#[derive(Debug, Default, clap::Args)]
pub struct ConfigFile {
    /// Settings, in YAML; every key can also be set by a variable: `SLUICE_` and its path, `__` between levels
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What each program can do with its settings besides running by them.
#[derive(Debug, Default, clap::Args)]
pub struct ConfigArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Check the settings and do nothing else
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force, secrets masked, and do nothing else
    #[arg(long)]
    print_config: bool,
    /// Ask the one that runs by these settings on this machine whether it is alive, and do nothing else (exit code 1: it is not)
    #[arg(long)]
    healthy: bool,
}

/// The command line; `Err` is the exit code after help, the version or a complaint was printed.
pub fn arguments<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        // Help and version are no errors, whatever clap calls them.
        let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
        error.print().map_or(ExitCode::FAILURE, |()| ExitCode::from(code))
    })
}

/// Reads and checks the settings, changed by `change` (flags win over file and environment), and does what was asked for:
/// checks them, prints them, or runs by them. `name` begins each complaint.
pub fn run_by<T: Settings, E: Display>(
    name: &str,
    arguments: ConfigArguments,
    change: impl FnOnce(&mut T),
    run: impl FnOnce(&T) -> Result<(), E>,
) -> ExitCode {
    let settings = match Sources::of_process(arguments.file.config).load_with(change) {
        Ok(settings) => settings,
        Err(error) => return complain(name, error, EXIT_USAGE),
    };
    if arguments.print_config {
        return print(&to_yaml(&settings));
    }
    if arguments.check_config {
        return match settings.try_out() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(name, error, EXIT_USAGE),
        };
    }
    if arguments.healthy {
        return match settings.operators_address().map(health::ask_alive) {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(error)) => complain(name, error, 1),
            None => complain(name, "there is no address to ask in the clear: set admin_listen", EXIT_USAGE),
        };
    }
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        // With its causes, where it is an error that has some.
        Err(error) => complain(name, format_args!("{error:#}"), 1),
    }
}

/// What a program is called whose `id` is to be `auto`: its machine's name, up to the first dot. Containers and machines of a cloud have
/// one of their own each.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Works on something in a runtime of its own, which ends with it. A thread that is blocked then, as by the lookup of a name that no
/// server answers, is left behind: the runtime alone would wait for it for as long as it takes.
pub fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(BLOCKED);
    Ok(done)
}

/// Writes to stdout, which is for whoever started the program, and may be closed.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says on stderr what is wrong, and gives the code to exit with.
pub fn complain(name: &str, what: impl Display, code: u8) -> ExitCode {
    // Without a stderr there is nobody to tell; the code says it, too.
    let _ = writeln!(io::stderr(), "{name}: {what}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_is_blocked_holds_up_no_end() {
        let begun = Instant::now();
        let done = block_on(async {
            drop(tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(10))));
            7
        });
        assert_eq!(done.expect("a runtime"), 7);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
