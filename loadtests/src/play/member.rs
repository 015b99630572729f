//! A member of a room: joins, publishes what its seat has to, subscribes to what others publish, and resumes after each lost
//! connection. What it lacks of that it asks for again and again, as the SDK does; what it never gets is counted.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::media::{Flow, Role, Studio};
use super::tally::Tally;
use crate::fanout::publisher::Stream;
use crate::live::LivePeer;
use crate::peer::{Certificate, PeerConfig, Section, TestPeer};
use crate::reconnect::backoff::Backoff;
use crate::signalling::client::{Client, ClientError, Frame, Target};

/// Between two looks at what is lacking.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two signs of life.
const ALIVE_EVERY: u32 = 10;
/// For a stream's connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A refusal after so long is one for good.
const PATIENCE: Duration = Duration::from_secs(30);
/// A stream that was published anew flows beside the new one for so long.
const OVERLAP: Duration = Duration::from_secs(1);
/// Refusals that pass: no node, store or node out of reach, internal, too many requests, no place.
const PASSING: [i32; 6] = [9, 10, 11, 12, 14, 429];
/// The membership or the stream has ended.
const NOT_IN_ROOM: i32 = 2;
const BAD_MID: i32 = 3;

/// What all members share.
pub struct World {
    /// Where they connect.
    pub edges: Vec<SocketAddr>,
    /// What they show.
    pub certificate: Certificate,
    /// Their media.
    pub studio: Studio,
    /// What it came to.
    pub tally: Tally,
    /// When it began.
    pub begin: Instant,
    /// Between two broadcasts of each.
    pub broadcast_every: Option<Duration>,
}

/// What a member is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Leave, in an orderly way.
    Leave,
    /// Lose the connection, and come back.
    Cut,
}

#[derive(Debug, Clone, Serialize)]
struct Position {
    epoch: Box<RawValue>,
    seq: u64,
}

#[derive(Debug, Deserialize)]
struct Joined {
    session: String,
    epoch: Box<RawValue>,
    seq: u64,
    #[serde(default)]
    resync: bool,
    pubs: Vec<Published>,
    own: Survived,
}

#[derive(Debug, Default, Deserialize)]
struct Survived {
    #[serde(default)]
    pubs: Vec<Published>,
    #[serde(default)]
    subs: Vec<Subscribed>,
}

#[derive(Debug, Deserialize)]
struct Published {
    uid: String,
    mid: String,
    minfo: Minfo,
}

#[derive(Debug, Deserialize)]
struct Subscribed {
    sid: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Minfo {
    #[serde(default)]
    video: bool,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(alias = "sid")]
    mid: String,
    jsep: Jsep,
}

#[derive(Debug, Deserialize)]
struct Jsep {
    sdp: String,
}

/// A notification, as far as a member looks at it.
#[derive(Debug, Deserialize)]
struct Told {
    epoch: Option<Box<RawValue>>,
    seq: Option<u64>,
    uid: Option<String>,
    mid: Option<String>,
    minfo: Option<Minfo>,
    data: Option<Value>,
}

#[derive(Debug)]
enum Notice {
    Added { mid: String, owner: u64, video: bool },
    Removed(String),
    Migrate(String),
}

/// A stream that is there on the server, and its peer here.
#[derive(Debug)]
struct Live {
    id: String,
    endpoint: u64,
}

/// A stream of its own.
#[derive(Debug)]
struct Own {
    stream: Stream,
    wanted: Instant,
    live: Option<Live>,
    /// The node wants it gone: it flows until its successor does.
    moving: bool,
}

/// Somebody else's.
#[derive(Debug)]
struct Seen {
    owner: u64,
    video: bool,
    wanted: Instant,
    live: Option<Live>,
}

/// Waits for so long; whoever is told to leave meanwhile does not come.
pub async fn is_to_come(after: Duration, orders: &mut Receiver<Order>) -> bool {
    let wait = sleep(after);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            () = &mut wait => return true,
            order = orders.recv() => match order {
                Some(Order::Cut) => {}
                Some(Order::Leave) | None => return false,
            },
        }
    }
}

/// One member of one room.
pub struct Member {
    number: u64,
    uid: String,
    rid: String,
    world: Arc<World>,
    orders: Receiver<Order>,
    backoff: Backoff,
    session: Option<String>,
    position: Option<Position>,
    heard: VecDeque<Notice>,
    own: Vec<Own>,
    seen: BTreeMap<String, Seen>,
    retiring: VecDeque<(Instant, Live)>,
    rest_until: Instant,
    next_broadcast: Instant,
    ops: u64,
}

