//! RTCP against another implementation, both ways, and against rubbish.

use proptest::prelude::*;
use rtc_rtcp::{
    goodbye::Goodbye,
    packet::{Packet, marshal, unmarshal},
    payload_feedbacks::{
        full_intra_request::{FirEntry, FullIntraRequest},
        picture_loss_indication::PictureLossIndication,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    source_description::{SdesType, SourceDescription},
    transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack, nack_pairs_from_sequence_numbers},
};

use super::*;

fn read(compound: &[u8]) -> Vec<RtcpItem<'_>> {
    items(compound).collect::<Result<_, _>>().expect("a well-formed compound")
}

/// What the other implementation reads, as its type `T`.
fn oracle_reads<T: Clone + 'static>(packet: &[u8]) -> T {
    let mut rest = packet;
    let packets = unmarshal(&mut rest).expect("the oracle reads it");
    packets[0].as_any().downcast_ref::<T>().expect("of the right type").clone()
}

fn oracle_writes(packet: impl Packet + 'static) -> Vec<u8> {
    marshal(&[Box::new(packet)]).expect("the oracle writes it").to_vec()
}

fn theirs(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc,
        fraction_lost: block.fraction_lost,
        total_lost: block.cumulative_lost as u32 & 0x00ff_ffff,
        last_sequence_number: block.highest_seq,
        jitter: block.jitter,
        last_sender_report: block.last_sr,
        delay: block.delay_since_last_sr,
    }
}

/// Writes into a buffer and returns the length.
type Writer<'a> = &'a dyn Fn(&mut [u8]) -> Option<usize>;

fn any_block() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), -(1_i32 << 23)..1 << 23).prop_map(|(words, fraction_lost, cumulative_lost)| {
        ReportBlock {
            ssrc: words[0],
            fraction_lost,
            cumulative_lost,
            highest_seq: words[1],
            jitter: words[2],
            last_sr: words[3],
            delay_since_last_sr: words[4],
        }
    })
}

