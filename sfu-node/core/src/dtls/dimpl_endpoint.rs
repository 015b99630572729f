//! [`DtlsEndpoint`] by the crate `dimpl`. It keeps from the library what the library takes too seriously: datagrams that are not
//! plausibly DTLS, and alerts that nobody has authenticated. And it keeps to itself what must not leave too early: keys.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use dimpl::{Dtls, Output, SecurityError};

use super::{
    DtlsEnd, DtlsEndpoint, DtlsError, DtlsOutput, Fingerprint, Identity, KeyingMaterial, MAX_DATAGRAM,
    identity::MAX_QUEUED,
};
use crate::srtp::SrtpProfile;

/// Largest datagram that is looked at. No path delivers larger ones unfragmented; the bound also bounds a certificate.
const MAX_RECEIVED: usize = 2_048;

/// Longest certificate that a handshake can assemble: the library demands that the buffer it writes a certificate to is large
/// enough and panics otherwise.
const MAX_CERTIFICATE: usize = MAX_QUEUED * MAX_RECEIVED;

/// The library says "never" with a time years ahead.
const NEVER: Duration = Duration::from_secs(86_400);

/// One association, made on the first datagram that could open it.
///
/// ```text
/// Waiting ──first handshake record──▶ Handshaking ──keys, right certificate──▶ Connected
///    └────────────────────close──────────┴─failure, close──▶ Over ◀─close_notify, alert, close──┘
/// ```
#[derive(Debug)]
pub struct DimplEndpoint {
    identity: Identity,
    expected: Fingerprint,
    now: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Handshaking {
        dtls: Box<Dtls>,
        scratch: Box<[u8]>,
        certificate_matched: bool,
        complete: bool,
    },
    Connected {
        dtls: Box<Dtls>,
    },
    /// What is still to be sent, then told.
    Closing {
        dtls: Box<Dtls>,
        end: DtlsEnd,
    },
    Over {
        untold: Option<DtlsEnd>,
    },
}

impl DimplEndpoint {
    pub(super) fn new(identity: Identity, now: Instant, expected: Fingerprint) -> Self {
        Self { identity, expected, now, state: State::Waiting }
    }

    /// Feeds the library, which is not trusted with hostile bytes: a panic in it ends this association, not its thread with
    /// everybody else's call on it.
    fn feed(&mut self, input: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>) -> Result<(), DtlsError> {
        let (State::Handshaking { dtls, .. } | State::Connected { dtls }) = &mut self.state else {
            return Err(DtlsError::Closed);
        };
        match catch_unwind(AssertUnwindSafe(|| input(dtls))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if self.is_fatal(&error) => Err(self.fail(describe(&error))),
            Ok(Err(_)) => Err(DtlsError::Refused),
            Err(_) => Err(self.fail(DtlsError::Protocol("the library panicked".into()))),
        }
    }

    /// Whether the association cannot go on. Once it is connected only an authenticated alert ends it. Before that nothing is
    /// authenticated, but what only spoils single records or overflows a queue is survived: the peer repeats its flight.
    fn is_fatal(&self, error: &dimpl::Error) -> bool {
        use dimpl::{CryptoError, CryptoOperation, Error};
        match error {
            Error::SecurityError(SecurityError::FatalAlert { .. }) => true,
            _ if matches!(self.state, State::Connected { .. }) => false,
            Error::CryptoError(CryptoError::OperationFailed(CryptoOperation::Decrypt))
            | Error::CryptoError(CryptoError::InvalidNonce | CryptoError::CiphertextTooShort { .. })
            | Error::ReceiveQueueFull
            | Error::TransmitQueueFull
            | Error::RenegotiationAttempt => false,
            _ => true,
        }
    }

    /// Ends the association without another word to the peer.
    fn fail(&mut self, error: DtlsError) -> DtlsError {
        self.state = State::Over { untold: Some(DtlsEnd::Failed(error.clone())) };
        error
    }

    /// Ends the association once everything queued is sent.
    fn drain(&mut self, end: DtlsEnd) {
        self.state = match std::mem::replace(&mut self.state, State::Waiting) {
            State::Handshaking { dtls, .. } | State::Connected { dtls } => State::Closing { dtls, end },
            State::Waiting => State::Over { untold: Some(end) },
            closing => closing,
        };
    }

