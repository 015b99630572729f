//! The load of a scenario: rooms full of members who talk all the time, some of them with media, and what they have to say for
//! themselves at the end.

mod findings;
mod talk;

pub use findings::{Errors, errors_after};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::account::{View, differs};
use crate::client::Client;
use crate::figures::Spread;
use crate::media::{Publisher, Viewer};
use talk::{Talker, last_but_one, last_word};

/// Of the time for which the server remembers an `op` (the ttl), the share in which a broadcast is asked for again: the last try may be
/// on its way for as long once more. Past that nobody knows whether it was done.
const ASKED_AGAIN: u32 = 2;
/// Between two tries of a request that is to be carried out as soon as can be: often enough to time it, and within a client's rate.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
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

    /// Asks a change of the store of everybody, again and again, and waits until it has been carried out for all. From `since` until
    /// each one's was. The error says for whom it was not.
    pub async fn answered(&self, since: Instant, within: Duration) -> Result<Spread, String> {
        let mut asked = JoinSet::new();
        for member in &self.members {
            let client = Arc::clone(&member.client);
            asked.spawn(async move {
                let answered = tokio::time::timeout(within, refresh(&client)).await.is_ok();
                answered
                    .then(|| since.elapsed())
                    .ok_or_else(|| format!("{} gets no answer within {within:?}", client.uid))
            });
        }
        asked.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().map(Spread::of)
    }

    /// A room as its members made it.
    fn truth(&self, room: &str) -> View {
        let mut truth = View::default();
        for member in self.of_room(room) {
            let uid = member.client.uid.to_string();
            if let Some(mid) = member.publisher.as_ref().and_then(|publisher| publisher.mid()) {
                // Descriptions are compared by the account.
                truth
                    .streams
                    .insert(mid, crate::account::Stream { uid: uid.clone(), minfo: json!(null), recording: None });
            }
            truth.members.insert(uid);
        }
        truth
    }

    /// Somebody speaks in each room. A client to whom nothing was said since the log began anew learns of it then, joins again, and
    /// may miss what is said meanwhile.
    async fn know_their_epoch(&self, deadline: Instant) -> Result<(), String> {
        let mut words = JoinSet::new();
        for member in &self.members {
            let (client, ask_again) = (Arc::clone(&member.client), self.ask_again);
            words.spawn(async move { last_but_one(&client, ask_again).await });
        }
        words.join_all().await;
        let epoch =
            |member: &Member| member.client.standing().borrow().place.as_ref().map(|place| Arc::clone(&place.epoch));
        loop {
            let is_behind = |member: &&Member| {
                !member.client.standing().borrow().joined
                    || self.of_room(&member.client.room).any(|other| epoch(other) != epoch(member))
            };
            let Some(behind) = self.members.iter().find(is_behind) else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(format!("{} is in another epoch than its room", behind.client.uid));
            }
            sleep(LOOK_EVERY).await;
        }
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
        self.know_their_epoch(deadline).await?;
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
                let standing = member.client.standing();
                let now = standing.borrow();
                let missed: Vec<&str> =
                    others.iter().filter(|mark| !now.marks.contains(mark)).map(|mark| &*mark.0).collect();
                return Err(format!("{} has not heard the last word of {missed:?}", member.client.uid));
            }
        }
        Ok(())
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
        known.streams.values_mut().for_each(|stream| {
            stream.minfo = json!(null);
            stream.recording = None;
        });
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

/// Has the client's lease refreshed, which takes the store. As an application that cannot wait for the SDK's patience.
async fn refresh(client: &Client) {
    while client.ask("keepalive", json!({"rid": *client.room})).await.is_err() {
        sleep(ASK_EVERY).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.talk.abort();
    }
}
