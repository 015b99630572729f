//! A raw client: a WebSocket and JSON, nothing of ours.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::rig::PATIENCE;

/// The sections of an offer with a microphone.
pub(crate) const AUDIO: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\n";

/// A connected client.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) response: Response<Option<Vec<u8>>>,
    waiting: VecDeque<Value>,
    next_id: u64,
}

impl Client {
    /// Connects as `peer`.
    pub(crate) async fn connect(edge: SocketAddr, peer: &str) -> Self {
        Self::with(edge, &format!("peer={peer}"), &[]).await.expect("connects")
    }

    /// Connects with this query and these headers.
    pub(crate) async fn with(edge: SocketAddr, query: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{edge}/ws?{query}").into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        let (socket, response) = timeout(PATIENCE, connect_async(request)).await.expect("connects in time")?;
        Ok(Self { socket, response, waiting: VecDeque::new(), next_id: 0 })
    }

    /// Connects and joins.
    pub(crate) async fn joined(edge: SocketAddr, peer: &str, rid: &str) -> Self {
        let mut client = Self::connect(edge, peer).await;
        client.done("join", json!({"rid": rid})).await;
        client
    }

    pub(crate) async fn send(&mut self, method: &str, data: &Value) -> u64 {
        self.next_id += 1;
        let frame = json!({"request": true, "id": self.next_id, "method": method, "data": data});
        self.send_message(Message::text(frame.to_string())).await;
        self.next_id
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.expect("sent in time").expect("sent");
    }

    /// The answer to a request; what comes before it stays.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        let is_it = |frame: &Value| frame["response"] == true && frame["id"] == id;
        self.find(is_it).await
    }

    /// The answer to a request, or how the connection ended instead.
    pub(crate) async fn answer_or_close(&mut self, id: u64) -> Result<Value, (u16, String)> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("in time") {
                Some(Ok(Message::Close(Some(frame)))) => return Err((frame.code.into(), frame.reason.to_string())),
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    if frame["response"] == true && frame["id"] == id {
                        return Ok(frame);
                    }
                    self.waiting.push_back(frame);
                }
                Some(Ok(_)) => {}
                other => panic!("ended without a close frame: {other:?}"),
            }
        }
    }

    pub(crate) async fn ask(&mut self, method: &str, data: Value) -> Value {
        let id = self.send(method, &data).await;
        self.answer(id).await
    }

    /// `data` of a request that must be carried out.
    pub(crate) async fn done(&mut self, method: &str, data: Value) -> Value {
        let answer = self.ask(method, data).await;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
        answer["data"].clone()
    }

    /// The code of a request that must be refused.
    pub(crate) async fn refused(&mut self, method: &str, data: Value) -> i64 {
        let answer = self.ask(method, data).await;
        assert_eq!(answer["ok"], false, "{method}: {answer}");
        answer["errorCode"].as_i64().expect("a number")
    }

    /// `data` of the next notification of that method; others stay.
    pub(crate) async fn notified(&mut self, method: &str) -> Value {
        self.find(|frame| frame["notification"] == true && frame["method"] == method).await["data"].clone()
    }

    /// All notifications that came before this moment: an answered request draws the line.
    pub(crate) async fn heard(&mut self) -> Vec<(String, Value)> {
        self.ask("nothing", json!({})).await;
        let frames = std::mem::take(&mut self.waiting);
        frames.into_iter().map(|f| (f["method"].as_str().expect("text").to_owned(), f["data"].clone())).collect()
    }

    pub(crate) async fn publish(&mut self, rid: &str) -> Value {
        self.ask("publish", json!({"rid": rid, "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}}))
            .await
    }

    pub(crate) async fn subscribe(&mut self, rid: &str, mid: &Value) -> Value {
        self.ask("subscribe", json!({"rid": rid, "mid": mid, "jsep": {"type": "offer", "sdp": AUDIO}})).await
    }

    /// Waits until the edge has pinged this often, answering each time.
    pub(crate) async fn pinged(&mut self, times: usize) {
        let mut pings = 0;
        while pings < times {
            match timeout(PATIENCE, self.socket.next()).await.expect("in time").expect("open").expect("open") {
                Message::Ping(_) => pings += 1,
                Message::Text(text) => self.waiting.push_back(serde_json::from_str(&text).expect("JSON")),
                _ => {}
            }
        }
    }

    /// Lets time pass as a client that is connected: answers pings, and keeps what comes.
    pub(crate) async fn idle(&mut self, time: Duration) {
        let reading = async {
            loop {
                match self.socket.next().await.expect("open").expect("open") {
                    Message::Text(text) => self.waiting.push_back(serde_json::from_str(&text).expect("JSON")),
                    Message::Close(frame) => panic!("closed: {frame:?}"),
                    _ => {}
                }
            }
        };
        let ended = timeout(time, reading).await;
        ended.map(|never: std::convert::Infallible| match never {}).expect_err("it goes on");
    }

    /// Waits until the edge closes: code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("closed in time");
            match message {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Text(text))) => self.waiting.push_back(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(_)) => {}
                other => panic!("ended without a close frame: {other:?}"),
            }
        }
    }

    /// Waits until the connection has ended, in whatever way.
    pub(crate) async fn ended(&mut self) {
        let ended = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(PATIENCE, ended).await.expect("ended in time");
    }

    /// Whether the edge still answers, rather than having closed.
    pub(crate) async fn survives(mut self) -> bool {
        self.send("nothing", &json!({})).await;
        let next = async {
            while let Some(Ok(message)) = self.socket.next().await {
                match message {
                    Message::Text(_) => return true,
                    Message::Close(_) => return false,
                    _ => {}
                }
            }
            false
        };
        timeout(PATIENCE, next).await.expect("an answer or an end in time")
    }

    async fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.waiting.iter().position(&is_it) {
            return self.waiting.remove(index).expect("it is there");
        }
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("in time").expect("open").expect("open");
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if is_it(&frame) {
                    return frame;
                }
                self.waiting.push_back(frame);
            }
        }
    }
}
