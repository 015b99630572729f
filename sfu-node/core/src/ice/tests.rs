//! Checks against an agent in virtual time. Requests are made, and answers verified, by `rtc-stun`: code that nobody here wrote.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::{
    attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType},
    error_code::ErrorCodeAttribute,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId},
    xoraddr::XorMappedAddress,
};

use super::*;

const CONTROLLING: AttrType = AttrType(0x802a);
const CONTROLLED: AttrType = AttrType(0x8029);
const PRIORITY: AttrType = AttrType(0x0024);
const NETWORK_COST: AttrType = AttrType(0xc057);
const UNHEARD_OF: AttrType = AttrType(0x7abc);

fn credentials(seed: u8) -> IceCredentials {
    IceCredentials::from_random([seed; 24])
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], port))
}

fn provider() -> Arc<dyn RTCCryptoProvider> {
    rtc_crypto::default_provider().expect("the built-in provider")
}

/// A check as a browser sends it, with all that can be wrong about one.
struct Check<'a> {
    credentials: &'a IceCredentials,
    extra: &'a [(AttrType, &'a [u8])],
    integrity: bool,
    fingerprint: bool,
}

impl<'a> Check<'a> {
    fn to(credentials: &'a IceCredentials) -> Self {
        let extra: &[(AttrType, &[u8])] =
            &[(PRIORITY, &[0x6e, 0, 1, 0xff]), (CONTROLLING, &[1; 8]), (NETWORK_COST, &[0, 1, 0, 10])];
        Self { credentials, extra, integrity: true, fingerprint: true }
    }

    fn nominating(credentials: &'a IceCredentials) -> Self {
        let extra: &[(AttrType, &[u8])] =
            &[(PRIORITY, &[0x6e, 0, 1, 0xff]), (CONTROLLING, &[1; 8]), (ATTR_USE_CANDIDATE, &[])];
        Self { extra, ..Self::to(credentials) }
    }

    fn bytes(&self) -> Vec<u8> {
        let provider = provider();
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.transaction_id = TransactionId([9; 12]);
        message.write_header();
        message.add(ATTR_USERNAME, format!("{}:them", self.credentials.ufrag()).as_bytes());
        self.extra.iter().for_each(|(kind, value)| message.add(*kind, value));
        if self.integrity {
            let password = self.credentials.password().to_owned();
            let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto());
            integrity.add_to(&mut message).expect("room for integrity");
        }
        if self.fingerprint {
            FINGERPRINT.add_to(&mut message).expect("room for a fingerprint");
        }
        message.raw
    }
}

/// A check as a browser sends it that nominates its path.
pub(crate) fn nominating_check(credentials: &IceCredentials) -> Vec<u8> {
    Check::nominating(credentials).bytes()
}

/// Reads an answer and verifies what a browser verifies.
fn answer(bytes: &[u8], credentials: &IceCredentials) -> Message {
    let mut message = Message::new();
    message.unmarshal_binary(bytes).expect("a STUN message");
    assert_eq!(message.transaction_id, TransactionId([9; 12]));
    FINGERPRINT.check(&message).expect("the fingerprint");
    MessageIntegrity::check(&mut message, credentials.password().as_bytes(), provider().crypto())
        .expect("the integrity");
    message
}

#[test]
fn a_valid_check_is_answered_with_the_address_it_came_from() {
    let (now, local) = (Instant::now(), credentials(1));
    let mut agent = IceLite::new(now, &local);
    let mut out = Vec::new();
    for from in [address(4_000), "[2001:db8::7]:4001".parse().expect("an address")] {
        let datagram = Check::to(&local).bytes();
        assert_eq!(binding_ufrag(&datagram), Some(local.ufrag()));
        let accepted = agent.handle_request(now, from, &datagram, &mut out);
        assert_eq!(accepted, Ok(Accepted { nominated: false, new_path: true, evicted: None }));
        let answer = answer(&out, &local);
        assert_eq!(answer.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&answer).expect("a mapped address");
        assert_eq!((mapped.ip, mapped.port), (from.ip(), from.port()));
    }
    assert_eq!(agent.selected(), None);
    assert_eq!(agent.path(), Some("[2001:db8::7]:4001".parse().expect("an address")));
}

#[test]
fn a_peer_behind_a_dual_stack_socket_learns_its_ipv4_address() {
    let (now, local) = (Instant::now(), credentials(1));
    let mut out = Vec::new();
    let mapped_form: SocketAddr = "[::ffff:192.0.2.7]:4000".parse().expect("an address");
    let check = Check::to(&local).bytes();
    IceLite::new(now, &local).handle_request(now, mapped_form, &check, &mut out).expect("a valid check");
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&answer(&out, &local)).expect("a mapped address");
    assert_eq!(mapped.ip, address(0).ip());
}

