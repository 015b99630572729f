//! RTP headers (RFC 3550 5.1, RFC 8285): a parser that borrows, and a writer for what the node sends.
//!
//! Works on encrypted packets: nothing behind the header is looked at until [`payload_range`] is asked for.
//! Codec headers and the meaning of extensions are not here.

use std::ops::Range;

use thiserror::Error;

/// Length of the fixed part of the header.
pub const FIXED_HEADER_LEN: usize = 12;

/// Profile marking one-byte extension headers (RFC 8285 4.2).
const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// Profile marking two-byte extension headers, low four bits are application bits (RFC 8285 4.3).
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Why a datagram is not an RTP packet.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RtpError {
    /// Shorter than its header says.
    #[error("RTP packet of {0} bytes is shorter than its header")]
    TooShort(usize),
    /// The version field is not 2.
    #[error("RTP version {0} instead of 2")]
    Version(u8),
}

/// A parsed RTP header that does not borrow the packet, so that the packet can be opened in place meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit.
    pub marker: bool,
    /// Padding bit: the last byte of the *decrypted* packet counts the padding.
    pub padding: bool,
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp in units of the payload's clock rate.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Bytes up to the payload: fixed header, CSRCs and extensions.
    pub header_len: usize,
    /// Profile of the header extension; zero when there is none.
    extension_profile: u16,
    /// Where the extension's elements start; they end at `header_len`.
    extension_start: usize,
}

impl RtpHeader {
    /// Parses the header of an RTP packet, encrypted or not. O(1); the extension's elements are only walked on lookup.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let Some((fixed, _)) = packet.split_first_chunk::<FIXED_HEADER_LEN>() else {
            return Err(RtpError::TooShort(packet.len()));
        };
        let version = fixed[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let mut header_len = FIXED_HEADER_LEN + 4 * usize::from(fixed[0] & 0x0f);
        let mut extension_profile = 0;
        let mut extension_start = header_len;
        if fixed[0] & 0x10 != 0 {
            let Some(&[p0, p1, l0, l1]) = packet.get(header_len..header_len + 4) else {
                return Err(RtpError::TooShort(packet.len()));
            };
            extension_profile = u16::from_be_bytes([p0, p1]);
            extension_start = header_len + 4;
            header_len = extension_start + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        }
        if packet.len() < header_len {
            return Err(RtpError::TooShort(packet.len()));
        }
        Ok(Self {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            header_len,
            extension_profile,
            extension_start,
        })
    }

    /// The data of extension element `id` in `packet`, which must be the packet this header was parsed from. `None` if it
    /// is absent, malformed, or of an unknown form. Zero-length elements (two-byte form) are empty slices.
    #[inline]
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet).find(|(found, _)| *found == id).map(|(_, data)| data)
    }

    /// All extension elements of `packet` in order, up to the first malformed one.
    #[inline]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let form = match self.extension_profile {
            ONE_BYTE_PROFILE => ExtensionForm::OneByte,
            profile if profile & 0xfff0 == TWO_BYTE_PROFILE => ExtensionForm::TwoByte,
            _ => return Extensions { form: ExtensionForm::OneByte, rest: &[] },
        };
        Extensions { form, rest: packet.get(self.extension_start..self.header_len).unwrap_or_default() }
    }

    /// Where the payload of the *decrypted* `packet` lies, padding removed; empty for a packet that is padding only.
    /// `None` if the padding count is zero or larger than the payload (RFC 3550 5.1).
    #[inline]
    pub fn payload_range(&self, packet: &[u8]) -> Option<Range<usize>> {
        let mut end = packet.len();
        if self.padding {
            let count = usize::from(*packet.last()?);
            if count == 0 {
                return None;
            }
            end = end.checked_sub(count)?;
        }
        (self.header_len <= end).then_some(self.header_len..end)
    }
}

#[derive(Clone, Copy, Debug)]
enum ExtensionForm {
    OneByte,
    TwoByte,
}

/// Iterator over the `(id, data)` of a header's extension elements.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    form: ExtensionForm,
    rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            // Id zero is a byte of padding in both forms.
            if first == 0 {
                self.rest = rest;
                continue;
            }
            let (id, len, rest) = match self.form {
                // Id 15 ends the one-byte form (RFC 8285 4.2).
                ExtensionForm::OneByte if first >> 4 == 15 => {
                    self.rest = &[];
                    return None;
                }
                ExtensionForm::OneByte => (first >> 4, usize::from(first & 0x0f) + 1, rest),
                ExtensionForm::TwoByte => {
                    let (&len, rest) = rest.split_first()?;
                    (first, usize::from(len), rest)
                }
            };
            let Some((data, rest)) = rest.split_at_checked(len) else {
                self.rest = &[];
                return None;
            };
            self.rest = rest;
            // A one-byte element of id 0 with a length is padding with rubbish: skip it.
            if id == 0 {
                continue;
            }
            return Some((id, data));
        }
    }
}

