//! One function per border at which bytes of strangers come in: it feeds them to the real parser and asserts what must hold whatever
//! they are. Fuzz targets call these with invented bytes, a test with the committed seeds.

use proto::signalling;
use recording::{AudioFormat, Kind, Packet, Recording, SenderClock, StreamInfo, VideoFormat};
use sfu_core::{
    Command, OpenTransport, RxBatch, Shard, ShardConfig, ShardIndex, TransportHandle, TxBatch,
    dtls::Identity,
    ice::{IceCredentials, IceLite, binding_ufrag},
    rtcp::{self, RtcpItem},
    rtp::RtpHeader,
    sdp::{self, LocalDescription, MediaKind, Offer, SectionKind, SectionPlan, SendPlan},
    vp8::{PictureNumbers, Vp8Descriptor},
};
use std::{
    io::Cursor,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

/// Takes whatever bytes come and must neither panic nor hang.
pub type Border = fn(&[u8]);

/// A border's name, which is that of its directory of seeds and of its fuzz target, and its function.
pub const BORDERS: [(&str, Border); 8] = [
    ("stun", stun),
    ("rtp", rtp),
    ("rtcp", rtcp),
    ("sdp", sdp),
    ("dtls", dtls),
    ("demultiplexing", demultiplexing),
    ("protoo", protoo),
    ("recording", recording),
];

/// A check signed with [`credentials`], which proves [`PROVEN`].
pub const CHECK: &[u8] = include_bytes!("../fuzz/fixtures/check.bin");
/// The address that a transport's client has proven.
const PROVEN: ([u8; 4], u16) = ([198, 51, 100, 1], 1_000);
/// An address that has proven nothing.
const STRANGER: ([u8; 4], u16) = ([203, 0, 113, 1], 2_000);

/// ICE credentials of the transport that [`stun`] and [`demultiplexing`] attack.
pub fn credentials() -> IceCredentials {
    IceCredentials::from_random(*b"a ufrag and its password")
}

fn identity() -> Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    IDENTITY.get_or_init(|| Arc::new(Identity::generate().expect("the system gives randomness"))).clone()
}

/// STUN: nothing is believed and nothing answered without integrity, and no answer is much longer than its question.
pub fn stun(datagram: &[u8]) {
    let now = Instant::now();
    let named = binding_ufrag(datagram).map(str::to_owned);
    let mut agent = IceLite::new(now, &credentials());
    let mut answer = Vec::new();
    let accepted = agent.handle_request(now, SocketAddr::from(STRANGER).into(), datagram, &mut answer);
    if accepted.is_ok() {
        assert_eq!(named.as_deref(), Some(credentials().ufrag()));
    } else {
        assert_eq!(agent.paths().count(), 0, "a refused check proves nothing");
    }
    assert!(answer.len() <= datagram.len() + 64, "{} bytes for {}", answer.len(), datagram.len());
}

/// RTP headers, extensions, padding and VP8 descriptors: whatever is found lies inside the packet.
pub fn rtp(packet: &[u8]) {
    let Ok(header) = RtpHeader::parse(packet) else { return };
    assert!(header.header_len <= packet.len());
    let mut total = 0;
    for (id, data) in header.extensions(packet) {
        total += data.len();
        assert!(id != 0 && total <= header.header_len);
    }
    let Some(payload) = header.payload_range(packet).map(|range| &packet[range]) else { return };
    let Ok(descriptor) = Vp8Descriptor::parse(payload) else { return };
    assert!(descriptor.len <= payload.len());
    let mut rewritten = payload.to_vec();
    descriptor.rewrite(&mut rewritten, PictureNumbers { picture_id: 0x1234, tl0_pic_idx: 0x56 });
    let again = Vp8Descriptor::parse(&rewritten).expect("a rewritten descriptor keeps its form");
    assert_eq!((again.len, again.keyframe_start), (descriptor.len, descriptor.keyframe_start));
    assert_eq!(rewritten[descriptor.len..], payload[descriptor.len..]);
}

