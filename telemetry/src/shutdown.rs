//! SIGINT and SIGTERM end the process in order. What "in order" means is each task's own business: it watches the token.

use std::io;
use std::process;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A further signal so soon is the same one, sent twice: by the terminal and by a wrapper that passes it on.
const ECHO: Duration = Duration::from_millis(300);

/// What a shell reports for a program that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Cancels `shutdown` on the first SIGINT or SIGTERM and ends the process at once on a second one that is not merely its echo.
/// From the call on, the signals no longer end the process by themselves. The task lives as long as the runtime.
pub fn cancel_on_signal(shutdown: CancellationToken) -> io::Result<JoinHandle<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::spawn(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        tracing::info!(signal = name, "ending");
        shutdown.cancel();
        let first = Instant::now();
        let mut name = either(&mut interrupt, &mut terminate).await;
        while first.elapsed() < ECHO {
            name = either(&mut interrupt, &mut terminate).await;
        }
        tracing::warn!(signal = name, "ending at once");
        process::exit(EXIT_INTERRUPTED);
    }))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_cancels_the_token() {
        let shutdown = CancellationToken::new();
        let task = cancel_on_signal(shutdown.clone()).expect("signals can be watched");
        kill_process(getpid(), Signal::TERM).expect("sent");
        tokio::time::timeout(Duration::from_secs(5), shutdown.cancelled()).await.expect("cancelled in time");
        task.abort();
    }
}
