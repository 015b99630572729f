//! Offers that cannot be used, and why.

use proptest::prelude::*;

use super::*;

/// Chromium's offer with something replaced, answered as a publisher's.
fn changed(from: &str, to: &str) -> Result<Answer, SdpError> {
    assert!(CHROMIUM_PUBLISH.contains(from), "{from}");
    try_answer(&CHROMIUM_PUBLISH.replace(from, to), &RECEIVE_BOTH)
}

/// What an offer is refused for, in words.
fn refusal(from: &str, to: &str) -> String {
    changed(from, to).expect_err("a refusal").to_string()
}

/// Without the lines that start like this.
fn without(start: &str) -> String {
    CHROMIUM_PUBLISH.lines().filter(|line| !line.starts_with(start)).flat_map(|line| [line, "\r\n"]).collect()
}

#[test]
fn what_is_not_sdp_is_refused_by_line() {
    for (sdp, reason) in [
        ("", "there is no m-line"),
        ("v=0\r\ns=-\r\n", "there is no m-line"),
        ("hello", "line 1: not of the form k=value"),
        ("{\"type\":\"offer\"}", "line 1: not of the form k=value"),
        ("v=1\r\n", "line 1: the first line must be v=0"),
        ("o=- 1 1 IN IP4 0.0.0.0\r\n", "line 1: the first line must be v=0"),
        ("v=0\r\nm=audio\r\n", "line 2: an m-line is m=media port transport formats"),
        ("v=0\r\nm=audio 99999 RTP/SAVPF 0\r\n", "line 2: the port of an m-line is a number up to 65535"),
        ("v=0\r\nm=audio 9 RTP/SAVPF\r\n", "line 2: an m-line has at least one format"),
        ("v=0\r\nm=audio 9 RTP/SAVPF x\r\n", "line 2: the formats of RTP are numbers below 128"),
        ("v=0\r\nm=audio 9 RTP/SAVPF 128\r\n", "line 2: the formats of RTP are numbers below 128"),
        (
            "v=0\r\nm=audio 9 RTP/SAVPF 63 64\r\n",
            "line 2: payload types 64 to 95 are kept free for RTCP (RFC 5761, section 4)",
        ),
        (
            "v=0\r\nm=video 9 RTP/SAVPF 96 95\r\n",
            "line 2: payload types 64 to 95 are kept free for RTCP (RFC 5761, section 4)",
        ),
        ("v=0\r\nm=audio 9 RTP/SAVPF 1 1\r\n", "line 2: a payload type is listed twice"),
        ("v=0\r\nm=<b> 9 RTP/SAVPF 1\r\n", "line 2: media and transport of an m-line are tokens"),
        ("v=0\r\nm=audio 9 RTP/SAVPF 0\r\n", "line 2: the m-line has no a=mid"),
    ] {
        assert_eq!(Offer::parse(sdp).expect_err(sdp).to_string(), reason);
    }
}

#[test]
fn what_is_missing_is_named() {
    for (line, reason) in [
        ("a=fingerprint", "a=fingerprint is missing"),
        ("a=ice-ufrag", "a=ice-ufrag is missing"),
        ("a=ice-pwd", "a=ice-pwd is missing"),
        ("a=mid", "line 8: the m-line has no a=mid"),
        ("a=rtcp-mux", "m-line 0 does not offer a=rtcp-mux"),
        ("a=group", "m-line 0 is not in the a=group:BUNDLE"),
    ] {
        assert_eq!(try_answer(&without(line), &RECEIVE_BOTH).expect_err(line).to_string(), reason);
    }
    assert_eq!(refusal("BUNDLE 0 1", "BUNDLE 0"), "m-line 1 is not in the a=group:BUNDLE");
}

#[test]
fn a_missing_setup_means_that_the_client_starts() {
    assert_eq!(parse(&without("a=setup")).setup, Setup::Active);
}

#[test]
fn fingerprints_that_cannot_be_verified_are_refused() {
    assert!(refusal("fingerprint:sha-256", "fingerprint:sha-1").ends_with("must be sha-256, sha-384 or sha-512"));
    assert!(refusal("sha-256 58:6B", "sha-256 58").contains("as many bytes as its hash has"));
    assert!(refusal("sha-256 58:6B", "sha-512 58:6B").contains("as many bytes as its hash has"));
}

#[test]
fn roles_that_leave_nobody_to_start_are_refused() {
    let nobody = |what: &str| format!("the offer says {what}, which leaves nobody to start");
    assert_eq!(refusal("a=setup:actpass", "a=setup:passive"), nobody("a=setup:passive"));
    assert_eq!(refusal("a=setup:actpass", "a=setup:holdconn"), nobody("a=setup:holdconn"));
    assert_eq!(refusal("t=0 0", "t=0 0\r\na=ice-lite"), nobody("a=ice-lite"));
    assert!(refusal("a=setup:actpass", "a=setup:whatever").starts_with("line "));
    assert!(changed("a=setup:actpass", "a=setup:active").is_ok());
}

