//! The load of a scenario: rooms full of members who talk all the time, some of them with media, and what they have to say for
//! themselves at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::account::{Happened, Journal, View, differs};
use crate::client::{Client, Refusal};
use crate::figures::Spread;
use crate::media::{Publisher, Viewer};

/// Mean time between two broadcasts of a member.
const TALK_EVERY: Duration = Duration::from_secs(2);
/// Of the time for which the server remembers an `op` (the ttl), the share in which a broadcast is asked for again: the last try may be
/// on its way for as long once more. Past that nobody knows whether it was done.
const ASKED_AGAIN: u32 = 2;
/// A last word that nobody knows the fate of is said again, so often.
const LAST_WORDS: u64 = 5;
/// One in so many broadcasts of a publisher comes with a change of what it has muted.
const MUTES: u32 = 4;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The number of a member's last broadcast: after it, it says no more.
const LAST: u64 = 1_000_000;

/// How many there are, and where.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rooms.
    pub rooms: usize,
    /// Members of each.
    pub members: usize,
    /// Rooms in which there is media.
    pub with_media: usize,
    /// Members who publish, in each of those. All watch.
    pub publishers: usize,
}

impl Size {
    /// The load.
    pub const USUAL: Self = Self { rooms: 20, members: 5, with_media: 5, publishers: 2 };
}

/// One member.
#[derive(Debug)]
pub struct Member {
    /// Its signalling.
    pub client: Arc<Client>,
    /// Its microphone.
    pub publisher: Option<Arc<Publisher>>,
    /// What it watches.
    pub viewer: Option<Viewer>,
    talk: JoinHandle<()>,
}

/// All members.
#[derive(Debug)]
pub struct Population {
    /// They.
    pub members: Vec<Member>,
    talking: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
    /// For how long a broadcast is asked for again.
    ask_again: Duration,
}

