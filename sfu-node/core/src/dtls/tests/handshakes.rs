//! Handshakes that have to succeed, whatever the network does, and with which SRTP profile.

use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;

use super::{
    network::{Call, Weather},
    *,
};

const MINUTE: Duration = Duration::from_mins(1);

/// Runs 100 handshakes and returns how long they took, sorted.
fn hundred(weather: Weather) -> Vec<Duration> {
    let mut took: Vec<_> = (0..100)
        .map(|seed| {
            let start = Instant::now();
            let mut call = Call::new(start, DimplClient::new(start, 1_200, seed), weather, seed);
            call.run(MINUTE);
            assert!(call.is_complete(), "handshake {seed}: {:?} after {:?}", call.end, call.now - start);
            call.now - start
        })
        .collect();
    took.sort_unstable();
    took
}

#[test]
fn a_hundred_handshakes_take_two_round_trips_each_without_loss() {
    let took = hundred(Weather::default());
    assert_eq!(took[99], Duration::from_millis(40), "10 ms per flight, and no cookie exchange");
}

#[test]
fn a_hundred_handshakes_complete_at_10_percent_loss() {
    let took = hundred(Weather { loss_percent: 10, ..Weather::default() });
    assert!(took[95] < Duration::from_secs(2), "p95 {:?}", took[95]);
}

#[test]
fn a_hundred_handshakes_complete_at_30_percent_loss() {
    let took = hundred(Weather { loss_percent: 30, ..Weather::default() });
    assert!(took[95] < Duration::from_secs(10), "p95 {:?}", took[95]);
}

#[test]
fn a_hundred_handshakes_complete_with_duplication_and_reordering() {
    hundred(Weather { duplication_percent: 30, jitter_ms: 80, ..Weather::default() });
}

#[test]
fn a_hundred_handshakes_complete_with_everything_at_once() {
    hundred(Weather { loss_percent: 15, duplication_percent: 15, jitter_ms: 200 });
}

#[test]
fn a_client_hello_in_many_pieces_is_put_together_in_any_order() {
    for seed in 0..20 {
        let start = Instant::now();
        let mut client = DimplClient::new(start, 70, seed);
        let pieces = client.datagrams.len();
        assert!(pieces >= 3, "{pieces} pieces");
        client.datagrams.rotate_left(seed as usize % pieces);
        let weather = Weather { jitter_ms: 5, ..Weather::default() };
        let mut call = Call::new(start, client, weather, seed);
        call.run(MINUTE);
        assert!(call.is_complete(), "{:?}", call.end);
    }
}

#[test]
fn a_client_hello_that_is_cut_differently_when_repeated_is_understood() {
    let start = Instant::now();
    let mut client = DimplClient::new(start, 1_200, 1);
    let hello = client.poll_datagram(start).expect("a client hello");
    assert!(client.poll_datagram(start).is_none(), "in one piece");
    let mut call = Call::new(start, client, Weather::default(), 1);
    // The second half is lost; then, twice, the client tries smaller pieces, and once more some are lost.
    let deliver = |call: &mut Call<DimplClient>, size, skip: Option<usize>| {
        for (number, piece) in pieces(&hello, size).into_iter().enumerate() {
            if skip != Some(number) {
                call.server.handle_datagram(start, &piece).expect("a piece of a hello");
                call.drain();
            }
        }
    };
    deliver(&mut call, 90, Some(1));
    deliver(&mut call, 60, Some(0));
    deliver(&mut call, 40, Some(2));
    deliver(&mut call, 40, None);
    call.run(MINUTE);
    assert!(call.is_complete(), "{:?}", call.end);
    assert!(call.now - start < Duration::from_millis(100), "without waiting for a retransmission");
}

/// A hello in one record cut into pieces, each in a record of its own.
fn pieces(hello: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (header, message) = hello.split_at(13);
    let (message_header, body) = message.split_at(12);
    let cut = |(number, piece): (usize, &[u8])| {
        let int = |value: usize| (value as u32).to_be_bytes()[1..].to_vec();
        let message = [&message_header[..6], &int(number * size), &int(piece.len()), piece].concat();
        let sequence = [0, size as u8, number as u8];
        [&header[..8], &sequence, &(message.len() as u16).to_be_bytes(), &message].concat()
    };
    body.chunks(size).enumerate().map(cut).collect()
}

