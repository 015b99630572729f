//! The peer's session descriptions: it writes offers of a browser's shape and reads what it needs from answers.
//!
//! Not an SDP library: whatever an answer says that a client of Sluice has no use for is passed over.

use std::{fmt::Write, net::SocketAddr};

/// Kind of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Opus.
    Audio,
    /// VP8 with retransmission.
    Video,
}

/// Which way media of a section flow, seen from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The peer sends.
    Send,
    /// The peer receives.
    Receive,
}

/// One m-line of the peer's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it carries.
    pub media: Media,
    /// Which way.
    pub way: Way,
}

impl Section {
    /// A microphone.
    pub const SEND_AUDIO: Self = Self { media: Media::Audio, way: Way::Send };
    /// A camera.
    pub const SEND_VIDEO: Self = Self { media: Media::Video, way: Way::Send };
    /// Somebody's microphone.
    pub const RECEIVE_AUDIO: Self = Self { media: Media::Audio, way: Way::Receive };
    /// Somebody's camera.
    pub const RECEIVE_VIDEO: Self = Self { media: Media::Video, way: Way::Receive };
}

/// ICE user name fragment and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// SSRCs of a track and of its retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ssrcs {
    /// The track's own.
    pub media: u32,
    /// Of its retransmissions (RFC 4588), video only.
    pub rtx: Option<u32>,
}

/// What an offer is written from.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Session id of the o-line.
    pub session: u64,
    /// The peer's ICE credentials.
    pub ice: &'a Credentials,
    /// SHA-256 of the peer's certificate as in a=fingerprint.
    pub fingerprint: &'a str,
    /// The peer's one candidate, if the server is to know it (a lite server needs none).
    pub candidates: &'a [String],
    /// a=setup; `actpass` as browsers do, `active` to force the client role on a full agent.
    pub setup: &'a str,
    /// Canonical name of the peer's tracks.
    pub cname: &'a str,
    /// The m-lines with their SSRCs, which only sent ones have.
    pub sections: &'a [(Section, Option<Ssrcs>)],
}

/// Payload types that the peer offers.
const OPUS: u8 = 111;
const VP8: u8 = 96;
const VP8_RTX: u8 = 97;

const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TWCC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

impl Offer<'_> {
    /// The offer's text.
    pub fn write(&self) -> String {
        let mut sdp = String::new();
        let mids: Vec<_> = (0..self.sections.len()).map(|i| i.to_string()).collect();
        let session = self.session;
        let _ = write!(
            sdp,
            "v=0\r\no=- {session} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n\
             a=msid-semantic: WMS s{session}\r\n",
            mids.join(" ")
        );
        for (mid, (section, ssrcs)) in self.sections.iter().enumerate() {
            self.write_section(&mut sdp, mid, *section, *ssrcs);
        }
        sdp
    }

    fn write_section(&self, sdp: &mut String, mid: usize, section: Section, ssrcs: Option<Ssrcs>) {
        let (head, direction) = (
            match section.media {
                Media::Audio => format!("audio 9 UDP/TLS/RTP/SAVPF {OPUS}"),
                Media::Video => format!("video 9 UDP/TLS/RTP/SAVPF {VP8} {VP8_RTX}"),
            },
            match section.way {
                Way::Send => "sendonly",
                Way::Receive => "recvonly",
            },
        );
        let _ = write!(
            sdp,
            "m={head}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
             a=ice-options:trickle\r\na=fingerprint:sha-256 {}\r\na=setup:{}\r\na=mid:{mid}\r\n",
            self.ice.ufrag, self.ice.pwd, self.fingerprint, self.setup
        );
        if mid == 0 {
            for candidate in self.candidates {
                let _ = write!(sdp, "a=candidate:{candidate}\r\n");
            }
        }
        if section.media == Media::Audio {
            let _ = write!(sdp, "a=extmap:1 {LEVEL_URI}\r\n");
        }
        let _ = write!(
            sdp,
            "a=extmap:3 {TWCC_URI}\r\na=extmap:4 {MID_URI}\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
        );
        if section.way == Way::Send {
            let _ = write!(sdp, "a=msid:s{} t{mid}\r\n", self.session);
        }
        match section.media {
            Media::Audio => {
                let _ = write!(
                    sdp,
                    "a=rtpmap:{OPUS} opus/48000/2\r\na=rtcp-fb:{OPUS} transport-cc\r\n\
                     a=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
                );
            }
            Media::Video => {
                let _ = write!(
                    sdp,
                    "a=rtpmap:{VP8} VP8/90000\r\na=rtcp-fb:{VP8} goog-remb\r\na=rtcp-fb:{VP8} transport-cc\r\n\
                     a=rtcp-fb:{VP8} ccm fir\r\na=rtcp-fb:{VP8} nack\r\na=rtcp-fb:{VP8} nack pli\r\n\
                     a=rtpmap:{VP8_RTX} rtx/90000\r\na=fmtp:{VP8_RTX} apt={VP8}\r\n"
                );
            }
        }
        if let Some(Ssrcs { media, rtx }) = ssrcs {
            if let Some(rtx) = rtx {
                let _ = write!(sdp, "a=ssrc-group:FID {media} {rtx}\r\n");
            }
            for ssrc in [Some(media), rtx].into_iter().flatten() {
                let _ = write!(
                    sdp,
                    "a=ssrc:{ssrc} cname:{}\r\na=ssrc:{ssrc} msid:s{} t{mid}\r\n",
                    self.cname, self.session
                );
            }
        }
    }
}

