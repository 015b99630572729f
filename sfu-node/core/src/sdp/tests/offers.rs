//! What is read from the offers of real clients.

use super::*;

#[test]
fn every_clients_offer_is_read_as_another_parser_reads_it() {
    for (name, sdp) in PUBLISHERS.into_iter().chain(SUBSCRIBERS) {
        let offer = Offer::parse(sdp).unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs = oracle(sdp);
        assert_eq!(offer.sections.len(), theirs.media_descriptions.len(), "{name}");
        for (section, theirs) in offer.sections.iter().zip(&theirs.media_descriptions) {
            assert_eq!(theirs.attribute("mid").flatten(), Some(&*section.mid), "{name}");
            let formats: Vec<_> = section.formats.iter().map(|format| &**format).collect();
            assert_eq!(formats, theirs.media_name.formats, "{name}");
            assert!(section.rtcp_mux && section.is_bundled_in(&offer), "{name}");
        }
        assert_eq!(offer.setup, Setup::ActPass, "{name}");
    }
}

#[test]
fn both_line_ends_mean_the_same() {
    for (name, sdp) in PUBLISHERS {
        assert_eq!(Offer::parse(&sdp.replace("\r\n", "\n")), Offer::parse(sdp), "{name}");
    }
}

#[test]
fn chromiums_offer_in_detail() {
    let offer = parse(CHROMIUM_PUBLISH);
    assert!(offer.extmap_allow_mixed);
    assert_eq!(offer.bundle, ["0".into(), "1".into()]);
    let [audio, video] = &offer.sections[..] else { panic!("two m-lines") };
    assert_eq!((audio.kind, audio.direction), (SectionKind::Media(MediaKind::Audio), Direction::SendOnly));
    let opus = audio.codec("opus", 48_000, 2).expect("opus");
    assert_eq!((opus.payload_type, &*opus.parameters), (111, "minptime=10;useinbandfec=1"));
    assert_eq!(opus.feedback, Feedback { transport_cc: true, ..Feedback::default() });
    assert!(!opus.is_stereo());
    let vp8 = video.codec("vp8", 90_000, 1).expect("VP8, in any case");
    assert_eq!((vp8.payload_type, video.rtx_of(vp8)), (96, Some(97)));
    assert_eq!(vp8.feedback, Feedback { nack: true, pli: true, fir: true, transport_cc: true });
    let [source] = &video.sources[..] else { panic!("one source: {:?}", video.sources) };
    assert!(source.rtx_ssrc.is_some() && source.cname.is_some());
}

#[test]
fn the_strongest_of_several_fingerprints_counts() {
    let (_, sdp) = fixture!("aiortc-publish");
    assert!(parse(sdp).fingerprint.to_string().starts_with("sha-512 "));
    let with_sha1 = CHROMIUM_PUBLISH
        .replace("a=setup:actpass", &format!("a=fingerprint:sha-1 {}\r\na=setup:actpass", ["00"; 20].join(":")));
    assert_eq!(parse(&with_sha1).fingerprint, parse(CHROMIUM_PUBLISH).fingerprint);
}

#[test]
fn the_transport_may_be_described_on_the_session_or_on_the_first_bundled_m_line() {
    let offer = parse(CHROMIUM_PUBLISH);
    let (_, firefox) = fixture!("firefox-publish");
    assert!(firefox.find("a=fingerprint") < firefox.find("m=audio"), "on the session");
    parse(firefox);
    // The second m-line's own transport is another one's until the bundle is agreed on.
    let at = CHROMIUM_PUBLISH.find("m=video").expect("a video m-line");
    let (first, second) = CHROMIUM_PUBLISH.split_at(at);
    let other = format!("{first}{}", second.replace(offer.ice.ufrag(), "somebodyelse"));
    assert_eq!(parse(&other).ice, offer.ice);
    let swapped = other.replace("BUNDLE 0 1", "BUNDLE 1 0");
    assert_eq!(parse(&swapped).ice.ufrag(), "somebodyelse");
}

#[test]
fn sources_of_retransmissions_and_corrections_are_not_sources_of_media() {
    let (_, sdp) = fixture!("webrtc-rs-publish");
    let sources = &parse(sdp).sections[1].sources;
    assert_eq!(sources.len(), 1);
    assert_eq!((sources[0].ssrc, sources[0].rtx_ssrc), (4_039_455_774, Some(1_879_968_118)));
    let (_, sdp) = fixture!("firefox-simulcast");
    let video = &parse(sdp).sections[1];
    assert_eq!(video.sources.len(), 3);
    assert!(video.sources.iter().all(|source| source.rtx_ssrc.is_some()));
    assert_eq!(video.rids, ["q".into(), "h".into(), "f".into()]);
}

#[test]
fn candidates_are_ignored_whatever_they_name() {
    let names = CHROMIUM_PUBLISH.replace(
        "a=ice-options:trickle",
        "a=candidate:1 1 udp 1 metadata.internal 80 typ host\r\na=candidate:nonsense\r\na=candidate:2 1 udp 1 169.254.169.254 80 typ relay",
    );
    assert_eq!(Offer::parse(&names), Offer::parse(CHROMIUM_PUBLISH));
}
