//! Clients, a store, an SFU and a clock that only moves when told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use proto::ids::{BootId, Epoch, NodeId, PeerId, Position, RegionId, RoomId, Seq};
use proto::refusal::NoRecording;
use proto::sfu::{NegotiateRequest, NegotiateResponse, NegotiatedPublication, RestartResponse};
use proto::signalling::Dropped;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use room_store::{
    Attachment, ConnectionId, EndedBy, FeedItem, LogRead, MemoryRooms, Placement, Released, RoomEvent, RoomFeed,
    RoomSettings, RoomStore, SessionSigner, SetRecording, StoreError, follow,
};
use serde_json::{Value, json};

use crate::admission::NotAdmitted;
use crate::auth::{Access, TokenError};
use crate::metrics::Limit;
use crate::nodes::SfuError;
use crate::notice::{Notice, Signal};
use crate::presence;
use crate::rate::{Rate, SharedBucket};
use crate::room_rates::{RoomLimits, RoomRates};
use crate::session::{
    Command, CommandId, Completion, Detached, Identity, Note, Output, Pace, Proof, Rest, Session, SessionConfig,
    Subject,
};
use crate::settings::RecordingSettings;

/// An offer that sends a microphone.
pub(super) const AUDIO: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\n";
/// One that sends a camera, too.
pub(super) const BOTH: &str =
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendonly\r\n";

/// How an SFU node answers.
#[derive(Debug, Clone)]
pub(super) enum Sfu {
    /// It takes everything.
    Works,
    /// Each call fails like this.
    Fails(SfuError),
    /// It takes the audio of everything, and no video.
    AudioOnly,
    /// It takes everything, with an answer too long for any frame.
    Longwinded,
}

/// A command that a session waits for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: CommandId,
    pub(super) deadline: Instant,
    pub(super) command: Command,
}

/// One client with its session.
pub(super) struct Client {
    pub(super) session: Session,
    connection: ConnectionId,
    pub(super) running: VecDeque<Running>,
    /// Frames sent to it, not looked at yet.
    pub(super) sent: VecDeque<Value>,
    pub(super) longest_frame: usize,
    /// It takes what follows its joins' answers only when told to.
    pub(super) is_slow: bool,
    rests: VecDeque<Box<Rest>>,
    pub(super) pings: usize,
    pub(super) closed: Option<(u16, &'static str)>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) limited: Vec<Limit>,
    /// Methods of requests that were answered, with what they are said to be about.
    pub(super) answered: Vec<(Option<&'static str>, Subject)>,
    /// Traces of internal errors, where they are expected.
    pub(super) traces: Option<Vec<String>>,
    pub(super) detached: Vec<Detached>,
    pub(super) touched: usize,
    feeds: HashMap<RoomId, Feed>,
    next_id: u64,
}

struct Feed {
    feed: RoomFeed,
    delivering: bool,
}

/// Rooms that may be told whatever comes.
pub(super) fn unlimited_rooms() -> RoomLimits {
    let [messages, broadcast_bytes, joins] =
        [1_000_000, 1_000_000_000, 1_000_000].map(|most| RoomRates::new(Rate::new(most, most)));
    RoomLimits { messages, broadcast_bytes, joins }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) store: MemoryRooms,
    /// What store calls fail with, if they do.
    pub(super) store_fails: Option<StoreError>,
    pub(super) nodes: BTreeMap<&'static str, Sfu>,
    /// Transports closed on nodes.
    pub(super) closed_transports: Vec<String>,
    pub(super) offered: Vec<NegotiateRequest>,
    /// Whether nodes record, and why not.
    pub(super) records: Result<(), SfuError>,
    /// The recording that lacks what a further offer has added.
    pub(super) outgrown: Option<String>,
    /// What nodes were told of recordings: which, and whether it begins.
    pub(super) told_to_record: Vec<(String, bool)>,
    /// What tokens prove.
    pub(super) proofs: HashMap<&'static str, Result<Proof, NotAdmitted>>,
    config: Arc<SessionConfig>,
    connections: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_rate(Rate::new(1_000_000, 1_000_000))
    }

    pub(super) fn with_rate(rate: Rate) -> Self {
        Self::with(rate, Duration::from_mins(1))
    }

    /// Sessions live this long unseen.
    pub(super) fn with_ttl(ttl: Duration) -> Self {
        Self::with(Rate::new(1_000_000, 1_000_000), ttl)
    }

