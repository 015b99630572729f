//! The Kafka that tests start is a real one, and can be taken down and up again.

use std::time::Duration;

use servers::Kafka;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// `ApiVersions`, version 0 (Kafka's protocol guide): length, key 18, version, correlation 7, no client id.
const ASKED: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xFF, 0xFF];

/// Whether a broker answers there, in its own protocol.
async fn answers(brokers: &str) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect(brokers).await?;
        socket.write_all(&ASKED).await?;
        let mut answer = [0; 10];
        socket.read_exact(&mut answer).await.map(|_| answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
    // The length, the correlation, no error.
    matches!(answer, Ok(Ok([_, _, _, _, 0, 0, 0, 7, 0, 0])))
}

#[tokio::test]
async fn it_has_its_address_before_it_is_there_and_keeps_it_when_it_is_started_again() {
    let mut kafka = Kafka::not_started();
    let address = kafka.brokers();
    assert!(!answers(&address).await);
    kafka.start_again().await;
    assert!(answers(&address).await);
    kafka.pause();
    assert!(!answers(&address).await);
    kafka.resume();
    kafka.stop();
    assert!(!answers(&address).await);
    kafka.start_again().await;
    assert!(answers(&address).await);
    assert_eq!(kafka.brokers(), address);
}
