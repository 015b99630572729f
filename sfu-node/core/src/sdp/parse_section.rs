//! How an m-line and its attributes are read.

use super::{
    Codec, Direction, Extension, Feedback, MediaKind, SdpError, Section, SectionKind, Source,
    line::{Line, is_token},
    parse::{TransportLines, mid},
};

/// There are no more payload types.
const MAX_FORMATS: usize = 128;
/// Browsers offer about 15.
const MAX_EXTENSIONS: usize = 64;
/// Three simulcast layers with retransmissions and error correction are nine.
const MAX_SOURCES: usize = 32;
const MAX_RIDS: usize = 16;
/// Longest canonical name; it travels in a text item of up to 255 bytes (RFC 3550, section 6.5.1).
const MAX_CNAME: usize = 255;

/// Transports that are DTLS-SRTP with feedback (RFC 8829, section 5.1.2).
const PROTOCOLS: [&str; 3] = ["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF"];

/// An m-line being read.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "attributes that are there or not, independent of each other")]
pub(super) struct SectionLines<'a> {
    pub(super) transport: TransportLines<'a>,
    opening: Line<'a>,
    mid: Option<(usize, Box<str>)>,
    port_zero: bool,
    bundle_only: bool,
    kind: SectionKind,
    media: &'a str,
    protocol: &'a str,
    formats: Vec<&'a str>,
    direction: Direction,
    codecs: Vec<CodecLines<'a>>,
    extensions: Vec<Extension>,
    sources: Vec<Source>,
    /// Pairs of a source and the source of its retransmissions or corrections.
    groups: Vec<(Grouping, u32, u32)>,
    rids: Vec<Box<str>>,
    rtcp_mux: bool,
    rtcp_rsize: bool,
    extmap_allow_mixed: bool,
}

