//! The part of STUN (RFC 8489) that ICE needs: reading binding requests, writing their answers. Nothing is allocated to read, and
//! every length is checked against the datagram. It knows nothing of roles, paths or credentials.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;

/// Type, length, magic cookie, transaction id (section 5).
const HEADER: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// Types below this must be understood, or the request is refused (section 6.3.1).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Why bytes are not a binding request that could be a connectivity check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Not a STUN message, or one of another method or class.
    #[error("not a binding request")]
    NotBindingRequest,
    /// The length in the header is not the datagram's, or an attribute reaches beyond the end.
    #[error("a length does not fit")]
    BadLength,
    /// No USERNAME of the form `ours:theirs`.
    #[error("no username")]
    NoUsername,
    /// No MESSAGE-INTEGRITY.
    #[error("no message integrity")]
    NoIntegrity,
    /// No FINGERPRINT at the end, which ICE demands (RFC 8445, section 7.1).
    #[error("no fingerprint")]
    NoFingerprint,
    /// The FINGERPRINT is not that of the message.
    #[error("the fingerprint does not match")]
    WrongFingerprint,
}

/// Which of our ufrags a datagram addresses, if it looks like a binding request: the part of its USERNAME before the colon. No
/// check of integrity or fingerprint; it only tells whose [`super::IceLite`] has to look at it.
pub fn binding_ufrag(datagram: &[u8]) -> Option<&str> {
    let attributes = binding_attributes(datagram).ok()?;
    let (_, _, value) = attributes.map_while(Result::ok).find(|(kind, _, _)| *kind == USERNAME)?;
    local_ufrag(value)
}

/// A binding request whose FINGERPRINT is right and whose MESSAGE-INTEGRITY is present but not yet verified.
#[derive(Debug)]
pub(super) struct BindingRequest<'a> {
    message: &'a [u8],
    integrity_at: usize,
    /// Our ufrag as the peer wrote it.
    pub(super) local_ufrag: &'a str,
    /// The peer nominates this path.
    pub(super) use_candidate: bool,
    /// The peer claims to be controlled.
    pub(super) controlled: bool,
    /// The first attribute that should be understood and is not.
    pub(super) unknown: Option<u16>,
}

