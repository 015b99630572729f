//! DTLS 1.2 with the extension for SRTP keys (RFC 5764), one endpoint per peer, always in the server's role.
//!
//! Sans-IO: datagrams and the time go in, datagrams and at last the keying material come out. No key leaves an endpoint before
//! the peer's certificate matched the fingerprint of its SDP (RFC 8827, section 6.5). Which addresses may feed an endpoint is not
//! decided here: see [`crate::ice`].

mod dimpl_endpoint;
mod fingerprint;
mod flight;
mod identity;
mod records;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Deref, time::Instant};

pub use dimpl_endpoint::DimplEndpoint;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError};

use crate::srtp::SrtpProfile;

/// Largest datagram that an endpoint produces, in bytes. Fits every path that carries 1,280-byte IPv6 packets.
pub const MAX_DATAGRAM: usize = 1_200;

/// What has to happen next.
#[derive(Debug)]
pub enum DtlsOutput {
    /// The first so many bytes of the buffer are a datagram for the peer.
    Datagram(usize),
    /// The handshake is complete and the peer's certificate is the expected one. Comes once.
    Connected {
        /// The negotiated protection profile.
        profile: SrtpProfile,
        /// What [`crate::srtp::session_keys`] takes.
        keying_material: KeyingMaterial,
    },
    /// The association is over, nothing follows. Comes once.
    Closed(DtlsEnd),
    /// Nothing to do before the next datagram or this instant.
    Idle {
        /// When [`DtlsEndpoint::handle_timeout`] has to be called.
        timeout: Option<Instant>,
    },
}

/// Why an association is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DtlsEnd {
    /// The peer sent a `close_notify`.
    ClosedByPeer,
    /// [`DtlsEndpoint::close`] was called.
    ClosedByUs,
    /// It failed.
    Failed(DtlsError),
}

/// Why a datagram was refused or an association failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DtlsError {
    /// Not DTLS records, or ones that have no place in the present state. Nothing has changed.
    #[error("not acceptable as DTLS records")]
    Refused,
    /// The peer's certificate is not the one that its SDP announced.
    #[error("the peer's certificate does not match its fingerprint")]
    WrongFingerprint,
    /// The peer offered none of our SRTP protection profiles, or no SRTP at all.
    #[error("the peer offers no usable SRTP protection profile")]
    NoSrtpProfile,
    /// The handshake took too long.
    #[error("the handshake took too long")]
    TimedOut,
    /// The association is over already.
    #[error("the association is over")]
    Closed,
    /// Anything else, in the library's words.
    #[error("{0}")]
    Protocol(Box<str>),
}

/// The SRTP keying material that a handshake exports (RFC 5764, section 4.2). Never printed.
pub struct KeyingMaterial(Box<[u8]>);

impl Deref for KeyingMaterial {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyingMaterial").finish_non_exhaustive()
    }
}

/// One peer's DTLS association. After every call of another method, `poll` is to be called until it says
/// [`DtlsOutput::Idle`] or [`DtlsOutput::Closed`].
pub trait DtlsEndpoint {
    /// Takes a datagram of the peer. An error means that it was refused, for the caller's counters; whether the association is
    /// over is told by [`Self::poll`] alone.
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError>;

    /// Tells that time has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// Gives what has to happen next. `buf` has room for [`MAX_DATAGRAM`] bytes.
    fn poll(&mut self, buf: &mut [u8]) -> DtlsOutput;

    /// Ends the association: a connected peer is sent a `close_notify`.
    fn close(&mut self);
}
