//! RTCP as the peer writes and reads it (RFC 3550, RFC 4585, RFC 5104). Apart from the node's own, for the same reason as
//! [`super::stun`]. Reading is lenient: what the peer has no use for is passed over.

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const FORMAT_NACK: u8 = 1;
const FORMAT_TWCC: u8 = 15;
const FORMAT_PLI: u8 = 1;
const FORMAT_FIR: u8 = 4;

/// What a sender report says about its own source (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The source.
    pub ssrc: u32,
    /// Wall clock of the sender, 32.32 fixed point.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// What a receiver says about one source (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Share of packets lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning.
    pub lost: i32,
    /// Highest sequence number with its cycles.
    pub highest: u32,
    /// Jitter in RTP time.
    pub jitter: u32,
    /// Middle of the last sender report's NTP time.
    pub last_report: u32,
    /// Time since then in 1/65536 s.
    pub delay: u32,
}

/// What transport-wide feedback says (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportFeedback {
    /// Transport-wide number of the first packet that it speaks of.
    pub first: u16,
    /// For this packet and those that follow: the arrival, in units of 250 µs on a clock of the reporter's; `None` if there was
    /// none so far.
    pub arrivals: Vec<Option<i64>>,
}

/// One thing that a compound packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A sender report's own part.
    SenderReport(SenderReport),
    /// A report block of a sender or receiver report.
    Report(ReportBlock),
    /// Packets asked for again.
    Nack(u32, Vec<u16>),
    /// A keyframe is asked for.
    KeyframeRequest(u32),
    /// Arrivals of packets with transport-wide numbers.
    TransportFeedback(TransportFeedback),
    /// A source says goodbye.
    Goodbye(u32),
}

/// Reads a decrypted compound packet.
pub fn read(mut packet: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(&[flags, kind, l0, l1]) = packet.first_chunk::<4>() {
        let len = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let Some((this, rest)) = packet.split_at_checked(len) else { break };
        if flags >> 6 == 2 {
            read_one(flags & 31, kind, this, &mut items);
        }
        packet = rest;
    }
    items
}

fn read_one(count: u8, kind: u8, packet: &[u8], items: &mut Vec<Item>) {
    let word =
        |index: usize| packet.get(4 * index..).and_then(|p| p.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
    match (kind, count) {
        (SENDER_REPORT, _) if packet.len() >= 28 => {
            let ntp = u64::from(word(2)) << 32 | u64::from(word(3));
            items.push(Item::SenderReport(SenderReport {
                ssrc: word(1),
                ntp,
                rtp: word(4),
                packets: word(5),
                octets: word(6),
            }));
            read_blocks(&packet[28..], count, items);
        }
        (RECEIVER_REPORT, _) if packet.len() >= 8 => read_blocks(&packet[8..], count, items),
        (GOODBYE, 1..) => items.push(Item::Goodbye(word(1))),
        (TRANSPORT_FEEDBACK, FORMAT_NACK) => {
            let lost = packet.get(12..).unwrap_or_default().as_chunks::<4>().0.iter().flat_map(|&[p0, p1, m0, m1]| {
                let (first, mask) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([m0, m1]));
                let followers =
                    (0..16).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit + 1));
                std::iter::once(first).chain(followers)
            });
            items.push(Item::Nack(word(2), lost.collect()));
        }
        (TRANSPORT_FEEDBACK, FORMAT_TWCC) => items.extend(read_transport_feedback(packet).map(Item::TransportFeedback)),
        (PAYLOAD_FEEDBACK, FORMAT_PLI) => items.push(Item::KeyframeRequest(word(2))),
        (PAYLOAD_FEEDBACK, FORMAT_FIR) => items.push(Item::KeyframeRequest(word(3))),
        _ => {}
    }
}

