//! How many connections there may be, in all and from one address, and how fast one address may open new ones. Asked before
//! an upgrade: who is refused gets HTTP 503 with `Retry-After`, on which clients back off. Asked also, each a gate of its own,
//! by `sockets`, without a rate; by `rtc_config`; and by `revocation_routes`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::rate::{Rate, TokenBucket};

/// How many addresses are remembered that have no connection open any more. Past it all of those are forgotten, which
/// only gives them their burst back.
const MAX_IDLE_ADDRESSES: usize = 65_536;

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateLimits {
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    /// New connections of one address; `None`: as they come.
    pub(crate) rate: Option<Rate>,
    /// And of all together.
    pub(crate) total_rate: Option<Rate>,
}

/// Why a connection is refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The edge has as many connections as it may.
    Full,
    /// The address has.
    AddressFull,
    /// The address opens connections too fast.
    TooFast { retry_after: Duration },
    /// All together do.
    EdgeTooFast { retry_after: Duration },
}

impl Refusal {
    /// When it is worth another try, where that is known.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Full | Self::AddressFull => None,
            Self::TooFast { retry_after } | Self::EdgeTooFast { retry_after } => Some(retry_after),
        }
    }
}

/// Counts connections.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    limits: GateLimits,
    /// New connections of all; full when first asked for.
    total: Option<TokenBucket>,
    open: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    open: usize,
    bucket: Option<TokenBucket>,
}

/// A connection's place; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Gate,
    address: Option<IpAddr>,
}

impl Gate {
    pub(crate) fn new(limits: GateLimits) -> Self {
        Self { state: Arc::new(Mutex::new(State { limits, total: None, open: 0, addresses: HashMap::new() })) }
    }

    /// Takes a place for a connection from `address`; `None`: from no address that has limits.
    pub(crate) fn enter(&self, address: Option<IpAddr>, now: Instant) -> Result<Place, Refusal> {
        let address = address.map(subscriber);
        self.lock().enter(address, now)?;
        Ok(Place { gate: self.clone(), address })
    }

    /// How many places are taken.
    pub(crate) fn open(&self) -> usize {
        self.lock().open
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Counters stay usable whatever a panicking holder did: each change is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, address: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
        if self.open >= self.limits.connections {
            return Err(Refusal::Full);
        }
        if let Some(address) = address {
            self.check(address, now)?;
        }
        // Last, so that an address that comes too fast takes nothing of what the others have.
        if let Some(rate) = self.limits.total_rate {
            let total = self.total.get_or_insert_with(|| TokenBucket::new(rate, now));
            total.take(1, now).map_err(|retry_after| Refusal::EdgeTooFast { retry_after })?;
        }
        self.open += 1;
        if let Some(known) = address.and_then(|address| self.addresses.get_mut(&address)) {
            known.open += 1;
        }
        Ok(())
    }

    fn check(&mut self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        if self.addresses.len() >= self.open + MAX_IDLE_ADDRESSES {
            self.addresses.retain(|_, known| known.open > 0);
        }
        let bucket = || self.limits.rate.map(|rate| TokenBucket::new(rate, now));
        let known = self.addresses.entry(address).or_insert_with(|| Address { open: 0, bucket: bucket() });
        if known.open >= self.limits.per_address {
            return Err(Refusal::AddressFull);
        }
        if let Some(bucket) = &mut known.bucket {
            bucket.take(1, now).map_err(|retry_after| Refusal::TooFast { retry_after })?;
        }
        Ok(())
    }