    /// Handles one output of the library; `None` if it gives nothing to do.
    fn step(&mut self, buf: &mut [u8]) -> Option<DtlsOutput> {
        let mut stack = [0; MAX_RECEIVED];
        let now = self.now;
        match &mut self.state {
            State::Waiting => Some(DtlsOutput::Idle { timeout: None }),
            State::Over { untold } => {
                Some(untold.take().map_or(DtlsOutput::Idle { timeout: None }, DtlsOutput::Closed))
            }
            State::Closing { dtls, end } => match guarded(dtls, &mut stack) {
                Some(Output::Packet(packet)) => Some(datagram(packet, buf)),
                Some(Output::Timeout(_) | Output::BufferTooSmall { .. }) | None => {
                    self.state = State::Over { untold: Some(end.clone()) };
                    None
                }
                Some(_) => None,
            },
            State::Connected { dtls } => match guarded(dtls, &mut stack) {
                Some(Output::Packet(packet)) => Some(datagram(packet, buf)),
                Some(Output::Timeout(at)) => Some(idle(now, at)),
                Some(Output::CloseNotify) => {
                    self.drain(DtlsEnd::ClosedByPeer);
                    None
                }
                // Application data: nothing is carried over DTLS, so nothing reads it.
                Some(_) => None,
                None => {
                    self.fail(DtlsError::Protocol("the library panicked".into()));
                    None
                }
            },
            State::Handshaking { dtls, scratch, certificate_matched, complete } => match guarded(dtls, scratch) {
                Some(Output::Packet(packet)) => Some(datagram(packet, buf)),
                Some(Output::PeerCert(certificate)) => {
                    *certificate_matched = self.expected.matches(certificate);
                    if !*certificate_matched {
                        self.fail(DtlsError::WrongFingerprint);
                    }
                    None
                }
                Some(Output::Connected) => {
                    *complete = true;
                    None
                }
                Some(Output::KeyingMaterial(exported, profile)) if *certificate_matched => {
                    let keying_material = KeyingMaterial((*exported).into());
                    self.connected(profile, keying_material)
                }
                Some(Output::Timeout(_)) if *complete => {
                    self.fail(DtlsError::NoSrtpProfile);
                    None
                }
                Some(Output::Timeout(at)) => Some(idle(now, at)),
                Some(Output::CloseNotify) => {
                    self.drain(DtlsEnd::ClosedByPeer);
                    None
                }
                Some(Output::KeyingMaterial(..)) => {
                    self.fail(DtlsError::WrongFingerprint);
                    None
                }
                Some(_) => None,
                None => {
                    self.fail(DtlsError::Protocol("the library panicked".into()));
                    None
                }
            },
        }
    }

    fn connected(&mut self, profile: dimpl::SrtpProfile, keying_material: KeyingMaterial) -> Option<DtlsOutput> {
        let State::Handshaking { dtls, .. } = std::mem::replace(&mut self.state, State::Waiting) else {
            unreachable!("invariant: only a handshake gives keys");
        };
        self.state = State::Connected { dtls };
        let profile = match profile {
            dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
            dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
            dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmSha1_80,
            _ => {
                self.fail(DtlsError::NoSrtpProfile);
                return None;
            }
        };
        Some(DtlsOutput::Connected { profile, keying_material })
    }
}

impl DtlsEndpoint for DimplEndpoint {
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        self.now = now;
        let records = Records::parse(datagram).ok_or(DtlsError::Refused)?;
        match &self.state {
            State::Waiting if records.opens => {
                let inner = &self.identity.inner;
                let dtls = Box::new(Dtls::new_12(inner.config.clone(), inner.certificate.clone(), now));
                let scratch = vec![0; MAX_CERTIFICATE].into_boxed_slice();
                self.state = State::Handshaking { dtls, scratch, certificate_matched: false, complete: false };
            }
            // Anyone could have sent such an alert; a peer that means it does not answer any more either.
            State::Handshaking { .. } if records.plain_alert => return Err(DtlsError::Refused),
            State::Handshaking { .. } | State::Connected { .. } => {}
            State::Waiting => return Err(DtlsError::Refused),
            State::Closing { .. } | State::Over { .. } => return Err(DtlsError::Closed),
        }
        self.feed(|dtls| {
            dtls.handle_timeout(now)?;
            dtls.handle_packet(datagram)
        })
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        // What goes wrong is told by `poll`.
        let _ = self.feed(|dtls| dtls.handle_timeout(now));
    }

    fn poll(&mut self, buf: &mut [u8]) -> DtlsOutput {
        assert!(buf.len() >= MAX_DATAGRAM, "invariant: the buffer has room for a datagram");
        loop {
            if let Some(output) = self.step(buf) {
                return output;
            }
        }
    }

    fn close(&mut self) {
        let _ = self.feed(Dtls::close);
        self.drain(DtlsEnd::ClosedByUs);
    }
}

