//! Transports, publications and subscriptions are three things: one transport carries several of either, and a room spans shards.
//! The core in virtual time, without loss.

use loadtests::{
    network::Quality,
    peer::{
        PeerEvent, Section,
        stun::{BindingRequest, Role},
    },
    simulation::{Binding, ClientId, Simulation},
};
use sfu_core::{CloseReason, Command, Event};
use std::{collections::HashMap, time::Duration};

const TICK: Duration = Duration::from_millis(20);
const PATH: Quality = Quality { delay: Duration::from_millis(5), ..Quality::PERFECT };

/// A packet that says who sent it.
fn payload(who: u8, video: bool, number: u32) -> Vec<u8> {
    // A VP8 descriptor without extensions, then the first byte of a keyframe.
    let head: &[u8] = if video { &[0x10, 0] } else { &[0xFC, 0] };
    [head, &[who], &number.to_be_bytes()].concat()
}

/// What arrived at a client by section: who sent it, and how many packets.
fn heard(simulation: &mut Simulation, client: ClientId) -> HashMap<usize, (u8, usize)> {
    let mut heard = HashMap::new();
    for event in simulation.client(client).events.drain(..) {
        if let PeerEvent::Media(media) = event {
            let entry = heard.entry(media.section).or_insert((media.payload[2], 0));
            assert_eq!(entry.0, media.payload[2], "two senders on section {}", media.section);
            entry.1 += 1;
        }
    }
    heard
}

fn send(simulation: &mut Simulation, client: ClientId, who: u8, section: usize, video: bool, number: u32) {
    let now = simulation.now();
    let peer = &mut simulation.client(client).peer;
    let timestamp = peer.rtp_timestamp(now, section);
    peer.send(section, timestamp, video, &payload(who, video, number)).expect("the sender is connected");
}

