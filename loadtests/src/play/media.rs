//! Media of all members: one thread that sends and receives for everybody, who come and go while it runs. What a viewer gets of an
//! owner is one flow, whichever streams and nodes it came by; its silences count until one of the two leaves.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver as Orders, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::fanout::payload;
use crate::fanout::publisher::{Publisher, Stream};
use crate::live::LivePeer;
use crate::os::{self, Readiness, Receiver};
use crate::peer::{PeerEvent, TestPeer};
use crate::signalling::latency::{Latency, Times};

/// Orders that wait: more than all members give in a round.
const ORDERS: usize = 8_192;
/// One packet in so many is opened, for its time of sending. A prime, so that every position in a burst has its turn.
const SAMPLE: u64 = 7;
/// Between two looks at the peers' own timers.
const TIMERS: Duration = Duration::from_millis(20);
/// Between two figures.
const TELL: Duration = Duration::from_millis(500);
/// What a socket may hold: half a second of many videos.
const BUFFER_BYTES: i32 = 1 << 20;

/// Whose stream, who gets it, and of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who gets it.
    pub viewer: u64,
    /// Whose it is.
    pub owner: u64,
    /// The owner's video, or its audio.
    pub video: bool,
}

/// What a connected peer is for.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// It sends this for a member.
    Send(u64, Stream),
    /// It receives this.
    Receive(Flow),
}

impl Role {
    fn is_of(&self, member: u64) -> bool {
        match self {
            Self::Send(owner, _) => *owner == member,
            Self::Receive(flow) => flow.viewer == member,
        }
    }

    /// It receives audio.
    fn hears(&self) -> bool {
        matches!(self, Self::Receive(flow) if !flow.video)
    }
}

enum Order {
    Add(u64, Box<Parts>),
    Remove(u64),
    Leave(u64),
    End,
}

struct Parts {
    role: Role,
    peer: TestPeer,
    socket: std::net::UdpSocket,
    remote: SocketAddr,
}

/// What media came to so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Media {
    /// Streams that are sent now.
    pub sending: usize,
    /// Streams that are received now.
    pub receiving: usize,
    /// Packets sent.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// Packets that never came, between the first and the last of a stream that did.
    pub lost: u64,
    /// Of those that arrived, those of audio.
    pub audio_received: u64,
    /// Of those that never came, those of audio.
    pub audio_lost: u64,
    /// Datagrams that the system did not take.
    pub unsent: u64,
    /// Keyframes that nodes asked for.
    pub keyframe_requests: u64,
    /// From a packet's sending to its arrival in the kernel.
    pub delay: Latency,
    /// The longest silence of a flow, milliseconds.
    pub gap_ms: f64,
    /// The longest of one of audio, milliseconds.
    pub audio_gap_ms: f64,
    /// The longest that ended or went on since somebody last asked.
    #[serde(skip)]
    pub recent_gap_ms: f64,
    /// The most that the generator itself was late with a burst, milliseconds: then delays and silences are its own.
    pub late_ms: f64,
}

impl Media {
    /// Of all packets that should have come, the share that did not.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / (self.received + self.lost).max(1) as f64
    }

    /// The same of audio.
    pub fn audio_loss(&self) -> f64 {
        self.audio_lost as f64 / (self.audio_received + self.audio_lost).max(1) as f64
    }
}

