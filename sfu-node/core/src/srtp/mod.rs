//! SRTP and SRTCP (RFC 3711, RFC 7714) with keys exported from DTLS (RFC 5764): sealing and opening in place.
//!
//! Who may send what, and which rollover counter a packet has, is the caller's business: see [`ReplayWindow`] for
//! received packets and [`crate::rewrite::Rewriter`] for sent ones.

mod cm;
mod derive;
mod gcm;
mod replay;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;

use thiserror::Error;

use self::{cm::CmKeys, derive::Master, gcm::GcmKeys, sources::RtcpSources};

pub use self::replay::ReplayWindow;
pub(crate) use self::sources::MAX_SOURCES;

/// The first RTCP header and the sender's SSRC stay in the clear.
const RTCP_HEADER_LEN: usize = 8;
/// The word with the encryption flag and the index.
const RTCP_INDEX_LEN: usize = 4;
/// The flag in that word: the packet is encrypted.
const RTCP_ENCRYPTED: u32 = 1 << 31;

/// SRTP protection profiles a node supports (RFC 5764 4.1.2, RFC 7714 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `SRTP_AES128_CM_HMAC_SHA1_80`: for clients without GCM.
    Aes128CmSha1_80,
    /// `SRTP_AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`.
    AeadAes256Gcm,
}

impl SrtpProfile {
    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    /// Bytes of keying material to export from DTLS: both keys, then both salts.
    pub const fn exported_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// Bytes that sealing adds to an RTP packet.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => cm::TAG_LEN,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => gcm::TAG_LEN,
        }
    }

    /// Bytes that sealing adds to a compound RTCP packet: the tag and the index.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + RTCP_INDEX_LEN
    }
}

/// Which end of the DTLS association this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// Sent the `ClientHello`.
    Client,
    /// Answered it.
    Server,
}

/// Why keys could not be made or a packet not be opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SrtpError {
    /// The exported keying material has the wrong length for the profile.
    #[error("{actual} bytes of keying material instead of {expected}")]
    KeyingMaterial {
        /// Length the profile asks for.
        expected: usize,
        /// Length given.
        actual: usize,
    },
    /// The packet is too short to be one.
    #[error("protected packet of {0} bytes is too short")]
    TooShort(usize),
    /// Forged, damaged, or sealed with other keys or another rollover counter.
    #[error("authentication failed")]
    Authentication,
    /// The index was seen before or is older than the window.
    #[error("replayed packet")]
    Replayed,
    /// An SRTCP packet that claims to be sent in the clear.
    #[error("unencrypted SRTCP")]
    Unencrypted,
    /// The peer sends RTCP from more sources than a transport may have.
    #[error("too many SRTCP sources")]
    TooManySources,
}

/// Makes the keys of a transport from keying material exported with `EXTRACTOR-dtls_srtp` (RFC 5764 4.2); `role` is ours.
///
/// # Errors
/// [`SrtpError::KeyingMaterial`] unless there are exactly [`SrtpProfile::exported_len`] bytes.
pub fn session_keys(profile: SrtpProfile, exported: &[u8], role: DtlsRole) -> Result<(Opener, Sealer), SrtpError> {
    if exported.len() != profile.exported_len() {
        return Err(SrtpError::KeyingMaterial { expected: profile.exported_len(), actual: exported.len() });
    }
    let (keys, salts) = exported.split_at(2 * profile.key_len());
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    let client = Cipher::new(profile, &Master { key: client_key, salt: client_salt });
    let server = Cipher::new(profile, &Master { key: server_key, salt: server_salt });
    let (remote, local) = match role {
        DtlsRole::Client => (server, client),
        DtlsRole::Server => (client, server),
    };
    Ok((
        Opener { profile, cipher: remote, rtcp_sources: RtcpSources::default() },
        Sealer { profile, cipher: local, rtcp_index: 0 },
    ))
}

/// Protects what a transport sends.
pub struct Sealer {
    profile: SrtpProfile,
    cipher: Cipher,
    /// Of the last SRTCP packet; the first one has index 1, as most stacks do it.
    rtcp_index: u32,
}

