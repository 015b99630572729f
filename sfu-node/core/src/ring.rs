//! The last packets of one published track, in the clear, for fan-out and retransmission.
//!
//! A packet is written once, by the shard that received it, and is immutable afterwards: sibling shards keep references to the same
//! memory in rings of their own. Memory comes back when the last reference goes, so a running ring allocates nothing.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use crate::vp8::Vp8Descriptor;

/// The most bytes of RTP payload that are forwarded. Browsers send datagrams of up to 1,214 bytes; a full Ethernet frame fits.
pub(crate) const MAX_PAYLOAD: usize = 1_440;

/// A received media packet, decrypted.
#[derive(Debug)]
pub struct Packet {
    /// Position in the track: sequence number with rollover counter, continuous over changes of the publisher's SSRC.
    pub index: u64,
    /// RTP timestamp as received.
    pub timestamp: u32,
    /// Counts changes of the publisher's SSRC: timestamps and picture ids of different sources are unrelated.
    pub source: u32,
    /// Marker bit: the last packet of a video frame.
    pub marker: bool,
    /// This packet begins a keyframe.
    pub keyframe: bool,
    /// Audio level as received (RFC 6464), one byte.
    pub audio_level: Option<u8>,
    /// VP8 payload descriptor.
    pub vp8: Option<Vp8Descriptor>,
    /// When it came here. `None`: it has not, this place of a ring is not used yet.
    pub arrived: Option<Instant>,
    len: u16,
    payload: [u8; MAX_PAYLOAD],
}

impl Packet {
    fn empty() -> Self {
        Self {
            index: 0,
            timestamp: 0,
            source: 0,
            marker: false,
            keyframe: false,
            audio_level: None,
            vp8: None,
            arrived: None,
            len: 0,
            payload: [0; MAX_PAYLOAD],
        }
    }

    /// A packet that no network has brought: for tests and measurements of what shards lend packets to.
    pub fn new(fields: &PacketFields, payload: &[u8]) -> Option<Self> {
        let mut packet = Self::empty();
        (payload.len() <= MAX_PAYLOAD).then(|| packet.write(fields, payload))?;
        Some(packet)
    }

    fn write(&mut self, fields: &PacketFields, payload: &[u8]) {
        self.index = fields.index;
        self.timestamp = fields.timestamp;
        self.source = fields.source;
        self.marker = fields.marker;
        self.keyframe = fields.keyframe;
        self.audio_level = fields.audio_level;
        self.vp8 = fields.vp8;
        self.arrived = Some(fields.arrived);
        self.len = payload.len() as u16;
        self.payload[..payload.len()].copy_from_slice(payload);
    }

    /// RTP payload; empty for a packet of nothing but padding, which is not forwarded.
    pub fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.len)]
    }
}

/// What is known of a packet besides its payload; [`Packet`] says what each is.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are a packet's")]
pub struct PacketFields {
    pub index: u64,
    pub timestamp: u32,
    pub source: u32,
    pub marker: bool,
    pub keyframe: bool,
    pub audio_level: Option<u8>,
    pub vp8: Option<Vp8Descriptor>,
    pub arrived: Instant,
}

/// Packets by index, the newest `capacity` of them.
pub(crate) struct PacketRing {
    slots: Box<[Option<Arc<Packet>>]>,
    /// Packets that siblings may still hold, to be written again once they are free.
    lent: VecDeque<Arc<Packet>>,
    newest: Option<u64>,
}

/// Why a packet was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is there already.
    Duplicate,
    /// It is older than the ring reaches.
    TooOld,
    /// Its payload is longer than [`MAX_PAYLOAD`].
    TooLarge,
}

impl PacketRing {
    /// Lent packets kept for reuse. A sibling gives a packet back one ring length later, so few are ever out; beyond this bound,
    /// which only a stalled sibling reaches, memory goes back to the allocator instead.
    const MAX_LENT: usize = 256;
    /// Lent packets looked at for one that came back.
    const TRIES: usize = 2;

