//! Handshakes with clients that nobody here wrote, in virtual time over a seeded network.

mod handshakes;
mod hostile;
mod network;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rtc_dtls::{
    config::{ConfigBuilder, ExtendedMasterSecretType},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};

use super::*;

/// One identity for all servers: making one checks the library's whole cryptography.
fn server_identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().expect("an identity"))
}

/// One for all clients, likewise.
fn client_identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().expect("an identity"))
}

/// A DTLS client of some kind.
trait Client {
    /// The fingerprint of its certificate.
    fn fingerprint(&self) -> Fingerprint;
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_datagram(&mut self, now: Instant) -> Option<Vec<u8>>;
    fn poll_timeout(&mut self, now: Instant) -> Option<Instant>;
    /// The keys, once it has them.
    fn keys(&self, profile: SrtpProfile) -> Option<Vec<u8>>;
    fn has_seen_close(&self) -> bool;
    fn close(&mut self, now: Instant);
}

/// The client of the same library, with a browser's patience.
struct DimplClient {
    dtls: dimpl::Dtls,
    fingerprint: Fingerprint,
    datagrams: Vec<Vec<u8>>,
    timeout: Option<Instant>,
    keys: Option<Vec<u8>>,
    closed: bool,
}

impl DimplClient {
    fn new(now: Instant, mtu: usize, seed: u64) -> Self {
        let config = dimpl::Config::builder()
            .mtu(mtu)
            .max_queue_tx(40)
            .flight_start_rto(Duration::from_millis(50))
            .flight_retries(20)
            .handshake_timeout(Duration::from_mins(1))
            .dangerously_set_rng_seed(seed)
            .build()
            .expect("valid settings");
        let identity = client_identity();
        let mut dtls = dimpl::Dtls::new_12(Arc::new(config), identity.inner.certificate.clone(), now);
        dtls.set_active(true);
        dtls.handle_timeout(now).expect("a fresh client");
        let mut client = Self {
            dtls,
            fingerprint: identity.fingerprint(),
            datagrams: Vec::new(),
            timeout: None,
            keys: None,
            closed: false,
        };
        client.drain();
        client
    }

    fn drain(&mut self) {
        let mut buf = vec![0; 65_536];
        loop {
            match self.dtls.poll_output(&mut buf) {
                dimpl::Output::Packet(packet) => self.datagrams.push(packet.to_vec()),
                dimpl::Output::KeyingMaterial(keys, _) => self.keys = Some(keys.to_vec()),
                dimpl::Output::CloseNotify => self.closed = true,
                dimpl::Output::Timeout(at) => {
                    self.timeout = Some(at);
                    break;
                }
                _ => {}
            }
        }
        self.datagrams.reverse();
    }
}

impl Client for DimplClient {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.datagrams.reverse();
        self.dtls.handle_timeout(now).expect("the client goes on");
        self.dtls.handle_packet(datagram).expect("the server says nothing wrong");
        self.drain();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.datagrams.reverse();
        self.dtls.handle_timeout(now).expect("the client does not give up");
        self.drain();
    }

    fn poll_datagram(&mut self, _now: Instant) -> Option<Vec<u8>> {
        self.datagrams.pop()
    }

    fn poll_timeout(&mut self, _now: Instant) -> Option<Instant> {
        self.timeout
    }

    fn keys(&self, _profile: SrtpProfile) -> Option<Vec<u8>> {
        self.keys.clone()
    }

    fn has_seen_close(&self) -> bool {
        self.closed
    }

    fn close(&mut self, _now: Instant) {
        self.datagrams.reverse();
        self.dtls.close().expect("an open association");
        self.drain();
    }
}

/// The client of webrtc-rs. It can be told what to offer, but not trusted on lossy networks.
struct RtcClient {
    endpoint: Endpoint,
    fingerprint: Fingerprint,
    connected: bool,
    closed: bool,
}

impl RtcClient {
    fn server() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    #[expect(clippy::default_trait_access, reason = "the type is not exported")]
    fn new(now: Instant, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let provider = rtc_crypto::default_provider().expect("the built-in provider");
        let certificate =
            Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto()).expect("a certificate");
        let fingerprint = Fingerprint::sha256_of(certificate.certificate[0].as_ref());
        let builder = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require);
        let config = change(builder).build(true, Some(Self::server())).expect("valid settings");
        let mut endpoint = Endpoint::new(Self::server(), Default::default(), None);
        endpoint.connect(now, Self::server(), Arc::new(config), None).expect("a client hello");
        Self { endpoint, fingerprint, connected: false, closed: false }
    }

    fn offering(now: Instant, profiles: &[SrtpProtectionProfile]) -> Self {
        Self::new(now, |builder| builder.with_srtp_protection_profiles(profiles.to_vec()))
    }
}

impl Client for RtcClient {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        for event in self.endpoint.read(now, Self::server(), None, datagram.into()).unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => self.connected = true,
                EndpointEvent::PeerClosed => self.closed = true,
                _ => {}
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        // An association that has ended has no timeouts.
        let _ = self.endpoint.handle_timeout(Self::server(), now);
    }

    fn poll_datagram(&mut self, _now: Instant) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec())
    }

    fn poll_timeout(&mut self, _now: Instant) -> Option<Instant> {
        self.endpoint.poll_timeout(&Self::server())
    }

    fn keys(&self, profile: SrtpProfile) -> Option<Vec<u8>> {
        let state = self.endpoint.get_connection_state(Self::server()).filter(|_| self.connected)?;
        let keys = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], profile.exported_len());
        keys.ok().map(|keys| keys.as_ref().to_vec())
    }

    fn has_seen_close(&self) -> bool {
        self.closed
    }

    fn close(&mut self, now: Instant) {
        self.endpoint.close(now).expect("an open association");
    }
}
