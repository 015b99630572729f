//! Transport-wide feedback to a publisher (draft-holmer-rmcat-transport-wide-cc-extensions-01): arrival times in,
//! feedback packets out.
//!
//! Reading such feedback and estimating bandwidth from it are not here.

use std::time::Instant;

use crate::{
    rtcp::{FORMAT_TWCC, TRANSPORT_FEEDBACK},
    seq::SeqExtender,
};

/// Packets remembered. At the usual interval of 50–100 ms that is a publisher of more than 100 Mbit/s; what is older when
/// feedback is made stays unreported.
const WINDOW: u64 = 1_024;
const WORDS: usize = (WINDOW / 64) as usize;
/// Ticks in a second and microseconds in a tick, the unit of the receive deltas.
const TICKS_PER_SEC: u64 = 4_000;
const TICK_MICROS: u32 = 250;
/// Ticks of one unit of the reference time, 64 ms.
const REFERENCE_TICKS: u32 = 256;
/// RTCP header, both SSRCs, base, status count, reference time and packet count.
const HEADER_LEN: usize = 20;
/// Packets that the shortest way of writing a chunk covers, unless it is the last.
const CHUNK_SYMBOLS: usize = 7;

/// Arrival times of one transport's packets since the last feedback.
#[derive(Clone, Debug)]
pub struct TwccRecorder {
    epoch: Instant,
    extender: SeqExtender,
    /// The next feedback starts here.
    base: u64,
    feedback_count: u8,
    /// Bit `seq % WINDOW`: arrived.
    arrived: [u64; WORDS],
    /// Arrival in ticks since the epoch, modulo 2^32 like the reference time (24 bits of 256 ticks); valid where `arrived`.
    ticks: [u32; WINDOW as usize],
}

impl TwccRecorder {
    /// A recorder whose reference time starts at `now`.
    pub const fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            extender: SeqExtender::new(),
            base: 0,
            feedback_count: 0,
            arrived: [0; WORDS],
            ticks: [0; WINDOW as usize],
        }
    }

    /// Notes that the packet with transport-wide number `seq` arrived at `now`. A packet overtaken by the last feedback makes
    /// the next one start at it, so that the publisher learns that it was not lost.
    #[inline]
    pub fn record(&mut self, seq: u16, now: Instant) {
        let before = self.extender.highest();
        let extended = self.extender.extend(seq);
        match before {
            None => self.base = extended,
            Some(highest) if extended > highest => self.advance(highest, extended),
            Some(highest) if highest - extended >= WINDOW || self.has_arrived(extended) => return,
            Some(_) => self.base = self.base.min(extended),
        }
        let (word, bit) = place(extended);
        self.arrived[word] |= bit;
        let elapsed = now.saturating_duration_since(self.epoch);
        let ticks = elapsed.as_secs() * TICKS_PER_SEC + u64::from(elapsed.subsec_micros() / TICK_MICROS);
        self.ticks[(extended % WINDOW) as usize] = ticks as u32;
    }

    /// Writes one feedback packet for what arrived since the last one and returns its length; `None` when there is
    /// nothing (more) to report. Call again until `None`: what does not fit into `buf`, or lies more than 8 s apart, goes into
    /// the next packet. `buf` should have 320 bytes at least: a shorter one may not hold the losses up to the next arrival.
    pub fn write_feedback(&mut self, sender_ssrc: u32, media_ssrc: u32, buf: &mut [u8]) -> Option<usize> {
        let mut statuses = Statuses::new(self, buf.len())?;
        let reference = statuses.reference;
        let mut at = HEADER_LEN;
        while let Some(chunk) = statuses.next_chunk() {
            buf[at..at + 2].copy_from_slice(&chunk.to_be_bytes());
            at += 2;
        }
        let mut last = reference.wrapping_mul(REFERENCE_TICKS);
        for (position, &symbol) in statuses.symbols[..statuses.count].iter().enumerate() {
            let ticks = self.ticks[((self.base + position as u64) % WINDOW) as usize];
            let delta = ticks.wrapping_sub(last);
            match symbol {
                Symbol::Lost => continue,
                Symbol::Small => buf[at] = delta as u8,
                Symbol::Large => buf[at..at + 2].copy_from_slice(&(delta as u16).to_be_bytes()),
            }
            at += symbol as usize;
            last = ticks;
        }
        let padding = at.next_multiple_of(4) - at;
        buf[at..at + padding].fill(0);
        at += padding;
        if padding != 0 {
            buf[at - 1] = padding as u8;
        }
        buf[0] = 0x80 | (u8::from(padding != 0) << 5) | FORMAT_TWCC;
        buf[1] = TRANSPORT_FEEDBACK;
        buf[2..4].copy_from_slice(&((at / 4 - 1) as u16).to_be_bytes());
        buf[4..8].copy_from_slice(&sender_ssrc.to_be_bytes());
        buf[8..12].copy_from_slice(&media_ssrc.to_be_bytes());
        buf[12..14].copy_from_slice(&(self.base as u16).to_be_bytes());
        buf[14..16].copy_from_slice(&(statuses.count as u16).to_be_bytes());
        buf[16..20].copy_from_slice(&((reference << 8) | u32::from(self.feedback_count)).to_be_bytes());
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.base += statuses.count as u64;
        Some(at)
    }

    /// Whether [`Self::write_feedback`] would write something.
    pub fn has_feedback(&self) -> bool {
        self.extender.highest().is_some_and(|highest| self.base <= highest)
    }

    /// Makes room for the numbers behind `highest` up to `newest`.
    #[inline]
    fn advance(&mut self, highest: u64, newest: u64) {
        let oldest = newest.saturating_sub(WINDOW - 1);
        for seq in oldest.max(highest + 1)..=newest {
            let (word, bit) = place(seq);
            self.arrived[word] &= !bit;
        }
        self.base = self.base.max(oldest);
    }

    #[inline]
    const fn has_arrived(&self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        self.arrived[word] & bit != 0
    }
}

