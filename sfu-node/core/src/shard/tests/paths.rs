//! Where a client is sent to when it has more than one path, or another than before.

use std::ops::Range;

use super::*;
use crate::{
    clock::NtpTime,
    ice::tests::{nominating_check, plain_check},
};

/// Someone publishes video, ten frames a second, and someone watches who may be anywhere.
struct Call {
    node: Node,
    publisher: Client,
    viewer: Client,
    seq: u16,
}

/// What was sent to an address: media packets, and packets of RTCP.
type Sent = (usize, usize);

impl Call {
    fn new() -> Self {
        let mut node = Node::new(1);
        let (publisher, viewer) = (node.connect(0, 1), node.connect(0, 2));
        node.publish_tracks(&publisher, 10, vec![video()]);
        node.subscribe_video(&viewer, 20, (10, 0), 0, 500);
        Self { node, publisher, viewer, seq: 0 }
    }

    /// Lets time pass. `script` does what the clients do besides, at each tenth of a second.
    fn play(&mut self, tenths: Range<u32>, mut script: impl FnMut(&mut Self, u32)) {
        self.node.sent.clear();
        for tenth in tenths {
            script(self, tenth);
            if tenth % 10 == 0 {
                let (ntp, rtp_timestamp) = (NtpTime(u64::from(tenth) << 32), u32::from(self.seq) * 900);
                let info = rtcp::SenderInfo { ntp, rtp_timestamp, packets: 1, octets: 1 };
                self.node.send_rtcp(&mut self.publisher, |buf| rtcp::write_sender_report(buf, 5, &info, &[]));
            }
            self.node.send_video(&self.publisher, 5, self.seq, KEYFRAME);
            self.seq += 1;
            self.node.wait(100);
        }
    }

    /// The publisher's consent check.
    fn publisher_checks(&mut self) {
        self.node.send(&self.publisher, &plain_check(&IceCredentials::from_random([1; 24])));
    }

    /// The viewer sends a datagram from `from`.
    fn viewer_sends(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.viewer.address = from;
        self.node.send(&self.viewer, datagram);
    }

    /// The viewer sends a receiver report from `from`.
    fn viewer_reports(&mut self, from: SocketAddr) {
        let report = receiver_report(&mut self.viewer);
        self.viewer_sends(from, &report);
    }

    fn sent_to(&self, address: SocketAddr) -> Sent {
        let to_it = || self.node.sent.iter().filter(|(to, _)| *to == address).map(|(_, datagram)| datagram);
        let reports = to_it().filter(|datagram| datagram[0] >= 128 && rtcp::is_rtcp(datagram)).count();
        (to_it().filter(|datagram| datagram[0] >= 128).count() - reports, reports)
    }

    fn is_open(&self, client: &Client) -> bool {
        self.node.shards[0].transport_keys.contains_key(&TransportHandle(client.transport))
    }
}

fn receiver_report(client: &mut Client) -> Vec<u8> {
    let mut buf = vec![0; TxBatch::DATAGRAM_BYTES];
    let len = rtcp::write_receiver_report(&mut buf, 77, &[]).expect("room");
    let len = client.sealer.seal_rtcp(&mut buf, len);
    buf.truncate(len);
    buf
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, last], 4_000))
}

fn nomination() -> Vec<u8> {
    nominating_check(&IceCredentials::from_random([2; 24]))
}

fn check() -> Vec<u8> {
    plain_check(&IceCredentials::from_random([2; 24]))
}

#[test]
fn a_client_that_tried_two_paths_gets_everything_on_the_one_that_it_uses() {
    let mut call = Call::new();
    let (used, other) = (call.viewer.address, address(1));
    // Firefox: a nomination of every path at first, repeated where the answer was lost; then consent checks of the one it uses.
    call.play(0..400, |call, tenth| {
        if tenth % 50 == 0 {
            call.publisher_checks();
            call.viewer_sends(used, &check());
        }
        if tenth % 50 == 25 {
            call.viewer_reports(used);
        }
        if tenth < 60 {
            call.viewer_sends(other, &nomination());
        }
    });
    let (media, reports) = call.sent_to(used);
    assert_eq!(media, 400);
    assert!(reports >= 39, "{reports} sender reports in 40 s");
    assert_eq!(call.sent_to(other), (0, 0));
    assert!(call.is_open(&call.viewer));
}

#[test]
fn a_client_whose_checks_all_arrive_from_elsewhere_since_the_handshake_is_not_cut_off() {
    let mut call = Call::new();
    let (nominated, checked) = (call.viewer.address, address(1));
    call.play(0..400, |call, tenth| {
        if tenth % 25 == 0 {
            call.publisher_checks();
            call.viewer_sends(checked, &check());
        }
    });
    assert!(call.is_open(&call.viewer));
    let before = call.sent_to(nominated).0;
    assert!((50..=80).contains(&before), "{before} packets before the path was given up");
    assert_eq!(call.sent_to(checked).0, 400 - before);
}

#[test]
fn a_viewer_behind_a_nat_that_forgot_it_is_found_again_by_its_next_report() {
    let mut call = Call::new();
    let (before, after) = (call.viewer.address, address(1));
    call.play(0..20, |call, _| call.viewer_reports(before));
    call.play(20..420, |call, tenth| {
        if tenth % 50 == 20 {
            call.publisher_checks();
            call.viewer_sends(after, &check());
        }
        if tenth % 10 == 8 {
            call.viewer_reports(after);
        }
    });
    let lost = call.sent_to(before).0;
    assert!(lost <= 18, "{lost} packets into the void");
    assert_eq!(call.sent_to(after).0, 400 - lost);
    assert!(call.sent_to(after).1 >= 38, "sender reports, too");
    assert!(call.is_open(&call.viewer));
}

