//! What clients can do, and what others hear of it.

use serde_json::{Value, json};

use super::world::{AUDIO, BOTH, Sfu, World};
use crate::nodes::SfuError;

#[test]
fn a_join_shows_who_is_there_and_others_hear_of_it() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    let first = world.join(&mut ann, "r");
    assert_eq!((&first["pubs"], &first["users"]), (&json!([]), &json!([])));
    assert_eq!(first["own"], json!({"pubs": [], "subs": []}));
    assert_eq!(first["grace"], 30.0);
    let mid = world.publish(&mut ann, "r");
    let second = world.join(&mut bob, "r");
    assert_eq!(second["users"], json!([{"rid": "r", "uid": "ann", "signalid": "edge-1", "bizid": "edge-1"}]));
    assert_eq!(second["pubs"][0]["mid"], mid.as_str());
    assert_eq!(second["pubs"][0]["minfo"], json!({"audio": true, "video": false}));
    assert!(second.get("more").is_none() && second.get("resync").is_none());
    world.hear(&mut ann);
    let heard = ann.notified();
    assert_eq!(heard.len(), 1, "not of itself: {heard:?}");
    assert_eq!(heard[0].0, "peer-join");
    assert_eq!(heard[0].1["uid"], "bob");
    assert_eq!(heard[0].1["epoch"], second["epoch"]);
    assert_eq!(heard[0].1["seq"], second["seq"]);
}

#[test]
fn a_stream_is_announced_after_the_sfu_has_it_and_removed_before_its_owner_leaves() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let minfo = json!({"audio": true, "video": true, "videotype": 1, "mine": [1.50]});
    let data = json!({"rid": "r", "jsep": {"type": "offer", "sdp": BOTH}, "minfo": minfo});
    let published = world.done(&mut ann, "publish", &data);
    assert_eq!(published["jsep"], json!({"type": "answer", "sdp": "answer"}));
    assert_eq!(published["sfuid"], "sfu-1");
    let binding = &world.offered[0].publications[0];
    assert_eq!((binding.audio, binding.video), (true, true));
    assert_eq!(world.offered[0].transport_id, published["mid"].as_str().expect("a mid"));
    world.done(&mut ann, "leave", &json!({"rid": "r"}));
    world.hear(&mut bob);
    let heard = bob.notified();
    let methods: Vec<&str> = heard.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(methods, ["stream-add", "stream-remove", "peer-leave"]);
    assert_eq!(heard[0].1["minfo"], minfo);
    assert_eq!(heard[0].1["sfuid"], "sfu-1");
    assert_eq!(heard[1].1["reason"], "owner_left");
    assert_eq!(world.closed_transports, [published["mid"].as_str().expect("a mid")]);
}

#[test]
fn a_subscription_is_made_on_the_streams_node_whatever_the_client_names() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut ann, "r");
    let data = json!({"rid": "r", "mid": mid, "sfuid": "elsewhere", "jsep": {"type": "offer", "sdp": AUDIO}});
    let subscribed = world.done(&mut bob, "subscribe", &data);
    assert_eq!(subscribed["sfuid"], "sfu-1");
    let sid = subscribed["sid"].as_str().expect("a sid");
    assert!(sid.starts_with("bob#"));
    let binding = &world.offered[1].subscriptions[0];
    assert_eq!((binding.subscription_id.as_str(), binding.publication_id.as_str()), (sid, mid.as_str()));
    let end = json!({"rid": "r", "mid": mid, "sid": sid});
    world.done(&mut bob, "unsubscribe", &end);
    world.done(&mut bob, "unsubscribe", &end);
    assert_eq!(world.closed_transports, [sid]);
}

#[test]
fn ending_a_stream_twice_is_no_error_and_ends_its_subscriptions() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut ann, "r");
    let sid = world.subscribe(&mut bob, "r", &mid);
    world.done(&mut ann, "unpublish", &json!({"rid": "r", "mid": mid}));
    world.done(&mut ann, "unpublish", &json!({"rid": "r", "mid": mid}));
    assert_eq!(world.closed_transports, [mid.clone(), sid.clone()]);
    world.done(&mut bob, "unsubscribe", &json!({"rid": "r", "mid": mid, "sid": sid}));
}

