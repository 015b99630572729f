//! Clients that must not get keys, and bytes that must not change anything.

use proptest::prelude::*;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;

use super::{
    network::{Call, Weather},
    *,
};

const MINUTE: Duration = Duration::from_mins(1);
const GCM: [Offered; 1] = [Offered::Srtp_Aead_Aes_128_Gcm];

#[test]
fn no_key_leaves_if_the_certificate_is_not_the_one_of_the_sdp() {
    for seed in 0..10 {
        let start = Instant::now();
        let client = DimplClient::new(start, 1_200, seed);
        let identity = server_identity();
        let server = identity.accept(start, Fingerprint::sha256_of(b"somebody else's"));
        let weather = Weather { duplication_percent: 20, jitter_ms: 30, ..Weather::default() };
        let mut call = Call::with_server(start, client, server, weather, seed);
        call.run(MINUTE);
        assert_eq!(call.connected, None);
        assert_eq!(call.end, Some(DtlsEnd::Failed(DtlsError::WrongFingerprint)));
        assert_eq!(call.client.keys, None, "the client learns nothing either");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let start = Instant::now();
    let no_certificate =
        |builder: ConfigBuilder| builder.with_srtp_protection_profiles(GCM.to_vec()).with_certificates(Vec::new());
    let mut call = Call::new(start, RtcClient::new(start, no_certificate), Weather::default(), 1);
    call.run(MINUTE);
    assert!(matches!(&call.end, Some(DtlsEnd::Failed(DtlsError::Protocol(_)))), "{:?}", call.end);
    assert_eq!(call.connected, None);
}

#[test]
fn a_client_without_extended_master_secret_is_refused() {
    let start = Instant::now();
    let no_extension = |builder: ConfigBuilder| {
        builder
            .with_srtp_protection_profiles(GCM.to_vec())
            .with_extended_master_secret(ExtendedMasterSecretType::Disable)
    };
    let mut call = Call::new(start, RtcClient::new(start, no_extension), Weather::default(), 1);
    call.run(MINUTE);
    let Some(DtlsEnd::Failed(DtlsError::Protocol(reason))) = &call.end else { panic!("{:?}", call.end) };
    assert!(reason.to_ascii_lowercase().contains("extended master secret"), "{reason}");
}

#[test]
fn a_client_that_offers_no_srtp_is_refused() {
    let start = Instant::now();
    let mut call = Call::new(start, RtcClient::offering(start, &[]), Weather::default(), 1);
    call.run(MINUTE);
    assert_eq!((call.end, call.connected), (Some(DtlsEnd::Failed(DtlsError::NoSrtpProfile)), None));
}

#[test]
fn a_client_that_offers_only_unsupported_srtp_profiles_gets_no_keys() {
    let start = Instant::now();
    let offered = [Offered::Srtp_Aes128_Cm_Hmac_Sha1_32];
    let mut call = Call::new(start, RtcClient::offering(start, &offered), Weather::default(), 1);
    call.run(MINUTE);
    // This client gives up at our server hello, with an alert that is not authenticated.
    assert_eq!((call.end, call.connected), (Some(DtlsEnd::Failed(DtlsError::TimedOut)), None));
}

#[test]
fn a_client_that_falls_silent_times_out_after_30_seconds() {
    let start = Instant::now();
    let mut call = Call::new(start, DimplClient::new(start, 1_200, 1), Weather::default(), 1);
    let hello = call.client.poll_datagram(start).expect("a client hello");
    call.client.datagrams.clear();
    call.client.timeout = None;
    call.server.handle_datagram(start, &hello).expect("a client hello");
    let mut sent = 0;
    let mut buf = [0; MAX_DATAGRAM];
    let mut now = start;
    let end = loop {
        match call.server.poll(&mut buf) {
            DtlsOutput::Datagram(_) => sent += 1,
            DtlsOutput::Idle { timeout } => {
                now = timeout.expect("a handshake has a deadline");
                call.server.handle_timeout(now);
            }
            DtlsOutput::Closed(end) => break end,
            DtlsOutput::Connected { .. } => panic!("nobody was there"),
        }
    };
    assert_eq!((end, now - start), (DtlsEnd::Failed(DtlsError::TimedOut), Duration::from_secs(30)));
    assert!((5..=12).contains(&sent), "{sent} datagrams to somebody silent");
}

/// Record header and body.
fn record(kind: u8, epoch: u16, sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xfe, 0xfd];
    record.extend_from_slice(&epoch.to_be_bytes());
    record.extend_from_slice(&[0, 0, 0, 0, 0, sequence]);
    record.extend_from_slice(&(body.len() as u16).to_be_bytes());
    record.extend_from_slice(body);
    record
}