/// Compound RTCP: reading ends, and never yields more than the bytes can hold.
pub fn rtcp(compound: &[u8]) {
    let mut items = 0;
    for item in rtcp::items(compound) {
        items += 1;
        let entries = match item {
            Ok(RtcpItem::SenderReport { blocks, .. } | RtcpItem::ReceiverReport { blocks, .. }) => blocks.count(),
            Ok(RtcpItem::Nack { lost, .. }) => lost.count() / 17,
            Ok(RtcpItem::Fir { entries, .. }) => entries.count(),
            Ok(RtcpItem::Bye { ssrcs }) => ssrcs.count(),
            Ok(_) | Err(_) => 0,
        };
        assert!(entries * 4 <= compound.len());
    }
    assert!(items * 4 <= compound.len() + 4, "{items} packets in {} bytes", compound.len());
}

/// SDP: an offer that is accepted can be answered, whatever its m-lines are to be used for, and the answer keeps their number.
pub fn sdp(text: &[u8]) {
    let Ok(offer) = Offer::parse(&String::from_utf8_lossy(text)) else { return };
    assert!(!offer.sections.is_empty() && offer.sections.len() <= 64);
    let plans: Vec<_> = offer.sections.iter().enumerate().map(|(index, section)| plan(index, section.kind)).collect();
    let local = LocalDescription {
        ice: &credentials(),
        fingerprint: &identity().fingerprint(),
        candidates: &[SocketAddr::from(PROVEN)],
        session_id: 1,
        session_version: 1,
    };
    let Ok(answer) = sdp::answer(&offer, &local, &plans) else { return };
    let m_lines = answer.sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(m_lines, offer.sections.len());
    assert!(answer.sdp.ends_with("\r\n") && !answer.sdp.replace("\r\n", "").contains(['\r', '\n']));
    assert!(answer.receive.len() + answer.send.len() <= m_lines);
}

/// Every third m-line receives, sends, is refused.
fn plan(index: usize, kind: SectionKind) -> SectionPlan {
    match (index % 3, kind) {
        (0, _) => SectionPlan::Receive,
        (1, SectionKind::Media(kind)) => SectionPlan::Send(SendPlan {
            stream_id: "stream".into(),
            track_id: "track".into(),
            cname: "cname".into(),
            kind,
            stereo: true,
            ssrc: 1 + index as u32,
            rtx_ssrc: (kind == MediaKind::Video).then_some(1_000 + index as u32),
        }),
        _ => SectionPlan::Reject,
    }
}

/// DTLS: the bytes are datagrams of a client that has passed its connectivity check.
pub fn dtls(bytes: &[u8]) {
    attack(datagrams(bytes).map(|datagram| (SocketAddr::from(PROVEN), datagram)));
}

/// What a shard makes of datagrams of any kind from a client and from strangers: strangers get nothing, and nothing of theirs is
/// remembered.
pub fn demultiplexing(bytes: &[u8]) {
    let from = |first: Option<&u8>| SocketAddr::from(if first.is_some_and(|b| b & 1 == 1) { PROVEN } else { STRANGER });
    attack(datagrams(bytes).map(|datagram| (from(datagram.first()), datagram.get(1..).unwrap_or_default())));
}

/// Cuts bytes into datagrams, each behind its length in two bytes; a length beyond the end takes what there is.
fn datagrams(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (datagram, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes = rest;
        Some(datagram)
    })
}

/// Feeds datagrams to a shard that has one transport, whose client has proven [`PROVEN`].
fn attack<'a>(datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>) {
    let mut now = Instant::now();
    let mut shard = Shard::new(ShardConfig { index: ShardIndex(0), identity: identity() }, now);
    shard.handle_command(
        now,
        Command::OpenTransport(OpenTransport {
            transport: TransportHandle(1),
            local: credentials(),
            fingerprint: identity().fingerprint(),
            rtcp_ssrc: 1,
        }),
    );
    let (mut rx, mut tx) = (RxBatch::new(), TxBatch::new());
    assert!(rx.push_datagram(SocketAddr::from(PROVEN), CHECK));
    shard.handle_datagrams(now, &mut rx);
    for (from, datagram) in datagrams.take(64) {
        now += Duration::from_millis(5);
        if rx.push_datagram(from, datagram) {
            shard.handle_datagrams(now, &mut rx);
        }
        if shard.poll_timeout(now) <= now {
            shard.handle_timeout(now);
        }
        drain(&mut shard, now, &mut tx);
    }
    assert!(shard.transports() <= 1);
}