#[test]
fn a_broadcast_reaches_all_others_verbatim_and_in_order() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    for data in [json!("hi"), json!(null), json!({"a": [1, 2.50]})] {
        assert_eq!(world.done(&mut ann, "broadcast", &json!({"rid": "r", "data": data})), json!({}));
    }
    world.hear(&mut bob);
    world.hear(&mut ann);
    assert!(ann.methods().iter().all(|method| method == "peer-join"));
    let said: Vec<Value> = bob.notified().into_iter().map(|(_, data)| data["data"].clone()).collect();
    assert_eq!(said, [json!("hi"), json!(null), json!({"a": [1, 2.50]})]);
}

#[test]
fn a_publish_repeated_where_its_node_is_out_of_reach_leaves_the_stream_alone() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    let publish = json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}, "op": "p1"});
    let published = world.done(&mut ann, "publish", &publish);
    world.nodes.insert("sfu-1", Sfu::Fails(SfuError::Unreachable));
    world.nodes.insert("sfu-2", Sfu::Works);
    assert_eq!(world.refused(&mut ann, "publish", &publish).0, 12);
    assert!(world.closed_transports.is_empty());
    world.nodes.insert("sfu-1", Sfu::Works);
    assert_eq!(world.done(&mut ann, "publish", &publish)["mid"], published["mid"]);
}

#[test]
fn muting_is_told_in_the_streams_description() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut ann, "r");
    world.hear(&mut bob);
    bob.notified();
    world.done(&mut ann, "mute", &json!({"rid": "r", "mid": mid, "audio": true}));
    world.hear(&mut bob);
    let heard = bob.notified();
    assert_eq!(heard[0].0, "stream-update");
    assert_eq!(heard[0].1["minfo"], json!({"audio": true, "video": false, "muted": {"audio": true, "video": false}}));
    assert_eq!(world.refused(&mut bob, "mute", &json!({"rid": "r", "mid": mid, "audio": true})).0, 3);
}

#[test]
fn own_streams_and_subscriptions_can_be_restarted_and_foreign_ones_not() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let mid = world.publish(&mut ann, "r");
    let sid = world.subscribe(&mut bob, "r", &mid);
    let jsep = json!({"type": "offer", "sdp": AUDIO});
    let answer = world.done(&mut ann, "restart", &json!({"rid": "r", "mid": mid, "jsep": jsep}));
    assert_eq!(answer, json!({"jsep": {"type": "answer", "sdp": "restarted"}}));
    world.done(&mut bob, "restart", &json!({"rid": "r", "mid": mid, "sid": sid, "jsep": jsep}));
    assert_eq!(world.refused(&mut bob, "restart", &json!({"rid": "r", "mid": mid, "jsep": jsep})).0, 3);
    assert_eq!(world.refused(&mut ann, "restart", &json!({"rid": "r", "sid": sid, "jsep": jsep})).0, 4);
}

#[test]
fn lists_do_not_contain_the_one_who_asks() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    world.publish(&mut ann, "r");
    let mid = world.publish(&mut bob, "r");
    let users = world.done(&mut ann, "getusers", &json!({"rid": "r"}));
    assert_eq!(users["users"].as_array().expect("a list").len(), 1);
    assert_eq!(users["users"][0]["uid"], "bob");
    let pubs = world.done(&mut ann, "getpubs", &json!({"rid": "r"}));
    assert_eq!(pubs["pubs"].as_array().expect("a list").len(), 1);
    assert_eq!(pubs["pubs"][0]["mid"], mid.as_str());
}