/// What somebody who shares the client's address could send, not knowing any key.
fn garbage<C: Client>(call: &mut Call<C>) -> Vec<u8> {
    let sequence = call.random() as u8;
    let len = call.random() as usize % 300;
    let body: Vec<u8> = (0..len).map(|_| call.random() as u8).collect();
    match call.random() % 8 {
        0 => body,
        1 => record(21, 0, sequence, &[2, 40]),
        2 => record(21, 0, sequence, &[1, 0]),
        3 => record(23, 1, sequence, &body),
        4 => record(22, 1, sequence, &body),
        5 => record(22, 0, sequence, &body),
        6 => [record(21, 1, sequence, &body), vec![0; 1]].concat(),
        _ => record(23, 7, sequence, &[0; 4_000]),
    }
}

#[test]
fn a_flood_of_garbage_changes_nothing_before_during_and_after_a_handshake() {
    for seed in 0..20 {
        let start = Instant::now();
        let weather = Weather { jitter_ms: 20, ..Weather::default() };
        let mut call = Call::new(start, DimplClient::new(start, 300, seed), weather, seed);
        call.drain();
        while !call.is_complete() {
            for _ in 0..50 {
                let garbage = garbage(&mut call);
                let _ = call.server.handle_datagram(call.now, &garbage);
                call.drain();
            }
            assert_eq!(call.end, None, "handshake {seed}");
            assert!(call.step(start + Duration::from_secs(10)), "handshake {seed} stands still");
        }
        for _ in 0..1_000 {
            let garbage = garbage(&mut call);
            let _ = call.server.handle_datagram(call.now, &garbage);
            call.drain();
        }
        assert_eq!(call.end, None, "connection {seed}");
        call.client.close(call.now);
        call.drain();
        while call.end.is_none() && call.step(start + MINUTE) {}
        assert_eq!(call.end, Some(DtlsEnd::ClosedByPeer), "connection {seed} still works");
    }
}

#[test]
fn replayed_and_bent_datagrams_of_the_client_do_not_end_a_connection() {
    let start = Instant::now();
    let mut call = Call::new(start, DimplClient::new(start, 300, 1), Weather::default(), 1);
    call.run(MINUTE);
    let sent = call.sent_to_server.clone();
    for round in 0..2_000 {
        let mut bent = sent[round % sent.len()].clone();
        for _ in 0..round % 4 {
            let at = call.random() as usize % bent.len();
            bent[at] = call.random() as u8;
        }
        let _ = call.server.handle_datagram(call.now, &bent);
        call.drain();
        assert_eq!(call.end, None, "after {bent:02x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a client does to its own datagrams, it cannot make us panic, send much, or give keys to another certificate.
    #[test]
    fn a_client_that_bends_its_own_handshake_only_harms_itself(
        seed in any::<u64>(),
        bends in prop::collection::vec((0_usize..12, any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let start = Instant::now();
        let mut client = DimplClient::new(start, 300, seed);
        let identity = server_identity();
        let mut server = identity.accept(start, Fingerprint::sha256_of(b"nobody"));
        let mut buf = [0; MAX_DATAGRAM];
        let mut number = 0;
        for round in 0..20 {
            let now = start + Duration::from_millis(round * 60);
            while let Some(mut datagram) = client.poll_datagram(now) {
                for (_, index, byte) in bends.iter().filter(|(bent, ..)| *bent == number) {
                    let index = index.index(datagram.len());
                    datagram[index] = *byte;
                }
                number += 1;
                let _ = server.handle_datagram(now, &datagram);
            }
            loop {
                match server.poll(&mut buf) {
                    // The client may well be confused by the answers to what it did not say.
                    DtlsOutput::Datagram(len) => {
                        let _ = client.dtls.handle_packet(&buf[..len]);
                    }
                    DtlsOutput::Connected { .. } => prop_assert!(false, "nobody's certificate"),
                    DtlsOutput::Closed(end) => {
                        let panicked = format!("{end:?}").contains("library failed");
                        prop_assert!(!panicked, "{:?}", end);
                        break;
                    }
                    DtlsOutput::Idle { .. } => break,
                }
            }
            server.handle_timeout(now);
            let _ = client.dtls.handle_timeout(now);
            client.datagrams.reverse();
            client.drain();
        }
    }

    #[test]
    fn no_bytes_open_an_association(datagram in prop::collection::vec(any::<u8>(), 0..2_100)) {
        let now = Instant::now();
        let identity = server_identity();
        let mut server = identity.accept(now, identity.fingerprint());
        prop_assert_eq!(server.handle_datagram(now, &datagram), Err(DtlsError::Refused));
    }
}