fn drain(shard: &mut Shard, now: Instant, tx: &mut TxBatch) {
    loop {
        let more = shard.poll_transmit(now, tx);
        for (to, _) in tx.datagrams() {
            assert_eq!(to, SocketAddr::from(PROVEN), "a stranger was answered");
        }
        tx.clear();
        if !more {
            break;
        }
    }
    while shard.poll_event().is_some() {}
    shard.tell_siblings(|_, _| Ok(()));
}

/// Signalling frames: reading ends, what is accepted is within its bounds, and an id is echoed as it came.
pub fn protoo(frame: &[u8]) {
    let text = String::from_utf8_lossy(frame);
    let Ok(inbound) = signalling::parse(&text) else { return };
    if let Some(id) = &inbound.id {
        assert!(text.contains(id.get()), "the id {} was made up", id.get());
    }
    if let Ok(request) = &inbound.request {
        assert!(text.len() <= signalling::MAX_INBOUND_BYTES);
        let is_in_text = |rid: &proto::ids::RoomId| text.contains(rid.as_str()) || text.contains('\\');
        assert!(request.rid().is_none_or(is_in_text), "the room was made up");
    }
    if let (Some(id), Err(rejection)) = (&inbound.id, &inbound.request) {
        let answer = signalling::answer::refused(id, rejection);
        assert!(answer.len() <= signalling::MAX_OUTBOUND_BYTES || text.len() > signalling::MAX_OUTBOUND_BYTES);
    }
}

/// A recording's packets: files grow by no more than what came, and get no longer than the time that passed. Each packet is a head of eight bytes (what it is and how
/// long its payload is; steps of index, time in 10 ms, and of the timestamp) and its payload.
pub fn recording(mut data: &[u8]) {
    let file = || Cursor::new(Vec::new());
    let text = || "x".to_owned();
    let (room, uid, mid, id, encoder) = (text(), text(), text(), text(), text());
    let info = StreamInfo { room, uid, mid, recording: id, started: SystemTime::UNIX_EPOCH, encoder };
    let (audio, video) = ((AudioFormat { channels: 1 }, file()), (VideoFormat::Vp8, file()));
    let mut recording = Recording::new(&info, Some(audio), Some(video)).expect("memory takes all");
    let (mut index, mut source, mut timestamp, mut now) = (0, 0, 0_u32, Duration::ZERO);
    let came = data.len();
    while let Some((&[flags, length, index_step, time_step, a, b, c, d], rest)) = data.split_first_chunk::<8>() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        index += u64::from(index_step);
        source += u32::from(flags & 4 != 0);
        timestamp = timestamp.wrapping_add(u32::from_be_bytes([a, b, c, d]));
        now += Duration::from_millis(u64::from(time_step) * 10);
        let kind = if flags & 1 == 0 { Kind::Audio } else { Kind::Video };
        let packet = Packet { index, timestamp, source, marker: flags & 2 != 0, keyframe: false, payload };
        recording.handle_timeout(now).expect("memory takes all");
        recording.handle_packet(now, kind, packet).expect("memory takes all");
        recording.handle_clock(now, kind, SenderClock { source, ntp: u64::from(timestamp) << 16, rtp: timestamp });
    }
    let (summary, files) = recording.finish(now);
    assert_eq!(summary.unclosed, None);
    let longest = now + now / 1_000 + Duration::from_millis(1_001);
    assert!(summary.ogg <= longest, "{:?} in {now:?}", summary.ogg);
    // A picture follows the sound by up to 3 s.
    assert!(summary.webm <= longest + Duration::from_secs(3), "{:?} in {now:?}", summary.webm);
    let most = 4 * came + 20_000 + (now.as_millis() as usize + 1_000) * 2;
    for file in files {
        assert!(file.get_ref().len() <= most, "{} bytes of {came} in {now:?}", file.get_ref().len());
    }
}
