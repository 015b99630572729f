//! A WebSocket to one of several edges, opened as a browser behind several addresses does: one that refuses is passed over at
//! once.

use std::net::SocketAddr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::seq::SliceRandom as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::{Error, protocol::WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// As the SDK: a socket that has not opened by then is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

pub(super) type Socket = WebSocketStream<TcpStream>;

/// No edge lets the client in, now.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// What the edges asked for, the least of it.
    pub(super) retry_after: Option<Duration>,
    /// What those answered that were there.
    pub(super) statuses: Vec<u16>,
}

/// Opens a socket to any of `edges`, in random order.
pub(super) async fn open(edges: &[SocketAddr], uid: &str) -> Result<Socket, Refused> {
    let mut order = edges.to_vec();
    order.shuffle(&mut rand::rng());
    let mut refused = Refused::default();
    for edge in order {
        match timeout(OPEN_WITHIN, open_one(edge, uid)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(Error::Http(response))) => {
                let asked = retry_after(&response);
                refused.retry_after = refused.retry_after.into_iter().chain(asked).min();
                refused.statuses.push(response.status().as_u16());
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(refused)
}

async fn open_one(edge: SocketAddr, uid: &str) -> Result<Socket, Error> {
    let mut request =
        format!("ws://{edge}/ws?peer={}", utf8_percent_encode(uid, NON_ALPHANUMERIC)).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("protoo"));
    let stream = TcpStream::connect(edge).await?;
    stream.set_nodelay(true)?;
    // Thousands of clients are in one process: their buffers are small.
    let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
    Ok(client_async_with_config(request, stream, Some(config)).await?.0)
}

fn retry_after(response: &Response<Option<Vec<u8>>>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}
