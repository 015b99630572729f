//! Offers of real clients (`fixtures/`: made by running Chromium 156, Firefox 153, libdatachannel and aiortc; Safari's and
//! webrtc-rs' after their like) and hostile ones.

/// A fixture's name and text. Defined before the modules that use it.
macro_rules! fixture {
    ($name:literal) => {
        ($name, include_str!(concat!("../fixtures/", $name, ".sdp")))
    };
}

mod answers;
mod bad_offers;
mod offers;

use std::{io::Cursor, net::SocketAddr};

use rtc_sdp::SessionDescription;

use super::*;

/// Offers with one audio and one video that the client sends.
const PUBLISHERS: [(&str, &str); 9] = [
    fixture!("chromium-publish"),
    fixture!("chromium-sendrecv"),
    fixture!("chromium-simulcast"),
    fixture!("firefox-publish"),
    fixture!("firefox-simulcast"),
    fixture!("safari-publish"),
    fixture!("libdatachannel-publish"),
    fixture!("aiortc-publish"),
    fixture!("webrtc-rs-publish"),
];

/// Offers with one audio and one video that the client receives.
const SUBSCRIBERS: [(&str, &str); 5] = [
    fixture!("chromium-subscribe"),
    fixture!("chromium-sendrecv"),
    fixture!("firefox-subscribe"),
    fixture!("safari-subscribe"),
    fixture!("aiortc-subscribe"),
];

const CHROMIUM_PUBLISH: &str = fixture!("chromium-publish").1;
const CHROMIUM_SUBSCRIBE: &str = fixture!("chromium-subscribe").1;
const DATA_CHANNEL: &str = fixture!("chromium-datachannel").1;

fn parse(sdp: &str) -> Offer {
    Offer::parse(sdp).expect("a good offer")
}

fn credentials(seed: u8) -> IceCredentials {
    IceCredentials::from_random([seed; 24])
}

/// Answers with the credentials of a seed.
fn answer_as(offer: &Offer, plans: &[SectionPlan], seed: u8) -> Result<Answer, SdpError> {
    let candidates: [SocketAddr; 3] = [
        "192.0.2.1:40000".parse().expect("an address"),
        "[2001:db8::1]:40000".parse().expect("an address"),
        "[::ffff:127.0.0.1]:40000".parse().expect("an address"),
    ];
    let local = LocalDescription {
        ice: &credentials(seed),
        fingerprint: &Fingerprint::sha256_of(b"ours"),
        candidates: &candidates,
        session_id: 4_711,
        session_version: u64::from(seed),
    };
    answer(offer, &local, plans)
}

fn try_answer(sdp: &str, plans: &[SectionPlan]) -> Result<Answer, SdpError> {
    answer_as(&Offer::parse(sdp)?, plans, 1)
}

fn send(kind: MediaKind) -> SectionPlan {
    let (ssrc, rtx_ssrc) = match kind {
        MediaKind::Audio => (1_001, None),
        MediaKind::Video => (2_001, Some(2_002)),
    };
    SectionPlan::Send(SendPlan {
        stream_id: "stream".into(),
        track_id: if kind == MediaKind::Audio { "audio".into() } else { "video".into() },
        cname: "publisher".into(),
        kind,
        stereo: kind == MediaKind::Audio,
        ssrc,
        rtx_ssrc,
    })
}

fn send_both() -> [SectionPlan; 2] {
    [send(MediaKind::Audio), send(MediaKind::Video)]
}

const RECEIVE_BOTH: [SectionPlan; 2] = [SectionPlan::Receive, SectionPlan::Receive];

/// Reads SDP with `rtc-sdp`.
fn oracle(sdp: &str) -> SessionDescription {
    SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes())).expect("well-formed SDP")
}

/// The lines of an answer's m-line with this index; the session's lines come before the first.
fn section_lines(sdp: &str, index: usize) -> Vec<&str> {
    let starts: Vec<_> = sdp.match_indices("\r\nm=").map(|(at, _)| at + 2).collect();
    let end = starts.get(index + 1).map_or(sdp.len(), |next| *next);
    sdp[starts[index]..end].lines().collect()
}
