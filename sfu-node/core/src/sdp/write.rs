//! Answers as text (RFC 8829, section 5.3).

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use super::{
    Direction, LocalDescription, MediaKind, Offer, Section, SectionKind, SendPlan,
    negotiate::{Accepted, Decision, Flow},
};

/// Type preference of host candidates and local preference of the best one (RFC 8445, section 5.1.2).
const HOST_PREFERENCE: u32 = 126;
const BEST_LOCAL_PREFERENCE: u32 = 65_535;

/// Writes a line; writing to a `String` cannot fail.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {{
        let _ = write!($out, $($format)*);
        $out.push_str("\r\n");
    }};
}

/// The text of an answer.
pub(super) fn write(offer: &Offer, local: &LocalDescription<'_>, decisions: &[Decision<'_>]) -> String {
    let mut out = String::with_capacity(1_024 * (1 + decisions.len()));
    let bundle = bundle(offer, decisions);
    line!(out, "v=0");
    line!(out, "o=- {} {} IN IP4 127.0.0.1", local.session_id, local.session_version);
    line!(out, "s=-");
    line!(out, "t=0 0");
    line!(out, "a=ice-lite");
    line!(out, "a=fingerprint:{}", local.fingerprint);
    if !offer.bundle.is_empty() {
        line!(out, "a=group:BUNDLE {}", bundle.join(" "));
    }
    if offer.extmap_allow_mixed {
        line!(out, "a=extmap-allow-mixed");
    }
    for (section, decision) in offer.sections.iter().zip(decisions) {
        match decision {
            Decision::Reject => rejected(&mut out, section),
            Decision::Accept(accepted) => {
                let carries_transport = bundle.first() == Some(&&*section.mid);
                self::accepted(&mut out, local, section, accepted, carries_transport);
            }
        }
    }
    out
}

