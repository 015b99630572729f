//! [`DtlsEndpoint`] by the crate `dimpl`. It keeps from the library what the library takes too seriously: datagrams that are not
//! plausibly DTLS, and alerts that nobody has authenticated. And it keeps to itself what must not leave too early: keys.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use dimpl::{Dtls, Output, SecurityError};

use super::{
    DtlsEnd, DtlsEndpoint, DtlsError, DtlsOutput, Fingerprint, Identity, KeyingMaterial, MAX_DATAGRAM, flight::Flight,
    identity::MAX_QUEUED, records::Records,
};
use crate::srtp::SrtpProfile;

/// Largest datagram that is looked at. No path delivers larger ones unfragmented; the bound also bounds a certificate.
pub(super) const MAX_RECEIVED: usize = 2_048;

/// Longest certificate that a handshake can assemble: the library demands that the buffer it writes a certificate to is large
/// enough and panics otherwise.
pub(super) const MAX_CERTIFICATE: usize = MAX_QUEUED * MAX_RECEIVED;

/// How often a client may cut its hello differently. Firefox tries four sizes; each costs us a new start.
const MAX_RESTARTS: u8 = 4;

/// The library says "never" with a time years ahead.
const NEVER: Duration = Duration::from_hours(24);

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
    Handshaking(Handshake),
    Connected {
        dtls: Box<Dtls>,
        flight: Flight,
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

#[derive(Debug)]
struct Handshake {
    dtls: Box<Dtls>,
    /// Where the library writes to, a certificate if it must be.
    scratch: Box<[u8]>,
    /// Length of the first piece of the client's hello, until it is answered.
    hello_start: Option<usize>,
    restarts: u8,
    flight: Flight,
    certificate_matched: bool,
    complete: bool,
}

impl Handshake {
    fn new(identity: &Identity, now: Instant) -> Self {
        Self {
            dtls: new_server(identity, now),
            scratch: vec![0; MAX_CERTIFICATE].into_boxed_slice(),
            hello_start: None,
            restarts: 0,
            flight: Flight::default(),
            certificate_matched: false,
            complete: false,
        }
    }

    /// Starts over when the client cuts its hello into other pieces than before, as Firefox does after some time without an
    /// answer: the library would wait for the rest of the old pieces forever.
    fn note_hello(&mut self, start: usize, identity: &Identity, now: Instant) {
        match self.hello_start.replace(start) {
            Some(before) if before != start && self.restarts < MAX_RESTARTS => {
                self.dtls = new_server(identity, now);
                self.restarts += 1;
            }
            _ => {}
        }
    }
}

fn new_server(identity: &Identity, now: Instant) -> Box<Dtls> {
    Box::new(Dtls::new_12(identity.inner.config.clone(), identity.inner.certificate.clone(), now))
}

impl DimplEndpoint {
    pub(super) fn new(identity: Identity, now: Instant, expected: Fingerprint) -> Self {
        Self { identity, expected, now, state: State::Waiting }
    }

    /// Feeds the library, which is not trusted with hostile bytes: a panic in it ends this association, not its thread with
    /// everybody else's call on it.
    fn feed(&mut self, input: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>) -> Result<(), DtlsError> {
        let (State::Handshaking(Handshake { dtls, .. }) | State::Connected { dtls, .. }) = &mut self.state else {
            return Err(DtlsError::Closed);
        };
        match catch_unwind(AssertUnwindSafe(|| input(dtls))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if self.is_fatal(&error) => Err(self.fail(describe(&error))),
            Ok(Err(_)) => Err(DtlsError::Refused),
            Err(_) => Err(self.fail(broken())),
        }
    }

    /// Whether the association cannot go on. Once it is connected only an authenticated alert ends it. Before that nothing is
    /// authenticated, but what only spoils single records or overflows a queue is survived: the peer repeats its flight.
    fn is_fatal(&self, error: &dimpl::Error) -> bool {
        use dimpl::{CryptoError, CryptoOperation, Error};
        match error {
            Error::SecurityError(SecurityError::FatalAlert { .. }) => true,
            _ if matches!(self.state, State::Connected { .. }) => false,
            Error::CryptoError(
                CryptoError::OperationFailed(CryptoOperation::Decrypt)
                | CryptoError::InvalidNonce
                | CryptoError::CiphertextTooShort { .. },
            )
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
            State::Handshaking(Handshake { dtls, .. }) | State::Connected { dtls, .. } => State::Closing { dtls, end },
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
            State::Connected { dtls, flight } => match guarded(dtls, &mut stack) {
                Some(Output::Packet(packet)) => {
                    flight.note_sent(now, packet);
                    Some(datagram(packet, buf))
                }
                Some(Output::Timeout(at)) => {
                    let repeated = flight.next(now).map(|packet| datagram(packet, buf));
                    repeated.or_else(|| Some(idle(now, flight.unasked().map_or(at, |unasked| unasked.min(at)))))
                }
                Some(Output::CloseNotify) => {
                    self.drain(DtlsEnd::ClosedByPeer);
                    None
                }
                Some(Output::BufferTooSmall { .. }) | None => {
                    self.fail(broken());
                    None
                }
                // Application data: nothing is carried over DTLS, so nothing reads it.
                Some(_) => None,
            },
            State::Handshaking(handshake) => match guarded(&mut handshake.dtls, &mut handshake.scratch) {
                Some(Output::Packet(packet)) => {
                    handshake.hello_start = None;
                    handshake.restarts = MAX_RESTARTS;
                    handshake.flight.note_sent(now, packet);
                    Some(datagram(packet, buf))
                }
                Some(Output::PeerCert(certificate)) => {
                    handshake.certificate_matched = self.expected.matches(certificate);
                    if !handshake.certificate_matched {
                        self.fail(DtlsError::WrongFingerprint);
                    }
                    None
                }
                Some(Output::Connected) => {
                    handshake.complete = true;
                    None
                }
                Some(Output::KeyingMaterial(exported, profile)) if handshake.certificate_matched => {
                    let keying_material = KeyingMaterial((*exported).into());
                    self.connected(profile, keying_material)
                }
                Some(Output::KeyingMaterial(..)) => {
                    self.fail(DtlsError::WrongFingerprint);
                    None
                }
                Some(Output::Timeout(_)) if handshake.complete => {
                    self.fail(DtlsError::NoSrtpProfile);
                    None
                }
                Some(Output::Timeout(at)) => {
                    let repeated = handshake.flight.next(now).map(|packet| datagram(packet, buf));
                    repeated.or_else(|| Some(idle(now, at)))
                }
                Some(Output::CloseNotify) => {
                    self.drain(DtlsEnd::ClosedByPeer);
                    None
                }
                Some(Output::BufferTooSmall { .. }) | None => {
                    self.fail(broken());
                    None
                }
                Some(_) => None,
            },
        }
    }

    fn connected(&mut self, profile: dimpl::SrtpProfile, keying_material: KeyingMaterial) -> Option<DtlsOutput> {
        let State::Handshaking(Handshake { dtls, .. }) = std::mem::replace(&mut self.state, State::Waiting) else {
            unreachable!("invariant: only a handshake gives keys");
        };
        self.state = State::Connected { dtls, flight: Flight::last(self.now) };
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
        if let (State::Waiting, true) = (&self.state, records.opens) {
            self.state = State::Handshaking(Handshake::new(&self.identity, now));
        }
        match &mut self.state {
            // Anyone could have sent such an alert; a peer that means it does not answer any more either.
            State::Handshaking(_) if records.plain_alert => return Err(DtlsError::Refused),
            State::Handshaking(handshake) => {
                if let Some(start) = records.hello_start {
                    handshake.note_hello(start, &self.identity, now);
                }
                // Answered before: whoever sends its hello again has lost the answer.
                if records.opens {
                    handshake.flight.note_repetition(now);
                }
            }
            State::Connected { flight, .. } => {
                if records.plain_message {
                    flight.note_repetition(now);
                }
            }
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

/// Polls the library; `None` if it panicked.
fn guarded<'b>(dtls: &mut Dtls, buf: &'b mut [u8]) -> Option<Output<'b>> {
    let poll = move || {
        let buf = buf; // moves it in, for the output borrows from it
        dtls.poll_output(buf)
    };
    catch_unwind(AssertUnwindSafe(poll)).ok()
}

/// The library did what it must not.
fn broken() -> DtlsError {
    DtlsError::Protocol("the DTLS library failed".into())
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