#[test]
fn a_publisher_behind_a_nat_that_forgot_it_gets_its_feedback_where_it_is() {
    let mut call = Call::new();
    let before = call.publisher.address;
    call.play(0..20, |_, _| {});
    call.publisher.address = address(1);
    call.play(20..420, |call, tenth| {
        if tenth % 50 == 20 {
            call.publisher_checks();
            let viewer = call.viewer.address;
            call.viewer_sends(viewer, &check());
        }
        if tenth == 40 {
            call.seq += 1; // lost
        }
    });
    assert!(call.sent_to(before).1 <= 1, "reports into the void");
    // Reports every second, and a request for what was lost.
    assert!(call.sent_to(call.publisher.address).1 >= 40);
    assert!(call.node.counters(0).nacks_sent >= 1);
    assert!(call.is_open(&call.publisher));
    assert_eq!(call.sent_to(call.viewer.address).0, 400);
}

#[test]
fn two_paths_that_both_live_are_not_changed_between() {
    let mut call = Call::new();
    let (selected, other) = (call.viewer.address, address(1));
    call.play(0..300, |call, tenth| {
        call.viewer_sends(if tenth % 2 == 0 { other } else { selected }, &nomination());
        call.viewer_reports(if tenth % 2 == 0 { selected } else { other });
        if tenth % 50 == 0 {
            call.publisher_checks();
        }
    });
    assert_eq!((call.sent_to(selected).0, call.sent_to(other)), (300, (0, 0)));
}

#[test]
fn what_strangers_send_and_what_is_sent_again_moves_nothing() {
    let mut call = Call::new();
    let (used, proven, strange) = (call.viewer.address, address(1), address(2));
    let recorded = receiver_report(&mut call.viewer);
    call.viewer_sends(used, &recorded);
    call.viewer_sends(proven, &check());
    let wrong_password = IceCredentials::from_random([9; 24]);
    let right = IceCredentials::from_random([2; 24]);
    let forged = IceCredentials::new(right.ufrag(), wrong_password.password()).expect("well-formed");
    call.play(0..200, |call, tenth| {
        // The client itself is as quiet as a client can be.
        if tenth % 50 == 0 {
            call.publisher_checks();
            call.viewer_sends(used, &check());
        }
        call.viewer_sends(strange, &nominating_check(&forged));
        call.viewer_sends(strange, &nomination());
        let of_another = receiver_report(&mut call.publisher);
        for from in [proven, strange] {
            call.viewer_sends(from, &recorded);
            call.viewer_sends(from, &of_another);
        }
    });
    assert_eq!(call.sent_to(used).0, 200);
    assert_eq!((call.sent_to(proven), call.sent_to(strange)), ((0, 0), (0, 0)));
}

#[test]
fn a_restart_moves_a_client_at_once_and_checks_of_before_move_it_nowhere() {
    let mut call = Call::new();
    let (before, after, old_path) = (call.viewer.address, address(1), address(2));
    let local = IceCredentials::from_random([7; 24]);
    call.play(0..10, |call, _| call.viewer_reports(before));
    call.node.command(0, Command::RestartIce { transport: TransportHandle(2), local: local.clone() });
    call.play(10..20, |call, _| call.viewer_reports(before));
    assert_eq!(call.sent_to(before).0, 10, "as long as nothing else is nominated");
    call.viewer_sends(after, &nominating_check(&local));
    call.play(20..60, |call, tenth| {
        call.viewer_sends(old_path, &nomination());
        if tenth < 25 {
            call.viewer_reports(before); // on their way
        }
        if tenth == 30 {
            call.viewer_sends(after, &plain_check(&local));
        }
    });
    assert_eq!(call.sent_to(after).0, 40);
    assert_eq!((call.sent_to(before), call.sent_to(old_path)), ((0, 0), (0, 0)));
    // The last check was at 3.0 s.
    call.play(60..325, |call, tenth| {
        if tenth % 50 == 0 {
            call.publisher_checks();
        }
    });
    assert!(call.is_open(&call.viewer));
    call.play(325..332, |call, _| call.viewer_sends(old_path, &nomination()));
    assert!(!call.is_open(&call.viewer));
}

#[test]
fn a_transport_ends_thirty_seconds_after_the_last_check_of_any_path_whatever_else_its_client_sends() {
    let mut call = Call::new();
    let (first, second) = (call.viewer.address, address(1));
    let script = |call: &mut Call, tenth: u32| {
        if tenth.is_multiple_of(50) {
            call.publisher_checks();
        }
        if tenth == 100 {
            call.viewer_sends(second, &check());
        }
        call.viewer_reports(first);
    };
    call.play(0..299, script);
    assert_eq!((call.sent_to(first).0, call.sent_to(second)), (299, (0, 0)), "it uses the first");
    call.play(299..399, script);
    assert_eq!((call.sent_to(first).0, call.sent_to(second).0), (1, 99), "the first has not been checked for 30 s");
    assert!(call.is_open(&call.viewer));
    call.play(399..405, script);
    assert!(!call.is_open(&call.viewer));
    assert!(call.sent_to(second).0 <= 1);
}
