//! Memory for datagrams on their way in and out, allocated once per shard.
//!
//! A shell fills an [`RxBatch`] (one `recvmmsg`), hands it to the shard, and empties a [`TxBatch`] (one `sendmmsg`). Both are
//! plain memory: nothing here touches a socket.

use std::net::SocketAddr;

use crate::CandidatePair;

/// Buffers of one receive call. With generic receive offload one buffer holds several datagrams of one sender.
pub struct RxBatch {
    arena: Box<[u8]>,
    received: Vec<Received>,
}

/// What one buffer of an [`RxBatch`] holds.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Between which addresses they came.
    pub from: CandidatePair,
    /// Bytes received, all datagrams together.
    pub len: usize,
    /// Size of each datagram but the last, which may be shorter. Equal to `len` when there is only one.
    pub segment: usize,
}

impl RxBatch {
    /// Buffers per batch. More amortise the system call further but hold the first packet back longer.
    pub const BUFFERS: usize = 32;
    /// Bytes per buffer: the most that the kernel coalesces into one.
    pub const BUFFER_BYTES: usize = 65_536;

    /// Datagrams of one receive call at most: the kernel coalesces no more than it would segment.
    pub const DATAGRAMS: usize = Self::BUFFERS * Run::MAX_SEGMENTS;

    /// An empty batch with its memory.
    pub fn new() -> Self {
        Self {
            arena: vec![0; Self::BUFFERS * Self::BUFFER_BYTES].into_boxed_slice(),
            received: Vec::with_capacity(Self::BUFFERS),
        }
    }

    /// All buffers, each [`Self::BUFFER_BYTES`] long, for the receive call to fill in order.
    pub fn buffers(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.arena.chunks_exact_mut(Self::BUFFER_BYTES)
    }

    /// Records that the next buffer in order was filled. Lengths beyond the buffer are cut; more than
    /// [`Self::BUFFERS`] records are ignored.
    pub fn push_received(&mut self, received: Received) {
        if self.received.len() < Self::BUFFERS {
            let len = received.len.min(Self::BUFFER_BYTES);
            self.received.push(Received { len, segment: received.segment.clamp(1, len.max(1)), ..received });
        }
    }

    /// Copies one datagram into the next free buffer; for tests and simulations. False when the batch is full or the
    /// datagram does not fit.
    pub fn push_datagram(&mut self, from: impl Into<CandidatePair>, datagram: &[u8]) -> bool {
        let index = self.received.len();
        if index == Self::BUFFERS || datagram.len() > Self::BUFFER_BYTES {
            return false;
        }
        let start = index * Self::BUFFER_BYTES;
        self.arena[start..start + datagram.len()].copy_from_slice(datagram);
        self.push_received(Received { from: from.into(), len: datagram.len(), segment: datagram.len() });
        true
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// True when nothing was received.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Every datagram with where it came between, in the order of arrival, for tests and simulations.
    pub fn datagrams(&self) -> impl Iterator<Item = (CandidatePair, &[u8])> {
        self.received.iter().zip(self.arena.chunks_exact(Self::BUFFER_BYTES)).flat_map(|(received, buffer)| {
            buffer[..received.len].chunks(received.segment).map(|datagram| (received.from, datagram))
        })
    }

    /// Calls `f` with every datagram in the order of arrival.
    pub(crate) fn for_each(&mut self, mut f: impl FnMut(CandidatePair, &mut [u8])) {
        for (received, buffer) in self.received.iter().zip(self.arena.chunks_exact_mut(Self::BUFFER_BYTES)) {
            for datagram in buffer[..received.len].chunks_mut(received.segment) {
                f(received.from, datagram);
            }
        }
    }
}

impl Default for RxBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Datagrams to send, in runs to one address each.
pub struct TxBatch {
    arena: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
}

/// Consecutive datagrams between two addresses, all of `segment` bytes but the last, which may be shorter: one `sendmmsg` entry with
/// `UDP_SEGMENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where to, and from which address.
    pub to: CandidatePair,
    /// Where the run begins in [`TxBatch::bytes`].
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// Bytes per datagram.
    pub segment: usize,
}

impl Run {
    /// The kernel's limit of segments per message (`UDP_MAX_SEGMENTS` of older kernels).
    pub const MAX_SEGMENTS: usize = 64;
    /// The most bytes that one UDP message may carry over IPv4.
    pub const MAX_BYTES: usize = 65_507;

