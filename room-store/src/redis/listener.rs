//! What a server publishes about rooms, over one connection for all of them (sharded pub/sub). A task of its own holds it: it
//! subscribes, and after a cut subscribes to everything again and tells each follower that it may have missed something.
//!
//! ```text
//!            somebody follows                confirmed, one by one
//! idle ──────────────────────▶ connecting ─────────────────────────▶ listening
//!                               ▲      ▲  │ can't: back off, jittered    │
//!                               │      └──┘ (cluster: hand rooms over)   │
//!                               └────────────────────────────────────────┘
//!                                 cut, no answer to a ping, slot taken away
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{Cmd, PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection, cmd};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use proto::ids::RoomId;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connector::{Connector, OnPush},
    keys::{Keys, slot_of},
    reply::read_event,
    router::Router,
};
use crate::feeds::Feeds;

/// Subscriptions asked for at once. More: a cut is over sooner where many rooms are followed; less: shorter bursts.
const AT_ONCE: usize = 256;

/// Commands that wait for the task to look: it looks at once, but for when it connects.
const COMMANDS: usize = 4_096;

/// How often a quiet connection is asked whether it still is one, and how long it may take to say so.
const PING: Duration = Duration::from_secs(5);
const PONG: Duration = Duration::from_millis(2_500);

/// How long to wait before a server is tried again: at first, doubled each time, at most; and up to as long again.
const BACK_OFF: Duration = Duration::from_millis(50);
const MOST_BACK_OFF: Duration = Duration::from_secs(1);

/// What listeners share with the store they belong to.
pub(super) struct Ear {
    pub(super) keys: Keys,
    pub(super) feeds: Mutex<Feeds>,
    pub(super) router: Router,
}

impl Ear {
    pub(super) fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for a room's subscription.
struct Waiting {
    /// Lets in what is heard from then on.
    open: Box<dyn FnOnce() + Send>,
    confirmed: oneshot::Sender<()>,
}

impl Waiting {
    fn confirm(self) {
        (self.open)();
        // Who has stopped waiting needs no answer.
        let _ = self.confirmed.send(());
    }
}

enum Command {
    Follow {
        room: RoomId,
        /// Told when the server has confirmed.
        waiting: Vec<Waiting>,
        /// Another server's until now: something may have been missed.
        resumed: bool,
    },
    Unfollow(RoomId),
}

/// The other end of a listening task, which ends with it.
pub(super) struct Listener {
    commands: mpsc::Sender<Command>,
    /// Rooms nobody follows any more could not be said: the task has to look for them.
    overlooked: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// `name`: which server, to tell whether a room is still its own.
    pub(super) fn start(name: String, connector: Arc<Connector>, ear: Weak<Ear>) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS);
        let overlooked = Arc::new(AtomicBool::new(false));
        let listening =
            Listening { name, connector, ear, received, overlooked: Arc::clone(&overlooked), wanted: HashMap::new() };
        Self { commands, overlooked, _task: AbortOnDropHandle::new(tokio::spawn(listening.run())) }
    }

    /// Returns when the server has confirmed that it will tell of the room. What it says from then on is let in by `open`, nothing it said
    /// before is.
    pub(super) async fn follow(&self, room: RoomId, open: Box<dyn FnOnce() + Send>) -> bool {
        let (confirmed, heard) = oneshot::channel();
        let follow = Command::Follow { room, waiting: vec![Waiting { open, confirmed }], resumed: false };
        self.commands.send(follow).await.is_ok() && heard.await.is_ok()
    }

    /// Nobody follows the room any more, unless somebody does again.
    pub(super) fn unfollow(&self, room: RoomId) {
        // A listener that has ended listens to nothing.
        if let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Unfollow(room)) {
            self.overlooked.store(true, Ordering::Relaxed);
        }
    }
}

struct Listening {
    name: String,
    connector: Arc<Connector>,
    ear: Weak<Ear>,
    received: mpsc::Receiver<Command>,
    overlooked: Arc<AtomicBool>,
    wanted: HashMap<RoomId, Wanted>,
}

#[derive(Default)]
struct Wanted {
    waiting: Vec<Waiting>,
    /// Those for whom a barrier was asked, by its number: they wait for another if the connection is cut before it is answered.
    behind: VecDeque<(u64, Vec<Waiting>)>,
    resumed: bool,
}

impl Wanted {
    /// Who waits for the room, whatever for: the connection on which they were to be confirmed is gone.
    fn all_waiting(&mut self) -> Vec<Waiting> {
        let behind = self.behind.drain(..).flat_map(|(_, waiting)| waiting);
        behind.chain(self.waiting.drain(..)).collect()
    }
}

/// Why listening stopped.
enum Stop {
    Cut,
    /// The store is gone.
    Ended,
}

/// What a connection says by itself, between its own task and the listening one.
#[derive(Default)]
struct Said {
    cut: Notify,
    taken_away: Mutex<Vec<String>>,
}

/// What was asked, and whether it was answered well.
type Answer = (Asked, Result<(), RedisError>);