#[test]
fn a_session_resumes_on_another_socket_with_what_it_missed() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    let joined = world.join(&mut ann, "r");
    let mid = world.publish(&mut ann, "r");
    world.join(&mut bob, "r");
    world.hear(&mut ann);
    let since = ann.notified().pop().expect("peer-join").1;
    ann.session.handle_closed();
    world.collect(&mut ann);
    world.settle(&mut ann);
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": "missed"}));
    let mut again = world.client("ann");
    let since = json!({"epoch": since["epoch"], "seq": since["seq"]});
    let data = json!({"rid": "r", "session": joined["session"], "since": since});
    let resumed = world.done(&mut again, "join", &data);
    assert_eq!(resumed["own"]["pubs"][0]["mid"], mid.as_str());
    assert_eq!(resumed["session"], joined["session"]);
    assert!(resumed.get("resync").is_none());
    let followed = again.notified();
    assert_eq!(followed.len(), 1);
    assert_eq!((followed[0].0.as_str(), &followed[0].1["data"]), ("broadcast", &json!("missed")));
    world.hear(&mut again);
    assert!(again.notified().is_empty(), "each exactly once");
    world.hear(&mut bob);
    assert!(bob.notified().is_empty(), "nobody else sees anything");
}

#[test]
fn a_position_nobody_knows_is_answered_with_a_resync() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    for since in [json!({"epoch": "00000000000000ff", "seq": 1}), json!("x"), json!({"seq": 1})] {
        let joined = world.done(&mut ann, "join", &json!({"rid": "r", "since": since}));
        assert_eq!(joined["resync"], true);
    }
}

#[test]
fn the_newest_socket_of_a_peer_wins() {
    let mut world = World::new();
    let (mut old, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut old, "r");
    let mid = world.publish(&mut old, "r");
    world.join(&mut bob, "r");
    let mut new = world.client("ann");
    let joined = world.done(&mut new, "join", &json!({"rid": "r", "session": "made.up"}));
    assert_eq!(joined["own"], json!({"pubs": [], "subs": []}));
    assert_eq!(world.closed_transports, [mid]);
    world.hear(&mut old);
    let heard = old.notified();
    assert_eq!(heard.last().expect("kicked").0, "peer-kick");
    assert_eq!(heard.last().expect("kicked").1["uid"], "ann");
    assert_eq!(old.closed.expect("closed").0, 4000);
    world.settle(&mut old);
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["stream-remove"], "it stayed a member all the while");
    world.done(&mut new, "keepalive", &json!({"rid": "r"}));
}

#[test]
fn who_is_taken_over_in_one_room_leaves_no_ghost_in_another() {
    let mut world = World::new();
    let (mut old, mut bob) = (world.client("ann"), world.client("bob"));
    let mut tokens = Vec::new();
    for rid in ["a", "b", "c"] {
        tokens.push(world.join(&mut old, rid)["session"].clone());
        world.join(&mut bob, rid);
    }
    world.publish(&mut old, "b");
    let mut new = world.client("ann");
    world.done(&mut new, "join", &json!({"rid": "c", "session": tokens[2]}));
    world.join(&mut new, "a");
    // The old socket hears of the room that was taken over before that of the one that was resumed.
    world.hear_one(&mut old, "a");
    assert_eq!(old.closed.expect("closed").0, 4000);
    world.settle(&mut old);
    world.hear(&mut bob);
    let left: Vec<_> = bob.notified().into_iter().map(|(method, data)| (method, data["rid"].clone())).collect();
    let expected = ["stream-add", "stream-remove", "peer-leave"].map(|method| (method.to_owned(), json!("b")));
    assert_eq!(left, expected);
    world.done(&mut new, "keepalive", &json!({"rid": "c"}));
}

#[test]
fn a_resumed_session_closes_its_stale_socket_without_a_kick() {
    let mut world = World::new();
    let mut old = world.client("ann");
    let joined = world.join(&mut old, "r");
    let mut new = world.client("ann");
    world.done(&mut new, "join", &json!({"rid": "r", "session": joined["session"]}));
    world.hear(&mut old);
    assert!(old.notified().is_empty());
    assert_eq!(old.closed.expect("closed").0, 4000);
}

