//! Random histories, against a model simple enough to be seen to be right.

use std::collections::BTreeMap;

use proto::ids::{Mid, Position};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Harness, Stage,
    concurrency::View,
    stage::{Player, peer, short},
};
use crate::{
    change::{JoinKind, Missed},
    settings::RoomSettings,
};

const PEERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const STEPS: usize = 120;

/// How long a session lasts unseen, in the harness' seconds; and one whose socket closed.
const TTL: u32 = 60;
const GRACE: u32 = 30;

fn settings<H: Harness>() -> RoomSettings {
    RoomSettings { ttl: H::SECOND * TTL, grace: H::SECOND * GRACE, log_entries: 100_000, ..RoomSettings::default() }
}

/// What a member is, in the model.
struct Seat {
    player: Player,
    attached: bool,
    due: u32,
    streams: Vec<Mid>,
    /// How far it has been told.
    seen: Position,
}

/// The model: who is in, and what the log must say.
#[derive(Default)]
struct Model {
    /// In seconds.
    now: u32,
    seats: BTreeMap<&'static str, Seat>,
    story: Vec<String>,
}

impl Model {
    fn tell(&mut self, text: String) {
        self.story.push(text);
    }

    fn end_streams(&mut self, uid: &str, reason: &str) {
        let streams = self.seats.get_mut(uid).map(|seat| std::mem::take(&mut seat.streams)).unwrap_or_default();
        for _ in streams {
            self.tell(format!("-{uid}/stream {reason}"));
        }
    }

    fn end(&mut self, uid: &str, reason: &str) {
        self.end_streams(uid, reason);
        self.seats.remove(uid);
        self.tell(format!("-{uid}"));
    }

    fn touch(&mut self, uid: &str) {
        let now = self.now;
        if let Some(seat) = self.seats.get_mut(uid).filter(|seat| seat.attached) {
            seat.due = now + TTL;
        }
    }
}

pub async fn random_histories_agree_with_a_simple_model<H: Harness>() {
    for seed in 0..H::HISTORIES {
        let mut random = StdRng::seed_from_u64(seed);
        let stage = Stage::<H>::with(settings::<H>()).await;
        let mut model = Model::default();
        // Never leaves, so that the room and its epoch last.
        let keeper = stage.join("keeper").await;
        model.tell("+keeper".to_owned());
        let mut view = View::default();
        for step in 0..STEPS {
            act(&stage, &mut model, &mut random).await;
            stage.refresh(&keeper).await;
            assert_eq!(stage.story().await, model.story, "seed {seed}, step {step}");
        }
        for entry in stage.log().await {
            view.apply(&entry);
        }
        assert_eq!(view, View::of(&stage).await, "seed {seed}");
    }
}

