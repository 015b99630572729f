//! Media of the rig's clients, with real ICE, DTLS and SRTP: publishers that publish again when the server loses or moves their
//! stream, viewers that subscribe to whatever the room has, as the SDK does (client/src/recovery.ts), and how long nothing came.

mod flow;
mod negotiation;
mod publisher;
mod speaker;
mod viewer;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loadtests::live::LivePeer;
use loadtests::peer::{Certificate, PeerConfig, Section, TestPeer};

pub use flow::{Flow, Seen};
pub use publisher::Publisher;
pub use speaker::{FRAME, SILENCE, Speaker};
pub use viewer::Viewer;

/// Between two packets of a publisher: enough to measure gaps by, little enough for hundreds of streams on two cores.
pub const PACKET_EVERY: Duration = Duration::from_millis(40);
/// As the SDK: browsers connect within a second or not at all; handshakes on a busy machine take longer.
const CONNECT_WITHIN: Duration = Duration::from_secs(12);
/// As the SDK: a server that goes away tells everybody at once, and they spread over this time.
const MIGRATION_SPREAD: Duration = Duration::from_secs(1);
/// As the SDK: after a stream has moved, for its viewers to follow.
const OVERLAP: Duration = Duration::from_secs(3);
/// A stream that has moved is sent for no longer than this.
const MOVE_WITHIN: Duration = Duration::from_secs(20);
/// As the SDK: for a request, its repetitions included. Past it, one is made anew.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// A peer on a loopback socket of its own that has said nothing yet.
async fn peer(section: Section) -> std::io::Result<LivePeer> {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    static SEED: AtomicU64 = AtomicU64::new(1);
    let certificate = CERTIFICATE.get_or_init(|| Certificate::generate().expect("a certificate")).clone();
    let config = PeerConfig::new(SEED.fetch_add(1, Ordering::Relaxed), certificate, vec![section]);
    LivePeer::bind(TestPeer::new(Instant::now(), config)).await
}

/// What an owner's packets begin with: an Opus packet without content, and whose it is.
fn label(uid: &str) -> Vec<u8> {
    let mut payload = vec![0xFC, 0, 0, 0];
    payload.extend_from_slice(uid.as_bytes());
    payload.resize(80, 0);
    payload
}
