//! The client's side of DTLS (RFC 6347) and what it yields: SRTP keys, once the server's certificate proved to be the one of
//! its answer.

use super::PeerError;
use dimpl::{Config, Dtls, DtlsCertificate, Output};
use ring::digest;
use sfu_core::srtp::{DtlsRole, Opener, Sealer, SrtpProfile, session_keys};
use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

/// What browsers start with; doubled each time.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(50);

/// A certificate with its key. Making one takes a millisecond, so that many peers share one.
#[derive(Clone)]
pub struct Certificate {
    inner: DtlsCertificate,
    fingerprint: String,
}

impl Certificate {
    /// A self-signed ECDSA P-256 certificate, as browsers make.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?;
        let inner = DtlsCertificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() };
        let fingerprint = fingerprint(&inner.certificate);
        Ok(Self { inner, fingerprint })
    }

    /// Its SHA-256 as in a=fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// SHA-256 of a DER certificate in SDP's notation.
fn fingerprint(der: &[u8]) -> String {
    digest::digest(&digest::SHA256, der).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{}{byte:02X}", if text.is_empty() { "" } else { ":" });
        text
    })
}

/// What the handshake came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Keys for SRTP; the server is who its answer says.
    Keys(SrtpProfile, Opener, Sealer),
    /// The server said goodbye.
    Closed,
}

/// A DTLS 1.2 client.
pub(super) struct Handshake {
    dtls: Dtls,
    expected: String,
    server_is_proven: bool,
    deadline: Option<Instant>,
    buffer: Vec<u8>,
}

impl Handshake {
    /// A client that accepts only the certificate with the fingerprint `expected`. `seed` drives its jitter.
    pub(super) fn new(now: Instant, certificate: &Certificate, expected: String, seed: u64) -> Result<Self, PeerError> {
        let config = Config::builder()
            .flight_start_rto(FIRST_RETRANSMISSION)
            .flight_retries(12)
            .dangerously_set_rng_seed(seed)
            .build()
            .map_err(PeerError::Dtls)?;
        let mut dtls = Dtls::new_12(Arc::new(config), certificate.inner.clone(), now);
        dtls.set_active(true);
        dtls.handle_timeout(now).map_err(PeerError::Dtls)?;
        Ok(Self { dtls, expected, server_is_proven: false, deadline: None, buffer: vec![0; 2_048] })
    }

    /// Takes a datagram of the server.
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), PeerError> {
        self.dtls.handle_timeout(now).map_err(PeerError::Dtls)?;
        self.dtls.handle_packet(datagram).map_err(PeerError::Dtls)
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), PeerError> {
        self.dtls.handle_timeout(now).map_err(PeerError::Dtls)
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) -> Result<(), PeerError> {
        self.dtls.close().map_err(PeerError::Dtls)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Drains what there is: datagrams go to `send`.
    pub(super) fn poll(&mut self, mut send: impl FnMut(&[u8])) -> Result<Option<Outcome>, PeerError> {
        let mut outcome = None;
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(datagram) => send(datagram),
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    return Ok(outcome);
                }
                Output::PeerCert(der) => {
                    if fingerprint(der) != self.expected {
                        return Err(PeerError::ForeignCertificate);
                    }
                    self.server_is_proven = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    if !self.server_is_proven {
                        return Err(PeerError::ForeignCertificate);
                    }
                    let profile = profile_of(profile)?;
                    let (opener, sealer) = session_keys(profile, &material, DtlsRole::Client)
                        .map_err(|error| PeerError::Keys(error.to_string()))?;
                    outcome = Some(Outcome::Keys(profile, opener, sealer));
                }
                Output::CloseNotify => outcome = Some(Outcome::Closed),
                _ => {}
            }
        }
    }
}

fn profile_of(profile: dimpl::SrtpProfile) -> Result<SrtpProfile, PeerError> {
    match profile {
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Ok(SrtpProfile::Aes128CmSha1_80),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Ok(SrtpProfile::AeadAes128Gcm),
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Ok(SrtpProfile::AeadAes256Gcm),
        other => Err(PeerError::Keys(format!("unknown SRTP profile {other}"))),
    }
}