/// The fields of a header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeaderFields {
    /// Marker bit.
    pub marker: bool,
    /// Payload type; only the low seven bits are used.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// Bytes that [`write_header`] needs for these extension elements.
#[inline]
pub fn header_len(exts: &[(u8, &[u8])]) -> usize {
    let elements: usize = exts.iter().copied().filter(is_writable).map(|(_, data)| 1 + data.len()).sum();
    if elements == 0 { FIXED_HEADER_LEN } else { FIXED_HEADER_LEN + 4 + elements.next_multiple_of(4) }
}

/// Writes a header without CSRCs and padding, extensions in the one-byte form, and returns its length.
///
/// Elements that this form cannot carry (ids outside 1..=14, data outside 1..=16 bytes) are left out.
///
/// # Panics
/// If `buf` is shorter than [`header_len`] of the same elements.
#[inline]
pub fn write_header(buf: &mut [u8], fields: &RtpHeaderFields, exts: &[(u8, &[u8])]) -> usize {
    let mut at = FIXED_HEADER_LEN;
    let (fixed, rest) =
        buf.split_first_chunk_mut::<FIXED_HEADER_LEN>().expect("invariant: the buffer has room for the header");
    fixed[0] = 0x80;
    fixed[1] = (u8::from(fields.marker) << 7) | (fields.payload_type & 0x7f);
    fixed[2..4].copy_from_slice(&fields.seq.to_be_bytes());
    fixed[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
    let mut used = 4;
    for (id, data) in exts.iter().copied().filter(is_writable) {
        rest[used] = (id << 4) | (data.len() - 1) as u8;
        rest[used + 1..=used + data.len()].copy_from_slice(data);
        used += 1 + data.len();
    }
    if used > 4 {
        let padded = used.next_multiple_of(4);
        rest[used..padded].fill(0);
        rest[..2].copy_from_slice(&ONE_BYTE_PROFILE.to_be_bytes());
        rest[2..4].copy_from_slice(&((padded / 4 - 1) as u16).to_be_bytes());
        fixed[0] |= 0x10;
        at += padded;
    }
    at
}

#[inline]
fn is_writable((id, data): &(u8, &[u8])) -> bool {
    (1..=14).contains(id) && (1..=16).contains(&data.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: RtpHeaderFields =
        RtpHeaderFields { marker: true, payload_type: 111, seq: 0xfffe, timestamp: 0xdead_beef, ssrc: 0x1234_5678 };

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 0xe0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(rest);
        packet
    }

    fn payload<'a>(header: &RtpHeader, packet: &'a [u8]) -> Option<&'a [u8]> {
        packet.get(header.payload_range(packet)?)
    }

    #[test]
    fn a_header_without_extensions_is_twelve_bytes() {
        let mut buf = [0xff; 12];
        assert_eq!(write_header(&mut buf, &FIELDS, &[]), 12);
        assert_eq!(buf, [0x80, 0xef, 0xff, 0xfe, 0xde, 0xad, 0xbe, 0xef, 0x12, 0x34, 0x56, 0x78]);
    }

    #[test]
    fn extensions_are_padded_to_whole_words() {
        let mut buf = [0xff; 64];
        let exts: [(u8, &[u8]); 2] = [(1, &[0x85]), (4, b"mid")];
        let len = write_header(&mut buf, &FIELDS, &exts);
        assert_eq!(len, header_len(&exts));
        assert_eq!(buf[12..len], [0xbe, 0xde, 0, 2, 0x10, 0x85, 0x42, b'm', b'i', b'd', 0, 0]);
    }

    #[test]
    fn elements_that_do_not_fit_the_one_byte_form_are_left_out() {
        let mut buf = [0; 64];
        assert_eq!(write_header(&mut buf, &FIELDS, &[(0, &[1]), (15, &[1]), (2, &[]), (3, &[0; 17])]), 12);
        assert_eq!(buf[0], 0x80);
    }

    #[test]
    fn two_byte_extensions_are_found() {
        let bytes = packet(0x90, &[0x10, 0x05, 0, 2, 200, 3, 7, 8, 9, 0, 5, 0, 42]);
        let header = RtpHeader::parse(&bytes).expect("well-formed");
        assert_eq!(header.extension(&bytes, 200), Some(&[7, 8, 9][..]));
        assert_eq!(header.extension(&bytes, 5), Some(&[][..]));
        assert_eq!(header.extension(&bytes, 0), None);
        assert_eq!(payload(&header, &bytes), Some(&[42][..]));
    }

    #[test]
    fn csrcs_are_stepped_over() {
        let bytes = packet(0x92, &[9, 9, 9, 9, 8, 8, 8, 8, 0xbe, 0xde, 0, 1, 0x30, 77, 0, 0, 1, 2]);
        let header = RtpHeader::parse(&bytes).expect("well-formed");
        assert_eq!(header.header_len, 28);
        assert_eq!(header.extension(&bytes, 3), Some(&[77][..]));
        assert_eq!(payload(&header, &bytes), Some(&[1, 2][..]));
    }

    #[test]
    fn the_one_byte_form_ends_at_id_15_and_at_broken_lengths() {
        let bytes = packet(0x90, &[0xbe, 0xde, 0, 2, 0x10, 1, 0xf0, 2, 0x20, 3, 0, 0]);
        assert_eq!(RtpHeader::parse(&bytes).expect("well-formed").extension(&bytes, 2), None);
        let bytes = packet(0x90, &[0xbe, 0xde, 0, 1, 0x10, 1, 0x2f, 2]);
        let header = RtpHeader::parse(&bytes).expect("well-formed");
        assert_eq!((header.extension(&bytes, 1), header.extension(&bytes, 2)), (Some(&[1][..]), None));
    }

    #[test]
    fn padding_is_taken_off_and_must_be_sane() {
        let padded = |rest: &[u8]| {
            let bytes = packet(0xa0, rest);
            payload(&RtpHeader::parse(&bytes).expect("well-formed"), &bytes).map(<[u8]>::to_vec)
        };
        assert_eq!(padded(&[5, 6, 0, 2]), Some(vec![5, 6]));
        assert_eq!(padded(&[0, 0, 3]), Some(vec![]), "padding only");
        assert_eq!(padded(&[5, 0]), None);
        assert_eq!(padded(&[5, 3]), None);
        assert_eq!(padded(&[]), None);
    }

    #[test]
    fn other_versions_and_short_packets_are_refused() {
        assert_eq!(RtpHeader::parse(&[]), Err(RtpError::TooShort(0)));
        assert_eq!(RtpHeader::parse(&packet(0x40, &[])), Err(RtpError::Version(1)));
        assert_eq!(RtpHeader::parse(&packet(0x81, &[0; 3])), Err(RtpError::TooShort(15)));
        assert_eq!(RtpHeader::parse(&packet(0x90, &[0xbe, 0xde, 0])), Err(RtpError::TooShort(15)));
        assert_eq!(RtpHeader::parse(&packet(0x90, &[0xbe, 0xde, 0xff, 0xff])), Err(RtpError::TooShort(16)));
    }

    fn any_elements() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        prop::collection::btree_map(1_u8..=14, prop::collection::vec(any::<u8>(), 1..=16), 0..8)
            .prop_map(|elements| elements.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            marker in any::<bool>(),
            payload_type in 0_u8..128,
            seq in any::<u16>(),
            timestamp in any::<u32>(),
            ssrc in any::<u32>(),
            elements in any_elements(),
            body in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let fields = RtpHeaderFields { marker, payload_type, seq, timestamp, ssrc };
            let exts: Vec<(u8, &[u8])> = elements.iter().map(|(id, data)| (*id, &data[..])).collect();
            let mut buf = vec![0xff; header_len(&exts)];
            prop_assert_eq!(write_header(&mut buf, &fields, &exts), buf.len());
            buf.extend_from_slice(&body);
            let header = RtpHeader::parse(&buf).expect("just written");
            let read = RtpHeaderFields {
                marker: header.marker,
                payload_type: header.payload_type,
                seq: header.seq,
                timestamp: header.timestamp,
                ssrc: header.ssrc,
            };
            prop_assert_eq!(read, fields);
            prop_assert_eq!(header.extensions(&buf).collect::<Vec<_>>(), exts);
            prop_assert_eq!(payload(&header, &buf), Some(&body[..]));
        }

        #[test]
        fn no_input_panics_the_parser(mut bytes in prop::collection::vec(any::<u8>(), 0..200), id in any::<u8>()) {
            // Half of all inputs should get past the version.
            if let Some(first) = bytes.first_mut() {
                *first |= 0x80;
            }
            if let Ok(header) = RtpHeader::parse(&bytes) {
                prop_assert!(header.header_len <= bytes.len());
                prop_assert!(header.extensions(&bytes).count() <= 200);
                let _ = header.extension(&bytes, id);
                if let Some(range) = header.payload_range(&bytes) {
                    prop_assert!(range.end <= bytes.len());
                }
            }
        }
    }
}