#[test]
fn gcm_is_negotiated_whatever_the_order_of_the_offer() {
    let cm = Offered::Srtp_Aes128_Cm_Hmac_Sha1_80;
    let (gcm128, gcm256) = (Offered::Srtp_Aead_Aes_128_Gcm, Offered::Srtp_Aead_Aes_256_Gcm);
    let chromium = [cm, gcm256, gcm128];
    let firefox = [gcm128, cm, gcm256];
    let cases: [(&[Offered], SrtpProfile); 5] = [
        (&chromium, SrtpProfile::AeadAes256Gcm),
        (&firefox, SrtpProfile::AeadAes256Gcm),
        (&[cm, gcm128], SrtpProfile::AeadAes128Gcm),
        (&[gcm128], SrtpProfile::AeadAes128Gcm),
        (&[Offered::Srtp_Aes128_Cm_Hmac_Sha1_32, cm], SrtpProfile::Aes128CmSha1_80),
    ];
    for (offered, expected) in cases {
        let start = Instant::now();
        let mut call = Call::new(start, RtcClient::offering(start, offered), Weather::default(), 1);
        call.run(MINUTE);
        assert!(call.is_complete(), "{offered:?}: {:?}", call.end);
        let (profile, keys) = call.connected.expect("it is complete");
        assert_eq!(profile, expected, "{offered:?}");
        assert_eq!(keys.len(), profile.exported_len());
    }
}

#[test]
fn our_close_is_told_to_the_client() {
    let start = Instant::now();
    let mut call = Call::new(start, DimplClient::new(start, 1_200, 1), Weather::default(), 1);
    call.run(MINUTE);
    call.server.close();
    call.drain();
    assert_eq!(call.end, Some(DtlsEnd::ClosedByUs));
    while call.step(call.now + Duration::from_secs(1)) {}
    assert!(call.client.has_seen_close());
    assert_eq!(call.server.handle_datagram(call.now, &call.sent_to_server[0]), Err(DtlsError::Closed));
    assert!(matches!(call.server.poll(&mut [0; MAX_DATAGRAM]), DtlsOutput::Idle { timeout: None }));
}

#[test]
fn a_clients_close_ends_the_association() {
    for client in [true, false] {
        let start = Instant::now();
        let end = if client {
            closed_by_client(Call::new(start, DimplClient::new(start, 1_200, 1), Weather::default(), 1))
        } else {
            let gcm = [Offered::Srtp_Aead_Aes_128_Gcm];
            closed_by_client(Call::new(start, RtcClient::offering(start, &gcm), Weather::default(), 1))
        };
        assert_eq!(end, Some(DtlsEnd::ClosedByPeer));
    }
}

fn closed_by_client<C: Client>(mut call: Call<C>) -> Option<DtlsEnd> {
    call.run(MINUTE);
    call.client.close(call.now);
    call.drain();
    let deadline = call.now + Duration::from_secs(1);
    while call.end.is_none() && call.step(deadline) {}
    call.end
}

#[test]
fn an_endpoint_without_a_client_can_be_closed_and_asks_for_no_time() {
    let now = Instant::now();
    let identity = server_identity();
    let mut endpoint = identity.accept(now, identity.fingerprint());
    let mut buf = [0; MAX_DATAGRAM];
    endpoint.handle_timeout(now + MINUTE);
    assert!(matches!(endpoint.poll(&mut buf), DtlsOutput::Idle { timeout: None }));
    endpoint.close();
    assert!(matches!(endpoint.poll(&mut buf), DtlsOutput::Closed(DtlsEnd::ClosedByUs)));
    assert!(matches!(endpoint.poll(&mut buf), DtlsOutput::Idle { timeout: None }));
}

#[test]
fn a_connected_endpoint_repeats_its_last_flight_a_few_times_and_then_asks_for_no_time() {
    let start = Instant::now();
    let mut call = Call::new(start, DimplClient::new(start, 1_200, 1), Weather::default(), 1);
    call.run(MINUTE);
    let mut buf = [0; MAX_DATAGRAM];
    let mut repeated = 0;
    loop {
        match call.server.poll(&mut buf) {
            DtlsOutput::Idle { timeout: Some(at) } => call.server.handle_timeout(at),
            DtlsOutput::Idle { timeout: None } => break,
            DtlsOutput::Datagram(len) => {
                assert!(len < 100, "{len} bytes");
                repeated += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(repeated, 6);
}
