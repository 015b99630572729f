//! What is answered, in text and in types.

use super::*;

#[test]
fn every_publisher_gets_an_answer_for_opus_and_vp8() {
    for (name, sdp) in PUBLISHERS {
        let answer = try_answer(sdp, &RECEIVE_BOTH).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(answer.send.is_empty(), "{name}");
        let [audio, video] = &answer.receive[..] else { panic!("{name}: {:?}", answer.receive) };
        assert_eq!((audio.kind, audio.clock_rate, audio.section), (MediaKind::Audio, 48_000, 0), "{name}");
        assert_eq!((video.kind, video.clock_rate, video.section), (MediaKind::Video, 90_000, 1), "{name}");
        assert!(video.feedback.nack && video.feedback.pli, "{name}");
        well_formed(name, &answer.sdp);
        for index in 0..2 {
            let lines = section_lines(&answer.sdp, index);
            assert!(lines.contains(&"a=recvonly"), "{name}: {lines:?}");
            assert!(!lines.iter().any(|line| line.starts_with("a=msid") || line.starts_with("a=ssrc")), "{name}");
        }
    }
}

#[test]
fn every_subscriber_gets_an_answer_with_the_sources_to_come() {
    for (name, sdp) in SUBSCRIBERS {
        let answer = try_answer(sdp, &send_both()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(answer.receive.is_empty(), "{name}");
        let [audio, video] = &answer.send[..] else { panic!("{name}: {:?}", answer.send) };
        assert_eq!((audio.ssrc, audio.rtx_ssrc, audio.nack), (1_001, None, false), "{name}");
        assert_eq!((video.ssrc, video.rtx_ssrc, video.nack), (2_001, Some(2_002), true), "{name}");
        assert!(video.rtx_payload_type.is_some(), "{name}");
        assert_eq!((audio.extensions.twcc, video.extensions.twcc), (None, None), "{name}");
        well_formed(name, &answer.sdp);
        assert!(!answer.sdp.contains("transport-cc"), "{name}");
        let lines = section_lines(&answer.sdp, 1);
        for line in [
            "a=sendonly",
            "a=msid:stream video",
            "a=ssrc-group:FID 2001 2002",
            "a=ssrc:2001 cname:publisher",
            "a=ssrc:2001 msid:stream video",
            "a=ssrc:2002 cname:publisher",
        ] {
            assert!(lines.contains(&line), "{name}: no {line} in {lines:?}");
        }
    }
}

/// What every answer has to have.
fn well_formed(name: &str, sdp: &str) {
    oracle(sdp);
    assert!(sdp.ends_with("\r\n") && !sdp.replace("\r\n", "").contains(['\r', '\n']), "{name}");
    let (session, _) = sdp.split_once("\r\nm=").expect("an m-line");
    assert!(session.starts_with("v=0\r\no=- 4711 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"), "{name}: {session}");
    assert!(session.contains("a=ice-lite") && session.contains("a=fingerprint:sha-256 "), "{name}");
    assert_eq!(sdp.matches("a=end-of-candidates").count(), 1, "{name}");
    for line in ["a=setup:passive", "a=rtcp-mux", "a=ice-ufrag:", "a=ice-pwd:"] {
        let accepted = sdp.matches("m=").count() - sdp.matches(" 0 UDP").count();
        assert_eq!(sdp.matches(line).count(), accepted, "{name}: {line}");
    }
}

#[test]
fn the_answer_to_chromiums_publishing_in_full() {
    let answer = try_answer(CHROMIUM_PUBLISH, &RECEIVE_BOTH).expect("an answer");
    let ours = credentials(1);
    let expected = format!(
        "v=0\n\
        o=- 4711 1 IN IP4 127.0.0.1\n\
        s=-\n\
        t=0 0\n\
        a=ice-lite\n\
        a=fingerprint:{fingerprint}\n\
        a=group:BUNDLE 0 1\n\
        a=extmap-allow-mixed\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\n\
        c=IN IP4 0.0.0.0\n\
        a=ice-ufrag:{ufrag}\n\
        a=ice-pwd:{password}\n\
        a=setup:passive\n\
        a=mid:0\n\
        a=recvonly\n\
        a=rtcp-mux\n\
        a=rtcp-rsize\n\
        a=rtpmap:111 opus/48000/2\n\
        a=rtcp-fb:111 transport-cc\n\
        a=fmtp:111 stereo=1;useinbandfec=1\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\n\
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n\
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n\
        a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\n\
        a=candidate:2 1 udp 2130706175 2001:db8::1 40000 typ host\n\
        a=candidate:3 1 udp 2130705919 127.0.0.1 40000 typ host\n\
        a=end-of-candidates\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\n\
        c=IN IP4 0.0.0.0\n\
        a=ice-ufrag:{ufrag}\n\
        a=ice-pwd:{password}\n\
        a=setup:passive\n\
        a=mid:1\n\
        a=recvonly\n\
        a=rtcp-mux\n\
        a=rtcp-rsize\n\
        a=rtpmap:96 VP8/90000\n\
        a=rtcp-fb:96 nack\n\
        a=rtcp-fb:96 nack pli\n\
        a=rtcp-fb:96 ccm fir\n\
        a=rtcp-fb:96 transport-cc\n\
        a=rtpmap:97 rtx/90000\n\
        a=fmtp:97 apt=96\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\n\
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n",
        fingerprint = Fingerprint::sha256_of(b"ours"),
        ufrag = ours.ufrag(),
        password = ours.password(),
    );
    assert_eq!(answer.sdp, expected.replace('\n', "\r\n"));
    let [audio, video] = &answer.receive[..] else { panic!("two tracks") };
    assert_eq!(audio.extensions, ExtensionIds { mid: Some(4), twcc: Some(3), audio_level: Some(1) });
    assert_eq!(video.extensions, ExtensionIds { mid: Some(4), twcc: Some(3), audio_level: None });
    assert_eq!((audio.payload_type, video.payload_type, video.rtx_payload_type), (111, 96, Some(97)));
    assert!(video.ssrc.is_some() && video.rtx_ssrc.is_some() && audio.cname == video.cname && audio.cname.is_some());
}

#[test]
fn opus_parameters_say_stereo_where_it_matters() {
    let stereo_offer = CHROMIUM_PUBLISH.replace("useinbandfec=1", "useinbandfec=1;stereo=1;sprop-stereo=1");
    let (_, firefox) = fixture!("firefox-publish");
    for (sdp, stereo) in [(CHROMIUM_PUBLISH, false), (&*stereo_offer, true), (firefox, true)] {
        let answer = try_answer(sdp, &RECEIVE_BOTH).expect("an answer");
        assert_eq!(answer.receive[0].stereo, stereo);
        assert!(answer.sdp.contains(" stereo=1;useinbandfec=1\r\n"), "asked for in any case");
    }
    for (stereo, parameters) in [(true, "stereo=1;sprop-stereo=1;useinbandfec=1"), (false, "useinbandfec=1")] {
        let mut plans = send_both();
        let SectionPlan::Send(plan) = &mut plans[0] else { panic!("a send plan") };
        plan.stereo = stereo;
        let answer = try_answer(CHROMIUM_SUBSCRIBE, &plans).expect("an answer");
        assert!(answer.sdp.contains(&format!("a=fmtp:111 {parameters}\r\n")), "{}", answer.sdp);
    }
}

#[test]
fn a_stream_without_video_refuses_the_second_m_line() {
    let answer = try_answer(CHROMIUM_SUBSCRIBE, &[send(MediaKind::Audio), SectionPlan::Reject]).expect("an answer");
    assert!(answer.sdp.contains("a=group:BUNDLE 0\r\n"));
    let video = section_lines(&answer.sdp, 1);
    assert!(video[0].starts_with("m=video 0 UDP/TLS/RTP/SAVPF 96 "), "{video:?}");
    assert_eq!(video[1..], ["c=IN IP4 0.0.0.0", "a=mid:1", "a=inactive"]);
    assert_eq!(answer.send.len(), 1);
    well_formed("audio only", &answer.sdp);
}

#[test]
fn a_stream_without_audio_keeps_the_first_m_line_for_the_transport() {
    let answer = try_answer(CHROMIUM_SUBSCRIBE, &[SectionPlan::Reject, send(MediaKind::Video)]).expect("an answer");
    assert!(answer.sdp.contains("a=group:BUNDLE 0 1\r\n"));
    let audio = section_lines(&answer.sdp, 0);
    assert!(audio[0].starts_with("m=audio 9 ") && audio.contains(&"a=inactive"), "{audio:?}");
    assert!(audio.contains(&"a=end-of-candidates"), "{audio:?}");
    assert_eq!(answer.send.len(), 1);
    well_formed("video only", &answer.sdp);
}

#[test]
fn a_first_m_line_that_cannot_be_carried_leaves_the_transport_to_the_second() {
    let no_opus = CHROMIUM_SUBSCRIBE.replace("opus/48000/2", "opium/48000/2");
    let answer = try_answer(&no_opus, &send_both()).expect("an answer");
    assert!(answer.sdp.contains("a=group:BUNDLE 1\r\n"));
    assert!(section_lines(&answer.sdp, 0)[0].starts_with("m=audio 0 "));
    assert!(section_lines(&answer.sdp, 1).contains(&"a=end-of-candidates"));
    well_formed("no opus", &answer.sdp);
}

#[test]
fn a_data_channel_is_refused_and_stays_out_of_the_bundle() {
    let plans = [send(MediaKind::Audio), SectionPlan::Receive];
    let answer = try_answer(DATA_CHANNEL, &plans).expect("an answer");
    let data = section_lines(&answer.sdp, 1);
    assert_eq!(data, ["m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:1"]);
    assert!(answer.sdp.contains("a=group:BUNDLE 0\r\n"));
}

#[test]
fn directions_that_do_not_fit_the_plan_make_inactive_m_lines() {
    let recvonly_video = CHROMIUM_PUBLISH.replacen("a=sendonly", "a=sendrecv", 1).replace("a=sendonly", "a=recvonly");
    let answer = try_answer(&recvonly_video, &RECEIVE_BOTH).expect("an answer");
    assert_eq!(answer.receive.len(), 1);
    assert!(section_lines(&answer.sdp, 0).contains(&"a=recvonly"));
    assert!(section_lines(&answer.sdp, 1).contains(&"a=inactive"));
    let inactive = CHROMIUM_SUBSCRIBE.replacen("a=recvonly", "a=inactive", 1);
    let answer = try_answer(&inactive, &send_both()).expect("an answer");
    assert_eq!(answer.send.len(), 1);
    assert!(section_lines(&answer.sdp, 0).contains(&"a=inactive"));
}

#[test]
fn of_several_layers_one_is_accepted() {
    for (name, sdp) in [fixture!("chromium-simulcast"), fixture!("firefox-simulcast")] {
        let answer = try_answer(sdp, &RECEIVE_BOTH).expect("an answer");
        let video = section_lines(&answer.sdp, 1);
        assert!(video.contains(&"a=rid:q recv") && video.contains(&"a=simulcast:recv q"), "{name}: {video:?}");
        assert!(!video.iter().any(|line| line.starts_with("a=rid:h") || line.starts_with("a=rid:f")), "{name}");
        assert!(video.iter().any(|line| line.ends_with("sdes:rtp-stream-id")), "{name}");
        assert_eq!((answer.receive[1].ssrc, answer.receive[1].rtx_ssrc), (None, None), "{name}");
    }
}

#[test]
fn header_extensions_keep_their_ids_and_turn_their_directions() {
    let twcc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let one_way =
        |direction| CHROMIUM_PUBLISH.replace(&format!("a=extmap:3 {twcc}"), &format!("a=extmap:9/{direction} {twcc}"));
    let answer = try_answer(&one_way("sendonly"), &RECEIVE_BOTH).expect("an answer");
    assert!(answer.sdp.contains(&format!("a=extmap:9/recvonly {twcc}\r\n")));
    assert_eq!(answer.receive[1].extensions.twcc, Some(9));
    let answer = try_answer(&one_way("recvonly"), &RECEIVE_BOTH).expect("an answer");
    assert!(!answer.sdp.contains(twcc) && !answer.sdp.contains("transport-cc"), "feedback needs the extension");
    assert_eq!(answer.receive[1].extensions.twcc, None);
    // Ids above 14 need the two-byte form, which we do not write.
    let answer =
        try_answer(&CHROMIUM_PUBLISH.replace("a=extmap:4 ", "a=extmap:15 "), &RECEIVE_BOTH).expect("an answer");
    assert_eq!(answer.receive[0].extensions.mid, None);
    assert!(!answer.sdp.contains("sdes:mid"));
}

#[test]
fn nothing_is_answered_that_was_not_offered() {
    let (_, bare) = fixture!("libdatachannel-publish");
    let answer = try_answer(bare, &RECEIVE_BOTH).expect("an answer");
    for absent in ["extmap", "rtcp-rsize", "transport-cc", "ccm fir", "rtx"] {
        assert!(!answer.sdp.contains(absent), "{absent}");
    }
    let no_rtx = CHROMIUM_SUBSCRIBE.replace("a=fmtp:97 apt=96", "a=fmtp:97 apt=98");
    let answer = try_answer(&no_rtx, &send_both()).expect("an answer");
    let video = &answer.send[1];
    assert_eq!((video.rtx_payload_type, video.rtx_ssrc, video.nack), (None, None, false));
    let lines = section_lines(&answer.sdp, 1);
    assert!(!lines.iter().any(|line| line.contains("FID") || *line == "a=rtcp-fb:96 nack"), "{lines:?}");
}

#[test]
fn a_lone_m_line_needs_no_bundle() {
    let at = CHROMIUM_PUBLISH.find("m=video").expect("a video m-line");
    let lone = CHROMIUM_PUBLISH[..at].replace("a=group:BUNDLE 0 1\r\n", "");
    let answer = try_answer(&lone, &[SectionPlan::Receive]).expect("an answer");
    assert!(!answer.sdp.contains("a=group") && answer.sdp.contains("a=candidate:"));
}

#[test]
fn a_restart_is_answered_with_new_credentials_and_nothing_else_changed() {
    let before = parse(CHROMIUM_PUBLISH);
    let given = answer_as(&before, &RECEIVE_BOTH, 1).expect("an answer");
    let restarted =
        CHROMIUM_PUBLISH.replace(before.ice.ufrag(), "NEWu").replace(before.ice.password(), "newpasswordnewpassword22");
    let offer = parse(&restarted);
    let restart = |offer: &Offer, plans: &[SectionPlan]| {
        let local = LocalDescription {
            ice: &credentials(2),
            fingerprint: &Fingerprint::sha256_of(b"ours"),
            candidates: &["192.0.2.1:40000".parse().expect("an address")],
            session_id: 4_711,
            session_version: 2,
        };
        restart_answer(&before, &given, offer, &local, plans)
    };
    let answer = restart(&offer, &RECEIVE_BOTH).expect("an answer");
    assert!(answer.sdp.contains(credentials(2).ufrag()) && !answer.sdp.contains(credentials(1).ufrag()));
    assert!(answer.sdp.contains("o=- 4711 2 "));
    assert_eq!((&answer.receive, &answer.send), (&given.receive, &given.send));

    assert_eq!(restart(&before, &RECEIVE_BOTH), Err(SdpError::NotRestarted));
    let changes = [
        (restarted.replace("a=mid:1", "a=mid:2").replace("BUNDLE 0 1", "BUNDLE 0 2"), "the m-lines"),
        (restarted.replace("sha-256 58", "sha-256 59"), "a=fingerprint"),
        (restarted.replace("VP8/90000", "VP7/90000"), "codecs, header extensions, directions or sources"),
        (restarted.replace("a=extmap:4 ", "a=extmap:12 "), "codecs, header extensions, directions or sources"),
    ];
    for (changed, what) in changes {
        assert_eq!(restart(&parse(&changed), &RECEIVE_BOTH), Err(SdpError::ChangedByRestart(what)));
    }
}

#[test]
fn a_restart_may_announce_sources_of_a_single_layer() {
    let (_, sdp) = fixture!("firefox-simulcast");
    let before = parse(sdp);
    let given = answer_as(&before, &RECEIVE_BOTH, 1).expect("an answer");
    let single: String = sdp
        .lines()
        .filter(|line| !["a=rid", "a=simulcast"].iter().any(|start| line.starts_with(start)))
        .flat_map(|line| [line, "\r\n"])
        .collect();
    let single = single.replace(before.ice.ufrag(), "NEWu").replace(before.ice.password(), "newpasswordnewpassword22");
    let offer = parse(&single);
    assert!(offer.sections[1].rids.is_empty() && !offer.sections[1].sources.is_empty());
    let local = LocalDescription {
        ice: &credentials(2),
        fingerprint: &Fingerprint::sha256_of(b"ours"),
        candidates: &["192.0.2.1:40000".parse().expect("an address")],
        session_id: 4_711,
        session_version: 2,
    };
    let restarted = restart_answer(&before, &given, &offer, &local, &RECEIVE_BOTH).expect("an answer");
    assert_eq!(restarted.receive, given.receive);
}

#[test]
fn plans_of_the_wrong_kind_or_number_and_unsafe_names_do_not_reach_an_answer() {
    let swapped = [send(MediaKind::Video), send(MediaKind::Audio)];
    assert_eq!(try_answer(CHROMIUM_SUBSCRIBE, &swapped), Err(SdpError::NothingUsable));
    assert!(matches!(try_answer(CHROMIUM_SUBSCRIBE, &[]), Err(SdpError::BadPlan(_))));
    let twice = [send(MediaKind::Audio), send(MediaKind::Audio), SectionPlan::Reject];
    assert!(matches!(try_answer(CHROMIUM_SUBSCRIBE, &twice), Err(SdpError::BadPlan(_))));
    for name in ["", "two words", "line\r\na=evil:1", &"x".repeat(65)] {
        for change in [0, 1, 2] {
            let mut plans = send_both();
            let SectionPlan::Send(plan) = &mut plans[0] else { panic!("a send plan") };
            match change {
                0 => plan.stream_id = name.into(),
                1 => plan.track_id = name.into(),
                _ => plan.cname = name.repeat(4).into(),
            }
            assert!(matches!(try_answer(CHROMIUM_SUBSCRIBE, &plans), Err(SdpError::BadPlan(_))), "{name}");
        }
    }
    let offer = parse(CHROMIUM_SUBSCRIBE);
    let local = LocalDescription {
        ice: &credentials(1),
        fingerprint: &Fingerprint::sha256_of(b"ours"),
        candidates: &[],
        session_id: 0,
        session_version: 0,
    };
    assert!(matches!(answer(&offer, &local, &send_both()), Err(SdpError::BadPlan(_))));
}

#[test]
fn many_tracks_share_one_transport() {
    let at = CHROMIUM_SUBSCRIBE.find("m=video").expect("a video m-line");
    let (session, audio) = CHROMIUM_SUBSCRIBE[..at].split_at(CHROMIUM_SUBSCRIBE.find("m=audio").expect("an m-line"));
    let mids: Vec<String> = (0..30).map(|mid| mid.to_string()).collect();
    let mut sdp = session.replace("BUNDLE 0 1", &format!("BUNDLE {}", mids.join(" ")));
    let mut plans = Vec::new();
    for (number, mid) in (0..).zip(&mids) {
        sdp.push_str(&audio.replace("a=mid:0", &format!("a=mid:{mid}")));
        let SectionPlan::Send(plan) = send(MediaKind::Audio) else { panic!("a send plan") };
        plans.push(SectionPlan::Send(SendPlan { ssrc: 5_000 + number, ..plan }));
    }
    let answer = try_answer(&sdp, &plans).expect("an answer");
    assert_eq!(answer.send.len(), 30);
    well_formed("30 tracks", &answer.sdp);
    let SectionPlan::Send(last) = &mut plans[29] else { panic!("a send plan") };
    last.ssrc = 5_000;
    assert!(matches!(try_answer(&sdp, &plans), Err(SdpError::BadPlan(_))), "the same SSRC twice");
}
