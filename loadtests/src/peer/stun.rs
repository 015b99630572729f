//! STUN as a client's ICE agent needs it: binding requests, their answers, integrity and fingerprint (RFC 8489, RFC 8445).
//!
//! Written by hand and apart from the node's own STUN on purpose: two implementations that agree are a test, one that
//! agrees with itself is not.

use ring::hmac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_LEN: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;

const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Which side of ICE a request claims to be (RFC 8445, section 7.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that nominates.
    Controlling,
    /// The side that follows.
    Controlled,
}

/// What a binding request says.
#[derive(Debug, Clone)]
pub struct BindingRequest<'a> {
    /// Identifies the request in its answer.
    pub transaction: [u8; 12],
    /// `<remote ufrag>:<local ufrag>`.
    pub username: &'a str,
    /// PRIORITY of the candidate it is sent from.
    pub priority: u32,
    /// The agent's tie breaker.
    pub tie_breaker: u64,
    /// The agent's role.
    pub role: Role,
    /// USE-CANDIDATE.
    pub nominate: bool,
}

impl BindingRequest<'_> {
    /// The request's bytes, with MESSAGE-INTEGRITY under `key` (the remote password) and FINGERPRINT.
    pub fn encode(&self, key: &str) -> Vec<u8> {
        let mut message = Builder::new(BINDING_REQUEST, self.transaction);
        message.attribute(USERNAME, self.username.as_bytes());
        message.attribute(PRIORITY, &self.priority.to_be_bytes());
        let role = match self.role {
            Role::Controlling => ICE_CONTROLLING,
            Role::Controlled => ICE_CONTROLLED,
        };
        message.attribute(role, &self.tie_breaker.to_be_bytes());
        if self.nominate {
            message.attribute(USE_CANDIDATE, &[]);
        }
        message.finish(Some(key))
    }

    /// The same request with no MESSAGE-INTEGRITY at all, as an attacker without the password would send it.
    pub fn encode_without_integrity(&self) -> Vec<u8> {
        let mut message = Builder::new(BINDING_REQUEST, self.transaction);
        message.attribute(USERNAME, self.username.as_bytes());
        message.attribute(PRIORITY, &self.priority.to_be_bytes());
        message.attribute(ICE_CONTROLLED, &self.tie_breaker.to_be_bytes());
        message.attribute(USE_CANDIDATE, &[]);
        message.finish(None)
    }
}

/// A success answer to the request `transaction` that came from `mapped`, signed with the answerer's own password.
pub fn binding_success(transaction: [u8; 12], mapped: SocketAddr, key: &str) -> Vec<u8> {
    let mut message = Builder::new(BINDING_SUCCESS, transaction);
    message.attribute(XOR_MAPPED_ADDRESS, &xor_address(mapped, transaction));
    message.finish(Some(key))
}

/// What kind of message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A binding request.
    Request,
    /// A success answer.
    Success,
    /// An error answer with its code.
    Error(u16),
}

/// A parsed message, borrowed from its datagram.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// Whose answer it is.
    pub transaction: [u8; 12],
    bytes: &'a [u8],
    integrity_at: Option<usize>,
    mapped: Option<SocketAddr>,
}

impl<'a> Message<'a> {
    /// Reads a message. `None` when it is not a whole binding message or its FINGERPRINT is wrong.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let transaction: [u8; 12] = header[8..20].try_into().ok()?;
        let body_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[4..8] != MAGIC_COOKIE || bytes.len() != HEADER_LEN + body_len {
            return None;
        }
        let class = u16::from_be_bytes([header[0], header[1]]);
        let (mut integrity_at, mut mapped, mut error) = (None, None, 0);
        let mut at = HEADER_LEN;
        while let Some(head) = bytes.get(at..at + 4) {
            let (name, len) =
                (u16::from_be_bytes([head[0], head[1]]), usize::from(u16::from_be_bytes([head[2], head[3]])));
            let value = bytes.get(at + 4..at + 4 + len)?;
            match name {
                MESSAGE_INTEGRITY if len == INTEGRITY_LEN => integrity_at = Some(at),
                XOR_MAPPED_ADDRESS => mapped = unxor_address(value, transaction),
                ERROR_CODE if len >= 4 => error = u16::from(value[2] & 7) * 100 + u16::from(value[3]),
                FINGERPRINT if value != fingerprint_of(&bytes[..at]).as_slice() => return None,
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
        let kind = match class {
            BINDING_REQUEST => Kind::Request,
            BINDING_SUCCESS => Kind::Success,
            BINDING_ERROR => Kind::Error(error),
            _ => return None,
        };
        Some(Self { kind, transaction, bytes, integrity_at, mapped })
    }

    /// Whether the message carries a MESSAGE-INTEGRITY that is right under `key`.
    pub fn is_signed_with(&self, key: &str) -> bool {
        let Some(at) = self.integrity_at else { return false };
        let mut signed = self.bytes[..at].to_vec();
        // The length in the header counts up to the integrity attribute itself (RFC 8489, section 14.5).
        let covered = (at + 4 + INTEGRITY_LEN - HEADER_LEN) as u16;
        signed[2..4].copy_from_slice(&covered.to_be_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
        hmac::verify(&key, &signed, &self.bytes[at + 4..at + 4 + INTEGRITY_LEN]).is_ok()
    }

    /// XOR-MAPPED-ADDRESS, if there was one.
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        self.mapped
    }
}

struct Builder(Vec<u8>);

impl Builder {
    fn new(class: u16, transaction: [u8; 12]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&class.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE);
        bytes.extend_from_slice(&transaction);
        Self(bytes)
    }

