//! Ports that stay the same over a restart, or are refused for a while and come back.

use std::net::{Ipv4Addr, SocketAddr};

/// A loopback address that nobody listens on, and that nothing else here is given.
pub fn free() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, servers::free_port()))
}
