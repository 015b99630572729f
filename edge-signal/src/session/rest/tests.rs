use proto::ids::{BootId, Epoch, Seq};
use room_store::{EntryId, Placement, RemoveReason};
use serde_json::{Value, json};

use super::*;

fn place(seq: u64) -> Position {
    Position { epoch: Epoch::of(1), seq: Seq::new(seq).expect("small") }
}

fn entry_at(seq: u64, cause: &str, event: Event) -> Entry {
    Entry { position: place(seq), id: EntryId(seq), cause: Some(cause.parse().expect("valid")), event }
}

fn said(seq: u64, peer: &str, length: usize) -> Arc<Entry> {
    let data = RawJson::of(&"x".repeat(length)).expect("JSON");
    Arc::new(entry_at(seq, peer, Event::Broadcast { peer: peer.parse().expect("valid"), data }))
}

fn stream(mid: &str, minfo: &Value) -> Arc<Publication> {
    let placement =
        Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "r".parse().expect("valid") };
    Arc::new(Publication {
        mid: mid.parse().expect("valid"),
        owner: "bob".parse().expect("valid"),
        minfo: Minfo::new(RawJson::of(minfo).expect("JSON")).expect("an object"),
        placement,
        confirmed: true,
        recording: None,
        always_recorded: false,
    })
}

/// Ann's, answered at 1,000.
fn missed(entries: Vec<Arc<Entry>>) -> Rest {
    Rest::of_missed("r".parse().expect("valid"), "ann".parse().expect("valid"), place(1_000), entries)
}

fn snapshot(publications: Vec<Arc<Publication>>) -> Rest {
    Rest { publications: publications.into_iter(), ..missed(Vec::new()) }
}

fn frames(rest: &mut Rest) -> Vec<Value> {
    rest.map(|frame| serde_json::from_str(&frame).expect("JSON")).collect()
}

#[test]
fn what_was_missed_is_told_in_order_from_the_log_when_it_is_too_much_to_keep() {
    // Every seventh was said by Ann herself. The log has gone on since.
    let who = |seq: u64| if seq.is_multiple_of(7) { "ann" } else { "bob" };
    let log: Vec<Arc<Entry>> = (1..=1_100).map(|seq| said(seq, who(seq), 1_000 + seq as usize % 900)).collect();
    let (since, end) = (100, 1_000);
    let answered = log.iter().filter(|entry| (since + 1..=end).contains(&entry.position.seq.get()));
    let answered = answered.filter(|entry| who(entry.position.seq.get()) == "bob").cloned().collect();
    let mut rest = missed(answered);
    let mut told = Vec::new();
    loop {
        let kept: usize = rest.missed.entries.as_slice().iter().map(|entry| weight(entry)).sum();
        assert!(kept <= MISSED_BYTES, "{kept}");
        told.extend(frames(&mut rest).iter().map(|frame| frame["data"]["seq"].as_u64().expect("a number")));
        let Some(after) = rest.later() else { break };
        rest.go_on(
            log.iter().filter(|entry| entry.position.seq > after.seq).take(follow::READ_LIMIT).cloned().collect(),
        );
    }
    let expected: Vec<u64> = (since + 1..=end).filter(|seq| who(*seq) == "bob").collect();
    assert_eq!(told, expected);
}

#[test]
fn an_entry_of_any_length_is_told() {
    let mut rest = missed(vec![said(1, "bob", 2 * MISSED_BYTES), said(2, "bob", 1)]);
    assert_eq!((frames(&mut rest).len(), rest.later()), (1, Some(place(1))));
}

#[test]
fn of_streams_that_have_changed_or_ended_nothing_old_is_kept() {
    let streams: Vec<_> = ["b#1", "b#2", "b#3"].map(|mid| stream(mid, &json!({"audio": true, "note": mid}))).into();
    let mut rest = snapshot(streams.clone());
    let muted = stream("b#2", &json!({"note": "muted"}));
    let notice = |seq, event| Notice::new(&"r".parse().expect("valid"), &entry_at(seq, "bob", event));
    let ended = |mid: &str| {
        let (owner, mid) = ("bob".parse().expect("valid"), mid.parse().expect("valid"));
        Event::StreamRemove { owner, mid, reason: RemoveReason::OwnerLeft }
    };
    rest.let_go(&notice(999, Event::StreamUpdate(stream("b#3", &json!({"note": "before the answer"})))));
    rest.let_go(&notice(1_001, ended("b#1")));
    rest.let_go(&notice(1_002, Event::StreamUpdate(Arc::clone(&muted))));
    rest.let_go(&notice(1_003, ended("b#9")));
    assert_eq!(streams.iter().map(Arc::strong_count).collect::<Vec<_>>(), [1, 1, 2]);
    let told: Vec<_> = frames(&mut rest).iter().map(|frame| frame["data"]["minfo"].clone()).collect();
    // As many as were promised: that one has ended is told after all of them.
    assert_eq!(told, [json!({}), json!({"note": "muted"}), json!({"audio": true, "note": "b#3"})]);
}

#[test]
fn records_that_say_the_same_are_shared() {
    let (same, other) = (stream("b#1", &json!({"n": 1})), stream("b#2", &json!({"n": 2})));
    let mut rest = snapshot(vec![stream("b#1", &json!({"n": 1})), stream("b#2", &json!({"n": 1}))]);
    rest.share(|_| None, |mid| [&same, &other].into_iter().find(|stream| stream.mid == *mid));
    assert_eq!([Arc::strong_count(&same), Arc::strong_count(&other)], [2, 1]);
}