impl Sealer {
    /// The profile of the keys.
    pub const fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Seals the RTP packet in `buf[..plain_len]`, whose header is `buf[..header_len]`, in place and returns its new
    /// length, `plain_len` + [`SrtpProfile::rtp_overhead`].
    ///
    /// The caller is the only writer of the packet's SSRC under these keys and never seals the same (`roc`, sequence
    /// number) twice: with GCM that would give the key away.
    ///
    /// # Panics
    /// If `buf` has no room for the overhead, or the lengths are not `12 <= header_len <= plain_len`.
    #[inline]
    pub fn seal_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize, plain_len: usize) -> usize {
        match &self.cipher {
            Cipher::Gcm(keys) => keys.seal_rtp(roc, buf, header_len, plain_len),
            Cipher::Cm(keys) => keys.seal_rtp(roc, buf, header_len, plain_len),
        }
        plain_len + self.profile.rtp_overhead()
    }

    /// Seals the compound RTCP packet in `buf[..plain_len]` in place and returns its new length, `plain_len` +
    /// [`SrtpProfile::rtcp_overhead`]; 0 once the keys' 2^31 packets are used up: then nothing may be sent.
    ///
    /// # Panics
    /// If `buf` has no room for the overhead, or the packet is shorter than the 8 bytes of its first header.
    pub fn seal_rtcp(&mut self, buf: &mut [u8], plain_len: usize) -> usize {
        if self.rtcp_index == RTCP_ENCRYPTED - 1 {
            return 0;
        }
        self.rtcp_index += 1;
        let trailer = (RTCP_ENCRYPTED | self.rtcp_index).to_be_bytes();
        match &self.cipher {
            Cipher::Gcm(keys) => keys.seal_rtcp(trailer, buf, plain_len),
            Cipher::Cm(keys) => keys.seal_rtcp(trailer, buf, plain_len),
        }
        plain_len + self.profile.rtcp_overhead()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Checks and decrypts what a transport receives.
pub struct Opener {
    profile: SrtpProfile,
    cipher: Cipher,
    rtcp_sources: RtcpSources,
}

impl Opener {
    /// The profile of the keys.
    pub const fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Opens the protected RTP packet `buf` in place and returns the length of the plain packet, header included.
    ///
    /// `header_len` is that of [`crate::rtp::RtpHeader::parse`], `roc` that of [`ReplayWindow::estimate`]; check the window
    /// before, commit after. On error the content of `buf` is lost.
    #[inline]
    pub fn open_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize) -> Result<usize, SrtpError> {
        let plain_len = buf
            .len()
            .checked_sub(self.profile.rtp_overhead())
            .filter(|plain_len| *plain_len >= header_len && header_len >= crate::rtp::FIXED_HEADER_LEN)
            .ok_or(SrtpError::TooShort(buf.len()))?;
        match &self.cipher {
            Cipher::Gcm(keys) => keys.open_rtp(roc, buf, header_len)?,
            Cipher::Cm(keys) => keys.open_rtp(roc, buf, header_len)?,
        }
        Ok(plain_len)
    }

    /// Opens the protected compound RTCP packet `buf` in place and returns the length of the plain one. Keeps a replay
    /// window per sender SSRC, made only after authentication and for at most 256 of them.
    pub fn open_rtcp(&mut self, buf: &mut [u8]) -> Result<usize, SrtpError> {
        let plain_len = buf
            .len()
            .checked_sub(self.profile.rtcp_overhead())
            .filter(|plain_len| *plain_len >= RTCP_HEADER_LEN)
            .ok_or(SrtpError::TooShort(buf.len()))?;
        let trailer_at = match self.cipher {
            Cipher::Gcm(_) => buf.len() - RTCP_INDEX_LEN,
            Cipher::Cm(_) => plain_len,
        };
        let trailer = *buf[trailer_at..].first_chunk().expect("invariant: the overhead includes the index");
        let word = u32::from_be_bytes(trailer);
        // Browsers must encrypt (RFC 8827 6.5), so a packet in the clear is not theirs.
        if word & RTCP_ENCRYPTED == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let (ssrc, index) = (u32::from_be_bytes(rtcp_ssrc(buf)), word & !RTCP_ENCRYPTED);
        self.rtcp_sources.check(ssrc, index)?;
        match &self.cipher {
            Cipher::Gcm(keys) => keys.open_rtcp(trailer, buf)?,
            Cipher::Cm(keys) => keys.open_rtcp(trailer, buf)?,
        }
        self.rtcp_sources.commit(ssrc, index);
        Ok(plain_len)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// One direction's keys, about 1 KB. Another implementation of a cipher is another variant with the same four operations.
enum Cipher {
    Gcm(Box<GcmKeys>),
    Cm(Box<CmKeys>),
}

impl Cipher {
    fn new(profile: SrtpProfile, master: &Master<'_>) -> Self {
        match profile {
            SrtpProfile::Aes128CmSha1_80 => Self::Cm(Box::new(CmKeys::new(master))),
            SrtpProfile::AeadAes128Gcm => Self::Gcm(Box::new(GcmKeys::aes_128(master))),
            SrtpProfile::AeadAes256Gcm => Self::Gcm(Box::new(GcmKeys::aes_256(master))),
        }
    }
}

/// The SSRC field of an RTP header.
#[inline]
fn header_ssrc(header: &[u8]) -> [u8; 4] {
    [header[8], header[9], header[10], header[11]]
}

/// The sender's SSRC in the first header of a compound RTCP packet.
fn rtcp_ssrc(packet: &[u8]) -> [u8; 4] {
    [packet[4], packet[5], packet[6], packet[7]]
}
