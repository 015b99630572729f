//! What a real Redis can do to those who rely on it: be away, hang, forget, fail over, ask for certificates.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::{
    ids::{EdgeId, Epoch, OpId, PeerId, Position, RoomId, Seq, SessionId},
    json::RawJson,
};
use room_store::{
    Actor, Attachment, Broadcast, Conflict, ConnectionId, EntryId, Event, Expired, FeedItem, Follow, Follower, Hold,
    Join, JoinKind, LogRead, RoomEvent, RoomSettings, RoomStore, StoreError,
    follow::READ_LIMIT,
    redis::{RedisConfig, RedisConfigError, RedisRooms, RedisTls},
};
use servers::{Certificates, Redis, RedisCluster, RedisSentinels, Reply};

/// A call may take this long, and no longer.
const CALL: Duration = Duration::from_secs(3);

/// Longer than any failover here takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// Calls again and again, as it is, until the store answers.
macro_rules! patiently {
    ($call:expr) => {{
        let until = Instant::now() + PATIENCE;
        loop {
            let began = Instant::now();
            let answer = $call.await;
            assert!(began.elapsed() < CALL, "no call takes longer than its deadline");
            match answer {
                Ok(answer) => break answer,
                Err(error) if error.is_transient() && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }};
}

fn connect(url: &str) -> RedisRooms {
    let config = RedisConfig::new(url.parse().expect("a URL"));
    RedisRooms::connect(&config, RoomSettings::default()).expect("a configuration")
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).expect("valid")
}

fn joining(room: &RoomId, uid: &str) -> Join {
    Join {
        room: room.clone(),
        peer: PeerId::new(uid).expect("valid"),
        attachment: Attachment { edge: edge(), connection: ConnectionId(1) },
        resume: None,
        since: None,
        fresh: SessionId::of(rand::random()),
        op: None,
    }
}

fn edge() -> EdgeId {
    EdgeId::new("edge").expect("valid")
}

async fn join(rooms: &RedisRooms, room: &RoomId, uid: &str) -> Actor {
    let join = joining(room, uid);
    let session = patiently!(rooms.join(join.clone())).session;
    Actor { room: room.clone(), peer: join.peer, session }
}

fn saying(actor: &Actor, text: &str) -> Broadcast {
    let data = RawJson::of(&text).expect("a text is JSON");
    Broadcast { actor: actor.clone(), data, entry: EntryId(rand::random()), op: None }
}

async fn next(feed: &mut room_store::RoomFeed) -> FeedItem {
    tokio::time::timeout(PATIENCE, feed.next()).await.expect("in time").expect("the feed goes on")
}

#[tokio::test]
async fn calls_fail_at_once_while_nobody_listens_and_work_when_somebody_does_again() {
    let mut redis = Redis::durable().await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    let actor = join(&rooms, &here, "a").await;
    let mut feed = rooms.subscribe(&here).await.expect("subscribed");
    redis.stop();
    // The first may still have been on its way.
    let _ = rooms.head(&here).await;
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(rooms.broadcast(saying(&actor, "lost")).await, Err(StoreError::Unavailable));
    }
    assert!(began.elapsed() < CALL, "it is known at once");
    assert!(matches!(rooms.subscribe(&room("other")).await, Err(StoreError::Unavailable)));
    redis.start_again().await;
    assert_eq!(next(&mut feed).await, FeedItem::Lagged, "it may have missed something");
    patiently!(rooms.broadcast(saying(&actor, "heard")));
    let FeedItem::Event(RoomEvent::Entry(entry)) = next(&mut feed).await else { panic!("no entry") };
    assert_eq!(entry.position.seq.get(), 2, "nothing was lost");
}

#[tokio::test]
async fn a_redis_that_was_never_there_is_found_when_it_comes() {
    let mut redis = Redis::start().await;
    redis.stop();
    let rooms = connect(&redis.url());
    assert_eq!(rooms.ping().await, Err(StoreError::Unavailable));
    redis.start_again().await;
    patiently!(rooms.ping());
}

