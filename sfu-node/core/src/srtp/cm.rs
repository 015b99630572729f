//! AES-128 in counter mode with an 80-bit HMAC-SHA1 tag (RFC 3711 4.1.1, 4.2.1), for clients without GCM.

use aes::Aes128Enc;
use ctr::{
    CtrCore,
    cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper},
    flavors::Ctr128BE,
};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{
    RTCP_HEADER_LEN, RTCP_INDEX_LEN, SrtpError,
    derive::{Label, Master},
    header_ssrc, rtcp_ssrc,
};

/// Bytes of the truncated tag.
pub(super) const TAG_LEN: usize = 10;
const SALT_LEN: usize = 14;
const AUTHENTICATION_KEY_LEN: usize = 20;

/// One direction's keys.
pub(super) struct CmKeys {
    rtp: Half,
    rtcp: Half,
}

/// The keys of RTP or of RTCP.
struct Half {
    cipher: Aes128Enc,
    salt: [u8; SALT_LEN],
    /// Holds the states after the key's two blocks, so that a packet only pays for its own bytes.
    mac: Hmac<Sha1>,
}

impl CmKeys {
    pub(super) fn new(master: &Master<'_>) -> Self {
        let half = |encryption, salt, authentication| Half {
            cipher: Aes128Enc::new(&master.derive::<16>(encryption).into()),
            salt: master.derive(salt),
            mac: <Hmac<Sha1> as KeyInit>::new_from_slice(&master.derive::<AUTHENTICATION_KEY_LEN>(authentication))
                .expect("invariant: HMAC takes keys of any length"),
        };
        Self {
            rtp: half(Label::RtpEncryption, Label::RtpSalt, Label::RtpAuthentication),
            rtcp: half(Label::RtcpEncryption, Label::RtcpSalt, Label::RtcpAuthentication),
        }
    }

    #[inline]
    pub(super) fn seal_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize, plain_len: usize) {
        let iv = self.rtp.rtp_iv(roc, buf);
        self.rtp.apply_keystream(iv, &mut buf[header_len..plain_len]);
        let (packet, room) = buf.split_at_mut(plain_len);
        room[..TAG_LEN].copy_from_slice(&self.rtp.tag(packet, roc.to_be_bytes()));
    }

    #[inline]
    pub(super) fn open_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize) -> Result<(), SrtpError> {
        let (packet, tag) = buf.split_at_mut(buf.len() - TAG_LEN);
        self.rtp.verify(packet, roc.to_be_bytes(), tag)?;
        let iv = self.rtp.rtp_iv(roc, packet);
        self.rtp.apply_keystream(iv, &mut packet[header_len..]);
        Ok(())
    }

    /// `trailer` is the encryption flag and index as sent.
    pub(super) fn seal_rtcp(&self, trailer: [u8; RTCP_INDEX_LEN], buf: &mut [u8], plain_len: usize) {
        let (packet, room) = buf.split_at_mut(plain_len);
        let iv = self.rtcp.rtcp_iv(trailer, packet);
        self.rtcp.apply_keystream(iv, &mut packet[RTCP_HEADER_LEN..]);
        room[..RTCP_INDEX_LEN].copy_from_slice(&trailer);
        room[RTCP_INDEX_LEN..RTCP_INDEX_LEN + TAG_LEN].copy_from_slice(&self.rtcp.tag(packet, trailer));
    }

    pub(super) fn open_rtcp(&self, trailer: [u8; RTCP_INDEX_LEN], buf: &mut [u8]) -> Result<(), SrtpError> {
        let (packet, rest) = buf.split_at_mut(buf.len() - RTCP_INDEX_LEN - TAG_LEN);
        self.rtcp.verify(packet, trailer, &rest[RTCP_INDEX_LEN..])?;
        let iv = self.rtcp.rtcp_iv(trailer, packet);
        self.rtcp.apply_keystream(iv, &mut packet[RTCP_HEADER_LEN..]);
        Ok(())
    }
}

impl Half {
    /// RFC 3711 4.1.1: salt, SSRC and the 48-bit packet index, each shifted to its place.
    #[inline]
    fn rtp_iv(&self, roc: u32, header: &[u8]) -> [u8; 16] {
        let mut index = [0; 6];
        index[..4].copy_from_slice(&roc.to_be_bytes());
        index[4..].copy_from_slice(&header[2..4]);
        self.iv(header_ssrc(header), index)
    }

    fn rtcp_iv(&self, trailer: [u8; RTCP_INDEX_LEN], packet: &[u8]) -> [u8; 16] {
        let mut index = [0; 6];
        index[2..].copy_from_slice(&trailer);
        index[2] &= 0x7f;
        self.iv(rtcp_ssrc(packet), index)
    }

    #[inline]
    fn iv(&self, ssrc: [u8; 4], index: [u8; 6]) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc);
        iv[8..14].copy_from_slice(&index);
        for (byte, salt) in iv.iter_mut().zip(&self.salt) {
            *byte ^= salt;
        }
        iv
    }

    #[inline]
    fn apply_keystream(&self, iv: [u8; 16], data: &mut [u8]) {
        let core = CtrCore::<_, Ctr128BE>::inner_iv_init(&self.cipher, &iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    #[inline]
    fn tag(&self, packet: &[u8], suffix: [u8; 4]) -> [u8; TAG_LEN] {
        let full = self.mac.clone().chain_update(packet).chain_update(suffix).finalize().into_bytes();
        *full.first_chunk().expect("invariant: SHA-1 gives 20 bytes")
    }

    #[inline]
    fn verify(&self, packet: &[u8], suffix: [u8; 4], tag: &[u8]) -> Result<(), SrtpError> {
        self.mac
            .clone()
            .chain_update(packet)
            .chain_update(suffix)
            .verify_truncated_left(tag)
            .map_err(|_| SrtpError::Authentication)
    }
}
