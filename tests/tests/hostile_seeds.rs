//! Replays the seeds of the fuzz targets, which are captures of real handshakes and calls, through the same functions on the stable
//! toolchain. `UPDATE=1` captures anew; what fuzzing finds is added by hand, under a name that capturing does not use.

use loadtests::{
    network::Quality,
    peer::{Certificate, PeerConfig, Section, TestPeer, rtcp, stun},
    simulation::{Binding, Simulation},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tests::hostile_input::{self, BORDERS};

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn updating() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// A check with the credentials of the transport that the targets attack.
fn check(nominate: bool) -> Vec<u8> {
    let local = hostile_input::credentials();
    let username = format!("{}:peer", local.ufrag());
    let request = stun::BindingRequest {
        transaction: *b"transaction1",
        username: &username,
        priority: 0x6E7F_1EFF,
        tie_breaker: 1,
        role: stun::Role::Controlling,
        nominate,
    };
    request.encode(local.password())
}

#[test]
fn the_check_that_proves_an_address_is_the_one_that_is_committed() {
    let path = fuzz_dir().join("fixtures/check.bin");
    if updating() {
        fs::write(&path, check(true)).expect("writes");
    }
    assert_eq!(fs::read(&path).expect("reads"), check(true), "run with UPDATE=1");
}

#[test]
fn every_seed_passes_its_border() {
    if updating() {
        capture();
    }
    for (border, attack) in BORDERS {
        let mut seeds = 0;
        for entry in fs::read_dir(fuzz_dir().join("seeds").join(border)).expect("a directory of seeds") {
            attack(&fs::read(entry.expect("an entry").path()).expect("reads"));
            seeds += 1;
        }
        assert!(seeds >= 3, "{border} has {seeds} seeds");
    }
}

/// Beside whole seeds, each seed cut short and with single bits changed: what a minute of fuzzing would try first.
#[test]
fn damaged_seeds_pass_their_border_too() {
    for (border, attack) in BORDERS {
        for entry in fs::read_dir(fuzz_dir().join("seeds").join(border)).expect("a directory of seeds") {
            let seed = fs::read(entry.expect("an entry").path()).expect("reads");
            // A shard is built for each attempt at these two, so that they get fewer.
            let step =
                if matches!(border, "dtls" | "demultiplexing") { seed.len() / 8 + 1 } else { seed.len() / 128 + 1 };
            for at in (0..seed.len()).step_by(step) {
                attack(&seed[..at]);
                let mut damaged = seed.clone();
                damaged[at] ^= 1 << (at % 8);
                attack(&damaged);
            }
        }
    }
}

fn write(border: &str, name: &str, bytes: &[u8]) {
    fs::write(fuzz_dir().join("seeds").join(border).join(name), bytes).expect("writes");
}

/// Puts a datagram behind its length, and, for the demultiplexer, behind a byte that says from whom.
fn framed(datagrams: &[Vec<u8>], from: Option<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for datagram in datagrams {
        let len = datagram.len() + usize::from(from.is_some());
        bytes.extend((len as u16).to_be_bytes());
        bytes.extend(from);
        bytes.extend(datagram);
    }
    bytes
}

/// Plays a call and keeps what its clients said.
fn capture() {
    let sections = [Section::SEND_AUDIO, Section::SEND_VIDEO];
    let (mut simulation, datagrams) = captured_call(&sections);
    let is = |range: std::ops::RangeInclusive<u8>| {
        let datagrams = datagrams.clone();
        move || datagrams.iter().filter(|d| range.contains(&d[0])).cloned().collect::<Vec<_>>()
    };
    let (handshake, media) = (is(20..=63)(), is(128..=191)());
    write("stun", "nominating", &check(true));
    write("stun", "ordinary", &check(false));
    write("stun", "foreign", &is(0..=3)()[0]);
    write("dtls", "handshake", &framed(&handshake, None));
    write("dtls", "client-hello", &framed(&handshake[..1], None));
    write("dtls", "twice", &framed(&[handshake.clone(), handshake.clone()].concat(), None));
    write("demultiplexing", "client", &framed(&datagrams[..datagrams.len().min(24)], Some(1)));
    write("demultiplexing", "stranger", &framed(&datagrams[..datagrams.len().min(24)], Some(0)));
    write("demultiplexing", "media", &framed(&media[..media.len().min(24)], Some(1)));
    for (name, index) in [("audio", 0), ("video", 1), ("late", media.len() - 1)] {
        write("rtp", name, &media[index]);
    }
    let mut plain = vec![0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0xBE, 0xDE, 0, 1, 0x31, 0, 7, 0];
    plain.extend([0x90, 0xE0, 0x81, 0x02, 3, 0x20, 0x10, 2, 0, 0x9d, 1, 0x2a]);
    write("rtp", "vp8-in-the-clear", &plain);
    write("rtcp", "receiver-report", &rtcp::report(1, None, &[rtcp::ReportBlock::default(); 3], "cname"));
    let sender = rtcp::SenderReport { ssrc: 1, ntp: 1 << 32, rtp: 3, packets: 4, octets: 5 };
    write("rtcp", "sender-report", &rtcp::report(1, Some(sender), &[rtcp::ReportBlock::default()], "cname"));
    write("rtcp", "nack", &rtcp::nack(1, 2, &[65_530, 65_535, 0, 3, 100]));
    write("rtcp", "picture-loss", &rtcp::picture_loss(1, 2));
    let certificate = Certificate::generate().expect("a certificate");
    let all = [Section::SEND_AUDIO, Section::SEND_VIDEO, Section::RECEIVE_AUDIO, Section::RECEIVE_VIDEO];
    for (name, sections) in [("publish", &all[..2]), ("subscribe", &all[2..]), ("both", &all[..])] {
        let peer = TestPeer::new(Instant::now(), PeerConfig::new(7, certificate.clone(), sections.to_vec()));
        write("sdp", name, peer.offer().as_bytes());
        let offer = serde_json::json!({"type": "offer", "sdp": peer.offer()});
        let data =
            serde_json::json!({"rid": "r", "jsep": offer, "minfo": {"audio": true, "video": true, "videotype": 0}});
        let frame = serde_json::json!({"request": true, "id": 0, "method": "publish", "data": data});
        write("protoo", name, frame.to_string().as_bytes());
    }
    for (name, frame) in [
        (
            "join",
            r#"{"request":true,"id":1,"method":"join","data":{"rid":"r","session":"s","since":{"epoch":"e","seq":3}}}"#,
        ),
        ("keepalive", r#"{"request":true,"id":2e3,"method":"keepalive","data":{"rid":"room"}}"#),
        (
            "broadcast",
            r#"{"notification":true,"method":"broadcast","data":{"rid":"r","data":[[[{"a":"\u00e9"}]]],"op":"x"}}"#,
        ),
    ] {
        write("protoo", name, frame.as_bytes());
    }
    simulation.run_for(Duration::ZERO);
}

/// A call of one publisher, and all datagrams that it sent.
fn captured_call(sections: &[Section]) -> (Simulation, Vec<Vec<u8>>) {
    let mut simulation = Simulation::new(1, 1).expect("keys");
    let quality = Quality { delay: Duration::from_millis(1), ..Quality::PERFECT };
    let opened = simulation.open(0, quality, sections, &[Binding::Publish(vec![0, 1])]).expect("opens");
    simulation.client(opened.client).record();
    assert!(simulation.connect_all(Duration::from_secs(5)));
    for number in 0..20_u32 {
        let now = simulation.now();
        let peer = &mut simulation.client(opened.client).peer;
        for section in 0..2 {
            let timestamp = peer.rtp_timestamp(now, section);
            let payload = [[0x10, 0].as_slice(), &number.to_be_bytes(), &[0; 40]].concat();
            peer.send(section, timestamp, true, &payload).expect("connected");
        }
        simulation.run_for(Duration::from_millis(100));
    }
    let recorded = simulation.client(opened.client).recorded().to_vec();
    (simulation, recorded)
}