/// `None` if it ends before what it announces.
fn read_transport_feedback(packet: &[u8]) -> Option<TransportFeedback> {
    let (head, mut rest) = packet.split_first_chunk::<20>()?;
    let count = usize::from(u16::from_be_bytes([head[14], head[15]]));
    // How many bytes each packet's arrival takes, which is also how its status is written.
    let mut sizes: Vec<u8> = Vec::new();
    while sizes.len() < count {
        let (chunk, behind) = rest.split_first_chunk::<2>()?;
        rest = behind;
        let chunk = u16::from_be_bytes(*chunk);
        match chunk >> 14 {
            0b10 => sizes.extend((0..14).rev().map(|at| (chunk >> at & 1) as u8)),
            0b11 => sizes.extend((0..7).rev().map(|at| (chunk >> (2 * at) & 3) as u8)),
            _ => sizes.extend(std::iter::repeat_n((chunk >> 13 & 3) as u8, usize::from(chunk & 0x1FFF))),
        }
    }
    // 24 bits with a sign, in units of 64 ms.
    let mut at = i64::from(i32::from_be_bytes([head[16], head[17], head[18], 0]) >> 8) * 256;
    let mut arrivals = Vec::with_capacity(count);
    for size in &sizes[..count] {
        let step = match size {
            0 => {
                arrivals.push(None);
                continue;
            }
            1 => i64::from(*rest.split_off_first()?),
            _ => i64::from(i16::from_be_bytes([*rest.split_off_first()?, *rest.split_off_first()?])),
        };
        at += step;
        arrivals.push(Some(at));
    }
    Some(TransportFeedback { first: u16::from_be_bytes([head[12], head[13]]), arrivals })
}

fn read_blocks(blocks: &[u8], count: u8, items: &mut Vec<Item>) {
    for block in blocks.as_chunks::<24>().0.iter().take(count.into()) {
        let word = |index: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| block[4 * index + byte]));
        items.push(Item::Report(ReportBlock {
            ssrc: word(0),
            fraction_lost: block[4],
            lost: (word(1) << 8) as i32 >> 8,
            highest: word(2),
            jitter: word(3),
            last_report: word(4),
            delay: word(5),
        }));
    }
}

/// A receiver report with a source description, or a sender report if there is one to make.
pub fn report(own_ssrc: u32, sender: Option<SenderReport>, blocks: &[ReportBlock], cname: &str) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(31)];
    let mut packet = Vec::with_capacity(256);
    if let Some(report) = sender {
        header(&mut packet, blocks.len() as u8, SENDER_REPORT, 24 + 24 * blocks.len());
        words(
            &mut packet,
            &[report.ssrc, (report.ntp >> 32) as u32, report.ntp as u32, report.rtp, report.packets, report.octets],
        );
    } else {
        header(&mut packet, blocks.len() as u8, RECEIVER_REPORT, 4 + 24 * blocks.len());
        words(&mut packet, &[own_ssrc]);
    }
    for block in blocks {
        let lost = u32::from(block.fraction_lost) << 24 | (block.lost as u32 & 0x00FF_FFFF);
        words(&mut packet, &[block.ssrc, lost, block.highest, block.jitter, block.last_report, block.delay]);
    }
    // One chunk: SSRC, CNAME item, and at least one zero that ends the list (RFC 3550, section 6.5).
    let chunk = (4 + 2 + cname.len() + 1).next_multiple_of(4);
    header(&mut packet, 1, SOURCE_DESCRIPTION, chunk);
    let end = packet.len() + chunk;
    words(&mut packet, &[sender.map_or(own_ssrc, |report| report.ssrc)]);
    packet.extend_from_slice(&[1, cname.len() as u8]);
    packet.extend_from_slice(cname.as_bytes());
    packet.resize(end, 0);
    packet
}

/// Asks for packets again (RFC 4585, section 6.2.1); `lost` in ascending order.
pub fn nack(own_ssrc: u32, media_ssrc: u32, lost: &[u16]) -> Vec<u8> {
    let mut pairs: Vec<(u16, u16)> = Vec::new();
    for &seq in lost {
        match pairs.last_mut() {
            Some((first, mask)) if (1..=16).contains(&seq.wrapping_sub(*first)) => {
                *mask |= 1 << (seq.wrapping_sub(*first) - 1);
            }
            _ => pairs.push((seq, 0)),
        }
    }
    let mut packet = Vec::with_capacity(12 + 4 * pairs.len());
    header(&mut packet, FORMAT_NACK, TRANSPORT_FEEDBACK, 8 + 4 * pairs.len());
    words(&mut packet, &[own_ssrc, media_ssrc]);
    for (first, mask) in pairs {
        words(&mut packet, &[u32::from(first) << 16 | u32::from(mask)]);
    }
    packet
}