#[inline]
const fn place(seq: u64) -> (usize, u64) {
    ((seq % WINDOW / 64) as usize, 1 << (seq % 64))
}

/// Status of a packet; the discriminants are those on the wire and the bytes of its delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Lost = 0,
    /// The delta is 0..=255 ticks.
    Small = 1,
    /// The delta is negative or larger.
    Large = 2,
}

/// The statuses that one feedback packet holds, and how far they have been written.
struct Statuses {
    symbols: [Symbol; WINDOW as usize],
    count: usize,
    written: usize,
    /// Arrival of the first packet in units of 64 ms, 24 bits.
    reference: u32,
}

impl Statuses {
    /// As many statuses from the base on as fit `room` bytes; `None` if that is no arrived packet.
    fn new(recorder: &TwccRecorder, room: usize) -> Option<Self> {
        let highest = recorder.extender.highest()?;
        let mut statuses = Self { symbols: [Symbol::Lost; WINDOW as usize], count: 0, written: 0, reference: 0 };
        let mut last = None;
        let mut deltas_len = 0;
        for seq in recorder.base..=highest {
            let position = (seq - recorder.base) as usize;
            if !recorder.has_arrived(seq) {
                continue;
            }
            let ticks = recorder.ticks[(seq % WINDOW) as usize];
            let since = last.unwrap_or(ticks / REFERENCE_TICKS * REFERENCE_TICKS);
            let symbol = match ticks.wrapping_sub(since) as i32 {
                0..=255 => Symbol::Small,
                -32_768..=32_767 => Symbol::Large,
                _ => break,
            };
            deltas_len += symbol as usize;
            let chunks_len = 2 * (position + 1).div_ceil(CHUNK_SYMBOLS);
            if (HEADER_LEN + chunks_len + deltas_len).next_multiple_of(4) > room {
                break;
            }
            if last.is_none() {
                statuses.reference = ticks / REFERENCE_TICKS;
            }
            last = Some(ticks);
            statuses.symbols[position] = symbol;
            statuses.count = position + 1;
        }
        (statuses.count > 0).then_some(statuses)
    }