/// Gives the thread its orders.
#[derive(Debug, Clone)]
pub struct Studio {
    orders: SyncSender<Order>,
    figures: Arc<Mutex<Media>>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// The thread; it ends when dropped.
#[derive(Debug)]
pub struct Running {
    /// For whoever has something to send or to receive.
    pub studio: Studio,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it.
    pub fn start() -> anyhow::Result<Self> {
        let (orders, taken) = sync_channel(ORDERS);
        let figures = Arc::new(Mutex::new(Media::default()));
        let mut thread = Thread::new(Arc::clone(&figures))?;
        let name = std::thread::Builder::new().name("media".to_owned());
        let handle = name.spawn(move || thread.run(&taken)).context("starting the thread for media")?;
        Ok(Self { studio: Studio { orders, figures, next: Arc::default() }, thread: Some(handle) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It takes orders until it is told to end, so there is room for one soon.
        let _ = self.studio.orders.send(Order::End);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Studio {
    /// Takes a connected peer over; gives its number.
    pub fn add(&self, live: LivePeer, role: Role) -> anyhow::Result<u64> {
        let remote = live.remote().context("the answer has a candidate")?;
        let (peer, socket) = live.into_parts();
        let socket = socket.into_std()?;
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let parts = Box::new(Parts { role, peer, socket, remote });
        self.orders.try_send(Order::Add(number, parts)).ok().context("the thread for media is behind")?;
        Ok(number)
    }

    /// Closes a peer.
    pub fn remove(&self, number: u64) {
        let _ = self.orders.try_send(Order::Remove(number));
    }

    /// Closes all of a member's, and ends all flows from it and to it.
    pub fn leave(&self, member: u64) {
        let _ = self.orders.try_send(Order::Leave(member));
    }

    /// What it came to so far.
    pub fn figures(&self) -> Media {
        let mut figures = self.figures.lock().expect("invariant: nobody panics holding it");
        let now = figures.clone();
        figures.recent_gap_ms = 0.0;
        now
    }
}

struct Endpoint {
    role: Role,
    publisher: Option<Publisher>,
    peer: TestPeer,
    socket: std::net::UdpSocket,
    remote: SocketAddr,
}

struct Thread {
    endpoints: HashMap<u64, Endpoint>,
    /// When each flow was heard last.
    flows: HashMap<Flow, Instant>,
    /// Members who have left: what of theirs is still on its way is no flow any more.
    left: HashSet<u64>,
    readiness: Readiness,
    receiver: Receiver,
    delay: Times,
    /// Without what open endpoints have lost: that is added when it is told.
    media: Media,
    told: Arc<Mutex<Media>>,
    next_timers: Instant,
    next_tell: Instant,
}

impl Thread {
    fn new(told: Arc<Mutex<Media>>) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            endpoints: HashMap::new(),
            flows: HashMap::new(),
            left: HashSet::new(),
            readiness: Readiness::new()?,
            receiver: Receiver::default(),
            delay: Times::default(),
            media: Media::default(),
            told,
            next_timers: now,
            next_tell: now,
        })
    }

    fn run(&mut self, orders: &Orders<Order>) {
        loop {
            for order in orders.try_iter() {
                match order {
                    Order::Add(number, parts) => self.add(number, *parts),
                    Order::Remove(number) => self.remove(number),
                    Order::Leave(member) => self.leave(member),
                    Order::End => return,
                }
            }
            self.round();
        }
    }

    fn add(&mut self, number: u64, parts: Parts) {
        let Parts { role, peer, socket, remote } = parts;
        let watched =
            os::prepare_receiver(&socket, BUFFER_BYTES, false).and_then(|()| self.readiness.watch(&socket, number));
        if watched.is_err() {
            self.media.unsent += 1;
            return;
        }
        // Members that came together must not send together.
        let phase = Duration::from_millis(number * 7 % 20);
        let publisher = match role {
            Role::Send(_, stream) => Some(Publisher::new(stream, true, Instant::now() + phase)),
            Role::Receive(_) => None,
        };
        self.endpoints.insert(number, Endpoint { role, publisher, peer, socket, remote });
    }

    fn remove(&mut self, number: u64) {
        let Some(mut endpoint) = self.endpoints.remove(&number) else { return };
        let lost = endpoint.lost();
        self.media.lost += lost;
        self.media.audio_lost += if endpoint.role.hears() { lost } else { 0 };
        let _ = endpoint.peer.close();
        endpoint.flush(&mut self.media.unsent);
    }

    fn leave(&mut self, member: u64) {
        let of_it = self.endpoints.iter().filter(|(_, endpoint)| endpoint.role.is_of(member));
        let numbers: Vec<u64> = of_it.map(|(number, _)| *number).collect();
        for number in numbers {
            self.remove(number);
        }
        self.left.insert(member);
        self.flows.retain(|flow, _| flow.owner != member && flow.viewer != member);
    }

    fn round(&mut self) {
        let now = Instant::now();
        let mut wake = now + TIMERS;
        for endpoint in self.endpoints.values_mut() {
            let Some(publisher) = &mut endpoint.publisher else { continue };
            while publisher.next_burst() <= now {
                let late = now - publisher.next_burst();
                self.media.late_ms = self.media.late_ms.max(late.as_secs_f64() * 1e3);
                let before = publisher.sent();
                let done = publisher.burst(now, &mut endpoint.peer, &endpoint.socket, endpoint.remote);
                self.media.unsent += u64::from(done.is_err());
                self.media.sent += publisher.sent() - before;
            }
            wake = wake.min(publisher.next_burst());
        }
        if self.next_timers <= now {
            self.next_timers = now + TIMERS;
            self.handle_timers(now);
        }
        if self.next_tell <= now {
            self.next_tell = now + TELL;
            self.tell(now);
        }
        wake = wake.min(self.next_timers);
        let Ok(ready) = self.readiness.wait(wake.saturating_duration_since(Instant::now())) else { return };
        let ready: Vec<u64> = ready.collect();
        for number in ready {
            self.receive(number);
        }
    }

    fn receive(&mut self, number: u64) {
        let Some(Endpoint { role, publisher, peer, socket, .. }) = self.endpoints.get_mut(&number) else { return };
        let (now, media, delay) = (Instant::now(), &mut self.media, &mut self.delay);
        let mut count = 0;
        // One call per round: whoever has more is readable again in the next, after the others. A socket that fails is a lost packet.
        let _ = self.receiver.receive(socket, |received| {
            for datagram in received.bytes.chunks_mut(received.segment) {
                let Some((_, index)) = peer.count_media(now, datagram) else {
                    // A peer that cannot go on is silent, which shows.
                    let _ = peer.handle_datagram(now, datagram);
                    continue;
                };
                count += 1;
                if !index.is_multiple_of(SAMPLE) {
                    continue;
                }
                let stamp = peer.open_counted(index, datagram).and_then(payload::read);
                if let Some((stamp, at_ns)) = stamp.zip(received.at_ns) {
                    delay.record(Duration::from_nanos(at_ns.saturating_sub(stamp.sent_ns)));
                }
            }
        });
        while let Some(event) = peer.poll_event() {
            match (event, publisher.as_mut()) {
                (PeerEvent::KeyframeRequest(_), Some(publisher)) => {
                    media.keyframe_requests += 1;
                    publisher.want_keyframe();
                }
                (PeerEvent::Media(_), _) => count += 1,
                _ => {}
            }
        }
        media.received += count;
        media.audio_received += if role.hears() { count } else { 0 };
        if let Role::Receive(flow) = *role
            && count > 0
            && ![flow.owner, flow.viewer].iter().any(|member| self.left.contains(member))
            && let Some(last) = self.flows.insert(flow, now)
        {
            media.silent_for(flow, now - last);
        }
    }

    fn handle_timers(&mut self, now: Instant) {
        for endpoint in self.endpoints.values_mut() {
            if endpoint.peer.poll_timeout().is_some_and(|at| at <= now) {
                // As above.
                let _ = endpoint.peer.handle_timeout(now);
            }
            endpoint.flush(&mut self.media.unsent);
        }
    }

    fn tell(&mut self, now: Instant) {
        for (flow, last) in &self.flows {
            self.media.silent_for(*flow, now.saturating_duration_since(*last));
        }
        let sending = self.endpoints.values().filter(|endpoint| endpoint.publisher.is_some()).count();
        let going_on = |of: fn(&Role) -> bool| -> u64 {
            self.endpoints.values().filter(|endpoint| of(&endpoint.role)).map(Endpoint::lost).sum()
        };
        let mut told = self.told.lock().expect("invariant: nobody panics holding it");
        let recent_gap_ms = told.recent_gap_ms.max(self.media.recent_gap_ms);
        self.media.recent_gap_ms = 0.0;
        *told = Media {
            sending,
            receiving: self.endpoints.len() - sending,
            lost: self.media.lost + going_on(|_| true),
            audio_lost: self.media.audio_lost + going_on(Role::hears),
            delay: self.delay.summary(),
            recent_gap_ms,
            ..self.media.clone()
        };
    }
}

impl Media {
    fn silent_for(&mut self, flow: Flow, silence: Duration) {
        let ms = silence.as_secs_f64() * 1e3;
        if !flow.video {
            self.audio_gap_ms = self.audio_gap_ms.max(ms);
        }
        self.gap_ms = self.gap_ms.max(ms);
        self.recent_gap_ms = self.recent_gap_ms.max(ms);
    }
}

impl Endpoint {
    fn lost(&self) -> u64 {
        let of = |stats: crate::peer::TrackStats| {
            stats.range.map_or(0, |(lowest, highest)| (highest - lowest + 1).saturating_sub(stats.delivered))
        };
        self.peer.received().map(|(_, stats)| of(stats)).sum()
    }

    fn flush(&mut self, unsent: &mut u64) {
        while let Some(datagram) = self.peer.poll_transmit() {
            *unsent += u64::from(self.socket.send_to(&datagram, self.remote).is_err());
        }
    }
}