    fn with(rate: Rate, ttl: Duration) -> Self {
        Self::of(Self::config(rate, ttl))
    }

    /// What is limited is so by this alone.
    pub(super) fn config(rate: Rate, ttl: Duration) -> SessionConfig {
        SessionConfig {
            edge: "edge-1".parse().expect("valid"),
            sessions: SessionSigner::new(&[7; 32]).expect("long enough"),
            grace: Duration::from_secs(30),
            pace: Pace::of(ttl),
            max_rooms: 3,
            rate,
            edge_requests: SharedBucket::new(Rate::new(1_000_000, 1_000_000), Instant::now()),
            room_limits: unlimited_rooms(),
            recording: RecordingSettings::default(),
            reading: rate,
        }
    }

    pub(super) fn of(config: SessionConfig) -> Self {
        Self {
            now: Instant::now(),
            store: MemoryRooms::new(RoomSettings::default()),
            store_fails: None,
            nodes: [("sfu-1", Sfu::Works)].into(),
            closed_transports: Vec::new(),
            offered: Vec::new(),
            records: Ok(()),
            outgrown: None,
            told_to_record: Vec::new(),
            proofs: [("good", Ok(Proof { access: Arc::new(Access::unrestricted()), expires_at: None }))].into(),
            config: Arc::new(config),
            connections: 0,
        }
    }

    pub(super) fn client(&mut self, name: &str) -> Client {
        self.client_with(name, Access::unrestricted(), None)
    }

    pub(super) fn client_with(&mut self, name: &str, access: Access, expires_at: Option<Instant>) -> Client {
        let shared = Arc::new(presence::Shared::new(SharedBucket::new(self.config.rate, self.now)));
        self.client_of(name, Proof { access: Arc::new(access), expires_at }, shared)
    }

    /// One that shares with others of its uid.
    pub(super) fn client_of(&mut self, name: &str, proof: Proof, shared: Arc<presence::Shared>) -> Client {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let peer = PeerId::new(name).expect("valid");
        let identity = Identity { peer, connection, region: None, proof, opened_ms: 0, shared };
        let rng = StdRng::seed_from_u64(self.connections);
        Client {
            session: Session::new(Arc::clone(&self.config), identity, rng, self.now),
            connection,
            running: VecDeque::new(),
            sent: VecDeque::new(),
            longest_frame: 0,
            is_slow: false,
            rests: VecDeque::new(),
            pings: 0,
            closed: None,
            dropped: Vec::new(),
            limited: Vec::new(),
            answered: Vec::new(),
            traces: None,
            detached: Vec::new(),
            touched: 0,
            feeds: HashMap::new(),
            next_id: 0,
        }
    }

    /// Sends a request without carrying anything out; its id.
    pub(super) fn send(&mut self, client: &mut Client, method: &str, data: &Value) -> u64 {
        client.next_id += 1;
        let id = client.next_id;
        let frame = json!({"request": true, "id": id, "method": method, "data": data});
        self.send_text(client, &frame.to_string());
        id
    }

    pub(super) fn send_text(&mut self, client: &mut Client, text: &str) {
        client.session.handle_text(self.now, text);
        self.collect(client);
    }

    /// Sends a request, carries out all that follows, and takes its answer.
    pub(super) fn ask(&mut self, client: &mut Client, method: &str, data: &Value) -> Value {
        let id = self.send(client, method, data);
        self.settle(client);
        client.answer(id)
    }

    /// The `data` of a request that must be carried out.
    pub(super) fn done(&mut self, client: &mut Client, method: &str, data: &Value) -> Value {
        let answer = self.ask(client, method, data);
        assert_eq!(answer["ok"], true, "{method} {data}: {answer}");
        answer["data"].clone()
    }

    /// The error code and name of a request that must be refused.
    pub(super) fn refused(&mut self, client: &mut Client, method: &str, data: &Value) -> (i64, String) {
        let answer = self.ask(client, method, data);
        assert_eq!(answer["ok"], false, "{method} {data}: {answer}");
        assert!(!answer["errorReason"].as_str().expect("a reason").is_empty());
        (answer["errorCode"].as_i64().expect("a number"), answer["error"].as_str().expect("a name").to_owned())
    }

    pub(super) fn join(&mut self, client: &mut Client, rid: &str) -> Value {
        self.done(client, "join", &json!({"rid": rid}))
    }