#[test]
fn the_path_nominated_last_is_selected() {
    let (now, local) = (Instant::now(), credentials(1));
    let mut agent = IceLite::new(now, &local);
    let mut out = Vec::new();
    for port in [1, 2] {
        let accepted = agent.handle_request(now, address(port), &Check::nominating(&local).bytes(), &mut out);
        assert!(accepted.expect("valid").nominated);
        assert_eq!(agent.selected(), Some(address(port)));
    }
    let again = agent.handle_request(now, address(1), &Check::to(&local).bytes(), &mut out).expect("valid");
    assert_eq!(again, Accepted { nominated: false, new_path: false, evicted: None });
    assert_eq!(agent.path(), Some(address(2)));
}

#[test]
fn nothing_is_answered_or_changed_without_a_valid_integrity() {
    let (now, local, stranger) = (Instant::now(), credentials(1), credentials(2));
    let forged = IceCredentials::new(local.ufrag(), stranger.password()).expect("well-formed");
    let controlled: &[(AttrType, &[u8])] = &[(CONTROLLED, &[0xff; 8])];
    let nominating = Check::nominating(&local).bytes();
    let truncated = nominating[..nominating.len() - 8].to_vec();
    let mut flipped = nominating.clone();
    flipped[30] ^= 1;
    let cases = [
        (Check::nominating(&forged).bytes(), IceError::WrongIntegrity),
        (Check { extra: controlled, ..Check::to(&forged) }.bytes(), IceError::WrongIntegrity),
        (Check { extra: &[(UNHEARD_OF, &[0])], ..Check::to(&forged) }.bytes(), IceError::WrongIntegrity),
        (Check::nominating(&stranger).bytes(), IceError::WrongUsername),
        (Check { integrity: false, ..Check::to(&local) }.bytes(), StunError::NoIntegrity.into()),
        (Check { fingerprint: false, ..Check::to(&local) }.bytes(), StunError::NoFingerprint.into()),
        (truncated, StunError::BadLength.into()),
        (flipped, StunError::WrongFingerprint.into()),
        (vec![0; 20], StunError::NotBindingRequest.into()),
        (vec![], StunError::NotBindingRequest.into()),
    ];
    let mut agent = IceLite::new(now, &local);
    for (datagram, error) in cases {
        let mut out = b"what was there before".to_vec();
        let later = now + Duration::from_secs(1);
        assert_eq!(agent.handle_request(later, address(1), &datagram, &mut out), Err(error));
        assert_eq!(out, b"", "{error}");
        assert_eq!((agent.path(), agent.consent_deadline()), (None, now + CONSENT_TIMEOUT), "{error}");
    }
}

#[test]
fn attributes_behind_the_integrity_are_ignored() {
    let (now, local) = (Instant::now(), credentials(1));
    let mut message = Message::new();
    message.unmarshal_binary(&Check { fingerprint: false, ..Check::to(&local) }.bytes()).expect("a check");
    message.add(ATTR_USE_CANDIDATE, &[]);
    message.add(CONTROLLED, &[0; 8]);
    FINGERPRINT.add_to(&mut message).expect("room");
    let mut out = Vec::new();
    let accepted = IceLite::new(now, &local).handle_request(now, address(1), &message.raw, &mut out);
    assert!(!accepted.expect("valid").nominated);
}

#[test]
fn an_authenticated_peer_is_told_about_a_role_conflict_and_unknown_attributes() {
    let (now, local) = (Instant::now(), credentials(1));
    let cases: [(AttrType, &[u8], IceError, u16); 2] = [
        (CONTROLLED, &[0xff; 8], IceError::RoleConflict, 487),
        (UNHEARD_OF, &[0], IceError::UnknownAttribute(UNHEARD_OF.0), 420),
    ];
    for (kind, value, error, code) in cases {
        let mut agent = IceLite::new(now, &local);
        let check = Check { extra: &[(PRIORITY, &[0; 4]), (kind, value)], ..Check::to(&local) }.bytes();
        let mut out = Vec::new();
        assert_eq!(agent.handle_request(now, address(1), &check, &mut out), Err(error));
        let mut told = ErrorCodeAttribute::default();
        told.get_from(&answer(&out, &local)).expect("an error code");
        assert_eq!(told.code.0, code);
        assert_eq!(agent.path(), None, "a refused check proves no path");
    }
}