impl Member {
    /// Not yet there.
    pub fn new(number: u64, rid: String, streams: Vec<Stream>, world: Arc<World>, orders: Receiver<Order>) -> Self {
        let now = Instant::now();
        let own = streams.into_iter().map(|stream| Own { stream, wanted: now, live: None, moving: false });
        Self {
            number,
            uid: format!("m{number}"),
            rid,
            orders,
            backoff: Backoff::new(&world.edges),
            session: None,
            position: None,
            heard: VecDeque::new(),
            own: own.collect(),
            seen: BTreeMap::new(),
            retiring: VecDeque::new(),
            rest_until: now,
            next_broadcast: now + pause(world.broadcast_every),
            ops: 0,
            world,
        }
    }

    /// Its whole life.
    pub async fn run(mut self) {
        while let Err(error) = self.stay().await {
            self.world.tally.lost(&error);
            let wait = sleep(self.backoff.wait());
            tokio::pin!(wait);
            let left = loop {
                tokio::select! {
                    () = &mut wait => break false,
                    order = self.orders.recv() => match order {
                        Some(Order::Cut) => {}
                        Some(Order::Leave) | None => break true,
                    },
                }
            };
            if left {
                break;
            }
        }
        self.world.studio.leave(self.number);
    }

    /// One connection, until it has left.
    async fn stay(&mut self) -> Result<(), ClientError> {
        let target = Target { edge: self.backoff.edge(), token: None };
        let mut client = Client::connect(&target, &self.uid, &self.rid, None).await?;
        self.join(&mut client).await?;
        self.backoff.reset();
        let ended = self.attend(&mut client).await;
        self.world.tally.away();
        match ended {
            Ok(Order::Leave) => client.close().await,
            Ok(Order::Cut) => {
                client.cut();
                return Err(ClientError::Closed(None));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// In its room.
    async fn attend(&mut self, client: &mut Client) -> Result<Order, ClientError> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            self.settle(client).await?;
            let talk = self.next_broadcast;
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Cut) => return Ok(Order::Cut),
                    Some(Order::Leave) | None => {
                        self.ask(client, "leave", json!({})).await?;
                        return Ok(Order::Leave);
                    }
                },
                text = client.receive() => {
                    let text = text?;
                    self.hear(&Frame::read(&text)?);
                }
                () = tokio::time::sleep_until(talk), if self.world.broadcast_every.is_some() => {
                    self.next_broadcast = Instant::now() + pause(self.world.broadcast_every);
                    let at = self.world.begin.elapsed().as_nanos() as u64;
                    self.ask(client, "broadcast", json!({"data": {"at": at}})).await?;
                }
                _ = looks.tick() => {
                    count += 1;
                    if count.is_multiple_of(ALIVE_EVERY) {
                        self.ask(client, "keepalive", json!({})).await?;
                    }
                }
            }
        }
    }

    async fn join(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let asked = Instant::now();
        let mut data = json!({"rid": self.rid});
        if let Some(session) = &self.session {
            data["session"] = json!(session);
            data["since"] = json!(self.position);
        }
        let joined = loop {
            // Nothing is told before the answer.
            match client.request("join", &data, |_| ()).await {
                Ok(text) => break Frame::read(&text)?.data::<Joined>()?,
                Err(ClientError::Refused { code, .. }) if PASSING.contains(&code) && asked.elapsed() < PATIENCE => {
                    self.world.tally.retried("join", code);
                    sleep(jitter()).await;
                }
                Err(error) => {
                    if matches!(error, ClientError::Refused { .. }) {
                        self.world.tally.failed("join", &error);
                    }
                    return Err(error);
                }
            }
        };
        self.world.tally.took("join", asked.elapsed());
        let since = self.session.is_some();
        let told = since && !joined.resync;
        self.world.tally.joined(since, since && joined.resync);
        if !told {
            self.position = Some(Position { epoch: joined.epoch, seq: joined.seq });
            self.heard.clear();
            self.compare(joined.pubs);
        }
        self.session = Some(joined.session);
        self.keep(&joined.own);
        Ok(())
    }

    /// Takes the answer's word for what others publish.
    fn compare(&mut self, pubs: Vec<Published>) {
        let gone = self.seen.keys().filter(|mid| !pubs.iter().any(|published| published.mid == **mid));
        let gone: Vec<String> = gone.cloned().collect();
        for mid in &gone {
            self.forget(mid);
        }
        for Published { uid, mid, minfo } in pubs {
            self.see(mid, number(&uid), minfo.video);
        }
    }

    /// Lets go what the server does not have any more.
    fn keep(&mut self, survived: &Survived) {
        let studio = &self.world.studio;
        let lapsed = |live: &mut Live, there: bool| {
            if !there {
                studio.remove(live.endpoint);
            }
            !there
        };
        for own in &mut self.own {
            if own.live.take_if(|live| lapsed(live, survived.pubs.iter().any(|there| there.mid == live.id))).is_some() {
                (own.moving, own.wanted) = (false, Instant::now());
            }
        }
        for seen in self.seen.values_mut() {
            if seen.live.take_if(|live| lapsed(live, survived.subs.iter().any(|there| there.sid == live.id))).is_some()
            {
                seen.wanted = Instant::now();
            }
        }
    }

    fn see(&mut self, mid: String, owner: u64, video: bool) {
        self.seen.entry(mid).or_insert(Seen { owner, video, wanted: Instant::now(), live: None });
    }

    fn forget(&mut self, mid: &str) {
        if let Some(live) = self.seen.remove(mid).and_then(|seen| seen.live) {
            self.world.studio.remove(live.endpoint);
        }
    }

    fn hear(&mut self, frame: &Frame<'_>) {
        let (Some(method), Ok(told)) = (frame.method, frame.data::<Told>()) else { return };
        if let (Some(epoch), Some(seq)) = (told.epoch, told.seq) {
            self.position = Some(Position { epoch, seq });
        }
        let notice = match (method, told.mid, told.uid) {
            ("stream-add", Some(mid), Some(uid)) if uid != self.uid => {
                let video = told.minfo.is_some_and(|minfo| minfo.video);
                Notice::Added { mid, owner: number(&uid), video }
            }
            ("stream-remove", Some(mid), _) => Notice::Removed(mid),
            ("stream-migrate", Some(mid), _) => Notice::Migrate(mid),
            ("broadcast", _, _) => return self.delivered(told.data.as_ref()),
            _ => return,
        };
        self.heard.push_back(notice);
    }

    fn delivered(&self, data: Option<&Value>) {
        let Some(at) = data.and_then(|data| data["at"].as_u64()) else { return };
        let took = self.world.begin.elapsed().saturating_sub(Duration::from_nanos(at));
        self.world.tally.took("broadcast", took);
    }

    /// Makes what is what is to be, as far as it goes now.
    async fn settle(&mut self, client: &mut Client) -> Result<(), ClientError> {
        loop {
            self.take_notices();
            self.retire(client).await?;
            if Instant::now() < self.rest_until || !self.step(client).await? {
                return Ok(());
            }
        }
    }

    fn take_notices(&mut self) {
        while let Some(notice) = self.heard.pop_front() {
            match notice {
                Notice::Added { mid, owner, video } => self.see(mid, owner, video),
                Notice::Migrate(mid) => {
                    let own = self.own.iter_mut().find(|own| own.live.as_ref().is_some_and(|live| live.id == mid));
                    if let Some(own) = own.filter(|own| !own.moving) {
                        (own.moving, own.wanted) = (true, Instant::now());
                    }
                }
                Notice::Removed(mid) => {
                    self.forget(&mid);
                    let studio = &self.world.studio;
                    for own in &mut self.own {
                        if let Some(live) = own.live.take_if(|live| live.id == mid) {
                            studio.remove(live.endpoint);
                            (own.moving, own.wanted) = (false, Instant::now());
                        }
                    }
                }
            }
        }
    }

    async fn retire(&mut self, client: &mut Client) -> Result<(), ClientError> {
        while self.retiring.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let Some((_, live)) = self.retiring.pop_front() else { break };
            self.world.studio.remove(live.endpoint);
            self.ask(client, "unpublish", json!({"mid": live.id})).await?;
        }
        Ok(())
    }

    /// The next thing that is lacking; says whether there was one.
    async fn step(&mut self, client: &mut Client) -> Result<bool, ClientError> {
        if let Some(place) = self.own.iter().position(|own| own.live.is_none() || own.moving) {
            let Own { stream, wanted, .. } = self.own[place];
            let video = stream != Stream::Audio;
            let section = if video { Section::SEND_VIDEO } else { Section::SEND_AUDIO };
            let data = json!({"minfo": {"audio": !video, "video": video}});
            let role = Role::Send(self.number, stream);
            if let Some(live) = self.open(client, "publish", section, data, role, wanted).await? {
                self.own[place].moving = false;
                let former = self.own[place].live.replace(live);
                self.retiring.extend(former.map(|live| (Instant::now() + OVERLAP, live)));
            } else if self.own[place].wanted.elapsed() > PATIENCE {
                self.own[place].wanted = Instant::now();
            }
            return Ok(true);
        }
        let lacking = self.seen.iter().find(|(_, seen)| seen.live.is_none());
        let Some((mid, Seen { owner, video, wanted, .. })) = lacking.map(|(mid, seen)| (mid.clone(), seen)) else {
            return Ok(false);
        };
        let (owner, video, wanted) = (*owner, *video, *wanted);
        let section = if video { Section::RECEIVE_VIDEO } else { Section::RECEIVE_AUDIO };
        let role = Role::Receive(Flow { viewer: self.number, owner, video });
        let live = self.open(client, "subscribe", section, json!({"mid": mid}), role, wanted).await?;
        if let Some(seen) = self.seen.get_mut(&mid) {
            if live.is_none() && wanted.elapsed() > PATIENCE {
                seen.wanted = Instant::now();
            }
            seen.live = live;
        }
        Ok(true)
    }

    /// Publishes or subscribes, and connects; `None` if it came to nothing for now.
    async fn open(
        &mut self,
        client: &mut Client,
        method: &'static str,
        section: Section,
        mut data: Value,
        role: Role,
        wanted: Instant,
    ) -> Result<Option<Live>, ClientError> {
        let config = PeerConfig::new(rand::random(), self.world.certificate.clone(), vec![section]);
        let mut live = LivePeer::bind(TestPeer::new(std::time::Instant::now(), config)).await?;
        data["jsep"] = json!({"type": "offer", "sdp": live.peer.offer()});
        let mid = data["mid"].as_str().map(ToOwned::to_owned);
        let Some(answer) = self.ask_since(client, method, data, wanted).await? else {
            return Ok(None);
        };
        let Answer { mid: id, jsep } = Frame::read(&answer)?.data()?;
        let connected = match live.peer.handle_answer(std::time::Instant::now(), &jsep.sdp) {
            Ok(()) => live.connect(CONNECT_WITHIN).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = connected {
            // Its owner may have left meanwhile, and its node may have died: then a notification says so.
            self.rest_until = Instant::now() + jitter();
            self.world.tally.retried(&format!("{method}, connecting ({error})"), 0);
            let undo = if method == "publish" { "unpublish" } else { "unsubscribe" };
            self.ask(client, undo, json!({"mid": mid.as_deref().unwrap_or(&id), "sid": id})).await?;
            return Ok(None);
        }
        self.world.tally.took(method, wanted.elapsed());
        match self.world.studio.add(live, role) {
            Ok(endpoint) => Ok(Some(Live { id, endpoint })),
            Err(error) => {
                self.world.tally.failed(method, &error);
                Ok(None)
            }
        }
    }

    /// Asks once; a refusal that does not pass is a failure.
    async fn ask(&mut self, client: &mut Client, method: &str, data: Value) -> Result<Option<String>, ClientError> {
        self.ask_since(client, method, data, Instant::now()).await
    }

    async fn ask_since(
        &mut self,
        client: &mut Client,
        method: &str,
        mut data: Value,
        wanted: Instant,
    ) -> Result<Option<String>, ClientError> {
        data["rid"] = json!(self.rid);
        if matches!(method, "publish" | "subscribe" | "broadcast" | "leave") {
            self.ops += 1;
            data["op"] = json!(format!("{}-{}", self.uid, self.ops));
        }
        let mut told = Vec::new();
        let answer =
            client.request(method, &data, |frame| told.push((frame.method.map(ToOwned::to_owned), raw(frame)))).await;
        for (method, data) in told {
            let data = RawValue::from_string(data).ok();
            let frame = Frame { method: method.as_deref(), data: data.as_deref(), ..Frame::read("{}")? };
            self.hear(&frame);
        }
        match answer {
            Ok(text) => Ok(Some(text.as_str().to_owned())),
            Err(ClientError::Refused { code: BAD_MID, .. }) => {
                if let Some(mid) = data["mid"].as_str() {
                    self.forget(mid);
                }
                Ok(None)
            }
            // As if the connection were lost: it joins again.
            Err(error @ ClientError::Refused { code: NOT_IN_ROOM, .. }) => Err(error),
            Err(ClientError::Refused { code, .. }) if PASSING.contains(&code) && wanted.elapsed() < PATIENCE => {
                self.world.tally.retried(method, code);
                self.rest_until = Instant::now() + jitter();
                Ok(None)
            }
            Err(error @ ClientError::Refused { .. }) => {
                self.world.tally.failed(method, &error);
                self.rest_until = Instant::now() + LOOK_EVERY;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn raw(frame: &Frame<'_>) -> String {
    frame.data.map_or("{}", RawValue::get).to_owned()
}

/// Of `m17`.
fn number(uid: &str) -> u64 {
    uid.get(1..).and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(200..1_000))
}

/// Until the next broadcast.
fn pause(every: Option<Duration>) -> Duration {
    every.unwrap_or_default().mul_f64(rand::random_range(0.5..1.5))
}
