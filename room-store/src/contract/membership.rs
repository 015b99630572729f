//! Joining and leaving.

use super::{
    Harness, Stage,
    stage::{peer, room},
};
use crate::{
    change::{JoinKind, Missed},
    error::{Conflict, StoreError},
    settings::{Limits, RoomSettings},
};

pub async fn the_first_joins_an_empty_room<H: Harness>() {
    let stage = Stage::<H>::new().await;
    assert_eq!(stage.store.head(&stage.room).await, Ok(None));
    let a = stage.join("a").await;
    assert_eq!(a.joined.how, JoinKind::New);
    assert!(a.joined.members.is_empty() && a.joined.publications.is_empty());
    assert!(a.joined.own_publications.is_empty() && a.joined.own_subscriptions.is_empty());
    assert_eq!(a.joined.missed, Missed::NotAsked);
    assert_eq!(a.joined.position.seq.get(), 1, "its own entry is behind it");
    assert_eq!(stage.head().await.id, a.joined.head);
    assert_eq!(stage.story().await, ["+a"]);
}

pub async fn the_second_sees_the_first<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let stream = stage.publish(&a).await;
    let b = stage.join("b").await;
    assert_eq!(b.joined.members.len(), 1);
    assert_eq!(b.joined.members[0].peer, a.actor.peer);
    assert_eq!(b.joined.members[0].edge, a.attachment.edge);
    assert_eq!(b.joined.publications, [stream]);
    assert_eq!(stage.story().await, ["+a", "+a/stream", "+b"]);
}

pub async fn a_session_resumes_on_another_socket<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let (own, others) = (stage.publish(&a).await, stage.publish(&b).await);
    let subscription = stage.subscribe(&a, &others.mid).await;
    let mut join = stage.joining("a");
    join.resume = Some(a.actor.session.clone());
    let again = stage.admit(join).await;
    assert_eq!(again.joined.how, JoinKind::Resumed);
    assert_eq!(again.actor, a.actor);
    assert_eq!(again.joined.superseded, Some(a.attachment.clone()));
    assert_eq!(again.joined.own_publications, [own]);
    assert_eq!(again.joined.own_subscriptions, [subscription]);
    assert_eq!(again.joined.publications, [others]);
    assert!(again.joined.released.is_empty());
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream", "+b/stream"], "nobody sees anything");
    let page = stage.store.members(b.actor.clone(), None, 9).await.expect("a member");
    assert_eq!(page.items[0].edge, again.attachment.edge, "its edge is where its socket is");
}

pub async fn a_peer_without_a_socket_resumes_without_a_session<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let own = stage.publish(&a).await;
    stage.close(&a).await;
    let again = stage.join("a").await;
    assert_eq!((again.joined.how, &again.actor), (JoinKind::Resumed, &a.actor));
    assert_eq!(again.joined.own_publications, [own]);
    assert_eq!(again.joined.superseded, None);
}

pub async fn the_newest_socket_wins_without_a_session<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let (own, others) = (stage.publish(&a).await, stage.publish(&b).await);
    let reserved = stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    let subscription = stage.subscribe(&a, &others.mid).await;
    let newer = stage.join("a").await;
    assert_eq!(newer.joined.how, JoinKind::TookOver);
    assert_ne!(newer.actor.session, a.actor.session);
    assert_eq!(newer.joined.superseded, Some(a.attachment.clone()));
    assert!(newer.joined.own_publications.is_empty() && newer.joined.own_subscriptions.is_empty());
    let released = &newer.joined.released;
    let mut mids: Vec<_> = released.publications.iter().map(|(mid, _)| mid.clone()).collect();
    mids.sort();
    assert_eq!(mids, [own.mid.clone(), reserved.mid.clone()]);
    assert_eq!(released.subscriptions, [(subscription.sid.clone(), subscription.placement.clone())]);
    assert_eq!(stage.story().await[4..], ["-a/stream owner_left"], "it stayed a member all the while");
    let late = stage.store.confirm_publication(a.actor.clone(), &reserved.mid).await;
    assert_eq!(late, Err(StoreError::NotMember), "the old session is over");
    assert_eq!(stage.store.leave(a.actor, None).await, Err(StoreError::NotMember));
    assert_eq!(stage.members().await, ["a", "b"]);
}

pub async fn a_session_that_ended_does_not_take_over_silently<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.join("a").await;
    stage.leave(&first).await;
    let second = stage.join("a").await;
    let mut join = stage.joining("a");
    join.resume = Some(first.actor.session.clone());
    let third = stage.admit(join).await;
    assert_eq!(third.joined.how, JoinKind::TookOver);
    assert_eq!(third.joined.superseded, Some(second.attachment));
}

pub async fn joining_twice_on_one_socket_is_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.join("a").await;
    let mut join = stage.joining("a");
    join.attachment = first.attachment.clone();
    let again = stage.admit(join).await;
    assert_eq!((again.joined.how, &again.actor), (JoinKind::Resumed, &first.actor));
    assert_eq!(again.joined.superseded, None);
    assert_eq!(stage.story().await, ["+a"]);
}

pub async fn leaving_ends_streams_first<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let (one, two) = (stage.publish(&a).await, stage.publish(&a).await);
    let subscription = stage.subscribe(&b, &one.mid).await;
    let left = stage.store.leave(a.actor.clone(), None).await.expect("a member");
    assert_eq!(left.released.publications.len(), 2);
    assert!(left.released.publications.contains(&(two.mid.clone(), two.placement.clone())));
    assert_eq!(left.released.subscriptions, [(subscription.sid.clone(), subscription.placement.clone())]);
    assert_eq!(stage.story().await[4..], ["-a/stream owner_left", "-a/stream owner_left", "-a"]);
    assert_eq!(stage.members().await, ["b"]);
}

