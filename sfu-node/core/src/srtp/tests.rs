//! SRTP against the standards' vectors, against another implementation, and against an attacker.

use proptest::prelude::*;
use ring::aead::LessSafeKey;
use rtc_srtp::{context::Context, crypto, protection_profile::ProtectionProfile};

use super::*;
use crate::rtp::{RtpHeader, RtpHeaderFields, write_header};

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::Aes128CmSha1_80, SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm];

/// "Quid pro quo", the salt of RFC 7714 16 and 17.
const SALT: [u8; 12] = *b"Quid pro quo";
/// The packet of RFC 7714 16.
const RTP_HEADER: [u8; 12] = [0x80, 0x40, 0xf1, 0x7b, 0x80, 0x41, 0xf8, 0xd3, 0x55, 0x01, 0xa0, 0xb2];
const RTP_PAYLOAD: &[u8] = b"Gallia est omnis divisa in partes tres";
/// The packet of RFC 7714 17.
const RTCP_PLAIN: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
                          deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Both ends over the same session keys, which are those of the vectors: 0, 1, 2, …
fn vector_ends(profile: SrtpProfile) -> (Sealer, Opener) {
    let key: [u8; 32] = std::array::from_fn(|at| at as u8);
    let session_key = || -> LessSafeKey {
        if profile == SrtpProfile::AeadAes256Gcm {
            gcm::aes_256(&key)
        } else {
            gcm::aes_128(key.first_chunk().expect("32 are more than 16"))
        }
    };
    let cipher = || Cipher::Gcm(Box::new(GcmKeys::from_session_keys(session_key(), SALT, session_key(), SALT)));
    (
        Sealer { profile, cipher: cipher(), rtcp_index: 0x5d3 },
        Opener { profile, cipher: cipher(), rtcp_sources: RtcpSources::default() },
    )
}

fn assert_rtp_vector(profile: SrtpProfile, protected: &str) {
    let (sealer, opener) = vector_ends(profile);
    let plain = [&RTP_HEADER, RTP_PAYLOAD].concat();
    let mut buf = plain.clone();
    buf.resize(plain.len() + profile.rtp_overhead(), 0);
    assert_eq!(sealer.seal_rtp(0, &mut buf, 12, plain.len()), buf.len());
    assert_eq!(buf, unhex(protected));
    assert_eq!(opener.open_rtp(0, &mut buf, 12), Ok(plain.len()));
    assert_eq!(buf[..plain.len()], plain);
}

fn assert_rtcp_vector(profile: SrtpProfile, protected: &str) {
    let (mut sealer, mut opener) = vector_ends(profile);
    let plain = unhex(RTCP_PLAIN);
    let mut buf = plain.clone();
    buf.resize(plain.len() + profile.rtcp_overhead(), 0);
    assert_eq!(sealer.seal_rtcp(&mut buf, plain.len()), buf.len());
    assert_eq!(buf, unhex(protected));
    assert_eq!(opener.open_rtcp(&mut buf), Ok(plain.len()));
    assert_eq!(buf[..plain.len()], plain);
}

#[test]
fn gcm_seals_rtp_as_the_standard_does() {
    assert_rtp_vector(
        SrtpProfile::AeadAes128Gcm,
        "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd5\
         0d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
    );
    assert_rtp_vector(
        SrtpProfile::AeadAes256Gcm,
        "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab1801238\
         9a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
    );
}

#[test]
fn gcm_seals_rtcp_as_the_standard_does() {
    assert_rtcp_vector(
        SrtpProfile::AeadAes128Gcm,
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32d\
         c676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
    );
    assert_rtcp_vector(
        SrtpProfile::AeadAes256Gcm,
        "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50\
         a2eaa5c1110555be8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
    );
}

#[test]
fn keying_material_of_another_length_is_refused() {
    for profile in PROFILES {
        let expected = profile.exported_len();
        for actual in [0, expected - 1, expected + 1] {
            assert_eq!(
                session_keys(profile, &vec![0; actual], DtlsRole::Server).err(),
                Some(SrtpError::KeyingMaterial { expected, actual })
            );
        }
    }
}

/// Keying material that differs in every byte, and so tells keys and salts apart.
fn material(profile: SrtpProfile) -> Vec<u8> {
    (1..=profile.exported_len() as u8).collect()
}

/// What the client opens and the server, which is us, seals, and the other way round.
fn ends(profile: SrtpProfile, exported: &[u8]) -> ((Opener, Sealer), (Opener, Sealer)) {
    let end = |role| session_keys(profile, exported, role).expect("keying material of the right length");
    (end(DtlsRole::Client), end(DtlsRole::Server))
}