#[test]
fn joining_again_on_the_same_socket_goes_on_from_the_new_snapshot() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let id = world.send(&mut ann, "join", &json!({"rid": "r"}));
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
    world.settle(&mut ann);
    let again = ann.answer(id);
    assert_eq!(again["data"]["users"][0]["uid"], "bob");
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 2}));
    world.hear(&mut ann);
    let said: Vec<Value> = ann.notified().into_iter().map(|(_, data)| data["data"].clone()).collect();
    assert_eq!(said, [json!(2)], "what was before the snapshot is not told after it");
}

#[test]
fn one_socket_is_in_several_rooms_at_once() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    for rid in ["a", "b"] {
        world.join(&mut ann, rid);
        world.join(&mut bob, rid);
    }
    world.done(&mut ann, "leave", &json!({"rid": "a"}));
    world.hear(&mut bob);
    world.done(&mut ann, "broadcast", &json!({"rid": "b", "data": 1}));
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["peer-leave", "broadcast"]);
    assert_eq!(world.refused(&mut ann, "broadcast", &json!({"rid": "a", "data": 1})).0, 2);
}

#[test]
fn a_large_room_comes_in_pages_to_clients_that_know_them() {
    let mut world = World::new();
    let count = 500;
    let mut members: Vec<_> = (0..count).map(|n| world.client(&format!("{:x<100}{n:05}", "peer"))).collect();
    for member in &mut members {
        world.join(member, "r");
    }
    for member in members.iter_mut().take(20) {
        world.publish(member, "r");
    }
    let mut ann = world.client("ann");
    let joined = world.done(&mut ann, "join", &json!({"rid": "r", "paging": true}));
    let mut users = joined["users"].as_array().expect("a list").clone();
    let mut pubs = joined["pubs"].as_array().expect("a list").clone();
    assert!(users.len() < count && !ann.methods().iter().any(|method| method == "peer-join"));
    let mut more = joined["more"].clone();
    while !more.is_null() {
        let page = world.done(&mut ann, "getusers", &json!({"rid": "r", "cursor": more}));
        users.extend(page["users"].as_array().expect("a list").iter().cloned());
        more = page["more"].clone();
    }
    let mut more = joined["more"].clone();
    while !more.is_null() {
        let page = world.done(&mut ann, "getpubs", &json!({"rid": "r", "cursor": more}));
        pubs.extend(page["pubs"].as_array().expect("a list").iter().cloned());
        more = page["more"].clone();
    }
    assert_eq!((users.len(), pubs.len()), (count, 20));
    users.dedup();
    assert_eq!(users.len(), count, "in order, none twice");
    assert!(ann.longest_frame < 128 * 1024);
}

#[test]
fn a_large_room_follows_as_notifications_for_clients_that_know_no_pages() {
    let mut world = World::new();
    let count = 500;
    let mut members: Vec<_> = (0..count).map(|n| world.client(&format!("{:x<100}{n:05}", "peer"))).collect();
    for member in &mut members {
        world.join(member, "r");
    }
    let mut ann = world.client("ann");
    let joined = world.join(&mut ann, "r");
    let listed = joined["users"].as_array().expect("a list").len();
    let followed = ann.methods();
    assert!(followed.iter().all(|method| method == "peer-join"));
    assert_eq!(listed + followed.len(), count);
    assert_eq!(joined["rest"], json!(followed.len()), "so that it is known when all have come");
    assert!(ann.longest_frame < 128 * 1024 && joined.get("more").is_none());
}

#[test]
fn a_resume_in_a_large_room_tells_what_was_missed_and_nothing_of_what_is_known() {
    let mut world = World::new();
    let mut members: Vec<_> = (0..500).map(|n| world.client(&format!("{:x<100}{n:05}", "peer"))).collect();
    for member in &mut members {
        world.join(member, "r");
    }
    let mut ann = world.client("ann");
    let joined = world.join(&mut ann, "r");
    ann.session.handle_closed();
    world.collect(&mut ann);
    world.settle(&mut ann);
    world.done(&mut members[499], "leave", &json!({"rid": "r"}));
    world.done(&mut members[0], "broadcast", &json!({"rid": "r", "data": 1}));
    for (epoch, told) in [(&joined["epoch"], true), (&json!("0123456789abcdef"), false)] {
        let mut again = world.client("ann");
        let since = json!({"epoch": epoch, "seq": joined["seq"]});
        let join = json!({"rid": "r", "session": joined["session"], "since": since});
        let resumed = world.done(&mut again, "join", &join);
        if told {
            assert_eq!(again.methods(), ["peer-leave", "broadcast"]);
            assert!(resumed.get("rest").is_none());
        } else {
            let followed = again.methods();
            assert!(resumed["resync"] == true && resumed["rest"] == json!(followed.len()), "{resumed}");
            assert!(followed.iter().all(|method| method == "peer-join") && !followed.is_empty());
        }
    }
}