#[derive(Debug)]
struct CodecLines<'a> {
    payload_type: u8,
    /// Name, clock rate, channels.
    mapping: Option<(&'a str, u32, u8)>,
    parameters: &'a str,
    feedback: Feedback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grouping {
    Retransmission,
    Correction,
}

impl<'a> SectionLines<'a> {
    /// Reads the m-line itself.
    pub(super) fn open(line: Line<'a>) -> Result<Self, SdpError> {
        let mut words = line.value.split_ascii_whitespace();
        let (Some(media), Some(port), Some(protocol)) = (words.next(), words.next(), words.next()) else {
            return Err(line.syntax("an m-line is m=media port transport formats"));
        };
        let port = port.split_once('/').map_or(port, |(port, _)| port);
        let port: u16 = port.parse().map_err(|_| line.syntax("the port of an m-line is a number up to 65535"))?;
        if !is_token(media, 32) || !protocol.split('/').all(|part| is_token(part, 32)) || protocol.len() > 64 {
            return Err(line.syntax("media and transport of an m-line are tokens"));
        }
        let mut formats = Vec::new();
        for format in words {
            if !is_token(format, 64) {
                return Err(line.syntax("the formats of an m-line are tokens"));
            }
            line.push(&mut formats, MAX_FORMATS, "formats", format)?;
        }
        if formats.is_empty() {
            return Err(line.syntax("an m-line has at least one format"));
        }
        let kind = match media {
            _ if !PROTOCOLS.contains(&protocol) => SectionKind::Other,
            "audio" => SectionKind::Media(MediaKind::Audio),
            "video" => SectionKind::Media(MediaKind::Video),
            _ => SectionKind::Other,
        };
        let codecs = match kind {
            SectionKind::Media(_) => payload_types(line, &formats)?,
            SectionKind::Other => Vec::new(),
        };
        Ok(Self {
            transport: TransportLines::default(),
            opening: line,
            mid: None,
            port_zero: port == 0,
            bundle_only: false,
            kind,
            media,
            protocol,
            formats,
            direction: Direction::SendRecv,
            codecs,
            extensions: Vec::new(),
            sources: Vec::new(),
            groups: Vec::new(),
            rids: Vec::new(),
            rtcp_mux: false,
            rtcp_rsize: false,
            extmap_allow_mixed: false,
        })
    }

    /// Reads an attribute of it.
    pub(super) fn attribute(&mut self, line: Line<'a>) -> Result<(), SdpError> {
        if self.transport.attribute(line) {
            return Ok(());
        }
        match line.attribute() {
            ("mid", _) => self.mid = Some((line.number, mid(line)?)),
            ("sendrecv", _) => self.direction = Direction::SendRecv,
            ("sendonly", _) => self.direction = Direction::SendOnly,
            ("recvonly", _) => self.direction = Direction::RecvOnly,
            ("inactive", _) => self.direction = Direction::Inactive,
            ("bundle-only", _) => self.bundle_only = true,
            ("rtcp-mux" | "rtcp-mux-only", _) => self.rtcp_mux = true,
            ("rtcp-rsize", _) => self.rtcp_rsize = true,
            ("extmap-allow-mixed", _) => self.extmap_allow_mixed = true,
            _ if self.kind == SectionKind::Other => {}
            ("rtpmap", value) => self.rtpmap(line, value)?,
            ("fmtp", value) => self.fmtp(value),
            ("rtcp-fb", value) => self.rtcp_fb(value),
            ("extmap", value) => self.extmap(line, value)?,
            ("ssrc", value) => self.ssrc(line, value)?,
            ("ssrc-group", value) => self.ssrc_group(line, value)?,
            ("rid", value) => self.rid(line, value)?,
            _ => {}
        }
        Ok(())
    }

    /// The section, and the line of its mid.
    pub(super) fn into_section(mut self) -> Result<(usize, Section), SdpError> {
        let (mid_line, mid) = self.mid.take().ok_or_else(|| self.opening.syntax("the m-line has no a=mid"))?;
        for (grouping, first, second) in &self.groups {
            let position = self.sources.iter().position(|source| source.ssrc == *second);
            if let Some(position) = position.filter(|_| first != second) {
                self.sources.remove(position);
            }
            if *grouping == Grouping::Retransmission
                && let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == *first)
            {
                source.rtx_ssrc = Some(*second).filter(|second| second != first);
            }
        }
        let section = Section {
            mid,
            kind: self.kind,
            media: self.media.into(),
            protocol: self.protocol.into(),
            formats: self.formats.iter().map(|format| (*format).into()).collect(),
            port_zero: self.port_zero && !self.bundle_only,
            direction: self.direction,
            codecs: self.codecs.into_iter().filter_map(CodecLines::into_codec).collect(),
            extensions: self.extensions,
            sources: self.sources,
            rids: self.rids,
            rtcp_mux: self.rtcp_mux,
            rtcp_rsize: self.rtcp_rsize,
            extmap_allow_mixed: self.extmap_allow_mixed,
        };
        Ok((mid_line, section))
    }

    fn codec(&mut self, payload_type: &str) -> Option<&mut CodecLines<'a>> {
        let payload_type: u8 = payload_type.parse().ok()?;
        self.codecs.iter_mut().find(|codec| codec.payload_type == payload_type)
    }

    /// `a=rtpmap:111 opus/48000/2`
    fn rtpmap(&mut self, line: Line<'a>, value: &'a str) -> Result<(), SdpError> {
        let problem = "a=rtpmap is a payload type, a name, a clock rate and perhaps a number of channels";
        let (payload_type, mapping) = value.split_once(' ').ok_or_else(|| line.syntax(problem))?;
        let mut parts = mapping.trim().splitn(3, '/');
        let (Some(name), Some(rate), channels) = (parts.next(), parts.next(), parts.next()) else {
            return Err(line.syntax(problem));
        };
        let rate: u32 = rate.parse().map_err(|_| line.syntax(problem))?;
        // Other encodings than audio put other things there.
        let channels = channels.map_or(Some(1), |channels| channels.parse().ok());
        if !is_token(name, 64) {
            return Err(line.syntax(problem));
        }
        if let (Some(codec), Some(channels)) = (self.codec(payload_type), channels) {
            codec.mapping = Some((name, rate, channels));
        }
        Ok(())
    }

    /// `a=fmtp:97 apt=96`
    fn fmtp(&mut self, value: &'a str) {
        let Some((payload_type, parameters)) = value.split_once(' ') else { return };
        if let Some(codec) = self.codec(payload_type) {
            codec.parameters = parameters.trim();
        }
    }

    /// `a=rtcp-fb:96 nack pli`, `a=rtcp-fb:* transport-cc`
    fn rtcp_fb(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        let Some(payload_type) = words.next() else { return };
        let set: fn(&mut Feedback) = match (words.next(), words.next()) {
            (Some("nack"), None) => |feedback| feedback.nack = true,
            (Some("nack"), Some("pli")) => |feedback| feedback.pli = true,
            (Some("ccm"), Some("fir")) => |feedback| feedback.fir = true,
            (Some("transport-cc"), None) => |feedback| feedback.transport_cc = true,
            _ => return,
        };
        if payload_type == "*" {
            self.codecs.iter_mut().for_each(|codec| set(&mut codec.feedback));
        } else if let Some(codec) = self.codec(payload_type) {
            set(&mut codec.feedback);
        }
    }

    /// `a=extmap:3/recvonly http://…`
    fn extmap(&mut self, line: Line<'a>, value: &'a str) -> Result<(), SdpError> {
        let problem = "a=extmap is a number, perhaps a direction, and a URI";
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else {
            return Err(line.syntax(problem));
        };
        let (id, direction) = match id.split_once('/') {
            None => (id, Direction::SendRecv),
            Some((id, "sendrecv")) => (id, Direction::SendRecv),
            Some((id, "sendonly")) => (id, Direction::SendOnly),
            Some((id, "recvonly")) => (id, Direction::RecvOnly),
            Some((id, "inactive")) => (id, Direction::Inactive),
            Some(_) => return Err(line.syntax(problem)),
        };
        let id: u16 = id.parse().map_err(|_| line.syntax(problem))?;
        // Ids from 4096 on only reserve something for later (RFC 8285, section 7).
        let Some(id) = u8::try_from(id).ok().filter(|id| *id > 0) else { return Ok(()) };
        let extension = Extension { id, uri: uri.into(), direction };
        line.push(&mut self.extensions, MAX_EXTENSIONS, "header extensions", extension)
    }

    /// `a=ssrc:1234 cname:abc`
    fn ssrc(&mut self, line: Line<'a>, value: &'a str) -> Result<(), SdpError> {
        let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let ssrc: u32 = ssrc.parse().map_err(|_| line.syntax("a=ssrc starts with a number below 2^32"))?;
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let position = known.unwrap_or(self.sources.len());
        if known.is_none() {
            let source = Source { ssrc, rtx_ssrc: None, cname: None };
            line.push(&mut self.sources, MAX_SOURCES, "sources in an m-line", source)?;
        }
        if let Some(cname) = attribute.strip_prefix("cname:")
            && (1..=MAX_CNAME).contains(&cname.len())
            && cname.bytes().all(|byte| byte.is_ascii_graphic())
        {
            self.sources[position].cname = Some(cname.into());
        }
        Ok(())
    }

    /// `a=ssrc-group:FID 1234 5678`
    fn ssrc_group(&mut self, line: Line<'a>, value: &'a str) -> Result<(), SdpError> {
        let mut words = value.split_ascii_whitespace();
        let grouping = match words.next() {
            Some("FID") => Grouping::Retransmission,
            Some("FEC" | "FEC-FR") => Grouping::Correction,
            _ => return Ok(()),
        };
        let mut ssrc = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (Some(first), Some(second)) = (ssrc(), ssrc()) else {
            return Err(line.syntax("a=ssrc-group is a name and numbers below 2^32"));
        };
        line.push(&mut self.groups, MAX_SOURCES, "groups of sources", (grouping, first, second))
    }

    /// `a=rid:q send`
    fn rid(&mut self, line: Line<'a>, value: &'a str) -> Result<(), SdpError> {
        let mut words = value.split_ascii_whitespace();
        let (Some(rid), Some(direction)) = (words.next(), words.next()) else {
            return Err(line.syntax("a=rid is an id and send or recv"));
        };
        if rid.len() > 255 || !rid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err(line.syntax("an id of a=rid is letters, digits, - and _"));
        }
        if direction == "send" {
            line.push(&mut self.rids, MAX_RIDS, "rids", rid.into())?;
        }
        Ok(())
    }
}