    /// A further datagram of `len` bytes may join the run.
    fn admits(&self, to: CandidatePair, len: usize) -> bool {
        self.to == to
            && len <= self.segment
            && self.len.is_multiple_of(self.segment)
            && self.len / self.segment < Self::MAX_SEGMENTS
            && self.len + len <= Self::MAX_BYTES
    }
}

impl TxBatch {
    /// Bytes per batch: small enough to stay in a core's second-level cache between sealing and sending, large enough for
    /// eight full runs a system call.
    pub const BYTES: usize = 512 * 1024;
    /// Room that must be left for one datagram.
    pub const DATAGRAM_BYTES: usize = 1_536;

    /// An empty batch with its memory.
    pub fn new() -> Self {
        Self { arena: vec![0; Self::BYTES].into_boxed_slice(), used: 0, runs: Vec::with_capacity(1_024) }
    }

    /// The runs to send, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of `run`.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        &self.arena[run.offset..run.offset + run.len]
    }

    /// Every datagram with its address, for tests and simulations.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.runs.iter().flat_map(|run| self.bytes(run).chunks(run.segment).map(|datagram| (run.to.remote, datagram)))
    }

    /// True when nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }

    /// `datagrams` more certainly fit.
    pub(crate) fn has_room_for(&self, datagrams: usize) -> bool {
        self.used + datagrams * Self::DATAGRAM_BYTES <= self.arena.len()
            && self.runs.len() + datagrams <= self.runs.capacity()
    }

    /// Appends a datagram that `write` puts into a buffer of [`Self::DATAGRAM_BYTES`], returning its length; 0 appends nothing.
    /// False when there was no room.
    pub(crate) fn append(&mut self, to: CandidatePair, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if !self.has_room_for(1) {
            return false;
        }
        let offset = self.used;
        let len = write(&mut self.arena[offset..offset + Self::DATAGRAM_BYTES]);
        if len == 0 {
            return true;
        }
        debug_assert!(len <= Self::DATAGRAM_BYTES);
        self.used += len;
        match self.runs.last_mut() {
            Some(run) if run.admits(to, len) => run.len += len,
            _ => self.runs.push(Run { to, offset, len, segment: len }),
        }
        true
    }
}

impl Default for TxBatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> CandidatePair {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn append(batch: &mut TxBatch, port: u16, len: usize) -> bool {
        batch.append(to(port), |buf| {
            buf[..len].fill(port as u8);
            len
        })
    }

    #[test]
    fn equal_datagrams_to_one_address_share_a_run_and_a_shorter_one_ends_it() {
        let mut batch = TxBatch::new();
        for len in [1_100, 1_100, 700, 1_100] {
            assert!(append(&mut batch, 1, len));
        }
        assert!(append(&mut batch, 2, 1_100));
        let runs: Vec<_> = batch.runs().iter().map(|r| (r.to.remote.port(), r.len, r.segment)).collect();
        assert_eq!(runs, [(1, 2_900, 1_100), (1, 1_100, 1_100), (2, 1_100, 1_100)]);
        assert_eq!(batch.datagrams().map(|(_, d)| d.len()).collect::<Vec<_>>(), [1_100, 1_100, 700, 1_100, 1_100]);
    }

    #[test]
    fn a_run_respects_the_limits_of_the_kernel() {
        let mut batch = TxBatch::new();
        while append(&mut batch, 1, 1_200) {}
        assert!(batch.runs().iter().all(|r| r.len <= Run::MAX_BYTES && r.len.div_ceil(r.segment) <= Run::MAX_SEGMENTS));
        let mut batch = TxBatch::new();
        for _ in 0..200 {
            append(&mut batch, 1, 100);
        }
        assert!(batch.runs().iter().all(|r| r.len.div_ceil(r.segment) <= Run::MAX_SEGMENTS));
    }

    #[test]
    fn a_coalesced_buffer_is_split_into_its_datagrams() {
        let mut batch = RxBatch::new();
        batch.buffers().next().expect("a batch has buffers")[..250].fill(7);
        batch.push_received(Received { from: to(1), len: 250, segment: 100 });
        assert!(batch.push_datagram(to(2), &[9; 10]));
        let mut seen = Vec::new();
        batch.for_each(|from, datagram| seen.push((from.remote.port(), datagram.len(), datagram[0])));
        assert_eq!(seen, [(1, 100, 7), (1, 100, 7), (1, 50, 7), (2, 10, 9)]);
    }
}
