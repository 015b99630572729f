//! Whether the kernel is asked to cut runs into datagrams (`UDP_SEGMENT`).

use std::net::IpAddr;

/// Refusals in a row after which it is not asked any more. Each has cost a system call.
const REFUSALS: u32 = 16;

/// Runs that are then cut here before it is asked again: routes and devices change.
const CUT_BEFORE_RETRY: u32 = 10_000;

/// `EIO` is about a route: its device cannot checksum, or a policy (`IPsec`) is in the way. Only when every run to several
/// addresses is refused are others expected to be as well.
#[derive(Debug, Default)]
pub(super) struct Offload {
    /// Since a run was last taken.
    refusals: u32,
    /// Where the first of them was to, and whether some were to others.
    first: Option<IpAddr>,
    several: bool,
    /// Runs still to be cut here.
    to_cut: u32,
    told: bool,
}

impl Offload {
    /// Whether a run may be given to the kernel whole.
    pub(super) fn is_on(&self) -> bool {
        self.to_cut == 0
    }

    /// The kernel has taken a run.
    pub(super) fn accepted(&mut self) {
        (self.refusals, self.first, self.several) = (0, None, false);
    }

    /// It has refused to cut one for this address.
    pub(super) fn refused(&mut self, to: IpAddr) {
        self.refusals += 1;
        self.several |= *self.first.get_or_insert(to) != to;
        if self.several && self.refusals >= REFUSALS {
            self.accepted();
            self.to_cut = CUT_BEFORE_RETRY;
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!("no network device takes segmentation offload: sending costs more");
            }
        }
    }

    /// A run is cut here because it is off.
    pub(super) fn cut(&mut self) {
        self.to_cut -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_address_alone_does_not_turn_it_off() {
        let mut offload = Offload::default();
        (0..1_000).for_each(|_| offload.refused(address(1)));
        assert!(offload.is_on());
        offload.accepted();
        for number in 0..1_000 {
            offload.refused(address(number as u8 % 2));
            if number % 10 == 0 {
                offload.accepted();
            }
        }
        assert!(offload.is_on(), "others take runs in between");
    }

    #[test]
    fn refused_by_all_it_is_off_for_a_while() {
        let mut offload = Offload::default();
        (0..REFUSALS).for_each(|number| offload.refused(address(number as u8)));
        assert!(!offload.is_on());
        (0..CUT_BEFORE_RETRY).for_each(|_| offload.cut());
        assert!(offload.is_on(), "routes and devices change");
    }
}