impl<'a> BindingRequest<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        let mut username = None;
        let mut integrity_at = None;
        let mut fingerprint_at = None;
        let (mut use_candidate, mut controlled, mut unknown) = (false, false, None);
        for attribute in binding_attributes(datagram)? {
            let (kind, at, value) = attribute?;
            if fingerprint_at.is_some() {
                return Err(StunError::NoFingerprint); // it has to be the last one (section 14.7)
            }
            if kind == FINGERPRINT {
                fingerprint_at = Some((at, value));
            }
            if integrity_at.is_some() {
                continue; // not covered by the integrity: to be ignored (section 14.5)
            }
            match kind {
                USERNAME if username.is_none() => username = Some(value),
                MESSAGE_INTEGRITY if value.len() == INTEGRITY_LEN => integrity_at = Some(at),
                MESSAGE_INTEGRITY => return Err(StunError::BadLength),
                USE_CANDIDATE => use_candidate = true,
                ICE_CONTROLLED => controlled = true,
                USERNAME
                | MAPPED_ADDRESS
                | REALM
                | NONCE
                | MESSAGE_INTEGRITY_SHA256
                | XOR_MAPPED_ADDRESS
                | PRIORITY => {}
                kind if kind < COMPREHENSION_OPTIONAL => unknown = unknown.or(Some(kind)),
                _ => {} // such as Chromium's network cost, 0xc057
            }
        }
        let (fingerprint_at, fingerprint) = fingerprint_at.ok_or(StunError::NoFingerprint)?;
        if fingerprint != (crc32(&datagram[..fingerprint_at]) ^ FINGERPRINT_XOR).to_be_bytes() {
            return Err(StunError::WrongFingerprint);
        }
        let local_ufrag = username.and_then(local_ufrag).ok_or(StunError::NoUsername)?;
        let integrity_at = integrity_at.ok_or(StunError::NoIntegrity)?;
        Ok(Self { message: datagram, integrity_at, local_ufrag, use_candidate, controlled, unknown })
    }

    /// Whether the MESSAGE-INTEGRITY was made with this key.
    pub(super) fn is_signed_by(&self, key: &hmac::Key) -> bool {
        let expected = integrity(key, &self.message[..self.integrity_at]);
        let given = &self.message[self.integrity_at + 4..][..INTEGRITY_LEN];
        subtle::ConstantTimeEq::ct_eq(expected.as_ref(), given).into()
    }

    /// Writes the success response to `out`.
    pub(super) fn write_success(&self, from: SocketAddr, key: &hmac::Key, out: &mut Vec<u8>) {
        self.write_header(BINDING_SUCCESS, out);
        let mut value = [0; 20];
        let len = xor_address(from, self.transaction(), &mut value);
        push_attribute(out, XOR_MAPPED_ADDRESS, &value[..len]);
        sign(out, key);
    }

    /// Writes 487 (Role Conflict, RFC 8445 section 7.3.1.1) to `out`.
    pub(super) fn write_role_conflict(&self, key: &hmac::Key, out: &mut Vec<u8>) {
        self.write_header(BINDING_ERROR, out);
        push_attribute(out, ERROR_CODE, b"\0\0\x04\x57Role Conflict");
        sign(out, key);
    }

    /// Writes 420 (Unknown Attribute, RFC 8489 section 6.3.1) to `out`.
    pub(super) fn write_unknown_attribute(&self, unknown: u16, key: &hmac::Key, out: &mut Vec<u8>) {
        self.write_header(BINDING_ERROR, out);
        push_attribute(out, ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
        push_attribute(out, UNKNOWN_ATTRIBUTES, &unknown.to_be_bytes());
        sign(out, key);
    }

    fn transaction(&self) -> &[u8] {
        &self.message[8..HEADER]
    }

    fn write_header(&self, kind: u16, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(self.transaction());
    }
}

/// The attributes of a datagram whose header says that it is one complete binding request: type, offset, value.
fn binding_attributes(datagram: &[u8]) -> Result<Attributes<'_>, StunError> {
    let (header, _) = datagram.split_at_checked(HEADER).ok_or(StunError::NotBindingRequest)?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if field(0) != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE.to_be_bytes() {
        return Err(StunError::NotBindingRequest);
    }
    let length = usize::from(field(2));
    if !length.is_multiple_of(4) || HEADER + length != datagram.len() {
        return Err(StunError::BadLength);
    }
    Ok(Attributes { message: datagram, at: HEADER })
}

struct Attributes<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, usize, &'a [u8]), StunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.message.get(at..).filter(|rest| !rest.is_empty())?;
        let Some(([k0, k1, l0, l1], rest)) = rest.split_first_chunk::<4>().map(|(head, rest)| (*head, rest)) else {
            self.at = self.message.len();
            return Some(Err(StunError::BadLength));
        };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(value) = rest.get(..len).filter(|_| len.next_multiple_of(4) <= rest.len()) else {
            self.at = self.message.len();
            return Some(Err(StunError::BadLength));
        };
        self.at = at + 4 + len.next_multiple_of(4);
        Some(Ok((u16::from_be_bytes([k0, k1]), at, value)))
    }
}

fn local_ufrag(username: &[u8]) -> Option<&str> {
    let (ours, _) = std::str::from_utf8(username).ok()?.split_once(':')?;
    (!ours.is_empty()).then_some(ours)
}