/// Asks for a keyframe (RFC 4585, section 6.3.1).
pub fn picture_loss(own_ssrc: u32, media_ssrc: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(12);
    header(&mut packet, FORMAT_PLI, PAYLOAD_FEEDBACK, 8);
    words(&mut packet, &[own_ssrc, media_ssrc]);
    packet
}

/// Asks for a keyframe by the other message for it, the `number`th time (RFC 5104, section 4.3.1).
pub fn full_intra(own_ssrc: u32, media_ssrc: u32, number: u8) -> Vec<u8> {
    let mut packet = Vec::with_capacity(20);
    header(&mut packet, FORMAT_FIR, PAYLOAD_FEEDBACK, 16);
    // The head's media source is unused; the entry names it.
    words(&mut packet, &[own_ssrc, 0, media_ssrc, u32::from(number) << 24]);
    packet
}

fn header(packet: &mut Vec<u8>, count: u8, kind: u8, body_len: usize) {
    packet.extend_from_slice(&[0x80 | count, kind]);
    packet.extend_from_slice(&((body_len / 4) as u16).to_be_bytes());
}

fn words(packet: &mut Vec<u8>, words: &[u32]) {
    packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let sender = SenderReport { ssrc: 7, ntp: 0x0102_0304_0506_0708, rtp: 9, packets: 10, octets: 11 };
        let block =
            ReportBlock { ssrc: 1, fraction_lost: 2, lost: -3, highest: 4, jitter: 5, last_report: 6, delay: 7 };
        let mut packet = report(7, Some(sender), &[block, block], "me");
        packet.extend(nack(7, 8, &[65_534, 1, 14, 15]));
        packet.extend(picture_loss(7, 8));
        packet.extend(full_intra(7, 9, 1));
        let expected = [
            Item::SenderReport(sender),
            Item::Report(block),
            Item::Report(block),
            Item::Nack(8, vec![65_534, 1, 14, 15]),
            Item::KeyframeRequest(8),
            Item::KeyframeRequest(9),
        ];
        assert_eq!(read(&packet), expected);
    }

    #[test]
    fn a_cut_packet_yields_its_whole_parts() {
        let mut packet = picture_loss(7, 8);
        packet.extend(&report(7, None, &[ReportBlock::default()], "someone")[..20]);
        assert_eq!(read(&packet), [Item::KeyframeRequest(8)]);
    }

    #[test]
    fn arrivals_are_read_from_every_form_of_chunk() {
        let packet = [
            [0xAF, 205, 0, 9].as_slice(),
            &[0, 0, 0, 1, 0, 0, 0, 2],
            // The numbers 65,534 to 22; the clock began 64 ms ago.
            &[0xFF, 0xFE, 0, 25, 0xFF, 0xFF, 0xFF, 7],
            // Two arrivals in a run, then by one bit each: one lost, one there, twelve lost; then by two bits each.
            &[0b0010_0000, 2, 0b1001_0000, 0, 0b1100_1010, 0, 0b0000_0000, 2],
            &[255, 1, 4, 0xFF, 0xF6, 0x7F, 0xFF, 0, 0, 0, 0, 5],
        ]
        .concat();
        let mut arrivals = vec![None; 25];
        for (position, at) in [(0, -1), (1, 0), (3, 4), (17, -6), (18, 32_761)] {
            arrivals[position] = Some(at);
        }
        assert_eq!(read(&packet), [Item::TransportFeedback(TransportFeedback { first: 65_534, arrivals })]);
        assert_eq!(read(&[&[0x8F, 205, 0, 4], &packet[4..20]].concat()), [], "ends before its chunks");
    }
}
