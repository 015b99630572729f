//! A client's task: its connection, its membership, and the frames between it and an edge.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::socket::{self, Refused, Socket};
use super::{Backoff, Own, Refusal, Standing};
use crate::account::{Happened, Joined, Journal, Notice, Place, View};

/// As the SDK (client/src/link.ts): how often a client looks whether the server is there, how long it waits for the answer, and how
/// long a connection must have held to count as a success.
const PROBE_EVERY: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Writing a frame takes no time unless the other side reads nothing.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// The server's last word.
const CLOSE_FINAL: u16 = 4000;

type Reply = oneshot::Sender<Result<Value, Refusal>>;

/// What a client is told to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Send a request.
    Request { method: &'static str, data: Value, reply: Reply },
    /// The server says that it is no member any more.
    JoinAgain,
    /// Drop the connection.
    Cut,
}

/// What a request of the present connection is for.
enum Asked {
    Join { since: Option<Place> },
    KeepAlive,
    Leave(Reply),
    Request(Reply),
}

/// Whether the client is to be in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    Here,
    /// It has asked to leave. Nothing else is asked any more: what is carried out after that is refused, and a member that hears so joins
    /// again.
    Leaving,
    /// The server has let it go.
    Gone,
}

/// How a connection ended.
enum End {
    Lost(Option<u16>),
    Final(String),
    /// Nobody holds the client any more.
    Dropped,
}

pub(super) struct Actor {
    uid: Arc<str>,
    room: Arc<str>,
    edges: Vec<SocketAddr>,
    journal: Arc<Mutex<Journal>>,
    standing: watch::Sender<Standing>,
    orders: mpsc::Receiver<Order>,
    session: Option<String>,
    next_id: u64,
    asked: HashMap<u64, Asked>,
    joining: bool,
    stays: Stays,
    /// What was told while a join was under way, or of an epoch that only a join tells: its answer may have it or not.
    holding: bool,
    held: Vec<(Place, Notice)>,
    /// When to join again after a refusal.
    join_at: Option<Instant>,
    join_backoff: Backoff,
    probe_at: Instant,
    answer_by: Option<Instant>,
}

impl Actor {
    pub(super) fn new(
        uid: &Arc<str>,
        room: &Arc<str>,
        edges: &[SocketAddr],
        journal: Arc<Mutex<Journal>>,
        standing: watch::Sender<Standing>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self {
            uid: Arc::clone(uid),
            room: Arc::clone(room),
            edges: edges.to_vec(),
            journal,
            standing,
            orders,
            session: None,
            next_id: 0,
            asked: HashMap::new(),
            joining: false,
            stays: Stays::Here,
            holding: false,
            held: Vec::new(),
            join_at: None,
            join_backoff: Backoff::default(),
            probe_at: Instant::now(),
            answer_by: None,
        }
    }