/// The other implementation's context over the server's (`true`) or the client's keys.
fn oracle(profile: SrtpProfile, exported: &[u8], of_server: bool) -> Context {
    let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
    let end = usize::from(of_server);
    let key = &exported[end * key_len..][..key_len];
    let salt = &exported[2 * key_len + end * salt_len..][..salt_len];
    let theirs = match profile {
        SrtpProfile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let provider = crypto::default_provider().expect("the oracle has a provider");
    Context::new(key, salt, theirs, None, None, provider.crypto()).expect("keys of the right length")
}

fn rtp_packet(seq: u16, ssrc: u32, level: &[u8], payload: &[u8]) -> (Vec<u8>, usize) {
    let fields = RtpHeaderFields { marker: seq.is_multiple_of(2), payload_type: 96, seq, timestamp: 77, ssrc };
    let mut packet = vec![0; 64];
    let header_len = write_header(&mut packet, &fields, &[(3, level)]);
    packet.truncate(header_len);
    packet.extend_from_slice(payload);
    (packet, header_len)
}

fn rtcp_packet(ssrc: u32, body: &[u8]) -> Vec<u8> {
    let words = (1 + body.len() / 4) as u16;
    let mut packet = vec![0x80, 201];
    packet.extend_from_slice(&words.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&body[..body.len() / 4 * 4]);
    packet
}

fn sealed_rtp(sealer: &Sealer, roc: u32, plain: &[u8], header_len: usize) -> Vec<u8> {
    let mut buf = plain.to_vec();
    buf.resize(plain.len() + sealer.profile().rtp_overhead(), 0xee);
    let len = sealer.seal_rtp(roc, &mut buf, header_len, plain.len());
    assert_eq!(len, buf.len());
    buf
}

fn sealed_rtcp(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
    let mut buf = plain.to_vec();
    buf.resize(plain.len() + sealer.profile().rtcp_overhead(), 0xee);
    let len = sealer.seal_rtcp(&mut buf, plain.len());
    assert_eq!(len, buf.len());
    buf
}

fn any_profile() -> impl Strategy<Value = SrtpProfile> {
    prop::sample::select(PROFILES.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Byte for byte what another implementation makes of the same keys, across the wrap of the sequence number.
    #[test]
    fn rtp_agrees_with_another_implementation(
        profile in any_profile(),
        seed in any::<u8>(),
        ssrc in any::<u32>(),
        level in prop::collection::vec(any::<u8>(), 1..8),
        payload in prop::collection::vec(any::<u8>(), 0..1200),
    ) {
        let exported: Vec<u8> = material(profile).iter().map(|byte| byte.wrapping_mul(seed | 1)).collect();
        let ((client, _), (server, sealer)) = ends(profile, &exported);
        let mut their_sealer = oracle(profile, &exported, true);
        let mut their_client = oracle(profile, &exported, false);
        for (roc, seq) in [(0, 65_533_u16), (0, 65_535), (1, 0), (1, 2)] {
            let (plain, header_len) = rtp_packet(seq, ssrc, &level, &payload);
            let ours = sealed_rtp(&sealer, roc, &plain, header_len);
            let theirs = their_sealer.encrypt_rtp(&plain).expect("the oracle seals");
            prop_assert_eq!(&ours[..], &theirs[..]);

            let mut opened = ours;
            prop_assert_eq!(client.open_rtp(roc, &mut opened, header_len), Ok(plain.len()));
            prop_assert_eq!(&opened[..plain.len()], &plain[..]);

            let mut from_client = their_client.encrypt_rtp(&plain).expect("the oracle seals").to_vec();
            prop_assert_eq!(server.open_rtp(roc, &mut from_client, header_len), Ok(plain.len()));
            prop_assert_eq!(&from_client[..plain.len()], &plain[..]);
        }
    }

    #[test]
    fn rtcp_agrees_with_another_implementation(
        profile in any_profile(),
        seed in any::<u8>(),
        ssrc in any::<u32>(),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let exported: Vec<u8> = material(profile).iter().map(|byte| byte.wrapping_mul(seed | 1)).collect();
        let (_, (mut server, mut sealer)) = ends(profile, &exported);
        let mut their_opener = oracle(profile, &exported, true);
        let mut their_client = oracle(profile, &exported, false);
        let plain = rtcp_packet(ssrc, &body);
        for _ in 0..3 {
            let ours = sealed_rtcp(&mut sealer, &plain);
            let theirs = their_opener.decrypt_rtcp(&ours).expect("the oracle opens");
            prop_assert_eq!(&theirs[..], &plain[..]);

            let mut from_client = their_client.encrypt_rtcp(&plain).expect("the oracle seals").to_vec();
            prop_assert_eq!(server.open_rtcp(&mut from_client), Ok(plain.len()));
            prop_assert_eq!(&from_client[..plain.len()], &plain[..]);
        }
    }

    /// One flipped bit anywhere, or another rollover counter, and the packet is refused.
    #[test]
    fn damage_is_refused(profile in any_profile(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let ((client, _), (_, mut sealer)) = ends(profile, &material(profile));
        let (plain, header_len) = rtp_packet(9, 1, &[1], &[7; 100]);
        let sealed = sealed_rtp(&sealer, 5, &plain, header_len);
        prop_assert_eq!(client.open_rtp(6, &mut sealed.clone(), header_len), Err(SrtpError::Authentication));
        let mut damaged = sealed.clone();
        damaged[at.index(sealed.len())] ^= 1 << bit;
        prop_assert_eq!(client.open_rtp(5, &mut damaged, header_len), Err(SrtpError::Authentication));

        let (mut client, _) = session_keys(profile, &material(profile), DtlsRole::Client).expect("right length");
        let sealed = sealed_rtcp(&mut sealer, &rtcp_packet(1, &[7; 24]));
        let mut damaged = sealed.clone();
        damaged[at.index(sealed.len())] ^= 1 << bit;
        let refused = client.open_rtcp(&mut damaged).expect_err("damaged");
        prop_assert!(matches!(refused, SrtpError::Authentication | SrtpError::Unencrypted), "{}", refused);
        prop_assert_eq!(client.rtcp_sources.len(), 0);
    }

    #[test]
    fn no_input_panics_the_opener(profile in any_profile(), mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let (mut opener, _) = session_keys(profile, &material(profile), DtlsRole::Server).expect("right length");
        if let Ok(header) = RtpHeader::parse(&bytes) {
            prop_assert!(opener.open_rtp(0, &mut bytes.clone(), header.header_len).is_err());
        }
        prop_assert!(opener.open_rtcp(&mut bytes).is_err());
    }
}

#[test]
fn a_replayed_rtcp_packet_is_refused_and_a_late_one_is_not() {
    for profile in PROFILES {
        let ((mut client, _), (_, mut sealer)) = ends(profile, &material(profile));
        let plain = rtcp_packet(7, &[1; 24]);
        let packets: Vec<_> = (0..70).map(|_| sealed_rtcp(&mut sealer, &plain)).collect();
        for at in [0, 5, 69, 6, 68] {
            assert_eq!(client.open_rtcp(&mut packets[at].clone()), Ok(plain.len()), "packet {at}");
        }
        for at in [0, 5, 6, 68, 69, 1] {
            assert_eq!(client.open_rtcp(&mut packets[at].clone()), Err(SrtpError::Replayed), "packet {at}");
        }
        assert_eq!(client.rtcp_sources.len(), 1);
    }
}

#[test]
fn spoofed_rtcp_sources_leave_no_state() {
    let profile = SrtpProfile::AeadAes128Gcm;
    let ((mut client, _), (_, mut sealer)) = ends(profile, &material(profile));
    let genuine = sealed_rtcp(&mut sealer, &rtcp_packet(7, &[1; 24]));
    for ssrc in 0..10_000_u32 {
        let mut forged = genuine.clone();
        forged[4..8].copy_from_slice(&(ssrc + 100).to_be_bytes());
        assert_eq!(client.open_rtcp(&mut forged), Err(SrtpError::Authentication));
    }
    assert_eq!(client.rtcp_sources.len(), 0);
}

#[test]
fn rtcp_sources_are_bounded_and_known_ones_go_on() {
    let profile = SrtpProfile::AeadAes128Gcm;
    let ((mut client, _), (_, mut sealer)) = ends(profile, &material(profile));
    for ssrc in 0..MAX_SOURCES as u32 {
        assert!(client.open_rtcp(&mut sealed_rtcp(&mut sealer, &rtcp_packet(ssrc, &[]))).is_ok());
    }
    let mut one_more = sealed_rtcp(&mut sealer, &rtcp_packet(u32::MAX, &[]));
    assert_eq!(client.open_rtcp(&mut one_more), Err(SrtpError::TooManySources));
    assert!(client.open_rtcp(&mut sealed_rtcp(&mut sealer, &rtcp_packet(0, &[]))).is_ok());
}

#[test]
fn rtcp_sealing_ends_with_the_keys() {
    let profile = SrtpProfile::AeadAes128Gcm;
    let ((mut client, _), (_, mut sealer)) = ends(profile, &material(profile));
    sealer.rtcp_index = RTCP_ENCRYPTED - 2;
    let plain = rtcp_packet(7, &[]);
    assert!(client.open_rtcp(&mut sealed_rtcp(&mut sealer, &plain)).is_ok());
    assert_eq!(sealer.seal_rtcp(&mut [0; 100], plain.len()), 0);
}

#[test]
fn debug_output_shows_no_keys() {
    let (opener, sealer) = session_keys(SrtpProfile::AeadAes128Gcm, &[0x5a; 56], DtlsRole::Server).expect("56 bytes");
    assert_eq!(format!("{sealer:?}"), "Sealer { profile: AeadAes128Gcm, .. }");
    assert_eq!(format!("{opener:?}"), "Opener { profile: AeadAes128Gcm, .. }");
}
