//! Answers: what of an offer is accepted, in words for the client and in types for a shard.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Feedback, MediaKind, Offer, SdpError,
    negotiate::{Decision, check_together, decide, keep_transport},
    write::write,
};
use crate::{dtls::Fingerprint, ice::IceCredentials};

/// Our side of the transport.
#[derive(Clone, Copy, Debug)]
pub struct LocalDescription<'a> {
    /// Our ICE credentials.
    pub ice: &'a IceCredentials,
    /// What our certificate hashes to.
    pub fingerprint: &'a Fingerprint,
    /// Where we listen, best first; at least one.
    pub candidates: &'a [SocketAddr],
    /// `o=` session id: below 2^63, random, the same in all answers of a transport (RFC 8829, section 5.2.1).
    pub session_id: u64,
    /// `o=` session version: one more in each answer that differs from the one before.
    pub session_version: u64,
}

/// What an m-line is to be used for.
#[derive(Clone, Debug)]
pub enum SectionPlan {
    /// The client publishes.
    Receive,
    /// The client subscribes.
    Send(SendPlan),
    /// Refused.
    Reject,
}

/// A track that is sent to the client.
#[derive(Clone, Debug)]
pub struct SendPlan {
    /// Identifies the media stream (`a=msid`, RFC 8830): a token of 1 to 64 characters.
    pub stream_id: Arc<str>,
    /// Identifies the track in it: likewise.
    pub track_id: Arc<str>,
    /// Canonical name of the publisher.
    pub cname: Arc<str>,
    /// Must be the m-line's kind, else the m-line is refused.
    pub kind: MediaKind,
    /// The publisher sends two channels.
    pub stereo: bool,
    /// SSRC of the media, drawn by the caller.
    pub ssrc: u32,
    /// SSRC of retransmissions, drawn by the caller; used if the client can do them.
    pub rtx_ssrc: Option<u32>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For the client.
    pub sdp: String,
    /// What the client will send, in the order of the m-lines.
    pub receive: Vec<ReceiveTrack>,
    /// What it will get, in the order of the m-lines.
    pub send: Vec<SendTrack>,
}

/// Header extension ids in force on an m-line, 1 to 14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub twcc: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    pub audio_level: Option<u8>,
}

/// A track that a client publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveTrack {
    /// Index of the m-line.
    pub section: usize,
    /// Its identification tag.
    pub mid: Box<str>,
    /// What it carries.
    pub kind: MediaKind,
    /// Payload type of the media.
    pub payload_type: u8,
    /// Payload type of retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Header extensions that the client will send.
    pub extensions: ExtensionIds,
    /// Feedback that the client will heed.
    pub feedback: Feedback,
    /// SSRC of the media, if announced.
    pub ssrc: Option<u32>,
    /// SSRC of retransmissions, if announced.
    pub rtx_ssrc: Option<u32>,
    /// Opus with two channels.
    pub stereo: bool,
    /// Canonical name, if announced.
    pub cname: Option<Box<str>>,
}

/// A track that a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendTrack {
    /// Index of the m-line.
    pub section: usize,
    /// Its identification tag.
    pub mid: Box<str>,
    /// What it carries.
    pub kind: MediaKind,
    /// Payload type of the media.
    pub payload_type: u8,
    /// Payload type of retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Header extensions that we may send.
    pub extensions: ExtensionIds,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// The client asks for lost packets and can be sent them: `rtx_ssrc` and `rtx_payload_type` are there.
    pub nack: bool,
}

/// Answers an offer with one plan per m-line. M-lines whose codecs are all unsupported, or whose plan is of the other kind, are
/// refused; an m-line on which the client will not send (or not receive) as planned becomes inactive, without a track; so does
/// the first of the bundle instead of being refused, since browsers need it for the transport. An answer without any track is an
/// error.
pub fn answer(offer: &Offer, local: &LocalDescription<'_>, plans: &[SectionPlan]) -> Result<Answer, SdpError> {
    if plans.len() != offer.sections.len() {
        return Err(SdpError::BadPlan("there must be one plan per m-line"));
    }
    if local.candidates.is_empty() {
        return Err(SdpError::BadPlan("there must be a candidate"));
    }
    let decisions: Result<Vec<_>, _> =
        offer.sections.iter().zip(plans).map(|(section, plan)| decide(section, plan)).collect();
    let mut decisions = decisions?;
    keep_transport(offer, &mut decisions);
    check_together(offer, &decisions)?;
    let mut answer = Answer { sdp: String::new(), receive: Vec::new(), send: Vec::new() };
    for (index, (section, decision)) in offer.sections.iter().zip(&decisions).enumerate() {
        if let Decision::Accept(accepted) = decision {
            answer.receive.extend(accepted.receive_track(index, section));
            answer.send.extend(accepted.send_track(index, section));
        }
    }
    if answer.receive.is_empty() && answer.send.is_empty() {
        return Err(SdpError::NothingUsable);
    }
    answer.sdp = write(offer, local, &decisions);
    Ok(answer)
}

/// Answers an offer that restarts ICE for what `given` was the answer to. Everything but the ICE credentials has to be as before,
/// and those have to be new (RFC 8839, section 4.4.1.1.1); `local` has new ones, too, and the next session version. Sources may be
/// announced that were not before: Firefox does, once it has learnt that only one of its layers is wanted. The tracks stay those of
/// `given`.
pub fn restart_answer(
    before: &Offer,
    given: &Answer,
    offer: &Offer,
    local: &LocalDescription<'_>,
    plans: &[SectionPlan],
) -> Result<Answer, SdpError> {
    if offer.ice.ufrag() == before.ice.ufrag() || offer.ice.password() == before.ice.password() {
        return Err(SdpError::NotRestarted);
    }
    if offer.fingerprint != before.fingerprint {
        return Err(SdpError::ChangedByRestart("a=fingerprint"));
    }
    let m_lines = |offer: &Offer| -> Vec<_> {
        offer.sections.iter().map(|section| (section.mid.clone(), section.kind)).collect()
    };
    if m_lines(offer) != m_lines(before) {
        return Err(SdpError::ChangedByRestart("the m-lines"));
    }
    let Answer { sdp, receive, send } = answer(offer, local, plans)?;
    let same = receive.len() == given.receive.len()
        && receive.iter().zip(&given.receive).all(|(now, before)| now.continues(before))
        && send == given.send;
    if !same {
        return Err(SdpError::ChangedByRestart("codecs, header extensions, directions or sources"));
    }
    Ok(Answer { sdp, receive: given.receive.clone(), send })
}

impl ReceiveTrack {
    /// Whether it is the other one, perhaps with sources that the other one did not announce.
    fn continues(&self, before: &Self) -> bool {
        let known = |before: Option<u32>, now: Option<u32>| before.is_none() || before == now;
        known(before.ssrc, self.ssrc)
            && known(before.rtx_ssrc, self.rtx_ssrc)
            && Self { ssrc: None, rtx_ssrc: None, cname: None, ..self.clone() }
                == Self { ssrc: None, rtx_ssrc: None, cname: None, ..before.clone() }
    }
}
