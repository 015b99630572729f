//! Both ends of what a datagram travels between.

use std::net::{IpAddr, SocketAddr};

/// A candidate pair (RFC 8445, section 4), as far as a lite agent has to tell pairs apart: the client's transport address, and which
/// of the node's own it talks to. Protocol and the node's port are the socket's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CandidatePair {
    /// The client's.
    pub remote: SocketAddr,
    /// The node's, where its socket has more than one: an answer has to leave from the address that was asked, or the client, and
    /// every NAT on the way, take it for a stranger's.
    pub local: Option<IpAddr>,
}

/// On a socket with one address.
impl From<SocketAddr> for CandidatePair {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}