#[test]
fn consent_ends_30_seconds_after_the_last_valid_check_of_the_selected_path() {
    let (start, local) = (Instant::now(), credentials(1));
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut agent = IceLite::new(start, &local);
    let mut out = Vec::new();
    let mut check = |agent: &mut IceLite, seconds, port, nominating: bool| {
        let check = if nominating { Check::nominating(&local) } else { Check::to(&local) };
        agent.handle_request(at(seconds), address(port), &check.bytes(), &mut out).expect("valid");
        agent.consent_deadline()
    };
    assert_eq!(agent.consent_deadline(), at(30));
    assert_eq!(check(&mut agent, 5, 1, false), at(30), "not nominated: not connected yet");
    assert_eq!(check(&mut agent, 6, 1, true), at(36));
    assert_eq!(check(&mut agent, 9, 2, false), at(36), "another path");
    assert_eq!(check(&mut agent, 10, 1, false), at(40));
    assert_eq!(check(&mut agent, 12, 2, true), at(42), "a new selection");
    assert_eq!(check(&mut agent, 13, 1, false), at(42));
}

#[test]
fn replaced_credentials_stay_valid_for_30_seconds_if_the_new_ones_are_not_used() {
    let (start, old, new) = (Instant::now(), credentials(1), credentials(2));
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut agent = IceLite::new(start, &old);
    let mut out = Vec::new();
    assert_eq!(agent.restart(at(10), &new), None);
    assert_eq!(agent.consent_deadline(), at(40), "consent is granted anew");
    assert_eq!(agent.ufrags().collect::<Vec<_>>(), [new.ufrag(), old.ufrag()]);
    agent.handle_request(at(39), address(1), &Check::nominating(&old).bytes(), &mut out).expect("still valid");
    answer(&out, &old);
    assert_eq!((agent.retired_deadline(), agent.poll_retired(at(39))), (Some(at(40)), None));
    let expired = agent.handle_request(at(40), address(1), &Check::nominating(&old).bytes(), &mut out);
    assert_eq!((expired, out.len()), (Err(IceError::WrongUsername), 0));
    assert_eq!(agent.poll_retired(at(40)).as_deref(), Some(old.ufrag()));
    assert_eq!((agent.retired_deadline(), agent.poll_retired(at(41))), (None, None));
}

#[test]
fn replaced_credentials_stay_valid_for_5_seconds_after_the_new_ones_were_used() {
    let (start, old, new) = (Instant::now(), credentials(1), credentials(2));
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut agent = IceLite::new(start, &old);
    let mut out = Vec::new();
    agent.restart(start, &new);
    for seconds in [2, 4] {
        agent.handle_request(at(seconds), address(1), &Check::nominating(&new).bytes(), &mut out).expect("valid");
        answer(&out, &new);
    }
    assert_eq!(agent.retired_deadline(), Some(at(7)), "later uses give no more time");
    assert!(agent.handle_request(at(6), address(1), &Check::to(&old).bytes(), &mut out).is_ok());
    assert!(agent.handle_request(at(7), address(1), &Check::to(&old).bytes(), &mut out).is_err());
}

#[test]
fn a_second_restart_forgets_the_first_credentials_at_once() {
    let now = Instant::now();
    let mut agent = IceLite::new(now, &credentials(1));
    agent.restart(now, &credentials(2));
    assert_eq!(agent.restart(now, &credentials(3)).as_deref(), Some(credentials(1).ufrag()));
    assert_eq!(agent.ufrags().collect::<Vec<_>>(), [credentials(3).ufrag(), credentials(2).ufrag()]);
}

#[test]
fn a_roaming_peer_evicts_its_oldest_path_but_never_the_selected_one() {
    let (now, local) = (Instant::now(), credentials(1));
    let mut agent = IceLite::new(now, &local);
    let mut out = Vec::new();
    let mut prove = |agent: &mut IceLite, port| {
        agent.handle_request(now, address(port), &Check::to(&local).bytes(), &mut out).expect("valid").evicted
    };
    for port in 1..=8 {
        assert_eq!(prove(&mut agent, port), None);
    }
    assert_eq!(prove(&mut agent, 1), None, "proven again: the most recent now");
    let mut answered = Vec::new();
    agent.handle_request(now, address(2), &Check::nominating(&local).bytes(), &mut answered).expect("valid");
    for (port, evicted) in [(9, 3), (10, 4), (11, 5), (12, 6), (13, 7), (14, 8), (15, 1), (16, 9)] {
        assert_eq!(prove(&mut agent, port), Some(address(evicted)));
    }
    assert_eq!((agent.selected(), agent.paths().len()), (Some(address(2)), 8));
}

