//! A microphone: publishes, sends, and publishes again when its stream is gone or wanted elsewhere. One that is to move is sent
//! until its successor is.

use std::sync::Arc;
use std::time::Instant;

use loadtests::peer::{PeerEvent, Section};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::negotiation::{Accepted, Failure, connect, negotiate};
use super::{MIGRATION_SPREAD, MOVE_WITHIN, OVERLAP, PACKET_EVERY, REQUEST_WITHIN, label};
use crate::account::Happened;
use crate::client::{Backoff, Client, Refusal, Standing};

/// A publisher. It stops sending when dropped.
#[derive(Debug)]
pub struct Publisher {
    state: watch::Receiver<State>,
    muted: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What it has.
#[derive(Debug, Clone, Default)]
struct State {
    mid: Option<String>,
    node: Option<String>,
    connected: bool,
    /// How often it has published.
    published: u64,
    /// The server knows what it wants it to know.
    settled: bool,
    failure: Option<String>,
}

impl Publisher {
    /// Publishes for this client from now on.
    pub fn start(client: &Arc<Client>) -> Self {
        let (told, state) = watch::channel(State::default());
        let (muted, wanted) = watch::channel(false);
        let task = Task { client: Arc::clone(client), state: told, muted: wanted };
        Self { state, muted, task: tokio::spawn(task.run()) }
    }

    /// Says whether it is muted. It goes on sending: gaps are measured all the same.
    pub fn mute(&self, muted: bool) {
        self.muted.send_replace(muted);
    }

    /// Its stream is there, flows, and is described as it should be.
    pub fn is_settled(&self) -> bool {
        let state = self.state.borrow();
        state.connected && state.settled
    }

    /// How often it has published.
    pub fn published(&self) -> u64 {
        self.state.borrow().published
    }

    /// Its stream's id, while it has one.
    pub fn mid(&self) -> Option<String> {
        self.state.borrow().mid.clone()
    }

    /// The node that carries it.
    pub fn node(&self) -> Option<String> {
        self.state.borrow().node.clone()
    }

