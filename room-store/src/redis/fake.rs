//! Servers for tests that say what no real one would say in time.

use std::{future::Future, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::url::Address;

/// A server that answers as it is told to, by its port and a command's words; it connects by itself. It ends with the runtime.
pub(super) async fn serve<F: Future<Output = String> + Send + 'static>(
    answer: impl Fn(u16, Vec<String>) -> F + Send + Sync + 'static,
) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let answer = Arc::new(move |words| answer(port, words));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(speak(client, Arc::clone(&answer)));
        }
    });
    Address { host: "127.0.0.1".to_owned(), port }
}

async fn speak<F: Future<Output = String> + Send>(
    mut client: TcpStream,
    answer: Arc<impl Fn(Vec<String>) -> F + Send + Sync>,
) {
    let (reading, mut writing) = client.split();
    let mut lines = BufReader::new(reading).lines();
    // An array of texts, each with its length before it.
    while let Ok(Some(head)) = lines.next_line().await {
        let mut words = Vec::new();
        for _ in 0..head[1..].parse().expect("a number") {
            lines.next_line().await.expect("a length");
            words.push(lines.next_line().await.expect("read").expect("a text"));
        }
        let answer = match words[0].as_str() {
            "HELLO" => "%1\r\n$5\r\nproto\r\n:3\r\n".to_owned(),
            "CLIENT" => "+OK\r\n".to_owned(),
            _ => answer(words).await,
        };
        // Who has gone needs no answer.
        let _ = writing.write_all(answer.as_bytes()).await;
    }
}
