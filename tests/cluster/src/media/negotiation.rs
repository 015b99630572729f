//! Asking the server for a stream, and bringing its connection up.

use std::time::Instant;

use loadtests::live::{LiveError, LivePeer};
use loadtests::peer::{PeerError, Section};
use serde_json::{Value, json};

use super::{CONNECT_WITHIN, REQUEST_WITHIN, peer};
use crate::client::{Client, Refusal};

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    #[error("the answer lacks {0}")]
    Answer(&'static str),
}

/// A stream that the server has accepted; its connection is still to come up.
pub(super) struct Accepted {
    pub(super) peer: LivePeer,
    /// `mid` of a publication, `sid` of a subscription.
    pub(super) id: String,
    /// On which node.
    pub(super) node: String,
}

/// Publishes or subscribes.
pub(super) async fn negotiate(
    client: &Client,
    method: &'static str,
    section: Section,
    mut data: Value,
) -> Result<Accepted, Failure> {
    let mut peer = peer(section).await?;
    data["jsep"] = json!({"type": "offer", "sdp": peer.peer.offer()});
    let key = if method == "publish" { "mid" } else { "sid" };
    let answer = client.request(method, data, REQUEST_WITHIN, || ()).await?;
    let id = answer[key].as_str().ok_or(Failure::Answer(key))?.to_owned();
    let node = answer["sfuid"].as_str().ok_or(Failure::Answer("sfuid"))?.to_owned();
    let sdp = answer["jsep"]["sdp"].as_str().ok_or(Failure::Answer("an SDP"))?;
    peer.peer.handle_answer(Instant::now(), sdp)?;
    Ok(Accepted { peer, id, node })
}

/// Waits for DTLS.
pub(super) async fn connect(accepted: &mut Accepted) -> Result<(), Failure> {
    Ok(accepted.peer.connect(CONNECT_WITHIN).await?)
}