/// What the headers of a datagram's records say.
#[derive(Default)]
struct Records {
    /// The first one is a handshake record of epoch 0.
    opens: bool,
    /// One is an alert that is not encrypted.
    plain_alert: bool,
}

impl Records {
    /// Walks the records (RFC 6347, section 4.3.1); `None` if they are not DTLS 1.x or do not fill the datagram.
    fn parse(datagram: &[u8]) -> Option<Self> {
        const CHANGE_CIPHER_SPEC: u8 = 20;
        const ALERT: u8 = 21;
        const HANDSHAKE: u8 = 22;
        const APPLICATION_DATA: u8 = 23;
        if datagram.is_empty() || datagram.len() > MAX_RECEIVED {
            return None;
        }
        let mut records = Self::default();
        let mut rest = datagram;
        while !rest.is_empty() {
            let (header, body) = rest.split_first_chunk::<13>()?;
            let [kind, 0xfe, _, epoch_high, epoch_low, .., length_high, length_low] = *header else { return None };
            let plain = (epoch_high, epoch_low) == (0, 0);
            let length = usize::from(u16::from_be_bytes([length_high, length_low]));
            let (body, next) = body.split_at_checked(length)?;
            match kind {
                HANDSHAKE if plain => {
                    are_client_messages(body).then_some(())?;
                    records.opens |= rest.len() == datagram.len();
                }
                HANDSHAKE => {}
                ALERT => records.plain_alert |= plain,
                CHANGE_CIPHER_SPEC | APPLICATION_DATA => {}
                _ => return None,
            }
            rest = next;
        }
        Some(records)
    }
}

/// Whether bytes are whole fragments of messages that a client sends in the clear (RFC 6347, section 4.2.2). Others would wait in
/// the library's queue for a turn that never comes.
fn are_client_messages(mut body: &[u8]) -> bool {
    const CLIENT_MESSAGES: [u8; 4] = [1, 11, 15, 16]; // client hello, certificate, its proof, key exchange
    const LAST_MESSAGE: u16 = 8;
    let int = |bytes: [u8; 3]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
    while let Some((header, rest)) = body.split_first_chunk::<12>() {
        let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
        let (length, offset, fragment) = (int([l0, l1, l2]), int([o0, o1, o2]), int([f0, f1, f2]));
        let fits = offset + fragment <= length && length <= MAX_CERTIFICATE;
        let (true, Some(next)) = (fits, rest.get(fragment..)) else { return false };
        if !CLIENT_MESSAGES.contains(&kind) || u16::from_be_bytes([s0, s1]) > LAST_MESSAGE {
            return false;
        }
        if next.is_empty() {
            return true;
        }
        body = next;
    }
    false
}

/// Polls the library; `None` if it panicked.
fn guarded<'b>(dtls: &mut Dtls, buf: &'b mut [u8]) -> Option<Output<'b>> {
    let poll = move || {
        let buf = buf; // moves it in, for the output borrows from it
        dtls.poll_output(buf)
    };
    catch_unwind(AssertUnwindSafe(poll)).ok()
}

fn datagram(packet: &[u8], buf: &mut [u8]) -> DtlsOutput {
    buf[..packet.len()].copy_from_slice(packet);
    DtlsOutput::Datagram(packet.len())
}

fn idle(now: Instant, at: Instant) -> DtlsOutput {
    DtlsOutput::Idle { timeout: (at < now + NEVER).then_some(at) }
}

fn describe(error: &dimpl::Error) -> DtlsError {
    match error {
        dimpl::Error::Timeout(_) => DtlsError::TimedOut,
        other => DtlsError::Protocol(other.to_string().into()),
    }
}