    pub(super) fn publish(&mut self, client: &mut Client, rid: &str) -> String {
        let minfo = json!({"audio": true, "video": false});
        let data = json!({"rid": rid, "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": minfo});
        self.done(client, "publish", &data)["mid"].as_str().expect("a mid").to_owned()
    }

    pub(super) fn subscribe(&mut self, client: &mut Client, rid: &str, mid: &str) -> String {
        let data = json!({"rid": rid, "mid": mid, "jsep": {"type": "offer", "sdp": AUDIO}});
        self.done(client, "subscribe", &data)["sid"].as_str().expect("a sid").to_owned()
    }

    /// Carries out everything that waits, until nothing does.
    pub(super) fn settle(&mut self, client: &mut Client) {
        while let Some(running) = client.running.pop_front() {
            let completion = self.execute(client, running.command);
            self.complete(client, running.id, completion);
        }
        for detached in std::mem::take(&mut client.detached) {
            self.detached(client, detached);
        }
    }

    pub(super) fn complete(&mut self, client: &mut Client, id: CommandId, completion: Completion) {
        client.session.handle_completion(self.now, id, completion);
        self.collect(client);
    }

    /// Hands in what the client's rooms have told.
    pub(super) fn hear(&mut self, client: &mut Client) {
        let mut signals = Vec::new();
        for (room, feed) in client.feeds.iter_mut().filter(|(_, feed)| feed.delivering) {
            while let Some(Some(item)) = feed.feed.next().now_or_never() {
                signals.push((room.clone(), signal(room, item)));
            }
        }
        for (room, signal) in signals {
            client.session.handle_signal(&room, &signal);
        }
        self.collect(client);
    }

    /// Hands in what one of the client's rooms has told.
    pub(super) fn hear_one(&mut self, client: &mut Client, rid: &str) {
        let room = RoomId::new(rid).expect("valid");
        let feed = client.feeds.get_mut(&room).expect("followed");
        let mut signals = Vec::new();
        while let Some(Some(item)) = feed.feed.next().now_or_never() {
            signals.push(signal(&room, item));
        }
        for signal in signals {
            client.session.handle_signal(&room, &signal);
        }
        self.collect(client);
    }