    fn attribute(&mut self, name: u16, value: &[u8]) {
        self.0.extend_from_slice(&name.to_be_bytes());
        self.0.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn set_len(&mut self, upcoming: usize) {
        let len = (self.0.len() - HEADER_LEN + upcoming) as u16;
        self.0[2..4].copy_from_slice(&len.to_be_bytes());
    }

    fn finish(mut self, key: Option<&str>) -> Vec<u8> {
        if let Some(key) = key {
            self.set_len(4 + INTEGRITY_LEN);
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
            let tag = hmac::sign(&key, &self.0);
            self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        }
        self.set_len(8);
        let fingerprint = fingerprint_of(&self.0);
        self.attribute(FINGERPRINT, &fingerprint);
        self.0
    }
}

fn xor_address(address: SocketAddr, transaction: [u8; 12]) -> Vec<u8> {
    let port = address.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
    value.extend_from_slice(&port.to_be_bytes());
    let mask = MAGIC_COOKIE.iter().chain(&transaction);
    match address.ip() {
        IpAddr::V4(ip) => value.extend(ip.octets().iter().zip(mask).map(|(a, m)| a ^ m)),
        IpAddr::V6(ip) => value.extend(ip.octets().iter().zip(mask).map(|(a, m)| a ^ m)),
    }
    value
}

fn unxor_address(value: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*value.get(2)? ^ MAGIC_COOKIE[0], *value.get(3)? ^ MAGIC_COOKIE[1]]);
    let plain: Vec<u8> = value[4..].iter().zip(MAGIC_COOKIE.iter().chain(&transaction)).map(|(a, m)| a ^ m).collect();
    let ip = match (value[1], value.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?)),
        (2, 20) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn fingerprint_of(covered: &[u8]) -> [u8; 4] {
    (crc32(covered) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// CRC-32 of ISO 3309, bit by bit: a check has some hundred bytes and comes every few seconds.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: BindingRequest<'static> = BindingRequest {
        transaction: *b"abcdefghijkl",
        username: "remote:local",
        priority: 0x6e7f_1eff,
        tie_breaker: 7,
        role: Role::Controlling,
        nominate: true,
    };

    #[test]
    fn crc32_has_its_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_request_is_signed_and_fingerprinted() {
        let bytes = REQUEST.encode("secret");
        let message = Message::parse(&bytes).expect("it is whole");
        assert_eq!(message.kind, Kind::Request);
        assert!(message.is_signed_with("secret"));
        assert!(!message.is_signed_with("guess"));
        let mut damaged = bytes.clone();
        damaged[30] ^= 1;
        assert!(Message::parse(&damaged).is_none(), "the fingerprint notices");
    }

    #[test]
    fn a_success_answer_gives_the_mapped_address_back() {
        for address in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
            let address: SocketAddr = address.parse().expect("an address");
            let bytes = binding_success(*b"abcdefghijkl", address, "secret");
            let message = Message::parse(&bytes).expect("it is whole");
            assert_eq!((message.kind, message.mapped_address()), (Kind::Success, Some(address)));
        }
    }

    #[test]
    fn an_unsigned_request_is_seen_as_such() {
        let bytes = REQUEST.encode_without_integrity();
        assert!(!Message::parse(&bytes).expect("it is whole").is_signed_with("secret"));
    }
}
