//! Which addresses media comes in on, and which of them clients are told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::{MediaConfig, MediaIp};
use crate::udp::MediaSocket;

/// The node's addresses, without ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaAddresses {
    /// What the sockets are bound to: the one address there is, or all of the host.
    bind: IpAddr,
    /// The addresses of this host that media is expected on.
    local: Vec<IpAddr>,
    /// What clients are told, best first.
    told: Vec<IpAddr>,
}

/// Why media cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A socket could not be bound.
    #[error("UDP {address}: {error}{}", advice(error))]
    Bind {
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Clients would be told an address that no socket answers for.
    #[error("media.public_ip {0}: media.ip has no address of its family (IPv4 or IPv6)")]
    Family(IpAddr),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has this port: end it, or set another media port)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has the address: set another media address)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges: set another media port)",
        _ => "",
    }
}

impl MediaAddresses {
    /// Finds out what `auto` stands for.
    pub(crate) fn of(config: &MediaConfig) -> Self {
        Self::resolve(config, default_route)
    }

    fn resolve(config: &MediaConfig, default_route: impl Fn() -> Vec<IpAddr>) -> Self {
        let mut ips = Vec::new();
        for ip in &config.ip {
            match ip {
                MediaIp::Address(ip) => ips.push(*ip),
                // Loopback last: it is for browsers on this machine only.
                MediaIp::Auto => ips.extend(default_route().into_iter().chain([Ipv4Addr::LOCALHOST.into()])),
            }
        }
        let mut seen = Vec::new();
        ips.retain(|ip| {
            !seen.contains(ip) && {
                seen.push(*ip);
                true
            }
        });
        let bind = match ips[..] {
            [only] => only,
            _ if ips.iter().all(IpAddr::is_ipv4) => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        };
        let told = if config.public_ip.is_empty() { ips.clone() } else { config.public_ip.clone() };
        Self { bind, local: ips, told }
    }

    /// Whether clients can reach what they are told. Sockets bound to all addresses would not notice one that is not this
    /// host's.
    fn check(&self) -> Result<(), MediaError> {
        for ip in &self.local {
            let address = SocketAddr::new(*ip, 0);
            UdpSocket::bind(address).map_err(|error| MediaError::Bind { address, error })?;
        }
        let unserved = |told: &&IpAddr| !self.local.iter().any(|local| local.is_ipv4() == told.is_ipv4());
        self.told.iter().find(unserved).map_or(Ok(()), |ip| Err(MediaError::Family(*ip)))
    }

    /// A socket per shard.
    pub(crate) fn sockets(&self, config: &MediaConfig) -> Result<Vec<MediaSocket>, MediaError> {
        self.check()?;
        (0..config.shard_count())
            .map(|shard| {
                let port = if config.first_port == 0 { 0 } else { config.first_port + shard as u16 };
                let address = SocketAddr::new(self.bind, port);
                MediaSocket::bind(address).map_err(|error| MediaError::Bind { address, error })
            })
            .collect()
    }

    /// What clients of a shard with this port are told.
    pub(crate) fn candidates(&self, port: u16) -> Vec<SocketAddr> {
        self.told.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
    }
}

/// The addresses that packets to the rest of the world leave from. Connecting a UDP socket asks the routing table and sends
/// nothing; the destinations are addresses for documentation (RFC 5737, RFC 3849).
fn default_route() -> Vec<IpAddr> {
    let routes = [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))),
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
    ];
    let source = |(any, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    routes.into_iter().filter_map(source).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(ip: &[&str], public: &[&str], route: &[&str]) -> MediaAddresses {
        let ips = |all: &[&str]| all.iter().map(|ip| ip.parse().expect("an address")).collect::<Vec<IpAddr>>();
        let config = MediaConfig {
            ip: ip.iter().map(|ip| ip.parse().expect("valid")).collect(),
            public_ip: ips(public),
            ..MediaConfig::default()
        };
        MediaAddresses::resolve(&config, || ips(route))
    }

    fn told(addresses: &MediaAddresses) -> Vec<String> {
        addresses.told.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn auto_is_the_default_route_and_loopback() {
        let addresses = resolve(&["auto"], &[], &["10.0.0.5"]);
        assert_eq!(told(&addresses), ["10.0.0.5", "127.0.0.1"]);
        assert_eq!(addresses.bind, Ipv4Addr::UNSPECIFIED);
        let addresses = resolve(&["auto"], &[], &["10.0.0.5", "2001:db8::5"]);
        assert_eq!(told(&addresses), ["10.0.0.5", "2001:db8::5", "127.0.0.1"]);
        assert_eq!(addresses.bind, Ipv6Addr::UNSPECIFIED);
    }

    #[test]
    fn without_a_default_route_auto_is_loopback_alone() {
        let addresses = resolve(&["auto"], &[], &[]);
        assert_eq!((told(&addresses), addresses.bind), (vec!["127.0.0.1".to_owned()], Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn one_address_is_bound_to_and_nothing_else_is() {
        let addresses = resolve(&["127.0.0.1", "127.0.0.1"], &[], &["10.0.0.5"]);
        assert_eq!((told(&addresses), addresses.bind), (vec!["127.0.0.1".to_owned()], Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn behind_nat_clients_are_told_the_public_address() {
        let addresses = resolve(&["10.0.0.5"], &["192.0.2.7"], &[]);
        assert_eq!(addresses.candidates(40_000), ["192.0.2.7:40000".parse().expect("an address")]);
        assert_eq!(addresses.bind, Ipv4Addr::new(10, 0, 0, 5));
    }

    #[test]
    fn an_address_that_clients_could_not_reach_is_refused() {
        let refused = |ip: &[&str], public: &[&str]| {
            let config = MediaConfig { first_port: 0, shards: Some(1), ..MediaConfig::default() };
            resolve(ip, public, &[]).sockets(&config).err().map(|error| error.to_string()).unwrap_or_default()
        };
        // An address for documentation (RFC 5737): no host has it.
        let error = refused(&["127.0.0.1", "192.0.2.9"], &[]);
        assert!(error.starts_with("UDP 192.0.2.9:0: ") && error.contains("another media address"), "{error}");
        assert!(refused(&["127.0.0.1"], &["2001:db8::1"]).starts_with("media.public_ip 2001:db8::1: "));
        assert_eq!(refused(&["127.0.0.1", "127.0.0.2"], &["192.0.2.9"]), "");
    }

    #[test]
    fn shards_have_consecutive_ports_and_a_taken_one_is_named() {
        let holder = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let taken = holder.local_addr().expect("bound");
        let ip = vec![MediaIp::Address(Ipv4Addr::LOCALHOST.into())];
        let config = MediaConfig { ip, first_port: taken.port(), shards: Some(1), ..MediaConfig::default() };
        let error = MediaAddresses::of(&config).sockets(&config).err().expect("taken").to_string();
        assert!(error.starts_with(&format!("UDP {taken}: ")) && error.contains("another media port"), "{error}");
        let config = MediaConfig { first_port: 0, shards: Some(3), ..config };
        let sockets = MediaAddresses::of(&config).sockets(&config).expect("free ports");
        assert_eq!(sockets.len(), 3);
    }
}