    /// Lets time pass, with everything that falls due in it.
    pub(super) fn pass(&mut self, client: &mut Client, time: Duration) {
        let end = self.now + time;
        while let Some(due) = client.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            client.session.handle_timeout(self.now);
            self.collect(client);
        }
        self.now = end;
    }

    pub(super) fn collect(&mut self, client: &mut Client) {
        while let Some(output) = client.session.poll_output() {
            match output {
                Output::Send(frame) => client.take(&frame),
                Output::SendRest(rest) => {
                    client.rests.push_back(rest);
                    if !client.is_slow {
                        self.take_rest(client);
                    }
                }
                Output::Ping => client.pings += 1,
                Output::Close { code, reason } => {
                    assert!(client.closed.replace((code, reason)).is_none(), "closed once");
                }
                Output::Run { id, deadline, command, .. } => {
                    assert!(deadline > self.now, "a command with no time left");
                    client.running.push_back(Running { id, deadline, command });
                }
                Output::Detach(detached, _) => client.detached.push(detached),
                Output::Park(room) => {
                    if let Some(feed) = client.feeds.get_mut(&room) {
                        feed.delivering = false;
                    }
                }
                Output::Deliver { actor, .. } => {
                    client.feeds.get_mut(&actor.room).expect("followed").delivering = true;
                }
                Output::Unfollow(room) => drop(client.feeds.remove(&room)),
                Output::Touch => client.touched += 1,
                Output::Note(Note::Dropped { why, .. }) => client.dropped.push(why),
                Output::Note(Note::Internal { what, trace, .. }) => match &mut client.traces {
                    Some(traces) => traces.push(trace.id().to_string()),
                    None => panic!("internal error: {what}"),
                },
                Output::Note(Note::Limited(limit)) => client.limited.push(limit),
                Output::Note(Note::Answered { method, subject, .. }) => client.answered.push((method, subject)),
                Output::Note(_) => {}
            }
        }
    }

    /// The client takes what followed one of its joins' answers.
    pub(super) fn take_rest(&mut self, client: &mut Client) {
        let mut rest = client.rests.pop_front().expect("something followed");
        loop {
            for frame in rest.by_ref() {
                client.take(&frame);
            }
            let Some(after) = rest.later() else { break };
            match now(self.store.log_after(rest.room(), after, None, follow::READ_LIMIT)).expect("works") {
                LogRead::Entries(entries) => rest.go_on(entries),
                lost @ LogRead::Lost { .. } => panic!("{lost:?}"),
            }
        }
        client.session.handle_rest_sent(self.now);
        self.collect(client);
    }

    /// Carries out a command as the shell would.
    pub(super) fn execute(&mut self, client: &mut Client, command: Command) -> Completion {
        if let Command::Join(join) = &command {
            let feed = now(self.store.subscribe(&join.room)).expect("works");
            client.feeds.entry(join.room.clone()).or_insert(Feed { feed, delivering: false });
        }
        if let Some(failure) = self.store_fails.and_then(|error| command.failed(error)) {
            return failure;
        }
        let store = self.store.clone();
        match command {
            Command::Join(join) => Completion::Joined(now(store.join(join)).map(Box::new)),
            Command::Leave { actor, op } => Completion::Left(now(store.leave(actor, op))),
            Command::Refresh { room, hold } => {
                Completion::Refreshed(now(store.refresh(&room, &self.config.edge, vec![hold])))
            }
            Command::Prove { token, .. } => {
                let unknown = Err(NotAdmitted::Token(TokenError::Invalid));
                Completion::Proven(self.proofs.get(token.0.as_str()).cloned().unwrap_or(unknown))
            }
            Command::Candidates { avoid, .. } => Completion::Candidates(self.candidates(&avoid)),
            Command::ReservePublication(request) => Completion::Publication(now(store.reserve_publication(request))),
            Command::ConfirmPublication { actor, mid } => {
                Completion::Publication(now(store.confirm_publication(actor, &mid)))
            }
            Command::RemovePublication { actor, mid } => {
                Completion::Released(now(store.remove_publication(&mid, EndedBy::Client(actor))))
            }
            Command::Mute { actor, mid, audio, video } => {
                let attachment = Attachment { edge: self.config.edge.clone(), connection: client.connection };
                Completion::Publication(now(store.mute(actor, attachment, &mid, audio, video)))
            }
            Command::SetRecording(request) => Completion::Publication(now(store.set_recording(request))),
            Command::Record { node, request } => {
                let is_outgrown = request.on && self.outgrown.as_ref() == Some(&request.recording_id);
                self.told_to_record.push((request.recording_id, request.on));
                if is_outgrown {
                    return Completion::Recorded(Err(SfuError::NoRecording(NoRecording::Outgrown)));
                }
                Completion::Recorded(match (&self.nodes[node.as_str()], &self.records) {
                    (Sfu::Fails(error), _) | (_, Err(error)) => Err(error.clone()),
                    _ => Ok(()),
                })
            }
            Command::ReserveSubscription(request) => Completion::Reserved(now(store.reserve_subscription(request))),
            Command::ConfirmSubscription { actor, sid } => {
                Completion::Subscription(now(store.confirm_subscription(actor, &sid)))
            }
            Command::RemoveSubscription { actor, sid } => {
                Completion::Released(now(store.remove_subscription(&sid, EndedBy::Client(actor))))
            }
            Command::Broadcast(broadcast) => Completion::Said(now(store.broadcast(broadcast))),
            Command::Members { actor, after, limit } => Completion::Members(now(store.members(actor, after, limit))),
            Command::Publications { actor, after, limit } => {
                Completion::Publications(now(store.publications(actor, after, limit)))
            }
            Command::Publication { actor, mid } => Completion::Publication(now(store.publication(actor, &mid))),
            Command::Subscription { actor, sid } => Completion::Subscription(now(store.subscription(actor, &sid))),
            Command::Negotiate { node, request } => Completion::Negotiated(self.negotiate(&node, request)),
            Command::Restart { node, .. } => Completion::Restarted(match &self.nodes[node.as_str()] {
                Sfu::Fails(error) => Err(error.clone()),
                Sfu::Works | Sfu::AudioOnly | Sfu::Longwinded => Ok(RestartResponse { answer_sdp: "restarted".into() }),
            }),
        }
    }

    fn candidates(&self, avoid: &[NodeId]) -> Vec<Placement> {
        let nodes = self.nodes.keys().map(|name| NodeId::new(name).expect("valid"));
        let region = RegionId::new("here").expect("valid");
        nodes
            .filter(|node| !avoid.contains(node))
            .map(|node| Placement { node, boot: BootId::of(1), region: region.clone() })
            .collect()
    }

    fn negotiate(&mut self, node: &NodeId, request: NegotiateRequest) -> Result<NegotiateResponse, SfuError> {
        let sfu = self.nodes[node.as_str()].clone();
        let publications = request.publications.iter().map(|binding| NegotiatedPublication {
            publication_id: binding.publication_id.clone(),
            audio: binding.audio && request.offer_sdp.contains("m=audio"),
            video: binding.video && request.offer_sdp.contains("m=video") && !matches!(sfu, Sfu::AudioOnly),
        });
        let publications = publications.collect();
        self.offered.push(request);
        match sfu {
            Sfu::Fails(error) => Err(error),
            Sfu::Works | Sfu::AudioOnly => Ok(NegotiateResponse { answer_sdp: "answer".into(), publications }),
            Sfu::Longwinded => Ok(NegotiateResponse { answer_sdp: "x".repeat(128 * 1024), publications }),
        }
    }

    fn detached(&mut self, client: &Client, detached: Detached) {
        let released = match detached {
            Detached::SocketClosed { actor, for_good } => {
                let attachment = Attachment { edge: self.config.edge.clone(), connection: client.connection };
                now(self.store.socket_closed(actor, attachment, for_good))
            }
            Detached::RemovePublication { actor, mid } => {
                now(self.store.remove_publication(&mid, EndedBy::Client(actor)))
            }
            Detached::RemoveSubscription { actor, sid } => {
                now(self.store.remove_subscription(&sid, EndedBy::Client(actor)))
            }
            Detached::EndRecording { room, mid, recording, placement } => {
                if placement.is_some() {
                    self.told_to_record.push((recording.to_string(), false));
                }
                now(self.store.set_recording(SetRecording::ended(room, mid, recording))).map(|_| Released::default())
            }
            Detached::Close(released) => Ok(released),
        };
        let Released { publications, subscriptions } = released.unwrap_or_default();
        self.closed_transports.extend(publications.iter().map(|(mid, _)| mid.to_string()));
        self.closed_transports.extend(subscriptions.iter().map(|(sid, _)| sid.to_string()));
    }
}