enum Asked {
    /// To listen to a room.
    Subscribe(RoomId),
    /// Something that is answered after all that was said before: who waits behind it may open.
    Barrier(RoomId, u64),
    /// Nothing that anybody waits for.
    Other,
}

impl Listening {
    async fn run(mut self) {
        let mut back_off = BACK_OFF;
        loop {
            while self.wanted.is_empty() {
                let Some(command) = self.received.recv().await else { return };
                self.note(command);
            }
            let said = Arc::new(Said::default());
            let connecting = self.connector.connect(self.on_push(&said)).boxed();
            match connecting.await {
                Ok(connection) => {
                    let since = Instant::now();
                    if matches!(self.listen(connection, &said).await, Stop::Ended) {
                        return;
                    }
                    for wanted in self.wanted.values_mut() {
                        wanted.waiting = wanted.all_waiting();
                        wanted.resumed = true;
                    }
                    if since.elapsed() > MOST_BACK_OFF {
                        back_off = BACK_OFF;
                    }
                }
                Err(error) => tracing::debug!(redis = %self.name, %error, "no connection to listen on"),
            }
            if !self.hand_over().await {
                return;
            }
            sleep(back_off.mul_f64(1.0 + rand::random::<f64>())).await;
            back_off = (back_off * 2).min(MOST_BACK_OFF);
        }
    }

    /// Takes a command in. The room, if its subscription is new.
    fn note(&mut self, command: Command) -> Option<RoomId> {
        match command {
            Command::Follow { room, waiting, resumed } => {
                let is_new = !self.wanted.contains_key(&room);
                let wanted = self.wanted.entry(room.clone()).or_default();
                wanted.waiting.extend(waiting);
                wanted.resumed |= resumed;
                is_new.then_some(room)
            }
            Command::Unfollow(room) => {
                if self.ear.upgrade().is_none_or(|ear| !ear.feeds().is_followed(&room)) {
                    self.wanted.remove(&room);
                }
                None
            }
        }
    }

    /// Called on the connection's own task: what it hears goes straight into the followers' queues, which are bounded.
    fn on_push(&self, said: &Arc<Said>) -> OnPush {
        let (ear, said) = (self.ear.clone(), Arc::clone(said));
        Arc::new(move |push: PushInfo| match push.kind {
            PushKind::SMessage => {
                if let Some(ear) = ear.upgrade() {
                    pass_on(&ear, &push.data);
                }
            }
            PushKind::SUnsubscribe => {
                if let Some(Value::BulkString(channel)) = push.data.first() {
                    let channel = String::from_utf8_lossy(channel).into_owned();
                    said.taken_away.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
                    said.cut.notify_one();
                }
            }
            PushKind::Disconnection => said.cut.notify_one(),
            _ => {}
        })
    }