    /// Until the server's last word, or until nobody holds the client.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let opened = socket::open(&self.edges, &self.uid).await;
            let least = match opened {
                Ok(socket) => {
                    let since = Instant::now();
                    let end = self.serve(socket).await;
                    self.lost();
                    match end {
                        End::Lost(code) => self.note(Happened::Lost(code)),
                        End::Final(reason) => return self.ended(reason),
                        End::Dropped => return,
                    }
                    if self.stays == Stays::Gone {
                        return;
                    }
                    if since.elapsed() >= STEADY_AFTER {
                        backoff.reset();
                    }
                    Duration::ZERO
                }
                Err(Refused { retry_after, statuses }) => {
                    for status in statuses {
                        self.note(Happened::TurnedAway(status));
                    }
                    retry_after.unwrap_or_default()
                }
            };
            if !self.rest(backoff.next().max(least)).await {
                return;
            }
        }
    }

    /// Lets time pass without a connection; false: nobody holds the client any more.
    async fn rest(&mut self, pause: Duration) -> bool {
        let until = sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                order = self.orders.recv() => match order {
                    Some(Order::Request { reply, .. }) => _ = reply.send(Err(Refusal::Unanswered)),
                    Some(_) => {}
                    None => return false,
                }
            }
        }
    }

    async fn serve(&mut self, mut socket: Socket) -> End {
        self.probe_at = Instant::now() + PROBE_EVERY;
        self.answer_by = None;
        self.join_at = Some(Instant::now());
        loop {
            let wake = [Some(self.probe_at), self.answer_by, self.join_at].into_iter().flatten().min();
            let wake = wake.unwrap_or(self.probe_at);
            let going = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(message)) => self.handle_message(message),
                    Some(Err(_)) | None => Err(End::Lost(None)),
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.handle_order(&mut socket, order).await,
                    None => Err(End::Dropped),
                },
                () = sleep_until(wake) => self.handle_time(&mut socket).await,
            };
            if let Err(end) = going {
                return end;
            }
        }
    }

    async fn handle_time(&mut self, socket: &mut Socket) -> Result<(), End> {
        let now = Instant::now();
        if self.answer_by.is_some_and(|by| by <= now) {
            return Err(End::Lost(None));
        }
        if self.join_at.is_some_and(|at| at <= now) {
            self.join_at = None;
            self.join(socket).await?;
        }
        if self.probe_at <= now {
            self.probe_at = now + PROBE_EVERY;
            self.answer_by.get_or_insert(now + ANSWER_WITHIN);
            self.send(socket, "keepalive", json!({"rid": *self.room}), Asked::KeepAlive).await?;
        }
        Ok(())
    }

    async fn handle_order(&mut self, socket: &mut Socket, order: Order) -> Result<(), End> {
        match order {
            Order::Cut => return Err(End::Lost(None)),
            Order::JoinAgain => self.join_again(),
            Order::Request { reply, .. } if !self.standing.borrow().joined => {
                let _ = reply.send(Err(Refusal::Unanswered));
            }
            Order::Request { method: "leave", data, reply } => {
                self.stays = Stays::Leaving;
                self.send(socket, "leave", data, Asked::Leave(reply)).await?;
            }
            Order::Request { reply, .. } if self.stays != Stays::Here => _ = reply.send(Err(Refusal::Ended)),
            Order::Request { method, data, reply } => self.send(socket, method, data, Asked::Request(reply)).await?,
        }
        Ok(())
    }

    async fn join(&mut self, socket: &mut Socket) -> Result<(), End> {
        let since = self.session.as_ref().and_then(|_| self.standing.borrow().place.clone());
        let mut data = json!({"rid": *self.room});
        if let Some(session) = &self.session {
            data["session"] = json!(session);
        }
        if let Some(Place { epoch, seq }) = &since {
            data["since"] = json!({"epoch": **epoch, "seq": seq});
        }
        (self.joining, self.holding) = (true, true);
        self.note(Happened::Joining);
        self.send(socket, "join", data, Asked::Join { since }).await
    }

    /// Joins on the present connection: the server has forgotten us, or is in another epoch.
    fn join_again(&mut self) {
        if !self.joining && self.join_at.is_none() && self.stays != Stays::Gone {
            self.standing.send_modify(|standing| standing.joined = false);
            self.join_at = Some(Instant::now());
        }
    }

    async fn send(&mut self, socket: &mut Socket, method: &str, data: Value, asked: Asked) -> Result<(), End> {
        self.next_id += 1;
        let frame = json!({"request": true, "id": self.next_id, "method": method, "data": data});
        self.asked.insert(self.next_id, asked);
        match timeout(WRITE_WITHIN, socket.send(Message::text(frame.to_string()))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Lost(None)),
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.handle_frame(&text),
            Message::Close(Some(frame)) if u16::from(frame.code) == CLOSE_FINAL => {
                return Err(End::Final(frame.reason.to_string()));
            }
            Message::Close(frame) => return Err(End::Lost(frame.map(|frame| frame.code.into()))),
            _ => {}
        }
        Ok(())
    }

    fn handle_frame(&mut self, text: &str) {
        self.answer_by = None;
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return self.note(Happened::Unreadable(text.to_owned()));
        };
        if frame["response"] == true {
            let asked = frame["id"].as_u64().and_then(|id| self.asked.remove(&id));
            match asked {
                Some(asked) => self.handle_answer(asked, &frame),
                None => self.note(Happened::Unreadable(format!("an answer to nothing: {text}"))),
            }
        } else if frame["notification"] == true {
            self.handle_notification(&frame, text);
        } else {
            self.note(Happened::Unreadable(text.to_owned()));
        }
    }

    fn handle_answer(&mut self, asked: Asked, frame: &Value) {
        let result = if frame["ok"] == true {
            Ok(frame["data"].clone())
        } else {
            let code = frame["errorCode"].as_i64().unwrap_or_default();
            Err(Refusal::Answered(code, frame["errorReason"].as_str().unwrap_or_default().to_owned()))
        };
        match (asked, result) {
            (Asked::Leave(reply), result) => {
                if result.is_ok() {
                    self.stays = Stays::Gone;
                }
                let _ = reply.send(result);
            }
            (Asked::Request(reply), result) => _ = reply.send(result),
            (Asked::KeepAlive, Err(Refusal::Answered(code, _))) => {
                self.note(Happened::Refused("keepalive", code));
                if code == 2 {
                    self.join_again();
                }
            }
            (Asked::KeepAlive, _) => {}
            (Asked::Join { since }, Ok(answer)) => self.handle_joined(since, &answer),
            (Asked::Join { .. }, Err(refusal)) => {
                if let Refusal::Answered(code, _) = refusal {
                    self.note(Happened::Refused("join", code));
                }
                self.joining = false;
                self.join_at = Some(Instant::now() + self.join_backoff.next());
            }
        }
    }

    fn handle_joined(&mut self, since: Option<Place>, answer: &Value) {
        self.joining = false;
        let read = || -> Result<(Joined, Own), String> {
            let place = Place::read(answer).map_err(|error| error.to_string())?;
            let view = View::read(answer).map_err(|error| error.to_string())?;
            let ids = |list: &Value, key: &str| {
                let ids = list.as_array().into_iter().flatten().filter_map(|entry| entry[key].as_str());
                ids.map(str::to_owned).collect()
            };
            let own = Own { mids: ids(&answer["own"]["pubs"], "mid"), sids: ids(&answer["own"]["subs"], "sid") };
            if answer["rest"].as_u64().unwrap_or(0) > 0 || answer["own"]["more"] == true {
                return Err(format!("the rig's rooms are small, and this is in parts: {answer}"));
            }
            let resync = answer["resync"] == true;
            Ok((Joined { since, place, resync, view, own: own.mids.clone() }, own))
        };
        let (joined, own) = match read() {
            Ok(read) => read,
            Err(error) => return self.note(Happened::Unreadable(error)),
        };
        self.session = answer["session"].as_str().map(str::to_owned);
        self.join_backoff.reset();
        self.note(Happened::Joined(joined.clone()));
        self.holding = false;
        let held = std::mem::take(&mut self.held);
        self.standing.send_modify(|standing| {
            standing.joined = true;
            standing.joins += 1;
            standing.own = own;
            if !joined.is_resumed() {
                (standing.view, standing.place) = (joined.view, Some(joined.place.clone()));
            }
            for (place, notice) in held {
                if place.epoch == joined.place.epoch && Some(&place) > standing.place.as_ref() {
                    standing.handle_notice(&self.uid, place, &notice);
                }
            }
        });
    }

    fn handle_notification(&mut self, frame: &Value, text: &str) {
        let (method, data) = (frame["method"].as_str().unwrap_or_default(), &frame["data"]);
        match (Notice::read(method, data), method) {
            (Ok(Some((place, notice))), _) => self.handle_notice(place, notice),
            (Ok(None), "stream-migrate") => match data["mid"].as_str() {
                Some(mid) => {
                    // A stream that is gone already is told of here, too, for clients that look no further.
                    if data["reason"] != "node_lost" {
                        self.note(Happened::Unwanted(mid.to_owned()));
                    }
                    self.standing.send_modify(|standing| _ = standing.unwanted.insert(mid.to_owned()));
                }
                None => self.note(Happened::Unreadable(text.to_owned())),
            },
            (Ok(None), "peer-kick" | "own" | "token-expiring" | "speakers") => {}
            (Ok(None) | Err(_), _) => self.note(Happened::Unreadable(text.to_owned())),
        }
    }

    fn handle_notice(&mut self, place: Place, notice: Notice) {
        let known = self.standing.borrow().place.clone();
        self.note(Happened::Told(place.clone(), notice.clone()));
        if known.as_ref().is_some_and(|known| known.epoch != place.epoch) {
            self.holding = true;
            self.join_again();
        }
        if self.holding {
            self.held.push((place, notice));
        } else if known.is_none_or(|known| place > known) {
            self.standing.send_modify(|standing| standing.handle_notice(&self.uid, place, &notice));
        }
    }

    /// The connection is gone, and with it what it was asked.
    fn lost(&mut self) {
        self.joining = false;
        self.join_at = None;
        self.holding = false;
        self.held.clear();
        for (_, asked) in self.asked.drain() {
            if let Asked::Leave(reply) | Asked::Request(reply) = asked {
                let _ = reply.send(Err(Refusal::Unanswered));
            }
        }
        self.standing.send_modify(|standing| standing.joined = false);
    }

    fn ended(&mut self, reason: String) {
        self.note(Happened::Ended(reason.clone()));
        self.standing.send_modify(|standing| standing.ended = Some(reason));
    }

    fn note(&self, happened: Happened) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).note(happened);
    }
}
