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

fn address(port: u16) -> CandidatePair {
    SocketAddr::from(([192, 0, 2, 7], port)).into()
}

fn pair(remote: &str) -> CandidatePair {
    remote.parse::<SocketAddr>().expect("an address").into()
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

/// A check as a browser sends it that nominates nothing.
pub(crate) fn plain_check(credentials: &IceCredentials) -> Vec<u8> {
    Check::to(credentials).bytes()
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
    for from in [address(4_000), pair("[2001:db8::7]:4001")] {
        let datagram = Check::to(&local).bytes();
        assert_eq!(binding_ufrag(&datagram), Some(local.ufrag()));
        let accepted = agent.handle_request(now, from, &datagram, &mut out);
        assert_eq!(accepted, Ok(Accepted { new_path: true, evicted: None }));
        let answer = answer(&out, &local);
        assert_eq!(answer.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&answer).expect("a mapped address");
        assert_eq!((mapped.ip, mapped.port), (from.remote.ip(), from.remote.port()));
    }
    assert_eq!(agent.selected(), None);
    assert_eq!(agent.path(), Some(pair("[2001:db8::7]:4001")));
}

#[test]
fn a_peer_behind_a_dual_stack_socket_learns_its_ipv4_address() {
    let (now, local) = (Instant::now(), credentials(1));
    let mut out = Vec::new();
    let mapped_form = pair("[::ffff:192.0.2.7]:4000");
    let check = Check::to(&local).bytes();
    IceLite::new(now, &local).handle_request(now, mapped_form, &check, &mut out).expect("a valid check");
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&answer(&out, &local)).expect("a mapped address");
    assert_eq!(mapped.ip, address(0).remote.ip());
}

/// Checks of one client at moments in seconds, and what they select.
struct Checked {
    start: Instant,
    agent: IceLite,
    credentials: IceCredentials,
}