    /// The next chunk in the shortest of the three forms; every one but the last covers at least [`CHUNK_SYMBOLS`].
    fn next_chunk(&mut self) -> Option<u16> {
        let rest = &self.symbols[self.written..self.count];
        let first = *rest.first()?;
        let run = rest.iter().take_while(|symbol| **symbol == first).count();
        let one_bit = &rest[..rest.len().min(2 * CHUNK_SYMBOLS)];
        let (chunk, covered) = if run >= 2 * CHUNK_SYMBOLS || run == rest.len() {
            // At most 1,024, so the 13 bits always do.
            ((first as u16) << 13 | run as u16, run)
        } else if one_bit.iter().all(|symbol| *symbol != Symbol::Large) {
            (0x8000 | vector(one_bit, 1), one_bit.len())
        } else if run >= CHUNK_SYMBOLS {
            ((first as u16) << 13 | run as u16, run)
        } else {
            let two_bit = &rest[..rest.len().min(CHUNK_SYMBOLS)];
            (0xc000 | vector(two_bit, 2), two_bit.len())
        };
        self.written += covered;
        Some(chunk)
    }
}

/// Symbols of `bits` each, the first one highest in the low 14 bits.
fn vector(symbols: &[Symbol], bits: u32) -> u16 {
    let packed = symbols.iter().fold(0, |packed, symbol| packed << bits | *symbol as u16);
    packed << (14 - bits * symbols.len() as u32)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rtc_rtcp::{
        packet::unmarshal,
        transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc},
    };

    use super::*;

    const TICK: Duration = Duration::from_micros(250);

    /// What another implementation reads: base, and the arrival of each packet in ticks since the recorder's epoch.
    fn decoded(packet: &[u8]) -> (u16, Vec<Option<i64>>) {
        let mut rest = packet;
        let packets = unmarshal(&mut rest).expect("the oracle reads it");
        let feedback = packets[0].as_any().downcast_ref::<TransportLayerCc>().expect("transport-wide feedback");
        assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (1, 2));
        let mut symbols: Vec<SymbolTypeTcc> = Vec::new();
        for chunk in &feedback.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(run) => {
                    symbols.extend(std::iter::repeat_n(run.packet_status_symbol, usize::from(run.run_length)));
                }
                PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
            }
        }
        let mut deltas = feedback.recv_deltas.iter();
        let mut at = i64::from(feedback.reference_time) * i64::from(REFERENCE_TICKS);
        let statuses = symbols[..usize::from(feedback.packet_status_count)].iter().map(|symbol| {
            (*symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                // The oracle gives microseconds.
                at += deltas.next().expect("a delta per received packet").delta / 250;
                at
            })
        });
        (feedback.base_sequence_number, statuses.collect())
    }

    fn feedback(recorder: &mut TwccRecorder) -> Option<(u16, Vec<Option<i64>>)> {
        let mut buf = [0xff; 1_200];
        let len = recorder.write_feedback(1, 2, &mut buf)?;
        assert_eq!(len % 4, 0);
        Some(decoded(&buf[..len]))
    }

    #[test]
    fn nothing_received_makes_no_feedback() {
        let mut recorder = TwccRecorder::new(Instant::now());
        assert!(!recorder.has_feedback());
        assert_eq!(feedback(&mut recorder), None);
    }

    #[test]
    fn arrivals_and_losses_are_told_once() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        for (seq, ticks) in [(65_534_u16, 300), (65_535, 301), (1, 700), (2, 690)] {
            recorder.record(seq, start + TICK * ticks);
        }
        assert!(recorder.has_feedback());
        let statuses = vec![Some(300), Some(301), None, Some(700), Some(690)];
        assert_eq!(feedback(&mut recorder), Some((65_534, statuses)));
        assert_eq!(feedback(&mut recorder), None);
        recorder.record(5, start + TICK * 800);
        assert_eq!(feedback(&mut recorder), Some((3, vec![None, None, Some(800)])));
    }

    #[test]
    fn a_packet_overtaken_by_the_feedback_is_told_after_all() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        for seq in [10, 12, 13] {
            recorder.record(seq, start);
        }
        assert_eq!(feedback(&mut recorder), Some((10, vec![Some(0), None, Some(0), Some(0)])));
        recorder.record(11, start + TICK);
        recorder.record(11, start + TICK * 9);
        assert_eq!(feedback(&mut recorder), Some((11, vec![Some(1), Some(0), Some(0)])));
        recorder.record(12, start + TICK * 9);
        assert!(!recorder.has_feedback(), "a duplicate is no news");
    }

    #[test]
    fn arrivals_too_far_apart_go_into_separate_packets() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        recorder.record(1, start);
        recorder.record(2, start + Duration::from_secs(10));
        assert_eq!(feedback(&mut recorder), Some((1, vec![Some(0)])));
        assert_eq!(feedback(&mut recorder), Some((2, vec![Some(40_000)])));
        assert_eq!(feedback(&mut recorder), None);
    }

    #[test]
    fn a_jump_costs_no_more_than_the_window() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        recorder.record(0, start);
        recorder.record(30_000, start + TICK);
        let (base, statuses) = feedback(&mut recorder).expect("a packet came");
        assert_eq!((base, statuses.len()), (30_000 - 1_023, 1_024));
        assert_eq!(statuses.iter().flatten().count(), 1);
    }

    #[test]
    fn the_reference_time_wraps_with_its_24_bits() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        recorder.record(1, start + TICK * u32::MAX);
        recorder.record(2, start + TICK * u32::MAX + TICK * 3);
        let statuses = vec![Some((1 << 32) - 1), Some((1 << 32) + 2)];
        assert_eq!(feedback(&mut recorder), Some((1, statuses)));
    }

    #[test]
    fn feedback_packets_are_counted() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        let mut buf = [0; 100];
        for seq in 0..300_u16 {
            recorder.record(seq, start);
            assert_eq!(recorder.write_feedback(1, 2, &mut buf), Some(24));
            assert_eq!(buf[19], seq as u8);
        }
    }

    #[test]
    fn a_buffer_too_short_for_one_packet_is_left_alone() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::new(start);
        recorder.record(1, start);
        assert_eq!(recorder.write_feedback(1, 2, &mut [0; 23]), None);
        assert!(recorder.has_feedback());
        assert_eq!(recorder.write_feedback(1, 2, &mut [0; 24]), Some(24));
    }

    proptest! {
        /// Everything that arrived is told with its time to the tick, in packets of any size, and nothing else is.
        #[test]
        fn feedback_tells_exactly_what_arrived(
            first in any::<u16>(),
            steps in prop::collection::vec((1_u16..30, 0_u32..2_000), 1..120),
            dense in prop::collection::vec((1_u16..3, 0_u32..12), 0..300),
            room in 24_usize..1_200,
        ) {
            let start = Instant::now();
            let mut recorder = TwccRecorder::new(start);
            let (mut seq, mut ticks) = (first, 0);
            let mut sent = Vec::new();
            for (step, wait) in dense.into_iter().chain(steps) {
                (seq, ticks) = (seq.wrapping_add(step), ticks + wait);
                sent.push((seq, i64::from(ticks)));
            }
            let mut told = Vec::new();
            let mut expected_base = None;
            let mut buf = vec![0; room];
            // Told in groups, as a timer would; fewer numbers per group than the window holds.
            for group in sent.chunks(30) {
                for (seq, ticks) in group {
                    recorder.record(*seq, start + TICK * *ticks as u32);
                }
                while let Some(len) = recorder.write_feedback(1, 2, &mut buf) {
                    let (base, statuses) = decoded(&buf[..len]);
                    prop_assert!(expected_base.is_none_or(|expected| expected == base));
                    expected_base = Some(base.wrapping_add(statuses.len() as u16));
                    for (position, arrived) in statuses.into_iter().enumerate() {
                        told.extend(arrived.map(|ticks| (base.wrapping_add(position as u16), ticks)));
                    }
                }
                if recorder.has_feedback() {
                    // Only a buffer too short for the losses up to the next arrival leaves something untold.
                    prop_assert!(room < HEADER_LEN + 2 * 30_usize.div_ceil(CHUNK_SYMBOLS) + 4);
                    return Ok(());
                }
            }
            prop_assert_eq!(told, sent);
        }
    }
}
