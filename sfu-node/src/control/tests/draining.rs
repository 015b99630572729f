//! A node that goes away, in virtual time.

use std::time::Duration;

use proto::refusal::NoTransport;
use proto::sfu::NodeState;
use tokio::time::Instant;

use super::*;

const WITHIN: Duration = Duration::from_secs(30);

/// Why a request was refused.
fn refused(rig: &Rig, request: sfu::NegotiateRequest) -> NoTransport {
    NoTransport::of(&rig.negotiate(request).expect_err("refused")).expect("says why")
}

fn close(rig: &Rig, transport: &str) {
    rig.control.close_transports(&[TransportId::new(transport).expect("valid")]);
}

#[tokio::test(start_paused = true)]
async fn a_node_with_nothing_on_it_is_drained_at_once() {
    let rig = Rig::new();
    let begun = Instant::now();
    assert_eq!(rig.control.drain(WITHIN).await, Drained::Empty);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_last_transport_has_moved_away() {
    let rig = Rig::new();
    let (ann, bob) = (rig.published("ann"), rig.published("bob"));
    let begun = Instant::now();
    let moving = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        close(&rig, &ann);
        tokio::time::sleep(Duration::from_secs(1)).await;
        close(&rig, &bob);
    };
    let (drained, ()) = tokio::join!(rig.control.drain(WITHIN), moving);
    assert_eq!((drained, begun.elapsed()), (Drained::Empty, Duration::from_secs(2)));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_counted() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.subscribed("bob", &source);
    let begun = Instant::now();
    assert_eq!(rig.control.drain(WITHIN).await, Drained::Late(2));
    assert_eq!(begun.elapsed(), WITHIN);
    assert_eq!(rig.control.census().transports, 2, "the drain itself ends nothing");
    assert_eq!(rig.control.drain(Duration::ZERO).await, Drained::Late(2), "no time is none");
}

#[tokio::test(start_paused = true)]
async fn while_it_drains_only_what_leads_away_is_taken() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let drain = rig.control.drain(WITHIN);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(refused(&rig, publish("bob", "bob#1", &[AUDIO])), NoTransport::Draining);
        rig.negotiate(publish("ann", &source, &[AUDIO, VIDEO])).expect("the same again is answered again");
        let mut further = publish("ann", &source, &[AUDIO, VIDEO]);
        further.offer_sdp = further.offer_sdp.replace("o=- 1 1", "o=- 1 2");
        rig.negotiate(further.clone()).expect("a further offer of what is there");
        further
            .publications
            .push(sfu::PublicationBinding { publication_id: "ann#2".to_owned(), ..further.publications[0].clone() });
        assert_eq!(refused(&rig, further), NoTransport::Draining);
        rig.subscribed("bob", &source);
        let phase = *rig.control.phase().borrow();
        assert_eq!((phase.state(), phase.left(Instant::now())), (NodeState::Draining, Duration::from_secs(20)));
        close(&rig, &source);
    };
    let (drained, ()) = tokio::join!(drain, meanwhile);
    assert_eq!(drained, Drained::Empty, "who subscribed meanwhile goes with the publication");
}

#[tokio::test(start_paused = true)]
async fn every_watch_is_told_of_a_drain_once_and_one_opened_later_first() {
    let rig = Rig::new();
    rig.published("ann");
    let mut early = rig.control.open_watch().expect("a watch");
    let deadline = |queue: &mut WatchQueue| match queue.events.try_recv().expect("told").as_ref() {
        watch_event::Event::Draining(draining) => draining.deadline_ms,
        other => panic!("unexpected {other:?}"),
    };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(12)).await;
        let mut late = rig.watch_unread();
        (deadline(&mut early), deadline(&mut late), early.events.is_empty(), late.events.is_empty())
    };
    let (_, told) = tokio::join!(rig.control.drain(WITHIN), meanwhile);
    assert_eq!(told, (30_000, 18_000, true, true));
}

#[tokio::test(start_paused = true)]
async fn a_second_drain_can_only_bring_the_end_nearer() {
    let rig = Rig::new();
    rig.published("ann");
    let begun = Instant::now();
    let nearer = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.control.drain(Duration::from_secs(1)).await
    };
    let (first, second) = tokio::join!(rig.control.drain(Duration::from_secs(3)), nearer);
    assert_eq!((first, second, begun.elapsed()), (Drained::Late(1), Drained::Late(1), Duration::from_secs(5)));
}

#[test]
fn a_node_whose_id_another_process_has_takes_nothing_new() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.control.supersede();
    assert_eq!(refused(&rig, publish("bob", "bob#1", &[AUDIO])), NoTransport::Superseded);
    assert_eq!(refused(&rig, subscribe("bob", "bob#2", &source, &[AUDIO_DOWN])), NoTransport::Superseded);
    assert_eq!(rig.control.census().transports, 1, "what it has flows on");
    assert_eq!(rig.control.phase().borrow().state(), NodeState::Superseded);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_away_is_not_superseded_any_more() {
    let rig = Rig::new();
    rig.control.drain(WITHIN).await;
    rig.control.supersede();
    assert_eq!(rig.control.phase().borrow().state(), NodeState::Draining);
    rig.control.end();
    rig.control.supersede();
    assert_eq!(*rig.control.phase().borrow(), Phase::Ending);
}