pub async fn leaving_twice_is_an_error<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, _b) = (stage.join("a").await, stage.join("b").await);
    stage.leave(&a).await;
    assert_eq!(stage.store.leave(a.actor.clone(), None).await, Err(StoreError::NotMember));
    assert_eq!(stage.store.broadcast(stage.saying(&a, "hello?")).await, Err(StoreError::NotMember));
    assert_eq!(stage.store.members(a.actor, None, 9).await, Err(StoreError::NotMember));
    let mut stranger = stage.join("b").await.actor;
    stranger.room = room("nowhere");
    assert_eq!(stage.store.leave(stranger, None).await, Err(StoreError::NotMember));
}

pub async fn a_full_room_takes_no_more<H: Harness>() {
    let limits = Limits { members: 2, ..Limits::default() };
    let stage = Stage::<H>::with(RoomSettings { limits, ..RoomSettings::default() }).await;
    let (a, _b) = (stage.join("a").await, stage.join("b").await);
    let third = stage.store.join(stage.joining("c")).await;
    assert_eq!(third, Err(Conflict::RoomFull.into()));
    assert_eq!(stage.join("a").await.joined.how, JoinKind::TookOver, "who is in may come again");
    assert_eq!(stage.story().await, ["+a", "+b"]);
    assert_eq!(stage.store.leave(a.actor, None).await, Err(StoreError::NotMember));
    let a = stage.join("a").await;
    stage.leave(&a).await;
    assert_eq!(stage.join("c").await.joined.how, JoinKind::New);
}

pub async fn too_many_rooms_are_refused<H: Harness>() {
    let limits = Limits { rooms: 1, ..Limits::default() };
    let mut stage = Stage::<H>::with(RoomSettings { limits, ..RoomSettings::default() }).await;
    stage.join("a").await;
    stage.join("b").await;
    let first = std::mem::replace(&mut stage.room, room("another"));
    assert_eq!(stage.store.join(stage.joining("a")).await, Err(Conflict::TooManyRooms.into()));
    assert_eq!(stage.store.head(&stage.room).await, Ok(None), "a refused join makes no room");
    stage.room = first;
    assert_eq!(stage.members().await, ["a", "b"]);
}

pub async fn empty_rooms_do_not_count<H: Harness>() {
    let limits = Limits { rooms: 1, ..Limits::default() };
    let mut stage = Stage::<H>::with(RoomSettings { limits, ..RoomSettings::default() }).await;
    let a = stage.join("a").await;
    stage.leave(&a).await;
    let first = std::mem::replace(&mut stage.room, room("another"));
    let b = stage.join("b").await;
    stage.close(&b).await;
    let second = std::mem::replace(&mut stage.room, first);
    let refused = stage.store.join(stage.joining("a")).await;
    assert_eq!(refused, Err(Conflict::TooManyRooms.into()), "one in its grace is a member");
    stage.room = second;
    stage.wait(RoomSettings::default().grace).await;
    assert_eq!(stage.expire().await.peers.len(), 1);
    stage.room = room("a third");
    assert_eq!(stage.join("a").await.joined.how, JoinKind::New);
}

pub async fn rooms_are_apart<H: Harness>() {
    let mut stage = Stage::<H>::new().await;
    let red = stage.join("a").await;
    let stream = stage.publish(&red).await;
    let first = std::mem::replace(&mut stage.room, room("blue"));
    let blue = stage.join("a").await;
    let other = stage.join("b").await;
    assert_eq!(stage.store.publication(other.actor.clone(), &stream.mid).await, Err(StoreError::UnknownPublication));
    assert_eq!(stage.unpublish(&blue, &stream.mid).await, Err(StoreError::UnknownPublication));
    assert_ne!(blue.joined.position.epoch, red.joined.position.epoch);
    stage.leave(&blue).await;
    assert_eq!(stage.story().await, ["+a", "+b", "-a"]);
    stage.room = first;
    assert_eq!(stage.story().await, ["+a", "+a/stream"]);
}

pub async fn names_of_any_script_are_kept<H: Harness>() {
    let mut stage = Stage::<H>::new().await;
    stage.room = room("会议室 ½ \"quoted\" \\ {".replace('{', "(").as_str());
    let names = ["Zoë", "张三", "a b:c|d", "'; --", "\u{1F600}"];
    for name in names {
        stage.join(name).await;
    }
    let mut found = stage.members().await;
    let mut expected: Vec<_> = names.iter().map(ToString::to_string).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

pub async fn pages_are_whole_and_in_order<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let reader = stage.join("m").await;
    stage.publish(&reader).await;
    for name in ["a", "b", "n", "z", "o"] {
        let player = stage.join(name).await;
        stage.publish(&player).await;
    }
    let first = stage.store.members(reader.actor.clone(), None, 2).await.expect("a member");
    let uids = |items: &[std::sync::Arc<crate::Member>]| items.iter().map(|m| m.peer.to_string()).collect::<Vec<_>>();
    assert_eq!((uids(&first.items), first.more), (vec!["a".to_owned(), "b".to_owned()], true));
    let rest = stage.store.members(reader.actor.clone(), Some(peer("b")), 3).await.expect("a member");
    assert_eq!((uids(&rest.items), rest.more), (vec!["n".to_owned(), "o".to_owned(), "z".to_owned()], false));
    let mut after = None;
    let mut owners = Vec::new();
    loop {
        let page = stage.store.publications(reader.actor.clone(), after, 2).await.expect("a member");
        owners.extend(page.items.iter().map(|stream| stream.owner.to_string()));
        after = page.items.last().map(|stream| stream.mid.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(owners, ["a", "b", "n", "o", "z"], "others' streams, each once");
}