proptest! {
    #[test]
    fn sender_reports_agree_with_another_implementation(
        ssrc in any::<u32>(),
        ntp in any::<u64>(),
        counts in any::<[u32; 3]>(),
        blocks in prop::collection::vec(any_block(), 0..=MAX_REPORT_BLOCKS),
    ) {
        let info =
            SenderInfo { ntp: NtpTime(ntp), rtp_timestamp: counts[0], packets: counts[1], octets: counts[2] };
        let mut buf = [0; 1_000];
        let len = write_sender_report(&mut buf, ssrc, &info, &blocks).expect("fits");
        let expected = SenderReport {
            ssrc,
            ntp_time: ntp,
            rtp_time: counts[0],
            packet_count: counts[1],
            octet_count: counts[2],
            reports: blocks.iter().map(theirs).collect(),
            ..SenderReport::default()
        };
        prop_assert_eq!(&oracle_reads::<SenderReport>(&buf[..len]), &expected);
        let bytes = oracle_writes(expected);
        prop_assert_eq!(&bytes, &buf[..len]);
        match &read(&bytes)[..] {
            [RtcpItem::SenderReport { ssrc: read_ssrc, info: read_info, blocks: read_blocks }] => {
                prop_assert_eq!((*read_ssrc, *read_info), (ssrc, info));
                prop_assert_eq!(read_blocks.clone().collect::<Vec<_>>(), blocks);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn receiver_reports_agree_with_another_implementation(
        ssrc in any::<u32>(),
        blocks in prop::collection::vec(any_block(), 0..=MAX_REPORT_BLOCKS),
    ) {
        let mut buf = [0; 1_000];
        let len = write_receiver_report(&mut buf, ssrc, &blocks).expect("fits");
        let expected =
            ReceiverReport { ssrc, reports: blocks.iter().map(theirs).collect(), ..ReceiverReport::default() };
        prop_assert_eq!(&oracle_reads::<ReceiverReport>(&buf[..len]), &expected);
        match &read(&oracle_writes(expected))[..] {
            [RtcpItem::ReceiverReport { ssrc: read_ssrc, blocks: read_blocks }] => {
                prop_assert_eq!(*read_ssrc, ssrc);
                prop_assert_eq!(read_blocks.clone().collect::<Vec<_>>(), blocks);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn nacks_agree_with_another_implementation(
        ids in any::<[u32; 2]>(),
        start in any::<u16>(),
        steps in prop::collection::vec(1_u16..40, 0..100),
    ) {
        let mut seqs = vec![start];
        for step in steps {
            seqs.push(seqs[seqs.len() - 1].wrapping_add(step));
        }
        let mut buf = [0; 1_000];
        let len = write_nack(&mut buf, ids[0], ids[1], &seqs).expect("fits");
        let read_back: TransportLayerNack = oracle_reads(&buf[..len]);
        prop_assert_eq!([read_back.sender_ssrc, read_back.media_ssrc], ids);
        prop_assert_eq!(read_back.nacks.iter().flat_map(NackPair::packet_list).collect::<Vec<_>>(), seqs.clone());

        let packet = TransportLayerNack {
            sender_ssrc: ids[0],
            media_ssrc: ids[1],
            nacks: nack_pairs_from_sequence_numbers(&seqs),
        };
        match &read(&oracle_writes(packet))[..] {
            [RtcpItem::Nack { sender, media, lost }] => {
                prop_assert_eq!([*sender, *media], ids);
                prop_assert_eq!(lost.clone().collect::<Vec<_>>(), seqs);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn the_small_packets_agree_with_another_implementation(ids in any::<[u32; 2]>(), command in any::<u8>()) {
        let mut buf = [0; 100];
        let [sender, media] = ids;

        let len = write_pli(&mut buf, sender, media).expect("fits");
        let pli = PictureLossIndication { sender_ssrc: sender, media_ssrc: media };
        prop_assert_eq!(&oracle_writes(pli)[..], &buf[..len]);
        let is_same = matches!(read(&buf[..len])[..], [RtcpItem::Pli { sender: s, media: m }] if [s, m] == ids);
        prop_assert!(is_same);

        let len = write_fir(&mut buf, sender, media, command).expect("fits");
        let fir = FullIntraRequest {
            sender_ssrc: sender,
            media_ssrc: 0,
            fir: vec![FirEntry { ssrc: media, sequence_number: command }],
        };
        prop_assert_eq!(&oracle_writes(fir)[..], &buf[..len]);
        match &read(&buf[..len])[..] {
            [RtcpItem::Fir { sender: read_sender, entries }] => {
                prop_assert_eq!(*read_sender, sender);
                prop_assert_eq!(entries.clone().collect::<Vec<_>>(), vec![(media, command)]);
            }
            other => prop_assert!(false, "{:?}", other),
        }

        let bye = Goodbye { sources: ids.to_vec(), ..Goodbye::default() };
        match &read(&oracle_writes(bye))[..] {
            [RtcpItem::Bye { ssrcs }] => prop_assert_eq!(ssrcs.clone().collect::<Vec<_>>(), ids.to_vec()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn canonical_names_agree_with_another_implementation(ssrc in any::<u32>(), cname in "[a-zA-Z0-9@.-]{0,255}") {
        let mut buf = [0; 300];
        let len = write_sdes_cname(&mut buf, ssrc, &cname).expect("fits");
        prop_assert_eq!(len % 4, 0);
        let sdes: SourceDescription = oracle_reads(&buf[..len]);
        prop_assert_eq!(sdes.chunks.len(), 1);
        prop_assert_eq!(sdes.chunks[0].source, ssrc);
        let item = &sdes.chunks[0].items[0];
        prop_assert_eq!((item.sdes_type, &item.text[..]), (SdesType::SdesCname, cname.as_bytes()));
        prop_assert!(matches!(read(&buf[..len])[..], [RtcpItem::Sdes]));
    }

    /// Every writer refuses a buffer that is too short, and never writes past one.
    #[test]
    fn writers_stay_within_their_buffers(len in 0_usize..120) {
        let block = ReportBlock::default();
        let info = SenderInfo { ntp: NtpTime(0), rtp_timestamp: 0, packets: 0, octets: 0 };
        let writers: [(usize, Writer<'_>); 6] = [
            (52, &|buf| write_sender_report(buf, 1, &info, &[block])),
            (32, &|buf| write_receiver_report(buf, 1, &[block])),
            (20, &|buf| write_nack(buf, 1, 2, &[1, 100])),
            (12, &|buf| write_pli(buf, 1, 2)),
            (20, &|buf| write_fir(buf, 1, 2, 3)),
            (16, &|buf| write_sdes_cname(buf, 1, "abcd")),
        ];
        for (needed, write) in writers {
            let expected = (len >= needed).then_some(needed);
            prop_assert_eq!(write(&mut vec![0; len]), expected);
        }
    }

    #[test]
    fn no_input_panics_the_reader(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 198_u8..210, words in 0_u8..40) {
        // Most inputs should get past the first header.
        if let Some([first, packet_type, l0, l1]) = bytes.first_chunk_mut() {
            *first |= 0x80;
            *first &= 0xbf;
            *packet_type = kind;
            (*l0, *l1) = (0, words);
        }
        for item in items(&bytes) {
            match item {
                Ok(RtcpItem::SenderReport { blocks, .. } | RtcpItem::ReceiverReport { blocks, .. }) => {
                    prop_assert!(blocks.count() <= MAX_REPORT_BLOCKS);
                }
                Ok(RtcpItem::Nack { lost, .. }) => prop_assert!(lost.count() <= 300 / 4 * 17),
                Ok(RtcpItem::Fir { entries, .. }) => prop_assert!(entries.count() <= 300 / 8),
                Ok(RtcpItem::Bye { ssrcs }) => prop_assert!(ssrcs.count() <= 31),
                _ => {}
            }
        }
    }
}

#[test]
fn a_compound_is_read_packet_by_packet() {
    let mut buf = [0; 200];
    let mut len = write_receiver_report(&mut buf, 1, &[]).expect("fits");
    len += write_sdes_cname(&mut buf[len..], 1, "a").expect("fits");
    len += write_pli(&mut buf[len..], 1, 2).expect("fits");
    let kinds = read(&buf[..len]);
    assert!(matches!(
        kinds[..],
        [RtcpItem::ReceiverReport { ssrc: 1, .. }, RtcpItem::Sdes, RtcpItem::Pli { sender: 1, media: 2 }]
    ));
}

#[test]
fn what_comes_before_a_broken_packet_is_still_read() {
    let mut buf = [0; 100];
    let len = write_pli(&mut buf, 1, 2).expect("fits");
    let mut compound = buf[..len].to_vec();
    compound.extend_from_slice(&[0x80, 201, 0, 9, 0, 0, 0, 1]);
    let mut read = items(&compound);
    assert!(matches!(read.next(), Some(Ok(RtcpItem::Pli { .. }))));
    assert_eq!(read.next().map(Result::err), Some(Some(RtcpError::TooShort(201))));
    assert!(read.next().is_none());
}

#[test]
fn counts_beyond_the_packet_are_refused() {
    let first_error = |bytes: &[u8]| items(bytes).find_map(Result::err);
    assert_eq!(first_error(&[0x81, 201, 0, 1, 0, 0, 0, 1]), Some(RtcpError::TooShort(201)));
    assert_eq!(first_error(&[0x82, 203, 0, 1, 0, 0, 0, 1]), Some(RtcpError::TooShort(203)));
    assert_eq!(first_error(&[0x81, 206, 0, 1, 0, 0, 0, 1]), Some(RtcpError::TooShort(206)));
    assert_eq!(first_error(&[0x8f, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0]), Some(RtcpError::TooShort(205)));
    assert_eq!(first_error(&[0x40, 201, 0, 1, 0, 0, 0, 1]), Some(RtcpError::Version(1)));
    assert_eq!(first_error(&[0x80, 201]), Some(RtcpError::TooShort(201)));
}

#[test]
fn padding_is_taken_off_and_must_be_sane() {
    let padded = |count: u8| [0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, count];
    assert!(matches!(read(&padded(4))[..], [RtcpItem::ReceiverReport { ssrc: 1, .. }]));
    for count in [0, 9, 12, 255] {
        assert_eq!(items(&padded(count)).find_map(Result::err), Some(RtcpError::Padding), "{count} bytes");
    }
}

#[test]
fn what_is_not_known_is_named() {
    let application = [0x85, 204, 0, 2, 0, 0, 0, 1, b'n', b'a', b'm', b'e'];
    assert!(matches!(read(&application)[..], [RtcpItem::Other { packet_type: 204, format: 5 }]));
}

#[test]
fn rtcp_is_told_from_rtp() {
    assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x80, 192]) && is_rtcp(&[0x80, 223]));
    assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80, 0xe0]) && !is_rtcp(&[0x80]));
}

#[test]
fn losses_are_clamped_to_24_bits() {
    for (lost, written) in [(i32::MAX, (1 << 23) - 1), (i32::MIN, -(1 << 23)), (-5, -5)] {
        let mut buf = [0; 40];
        let len = write_receiver_report(&mut buf, 1, &[ReportBlock { cumulative_lost: lost, ..Default::default() }]);
        match &read(&buf[..len.expect("fits")])[..] {
            [RtcpItem::ReceiverReport { blocks, .. }] => {
                assert_eq!(blocks.clone().next().map(|block| block.cumulative_lost), Some(written));
            }
            other => panic!("{other:?}"),
        }
    }
}