/// What the peer takes from an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The server's ICE credentials.
    pub ice: Credentials,
    /// SHA-256 of the server's certificate as in a=fingerprint, in capitals.
    pub fingerprint: String,
    /// The server's UDP candidates that are addresses.
    pub candidates: Vec<SocketAddr>,
    /// One per m-line of the offer.
    pub sections: Vec<AnswerSection>,
}

/// What an answer says about one m-line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerSection {
    /// Its port is not 0.
    pub accepted: bool,
    /// The payload type chosen for Opus or VP8.
    pub payload_type: u8,
    /// The payload type of its retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// Id of the mid extension.
    pub mid_extension: Option<u8>,
    /// Id of the transport-wide sequence number extension.
    pub twcc_extension: Option<u8>,
    /// Id of the audio level extension.
    pub level_extension: Option<u8>,
    /// SSRCs announced by the server, for sections that it sends on.
    pub ssrcs: Option<Ssrcs>,
    /// Canonical name announced by the server.
    pub cname: Option<String>,
    /// Format parameters of the payload type.
    pub fmtp: Option<String>,
}

impl Answer {
    /// Reads an answer. The error names what is missing.
    pub fn read(sdp: &str) -> Result<Self, &'static str> {
        let (mut ufrag, mut pwd, mut fingerprint) = (None, None, None);
        let mut candidates = Vec::new();
        let mut sections: Vec<AnswerSection> = Vec::new();
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                let mut words = media.split(' ').skip(1);
                let accepted = words.next() != Some("0");
                let payload_type = words.nth(1).and_then(|w| w.parse().ok()).unwrap_or(0);
                sections.push(AnswerSection { accepted, payload_type, ..AnswerSection::default() });
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => ufrag = ufrag.or(Some(value.to_owned())),
                "ice-pwd" => pwd = pwd.or(Some(value.to_owned())),
                "fingerprint" => fingerprint = fingerprint.or(value.strip_prefix("sha-256 ").map(str::to_uppercase)),
                "candidate" => candidates.extend(candidate_address(value)),
                _ => {
                    if let Some(section) = sections.last_mut() {
                        section.read_attribute(name, value);
                    }
                }
            }
        }
        Ok(Self {
            ice: Credentials { ufrag: ufrag.ok_or("no a=ice-ufrag")?, pwd: pwd.ok_or("no a=ice-pwd")? },
            fingerprint: fingerprint.ok_or("no a=fingerprint:sha-256")?,
            candidates,
            sections,
        })
    }
}