impl CodecLines<'_> {
    fn into_codec(self) -> Option<Codec> {
        let (name, clock_rate, channels) = self.mapping?;
        Some(Codec {
            payload_type: self.payload_type,
            name: name.into(),
            clock_rate,
            channels,
            parameters: self.parameters.into(),
            feedback: self.feedback,
        })
    }
}

fn payload_types<'a>(line: Line<'_>, formats: &[&str]) -> Result<Vec<CodecLines<'a>>, SdpError> {
    let mut codecs: Vec<CodecLines<'a>> = Vec::with_capacity(formats.len());
    for format in formats {
        let payload_type = format.parse().ok().filter(|payload_type: &u8| *payload_type < 128);
        let payload_type = payload_type.ok_or_else(|| line.syntax("the formats of RTP are numbers below 128"))?;
        // One connection carries both, and with the marker bit these are RTCP's packet types.
        if (64..=95).contains(&payload_type) {
            return Err(line.syntax("payload types 64 to 95 are kept free for RTCP (RFC 5761, section 4)"));
        }
        if codecs.iter().any(|codec| codec.payload_type == payload_type) {
            return Err(line.syntax("a payload type is listed twice"));
        }
        codecs.push(CodecLines { payload_type, mapping: None, parameters: "", feedback: Feedback::default() });
    }
    Ok(codecs)
}
