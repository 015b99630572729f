//! What a node that has too much to do takes, and what not.

use proto::refusal::NoTransport;

use super::*;

fn refused(rig: &Rig, request: sfu::NegotiateRequest) -> NoTransport {
    NoTransport::of(&rig.negotiate(request).expect_err("refused")).expect("says why")
}

#[test]
fn publications_are_refused_first_and_then_everything_new() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.control.set_level(Level::NoPublications);
    assert_eq!(refused(&rig, publish("bob", "bob#1", &[AUDIO])), NoTransport::Overloaded);
    rig.negotiate(subscribe("bob", "bob#2", &source, &[AUDIO_DOWN])).expect("its stream is nowhere else");
    rig.control.set_level(Level::NothingNew);
    assert_eq!(refused(&rig, subscribe("eve", "eve#2", &source, &[AUDIO_DOWN])), NoTransport::Overloaded);
    assert_eq!(rig.control.transports(), 2, "a refusal changes nothing");
    rig.control.set_level(Level::Normal);
    rig.negotiate(publish("bob", "bob#1", &[AUDIO])).expect("it is over");
}

#[test]
fn what_keeps_up_what_there_is_always_passes() {
    let rig = Rig::new();
    let first = publish("ann", "ann#1", &[AUDIO]);
    rig.negotiate(first.clone()).expect("published");
    rig.control.set_level(Level::NothingNew);
    rig.negotiate(first).expect("the same again, for its answer was lost");
    let further = publish("ann", "ann#1", &[AUDIO, VIDEO]);
    rig.negotiate(further.clone()).expect("a further offer on a live transport");
    let restarted = OfferText::parse(&offer("other", &[AUDIO, VIDEO])).expect("an offer");
    rig.control.restart(&TransportId::new("ann#1").expect("valid"), &restarted).expect("restarted");
}

#[tokio::test(start_paused = true)]
async fn that_a_node_goes_away_is_said_before_that_it_is_overloaded() {
    let rig = Rig::new();
    rig.published("ann");
    rig.control.set_level(Level::NothingNew);
    let _late = rig.control.drain(std::time::Duration::ZERO).await;
    assert_eq!(refused(&rig, publish("bob", "bob#1", &[AUDIO])), NoTransport::Draining);
}

#[test]
fn ends_are_counted_by_reason() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.subscribed("bob", &source);
    rig.published("eve");
    assert_eq!(rig.control.tracks().map(|(_, _, count)| count), [2, 2, 1, 1]);
    assert_eq!((rig.control.census().peers, rig.control.census().rooms), (3, 1));
    rig.control.close_transports(&[TransportId::new(source).expect("valid")]);
    rig.control
        .handle_event(Event::TransportClosed(TransportHandle(handle_of(&rig, "eve#1")), CloseReason::DtlsFailed));
    let closed = rig.control.closed();
    let counted: Vec<_> =
        closed.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| (*reason, *count)).collect();
    assert_eq!(counted, [("closed", 1), ("dtls_failed", 1), ("publication_ended", 1)]);
    assert!(closed.contains_key("never_connected") && !closed.contains_key("unknown"), "{closed:?}");
    assert_eq!(rig.control.census().peers, 0);
}

fn handle_of(rig: &Rig, transport: &str) -> u64 {
    rig.control.lock().transports[&TransportId::new(transport).expect("valid")].handle.0
}

#[test]
fn what_was_well_said_and_refused_has_a_reason_that_metrics_know() {
    let rig = Rig::with_capacity(1);
    let reason = |request: sfu::NegotiateRequest| {
        let request = Negotiation::try_from(request).expect("well said");
        rig.control.negotiate(&request).expect_err("refused").reason()
    };
    rig.published("ann");
    assert_eq!(reason(publish("bob", "bob#1", &[AUDIO])), Some("full"));
    assert_eq!(reason(subscribe("bob", "bob#2", "gone#1", &[AUDIO_DOWN])), Some("no_publication"));
    let others: Vec<_> =
        NoTransport::ALL.map(NoTransport::as_str).into_iter().filter(|why| !REFUSALS.contains(why)).collect();
    assert!(others.is_empty(), "{others:?}");
    let fewer = reason(publish("ann", "ann#1", &[AUDIO]));
    assert_eq!(fewer, None, "a mistake of the caller");
}
