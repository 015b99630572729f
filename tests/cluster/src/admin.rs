//! What a service tells its operators, asked for as they do: health, readiness, metrics.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Answered at once, on a machine that is not overloaded.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a gauge that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The status of `/healthz` or `/readyz`.
pub async fn status(admin: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let answer = get(admin, path).await?;
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.with_context(|| format!("no status in {answer:?}"))
}

/// The value of a series that has fractions, named with its labels if it has any.
pub async fn number(admin: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let answer = get(admin, "/metrics").await?;
    value(&answer, name).with_context(|| format!("no series {name}"))
}

/// The value of a series that counts something, named with its labels if it has any; an error if the service has no such series.
pub async fn gauge(admin: SocketAddr, name: &str) -> anyhow::Result<u64> {
    let answer = get(admin, "/metrics").await?;
    value(&answer, name).with_context(|| format!("no gauge {name}"))
}

/// Waits until a gauge has this value. The error says what it has instead.
pub async fn shows(admin: SocketAddr, name: &str, expected: u64, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let now = gauge(admin, name).await?;
        if now == expected {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{name} is {now}, and not {expected} within {within:?}");
        sleep(LOOK_EVERY).await;
    }
}

/// Looks at a gauge for this long. The error says when it has another value than this.
pub async fn keeps(admin: SocketAddr, name: &str, expected: u64, time: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let now = gauge(admin, name).await?;
        anyhow::ensure!(now == expected, "{name} is {now}, and not {expected}, after {:?}", begun.elapsed());
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Its metrics, as Prometheus gets them.
pub async fn scrape(admin: SocketAddr) -> anyhow::Result<String> {
    let answer = get(admin, "/metrics").await?;
    let (head, content) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    anyhow::ensure!(head.split(' ').nth(1) == Some("200"), "{head}");
    Ok(content.to_owned())
}

/// Tells it to go away, as one does who can send no signal (`POST /drain`).
pub async fn drain(admin: SocketAddr) -> anyhow::Result<()> {
    let answer = ask(admin, "POST /drain", "Content-Type: application/json\r\nContent-Length: 0\r\n").await?;
    anyhow::ensure!(answer.split_whitespace().nth(1) == Some("202"), "{answer}");
    Ok(())
}

async fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    ask(admin, &format!("GET {path}"), "").await
}

async fn ask(admin: SocketAddr, what: &str, headers: &str) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(format!("{what} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(ANSWER_WITHIN, asked).await.context("no answer")?
}

fn value<T: FromStr>(answer: &str, name: &str) -> Option<T> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_by_its_whole_name() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE nodes_up gauge\nnodes_up_ever 7\nnodes{shard=\"0\"} 3\nnodes_up 2\n";
        assert_eq!(value(text, "nodes_up"), Some(2));
        assert_eq!([value::<u64>(text, "nodes"), value(text, "up")], [None, None]);
        assert_eq!(value(text, "nodes{shard=\"0\"}"), Some(3.0));
    }
}