    fn leave(&mut self, address: Option<IpAddr>) {
        self.open = self.open.saturating_sub(1);
        let Some(address) = address else { return };
        let Some(known) = self.addresses.get_mut(&address) else { return };
        known.open = known.open.saturating_sub(1);
        // How fast it came is to be remembered; that it came is not.
        if known.open == 0 && known.bucket.is_none() {
            self.addresses.remove(&address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().leave(self.address);
    }
}

/// Who an address stands for: one IPv4 address, or an IPv6 /64, which is the least a subscriber is given (RFC 6177).
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(connections: usize, per_address: usize, burst: u32) -> Gate {
        Gate::new(GateLimits { connections, per_address, rate: Some(Rate::new(1, burst)), total_rate: None })
    }

    fn from(gate: &Gate, address: &str, now: Instant) -> Result<Place, Refusal> {
        gate.enter(Some(address.parse().expect("an address")), now)
    }

    #[test]
    fn a_place_is_given_back_when_dropped() {
        let (gate, now) = (gate(1, 1, 10), Instant::now());
        let place = from(&gate, "10.0.0.1", now).expect("room");
        assert_eq!(from(&gate, "10.0.0.2", now).err(), Some(Refusal::Full));
        drop(place);
        assert_eq!(gate.open(), 0);
        assert!(from(&gate, "10.0.0.2", now).is_ok());
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let (gate, now) = (gate(10, 2, 10), Instant::now());
        let _held: Vec<Place> = (0..2).map(|_| from(&gate, "10.0.0.1", now).expect("room")).collect();
        assert_eq!(from(&gate, "10.0.0.1", now).err(), Some(Refusal::AddressFull));
        assert_eq!(from(&gate, "::ffff:10.0.0.1", now).err(), Some(Refusal::AddressFull));
        assert!(from(&gate, "10.0.0.2", now).is_ok());
    }

    #[test]
    fn reconnecting_too_fast_is_told_how_long_to_wait() {
        let (gate, now) = (gate(10, 10, 2), Instant::now());
        for _ in 0..2 {
            drop(from(&gate, "10.0.0.1", now).expect("burst"));
        }
        let retry_after = Duration::from_secs(1);
        assert_eq!(from(&gate, "10.0.0.1", now).err(), Some(Refusal::TooFast { retry_after }));
        assert!(from(&gate, "10.0.0.1", now + retry_after).is_ok());
    }

    #[test]
    fn all_together_come_no_faster_than_the_edge_takes_them_and_one_that_is_too_fast_costs_the_others_nothing() {
        let (rate, total_rate) = (Some(Rate::new(1, 2)), Some(Rate::new(10, 4)));
        let (gate, now) =
            (Gate::new(GateLimits { connections: 99, per_address: 99, rate, total_rate }), Instant::now());
        let burst: Vec<_> = (0..9).map(|_| from(&gate, "10.0.0.1", now).is_ok()).collect();
        assert_eq!(burst.iter().filter(|it| **it).count(), 2);
        assert!(from(&gate, "10.0.0.2", now).is_ok() && from(&gate, "10.0.0.3", now).is_ok());
        let retry_after = Duration::from_millis(100);
        assert_eq!(from(&gate, "10.0.0.4", now).err(), Some(Refusal::EdgeTooFast { retry_after }));
        assert!(from(&gate, "10.0.0.4", now + retry_after).is_ok());
        assert_eq!(gate.open(), 0, "none of them is held");
    }

    #[test]
    fn addresses_of_one_ipv6_subscriber_count_together() {
        let (gate, now) = (gate(10, 1, 10), Instant::now());
        let _held = from(&gate, "2001:db8::1", now).expect("room");
        assert_eq!(from(&gate, "2001:db8::2", now).err(), Some(Refusal::AddressFull));
        assert!(from(&gate, "2001:db8:0:1::1", now).is_ok());
    }

    #[test]
    fn connections_of_no_address_count_in_all_only() {
        let (gate, now) = (gate(3, 1, 1), Instant::now());
        let _held: Vec<Place> = (0..3).map(|_| gate.enter(None, now).expect("room")).collect();
        assert_eq!(gate.enter(None, now).err(), Some(Refusal::Full));
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let (gate, now) = (gate(10, 10, 10), Instant::now());
        for n in 0..(MAX_IDLE_ADDRESSES as u32 + 10) {
            drop(gate.enter(Some(IpAddr::V4(n.into())), now).expect("room"));
        }
        assert!(gate.lock().addresses.len() <= MAX_IDLE_ADDRESSES);
    }
}