impl Client {
    fn take(&mut self, frame: &str) {
        assert!(self.closed.is_none(), "nothing is sent after the close");
        self.longest_frame = self.longest_frame.max(frame.len());
        self.sent.push_back(serde_json::from_str(frame).expect("JSON"));
    }

    /// Takes the answer to a request out of what was sent.
    pub(super) fn answer(&mut self, id: u64) -> Value {
        self.try_answer(id).unwrap_or_else(|| panic!("request {id} was not answered: {:?}", self.sent))
    }

    pub(super) fn try_answer(&mut self, id: u64) -> Option<Value> {
        let index = self.sent.iter().position(|frame| frame["response"] == true && frame["id"] == id)?;
        self.sent.remove(index)
    }

    /// Takes all notifications: method and data.
    pub(super) fn notified(&mut self) -> Vec<(String, Value)> {
        let (notifications, rest) = std::mem::take(&mut self.sent).into_iter().partition(|f| f["notification"] == true);
        self.sent = rest;
        let notifications: VecDeque<Value> = notifications;
        notifications.into_iter().map(|f| (f["method"].as_str().expect("text").to_owned(), f["data"].clone())).collect()
    }

    /// Takes all notifications: methods only.
    pub(super) fn methods(&mut self) -> Vec<String> {
        self.notified().into_iter().map(|(method, _)| method).collect()
    }
}

fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the in-memory store answers at once")
}

fn signal(room: &RoomId, item: FeedItem) -> Signal {
    match item {
        FeedItem::Event(RoomEvent::Entry(entry)) => Signal::Notice(Notice::new(room, &entry)),
        FeedItem::Event(RoomEvent::Superseded { session, attachment, resumed, .. }) => {
            Signal::Superseded { connection: attachment.connection, session, resumed }
        }
        FeedItem::Event(RoomEvent::EpochStarted(_)) | FeedItem::Lagged => hole(),
    }
}

/// A room that goes on from a place where no socket is.
pub(super) fn hole() -> Signal {
    let place = |epoch| Position { epoch: Epoch::of(epoch), seq: Seq::START };
    Signal::Converge { from: place(1), to: place(2), notices: Vec::new() }
}
