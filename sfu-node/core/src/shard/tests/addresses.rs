//! Who may use an address, for how long, and what that costs.

use super::*;

/// The one that comes after `client` at its address.
fn successor(node: &mut Node, client: &Client) -> Client {
    let mut next = node.connect(0, client.transport + 1);
    next.address = client.address;
    next
}

/// Whether a check of `client` is answered.
fn is_answered(node: &mut Node, client: &Client) -> bool {
    node.sent.clear();
    node.check(client);
    node.sent.iter().any(|(to, datagram)| *to == client.address && datagram[0] < 4)
}

/// A packet that belongs to no track, always the same.
fn send_unclaimed(node: &mut Node, client: &Client) {
    let fields = RtpHeaderFields { marker: true, payload_type: 13, seq: 1, timestamp: 0, ssrc: 99 };
    node.send_rtp(client, &fields, KEYFRAME);
}

#[test]
fn an_address_that_its_client_has_left_is_free_for_another_while_the_call_goes_on() {
    let mut node = Node::new(1);
    let mut first = node.connect(0, 1);
    let second = successor(&mut node, &first);
    first.address = SocketAddr::from(([192, 0, 2, 50], 50));
    for _ in 0..4 {
        node.check(&first);
        assert!(!is_answered(&mut node, &second), "the network may still bring packets of the first from there");
        node.wait(2_500);
    }
    assert!(is_answered(&mut node, &second));
    assert!(is_answered(&mut node, &first), "from where it is now");
}

#[test]
fn an_address_is_held_by_what_is_authentic_only() {
    let mut node = Node::new(1);
    let first = node.connect(0, 1);
    node.publish_tracks(&first, 10, vec![video()]);
    let second = successor(&mut node, &first);
    for seq in 0..12 {
        node.send_video(&first, 5, seq, KEYFRAME);
        send_unclaimed(&mut node, &first);
        assert!(!is_answered(&mut node, &second), "media hold it");
        node.wait(1_000);
    }
    for seq in 12..24 {
        // Whoever can fake the address, but has no keys for the call: with keys of another, or with what was recorded, also of an
        // SSRC that nobody remembers.
        node.send_video(&second, 5, seq, KEYFRAME);
        node.send_video(&first, 5, 0, KEYFRAME);
        send_unclaimed(&mut node, &first);
        node.wait(1_000);
    }
    assert!(is_answered(&mut node, &second));
}

#[test]
fn addresses_that_a_client_has_left_are_forgotten() {
    let mut node = Node::new(1);
    let mut client = node.connect(0, 1);
    for moved in 0..6 {
        client.address = SocketAddr::from(([192, 0, 2, 50], 50 + moved));
        node.check(&client);
    }
    assert_eq!(node.shards[0].addresses.len(), 7);
    for _ in 0..13 {
        node.wait(2_500);
        node.check(&client);
    }
    assert_eq!((node.shards[0].addresses.len(), node.shards[0].proven.len()), (1, 1));
}

#[test]
fn one_clients_checks_are_answered_at_a_bounded_rate() {
    let mut node = Node::new(1);
    let (client, other) = (node.connect(0, 1), node.connect(0, 2));
    node.wait(1_000);
    let answers = |node: &mut Node| (0..1_000).filter(|_| is_answered(node, &client)).count();
    assert_eq!(answers(&mut node), 100);
    assert_eq!(node.counters(0).dropped_excess_checks, 900);
    assert!(is_answered(&mut node, &other), "whoever else comes is not concerned");
    node.wait(1_000);
    assert_eq!(answers(&mut node), 50);
}

#[test]
fn forged_checks_use_up_nothing() {
    let mut node = Node::new(1);
    let client = node.connect(0, 1);
    let right = IceCredentials::from_random([1; 24]);
    let forged =
        IceCredentials::new(right.ufrag(), IceCredentials::from_random([9; 24]).password()).expect("well-formed");
    for _ in 0..1_000 {
        let mut check = crate::ice::tests::nominating_check(&forged);
        node.shards[0].handle_datagram(node.now, client.address.into(), &mut check);
    }
    assert_eq!(node.counters(0).dropped_stun, 1_000);
    assert!(is_answered(&mut node, &client));
}
