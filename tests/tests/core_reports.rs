//! What the core reports and asks for, against what really happened, in virtual time: sender reports that keep lips and voice
//! together, receiver reports, arrivals for the publisher's bandwidth estimate, requests for keyframes and for lost packets.

use loadtests::{
    network::Quality,
    peer::{
        Certificate, MediaClock, PeerConfig, PeerEvent, Section,
        rtcp::{self, ReportBlock, SenderReport},
    },
    simulation::{Binding, ClientId, Simulation},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// How exactly the tests below know when something happened.
const TICK: Duration = Duration::from_millis(1);
/// One way. The core takes the round trip to a publisher for 60 ms: on a longer one it would ask twice for what is under way.
const DELAY: Duration = Duration::from_millis(20);
/// Nothing is lost or overtaken but by the test's own hand.
const PATH: Quality = Quality { delay: DELAY, ..Quality::PERFECT };
const PACKET: Duration = Duration::from_millis(20);

/// Real clocks of one device drift apart by less; so much shows within half a minute. The first one wraps within two seconds.
const AUDIO_CLOCK: MediaClock = MediaClock { start: u32::MAX - 60_000, drift: 250.0 };
const VIDEO_CLOCK: MediaClock = MediaClock { start: 1_234_567_890, drift: -150.0 };

const BOTH_SENT: [Section; 2] = [Section::SEND_AUDIO, Section::SEND_VIDEO];
const BOTH_RECEIVED: [Section; 2] = [Section::RECEIVE_AUDIO, Section::RECEIVE_VIDEO];
const AUDIO: usize = 0;
const VIDEO: usize = 1;

/// A packet that carries a number, of a length that depends on it.
fn payload(section: usize, keyframe: bool, number: u32) -> Vec<u8> {
    let head = if section == AUDIO { [0xFC, 0] } else { [0x10, u8::from(!keyframe)] };
    [head.as_slice(), &number.to_be_bytes(), &vec![7; 20 + (number * 13 % 900) as usize]].concat()
}

fn number_of(payload: &[u8]) -> u32 {
    payload[2..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).expect("a number")
}

/// Has a client seal a packet captured now. Gives its sequence number with rollover counter.
fn send(simulation: &mut Simulation, client: ClientId, section: usize, keyframe: bool, number: u32) -> u64 {
    let now = simulation.now();
    let peer = &mut simulation.client(client).peer;
    let timestamp = peer.rtp_timestamp(now, section);
    peer.send(section, timestamp, section == VIDEO, &payload(section, keyframe, number)).expect("connected")
}

/// Takes what was just sealed away from the network.
fn take_sealed(simulation: &mut Simulation, client: ClientId) -> Vec<u8> {
    let peer = &mut simulation.client(client).peer;
    let datagram = peer.poll_transmit().expect("a packet was sealed");
    assert_eq!(peer.poll_transmit(), None, "nothing but this packet waits");
    datagram
}

fn events(simulation: &mut Simulation, client: ClientId) -> Vec<PeerEvent> {
    std::mem::take(&mut simulation.client(client).events)
}

/// What a subscriber makes of one track, as a receiver does that plays it.
#[derive(Default)]
struct Heard {
    packets: u32,
    octets: u32,
    reports: u32,
    line: Option<SenderReport>,
    /// When each numbered packet is to be played, on the wall clock of the sender reports, in seconds.
    played: BTreeMap<u32, f64>,
}

impl Heard {
    fn report(&mut self, report: SenderReport) {
        assert_eq!((report.packets, report.octets), (self.packets, self.octets), "counted otherwise than sent");
        self.reports += 1;
        self.line = Some(report);
    }

    fn packet(&mut self, section: usize, timestamp: u32, payload: &[u8]) {
        self.packets += 1;
        self.octets += payload.len() as u32;
        if let Some(line) = self.line {
            let rate = if section == AUDIO { 48_000.0 } else { 90_000.0 };
            let since = f64::from(timestamp.wrapping_sub(line.rtp) as i32) / rate;
            self.played.insert(number_of(payload), line.ntp as f64 / 2f64.powi(32) + since);
        }
    }
}

/// A publisher of both kinds and its subscribers.
struct Call {
    simulation: Simulation,
    publisher: ClientId,
    subscribers: Vec<(ClientId, [Heard; 2])>,
    keyframe: bool,
}

impl Call {
    /// Audio every 20 ms, a frame with every other packet of it that is captured at the same instant.
    fn go_on(&mut self, numbers: std::ops::Range<u32>, with_audio: bool) {
        for number in numbers {
            let wanted = PeerEvent::KeyframeRequest(VIDEO);
            self.keyframe |= events(&mut self.simulation, self.publisher).contains(&wanted);
            if with_audio {
                send(&mut self.simulation, self.publisher, AUDIO, false, number);
            }
            if number.is_multiple_of(2) {
                let keyframe = std::mem::take(&mut self.keyframe);
                send(&mut self.simulation, self.publisher, VIDEO, keyframe, number);
            }
            self.simulation.run_for(PACKET);
            self.listen();
        }
    }

    fn listen(&mut self) {
        for (client, tracks) in &mut self.subscribers {
            let ssrcs = [AUDIO, VIDEO].map(|section| {
                let answer = self.simulation.client(*client).peer.answer();
                answer.and_then(|answer| answer.sections[section].ssrcs).expect("a track").media
            });
            for event in events(&mut self.simulation, *client) {
                match event {
                    PeerEvent::SenderReport(report) => {
                        let section = ssrcs.iter().position(|ssrc| *ssrc == report.ssrc).expect("of a track");
                        tracks[section].report(report);
                    }
                    PeerEvent::Media(media) => {
                        tracks[media.section].packet(media.section, media.timestamp, &media.payload);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn lips_and_voice_stay_together_over_drift_and_silence_and_for_who_joins_late() {
    // On its way to the node every datagram takes another time: a line made of arrivals would be off by as much.
    let uneven = Quality { jitter: Duration::from_millis(25), ..PATH };
    let mut simulation = Simulation::new(41, 2).expect("keys");
    let certificate = Certificate::generate().expect("a certificate");
    let mut config = PeerConfig::new(41, certificate, BOTH_SENT.to_vec());
    (config.audio_clock, config.video_clock) = (AUDIO_CLOCK, VIDEO_CLOCK);
    let opened = simulation.open_with(0, uneven, config, &[Binding::Publish(vec![AUDIO, VIDEO])]).expect("opens");
    let join = |simulation: &mut Simulation, shard| {
        let binding = Binding::Subscribe(opened.publications[0], vec![AUDIO, VIDEO]);
        (simulation.open(shard, PATH, &BOTH_RECEIVED, &[binding]).expect("opens").client, <[Heard; 2]>::default())
    };
    let subscribers = vec![join(&mut simulation, 0), join(&mut simulation, 1)];
    assert!(simulation.connect_all(Duration::from_secs(5)));
    let mut call = Call { simulation, publisher: opened.client, subscribers, keyframe: true };
    call.go_on(0..500, true);
    // Two seconds of silence, of which nothing is sent.
    call.go_on(500..600, false);
    call.go_on(600..750, true);
    let late = [0, 1].map(|shard| join(&mut call.simulation, shard));
    call.subscribers.extend(late);
    call.go_on(750..1_500, true);

    for (position, (client, tracks)) in call.subscribers.iter().enumerate() {
        let [audio, video] = tracks;
        // The publisher's own first report takes up to a second, and after it the node's; who joins later waits for the latter.
        let (joined, patience) = if position < 2 { (0, 2_200) } else { (750, 1_300) };
        let pairs: Vec<_> = audio
            .played
            .iter()
            .filter_map(|(number, voice)| Some((*number, voice - video.played.get(number)?)))
            .collect();
        let first = pairs.first().expect("audio and video of one instant").0;
        assert!((first - joined) * 20 <= patience, "{client:?} could not synchronise before packet {first}");
        let silent = if joined == 0 { 50 } else { 0 };
        assert!(pairs.len() as u32 >= (1_500 - first) / 2 - silent - 2, "{client:?}: {} pairs", pairs.len());
        for (number, apart) in pairs {
            assert!(apart.abs() < 0.002, "{client:?}: at packet {number}, audio plays {:.1} ms late", apart * 1e3);
        }
        for track in tracks {
            let seconds = (1_500 - joined) / 50;
            assert!((seconds - 2..=seconds + 1).contains(&track.reports), "{} reports in {seconds} s", track.reports);
        }
    }
}

#[test]
fn what_is_sent_again_counts_once_in_sender_reports() {
    let mut simulation = Simulation::new(42, 1).expect("keys");
    let publisher = simulation.open(0, PATH, &BOTH_SENT, &[Binding::Publish(vec![0, 1])]).expect("opens");
    let binding = Binding::Subscribe(publisher.publications[0], vec![0, 1]);
    let subscriber = simulation.open(0, PATH, &BOTH_RECEIVED, &[binding]).expect("opens").client;
    assert!(simulation.connect_all(Duration::from_secs(5)));
    simulation.client(subscriber).set_quality(Quality { loss: 0.1, ..PATH });
    let mut octets = [0; 2];
    for number in 0..500 {
        for section in [AUDIO, VIDEO] {
            send(&mut simulation, publisher.client, section, number == 0, number);
            octets[section] += payload(section, false, number).len() as u32;
        }
        simulation.run_for(PACKET);
    }
    simulation.client(subscriber).set_quality(PATH);
    simulation.run_for(Duration::from_secs(3));
    assert!(simulation.shard(0).counters().packets_retransmitted > 20, "nothing was sent again");
    let ssrcs = simulation.client(subscriber).peer.answer().expect("answered").clone().sections;
    let reports = events(&mut simulation, subscriber).into_iter().filter_map(|event| match event {
        PeerEvent::SenderReport(report) => Some((report.ssrc, (report.packets, report.octets))),
        _ => None,
    });
    let last: HashMap<u32, (u32, u32)> = reports.collect();
    for section in [AUDIO, VIDEO] {
        let ssrc = ssrcs[section].ssrcs.expect("a track").media;
        assert_eq!(last.get(&ssrc), Some(&(500, octets[section])), "section {section}");
    }
}

/// What one track's publisher knows of its packets: which were lost, and when the others arrived.
#[derive(Default)]
struct Sent {
    arrived: Vec<(Instant, u64)>,
    lost: Vec<u64>,
    reported: Option<ReportBlock>,
    reports: u32,
}

impl Sent {
    /// The newest packet that had arrived so long ago.
    fn newest(&self, now: Instant, ago: Duration) -> Option<u64> {
        self.arrived.iter().rev().find(|(at, _)| *at + ago <= now).map(|(_, index)| *index)
    }

    /// Holds a report that came in against what was sent.
    fn check(&mut self, now: Instant, block: ReportBlock) {
        let possible = [DELAY + TICK, DELAY].map(|ago| self.newest(now, ago));
        assert!(possible.contains(&Some(block.highest.into())), "highest is {}, not {possible:?}", block.highest);
        let first = self.arrived[0].1;
        let before = self.reported.map_or(first, |before| u64::from(before.highest) + 1);
        let highest = u64::from(block.highest);
        let lost_since = self.lost.iter().filter(|lost| (before..=highest).contains(lost)).count() as u64;
        let fraction = (lost_since * 256).checked_div(highest + 1 - before).unwrap_or(0);
        assert_eq!(u64::from(block.fraction_lost), fraction, "{lost_since} of {before}..={highest} were lost");
        assert_eq!(block.lost as usize, self.lost.iter().filter(|lost| (first..=highest).contains(lost)).count());
        self.reported = Some(block);
        self.reports += 1;
    }
}

#[test]
fn a_publisher_is_told_what_was_lost_how_far_its_packets_got_and_its_round_trip() {
    const SECONDS: u32 = 35;
    let mut simulation = Simulation::new(43, 1).expect("keys");
    let publisher = simulation.open(0, PATH, &BOTH_SENT, &[Binding::Publish(vec![0, 1])]).expect("opens").client;
    assert!(simulation.connect_all(Duration::from_secs(5)));
    let connected = simulation.now();
    let ssrcs =
        [AUDIO, VIDEO].map(|section| simulation.client(publisher).peer.sent_ssrcs(section).expect("sent").media);
    let mut tracks = <[Sent; 2]>::default();
    // Sequence numbers begin less than 1,536 before their end: within 31 s both tracks wrap around.
    for number in 0..SECONDS * 50 {
        for (section, sent) in tracks.iter_mut().enumerate() {
            let index = send(&mut simulation, publisher, section, number == 0, number);
            // Seconds of no loss, of a quarter lost, and, for the audio, of nearly everything lost.
            let lost = match number / 50 % 5 {
                1 => number % 4 == 2,
                3 => section == AUDIO && number % 10 != 0,
                _ => false,
            };
            if lost {
                take_sealed(&mut simulation, publisher);
                sent.lost.push(index);
            } else {
                sent.arrived.push((simulation.now() + DELAY, index));
            }
        }
        for _ in 0..PACKET.as_millis() {
            simulation.run_for(TICK);
            let now = simulation.now();
            for event in events(&mut simulation, publisher) {
                let PeerEvent::Report(block) = event else { continue };
                let track = ssrcs.iter().position(|ssrc| *ssrc == block.ssrc).expect("of a track");
                tracks[track].check(now, block);
                assert!(block.jitter < 48, "an even stream has no jitter: {block:?}");
                if now < connected + Duration::from_millis(2_200) && block.last_report == 0 {
                    continue;
                }
                assert!(block.delay <= 66_000, "of an older sender report than the last: {block:?}");
                let compact = (simulation.client(publisher).peer.ntp(now) >> 16) as u32;
                let round_trip =
                    f64::from(compact.wrapping_sub(block.last_report).wrapping_sub(block.delay)) / 65_536.0;
                let truth = (DELAY * 2).as_secs_f64();
                assert!((round_trip - truth).abs() < 0.002, "a round trip of {round_trip} s and not of {truth}");
            }
        }
    }
    for (track, sent) in tracks.iter().enumerate() {
        assert!((SECONDS - 2..=SECONDS).contains(&sent.reports), "{} reports in {SECONDS} s", sent.reports);
        assert!(sent.reported.is_some_and(|last| last.highest > 65_536), "track {track} did not wrap around");
    }
}

#[test]
fn a_publisher_is_told_when_each_packet_arrived_and_which_did_not() {
    let mut simulation = Simulation::new(44, 1).expect("keys");
    let publisher = simulation.open(0, PATH, &BOTH_SENT, &[Binding::Publish(vec![0, 1])]).expect("opens").client;
    assert!(simulation.connect_all(Duration::from_secs(5)));
    let address = simulation.client(publisher).address();
    let mut random = StdRng::seed_from_u64(44);
    let mut fate: HashMap<u16, Option<Instant>> = HashMap::new();
    let mut told: HashMap<u16, (Instant, i64)> = HashMap::new();
    let mut missed: Vec<u16> = Vec::new();
    let mut held: Option<(u16, Vec<u8>)> = None;
    for number in 0..3_000 {
        // Video is not lost, or the test would have to follow its retransmissions.
        let section = if random.random_bool(0.5) { AUDIO } else { VIDEO };
        let seq = simulation.client(publisher).peer.next_transport_seq();
        send(&mut simulation, publisher, section, number == 0, number);
        let datagram = take_sealed(&mut simulation, publisher);
        let now = simulation.now();
        let mut arriving = Vec::new();
        match random.random_range(0..10) {
            0 | 1 if section == AUDIO => {
                fate.insert(seq, None);
            }
            2 if section == AUDIO && held.is_none() => held = Some((seq, datagram)),
            _ => arriving.push((seq, datagram)),
        }
        if random.random_bool(0.3) {
            arriving.extend(held.take());
        }
        for (seq, datagram) in arriving {
            simulation.inject(0, address, &datagram);
            fate.insert(seq, Some(now));
        }
        // Back to back, some milliseconds apart, and now and then further than one byte of 250 µs reaches.
        let wait = match random.random_range(0..12) {
            0 => 70 + random.random_range(0..200),
            1..6 => 0,
            _ => random.random_range(1..15),
        };
        for _ in 0..wait {
            simulation.run_for(TICK);
            let now = simulation.now();
            for event in events(&mut simulation, publisher) {
                let PeerEvent::TransportFeedback(feedback) = event else { continue };
                for (position, at) in feedback.arrivals.into_iter().enumerate() {
                    let seq = feedback.first.wrapping_add(position as u16);
                    if let Some(at) = at {
                        told.entry(seq).or_insert((now, at));
                    } else {
                        assert!(
                            fate.get(&seq).is_none_or(|fate| fate.is_none_or(|at| at + DELAY + TICK >= now)),
                            "{seq} was there"
                        );
                        missed.push(seq);
                    }
                }
            }
        }
    }
    let arrived = fate.iter().filter_map(|(seq, fate)| Some((*seq, (*fate)?)));
    let (first_at, first_told) =
        arrived.clone().filter_map(|(seq, at)| Some((at, told.get(&seq)?.1))).min().expect("some");
    let end = simulation.now();
    let mut compared = 0;
    for (seq, at) in arrived.filter(|(_, at)| *at + Duration::from_millis(200) < end) {
        let (heard, told) = *told.get(&seq).unwrap_or_else(|| panic!("nothing was said of {seq}"));
        let truth = (at - first_at).as_nanos() as i64;
        let off = (told - first_told) * 250_000 - truth;
        assert!(off.abs() <= 250_000, "{seq}: {off} ns off");
        // 50 ms between two of them, 5 ms of the timer's, and the way back.
        assert!(heard <= at + Duration::from_millis(55) + DELAY + TICK, "{seq} was told of {:?} later", heard - at);
        compared += 1;
    }
    let lost: Vec<u16> = fate.iter().filter(|(_, fate)| fate.is_none()).map(|(seq, _)| *seq).collect();
    assert!(compared > 2_000 && lost.len() > 200, "{compared} arrived, {} lost", lost.len());
    assert!(told.keys().all(|seq| !lost.contains(seq)), "something lost was said to have arrived");
    let unsaid: Vec<_> = lost.iter().filter(|seq| !missed.contains(seq)).collect();
    assert!(unsaid.len() <= 5, "nothing was said of {unsaid:?}, of which only the last few may still be open");
}

/// Has a subscriber ask for a keyframe every 20 ms for 8 s, and gives the milliseconds after which its publisher was
/// asked.
fn asked(request: fn(u32, u8) -> Vec<u8>) -> Vec<u64> {
    let mut simulation = Simulation::new(45, 1).expect("keys");
    let publisher = simulation.open(0, PATH, &[Section::SEND_VIDEO], &[Binding::Publish(vec![0])]).expect("opens");
    let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
    let subscriber = simulation.open(0, PATH, &[Section::RECEIVE_VIDEO], &[binding]).expect("opens").client;
    assert!(simulation.connect_all(Duration::from_secs(5)));
    let mut number = 0;
    let mut play = |simulation: &mut Simulation| {
        let now = simulation.now();
        let peer = &mut simulation.client(publisher.client).peer;
        peer.send(0, peer.rtp_timestamp(now, 0), true, &payload(VIDEO, number == 0, number)).expect("connected");
        number += 1;
        for _ in 0..PACKET.as_millis() {
            simulation.run_for(TICK);
        }
    };
    for _ in 0..100 {
        play(&mut simulation);
    }
    events(&mut simulation, publisher.client);
    for _ in 0..100 {
        play(&mut simulation);
    }
    let unasked = PeerEvent::KeyframeRequest(0);
    assert!(!events(&mut simulation, publisher.client).contains(&unasked), "nobody needs a keyframe");
    let ssrc = simulation.client(subscriber).peer.answer().and_then(|answer| answer.sections[0].ssrcs);
    let ssrc = ssrc.expect("a track").media;
    simulation.client(subscriber).peer.send_rtcp(request(!ssrc, 0));
    for _ in 0..50 {
        play(&mut simulation);
    }
    assert!(!events(&mut simulation, publisher.client).contains(&unasked), "that was for another track");
    let mut times = Vec::new();
    for tick in 0..10_000_u64 {
        if tick % 20 == 0 && tick < 8_000 {
            simulation.client(subscriber).peer.send_rtcp(request(ssrc, (tick / 20) as u8));
        }
        simulation.run_for(TICK);
        let requests = events(&mut simulation, publisher.client).into_iter().filter(|event| *event == unasked);
        times.extend(requests.map(|_| tick + 1));
    }
    times
}

#[test]
fn either_request_for_a_keyframe_reaches_the_publisher_at_once_and_not_as_often_as_a_subscriber_likes() {
    for request in [|ssrc, _| rtcp::picture_loss(1, ssrc), |ssrc, number| rtcp::full_intra(1, ssrc, number)] {
        let times = asked(request);
        assert!(u128::from(times[0]) <= (DELAY * 2 + TICK).as_millis(), "{times:?}");
        let apart = times.windows(2).map(|pair| pair[1] - pair[0]).min().expect("more than one");
        assert!(apart >= 499, "{times:?}");
        // One at once and one for each half of a second, until what a subscriber may save up is used; then one every two seconds.
        let halves: Vec<_> = times.iter().map(|time| (time + 250) / 500).collect();
        assert_eq!(halves, [0, 1, 2, 4, 8, 12], "{times:?}");
    }
}

/// A publisher of video, its subscriber, and the packets that were taken away.
struct Holes {
    simulation: Simulation,
    publisher: ClientId,
    subscriber: ClientId,
    number: u32,
    requests: Vec<(Instant, Vec<u16>)>,
}

impl Holes {
    fn new(seed: u64) -> Self {
        let mut simulation = Simulation::new(seed, 1).expect("keys");
        let publisher = simulation.open(0, PATH, &[Section::SEND_VIDEO], &[Binding::Publish(vec![0])]).expect("opens");
        let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
        let subscriber = simulation.open(0, PATH, &[Section::RECEIVE_VIDEO], &[binding]).expect("opens").client;
        assert!(simulation.connect_all(Duration::from_secs(5)));
        Self { simulation, publisher: publisher.client, subscriber, number: 0, requests: Vec::new() }
    }

    /// Sends packets 2 ms apart; the last `lost` of them never leave. Gives the sequence numbers of these.
    fn play(&mut self, count: u32, lost: u32) -> Vec<u16> {
        let mut taken = Vec::new();
        for left in (0..count).rev() {
            let now = self.simulation.now();
            let peer = &mut self.simulation.client(self.publisher).peer;
            let (timestamp, payload) = (peer.rtp_timestamp(now, 0), payload(VIDEO, self.number == 0, self.number));
            let index = peer.send(0, timestamp, true, &payload).expect("connected");
            self.number += 1;
            if left < lost {
                take_sealed(&mut self.simulation, self.publisher);
                taken.push(index as u16);
            }
            self.run_for(TICK * 2);
        }
        taken
    }

    fn run_for(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() {
            self.simulation.run_for(TICK);
            let now = self.simulation.now();
            let asked = events(&mut self.simulation, self.publisher).into_iter();
            self.requests.extend(asked.filter_map(|event| match event {
                PeerEvent::Nack(0, lost) => Some((now, lost)),
                _ => None,
            }));
        }
    }

    /// Everything was handed on, and no more is asked for.
    fn all_is_whole(&mut self) {
        self.requests.clear();
        self.run_for(Duration::from_secs(3));
        assert_eq!(self.requests, []);
        let media = events(&mut self.simulation, self.subscriber).into_iter().filter_map(|event| match event {
            PeerEvent::Media(media) => Some((media.index, number_of(&media.payload))),
            _ => None,
        });
        let numbers: Vec<_> = media.collect::<BTreeMap<_, _>>().into_values().collect();
        assert_eq!(numbers, (0..self.number).collect::<Vec<_>>());
    }
}

#[test]
fn a_hole_is_asked_of_the_publisher_once_and_by_its_very_numbers() {
    let mut holes = Holes::new(46);
    holes.play(50, 0);
    for size in [1, 2, 17, 40] {
        let lost = holes.play(20 + size, size);
        let seen = holes.simulation.now() + DELAY;
        holes.play(100, 0);
        let requests = std::mem::take(&mut holes.requests);
        let [(at, asked)] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!(*asked, lost);
        let since = *at - seen;
        // It may have been overtaken, which 5 ms rule out; the timer may take 5 ms more. Then the way back.
        let due = Duration::from_millis(5) + DELAY;
        assert!((due..=due + TICK * 6).contains(&since), "asked for {since:?} after the hole showed");
    }
    holes.all_is_whole();
    assert_eq!(holes.simulation.shard(0).counters().packets_recovered, 60);
}

#[test]
fn a_request_that_is_lost_is_repeated_a_round_trip_later() {
    let mut holes = Holes::new(47);
    holes.play(50, 0);
    let lost = holes.play(23, 3);
    let seen = holes.simulation.now() + DELAY;
    holes.play(10, 0);
    // The first request falls into the time when nothing gets through.
    holes.simulation.client(holes.publisher).set_quality(Quality { loss: 1.0, ..PATH });
    holes.run_for(Duration::from_millis(50));
    assert_eq!(holes.simulation.shard(0).counters().nacks_sent, 3);
    holes.simulation.client(holes.publisher).set_quality(PATH);
    holes.run_for(Duration::from_millis(100));
    let [(at, asked)] = holes.requests.as_slice() else { panic!("{:?}", holes.requests) };
    assert_eq!(*asked, lost);
    // As for the first, which had to wait 5 ms, and then the 60 ms that a round trip is taken for.
    let due = seen + Duration::from_millis(5 + 60) + DELAY;
    assert!((due..=due + TICK * 11).contains(at), "repeated {:?} after the hole showed", *at - seen);
    holes.all_is_whole();
}
