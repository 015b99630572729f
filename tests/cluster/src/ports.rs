//! Ports that stay the same over a restart, or are refused for a while and come back. They lie below those that the kernel gives to
//! outgoing connections, so that none of these takes a port while nobody listens on it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below `net.ipv4.ip_local_port_range`, which begins at 32,768 unless somebody changed it, and above what services have.
const RANGE: std::ops::Range<u16> = 12_000..32_000;
/// More are never in use: then something else is wrong.
const TRIES: usize = 1_000;

/// A loopback address that nobody listens on.
pub fn free() -> SocketAddr {
    for _ in 0..TRIES {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(RANGE)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port of {RANGE:?} in {TRIES} tries");
}
