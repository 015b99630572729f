//! AEAD-AES-GCM (RFC 7714) on ring.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};

use super::{
    RTCP_HEADER_LEN, RTCP_INDEX_LEN, SrtpError,
    derive::{Label, Master},
    header_ssrc, rtcp_ssrc,
};

/// Bytes of the tag.
pub(super) const TAG_LEN: usize = 16;

/// One direction's keys.
pub(super) struct GcmKeys {
    rtp: LessSafeKey,
    rtp_salt: [u8; NONCE_LEN],
    rtcp: LessSafeKey,
    rtcp_salt: [u8; NONCE_LEN],
}

impl GcmKeys {
    pub(super) fn aes_128(master: &Master<'_>) -> Self {
        Self::from_session_keys(
            aes_128(&master.derive(Label::RtpEncryption)),
            master.derive(Label::RtpSalt),
            aes_128(&master.derive(Label::RtcpEncryption)),
            master.derive(Label::RtcpSalt),
        )
    }

    pub(super) fn aes_256(master: &Master<'_>) -> Self {
        Self::from_session_keys(
            aes_256(&master.derive(Label::RtpEncryption)),
            master.derive(Label::RtpSalt),
            aes_256(&master.derive(Label::RtcpEncryption)),
            master.derive(Label::RtcpSalt),
        )
    }

    pub(super) const fn from_session_keys(
        rtp: LessSafeKey,
        rtp_salt: [u8; NONCE_LEN],
        rtcp: LessSafeKey,
        rtcp_salt: [u8; NONCE_LEN],
    ) -> Self {
        Self { rtp, rtp_salt, rtcp, rtcp_salt }
    }

    #[inline]
    pub(super) fn seal_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize, plain_len: usize) {
        let (header, rest) = buf.split_at_mut(header_len);
        let (payload, room) = rest.split_at_mut(plain_len - header_len);
        let tag = self
            .rtp
            .seal_in_place_separate_tag(rtp_nonce(&self.rtp_salt, roc, header), Aad::from(header), payload)
            .expect("invariant: a packet is shorter than GCM's limit");
        room[..TAG_LEN].copy_from_slice(tag.as_ref());
    }

    #[inline]
    pub(super) fn open_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize) -> Result<(), SrtpError> {
        let (header, protected) = buf.split_at_mut(header_len);
        self.rtp
            .open_in_place(rtp_nonce(&self.rtp_salt, roc, header), Aad::from(header), protected)
            .map(|_| ())
            .map_err(|_| SrtpError::Authentication)
    }

    /// `trailer` is the encryption flag and index as sent.
    pub(super) fn seal_rtcp(&self, trailer: [u8; RTCP_INDEX_LEN], buf: &mut [u8], plain_len: usize) {
        let (header, rest) = buf.split_at_mut(RTCP_HEADER_LEN);
        let (body, room) = rest.split_at_mut(plain_len - RTCP_HEADER_LEN);
        let nonce = rtcp_nonce(&self.rtcp_salt, trailer, header);
        let tag = self
            .rtcp
            .seal_in_place_separate_tag(nonce, Aad::from(rtcp_aad(header, trailer)), body)
            .expect("invariant: a packet is shorter than GCM's limit");
        room[..TAG_LEN].copy_from_slice(tag.as_ref());
        room[TAG_LEN..TAG_LEN + RTCP_INDEX_LEN].copy_from_slice(&trailer);
    }

    pub(super) fn open_rtcp(&self, trailer: [u8; RTCP_INDEX_LEN], buf: &mut [u8]) -> Result<(), SrtpError> {
        let (packet, _) = buf.split_at_mut(buf.len() - RTCP_INDEX_LEN);
        let (header, protected) = packet.split_at_mut(RTCP_HEADER_LEN);
        let (body, tag) = protected.split_at_mut(protected.len() - TAG_LEN);
        let tag = Tag::try_from(&*tag).expect("invariant: a tag's length was split off");
        let nonce = rtcp_nonce(&self.rtcp_salt, trailer, header);
        self.rtcp
            .open_in_place_separate_tag(nonce, Aad::from(rtcp_aad(header, trailer)), tag, body, 0..)
            .map(|_| ())
            .map_err(|_| SrtpError::Authentication)
    }
}

pub(super) fn aes_128(key: &[u8; 16]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).expect("invariant: the type fixes the key's length"))
}

pub(super) fn aes_256(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("invariant: the type fixes the key's length"))
}

/// RFC 7714 8.1: two zero bytes, SSRC, rollover counter and sequence number, combined with the salt by XOR.
#[inline]
fn rtp_nonce(salt: &[u8; NONCE_LEN], roc: u32, header: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[2..6].copy_from_slice(&header_ssrc(header));
    nonce[6..10].copy_from_slice(&roc.to_be_bytes());
    nonce[10..].copy_from_slice(&header[2..4]);
    salted(nonce, salt)
}

/// RFC 7714 9.1: two zero bytes, SSRC, two zero bytes and the index without its flag, combined with the salt by XOR.
fn rtcp_nonce(salt: &[u8; NONCE_LEN], trailer: [u8; RTCP_INDEX_LEN], header: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[2..6].copy_from_slice(&rtcp_ssrc(header));
    nonce[8..].copy_from_slice(&trailer);
    nonce[8] &= 0x7f;
    salted(nonce, salt)
}

/// RFC 7714 9.2: the first header and the trailing word are authenticated beside the encrypted body.
fn rtcp_aad(header: &[u8], trailer: [u8; RTCP_INDEX_LEN]) -> [u8; RTCP_HEADER_LEN + RTCP_INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_INDEX_LEN];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&trailer);
    aad
}

#[inline]
fn salted(mut nonce: [u8; NONCE_LEN], salt: &[u8; NONCE_LEN]) -> Nonce {
    for (byte, salt) in nonce.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Nonce::assume_unique_for_key(nonce)
}