#[test]
fn replaced_credentials_neither_select_nor_consent_once_the_new_ones_have_nominated() {
    let (start, old, new) = (Instant::now(), credentials(1), credentials(2));
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut agent = IceLite::new(start, &old);
    let mut out = Vec::new();
    let mut nominate = |agent: &mut IceLite, seconds, port, credentials| {
        let check = Check::nominating(credentials).bytes();
        let accepted = agent.handle_request(at(seconds), address(port), &check, &mut out).expect("valid");
        answer(&out, credentials);
        (accepted.nominated, agent.selected(), agent.consent_deadline())
    };
    assert_eq!(nominate(&mut agent, 0, 1, &old), (true, Some(address(1)), at(30)));
    agent.restart(at(1), &new);
    // Chromium's first check on a new socket may carry the old ones.
    assert_eq!(nominate(&mut agent, 2, 2, &old), (true, Some(address(2)), at(32)));
    assert_eq!(nominate(&mut agent, 3, 3, &new), (true, Some(address(3)), at(33)));
    for port in [1, 2, 3] {
        assert_eq!(nominate(&mut agent, 5, port, &old), (false, Some(address(3)), at(33)), "{port}");
    }
    assert_eq!(nominate(&mut agent, 6, 3, &new), (true, Some(address(3)), at(36)));
    agent.restart(at(7), &credentials(3));
    assert_eq!(nominate(&mut agent, 8, 4, &new), (true, Some(address(4)), at(38)), "a restart begins anew");
}

#[test]
fn a_path_ends_30_seconds_after_its_last_check_unless_it_is_the_selected_one() {
    let (start, local) = (Instant::now(), credentials(1));
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut agent = IceLite::new(start, &local);
    let mut out = Vec::new();
    let mut check = |agent: &mut IceLite, seconds, port, check: Check<'_>| {
        agent.handle_request(at(seconds), address(port), &check.bytes(), &mut out).expect("valid");
    };
    check(&mut agent, 0, 1, Check::nominating(&local));
    check(&mut agent, 1, 2, Check::to(&local));
    check(&mut agent, 2, 3, Check::to(&local));
    check(&mut agent, 20, 2, Check::to(&local));
    assert_eq!(agent.expire_path(at(31)), None);
    assert_eq!((agent.expire_path(at(32)), agent.expire_path(at(32))), (Some(address(3)), None));
    assert_eq!((agent.expire_path(at(50)), agent.expire_path(at(50))), (Some(address(2)), None));
    assert_eq!(agent.paths().collect::<Vec<_>>(), [address(1)]);
}

proptest! {
    #[test]
    fn no_bytes_panic_or_are_answered(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut agent = IceLite::new(Instant::now(), &credentials(1));
        let mut out = Vec::new();
        prop_assert!(agent.handle_request(Instant::now(), address(1), &datagram, &mut out).is_err());
        prop_assert!(out.is_empty());
        binding_ufrag(&datagram);
    }

    /// Whatever happens to a valid check on its way, with a fingerprint that is right again: it is answered only if what the
    /// integrity covers, and the integrity itself, are as they were.
    #[test]
    fn a_changed_check_is_never_answered(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let local = credentials(1);
        let good = Check { fingerprint: false, ..Check::nominating(&local) }.bytes();
        let mut bad = good.clone();
        for (index, byte) in changes {
            let index = index.index(bad.len());
            bad[index] = byte;
        }
        if let Some(cut) = cut {
            bad.truncate(20.max(cut.index(bad.len()) / 4 * 4));
        }
        let length = (bad.len() - 20) as u16;
        bad[2..4].copy_from_slice(&length.to_be_bytes());
        prop_assume!(bad != good);
        let mut out = Vec::new();
        let mut agent = IceLite::new(Instant::now(), &local);
        let mut handle = |bytes: &[u8]| {
            let result = agent.handle_request(Instant::now(), address(1), bytes, &mut out);
            (result, out.len())
        };
        for bytes in [bad.clone(), with_fingerprint(bad)] {
            let (result, answered) = handle(&bytes);
            prop_assert!(result.is_err(), "{result:?}");
            prop_assert_eq!(answered, 0);
        }
    }
}

/// Appends a FINGERPRINT without looking at what is there.
fn with_fingerprint(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = (bytes.len() - 20 + 8) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let value = rtc_stun::fingerprint::fingerprint_value(&bytes);
    bytes.extend_from_slice(&[0x80, 0x28, 0, 4]);
    bytes.extend_from_slice(&value.to_be_bytes());
    bytes
}
