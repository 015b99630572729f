//! SIGINT and SIGTERM end the process in order. What "in order" means is each task's own business: it watches the token.

use std::io;
use std::process;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::logs::close_logs;

/// A further signal so soon is the same one, sent twice: by the terminal and by a wrapper that passes it on.
const ECHO: Duration = Duration::from_millis(300);

/// How long the end waits for the log to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a shell reports for a program that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Cancels `shutdown` on the first SIGINT or SIGTERM and ends the process at once on a second one that is not merely its echo.
/// From the call on, the signals no longer end the process by themselves. The task lives as long as the runtime.
pub fn cancel_on_signal(shutdown: CancellationToken) -> io::Result<JoinHandle<()>> {
    cancel_in_turn([shutdown])
}

/// Likewise, for a process that ends in steps: each further signal cancels the next token, and the one after the last ends the
/// process at once.
pub fn cancel_in_turn<const STEPS: usize>(steps: [CancellationToken; STEPS]) -> io::Result<JoinHandle<()>> {
    let mut signals = Signals::new()?;
    Ok(tokio::spawn(async move {
        for step in steps {
            let name = signals.next().await;
            tracing::info!(signal = name, "ending");
            step.cancel();
        }
        let name = signals.next().await;
        tracing::warn!(signal = name, "ending at once");
        close_logs(LAST_WORDS);
        process::exit(EXIT_INTERRUPTED);
    }))
}

/// Both signals, each heard once.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    last: Option<Instant>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, last: None })
    }

    /// The next that is not merely the echo of the last.
    async fn next(&mut self) -> &'static str {
        loop {
            let name = tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
            };
            if self.last.is_none_or(|last| last.elapsed() >= ECHO) {
                self.last = Some(Instant::now());
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_further_signal_is_the_next_step_and_an_echo_is_not() {
        let steps = [CancellationToken::new(), CancellationToken::new()];
        let task = cancel_in_turn(steps.clone()).expect("signals can be watched");
        let within = Duration::from_secs(5);
        let send = || kill_process(getpid(), Signal::TERM).expect("sent");
        send();
        tokio::time::timeout(within, steps[0].cancelled()).await.expect("cancelled in time");
        let first = Instant::now();
        send();
        tokio::time::sleep(ECHO / 2).await;
        assert!(!steps[1].is_cancelled() || first.elapsed() >= ECHO, "an echo");
        tokio::time::sleep(ECHO).await;
        send();
        tokio::time::timeout(within, steps[1].cancelled()).await.expect("cancelled in time");
        task.abort();
    }

    #[tokio::test]
    async fn the_first_signal_cancels_the_token() {
        let shutdown = CancellationToken::new();
        let task = cancel_on_signal(shutdown.clone()).expect("signals can be watched");
        kill_process(getpid(), Signal::TERM).expect("sent");
        tokio::time::timeout(Duration::from_secs(5), shutdown.cancelled()).await.expect("cancelled in time");
        task.abort();
    }
}