#[test]
fn ids_are_echoed_exactly() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    for id in ["0", "-1", "1.50", "1e3", "12345678901234567890123", "9007199254740993"] {
        let text = format!(r#"{{"request":true,"id":{id},"method":"nothing","data":{{}}}}"#);
        ann.session.handle_text(world.now, &text);
        let mut frames = Vec::new();
        while let Some(output) = ann.session.poll_output() {
            if let crate::session::Output::Send(frame) = output {
                frames.push(frame.to_string());
            }
        }
        assert_eq!(frames.len(), 1);
        assert!(frames[0].starts_with(&format!(r#"{{"response":true,"id":{id},"ok":false,"#)), "{}", frames[0]);
    }
    world.collect(&mut ann);
}

#[test]
fn a_request_sent_as_a_notification_is_carried_out_without_an_answer() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    for (method, data) in [("broadcast", json!({"rid": "r", "data": 1})), ("leave", json!({"rid": "r"}))] {
        let frame = json!({"notification": true, "method": method, "data": data});
        world.send_text(&mut ann, &frame.to_string());
        world.settle(&mut ann);
    }
    world.send_text(&mut ann, r#"{"notification":true,"method":"nothing"}"#);
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["broadcast", "peer-leave"]);
    assert!(ann.sent.iter().all(|frame| frame["notification"] == true), "{:?}", ann.sent);
}

#[test]
fn a_repeated_op_is_answered_and_not_done_twice() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let minfo = json!({"audio": true});
    let publish = json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": minfo, "op": "p1"});
    let first = world.done(&mut ann, "publish", &publish);
    let second = world.done(&mut ann, "publish", &publish);
    assert_eq!(first, second);
    for _ in 0..2 {
        world.done(&mut ann, "broadcast", &json!({"rid": "r", "data": 1, "op": "b1"}));
    }
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["stream-add", "broadcast"]);
}

#[test]
fn a_stream_lost_with_its_node_is_told_to_all_and_its_owner_asked_to_publish_again() {
    use futures_util::FutureExt as _;
    use room_store::{EndedBy, RemoveReason, RoomStore as _};

    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let mid: proto::ids::Mid = world.publish(&mut ann, "r").parse().expect("valid");
    world.hear(&mut bob);
    bob.notified();
    world.hear(&mut ann);
    ann.notified();
    let room: proto::ids::RoomId = "r".parse().expect("valid");
    let carriers = world.store.carriers(&room).now_or_never().expect("at once").expect("works");
    let placement = carriers[0].placement.clone();
    let by = EndedBy::Node { room, placement, reason: RemoveReason::NodeLost };
    world.store.remove_publication(&mid, by).now_or_never().expect("at once").expect("removed");
    world.hear(&mut bob);
    world.hear(&mut ann);
    assert_eq!(bob.methods(), ["stream-remove"]);
    let heard = ann.notified();
    assert_eq!(
        heard.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>(),
        ["stream-remove", "stream-migrate"]
    );
    assert_eq!(heard[1].1, json!({"rid": "r", "mid": mid.as_str(), "reason": "node_lost"}));
}

#[test]
fn an_op_is_known_however_much_is_said_meanwhile() {
    let mut world = World::new();
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    let publish = json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}, "op": "p2"});
    let first = world.done(&mut ann, "publish", &publish);
    for _ in 0..1_100 {
        world.done(&mut ann, "broadcast", &json!({"rid": "r", "data": 1}));
    }
    assert_eq!(world.done(&mut ann, "publish", &publish)["mid"], first["mid"]);
}