impl Population {
    /// All go in, through these edges, whose `session.ttl` this is, and talk from now on.
    pub fn enter(size: Size, edges: &[SocketAddr], ttl: Duration) -> Self {
        // Each client has a socket, each stream and subscription another.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let mut population = Self {
            members: Vec::new(),
            talking: watch::Sender::new(true),
            refused: Arc::default(),
            ask_again: ttl / ASKED_AGAIN,
        };
        for room in 0..size.rooms {
            let has_media = room < size.with_media;
            for member in 0..size.members {
                let (uid, room) = (format!("r{room}m{member}"), format!("room-{room}"));
                population.add(&uid, &room, edges, has_media && member < size.publishers, has_media);
            }
        }
        population
    }

    /// One more goes in.
    pub fn add(&mut self, uid: &str, room: &str, edges: &[SocketAddr], publishes: bool, views: bool) -> &Member {
        let client = Arc::new(Client::start(uid, room, edges));
        let publisher = publishes.then(|| Arc::new(Publisher::start(&client)));
        let viewer = views.then(|| Viewer::start(&client));
        let talker = Talker {
            client: Arc::clone(&client),
            publisher: publisher.clone(),
            talking: self.talking.subscribe(),
            refused: Arc::clone(&self.refused),
            ask_again: self.ask_again,
        };
        let talk = tokio::spawn(talker.run());
        self.members.push(Member { client, publisher, viewer, talk });
        self.members.last().expect("invariant: pushed just now")
    }

    /// The members of a room.
    pub fn of_room<'a>(&'a self, room: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| &*member.client.room == room)
    }

    /// Takes out whom `gone` picks: they count no more among those who are there. What happened to them stays in the account.
    pub fn dismiss(&mut self, gone: impl Fn(&Member) -> bool) -> Vec<Member> {
        let (gone, here) = std::mem::take(&mut self.members).into_iter().partition(gone);
        self.members = here;
        gone
    }

    /// Waits until everybody knows of everybody, and all media flows. The error says who does not.
    pub async fn settled(&self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            let Some(missing) = self.missing() else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(format!("after {within:?} {missing}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What is not yet as it should be, for the first member of whom something is.
    pub fn missing(&self) -> Option<String> {
        let truths: BTreeMap<&str, View> =
            self.members.iter().map(|member| (&*member.client.room, self.truth(&member.client.room))).collect();
        self.members.iter().find_map(|member| {
            let what = member.missing(truths.get(&*member.client.room)?)?;
            Some(format!("{} {what}", member.client.uid))
        })
    }

    /// A room as its members made it.
    fn truth(&self, room: &str) -> View {
        let mut truth = View::default();
        for member in self.of_room(room) {
            let uid = member.client.uid.to_string();
            if let Some(mid) = member.publisher.as_ref().and_then(|publisher| publisher.mid()) {
                // Descriptions are compared by the account.
                truth.streams.insert(mid, crate::account::Stream { uid: uid.clone(), minfo: json!(null) });
            }
            truth.members.insert(uid);
        }
        truth
    }

    /// Measures gaps of media from now on.
    pub fn measure(&self) {
        self.flows().for_each(|(_, _, flow)| flow.measure());
    }

    /// The longest gap of each viewer's media from each publisher who is here, since [`Self::measure`].
    pub fn gaps(&self) -> Spread {
        let now = Instant::now();
        let here: Vec<&str> = self.members.iter().filter(|m| m.publisher.is_some()).map(|m| &*m.client.uid).collect();
        let flows = self.flows().filter(|(_, owner, _)| here.contains(&owner.as_str()));
        Spread::of(flows.map(|(_, _, flow)| flow.seen(now).longest))
    }

    /// Packets that came to somebody as another's than whose they were.
    pub fn foreign_packets(&self) -> u64 {
        self.flows().map(|(_, _, flow)| flow.seen(Instant::now()).foreign).sum()
    }

    /// Streams that were published so far.
    pub fn published(&self) -> u64 {
        self.members.iter().filter_map(|member| member.publisher.as_ref()).map(|publisher| publisher.published()).sum()
    }

    /// The node that carries most of the streams.
    pub fn busiest_node(&self) -> String {
        let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
        let publishers = self.members.iter().filter_map(|member| member.publisher.as_ref());
        publishers.filter_map(|publisher| publisher.node()).for_each(|node| *nodes.entry(node).or_default() += 1);
        nodes.into_iter().max_by_key(|(_, streams)| *streams).expect("a stream is published").0
    }

    /// How often connections ended with each close code, or without any, since then.
    pub fn closes_after(&self, since: Instant) -> BTreeMap<Option<u16>, usize> {
        let mut closes = BTreeMap::new();
        for member in &self.members {
            member.client.journal().closes_after(since).for_each(|code| *closes.entry(code).or_default() += 1);
        }
        closes
    }

    /// How often each error was answered since then, that of requests that were carried out later included.
    pub fn errors_after(&self, since: Instant) -> BTreeMap<i64, usize> {
        let mut errors = BTreeMap::new();
        for member in &self.members {
            member.client.journal().errors_after(since).for_each(|code| *errors.entry(code).or_default() += 1);
        }
        errors
    }

    /// Broadcasts that were refused for good.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn flows(&self) -> impl Iterator<Item = (&str, String, Arc<crate::media::Flow>)> {
        let viewers = self.members.iter().filter_map(|member| member.viewer.as_ref());
        viewers.flat_map(|viewer| viewer.flows().into_iter().map(|(owner, flow)| (&*viewer.uid, owner, flow)))
    }

    /// How long each who lost its connection after `fault` took from then until it was back.
    pub fn back_after(&self, fault: Instant) -> Spread {
        let back = self.members.iter().filter_map(|member| member.client.journal().back_after(fault));
        Spread::of(back.map(|at| at.saturating_duration_since(fault)))
    }

    /// Ends all talk: each says a last word, and all of its room must have heard it. Then everything is as it should be, and nothing
    /// is under way. The error says what is not.
    pub async fn quieten(&mut self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        self.talking.send_replace(false);
        for member in &mut self.members {
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, &mut member.talk).await.is_err() {
                return Err(format!("after {within:?} {} still asks for what it asked before", member.client.uid));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.settled(left).await?;
        let mut last_words = JoinSet::new();
        for member in &self.members {
            let (client, ask_again) = (Arc::clone(&member.client), self.ask_again);
            last_words.spawn(async move { last_word(&client, ask_again).await.map(|n| (client.uid.to_string(), n)) });
        }
        let said: BTreeMap<String, u64> = last_words.join_all().await.into_iter().flatten().collect();
        if said.len() < self.members.len() {
            return Err(format!("only {} of {} could say a last word", said.len(), self.members.len()));
        }
        for member in &self.members {
            let others = self.of_room(&member.client.room).filter(|other| other.client.uid != member.client.uid);
            let others = others.filter_map(|other| said.get_key_value(&*other.client.uid));
            let others: Vec<(String, u64)> = others.map(|(uid, n)| (uid.clone(), *n)).collect();
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(5));
            if !member.client.until(left, |now| others.iter().all(|mark| now.marks.contains(mark))).await {
                return Err(format!("{} has not heard the last word of all others", member.client.uid));
            }
        }
        Ok(())
    }

    /// What happened to everybody.
    pub fn journals(&self) -> Vec<Journal> {
        self.members.iter().map(|member| member.client.journal().clone()).collect()
    }
}

impl Member {
    /// What it lacks, of what is so in its room.
    fn missing(&self, truth: &View) -> Option<String> {
        let standing = self.client.standing();
        let now = standing.borrow();
        if let Some(ended) = &now.ended {
            return Some(format!("has ended: {ended}"));
        }
        if !now.joined {
            return Some("is not in the room".to_owned());
        }
        if let Some(publisher) = self.publisher.as_ref().filter(|publisher| !publisher.is_settled()) {
            return Some(format!("does not publish: {:?}", publisher.failure()));
        }
        let mut expected = truth.clone();
        expected.members.remove(&*self.client.uid);
        expected.streams.retain(|_, stream| stream.uid != *self.client.uid);
        let mut known = now.view.clone();
        known.streams.values_mut().for_each(|stream| stream.minfo = json!(null));
        if let Some(difference) = differs(&known, &expected) {
            return Some(difference);
        }
        let viewer = self.viewer.as_ref()?;
        let flows: BTreeMap<String, _> = viewer.flows().into_iter().collect();
        let silent = expected.streams.values().find(|stream| {
            let seen = flows.get(&stream.uid).map(|flow| flow.fresh(Instant::now()));
            seen != Some(true)
        });
        silent.map(|stream| format!("gets nothing of {}", stream.uid))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.talk.abort();
    }
}

/// What a member does with its time.
struct Talker {
    client: Arc<Client>,
    publisher: Option<Arc<Publisher>>,
    talking: watch::Receiver<bool>,
    refused: Arc<AtomicUsize>,
    ask_again: Duration,
}

impl Talker {
    /// Says something every now and then, until told to stop; what it has begun it ends.
    async fn run(mut self) {
        for n in 1..LAST {
            let pause = TALK_EVERY.mul_f64(rand::random_range(0.5..1.5));
            if tokio::time::timeout(pause, self.talking.wait_for(|on| !on)).await.is_ok() {
                return;
            }
            if let Some(publisher) = self.publisher.as_ref().filter(|_| rand::random_ratio(1, MUTES)) {
                publisher.mute(rand::random());
            }
            if let Err(refusal) = say(&self.client, n, false, self.ask_again).await
                && !refusal.is_passing()
            {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Broadcasts, with the account of it. After a passing refusal nobody knows whether it was carried out.
async fn say(client: &Client, n: u64, mark: bool, ask_again: Duration) -> Result<(), Refusal> {
    client.note(Happened::Says(n));
    let mut data = json!({"n": n, "text": format!("{} says {n}", client.uid)});
    if mark {
        data["mark"] = json!(n);
    }
    client.request("broadcast", json!({"data": data}), ask_again, || client.note(Happened::Repeats(n))).await?;
    client.note(Happened::Said(n));
    Ok(())
}

/// Says that it will say no more; the number of the one that was carried out.
async fn last_word(client: &Client, ask_again: Duration) -> Option<u64> {
    for n in LAST..LAST + LAST_WORDS {
        if say(client, n, true, ask_again).await.is_ok() {
            return Some(n);
        }
    }
    None
}
