//! What of an m-line is accepted: codec, retransmissions, feedback, header extensions, direction. No text here: [`super::write`].

use super::{
    Codec, Direction, ExtensionIds, Feedback, MediaKind, Offer, ReceiveTrack, SdpError, Section, SectionKind,
    SectionPlan, SendPlan, SendTrack, line::is_token,
};

pub(super) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub(super) const TWCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub(super) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// Longest value of a one-byte header extension (RFC 8285, section 4.2), which is how mids travel.
const MAX_EXTENSION_VALUE: usize = 16;

/// Highest id of a one-byte header extension.
const MAX_EXTENSION_ID: u8 = 14;

/// Longest `a=msid` identifier (RFC 8830, section 2).
const MAX_MSID: usize = 64;

/// What happens to an m-line.
#[derive(Debug)]
pub(super) enum Decision<'a> {
    /// Port 0, out of the bundle.
    Reject,
    /// Accepted.
    Accept(Accepted<'a>),
}

/// What an accepted m-line carries.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    pub(super) codec: &'a Codec,
    pub(super) rtx_payload_type: Option<u8>,
    pub(super) feedback: Feedback,
    /// Answered header extensions: id, direction from our view, what.
    pub(super) extensions: Vec<(u8, Direction, &'static str)>,
    pub(super) flow: Flow<'a>,
}

/// Which way media go.
#[derive(Debug)]
pub(super) enum Flow<'a> {
    /// To us; of several layers only this one.
    Receive { rid: Option<&'a str> },
    /// To the client.
    Send(&'a SendPlan),
    /// The client does not do what was planned.
    Inactive,
}

/// Decides about one m-line.
pub(super) fn decide<'a>(section: &'a Section, plan: &'a SectionPlan) -> Result<Decision<'a>, SdpError> {
    let SectionKind::Media(kind) = section.kind else { return Ok(Decision::Reject) };
    let flow = match plan {
        SectionPlan::Reject => return Ok(Decision::Reject),
        _ if section.port_zero => return Ok(Decision::Reject),
        SectionPlan::Receive if section.direction.sends() => {
            Flow::Receive { rid: section.rids.first().map(|rid| &**rid) }
        }
        SectionPlan::Send(send) if send.kind != kind => return Ok(Decision::Reject),
        SectionPlan::Send(send) if section.direction.receives() => Flow::Send(send.checked()?),
        SectionPlan::Receive | SectionPlan::Send(_) => Flow::Inactive,
    };
    let Some(codec) = codec(section, kind) else { return Ok(Decision::Reject) };
    if !section.rtcp_mux {
        return Err(SdpError::NoRtcpMux { mid: section.mid.clone() });
    }
    Ok(Decision::Accept(Accepted::new(section, kind, codec, flow)))
}

/// Turns the refusal of the m-line that describes the offerer's transport (the first of the bundle) into inactivity, if any other
/// m-line is accepted and it can be carried. Chromium with `bundlePolicy: "max-bundle"` cannot apply an answer that refuses it:
/// "Failed to setup RTCP mux".
pub(super) fn keep_transport<'a>(offer: &'a Offer, decisions: &mut [Decision<'a>]) {
    if !decisions.iter().any(|decision| matches!(decision, Decision::Accept(_))) {
        return;
    }
    let described =
        |section: &Section| offer.bundle.first() == Some(&section.mid) && !section.port_zero && section.rtcp_mux;
    let Some(index) = offer.sections.iter().position(described) else { return };
    let section = &offer.sections[index];
    if let (Decision::Reject, SectionKind::Media(kind)) = (&decisions[index], section.kind)
        && let Some(codec) = codec(section, kind)
    {
        decisions[index] = Decision::Accept(Accepted::new(section, kind, codec, Flow::Inactive));
    }
}

fn codec(section: &Section, kind: MediaKind) -> Option<&Codec> {
    match kind {
        MediaKind::Audio => section.codec("opus", kind.clock_rate(), 2),
        MediaKind::Video => section.codec("VP8", kind.clock_rate(), 1),
    }
}

impl<'a> Accepted<'a> {
    fn new(section: &'a Section, kind: MediaKind, codec: &'a Codec, flow: Flow<'a>) -> Self {
        let publishes = matches!(flow, Flow::Receive { .. });
        let rtx_payload_type = match (kind, &flow) {
            (MediaKind::Video, Flow::Send(SendPlan { rtx_ssrc: None, .. })) | (MediaKind::Audio, _) => None,
            (MediaKind::Video, _) => section.rtx_of(codec),
        };
        let offered = codec.feedback;
        let feedback = Feedback {
            // Lost packets are sent again on a source of their own or not at all: the same packet sealed twice with another
            // header would use a nonce twice.
            nack: offered.nack && (publishes || rtx_payload_type.is_some()),
            pli: offered.pli,
            fir: offered.fir,
            // It needs the header extension, too; and nobody here reads what a subscriber would report.
            transport_cc: offered.transport_cc && publishes && usable_extension(section, TWCC, &flow).is_some(),
        };
        let mut extensions = Vec::new();
        for uri in [MID, RID, TWCC, AUDIO_LEVEL] {
            let wanted = match uri {
                MID => section.mid.len() <= MAX_EXTENSION_VALUE,
                RID => matches!(flow, Flow::Receive { rid: Some(_) }),
                TWCC => feedback.transport_cc,
                _ => kind == MediaKind::Audio,
            };
            if let Some((id, direction)) = usable_extension(section, uri, &flow).filter(|_| wanted) {
                extensions.push((id, direction, uri));
            }
        }
        Self { codec, rtx_payload_type, feedback, extensions, flow }
    }

    pub(super) fn extension_ids(&self) -> ExtensionIds {
        let id = |uri| self.extensions.iter().find(|extension| extension.2 == uri).map(|extension| extension.0);
        ExtensionIds { mid: id(MID), twcc: id(TWCC), audio_level: id(AUDIO_LEVEL) }
    }

    /// The track that the client will send, if it is one.
    pub(super) fn receive_track(&self, index: usize, section: &Section) -> Option<ReceiveTrack> {
        let (Flow::Receive { rid }, SectionKind::Media(kind)) = (&self.flow, section.kind) else { return None };
        // With layers, sources are announced by header extensions, if at all by their SSRCs then in no particular order.
        let source = section.sources.first().filter(|_| rid.is_none());
        Some(ReceiveTrack {
            section: index,
            mid: section.mid.clone(),
            kind,
            payload_type: self.codec.payload_type,
            rtx_payload_type: self.rtx_payload_type,
            clock_rate: self.codec.clock_rate,
            extensions: self.extension_ids(),
            feedback: self.feedback,
            ssrc: source.map(|source| source.ssrc),
            rtx_ssrc: source.and_then(|source| source.rtx_ssrc).filter(|_| self.rtx_payload_type.is_some()),
            stereo: kind == MediaKind::Audio && self.codec.is_stereo(),
            cname: section.sources.iter().find_map(|source| source.cname.clone()),
        })
    }

    /// The track that the client will get, if it is one.
    pub(super) fn send_track(&self, index: usize, section: &Section) -> Option<SendTrack> {
        let Flow::Send(plan) = &self.flow else { return None };
        Some(SendTrack {
            section: index,
            mid: section.mid.clone(),
            kind: plan.kind,
            payload_type: self.codec.payload_type,
            rtx_payload_type: self.rtx_payload_type,
            clock_rate: self.codec.clock_rate,
            extensions: self.extension_ids(),
            ssrc: plan.ssrc,
            rtx_ssrc: plan.rtx_ssrc.filter(|_| self.rtx_payload_type.is_some()),
            nack: self.feedback.nack,
        })
    }
}

impl SendPlan {
    /// Nothing that came from a client gets into an answer without being what it should be.
    fn checked(&self) -> Result<&Self, SdpError> {
        if !is_token(&self.stream_id, MAX_MSID) || !is_token(&self.track_id, MAX_MSID) {
            return Err(SdpError::BadPlan("stream and track ids must be tokens of 1 to 64 characters"));
        }
        if !(1..=255).contains(&self.cname.len()) || !self.cname.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SdpError::BadPlan("a cname must be 1 to 255 visible characters"));
        }
        if Some(self.ssrc) == self.rtx_ssrc {
            return Err(SdpError::BadPlan("retransmissions need an SSRC of their own"));
        }
        Ok(self)
    }
}

