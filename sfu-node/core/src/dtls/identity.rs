//! Who a node is towards its peers: one self-signed certificate, and the DTLS settings that all its endpoints share.

use std::{sync::Arc, time::Duration, time::Instant};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::{DimplEndpoint, Fingerprint, MAX_DATAGRAM};

/// How long a handshake may take. A transport that has not connected by then ends anyway.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// First retransmission after this time, then doubled each time. Well above most round trips, well below the second that RFC 6347
/// (section 4.2.4.1) starts with: the media of a call wait for it.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(250);

/// Retransmissions of a flight, those asked for by the peer's own included. High enough that [`HANDSHAKE_TIMEOUT`] decides:
/// browsers repeat their flights every 50 ms at first, and each repetition spends one.
const RETRANSMISSIONS: usize = 40;

/// Received datagrams that may wait for the rest of a message. A client's longest flight takes three; more only lets a peer hold
/// more memory.
pub(super) const MAX_QUEUED: usize = 24;

/// Why an identity could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system gave no randomness, or the certificate could not be encoded.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The DTLS library does not accept our settings.
    #[error("cannot set DTLS up: {0}")]
    Settings(#[from] dimpl::Error),
}

/// A certificate with its key, shared by all endpoints of a node.
#[derive(Clone)]
pub struct Identity {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: Arc<dimpl::Config>,
    pub(super) certificate: dimpl::DtlsCertificate,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Makes a new ECDSA P-256 key (RFC 8827, section 6.5) and a self-signed certificate for it, good for one run of the process.
    /// Draws from the operating system's randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "WebRTC"); // like browsers: says nothing about us
        let certificate = params.self_signed(&key)?.der().to_vec();
        let config = dimpl::Config::builder()
            .mtu(MAX_DATAGRAM)
            .max_queue_rx(MAX_QUEUED)
            .require_client_certificate(true)
            // The cookie exchange proves the client's address, which a connectivity check already did.
            .use_server_cookie(false)
            .flight_start_rto(FIRST_RETRANSMISSION)
            .flight_retries(RETRANSMISSIONS)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()?;
        let fingerprint = Fingerprint::sha256_of(&certificate);
        let certificate = dimpl::DtlsCertificate { certificate, private_key: key.serialize_der() };
        Ok(Self { inner: Arc::new(Inner { config: Arc::new(config), certificate, fingerprint }) })
    }

    /// The SHA-256 fingerprint for our SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint
    }

    /// An endpoint that waits for the client hello of a peer whose certificate has this fingerprint.
    pub fn accept(&self, now: Instant, expected: Fingerprint) -> DimplEndpoint {
        DimplEndpoint::new(self.clone(), now, expected)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.inner.fingerprint).finish_non_exhaustive()
    }
}