#[test]
fn a_leave_sent_again_is_answered_on_whatever_socket_and_ends_no_later_membership() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.client("ann"), world.client("bob"));
    world.join(&mut ann, "r");
    world.join(&mut bob, "r");
    let leave = json!({"rid": "r", "op": "out"});
    for _ in 0..2 {
        assert_eq!(world.done(&mut ann, "leave", &leave), json!({}));
    }
    let mut other = world.client("ann");
    assert_eq!(world.done(&mut other, "leave", &leave), json!({}));
    assert_eq!(world.refused(&mut other, "leave", &json!({"rid": "r", "op": "never sent before"})).0, 2);
    assert_eq!(world.refused(&mut other, "leave", &json!({"rid": "r"})).0, 2);
    world.hear(&mut bob);
    assert_eq!(bob.methods(), ["peer-leave"]);
    world.join(&mut other, "r");
    world.done(&mut other, "leave", &leave);
    world.done(&mut other, "keepalive", &json!({"rid": "r"}));
    world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
    world.hear(&mut other);
    assert_eq!(other.methods(), ["broadcast"], "it is still in the room");
}

#[test]
fn a_leave_whose_answer_was_lost_is_over_when_it_is_sent_again() {
    use room_store::StoreError;

    let mut world = World::new();
    let mut ann = world.client("ann");
    world.join(&mut ann, "r");
    let leave = json!({"rid": "r", "op": "out"});
    let id = world.send(&mut ann, "leave", &leave);
    let running = ann.running.pop_front().expect("the leave");
    let lost = running.command.failed(StoreError::Timeout).expect("a store command");
    world.execute(&mut ann, running.command);
    world.complete(&mut ann, running.id, lost);
    assert_eq!(ann.answer(id)["errorCode"], 11);
    world.done(&mut ann, "leave", &leave);
    assert_eq!(world.refused(&mut ann, "keepalive", &json!({"rid": "r"})).0, 2);
}

#[test]
fn all_that_survived_is_told_however_much_it_is() {
    let mut world = World::new();
    let long = |name: &str| format!("{name}{}", "x".repeat(128 - name.len()));
    let mut bob = world.client(&long("bob"));
    world.join(&mut bob, "r");
    let mid = world.publish(&mut bob, "r");
    for paging in [false, true] {
        let mut ann = world.client(&long("ann"));
        let joined = world.join(&mut ann, "r");
        let mut expected: Vec<String> = (0..900).map(|_| world.subscribe(&mut ann, "r", &mid)).collect();
        expected.sort();
        world.done(&mut bob, "broadcast", &json!({"rid": "r", "data": 1}));
        ann.session.handle_closed();
        world.collect(&mut ann);
        world.settle(&mut ann);
        let mut again = world.client(&long("ann"));
        let since = json!({"epoch": joined["epoch"], "seq": joined["seq"]});
        let join = json!({"rid": "r", "session": joined["session"], "since": since, "paging": paging});
        let resumed = world.done(&mut again, "join", &join);
        let mut followed = again.notified();
        assert_eq!(followed.pop().expect("what was missed comes last").0, "broadcast");
        let mut own = vec![resumed["own"].clone()];
        own.extend(followed.into_iter().filter(|(method, _)| method == "own").map(|(_, data)| data));
        let mores: Vec<bool> = own.iter().map(|part| part["more"] == true).collect();
        assert!(own.len() > 1 && mores[..own.len() - 1].iter().all(|more| *more) && !mores[own.len() - 1], "{mores:?}");
        let subs = own.iter().flat_map(|part| part["subs"].as_array().expect("a list"));
        let mut sids: Vec<&str> = subs.map(|sub| sub["sid"].as_str().expect("a sid")).collect();
        sids.sort_unstable();
        assert_eq!(sids, expected, "each once");
        assert!(again.longest_frame < 128 * 1024);
        world.done(&mut again, "leave", &json!({"rid": "r"}));
    }
}