async fn act<H: Harness>(stage: &Stage<H>, model: &mut Model, random: &mut StdRng) {
    let uid = PEERS[random.random_range(0..PEERS.len())];
    let seated = model.seats.contains_key(uid);
    match random.random_range(0..100) {
        0..25 => join(stage, model, random, uid).await,
        25..45 if seated => publish(stage, model, uid).await,
        45..55 if seated => unpublish(stage, model, random, uid).await,
        55..65 if seated => {
            let player = model.seats[uid].player.clone();
            stage.say(&player, "hello").await;
            model.touch(uid);
            model.tell(format!(r#"{uid} says "hello""#));
        }
        65..72 if seated => {
            let player = model.seats[uid].player.clone();
            stage.leave(&player).await;
            model.end(uid, "owner_left");
        }
        72..82 if seated => {
            let due = model.now + GRACE;
            let seat = model.seats.get_mut(uid).expect("seated");
            stage.close(&seat.player).await;
            if std::mem::replace(&mut seat.attached, false) {
                seat.due = seat.due.min(due);
            }
        }
        82..87 if seated => {
            // From a socket seen to close it changes nothing.
            assert_eq!(stage.refresh(&model.seats[uid].player).await, None);
            model.touch(uid);
        }
        87..100 => wait(stage, model, random).await,
        _ => assert!(stage.store.leave(stranger(stage, uid), None).await.is_err(), "nobody leaves who is not in"),
    }
}

fn stranger<H: Harness>(stage: &Stage<H>, uid: &str) -> crate::Actor {
    let session = proto::ids::SessionId::of(u128::MAX);
    crate::Actor { room: stage.room.clone(), peer: peer(uid), session }
}

async fn join<H: Harness>(stage: &Stage<H>, model: &mut Model, random: &mut StdRng, uid: &'static str) {
    let mut join = stage.joining(uid);
    let old = model.seats.get(uid);
    let proves = random.random_bool(0.5);
    if let Some(seat) = old.filter(|_| proves) {
        join.resume = Some(seat.player.actor.session.clone());
        join.since = Some(seat.seen);
    }
    let expected = match old {
        None => JoinKind::New,
        Some(seat) if proves || !seat.attached => JoinKind::Resumed,
        Some(_) => JoinKind::TookOver,
    };
    let player = stage.admit(join.clone()).await;
    assert_eq!(player.joined.how, expected);
    if expected == JoinKind::Resumed {
        let seat = &model.seats[uid];
        let own: Vec<_> = player.joined.own_publications.iter().map(|record| record.mid.clone()).collect();
        let mut streams = seat.streams.clone();
        streams.sort();
        assert_eq!(own, streams);
    }
    if let Some(since) = join.since {
        let Missed::Entries(missed) = &player.joined.missed else { panic!("{:?}", player.joined.missed) };
        let missed: Vec<_> = missed.iter().map(|entry| short(entry)).collect();
        let prefixes = [format!("+{uid}"), format!("-{uid}"), format!("~{uid}"), format!("{uid} says")];
        let after = &model.story[since.seq.get() as usize..];
        let others: Vec<_> = after.iter().filter(|text| !prefixes.iter().any(|own| text.starts_with(own))).collect();
        assert_eq!(missed.iter().collect::<Vec<_>>(), others, "each thing missed, once, in order");
    }
    match expected {
        JoinKind::New => model.tell(format!("+{uid}")),
        JoinKind::TookOver => model.end_streams(uid, "owner_left"),
        JoinKind::Resumed => {}
    }
    let streams = model.seats.remove(uid).map(|seat| seat.streams).unwrap_or_default();
    let (due, seen) = (model.now + TTL, player.joined.position);
    model.seats.insert(uid, Seat { player, attached: true, due, streams, seen });
}

async fn publish<H: Harness>(stage: &Stage<H>, model: &mut Model, uid: &str) {
    let player = model.seats[uid].player.clone();
    let full = model.seats[uid].streams.len() >= settings::<H>().limits.publications;
    if full {
        assert!(stage.store.reserve_publication(stage.publishing(&player)).await.is_err());
    } else {
        let stream = stage.publish(&player).await;
        model.seats.get_mut(uid).expect("seated").streams.push(stream.mid.clone());
        model.tell(format!("+{uid}/stream"));
    }
    model.touch(uid);
}

async fn unpublish<H: Harness>(stage: &Stage<H>, model: &mut Model, random: &mut StdRng, uid: &str) {
    let seat = model.seats.get_mut(uid).expect("seated");
    if seat.streams.is_empty() {
        return;
    }
    let mid = seat.streams.swap_remove(random.random_range(0..seat.streams.len()));
    let player = seat.player.clone();
    stage.unpublish(&player, &mid).await.expect("its own");
    model.touch(uid);
    model.tell(format!("-{uid}/stream unpublished"));
}

async fn wait<H: Harness>(stage: &Stage<H>, model: &mut Model, random: &mut StdRng) {
    let by = random.random_range(1..25);
    stage.wait(H::SECOND * by).await;
    model.now += by;
    let due: Vec<_> = model.seats.iter().filter(|(_, seat)| seat.due <= model.now).map(|(uid, _)| *uid).collect();
    let expired = stage.expire().await;
    let peers: Vec<_> = expired.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, due);
    for uid in due {
        model.end(uid, "owner_expired");
    }
}