/// The accepted mids: in the order of the offer's group, whose first the answerer's transport is described with (RFC 8843,
/// section 7.3.1). A lone m-line outside any group carries its own.
fn bundle<'a>(offer: &'a Offer, decisions: &[Decision<'_>]) -> Vec<&'a str> {
    let accepted = |mid: &str| {
        let of_mid = |(section, decision): (&Section, &Decision<'_>)| {
            *section.mid == *mid && matches!(decision, Decision::Accept(_))
        };
        offer.sections.iter().zip(decisions).any(of_mid)
    };
    let offered: Vec<&str> = if offer.bundle.is_empty() {
        offer.sections.iter().map(|section| &*section.mid).collect()
    } else {
        offer.bundle.iter().map(|mid| &**mid).collect()
    };
    offered.into_iter().filter(|mid| accepted(mid)).collect()
}

fn rejected(out: &mut String, section: &Section) {
    line!(out, "m={} 0 {} {}", section.media, section.protocol, section.formats.join(" "));
    line!(out, "c=IN IP4 0.0.0.0");
    line!(out, "a=mid:{}", section.mid);
    if section.kind != SectionKind::Other {
        line!(out, "a=inactive");
    }
}

fn accepted(
    out: &mut String,
    local: &LocalDescription<'_>,
    section: &Section,
    accepted: &Accepted<'_>,
    carries_transport: bool,
) {
    let payload_type = accepted.codec.payload_type;
    let _ = write!(out, "m={} 9 {} {payload_type}", section.media, section.protocol);
    if let Some(rtx) = accepted.rtx_payload_type {
        let _ = write!(out, " {rtx}");
    }
    line!(out, "");
    line!(out, "c=IN IP4 0.0.0.0");
    line!(out, "a=ice-ufrag:{}", local.ice.ufrag());
    line!(out, "a=ice-pwd:{}", local.ice.password());
    line!(out, "a=setup:passive");
    line!(out, "a=mid:{}", section.mid);
    line!(out, "a={}", accepted.flow.direction().attribute());
    line!(out, "a=rtcp-mux");
    if section.rtcp_rsize {
        line!(out, "a=rtcp-rsize");
    }
    if section.extmap_allow_mixed {
        line!(out, "a=extmap-allow-mixed");
    }
    formats(out, section, accepted);
    for (id, direction, uri) in &accepted.extensions {
        match direction {
            Direction::SendRecv => line!(out, "a=extmap:{id} {uri}"),
            one_way => line!(out, "a=extmap:{id}/{} {uri}", one_way.attribute()),
        }
    }
    match &accepted.flow {
        Flow::Receive { rid: Some(rid) } => {
            line!(out, "a=rid:{rid} recv");
            line!(out, "a=simulcast:recv {rid}");
        }
        Flow::Send(plan) => sources(out, plan, accepted.rtx_payload_type.and(plan.rtx_ssrc)),
        Flow::Receive { rid: None } | Flow::Inactive => {}
    }
    if carries_transport {
        candidates(out, local.candidates);
    }
}

fn formats(out: &mut String, section: &Section, accepted: &Accepted<'_>) {
    let (codec, feedback) = (accepted.codec, accepted.feedback);
    let payload_type = codec.payload_type;
    let is_audio = section.kind == SectionKind::Media(MediaKind::Audio);
    if is_audio {
        line!(out, "a=rtpmap:{payload_type} {}/{}/{}", codec.name, codec.clock_rate, codec.channels);
    } else {
        line!(out, "a=rtpmap:{payload_type} {}/{}", codec.name, codec.clock_rate);
    }
    for (agreed, name) in [
        (feedback.nack, "nack"),
        (feedback.pli, "nack pli"),
        (feedback.fir, "ccm fir"),
        (feedback.transport_cc, "transport-cc"),
    ] {
        if agreed {
            line!(out, "a=rtcp-fb:{payload_type} {name}");
        }
    }
    if is_audio {
        line!(out, "a=fmtp:{payload_type} {}", accepted.flow.opus_parameters());
    }
    if let Some(rtx) = accepted.rtx_payload_type {
        line!(out, "a=rtpmap:{rtx} rtx/{}", codec.clock_rate);
        line!(out, "a=fmtp:{rtx} apt={payload_type}");
    }
}

fn sources(out: &mut String, plan: &SendPlan, rtx_ssrc: Option<u32>) {
    let SendPlan { stream_id, track_id, cname, ssrc, .. } = plan;
    line!(out, "a=msid:{stream_id} {track_id}");
    if let Some(rtx_ssrc) = rtx_ssrc {
        line!(out, "a=ssrc-group:FID {ssrc} {rtx_ssrc}");
    }
    for ssrc in std::iter::once(*ssrc).chain(rtx_ssrc) {
        line!(out, "a=ssrc:{ssrc} cname:{cname}");
        line!(out, "a=ssrc:{ssrc} msid:{stream_id} {track_id}");
    }
}

fn candidates(out: &mut String, candidates: &[SocketAddr]) {
    for (index, address) in (0_u32..).zip(candidates) {
        let local_preference = BEST_LOCAL_PREFERENCE.saturating_sub(index);
        let priority = (HOST_PREFERENCE << 24) + (local_preference << 8) + 255;
        let ip: IpAddr = address.ip().to_canonical();
        line!(out, "a=candidate:{} 1 udp {priority} {ip} {} typ host", index + 1, address.port());
    }
    line!(out, "a=end-of-candidates");
}

impl Flow<'_> {
    const fn direction(&self) -> Direction {
        match self {
            Self::Receive { .. } => Direction::RecvOnly,
            Self::Send(_) => Direction::SendOnly,
            Self::Inactive => Direction::Inactive,
        }
    }

    /// Format parameters of Opus (RFC 7587, section 6.1): `stereo` is what we want to get, `sprop-stereo` what we are going to send.
    const fn opus_parameters(&self) -> &'static str {
        match self {
            Self::Receive { .. } => "stereo=1;useinbandfec=1",
            Self::Send(SendPlan { stereo: true, .. }) => "stereo=1;sprop-stereo=1;useinbandfec=1",
            Self::Send(_) | Self::Inactive => "useinbandfec=1",
        }
    }
}

impl Direction {
    const fn attribute(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}