fn push_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// XOR-MAPPED-ADDRESS (section 14.2): family, port and address, the latter two hidden from address-rewriting middleboxes.
fn xor_address(address: SocketAddr, transaction: &[u8], value: &mut [u8; 20]) -> usize {
    let cookie = MAGIC_COOKIE.to_be_bytes();
    value[2..4].copy_from_slice(&(address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
    let mask = cookie.iter().chain(transaction);
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            ip.octets().iter().zip(mask).zip(&mut value[4..]).for_each(|((byte, mask), to)| *to = byte ^ mask);
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            ip.octets().iter().zip(mask).zip(&mut value[4..]).for_each(|((byte, mask), to)| *to = byte ^ mask);
            20
        }
    }
}

/// Appends MESSAGE-INTEGRITY and FINGERPRINT and sets the final length.
fn sign(out: &mut Vec<u8>, key: &hmac::Key) {
    let tag = integrity(key, out);
    push_attribute(out, MESSAGE_INTEGRITY, tag.as_ref());
    let length = out.len() - HEADER + 4 + FINGERPRINT_LEN;
    out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let fingerprint = crc32(out) ^ FINGERPRINT_XOR;
    push_attribute(out, FINGERPRINT, &fingerprint.to_be_bytes());
}

/// HMAC-SHA1 of a message up to its MESSAGE-INTEGRITY, with the header's length as if that attribute were the last (section 14.5).
fn integrity(key: &hmac::Key, before: &[u8]) -> hmac::Tag {
    let length = before.len() - HEADER + 4 + INTEGRITY_LEN;
    let mut context = hmac::Context::with_key(key);
    context.update(&before[..2]);
    context.update(&(length as u16).to_be_bytes());
    context.update(&before[4..]);
    context.sign()
}

/// CRC-32 as of ITU V.42, four bits at a time: a check is a hundred bytes, every few seconds.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut index = 0;
        while index < 16 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let nibble = |crc: u32, bits: u8| TABLE[((crc ^ u32::from(bits)) & 0xf) as usize] ^ (crc >> 4);
    !bytes.iter().fold(!0, |crc, byte| nibble(nibble(crc, *byte), byte >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769, section 2.1: a request with padding of 0x20 bytes.
    const RFC5769_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    const RFC5769_PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

    fn key(password: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password)
    }

    #[test]
    fn the_request_of_rfc_5769_is_read_and_its_integrity_verified() {
        assert_eq!(binding_ufrag(RFC5769_REQUEST), Some("evtj"));
        let request = BindingRequest::parse(RFC5769_REQUEST).expect("a valid request");
        assert_eq!(request.local_ufrag, "evtj");
        assert!(request.controlled && !request.use_candidate && request.unknown.is_none());
        assert!(request.is_signed_by(&key(RFC5769_PASSWORD)));
        assert!(!request.is_signed_by(&key(b"another password of 22")));
    }

    #[test]
    fn mapped_addresses_of_both_families_match_rfc_5769() {
        let transaction = &RFC5769_REQUEST[8..20];
        let mut value = [0; 20];
        assert_eq!(xor_address("192.0.2.1:32853".parse().expect("an address"), transaction, &mut value), 8);
        assert_eq!(value[..8], *b"\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().expect("an address");
        assert_eq!(xor_address(v6, transaction, &mut value), 20);
        let expected = b"\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        assert_eq!(value, *expected);
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..RFC5769_REQUEST.len() {
            assert!(BindingRequest::parse(&RFC5769_REQUEST[..len]).is_err(), "{len} bytes");
            assert_eq!(binding_ufrag(&RFC5769_REQUEST[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn a_missing_or_wrong_fingerprint_is_refused() {
        let mut wrong = RFC5769_REQUEST.to_vec();
        *wrong.last_mut().expect("not empty") ^= 1;
        assert_eq!(BindingRequest::parse(&wrong).expect_err("wrong"), StunError::WrongFingerprint);
        let mut without = RFC5769_REQUEST[..RFC5769_REQUEST.len() - 8].to_vec();
        without[3] -= 8;
        assert_eq!(BindingRequest::parse(&without).expect_err("missing"), StunError::NoFingerprint);
    }
}