impl Checked {
    fn new() -> Self {
        let (start, credentials) = (Instant::now(), credentials(1));
        Self { start, agent: IceLite::new(start, &credentials), credentials }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    /// The port that is selected after a check.
    fn check(&mut self, seconds: f64, port: u16, check: fn(&IceCredentials) -> Vec<u8>) -> Option<u16> {
        let datagram = check(&self.credentials);
        let now = self.at(seconds);
        self.agent.handle_request(now, address(port), &datagram, &mut Vec::new()).expect("a valid check");
        self.agent.selected().map(|selected| selected.remote.port())
    }

    /// The port that is selected after media.
    fn speak(&mut self, seconds: f64, port: u16) -> Option<u16> {
        let now = self.at(seconds);
        self.agent.speak(now, address(port));
        self.agent.selected().map(|selected| selected.remote.port())
    }
}

#[test]
fn a_client_that_nominates_what_it_has_chosen_is_followed_once_it_is_not_heard_from_the_path_before() {
    let mut client = Checked::new();
    assert_eq!(client.check(0.0, 1, plain_check), None, "as Chromium begins");
    assert_eq!(client.check(0.1, 1, nominating_check), Some(1));
    assert_eq!(client.check(1.0, 2, nominating_check), Some(1), "both live");
    assert_eq!(client.check(1.2, 2, nominating_check), Some(2));
    assert_eq!(client.check(9.0, 1, plain_check), Some(1), "the other is silent");
}

#[test]
fn a_client_that_nominates_all_it_tries_has_chosen_nothing_by_it() {
    let mut client = Checked::new();
    assert_eq!(client.check(0.0, 1, nominating_check), Some(1), "as Firefox does");
    for tenth in 1..80 {
        let seconds = f64::from(tenth) / 10.0;
        assert_eq!(client.check(seconds, 2, nominating_check), Some(1), "{seconds}");
        if tenth == 50 {
            assert_eq!(client.check(seconds, 1, plain_check), Some(1), "its consent check");
        }
    }
    assert_eq!(client.check(10.9, 2, plain_check), Some(1));
    assert_eq!(client.check(11.0, 2, plain_check), Some(2), "nothing came from there for 6 s");
}

#[test]
fn a_client_is_followed_to_where_it_sends_once_it_does_not_send_from_the_path_before() {
    let mut client = Checked::new();
    client.check(0.0, 1, nominating_check);
    client.check(0.0, 2, nominating_check);
    assert_eq!(client.speak(0.9, 2), Some(1), "what was nominated has a second to be used");
    assert_eq!(client.speak(0.9, 1), Some(1));
    assert_eq!(client.speak(1.8, 2), Some(1));
    client.check(1.8, 1, nominating_check);
    assert_eq!(client.speak(1.9, 2), Some(2), "it is only checked where it was");
    assert_eq!(client.speak(2.0, 1), Some(2), "what was on its way does not move it back");
    assert_eq!(client.speak(9.0, 3), Some(2), "nobody has proven that");
}

#[test]
fn a_handshake_selects_the_path_on_which_it_was_completed() {
    let mut client = Checked::new();
    client.check(0.0, 1, nominating_check);
    client.check(0.0, 2, nominating_check);
    let now = client.at(0.1);
    client.agent.connect(now, address(3));
    assert_eq!(client.agent.selected(), Some(address(1)), "not proven");
    client.agent.connect(now, address(2));
    assert_eq!(client.agent.selected(), Some(address(2)));
    assert_eq!(client.agent.path_back(address(1)), Some(address(1)), "answers go where questions come from");
    assert_eq!(client.agent.path_back(address(3)), Some(address(2)));
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
    let mut agent = IceLite::new(now, &local);
    let accepted = agent.handle_request(now, address(1), &message.raw, &mut out);
    accepted.expect("valid");
    assert_eq!(agent.selected(), None, "it did not nominate");
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
fn consent_ends_30_seconds_after_the_last_valid_check_of_any_path() {
    let mut client = Checked::new();
    assert_eq!(client.agent.consent_deadline(), client.at(30.0));
    for (seconds, port) in [(5.0, 1), (6.0, 1), (9.0, 2), (10.0, 1)] {
        client.check(seconds, port, plain_check);
        assert_eq!(client.agent.consent_deadline(), client.at(seconds + 30.0));
    }
    client.speak(20.0, 1);
    assert_eq!(client.agent.consent_deadline(), client.at(40.0), "media are no consent");
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
    let late = agent.handle_request(at(6), address(1), &Check::to(&old).bytes(), &mut out);
    assert_eq!(late, Err(IceError::Superseded));
    answer(&out, &old);
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
    for port in 1..=16 {
        assert_eq!(prove(&mut agent, port), None);
    }
    assert_eq!(prove(&mut agent, 1), None, "proven again: the most recent now");
    let mut answered = Vec::new();
    agent.handle_request(now, address(2), &Check::nominating(&local).bytes(), &mut answered).expect("valid");
    for (port, evicted) in (17..).zip((3..=16).chain([1, 17])) {
        assert_eq!(prove(&mut agent, port), Some(address(evicted)));
    }
    assert_eq!((agent.selected(), agent.paths().len()), (Some(address(2)), 16));
}

#[test]
fn replaced_credentials_change_nothing_once_the_new_ones_have_nominated() {
    let (start, old, new) = (Instant::now(), credentials(1), credentials(2));
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut agent = IceLite::new(start, &old);
    let mut out = Vec::new();
    let mut nominate = |agent: &mut IceLite, seconds, port, credentials| {
        let check = Check::nominating(credentials).bytes();
        let accepted = agent.handle_request(at(seconds), address(port), &check, &mut out);
        answer(&out, credentials);
        (accepted.err(), agent.selected(), agent.consent_deadline())
    };
    assert_eq!(nominate(&mut agent, 0, 1, &old), (None, Some(address(1)), at(30)));
    agent.restart(at(1), &new);
    assert_eq!(nominate(&mut agent, 2, 2, &old), (None, Some(address(1)), at(32)), "it only lives");
    assert_eq!(nominate(&mut agent, 3, 3, &new), (None, Some(address(3)), at(33)));
    for port in [1, 2, 3, 4] {
        let nothing = (Some(IceError::Superseded), Some(address(3)), at(33));
        assert_eq!(nominate(&mut agent, 5, port, &old), nothing, "{port}");
    }
    assert_eq!(agent.paths().collect::<Vec<_>>(), [1, 2, 3].map(address));
    assert_eq!(nominate(&mut agent, 6, 2, &new), (None, Some(address(3)), at(36)), "one nomination is of the restart");
    agent.restart(at(7), &credentials(3));
    assert_eq!(nominate(&mut agent, 8, 4, &credentials(3)), (None, Some(address(4)), at(38)), "another restart");
}

#[test]
fn a_path_ends_30_seconds_after_its_last_check_and_another_takes_its_place() {
    let mut client = Checked::new();
    client.check(0.0, 1, nominating_check);
    client.check(1.0, 2, plain_check);
    client.check(2.0, 3, plain_check);
    client.check(20.0, 2, plain_check);
    client.speak(29.9, 2);
    client.speak(29.95, 2);
    let mut ends = |seconds| {
        let now = client.at(seconds);
        let ended: Vec<_> =
            std::iter::from_fn(|| client.agent.expire_path(now)).map(|path| path.remote.port()).collect();
        (ended, client.agent.path().map(|path| path.remote.port()))
    };
    assert_eq!(ends(29.99), (vec![], Some(2)));
    assert_eq!(ends(30.0), (vec![1], Some(2)));
    assert_eq!(ends(32.0), (vec![3], Some(2)));
    assert_eq!(ends(50.0), (vec![2], None), "nothing is sent to whoever is not there");
}

#[test]
fn a_selected_path_that_is_not_checked_gives_way_to_one_that_is() {
    let mut client = Checked::new();
    client.check(0.0, 1, nominating_check);
    for seconds in 1..30 {
        client.check(f64::from(seconds), 2, plain_check);
        assert_eq!(client.speak(f64::from(seconds), 1), Some(1));
    }
    assert_eq!(client.agent.path_deadline(), Some(client.at(30.0)));
    assert_eq!(client.agent.expire_path(client.at(30.0)), Some(address(1)));
    assert_eq!(client.agent.selected(), Some(address(2)));
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

#[test]
fn answers_go_back_between_the_addresses_that_a_check_came_between() {
    let mut client = Checked::new();
    let pair = |local: [u8; 4]| CandidatePair { local: Some(local.into()), ..address(1) };
    let (first, second) = (pair([10, 0, 0, 1]), pair([10, 0, 0, 2]));
    let check = nominating_check(&client.credentials);
    for (seconds, from) in [(0.0, first), (0.1, second)] {
        let now = client.at(seconds);
        let accepted = client.agent.handle_request(now, from, &check, &mut Vec::new());
        assert_eq!(accepted, Ok(Accepted { new_path: true, evicted: None }), "a pair of its own");
        assert_eq!(client.agent.path_back(from), Some(from));
    }
    assert_eq!(client.agent.path(), Some(first));
    client.agent.speak(client.start + Duration::from_secs(2), second);
    assert_eq!(client.agent.path(), Some(second), "the client has moved, with the same port");
}