#[test]
fn broken_values_are_refused_by_line() {
    for (from, to) in [
        ("a=ice-ufrag:LaBa", "a=ice-ufrag:L"),
        ("a=ice-pwd:", "a=ice-pwd:\""),
        ("a=mid:0", "a=mid:"),
        ("a=mid:0", "a=mid:zero and one"),
        ("a=mid:1", "a=mid:0"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8/fast"),
        ("a=extmap:4 ", "a=extmap:99999 "),
        ("a=extmap:4 ", "a=extmap:4/sideways "),
        ("a=ssrc:1228618874 cname", "a=ssrc:99999999999 cname"),
        ("a=ssrc-group:FID 1228618874", "a=ssrc-group:FID one"),
    ] {
        assert!(refusal(from, to).starts_with("line "), "{to}: {}", refusal(from, to));
    }
    assert_eq!(refusal("a=mid:1", "a=mid:0"), "line 51: a=mid:0 is used twice");
}

#[test]
fn offers_of_unreasonable_size_are_refused() {
    let sections = |count: usize| {
        let at = CHROMIUM_PUBLISH.find("m=video").expect("a video m-line");
        let (session, audio) = CHROMIUM_PUBLISH[..at].split_at(CHROMIUM_PUBLISH.find("m=audio").expect("an m-line"));
        let mut sdp = session.to_owned();
        (0..count).for_each(|mid| sdp.push_str(&audio.replace("a=mid:0", &format!("a=mid:{mid}"))));
        sdp
    };
    assert!(Offer::parse(&sections(64)).is_ok());
    let error = Offer::parse(&sections(65)).expect_err("too many");
    assert!(matches!(error, SdpError::TooMany { what: "m-lines", limit: 64, .. }), "{error}");
    let short = format!("v=0\r\n{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n".repeat(500));
    let error = Offer::parse(&short).expect_err("500 m-lines");
    assert!(matches!(error, SdpError::TooMany { what: "m-lines", .. }), "{error}");

    let padding = "a=x-padding:0123456789\r\n".repeat(20_000);
    assert!(matches!(Offer::parse(&format!("v=0\r\n{padding}")), Err(SdpError::TooLong { .. })));
    let huge_line = format!("v=0\r\na=mid:{}\r\n", "x".repeat(100_000));
    assert!(matches!(Offer::parse(&huge_line), Err(SdpError::Syntax { line: 2, .. })));
    for (line, count, limit) in
        [("a=ssrc:{} cname:x", 33, 32), ("a=extmap:{} urn:x", 65, 64), ("a=rid:r{} send", 17, 16)]
    {
        let lines: Vec<_> = (1..=count).map(|number| line.replace("{}", &number.to_string())).collect();
        let error = changed("a=rtcp-rsize", &lines.join("\r\n")).expect_err(line);
        assert!(matches!(error, SdpError::TooMany { limit: bound, .. } if bound == limit), "{error}");
    }
}

#[test]
fn without_any_supported_codec_nothing_is_usable_and_with_one_the_rest_is_refused() {
    let no_video = CHROMIUM_PUBLISH.replace("VP8/90000", "VP7/90000");
    let answer = try_answer(&no_video, &RECEIVE_BOTH).expect("an answer");
    assert_eq!(answer.receive.len(), 1);
    assert!(section_lines(&answer.sdp, 1)[0].starts_with("m=video 0 "));
    let neither = no_video.replace("opus/48000/2", "opus/48000");
    assert_eq!(try_answer(&neither, &RECEIVE_BOTH), Err(SdpError::NothingUsable));
    let plain_rtp = CHROMIUM_PUBLISH.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP");
    assert_eq!(try_answer(&plain_rtp, &RECEIVE_BOTH), Err(SdpError::NothingUsable));
    let refused = CHROMIUM_PUBLISH.replace("m=video 9", "m=video 0");
    let answer = try_answer(&refused, &RECEIVE_BOTH).expect("an answer");
    assert_eq!(answer.receive.len(), 1, "what the offerer refuses is refused");
    let bundle_only = refused.replace("a=mid:1", "a=mid:1\r\na=bundle-only");
    assert_eq!(try_answer(&bundle_only, &RECEIVE_BOTH).expect("an answer").receive.len(), 2);
    assert_eq!(try_answer(CHROMIUM_PUBLISH, &[SectionPlan::Reject, SectionPlan::Reject]), Err(SdpError::NothingUsable));
}

#[test]
fn meanings_that_differ_between_m_lines_of_one_transport_are_refused() {
    let at = CHROMIUM_PUBLISH.find("m=video").expect("a video m-line");
    let (audio, video) = CHROMIUM_PUBLISH.split_at(at);
    let same_payload_type = video.replace(" 96 97 ", " 111 97 ").replace(":96 ", ":111 ").replace("apt=96", "apt=111");
    let conflict =
        |video: &str| try_answer(&format!("{audio}{video}"), &RECEIVE_BOTH).expect_err("a conflict").to_string();
    assert_eq!(conflict(&same_payload_type), "m-line 1: a payload type means something else in another m-line");
    let extension = "m-line 1: the id of a header extension means something else in another m-line";
    assert_eq!(conflict(&video.replace("a=extmap:4 ", "a=extmap:12 ")), extension);
    assert_eq!(conflict(&video.replace("a=extmap:3 ", "a=extmap:1 ")), extension);
}

#[test]
fn names_that_are_not_what_they_should_be_are_not_passed_on() {
    for cname in ["two words", "ümlaut", &"x".repeat(256)] {
        let sdp = without("a=ssrc:935747830 msid").replace("cname:8ogyxlZBMitnd34/", &format!("cname:{cname}"));
        let answer = try_answer(&sdp, &RECEIVE_BOTH).expect("an answer");
        assert_eq!(answer.receive[0].cname, None, "{cname}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(sdp in "\\PC{0,400}") {
        let _ = Offer::parse(&sdp);
    }

    /// Lines of real offers in any order and number, some bent: read or refused, and what is answered is well-formed SDP.
    #[test]
    fn no_shuffled_offer_panics_or_gets_a_malformed_answer(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..250),
        bent in 0_u8..40,
    ) {
        let all: Vec<&str> = PUBLISHERS.iter().chain(&SUBSCRIBERS).flat_map(|(_, sdp)| sdp.lines()).collect();
        let mut sdp = "v=0\r\n".to_owned();
        for (line, at, byte) in picks {
            let mut line = all[line.index(all.len())].as_bytes().to_vec();
            if byte < bent {
                let at = at.index(line.len());
                line[at] = byte.wrapping_mul(37);
            }
            sdp.push_str(&String::from_utf8_lossy(&line));
            sdp.push_str("\r\n");
        }
        answered_well(&sdp)?;
    }

    /// A real offer with a few lines lost, doubled or bent.
    #[test]
    fn no_damaged_offer_panics_or_gets_a_malformed_answer(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
    ) {
        let all: Vec<&str> = PUBLISHERS.iter().chain(&SUBSCRIBERS).map(|(_, sdp)| *sdp).collect();
        let mut lines: Vec<String> = all[which.index(all.len())].lines().map(str::to_owned).collect();
        for (line, at, byte, damage) in damages {
            let line = line.index(lines.len());
            match damage {
                0 => drop(lines.remove(line)),
                1 => lines.insert(line, lines[line].clone()),
                _ => {
                    let mut bytes = lines[line].clone().into_bytes();
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                    lines[line] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        answered_well(&lines.join("\r\n"))?;
    }
}

/// If an offer can be read, answers to it are well-formed, whatever the plans.
fn answered_well(sdp: &str) -> Result<(), TestCaseError> {
    let Ok(offer) = Offer::parse(sdp) else { return Ok(()) };
    let receive = vec![SectionPlan::Receive; offer.sections.len()];
    let mut send: Vec<_> = (0..).zip(&offer.sections).map(|(index, section)| sending(index, section.kind)).collect();
    send.truncate(offer.sections.len());
    for plans in [receive, send] {
        if let Ok(answer) = answer_as(&offer, &plans, 1) {
            // A refused m-line keeps its media, which may be any token (RFC 8866, section 9). Their reader knows five.
            let known = refused_media_of_a_known_name(&answer.sdp);
            let theirs = SessionDescription::unmarshal(&mut Cursor::new(known.as_bytes()));
            let theirs = theirs.map_err(|error| TestCaseError::fail(format!("{error}: {}", answer.sdp)))?;
            prop_assert_eq!(theirs.media_descriptions.len(), offer.sections.len());
        }
    }
    Ok(())
}

fn refused_media_of_a_known_name(sdp: &str) -> String {
    let is_known = |line: &str| {
        ["audio", "video", "text", "application", "message"].iter().any(|media| {
            line.strip_prefix("m=").and_then(|rest| rest.strip_prefix(media)).is_some_and(|rest| rest.starts_with(' '))
        })
    };
    let rename = |line: &str| match line.split_once(' ') {
        Some((media, rest)) if media.starts_with("m=") && rest.starts_with("0 ") && !is_known(line) => {
            format!("m=text {rest}\r\n")
        }
        _ => format!("{line}\r\n"),
    };
    sdp.lines().map(rename).collect()
}

fn sending(index: u32, kind: SectionKind) -> SectionPlan {
    let SectionKind::Media(kind) = kind else { return SectionPlan::Reject };
    let SectionPlan::Send(plan) = send(kind) else { return SectionPlan::Reject };
    SectionPlan::Send(SendPlan { ssrc: 10 * index, rtx_ssrc: plan.rtx_ssrc.map(|_| 10 * index + 1), ..plan })
}
