//! What a DTLS association costs while a call lasts: thousands of them share a machine.
#![allow(unsafe_code, reason = "counting what is allocated takes an allocator, and that trait is unsafe")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use sfu_core::dtls::{DimplEndpoint, DtlsEndpoint, DtlsOutput, Fingerprint, Identity, MAX_DATAGRAM};

/// The system's allocator, counting the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `pointer` came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ASSOCIATIONS: usize = 20;

#[test]
fn a_connected_association_keeps_at_most_60_kilobytes_and_a_waiting_one_next_to_nothing() {
    let now = Instant::now();
    let identity = Identity::generate().expect("an identity");
    let certificate = client_certificate();
    connected(now, &identity, &certificate); // whatever is allocated once

    let before = IN_USE.load(Ordering::Relaxed);
    let expected = Fingerprint::sha256_of(&certificate.certificate);
    let waiting: Vec<_> = (0..ASSOCIATIONS).map(|_| identity.accept(now, expected)).collect();
    let each = (IN_USE.load(Ordering::Relaxed) - before) / waiting.len();
    assert!(each <= 1_024, "a waiting one keeps {each} bytes");
    drop(waiting);

    let before = IN_USE.load(Ordering::Relaxed);
    let connected: Vec<_> = (0..ASSOCIATIONS).map(|_| connected(now, &identity, &certificate)).collect();
    let each = (IN_USE.load(Ordering::Relaxed) - before) / connected.len();
    assert!(each <= 60_000, "a connected one keeps {each} bytes");
}

fn client_certificate() -> dimpl::DtlsCertificate {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
    dimpl::DtlsCertificate { certificate: cert.der().to_vec(), private_key: signing_key.serialize_der() }
}

/// An endpoint after its handshake; the client is gone.
fn connected(now: Instant, identity: &Identity, certificate: &dimpl::DtlsCertificate) -> DimplEndpoint {
    let config = dimpl::Config::builder().build().expect("valid settings");
    let mut client = dimpl::Dtls::new_12(Arc::new(config), certificate.clone(), now);
    client.set_active(true);
    client.handle_timeout(now).expect("a client hello");
    let mut server = identity.accept(now, Fingerprint::sha256_of(&certificate.certificate));
    let mut is_connected = false;
    let mut buf = vec![0; 4_096];
    let mut out = [0; MAX_DATAGRAM];
    for _ in 0..4 {
        loop {
            match client.poll_output(&mut buf) {
                dimpl::Output::Packet(packet) => server.handle_datagram(now, packet).expect("a client's datagram"),
                dimpl::Output::Timeout(_) => break,
                _ => {}
            }
        }
        loop {
            match server.poll(&mut out) {
                DtlsOutput::Datagram(len) => client.handle_packet(&out[..len]).expect("a server's datagram"),
                DtlsOutput::Connected { .. } => is_connected = true,
                DtlsOutput::Closed(end) => panic!("{end:?}"),
                DtlsOutput::Idle { .. } => break,
            }
        }
    }
    assert!(is_connected);
    server
}