/// Its id and our direction, if the offer has an extension in the one-byte range that goes the way the media go.
fn usable_extension(section: &Section, uri: &str, flow: &Flow<'_>) -> Option<(u8, Direction)> {
    let extension =
        section.extensions.iter().find(|extension| &*extension.uri == uri && extension.id <= MAX_EXTENSION_ID)?;
    let usable = match flow {
        Flow::Receive { .. } => extension.direction.sends(),
        Flow::Send(_) => extension.direction.receives(),
        Flow::Inactive => true,
    };
    let ours = match extension.direction {
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        both => both,
    };
    usable.then_some((extension.id, ours))
}

/// Checks what the accepted m-lines have in common, since they share a transport: membership in the bundle, meaning of payload
/// types and extension ids, different SSRCs.
pub(super) fn check_together(offer: &Offer, decisions: &[Decision<'_>]) -> Result<(), SdpError> {
    let all: Vec<_> = offer
        .sections
        .iter()
        .zip(decisions)
        .filter_map(|(section, decision)| match decision {
            Decision::Accept(accepted) => Some((section, accepted)),
            Decision::Reject => None,
        })
        .collect();
    let mut payload_types: [Option<(MediaKind, bool)>; 128] = [None; 128];
    let mut extensions: [Option<&str>; MAX_EXTENSION_ID as usize + 1] = [None; MAX_EXTENSION_ID as usize + 1];
    let mut ssrcs = Vec::new();
    let mut mid_extension = None;
    for (section, accepted) in &all {
        let SectionKind::Media(kind) = section.kind else { continue };
        if !section.is_bundled_in(offer) && (all.len() > 1 || !offer.bundle.is_empty()) {
            return Err(SdpError::NotBundled { mid: section.mid.clone() });
        }
        let conflict = |what| SdpError::Conflict { mid: section.mid.clone(), what };
        let rtx = accepted.rtx_payload_type.map(|payload_type| (payload_type, true));
        for (payload_type, is_rtx) in std::iter::once((accepted.codec.payload_type, false)).chain(rtx) {
            if *payload_types[usize::from(payload_type)].get_or_insert((kind, is_rtx)) != (kind, is_rtx) {
                return Err(conflict("a payload type"));
            }
        }
        for (id, _, uri) in &accepted.extensions {
            let means_another = *extensions[usize::from(*id)].get_or_insert(uri) != *uri;
            if means_another || (*uri == MID && *mid_extension.get_or_insert(*id) != *id) {
                return Err(conflict("the id of a header extension"));
            }
        }
        if let Flow::Send(plan) = &accepted.flow {
            ssrcs.extend(std::iter::once(plan.ssrc).chain(plan.rtx_ssrc));
        }
    }
    ssrcs.sort_unstable();
    if ssrcs.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(SdpError::BadPlan("an SSRC is used twice"));
    }
    Ok(())
}
