//! What an offer says, in types. How it is read from text: [`super::parse`].

use crate::{dtls::Fingerprint, ice::IceCredentials};

/// An offer whose transport can be used, with its m-lines in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The client's ICE credentials.
    pub ice: IceCredentials,
    /// What its certificate hashes to; of several, one of the strongest hash.
    pub fingerprint: Fingerprint,
    /// Its DTLS role: never [`Setup::Passive`].
    pub setup: Setup,
    /// `a=extmap-allow-mixed` on the session.
    pub extmap_allow_mixed: bool,
    /// Identification tags of the BUNDLE group, in order; empty if there is none.
    pub bundle: Vec<Box<str>>,
    /// The m-lines.
    pub sections: Vec<Section>,
}

/// DTLS roles (RFC 8842, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Wants to be the client.
    Active,
    /// Leaves the choice to the answerer.
    ActPass,
}

/// Kinds of media that can be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
}

impl MediaKind {
    /// RTP clock rate in Hz of the one codec of this kind that is carried: Opus (RFC 7587) or VP8 (RFC 7741).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Audio => 48_000,
            Self::Video => 90_000,
        }
    }
}

/// What an m-line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// RTP over DTLS-SRTP with feedback.
    Media(MediaKind),
    /// A data channel (`m=application`), or a kind or transport that is not supported.
    Other,
}

/// `a=sendrecv` and the like, from the offerer's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    SendRecv,
    /// The offerer only sends.
    SendOnly,
    /// The offerer only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether the offerer would send.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the offerer would receive.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// One m-line with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "attributes that are there or not, independent of each other")]
pub struct Section {
    /// Identification tag (RFC 5888).
    pub mid: Box<str>,
    /// What it is.
    pub kind: SectionKind,
    /// The first word of the m-line, as given.
    pub media: Box<str>,
    /// The transport, as given: `UDP/TLS/RTP/SAVPF`.
    pub protocol: Box<str>,
    /// The formats, as given.
    pub formats: Vec<Box<str>>,
    /// Port 0 without `a=bundle-only`: refused by the offerer itself.
    pub port_zero: bool,
    /// Who would send.
    pub direction: Direction,
    /// Codecs in the offerer's order of preference.
    pub codecs: Vec<Codec>,
    /// RTP header extensions.
    pub extensions: Vec<Extension>,
    /// Sources that the offerer announces.
    pub sources: Vec<Source>,
    /// Restriction ids that the offerer would send (RFC 8851), in order.
    pub rids: Vec<Box<str>>,
    /// `a=rtcp-mux`.
    pub rtcp_mux: bool,
    /// `a=rtcp-rsize`.
    pub rtcp_rsize: bool,
    /// `a=extmap-allow-mixed` on the m-line.
    pub extmap_allow_mixed: bool,
}

/// A payload type and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Payload type.
    pub payload_type: u8,
    /// Encoding name, as given.
    pub name: Box<str>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 if not given.
    pub channels: u8,
    /// Format parameters, as given.
    pub parameters: Box<str>,
    /// Feedback that the offerer can do.
    pub feedback: Feedback,
}

/// RTCP feedback (RFC 4585, RFC 5104, draft-holmer-rmcat-transport-wide-cc-extensions-01).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set, in the field's terms")]
pub struct Feedback {
    /// `nack`.
    pub nack: bool,
    /// `nack pli`.
    pub pli: bool,
    /// `ccm fir`.
    pub fir: bool,
    /// `transport-cc`.
    pub transport_cc: bool,
}

/// An RTP header extension (RFC 8285).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its id, 1 to 255.
    pub id: u8,
    /// What it is.
    pub uri: Box<str>,
    /// Who would send it.
    pub direction: Direction,
}

/// An announced source (RFC 5576).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrc: Option<u32>,
    /// Canonical name, if given.
    pub cname: Option<Box<str>>,
}

impl Section {
    /// Whether it belongs to the BUNDLE group of an offer.
    pub fn is_bundled_in(&self, offer: &Offer) -> bool {
        offer.bundle.contains(&self.mid)
    }

    /// The first codec with this name (in any case), clock rate and number of channels.
    pub fn codec(&self, name: &str, clock_rate: u32, channels: u8) -> Option<&Codec> {
        self.codecs.iter().find(|codec| {
            codec.name.eq_ignore_ascii_case(name) && codec.clock_rate == clock_rate && codec.channels == channels
        })
    }

    /// The payload type of retransmissions of another one (RFC 4588, section 8.1).
    pub fn rtx_of(&self, codec: &Codec) -> Option<u8> {
        let is_rtx = |other: &&Codec| {
            other.name.eq_ignore_ascii_case("rtx")
                && other.clock_rate == codec.clock_rate
                && other.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(codec.payload_type)
        };
        self.codecs.iter().find(is_rtx).map(|rtx| rtx.payload_type)
    }
}

impl Codec {
    /// The value of a format parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.split(';').find_map(|parameter| {
            let (given, value) = parameter.split_once('=')?;
            given.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether its offerer sends or wants two channels (RFC 7587, section 6.1). Chromium says both, Firefox the latter.
    pub fn is_stereo(&self) -> bool {
        ["stereo", "sprop-stereo"].into_iter().any(|name| self.parameter(name) == Some("1"))
    }
}