    /// Why its last try failed.
    pub fn failure(&self) -> Option<String> {
        self.state.borrow().failure.clone()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a publisher's task and those of its former streams share.
#[derive(Clone)]
struct Task {
    client: Arc<Client>,
    state: watch::Sender<State>,
    muted: watch::Receiver<bool>,
}

/// Why a stream is sent no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The server does not have it.
    Gone,
    /// The server has it still, and wants it elsewhere.
    Unwanted,
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    async fn run(self) {
        let mut backoff = Backoff::default();
        let mut former: Option<(String, Owned)> = None;
        loop {
            let replaces = former.as_ref().map(|(mid, _)| mid.as_str());
            match self.publish(&mut backoff, replaces).await {
                Ok((End::Gone, accepted)) => {
                    // Unless it withdrew it, that needs a cause.
                    self.client.note(Happened::Missed(accepted.id.clone()));
                    take_back(&self.client, accepted).await;
                }
                Ok((End::Unwanted, accepted)) => {
                    let (mid, tail) = (accepted.id.clone(), self.clone().send_former(accepted));
                    former = Some((mid, Owned(tokio::spawn(tail))));
                }
                Err(Failure::Refused(Refusal::Ended)) => return,
                Err(failure) => {
                    self.state.send_modify(|state| state.failure = Some(failure.to_string()));
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// One stream, from the request until it is gone or to be replaced.
    async fn publish(&self, backoff: &mut Backoff, replaces: Option<&str>) -> Result<(End, Accepted), Failure> {
        let muted = *self.muted.borrow();
        let mut minfo = json!({"audio": true, "video": false, "label": "microphone"});
        minfo["muted"] = json!({"audio": muted, "video": false});
        if let Some(mid) = replaces {
            minfo["replaces"] = json!(mid);
        }
        let mut accepted = negotiate(&self.client, "publish", Section::SEND_AUDIO, json!({"minfo": minfo})).await?;
        self.client.note(Happened::Published { mid: accepted.id.clone(), minfo: minfo.clone() });
        self.state.send_modify(|state| {
            (state.mid, state.node) = (Some(accepted.id.clone()), Some(accepted.node.clone()));
            state.published += 1;
        });
        let mid = accepted.id.clone();
        let told = self.tell_muted(&mid, minfo);
        let flow = async {
            connect(&mut accepted).await?;
            self.state.send_modify(|state| (state.connected, state.failure) = (true, None));
            backoff.reset();
            self.send(&mut accepted).await
        };
        let ended = tokio::select! {
            ended = flow => ended,
            never = told => match never {},
        };
        self.state.send_modify(|state| (state.mid, state.node, state.connected) = (None, None, false));
        match ended {
            Ok(end) => Ok((end, accepted)),
            Err(failure) => {
                self.note_withdrawn(&accepted);
                take_back(&self.client, accepted).await;
                Err(failure)
            }
        }
    }

    /// Sends until the stream is gone or unwanted, and this client's turn among all who are told so has come.
    async fn send(&self, accepted: &mut Accepted) -> Result<End, Failure> {
        let (payload, standing) = (label(&self.client.uid), self.client.standing());
        let joins = standing.borrow().joins;
        let (mut next, mut until) = (Instant::now(), None);
        loop {
            let now = Instant::now();
            let is_gone = is_gone(&standing.borrow(), &accepted.id, joins);
            if until.is_none() && (is_gone || standing.borrow().unwanted.contains(&accepted.id)) {
                until = Some(now + MIGRATION_SPREAD.mul_f64(rand::random_range(0.0..1.0)));
            }
            if until.is_some_and(|until| until <= now) {
                return Ok(if is_gone { End::Gone } else { End::Unwanted });
            }
            next += PACKET_EVERY;
            if send_one(accepted, &payload, next).await? {
                return Ok(End::Gone);
            }
        }
    }

    /// Sends a stream that has been replaced until its viewers have had the time to follow.
    async fn send_former(self, mut accepted: Accepted) {
        let (payload, give_up) = (label(&self.client.uid), Instant::now() + MOVE_WITHIN);
        let (mut next, mut until) = (Instant::now(), None);
        while Instant::now() < until.unwrap_or(give_up) {
            if until.is_none() && self.state.borrow().connected {
                until = Some(Instant::now() + OVERLAP);
            }
            next += PACKET_EVERY;
            if send_one(&mut accepted, &payload, next).await.unwrap_or(true) {
                break;
            }
        }
        self.note_withdrawn(&accepted);
        take_back(&self.client, accepted).await;
    }

    /// Keeps the stream's description as it should be; never ends.
    async fn tell_muted(&self, mid: &str, mut minfo: Value) -> std::convert::Infallible {
        let mut wanted = self.muted.clone();
        loop {
            let muted = *wanted.borrow_and_update();
            if minfo["muted"]["audio"] != json!(muted) {
                self.state.send_modify(|state| state.settled = false);
                let data = json!({"mid": mid, "audio": muted});
                match self.client.request("mute", data, REQUEST_WITHIN, || ()).await {
                    // Not known to be done: told again, for it only sets something.
                    Err(refusal) if refusal.is_passing() => continue,
                    // The stream is gone.
                    Err(_) => {}
                    Ok(_) => {
                        minfo["muted"]["audio"] = json!(muted);
                        self.client.note(Happened::Changed { mid: mid.to_owned(), minfo: minfo.clone() });
                    }
                }
            }
            self.state.send_modify(|state| state.settled = true);
            if wanted.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Its owner will have it no more.
    fn note_withdrawn(&self, accepted: &Accepted) {
        self.client.note(Happened::Withdrawn(accepted.id.clone()));
    }
}

/// The old stream is taken back on the server, too, if it is still there.
async fn take_back(client: &Arc<Client>, mut accepted: Accepted) {
    let _ = accepted.peer.peer.close();
    let _ = accepted.peer.flush().await;
    let client = Arc::clone(client);
    tokio::spawn(async move {
        let _ = client.request("unpublish", json!({"mid": accepted.id}), REQUEST_WITHIN, || ()).await;
    });
}

/// Sends a packet and lets the peer live until `next`; true: the server has closed the connection.
async fn send_one(accepted: &mut Accepted, payload: &[u8], next: Instant) -> Result<bool, Failure> {
    let timestamp = accepted.peer.peer.rtp_timestamp(Instant::now(), 0);
    accepted.peer.peer.send(0, timestamp, false, payload);
    Ok(accepted.peer.run_until(next).await?.contains(&PeerEvent::Closed))
}

/// The server has told that the stream is gone, or, at a later join, that it does not have it.
fn is_gone(standing: &Standing, mid: &str, joins: u64) -> bool {
    standing.gone.contains(mid) || (standing.joins > joins && standing.joined && !standing.own.mids.contains(mid))
}
