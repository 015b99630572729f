//! Who a connection really comes from when trusted proxies stand in between.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A range of addresses, written `10.0.0.0/8` or as a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Not a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an address or range: write it like 10.0.0.1, 10.0.0.0/8 or fd00::/8")]
pub struct NotANetwork;

impl Network {
    /// Whether `address` is in the range; an IPv4 address written as IPv6 is taken as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same_prefix(ours.to_bits(), theirs.to_bits(), self.prefix),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same_prefix(ours.to_bits(), theirs.to_bits(), self.prefix),
            _ => false,
        }
    }
}

fn same_prefix<T>(a: T, b: T, prefix: u8) -> bool
where
    T: std::ops::BitXor<Output = T> + Into<u128> + Copy,
{
    let width = u32::try_from(size_of::<T>() * 8).unwrap_or(128);
    let differing: u128 = (a ^ b).into();
    // 128 - 0 would shift by the full width, hence the checked shift: a prefix of 0 compares nothing.
    differing.checked_shr(width - u32::from(prefix)).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), |prefix| prefix.parse().map_err(|_| NotANetwork))?;
        if prefix > width { Err(NotANetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The client's address: the socket's, or, as long as that is a trusted proxy, the next one back in `X-Forwarded-For`.
/// What untrusted parties wrote is never looked at.
pub(crate) fn client_address(socket: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let mut client = socket;
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        match hop_address(hop.trim()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Whether some proxy says that it passes on what somebody else asked.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// An address as proxies write it: some with the port, and then, or always, an IPv6 address in brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    hop.parse().ok().or_else(|| hop.parse().ok().map(|address: SocketAddr| address.ip())).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn from(socket: &str, forwarded: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().expect("a header value"));
        }
        client_address(address(socket), &headers, &[network("10.0.0.0/8"), network("fd00::1")])
    }

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        assert!(network("10.0.0.0/8").contains(address("10.255.0.1")));
        assert!(network("10.0.0.0/8").contains(address("::ffff:10.255.0.1")));
        assert!(!network("10.0.0.0/8").contains(address("11.0.0.1")));
        assert!(network("0.0.0.0/0").contains(address("8.8.8.8")) && !network("0.0.0.0/0").contains(address("::1")));
        assert!(network("::/0").contains(address("2001:db8::1")));
        assert!(
            network("10.1.2.3").contains(address("10.1.2.3")) && !network("10.1.2.3").contains(address("10.1.2.2"))
        );
        assert!(network("2001:db8::/33").contains(address("2001:db8:7fff::1")));
        assert!(!network("2001:db8::/33").contains(address("2001:db8:8000::1")));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/", "10.0.0.0/-1", "/8"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(from("8.8.8.8", &["1.1.1.1"]), address("8.8.8.8"));
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 1.1.1.1"]), address("1.1.1.1"));
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]), address("1.1.1.1"));
        assert_eq!(from("10.0.0.1", &["1.1.1.1", "fd00::1"]), address("1.1.1.1"));
        assert_eq!(from("10.0.0.1", &["1.1.1.1, nonsense"]), address("10.0.0.1"));
        assert_eq!(from("10.0.0.1", &[]), address("10.0.0.1"));
    }

    #[test]
    fn a_port_behind_an_address_is_not_part_of_it() {
        assert_eq!(from("10.0.0.1", &["1.1.1.1:5678"]), address("1.1.1.1"));
        assert_eq!(from("10.0.0.1", &["[2001:db8::1]:5678, 10.0.0.2:80"]), address("2001:db8::1"));
        assert_eq!(from("10.0.0.1", &["[2001:db8::1]"]), address("2001:db8::1"));
        assert_eq!(from("10.0.0.1", &["1.1.1.1:", "1.1.1.1:99999", "[1.1.1.1]"]), address("10.0.0.1"));
    }
}