#[tokio::test]
async fn a_redis_that_hangs_costs_each_call_its_deadline_and_no_more() {
    let redis = Redis::start().await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    let actor = join(&rooms, &here, "a").await;
    redis.pause();
    let began = Instant::now();
    let calls = (0..1_000).map(|number| {
        let (rooms, said) = (rooms.clone(), saying(&actor, &number.to_string()));
        tokio::spawn(async move { rooms.broadcast(said).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let error = call.await.expect("no panic").expect_err("nobody answers");
        assert!(error.is_transient());
    }
    assert!(began.elapsed() < CALL);
    assert!(rooms.subscribe(&room("other")).await.is_err());
    redis.resume();
    patiently!(rooms.head(&here));
    for _ in 0..100 {
        rooms.broadcast(saying(&actor, "again")).await.expect("no place is taken by what nobody waits for");
    }
}

#[tokio::test]
async fn a_redis_that_lost_everything_has_another_life() {
    let redis = Redis::start().await;
    let (rooms, other) = (connect(&redis.url()), connect(&redis.url()));
    let life = rooms.ping().await.expect("there");
    assert_eq!(other.ping().await, Ok(life));
    assert_eq!(rooms.ping().await, Ok(life));
    // Scripts are forgotten, too.
    redis.command(&["SCRIPT", "FLUSH"]).await;
    join(&rooms, &room("here"), "a").await;
    assert_eq!(rooms.ping().await, Ok(life));
    redis.command(&["FLUSHALL"]).await;
    assert_ne!(rooms.ping().await, Ok(life));
    assert_eq!(rooms.head(&room("here")).await, Ok(None));
}

#[tokio::test]
async fn a_join_is_one_round_trip_and_costs_the_same_among_many_rooms() {
    let redis = Redis::start().await;
    let rooms = connect(&redis.url());
    let cost = async |name: &str| {
        redis.command(&["CONFIG", "RESETSTAT"]).await;
        rooms.join(joining(&room(name), "a")).await.expect("joined");
        let stats = redis.command(&["INFO", "commandstats"]).await.text().to_owned();
        let lines = stats.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split_once(',')?.0.parse::<u64>().ok()?;
            (name != "config|resetstat" && name != "info").then(|| (name.to_owned(), calls))
        });
        lines.collect::<BTreeMap<_, _>>()
    };
    join(&rooms, &room("first"), "a").await;
    let alone = cost("second").await;
    assert_eq!(alone.get("evalsha"), Some(&1), "{alone:?}");
    for number in 0..3_000 {
        join(&rooms, &room(&number.to_string()), "a").await;
    }
    assert_eq!(cost("last").await, alone);
}

#[tokio::test]
async fn tls_takes_the_right_certificates_and_no_others() {
    let redis = Redis::tls().await;
    let (own, foreign) = (redis.certificates().expect("TLS"), Certificates::new());
    let ping = async |ca: &Certificates, client: Option<&Certificates>| {
        let tls = RedisTls {
            ca: Some(ca.ca()),
            cert: client.map(Certificates::client),
            key: client.map(Certificates::client_key),
        };
        let config = RedisConfig { tls, ..RedisConfig::new(redis.url().parse().expect("a URL")) };
        let rooms = RedisRooms::connect(&config, RoomSettings::default()).expect("certificates");
        let pinged = rooms.ping().await;
        if pinged.is_ok() {
            let here = room("here");
            let mut feed = rooms.subscribe(&here).await.expect("subscribed");
            join(&rooms, &here, "a").await;
            assert!(matches!(next(&mut feed).await, FeedItem::Event(RoomEvent::Entry(_))));
        }
        pinged.is_ok()
    };
    assert!(ping(own, Some(own)).await);
    assert!(!ping(own, None).await, "the server wants a certificate");
    assert!(!ping(own, Some(&foreign)).await, "of its own authority");
    assert!(!ping(&foreign, Some(own)).await, "the client does not know the server's");
    let plain = connect(&redis.url().replace("rediss", "redis"));
    assert!(plain.ping().await.is_err());
}

#[tokio::test]
async fn a_user_with_few_rights_is_enough_and_another_one_is_not_let_in() {
    let redis = Redis::start().await;
    let rights = ["~sluice:*", "&sluice:*", "+@all", "-@dangerous", "+role"];
    redis.command(&[&["ACL", "SETUSER", "sluice", "on", ">pass word"][..], &rights].concat()).await;
    let url = |who: &str| format!("redis://{who}@127.0.0.1:{}/3", redis.port());
    let (rooms, here) = (connect(&url("sluice:pass%20word")), room("here"));
    let mut feed = rooms.subscribe(&here).await.expect("subscribed");
    let actor = join(&rooms, &here, "a").await;
    assert!(matches!(next(&mut feed).await, FeedItem::Event(RoomEvent::Entry(_))));
    rooms.ping().await.expect("there");
    rooms.leave(actor, None).await.expect("a member");
    rooms.due_rooms(9).await.expect("answered");
    rooms.expire_due(&here, 9).await.expect("answered");
    assert_eq!(connect(&url("sluice:wrong")).ping().await, Err(StoreError::Unavailable));
}

#[tokio::test]
async fn databases_of_one_server_hear_nothing_of_each_other() {
    let redis = Redis::start().await;
    let (one, other) = (connect(&redis.url()), connect(&format!("{}/1", redis.url())));
    let here = room("here");
    let (mut heard, mut elsewhere) =
        (one.subscribe(&here).await.expect("subscribed"), other.subscribe(&here).await.expect("subscribed"));
    join(&one, &here, "a").await;
    join(&other, &here, "b").await;
    for (feed, uid) in [(&mut heard, "a"), (&mut elsewhere, "b")] {
        let FeedItem::Event(RoomEvent::Entry(entry)) = next(feed).await else { panic!("no entry") };
        assert!(matches!(&entry.event, Event::PeerJoin(member) if member.peer.as_str() == uid));
    }
    assert_eq!(one.snapshot(&here).await.expect("answered").expect("a room").members.len(), 1);
}

#[tokio::test]
async fn a_redis_without_memory_refuses_a_step_before_it_begins() {
    let redis = Redis::with(&["--save", "", "--maxmemory-policy", "noeviction"]).await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    let actor = join(&rooms, &here, "a").await;
    let before = rooms.snapshot(&here).await.expect("answered");
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(rooms.leave(actor.clone(), None).await, Err(StoreError::Unavailable));
    assert_eq!(rooms.broadcast(saying(&actor, "lost")).await, Err(StoreError::Unavailable));
    assert_eq!(rooms.snapshot(&here).await, Ok(before), "all is as it was, and can be read");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    rooms.leave(actor, None).await.expect("a member");
}

#[test]
fn certificates_that_can_not_be_used_are_refused_at_once() {
    let made = Certificates::new();
    let refuse = |url: &str, tls: RedisTls| {
        let config = RedisConfig { tls, ..RedisConfig::new(url.parse().expect("a URL")) };
        RedisRooms::connect(&config, RoomSettings::default()).err().expect("refused")
    };
    let (none, ca) = (RedisTls::default(), Some(made.ca()));
    let missing = RedisTls { ca: Some(made.directory().join("missing.pem")), ..none.clone() };
    assert!(
        matches!(refuse("rediss://h", missing), RedisConfigError::File { path, .. } if path.ends_with("missing.pem"))
    );
    let half = RedisTls { cert: Some(made.client()), ..none.clone() };
    assert!(matches!(refuse("rediss://h", half), RedisConfigError::HalfAnIdentity));
    let key_for_certificate = RedisTls { cert: Some(made.client()), key: Some(made.ca()), ..none.clone() };
    assert!(matches!(refuse("rediss://h", key_for_certificate), RedisConfigError::Certificates(_)));
    assert!(matches!(refuse("redis://h", RedisTls { ca, ..none }), RedisConfigError::TlsNotAsked));
}

/// What four members say while servers fail over, and what one who follows the room is told.
struct Load {
    rooms: RedisRooms,
    here: RoomId,
    actors: Vec<Actor>,
    epoch: Epoch,
}

/// One is on its way at a time.
const KILLED: usize = 1;

/// What is said once a failover is over.
const AFTER: &str = "after";

/// Who said which number.
type Said = (String, u64);

impl Load {
    async fn new(rooms: RedisRooms) -> Self {
        let here = room("here");
        let mut actors = Vec::new();
        for uid in ["a", "b", "c", "d"] {
            actors.push(join(&rooms, &here, uid).await);
        }
        let epoch = patiently!(rooms.head(&here)).expect("a room").position.epoch;
        Self { rooms, here, actors, epoch }
    }

    /// Each says numbers, one after the other, each as often as it takes, until `enough`. How many each has said.
    fn talk(&self, enough: &tokio::sync::watch::Receiver<bool>) -> Vec<tokio::task::JoinHandle<u64>> {
        let talk = |actor: &Actor| {
            let (rooms, actor, enough) = (self.rooms.clone(), actor.clone(), enough.clone());
            tokio::spawn(async move {
                let mut said = 0;
                while !*enough.borrow() {
                    let next = saying(&actor, &said.to_string());
                    patiently!(rooms.broadcast(next.clone()));
                    said += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                said
            })
        };
        self.actors.iter().map(talk).collect()
    }

    /// Follows as an edge does, until it is where the log is and `done`. What it was told, and how often it had to start anew.
    async fn follow(&self, done: tokio::sync::watch::Receiver<bool>) -> tokio::task::JoinHandle<(Vec<Said>, usize)> {
        let (rooms, here) = (self.rooms.clone(), self.here.clone());
        let mut feed = rooms.subscribe(&here).await.expect("subscribed");
        let head = patiently!(rooms.head(&here)).expect("a room");
        tokio::spawn(async move {
            let (mut follower, mut told, mut resyncs) = (Follower::new(head), Vec::new(), 0);
            loop {
                while let Some(follow) = follower.poll() {
                    match follow {
                        Follow::Deliver(entry) => {
                            if let Event::Broadcast { peer, data } = &entry.event {
                                let text: String = data.parse().expect("a text");
                                if text != AFTER {
                                    told.push((peer.to_string(), text.parse().expect("a number")));
                                }
                            }
                        }
                        Follow::ReadLog { after, id } => {
                            let read = rooms.log_after(&here, after, id, READ_LIMIT);
                            if let Ok(read) = read.await {
                                follower.handle_read(read);
                            } else {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                                follower.handle_failure();
                            }
                        }
                        Follow::StartEpoch { seen } => {
                            follower.handle_epoch(patiently!(rooms.start_epoch(&here, seen)));
                        }
                        Follow::Resync => {
                            let snapshot = patiently!(rooms.snapshot(&here)).expect("a room");
                            resyncs += 1;
                            follower.restart(snapshot.head);
                        }
                        Follow::Superseded { .. } => panic!("nobody joined again"),
                    }
                }
                match tokio::time::timeout(Duration::from_millis(500), feed.next()).await {
                    Ok(item) => follower.handle_item(item.expect("the feed goes on")),
                    // As the refresh of leases tells it.
                    Err(_) => match rooms.head(&here).await {
                        Ok(Some(head)) if *done.borrow() && head.position == follower.position() => {
                            return (told, resyncs);
                        }
                        Ok(Some(head)) => follower.handle_head(head),
                        _ => {}
                    },
                }
            }
        })
    }

    /// Fails a server over under load, and accounts for everything. `lost`: most broadcasts of each member that a master may have
    /// answered with its last word and told nobody else of, replicas and followers included.
    async fn survives(&self, lost: usize, fail_over: impl AsyncFnOnce()) {
        let (enough, is_enough) = tokio::sync::watch::channel(false);
        let (done, is_done) = tokio::sync::watch::channel(false);
        let follower = self.follow(is_done).await;
        let talkers = self.talk(&is_enough);
        tokio::time::sleep(Duration::from_millis(500)).await;
        fail_over().await;
        // What is answered from here on is answered by the new master.
        patiently!(self.rooms.broadcast(saying(&self.actors[0], AFTER)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        enough.send_replace(true);
        let mut said = Vec::new();
        for talker in talkers {
            said.push(talker.await.expect("all calls are answered in the end"));
        }
        done.send_replace(true);
        let (told, resyncs) = follower.await.expect("all is told");
        let mut heard: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (peer, number) in told {
            heard.entry(peer).or_default().push(number);
        }
        let epoch = self.rooms.head(&self.here).await.expect("answered").expect("a room").position.epoch;
        for (actor, said) in self.actors.iter().zip(said) {
            let heard = heard.remove(actor.peer.as_str()).unwrap_or_default();
            assert!(said > 20, "much was said: {said}");
            assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "none twice, in order: {heard:?}");
            assert!(heard.iter().all(|number| *number < said), "nothing that was not said");
            if epoch == self.epoch {
                let missing = said as usize - heard.len();
                assert!(missing <= lost, "{missing} were lost within an epoch");
                assert_eq!(resyncs, 0);
            }
            let hold = Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection: ConnectionId(1) };
            let refreshed = self.rooms.refresh(&self.here, &edge(), vec![hold]).await.expect("answered");
            assert!(refreshed.lost.is_empty(), "no member was lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_accounted_for_when_sentinels_make_another_master() {
    let mut redis = RedisSentinels::start().await;
    let load = Load::new(connect(&redis.url())).await;
    let life = load.rooms.ping().await.expect("there");
    load.survives(KILLED, async || {
        redis.fail_over().await;
    })
    .await;
    assert_eq!(patiently!(load.rooms.ping()), life, "a failover is not another life");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_accounted_for_when_a_cluster_makes_a_replica_the_master() {
    let mut redis = RedisCluster::start().await;
    let load = Load::new(connect(&redis.url())).await;
    let life = load.rooms.ping().await.expect("there");
    let port = redis.master_of("{here}").await;
    load.survives(KILLED, async || {
        redis.servers().iter_mut().find(|server| server.port() == port).expect("one of them").stop();
    })
    .await;
    assert_eq!(patiently!(load.rooms.ping()), life, "a failover is not another life");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_to_another_master_take_their_rooms_and_feeds_along() {
    let redis = RedisCluster::start().await;
    let load = Load::new(connect(&redis.url())).await;
    load.survives(0, async || redis.move_slot_of("{here}").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clocks_by_which_leases_end_are_those_of_all_masters() {
    const PAUSE: Duration = Duration::from_millis(200);
    let (one, cluster) = (Redis::start().await, RedisCluster::start().await);
    for url in [one.url(), cluster.url()] {
        let rooms = connect(&url);
        let began = Instant::now();
        let before = patiently!(rooms.clocks());
        tokio::time::sleep(PAUSE).await;
        let after = rooms.clocks().await.expect("there");
        let most = began.elapsed();
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let (before, after) = (before.expect("told"), after.expect("told"));
            assert!(before + PAUSE <= after && after <= before + most, "{before:?}, {after:?}: {most:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_cluster_that_lost_everything_makes_another_life() {
    let mut redis = RedisCluster::start().await;
    let rooms = connect(&redis.url());
    let life = patiently!(rooms.ping());
    assert_eq!(rooms.ping().await, Ok(life));
    redis.servers()[1].command(&["FLUSHALL"]).await;
    assert_ne!(rooms.ping().await, Ok(life));
}

/// The rooms that have an entry in the index of due rooms.
async fn indexed(redis: &RedisCluster) -> BTreeSet<String> {
    let mut indexed = BTreeSet::new();
    for keys in redis.command_masters(&["KEYS", "*{exp/*}:due"]).await {
        for key in keys.list() {
            let entries = redis.command_on(key.text(), &["ZRANGE", key.text(), "0", "-1"]).await;
            indexed.extend(entries.list().iter().map(|entry| entry.text().to_owned()));
        }
    }
    indexed
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "{what} in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_that_is_away_stops_no_rooms_of_others() {
    // So few that they are counted with each join. Of those that are elsewhere r0, r4, r11 and r14 have their entries in the index on
    // the master that will be away.
    const ROOMS: usize = 18;
    let mut redis = RedisCluster::start().await;
    // Nobody takes its place, and nobody stands still for it.
    for server in redis.servers() {
        server.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
        server.command(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]).await;
    }
    let away = redis.servers()[0].port();
    let (mut there, mut lost) = (Vec::new(), Vec::new());
    for number in 0..ROOMS {
        let name = format!("r{number}");
        let rooms = if redis.master_of(&format!("{{{name}}}")).await == away { &mut lost } else { &mut there };
        rooms.push(room(&name));
    }
    let (first, later) = there.split_at(there.len() / 2);
    let with_room_for = |rooms: usize| {
        let mut settings = RoomSettings::default();
        settings.limits.rooms = rooms;
        let config = RedisConfig::new(redis.url().parse().expect("a URL"));
        RedisRooms::connect(&config, settings).expect("a configuration")
    };
    let (rooms, full) = (with_room_for(ROOMS + 1), with_room_for(lost.len() + first.len()));
    let mut actors = Vec::new();
    for here in lost.iter().chain(first) {
        actors.push(join(&rooms, here, "a").await);
    }
    full.join(joining(&first[0], "b")).await.expect("there is room in a room");
    let life = patiently!(rooms.ping());
    assert_eq!(rooms.part_away_since(), None);

    redis.servers()[0].pause();
    assert_eq!(rooms.ping().await, Ok(life), "what is away is as it was");
    assert!(rooms.part_away_since().is_some());
    let (of_lost, of_others) = actors.split_at(lost.len());
    let failed = rooms.broadcast(saying(&of_lost[0], "lost")).await.expect_err("nobody is there");
    assert!(failed.is_transient());
    for actor in of_others {
        let hold = Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection: ConnectionId(1) };
        rooms.broadcast(saying(actor, "heard")).await.expect("its room is elsewhere");
        let refreshed = rooms.refresh(&actor.room, &edge(), vec![hold]).await.expect("its room is elsewhere");
        assert!(refreshed.lost.is_empty());
    }
    let one_more = full.join(joining(&later[0], "a")).await.map(|joined| joined.how);
    assert_eq!(one_more, Err(Conflict::TooManyRooms.into()), "those that are away are counted as they were");
    for here in later {
        rooms.join(joining(here, "a")).await.expect("its room is elsewhere");
    }

    redis.servers()[0].resume();
    until("all of it is seen again", async || rooms.ping().await == Ok(life) && rooms.part_away_since().is_none())
        .await;
    let all: BTreeSet<String> = lost.iter().chain(&there).map(|here| here.as_str().to_owned()).collect();
    until("each room is in the index, however little it could be told", async || {
        let _ = rooms.ping().await;
        indexed(&redis).await == all
    })
    .await;
    for actor in of_lost {
        patiently!(rooms.broadcast(saying(actor, "heard again")));
    }
    // As if all leases had ended meanwhile, as they have where a master was away for a ttl.
    for key in redis.command_masters(&["KEYS", "*{exp/*}:due"]).await.iter().flat_map(Reply::list) {
        for name in &all {
            redis.command_on(key.text(), &["ZADD", key.text(), "XX", "1", name]).await;
        }
    }
    redis.command_on("{r0}", &["ZADD", "sluice:2:{r0}:due", "1", "ma"]).await;
    assert_eq!(rooms.due_rooms(ROOMS).await, Ok(vec![]), "nobody could refresh them");
    assert_eq!(rooms.expire_due(&room("r0"), 9).await, Ok(Expired::default()));
    assert_eq!(
        connect(&redis.url()).due_rooms(ROOMS).await.map(|due| due.len()),
        Ok(all.len()),
        "they are due all the same"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_that_a_cluster_lost_comes_back_with_the_next_refresh() {
    let redis = RedisCluster::start().await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    let actor = join(&rooms, &here, "a").await;
    let keys = async || {
        let replies = redis.command_masters(&["KEYS", "*{exp/*}:due"]).await;
        replies.iter().flat_map(Reply::list).map(|key| key.text().to_owned()).collect::<Vec<_>>()
    };
    for key in keys().await {
        redis.command_on(&key, &["DEL", &key]).await;
    }
    assert!(keys().await.is_empty());
    let hold = Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection: ConnectionId(1) };
    rooms.refresh(&here, &edge(), vec![hold]).await.expect("answered");
    assert_eq!(keys().await.len(), 1);
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_an_error_and_no_panic() {
    let redis = Redis::start().await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    let actor = join(&rooms, &here, "a").await;
    redis.command(&["HSET", "sluice:2:{here}:pubs", "mid", "nonsense"]).await;
    assert_eq!(rooms.snapshot(&here).await, Err(StoreError::Timeout));
    redis.command(&["RPUSH", "sluice:2:{here}:log", "nonsense"]).await;
    redis.command(&["HINCRBY", "sluice:2:{here}:room", "seq", "1"]).await;
    let head = rooms.head(&here).await.expect("answered").expect("a room");
    let after = Position { seq: Seq::START, ..head.position };
    assert!(!matches!(rooms.log_after(&here, after, None, 9).await, Ok(LogRead::Entries(_))));
    assert_eq!(rooms.join(joining(&here, "a")).await.map(|joined| joined.how), Err(StoreError::Timeout));
    let again = rooms.join(Join { resume: Some(actor.session), ..joining(&room("elsewhere"), "a") }).await;
    assert_eq!(again.map(|joined| joined.how), Ok(JoinKind::New), "other rooms go on");
}

/// What a call does whose reply is lost on the wire: the server has it in hand, and carries it out when nobody waits any more.
#[tokio::test]
async fn a_call_that_was_carried_out_unheard_is_repeated_safely() {
    let redis = Redis::start().await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    let (a, b) = (join(&rooms, &here, "a").await, join(&rooms, &here, "b").await);
    // Their scripts are known, and there is a connection for each: a call is one round trip.
    let c = join(&rooms, &here, "c").await;
    let (left, said) = tokio::join!(rooms.leave(c, None), rooms.broadcast(saying(&a, "before")));
    assert_eq!((left.map(|left| left.ended), said), (Ok(true), Ok(())));
    let said = saying(&a, "unheard");
    let op = Some(OpId::new("bye").expect("valid"));
    redis.pause();
    let (spoken, left) = tokio::join!(rooms.broadcast(said.clone()), rooms.leave(b.clone(), op.clone()));
    assert_eq!((spoken, left), (Err(StoreError::Timeout), Err(StoreError::Timeout)));
    redis.resume();
    until("both are carried out", async || {
        let snapshot = patiently!(rooms.snapshot(&here)).expect("a room");
        snapshot.members.len() == 1 && snapshot.head.position.seq.get() == 7
    })
    .await;
    rooms.broadcast(said).await.expect("said before");
    let again = rooms.leave(b.clone(), op).await.expect("known");
    assert!(again.ended && again.released.publications.is_empty());
    assert_eq!(rooms.leave(b, None).await, Err(StoreError::NotMember));
    let head = rooms.head(&here).await.expect("answered").expect("a room");
    assert_eq!(head.position.seq.get(), 7, "each once");
}

#[tokio::test]
async fn what_is_nobodys_in_the_index_or_among_deadlines_keeps_nobody_from_expiring() {
    let redis = Redis::start().await;
    let (rooms, here) = (connect(&redis.url()), room("here"));
    join(&rooms, &here, "a").await;
    let strays = ["", "x".repeat(129).as_str(), "a/b", "\u{1}"].map(str::to_owned);
    for stray in &strays {
        for bucket in ["sluice:2:{exp/0}:due", "sluice:2:{exp/63}:due"] {
            redis.command(&["ZADD", bucket, "1", stray]).await;
        }
    }
    for stray in ["", "?", "mnobody", "pnothing", "snothing"] {
        redis.command(&["ZADD", "sluice:2:{here}:due", "1", stray]).await;
    }
    // As if its lease had ended.
    redis.command(&["ZADD", "sluice:2:{here}:due", "1", "ma"]).await;
    let bucket = redis.command(&["KEYS", "sluice:2:{exp/*}:due"]).await;
    for bucket in bucket.list() {
        redis.command(&["ZADD", bucket.text(), "XX", "1", "here"]).await;
    }
    assert_eq!(rooms.due_rooms(100).await, Ok(vec![here.clone()]));
    for bucket in ["sluice:2:{exp/0}:due", "sluice:2:{exp/63}:due"] {
        let left = redis.command(&["ZRANGE", bucket, "0", "-1"]).await;
        assert!(left.list().iter().all(|entry| entry.text() == "here"), "{left:?}");
    }
    let expired = rooms.expire_due(&here, 100).await.expect("answered");
    assert_eq!((expired.peers.len(), expired.more), (1, false));
    assert_eq!(redis.command(&["ZRANGE", "sluice:2:{here}:due", "0", "-1"]).await, Reply::List(vec![]));
}

#[tokio::test]
async fn feeds_end_with_the_store() {
    let redis = Redis::start().await;
    let rooms = connect(&redis.url());
    let mut feed = rooms.subscribe(&room("here")).await.expect("subscribed");
    let store: Arc<dyn RoomStore> = Arc::new(rooms);
    drop(store);
    let ended = tokio::time::timeout(PATIENCE, feed.next()).await.expect("in time");
    assert_eq!(ended, None);
}