    /// A ring for `capacity` packets, a power of two. Memory for packets comes with the packets.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two(), "invariant: ring capacities are constants of this crate");
        Self { slots: vec![None; capacity].into_boxed_slice(), lent: VecDeque::new(), newest: None }
    }

    /// Packets it holds at most.
    pub(crate) const fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, index: u64) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    fn admit(&self, index: u64) -> Result<(), Refused> {
        match &self.slots[self.slot(index)] {
            Some(held) if held.index == index => Err(Refused::Duplicate),
            Some(held) if held.index > index => Err(Refused::TooOld),
            _ if self.newest.is_some_and(|newest| index + self.slots.len() as u64 <= newest) => Err(Refused::TooOld),
            _ => Ok(()),
        }
    }

    /// Copies a packet in.
    pub(crate) fn insert(&mut self, fields: &PacketFields, payload: &[u8]) -> Result<(), Refused> {
        self.admit(fields.index)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(Refused::TooLarge);
        }
        let slot = self.slot(fields.index);
        let mut packet = self.writable(slot);
        let free = Arc::get_mut(&mut packet).expect("invariant: `writable` returns the only reference");
        free.write(fields, payload);
        self.newest = self.newest.max(Some(fields.index));
        self.slots[slot] = Some(packet);
        Ok(())
    }

    /// Keeps a reference to a packet of a sibling.
    pub(crate) fn insert_shared(&mut self, packet: Arc<Packet>) -> Result<(), Refused> {
        self.admit(packet.index)?;
        self.newest = self.newest.max(Some(packet.index));
        let slot = self.slot(packet.index);
        self.slots[slot] = Some(packet);
        Ok(())
    }

    /// A packet with this index is neither here nor too old to be.
    pub(crate) fn would_take(&self, index: u64) -> bool {
        self.admit(index).is_ok()
    }

    /// The packet with this index, if it is still there.
    pub(crate) fn get(&self, index: u64) -> Option<&Arc<Packet>> {
        self.slots[self.slot(index)].as_ref().filter(|packet| packet.index == index)
    }

    /// The highest index so far.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// A packet that nobody else refers to: the slot's old one, one that came back from siblings, or a new one.
    fn writable(&mut self, slot: usize) -> Arc<Packet> {
        if let Some(mut old) = self.slots[slot].take() {
            if Arc::get_mut(&mut old).is_some() {
                return old;
            }
            if self.lent.len() < Self::MAX_LENT {
                self.lent.push_back(old);
            }
        }
        // A sibling that has missed the packet which takes this one's place keeps this one for another round of its ring. That must
        // not hold up those behind it.
        for _ in 0..Self::TRIES {
            let Some(mut returned) = self.lent.pop_front() else { break };
            if Arc::get_mut(&mut returned).is_some() {
                return returned;
            }
            self.lent.push_back(returned);
        }
        Arc::new(Packet::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(index: u64) -> PacketFields {
        PacketFields {
            index,
            timestamp: 1,
            source: 0,
            marker: false,
            keyframe: false,
            audio_level: None,
            vp8: None,
            arrived: Instant::now(),
        }
    }

    #[test]
    fn a_packet_is_kept_until_the_ring_has_gone_round() {
        let mut ring = PacketRing::new(4);
        for index in 10..14 {
            assert_eq!(ring.insert(&fields(index), &[index as u8]), Ok(()));
        }
        assert_eq!(ring.get(10).expect("still there").payload(), [10]);
        assert_eq!(ring.insert(&fields(14), &[14]), Ok(()));
        assert!(ring.get(10).is_none());
        assert_eq!(ring.newest(), Some(14));
    }

    #[test]
    fn duplicates_and_stragglers_and_giants_are_refused() {
        let mut ring = PacketRing::new(4);
        assert_eq!(ring.insert(&fields(10), &[]), Ok(()));
        assert_eq!(ring.insert(&fields(10), &[]), Err(Refused::Duplicate));
        assert_eq!(ring.insert(&fields(20), &[]), Ok(()));
        assert_eq!(ring.insert(&fields(16), &[]), Err(Refused::TooOld));
        assert_eq!(ring.insert(&fields(11), &[]), Err(Refused::TooOld));
        assert_eq!(ring.insert(&fields(17), &[]), Ok(()));
        assert_eq!(ring.insert(&fields(21), &[0; MAX_PAYLOAD + 1]), Err(Refused::TooLarge));
    }

    #[test]
    fn memory_lent_to_a_sibling_is_not_overwritten_and_is_used_again_when_it_comes_back() {
        let (mut owner, mut sibling) = (PacketRing::new(2), PacketRing::new(2));
        let mut addresses = std::collections::HashSet::new();
        for index in 0..1_000_u64 {
            owner.insert(&fields(index), &index.to_be_bytes()).expect("in order");
            let packet = owner.get(index).expect("just inserted");
            addresses.insert(Arc::as_ptr(packet));
            sibling.insert_shared(packet.clone()).expect("in order");
            let held = sibling.get(index.saturating_sub(1)).expect("the ring holds two");
            assert_eq!(held.payload(), index.saturating_sub(1).to_be_bytes());
        }
        assert!(addresses.len() <= 6, "{} packets for two rings of two", addresses.len());
    }

    #[test]
    fn packets_lost_between_shards_do_not_keep_memory_from_being_used_again() {
        let (mut owner, mut sibling) = (PacketRing::new(1_024), PacketRing::new(1_024));
        let mut addresses = std::collections::HashSet::new();
        for index in 0..10_000_u64 {
            owner.insert(&fields(index), &[]).expect("in order");
            let packet = owner.get(index).expect("just inserted");
            addresses.insert(Arc::as_ptr(packet));
            if index % 300 != 7 {
                sibling.insert_shared(packet.clone()).expect("in order");
            }
        }
        assert!(addresses.len() <= 1_024 + 64, "{} packets for two rings of 1,024", addresses.len());
    }
}