    async fn listen(&mut self, connection: MultiplexedConnection, said: &Said) -> Stop {
        let Some(keys) = self.ear.upgrade().map(|ear| ear.keys.clone()) else { return Stop::Ended };
        let mut todo: VecDeque<RoomId> = self.wanted.keys().cloned().collect();
        let mut heard: HashSet<RoomId> = HashSet::new();
        let mut leaving: HashSet<String> = HashSet::new();
        let mut asked: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let mut barriers = 0;
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while asked.len() < AT_ONCE
                && let Some(room) = todo.pop_front()
            {
                asked.push(ask(&connection, cmd("SSUBSCRIBE").arg(keys.feed(&room)), Asked::Subscribe(room)));
            }
            let mut unwanted = Vec::new();
            tokio::select! {
                command = self.received.recv() => {
                    let Some(command) = command else { return Stop::Ended };
                    let room = match &command {
                        Command::Follow { room, .. } | Command::Unfollow(room) => room.clone(),
                    };
                    let was_wanted = self.wanted.contains_key(&room);
                    todo.extend(self.note(command));
                    if was_wanted && !self.wanted.contains_key(&room) {
                        unwanted.push(room);
                    } else if heard.contains(&room)
                        && let Some(wanted) = self.wanted.get_mut(&room)
                        && !wanted.waiting.is_empty()
                    {
                        barriers += 1;
                        wanted.behind.push_back((barriers, std::mem::take(&mut wanted.waiting)));
                        asked.push(ask(&connection, &cmd("PING"), Asked::Barrier(room, barriers)));
                    }
                }
                Some((what, result)) = asked.next() => {
                    if let Err(error) = result {
                        tracing::debug!(redis = %self.name, %error, "can't listen");
                        return Stop::Cut;
                    }
                    match what {
                        Asked::Subscribe(room) if self.wanted.contains_key(&room) => {
                            self.confirm(&room);
                            heard.insert(room);
                        }
                        Asked::Barrier(room, number) => self.passed(&room, number),
                        Asked::Subscribe(_) | Asked::Other => {}
                    }
                }
                () = said.cut.notified() => {
                    let taken = std::mem::take(&mut *said.taken_away.lock().unwrap_or_else(PoisonError::into_inner));
                    // Those we gave up ourselves are no loss; for any other the slot is another server's.
                    if taken.is_empty() || taken.iter().any(|channel| !leaving.remove(channel)) {
                        return Stop::Cut;
                    }
                }
                _ = ping.tick() => {
                    asked.push(ask(&connection, &cmd("PING"), Asked::Other));
                    if self.overlooked.swap(false, Ordering::Relaxed) {
                        unwanted = self.forget_unfollowed();
                    }
                }
            }
            for room in unwanted {
                todo.retain(|waiting| *waiting != room);
                heard.remove(&room);
                leaving.insert(keys.feed(&room));
                asked.push(ask(&connection, cmd("SUNSUBSCRIBE").arg(keys.feed(&room)), Asked::Other));
            }
        }
    }

    /// Which rooms were wanted that nobody follows any more.
    fn forget_unfollowed(&mut self) -> Vec<RoomId> {
        let Some(ear) = self.ear.upgrade() else { return Vec::new() };
        let feeds = ear.feeds();
        let unfollowed: Vec<_> = self.wanted.keys().filter(|room| !feeds.is_followed(room)).cloned().collect();
        for room in &unfollowed {
            self.wanted.remove(room);
        }
        unfollowed
    }

    fn confirm(&mut self, room: &RoomId) {
        let Some(wanted) = self.wanted.get_mut(room) else { return };
        wanted.waiting.drain(..).for_each(Waiting::confirm);
        if std::mem::take(&mut wanted.resumed)
            && let Some(ear) = self.ear.upgrade()
        {
            ear.feeds().lag(room);
        }
    }

    /// A barrier was answered. Who waits behind a later one goes on waiting.
    fn passed(&mut self, room: &RoomId, number: u64) {
        let Some(wanted) = self.wanted.get_mut(room) else { return };
        while let Some((_, waiting)) = wanted.behind.pop_front_if(|(behind, _)| *behind <= number) {
            waiting.into_iter().for_each(Waiting::confirm);
        }
    }

    /// Rooms that are another server's by now are its listener's. Whether the store is still there.
    async fn hand_over(&mut self) -> bool {
        let Some(ear) = self.ear.upgrade() else { return false };
        ear.router.doubt();
        let rooms: Vec<RoomId> = self.wanted.keys().cloned().collect();
        for room in rooms {
            if !ear.feeds().is_followed(&room) {
                self.wanted.remove(&room);
                continue;
            }
            let Some(node) = ear.router.node(slot_of(&ear.keys.feed(&room))).await else { break };
            if node.name() != self.name
                && let Some(Wanted { waiting, .. }) = self.wanted.remove(&room)
            {
                let follow = Command::Follow { room, waiting, resumed: true };
                // Where that one has no room for it, this one tries again. A listener ends only with the store.
                if let Err(TrySendError::Full(Command::Follow { room, waiting, .. })) =
                    node.listener(&ear).commands.try_send(follow)
                {
                    self.wanted.insert(room, Wanted { waiting, resumed: true, ..Wanted::default() });
                    break;
                }
            }
        }
        true
    }
}

/// One channel at a time, so that each command has one answer.
fn ask(connection: &MultiplexedConnection, command: &Cmd, what: Asked) -> BoxFuture<'static, Answer> {
    let (mut connection, command) = (connection.clone(), command.clone());
    let asked = async move {
        let answered = timeout(PONG, command.exec_async(&mut connection)).await;
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        (what, answered.unwrap_or_else(late))
    };
    asked.boxed()
}

fn pass_on(ear: &Ear, data: &[Value]) {
    let [Value::BulkString(channel), Value::BulkString(message)] = data else { return };
    let room = std::str::from_utf8(channel).ok().and_then(|channel| ear.keys.room_of_feed(channel));
    let Some(room) = room else { return };
    match read_event(message) {
        Some(event) => ear.feeds().publish(&room, vec![event]),
        None => ear.feeds().lag(&room),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{
        RoomSettings, RoomStore,
        redis::{RedisConfig, RedisRooms, fake},
    };

    #[tokio::test]
    async fn who_comes_to_a_room_just_before_the_connection_is_cut_hears_it_over_the_next() {
        let pings = Arc::new(AtomicUsize::new(0));
        let answer = move |_, words: Vec<String>| {
            let answer = match words[0].as_str() {
                "SSUBSCRIBE" => format!(">3\r\n$10\r\nssubscribe\r\n${}\r\n{}\r\n:1\r\n", words[1].len(), words[1]),
                "PING" if pings.fetch_add(1, Ordering::Relaxed) == 0 => "-ERR is going down\r\n".to_owned(),
                _ => "+PONG\r\n".to_owned(),
            };
            async move { answer }
        };
        let server = fake::serve(answer).await;
        let url = format!("redis://{}:{}", server.host, server.port).parse().expect("a URL");
        let rooms = RedisRooms::connect(&RedisConfig::new(url), RoomSettings::default()).expect("a configuration");
        let room = RoomId::new("room").expect("a name");
        let _first = rooms.subscribe(&room).await.expect("it listens");
        let _second = rooms.subscribe(&room).await.expect("it listens again");
    }
}