#[test]
fn one_transport_carries_two_publications_and_three_subscriptions() {
    let mut simulation = Simulation::new(1, 1).expect("keys");
    // Two others, who publish camera and microphone, and microphone only.
    let ada = simulation
        .open(0, PATH, &[Section::SEND_AUDIO, Section::SEND_VIDEO], &[Binding::Publish(vec![0, 1])])
        .expect("opens");
    let bob = simulation.open(0, PATH, &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    let sections = [
        Section::SEND_VIDEO,
        Section::SEND_AUDIO,
        Section::RECEIVE_AUDIO,
        Section::RECEIVE_VIDEO,
        Section::RECEIVE_AUDIO,
        Section::RECEIVE_VIDEO,
    ];
    let bindings = [
        Binding::Publish(vec![0]),
        Binding::Publish(vec![1]),
        Binding::Subscribe(ada.publications[0], vec![2, 3]),
        Binding::Subscribe(bob.publications[0], vec![4]),
        // The same picture once more, as a second view of it.
        Binding::Subscribe(ada.publications[0], vec![5]),
    ];
    let carol = simulation.open(0, PATH, &sections, &bindings).expect("opens");
    assert_eq!((carol.publications.len(), carol.subscriptions.len()), (2, 3));
    let watchers: Vec<_> = [(0, Section::RECEIVE_VIDEO), (1, Section::RECEIVE_AUDIO)]
        .map(|(publication, section)| {
            let binding = Binding::Subscribe(carol.publications[publication], vec![0]);
            simulation.open(0, PATH, &[section], &[binding]).expect("opens").client
        })
        .into();
    assert!(simulation.connect_all(Duration::from_secs(5)));

    for number in 0..100 {
        send(&mut simulation, ada.client, 1, 0, false, number);
        send(&mut simulation, ada.client, 2, 1, true, number);
        send(&mut simulation, bob.client, 3, 0, false, number);
        send(&mut simulation, carol.client, 4, 0, true, number);
        send(&mut simulation, carol.client, 5, 1, false, number);
        simulation.run_for(TICK);
    }
    simulation.run_for(TICK * 5);
    let carol_hears = heard(&mut simulation, carol.client);
    assert_eq!(carol_hears, HashMap::from([(2, (1, 100)), (3, (2, 100)), (4, (3, 100)), (5, (2, 100))]));
    assert_eq!(heard(&mut simulation, watchers[0]), HashMap::from([(0, (4, 100))]));
    assert_eq!(heard(&mut simulation, watchers[1]), HashMap::from([(0, (5, 100))]));

    // One subscription ends, one publication ends: everything else flows on over the same transports.
    simulation.command(0, Command::CloseSubscription(carol.subscriptions[1]));
    simulation.command(0, Command::ClosePublication(carol.publications[0]));
    for number in 100..150 {
        send(&mut simulation, ada.client, 1, 0, false, number);
        send(&mut simulation, ada.client, 2, 1, true, number);
        send(&mut simulation, bob.client, 3, 0, false, number);
        send(&mut simulation, carol.client, 4, 0, true, number);
        send(&mut simulation, carol.client, 5, 1, false, number);
        simulation.run_for(TICK);
    }
    simulation.run_for(TICK * 5);
    assert_eq!(heard(&mut simulation, carol.client), HashMap::from([(2, (1, 50)), (3, (2, 50)), (5, (2, 50))]));
    assert_eq!(heard(&mut simulation, watchers[0]), HashMap::new());
    assert_eq!(heard(&mut simulation, watchers[1]), HashMap::from([(0, (5, 50))]));
}

#[test]
fn a_room_spans_two_shards_both_ways() {
    let mut simulation = Simulation::new(2, 2).expect("keys");
    let both = [Section::SEND_AUDIO, Section::SEND_VIDEO];
    let publishers: Vec<_> = (0..2)
        .map(|shard| simulation.open(shard, PATH, &both, &[Binding::Publish(vec![0, 1])]).expect("opens"))
        .collect();
    let mut subscribers = Vec::new();
    for shard in 0..2 {
        for publisher in &publishers {
            for _ in 0..3 {
                let binding = Binding::Subscribe(publisher.publications[0], vec![0, 1]);
                let sections = [Section::RECEIVE_AUDIO, Section::RECEIVE_VIDEO];
                let opened = simulation.open(shard, PATH, &sections, &[binding]).expect("opens");
                let who = if publisher.client == publishers[0].client { 10 } else { 20 };
                subscribers.push((opened.client, who));
            }
        }
    }
    assert!(simulation.connect_all(Duration::from_secs(5)));
    simulation.run_for(Duration::from_secs(2));
    for number in 0..200 {
        for (publisher, who) in publishers.iter().zip([10, 20]) {
            send(&mut simulation, publisher.client, who, 0, false, number);
            send(&mut simulation, publisher.client, who + 1, 1, true, number);
        }
        simulation.run_for(TICK);
    }
    simulation.run_for(TICK * 5);
    for (subscriber, who) in subscribers {
        let expected = HashMap::from([(0, (who, 200)), (1, (who + 1, 200))]);
        assert_eq!(heard(&mut simulation, subscriber), expected, "{subscriber:?}");
        let client = simulation.client(subscriber);
        assert!(client.sent_to_it().values().all(|times| *times == 1), "something was sent twice");
    }
    assert!(simulation.shard(0).counters().packets_received == 400, "each packet is opened once");

    // The publisher goes: the other shard hears of it and sends nothing more.
    simulation.command(0, Command::CloseTransport(publishers[0].transport));
    simulation.run_for(TICK * 5);
    assert!(
        simulation.take_events().contains(&Event::TransportClosed(publishers[0].transport, CloseReason::Commanded))
    );
    assert!(simulation.client(publishers[0].client).events.contains(&PeerEvent::Closed), "DTLS said goodbye");
}

#[test]
fn a_keyframe_is_asked_for_across_shards_and_not_too_often() {
    let mut simulation = Simulation::new(3, 2).expect("keys");
    let publisher = simulation.open(0, PATH, &[Section::SEND_VIDEO], &[Binding::Publish(vec![0])]).expect("opens");
    let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
    let subscriber = simulation.open(1, PATH, &[Section::RECEIVE_VIDEO], &[binding]).expect("opens");
    assert!(simulation.connect_all(Duration::from_secs(5)));
    let frame = |simulation: &mut Simulation, keyframe: bool| {
        let now = simulation.now();
        let peer = &mut simulation.client(publisher.client).peer;
        let timestamp = peer.rtp_timestamp(now, 0);
        peer.send(0, timestamp, true, &[0x10, u8::from(!keyframe), 7]).expect("connected");
        simulation.run_for(TICK);
    };
    let requests = |simulation: &mut Simulation| {
        let events = simulation.client(publisher.client).events.drain(..);
        events.filter(|event| *event == PeerEvent::KeyframeRequest(0)).count()
    };
    for _ in 0..50 {
        frame(&mut simulation, false);
    }
    let asked = requests(&mut simulation);
    assert!((1..=5).contains(&asked), "a new subscription needs a keyframe: asked for {asked} times in a second");
    assert_eq!(heard(&mut simulation, subscriber.client), HashMap::new(), "nobody can decode what follows nothing");
    frame(&mut simulation, true);
    frame(&mut simulation, false);
    simulation.run_for(Duration::from_secs(1));
    assert_eq!(heard(&mut simulation, subscriber.client), HashMap::from([(0, (7, 2))]));

    requests(&mut simulation);
    for _ in 0..100 {
        simulation.client(subscriber.client).peer.request_keyframe(0);
        frame(&mut simulation, false);
    }
    let asked = requests(&mut simulation);
    assert!((1..=10).contains(&asked), "100 requests in 2 s became {asked}");
}

#[test]
fn an_ice_restart_moves_a_client_without_losing_the_session() {
    let mut simulation = Simulation::new(4, 1).expect("keys");
    let publisher = simulation.open(0, PATH, &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
    let subscriber = simulation.open(0, PATH, &[Section::RECEIVE_AUDIO], &[binding]).expect("opens");
    assert!(simulation.connect_all(Duration::from_secs(5)));
    for number in 0..50 {
        send(&mut simulation, publisher.client, 1, 0, false, number);
        simulation.run_for(TICK);
    }
    let client = simulation.client(subscriber.client);
    client.set_address("203.0.113.9:7777".parse().expect("an address"));
    simulation.restart_ice(subscriber.client, subscriber.transport).expect("restarts");
    simulation.run_for(Duration::from_millis(200));
    simulation.client(subscriber.client).events.clear();
    for number in 50..100 {
        send(&mut simulation, publisher.client, 1, 0, false, number);
        simulation.run_for(TICK);
    }
    simulation.run_for(TICK * 5);
    assert_eq!(heard(&mut simulation, subscriber.client), HashMap::from([(0, (1, 50))]));
}

#[test]
fn a_path_that_passes_only_outwards_does_not_keep_a_client_from_its_call() {
    let mut simulation = Simulation::new(6, 1).expect("keys");
    let publisher = simulation.open(0, PATH, &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
    let subscriber = simulation.open(0, PATH, &[Section::RECEIVE_AUDIO], &[binding]).expect("opens");
    // What is sent here reaches nobody, so its checks are repeated.
    let deaf = "203.0.113.9:7777".parse().expect("an address");
    let ice = simulation.client(subscriber.client).peer.answer().expect("an answer").ice.clone();
    let username = format!("{}:them", ice.ufrag);
    let tick = |simulation: &mut Simulation, number: u32| {
        let request = BindingRequest {
            transaction: [number as u8; 12],
            username: &username,
            priority: 1,
            tie_breaker: 1,
            role: Role::Controlling,
            nominate: true,
        };
        simulation.inject(0, deaf, &request.encode(&ice.pwd));
        simulation.run_for(TICK);
    };
    for number in 0..50 {
        tick(&mut simulation, number);
    }
    assert!(simulation.client(subscriber.client).peer.is_connected());
    for number in 0..100 {
        send(&mut simulation, publisher.client, 1, 0, false, number);
        tick(&mut simulation, number);
    }
    simulation.run_for(TICK * 5);
    assert_eq!(heard(&mut simulation, subscriber.client), HashMap::from([(0, (1, 100))]));
}

#[test]
fn consent_ends_thirty_seconds_after_the_last_check_and_a_transport_that_never_connects_after_thirty() {
    let mut simulation = Simulation::new(5, 1).expect("keys");
    let connected = simulation.open(0, PATH, &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    assert!(simulation.connect_all(Duration::from_secs(5)));
    let dead = Quality { loss: 1.0, ..PATH };
    let never = simulation.open(0, dead, &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    simulation.client(connected.client).set_quality(dead);
    simulation.take_events();
    simulation.run_for(Duration::from_secs(26));
    assert_eq!(simulation.take_events(), []);
    simulation.run_for(Duration::from_secs(6));
    let mut events = simulation.take_events();
    events.sort_by_key(|event| match event {
        Event::TransportConnected(transport) | Event::TransportClosed(transport, _) => *transport,
    });
    let expected = [
        Event::TransportClosed(connected.transport, CloseReason::ConsentExpired),
        Event::TransportClosed(never.transport, CloseReason::NeverConnected),
    ];
    assert_eq!(events, expected);
    assert_eq!(simulation.shard(0).transports(), 0);
}