impl AnswerSection {
    fn read_attribute(&mut self, name: &str, value: &str) {
        match name {
            "extmap" => {
                let mut words = value.split(' ');
                let id = words.next().and_then(|id| id.split('/').next()).and_then(|id| id.parse().ok());
                match words.next() {
                    Some(MID_URI) => self.mid_extension = id,
                    Some(TWCC_URI) => self.twcc_extension = id,
                    Some(LEVEL_URI) => self.level_extension = id,
                    _ => {}
                }
            }
            "rtpmap" => {
                let (payload_type, codec) = value.split_once(' ').unwrap_or((value, ""));
                let codec = codec.to_ascii_lowercase();
                match payload_type.parse() {
                    Ok(rtx) if codec.starts_with("rtx/") => self.rtx_payload_type = self.rtx_payload_type.or(Some(rtx)),
                    Ok(main) if codec.starts_with("vp8/") || codec.starts_with("opus/") => self.payload_type = main,
                    _ => {}
                }
            }
            "fmtp" => {
                let (payload_type, parameters) = value.split_once(' ').unwrap_or((value, ""));
                if payload_type.parse() == Ok(self.payload_type) {
                    self.fmtp = Some(parameters.to_owned());
                }
            }
            "ssrc-group" => {
                let ssrcs: Vec<u32> = value.split(' ').filter_map(|word| word.parse().ok()).collect();
                if let (true, [media, rtx]) = (value.starts_with("FID "), ssrcs.as_slice()) {
                    self.ssrcs = Some(Ssrcs { media: *media, rtx: Some(*rtx) });
                }
            }
            "ssrc" => {
                let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
                if let Ok(media) = ssrc.parse() {
                    self.ssrcs = self.ssrcs.or(Some(Ssrcs { media, rtx: None }));
                }
                if let Some(cname) = attribute.strip_prefix("cname:") {
                    self.cname = Some(cname.to_owned());
                }
            }
            _ => {}
        }
    }
}

fn candidate_address(value: &str) -> Option<SocketAddr> {
    let words: Vec<_> = value.split(' ').collect();
    let is_udp = words.get(2).is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"));
    let rtp = words.get(1) == Some(&"1");
    let ip = words.get(4)?.parse().ok()?;
    let port = words.get(5)?.parse().ok()?;
    (is_udp && rtp).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_is_read() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=fingerprint:sha-256 aa:bb\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:u1\r\na=ice-pwd:p1\r\n\
            a=candidate:1 1 udp 2130706431 127.0.0.1 40000 typ host\r\na=candidate:2 1 udp 1 host.local 1 typ host\r\n\
            a=rtpmap:111 opus/48000/2\r\na=fmtp:111 stereo=1\r\na=extmap:4/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
            a=ssrc:7 cname:someone\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n\
            a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=ssrc-group:FID 8 9\r\na=ssrc:8 cname:x\r\n";
        let answer = Answer::read(sdp).expect("it is an answer");
        assert_eq!(answer.ice, Credentials { ufrag: "u1".into(), pwd: "p1".into() });
        assert_eq!(answer.fingerprint, "AA:BB");
        assert_eq!(answer.candidates, [SocketAddr::from(([127, 0, 0, 1], 40_000))]);
        let [audio, refused, video] = answer.sections.as_slice() else { panic!("three sections") };
        assert_eq!((audio.mid_extension, audio.ssrcs), (Some(4), Some(Ssrcs { media: 7, rtx: None })));
        assert_eq!((audio.fmtp.as_deref(), audio.cname.as_deref()), (Some("stereo=1"), Some("someone")));
        assert!(!refused.accepted);
        assert_eq!((video.payload_type, video.rtx_payload_type), (96, Some(97)));
        assert_eq!(video.ssrcs, Some(Ssrcs { media: 8, rtx: Some(9) }));
    }

    #[test]
    fn an_answer_without_credentials_is_refused() {
        assert_eq!(Answer::read("v=0\r\n").expect_err("nothing in it"), "no a=ice-ufrag");
    }
}
