//! A client of the signalling contract, as cheap as can be: one WebSocket, requests one after the other, notifications handed
//! to whoever waits. It neither reconnects nor resumes; who wants that does it with this.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

/// An edge answers each request within 10 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
/// For a machine that is busy with thousands of others.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// Little, for there are thousands of them; larger frames make it grow.
const BUFFER_BYTES: usize = 1_024;

/// Why something came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Before the upgrade.
    #[error("HTTP {0}")]
    Http(u16),
    /// The socket was closed, or is gone.
    #[error("closed with {0:?}")]
    Closed(Option<u16>),
    /// The edge said no.
    #[error("error {code}: {reason}")]
    Refused {
        /// `errorCode`.
        code: i32,
        /// `errorReason`.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// Connecting failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not what the contract says.
    #[error("{0}")]
    Protocol(String),
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => Self::Http(response.status().as_u16()),
            tungstenite::Error::Io(error) => Self::Io(error),
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::Closed(None),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// Where clients connect to, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// `ip:port` of the edge.
    pub edge: SocketAddr,
    /// Access token, where the edge wants one.
    pub token: Option<String>,
}

/// A frame from the edge, as far as a load generator looks at it.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// Of answers: the request's.
    #[serde(default)]
    pub id: Option<u64>,
    /// Of answers: done.
    #[serde(default)]
    pub ok: bool,
    /// It is an answer.
    #[serde(default)]
    pub response: bool,
    /// Of notifications.
    #[serde(borrow, default)]
    pub method: Option<&'a str>,
    /// Of answers that are refusals.
    #[serde(rename = "errorCode", default)]
    pub code: i32,
    /// Likewise, for people.
    #[serde(rename = "errorReason", borrow, default)]
    pub reason: Option<std::borrow::Cow<'a, str>>,
    /// What belongs to the method.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    /// Reads one.
    pub fn read(text: &'a str) -> Result<Self, ClientError> {
        serde_json::from_str(text).map_err(|error| ClientError::Protocol(format!("{error}: {text}")))
    }

    /// Its data as a type.
    pub fn data<T: Deserialize<'a>>(&self) -> Result<T, ClientError> {
        let data = self.data.map_or("{}", RawValue::get);
        serde_json::from_str(data).map_err(|error| ClientError::Protocol(format!("{error}: {data}")))
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    request: bool,
    id: u64,
    method: &'a str,
    data: &'a T,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    next_id: u64,
}

impl Client {
    /// Connects. `room` is only for servers that want to know it in the address; `source` is the address to come from, where
    /// one has not enough ports.
    pub async fn connect(
        target: &Target,
        uid: &str,
        room: &str,
        source: Option<Ipv4Addr>,
    ) -> Result<Self, ClientError> {
        timeout(CONNECT_WITHIN, Self::open(target, uid, room, source)).await.map_err(|_| ClientError::TimedOut)?
    }

    async fn open(target: &Target, uid: &str, room: &str, source: Option<Ipv4Addr>) -> Result<Self, ClientError> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(target.edge).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{}/ws?peer={uid}&room={room}", target.edge).into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("protoo"));
        if let Some(token) = &target.token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            headers.insert("authorization", value.map_err(|error| ClientError::Protocol(error.to_string()))?);
        }
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        Ok(Self { socket, next_id: 1 })
    }

    /// Sends a request without waiting for its answer; gives its id.
    pub async fn send(&mut self, method: &str, data: &impl Serialize) -> Result<u64, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = Outgoing { request: true, id, method, data };
        let text = serde_json::to_string(&request).map_err(|error| ClientError::Protocol(error.to_string()))?;
        self.socket.send(Message::Text(text.into())).await?;
        Ok(id)
    }

    /// The next frame; waits for as long as it takes.
    pub async fn receive(&mut self) -> Result<Utf8Bytes, ClientError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(frame))) => {
                    return Err(ClientError::Closed(frame.map(|frame| frame.code.into())));
                }
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(ClientError::Closed(None)),
            }
        }
    }

    /// Sends a request and waits for its answer's frame; what comes before it is given to `other`.
    pub async fn request(
        &mut self,
        method: &str,
        data: &impl Serialize,
        mut other: impl FnMut(&Frame<'_>),
    ) -> Result<Utf8Bytes, ClientError> {
        let asked = async {
            let id = self.send(method, data).await?;
            loop {
                let text = self.receive().await?;
                let frame = Frame::read(&text)?;
                if !frame.response || frame.id != Some(id) {
                    other(&frame);
                    continue;
                }
                if !frame.ok {
                    let reason = frame.reason.unwrap_or_default().into_owned();
                    return Err(ClientError::Refused { code: frame.code, reason });
                }
                return Ok(text);
            }
        };
        timeout(ANSWER_WITHIN, asked).await.map_err(|_| ClientError::TimedOut)?
    }

    /// Receives for as long as the connection lasts, and lets everything go.
    pub async fn drain(mut self) -> ClientError {
        loop {
            if let Err(error) = self.receive().await {
                return error;
            }
        }
    }

    /// Closes in an orderly way; nothing is waited for but that it is sent.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    /// Cuts the connection as a dead network does to its far end: a reset, no farewell.
    pub fn cut(self) {
        // Whether or not it can be set: the socket is gone either way.
        let _ = self.socket.get_ref().set_zero_linger();
    }
}

/// `data` of a request that names a room and nothing else.
#[derive(Debug, Clone, Serialize)]
pub struct InRoom<'a> {
    /// The room.
    pub rid: &'a str,
}
