//! Tests of the control side against shards that only collect their orders.

use std::fmt::Write;
use std::sync::mpsc;

use proto::sfu;
use proto::sfu::watch_event;
use sfu_core::dtls::Identity;
use sfu_core::{CloseReason, TransportHandle};
use tonic::{Code, Status};

use super::*;
use crate::drive::Order;

mod draining;
mod overloaded;
mod recordings;
mod surveys;

/// A control side of two shards, and what they were ordered to do.
struct Rig {
    control: Control,
    orders: Vec<mpsc::Receiver<Order>>,
}

impl Rig {
    fn new() -> Self {
        Self::with_capacity(100)
    }

    fn with_capacity(max_transports: usize) -> Self {
        let (shards, orders): (Vec<_>, Vec<_>) = (0..2).map(ShardHandle::detached).unzip();
        let local = Local {
            fingerprint: Identity::generate().expect("a certificate").fingerprint(),
            candidates: shards.iter().map(|shard| vec![shard.bound]).collect(),
            max_transports,
        };
        let watchers = Watchers::new(max_transports);
        Self { control: Control::new(shards, local, watchers), orders }
    }

    fn negotiate(&self, request: sfu::NegotiateRequest) -> Result<Outcome, Status> {
        let request = Negotiation::try_from(request)?;
        Ok(self.control.negotiate(&request)?)
    }

    /// Commands that shards were given since the last call, with the shard.
    fn commands(&self) -> Vec<(usize, Command)> {
        let of_shard = |(shard, orders): (usize, &mpsc::Receiver<Order>)| {
            orders.try_iter().flatten().map(move |command| (shard, command)).collect::<Vec<_>>()
        };
        self.orders.iter().enumerate().flat_map(of_shard).collect()
    }

    fn names(&self) -> Vec<&'static str> {
        self.commands().iter().map(|(_, command)| name(command)).collect()
    }

    fn published(&self, client: &str) -> String {
        let id = format!("{client}#1");
        self.negotiate(publish(client, &id, &[AUDIO, VIDEO])).expect("published");
        self.commands();
        id
    }

    fn subscribed(&self, client: &str, publication: &str) -> String {
        let id = format!("{client}#9");
        self.negotiate(subscribe(client, &id, publication, &[AUDIO_DOWN, VIDEO_DOWN])).expect("subscribed");
        self.commands();
        id
    }

    /// A watch of the room that has had its snapshot.
    fn watch(&self) -> WatchQueue {
        let mut queue = self.watch_unread();
        self.snapshot(&mut queue, &mut VecDeque::from([room()]));
        queue
    }

    /// A watch of the room that has been told nothing yet.
    fn watch_unread(&self) -> WatchQueue {
        let queue = self.control.open_watch().expect("a watch");
        self.control.change_watch(queue.id, &[room()], &[]).expect("a room");
        queue
    }

    fn snapshot(&self, queue: &mut WatchQueue, rooms: &mut VecDeque<RoomId>) -> sfu::Snapshot {
        match self.control.snapshot(queue, rooms).as_ref() {
            watch_event::Event::Snapshot(snapshot) => snapshot.clone(),
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::OpenTransport(_) => "open",
        Command::Publish { .. } => "publish",
        Command::Subscribe { .. } => "subscribe",
        Command::RestartIce { .. } => "restart",
        Command::CloseTransport(_) => "close transport",
        Command::ClosePublication(_) => "close publication",
        Command::CloseSubscription(_) => "close subscription",
    }
}

fn room() -> RoomId {
    RoomId::new("room").expect("valid")
}

/// Kind, identification tag and direction of an m-line.
type Line<'a> = (&'a str, &'a str, &'a str);

const AUDIO: Line<'_> = ("audio", "0", "sendonly");
const VIDEO: Line<'_> = ("video", "1", "sendonly");
const AUDIO_DOWN: Line<'_> = ("audio", "0", "recvonly");
const VIDEO_DOWN: Line<'_> = ("video", "1", "recvonly");

const DIGEST: &str = "9A:BC:DE:F0:12:34:56:78:9A:BC:DE:F0:12:34:56:78:9A:BC:DE:F0:12:34:56:78:9A:BC:DE:F0:12:34:56:78";

fn offer(ufrag: &str, lines: &[Line<'_>]) -> String {
    let tags: Vec<&str> = lines.iter().map(|(_, tag, _)| *tag).collect();
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
        tags.join(" ")
    );
    for (kind, tag, direction) in lines {
        let codec = match *kind {
            "audio" => "111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1",
            _ => {
                "96 97\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96"
            }
        };
        let (payload_types, attributes) = codec.split_once("\r\n").expect("both parts");
        write!(
            sdp,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {payload_types}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\n\
             a=ice-pwd:{ufrag}0123456789abcdef01234567\r\na=fingerprint:sha-256 {DIGEST}\r\na=setup:actpass\r\na=mid:{tag}\r\n\
             a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na={direction}\r\na=rtcp-mux\r\n{attributes}\r\n"
        )
        .expect("a string takes all");
    }
    sdp
}

fn request(transport: &str, client: &str, offer_sdp: String) -> sfu::NegotiateRequest {
    sfu::NegotiateRequest {
        transport_id: transport.to_owned(),
        room_id: room().to_string(),
        client_id: client.to_owned(),
        offer_sdp,
        ..sfu::NegotiateRequest::default()
    }
}

fn publication(id: &str, tags: &[&str]) -> sfu::PublicationBinding {
    sfu::PublicationBinding {
        publication_id: id.to_owned(),
        sections: Some(sfu::Sections { mids: tags.iter().map(|&tag| tag.to_owned()).collect() }),
        metadata: b"{}".to_vec(),
        audio: true,
        video: true,
    }
}

fn subscription(id: &str, of: &str, tags: &[&str]) -> sfu::SubscriptionBinding {
    sfu::SubscriptionBinding {
        subscription_id: id.to_owned(),
        publication_id: of.to_owned(),
        sections: Some(sfu::Sections { mids: tags.iter().map(|&tag| tag.to_owned()).collect() }),
    }
}

fn publish(client: &str, id: &str, lines: &[Line<'_>]) -> sfu::NegotiateRequest {
    let publications = vec![publication(id, &[])];
    sfu::NegotiateRequest { publications, ..request(id, client, offer("ufrag", lines)) }
}

fn subscribe(client: &str, id: &str, of: &str, lines: &[Line<'_>]) -> sfu::NegotiateRequest {
    let subscriptions = vec![subscription(id, of, &[])];
    sfu::NegotiateRequest { subscriptions, ..request(id, client, offer("ufrag", lines)) }
}

fn code(result: Result<Outcome, Status>) -> Code {
    result.expect_err("refused").code()
}

#[test]
fn publishing_opens_a_transport_with_a_publication() {
    let rig = Rig::new();
    let outcome = rig.negotiate(publish("ann", "ann#1", &[AUDIO, VIDEO])).expect("published");
    assert_eq!(outcome.publications, [(Mid::new("ann#1").expect("valid"), true, true)]);
    for line in ["a=ice-lite", "a=setup:passive", "a=recvonly", "127.0.0.1 4000", "opus/48000/2", "VP8/90000"] {
        assert!(outcome.answer.contains(line), "{line} in {}", outcome.answer);
    }
    match &rig.commands()[..] {
        [(0, Command::OpenTransport(open)), (0, Command::Publish { transport, tracks, .. })] => {
            assert_eq!((open.transport, tracks.len()), (*transport, 2));
            assert!(outcome.answer.contains(open.local.ufrag()) && outcome.answer.contains(open.local.password()));
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn the_same_request_again_gets_the_same_answer_and_changes_nothing() {
    let rig = Rig::new();
    let request = publish("ann", "ann#1", &[AUDIO, VIDEO]);
    let first = rig.negotiate(request.clone()).expect("published");
    rig.commands();
    assert_eq!(rig.negotiate(request).expect("again"), first);
    assert!(rig.commands().is_empty());
    assert_eq!(rig.control.census().transports, 1);
}

#[test]
fn all_transports_of_one_client_are_on_one_shard_and_clients_are_spread() {
    let rig = Rig::new();
    for client in ["ann", "bob", "cid", "dan"] {
        for number in 0..3 {
            rig.negotiate(publish(client, &format!("{client}#{number}"), &[AUDIO])).expect("published");
        }
    }
    let registry = rig.control.lock();
    let shards_of = |client: &str| -> std::collections::BTreeSet<u8> {
        let of_client = registry.transports.values().filter(|transport| transport.client.as_str() == client);
        of_client.map(|transport| transport.shard.0).collect()
    };
    let shards: Vec<_> = ["ann", "bob", "cid", "dan"].map(shards_of).into_iter().collect();
    assert!(shards.iter().all(|shards| shards.len() == 1), "{shards:?}");
    assert_eq!(shards.iter().filter(|shards| shards.contains(&0)).count(), 2, "{shards:?}");
}

#[test]
fn subscribing_names_the_source_on_its_shard() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let outcome = rig.negotiate(subscribe("bob", "bob#9", &source, &[AUDIO_DOWN, VIDEO_DOWN])).expect("subscribed");
    assert!(outcome.answer.contains("a=sendonly") && outcome.answer.contains("a=msid:"), "{}", outcome.answer);
    match &rig.commands()[..] {
        [(1, Command::OpenTransport(_)), (1, Command::Subscribe { source, tracks, .. })] => {
            assert_eq!(source.shard, ShardIndex(0));
            assert_eq!(tracks.iter().map(|track| track.source_track).collect::<Vec<_>>(), [0, 1]);
            assert!(outcome.answer.contains(&format!("a=ssrc:{}", tracks[0].send.ssrc)));
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn an_m_line_for_a_kind_the_publication_lacks_is_refused_properly() {
    let rig = Rig::new();
    rig.negotiate(publish("ann", "ann#1", &[AUDIO])).expect("published");
    rig.commands();
    let outcome = rig.negotiate(subscribe("bob", "bob#9", "ann#1", &[AUDIO_DOWN, VIDEO_DOWN])).expect("subscribed");
    assert!(outcome.answer.contains("m=video 0 "), "{}", outcome.answer);
    assert!(outcome.answer.contains("a=group:BUNDLE 0\r\n"), "{}", outcome.answer);
}

#[test]
fn a_publication_carries_only_the_kinds_it_may() {
    let rig = Rig::new();
    let mut request = publish("ann", "ann#1", &[AUDIO, VIDEO]);
    request.publications[0].video = false;
    let outcome = rig.negotiate(request).expect("published");
    assert_eq!(outcome.publications[0].1..=outcome.publications[0].2, true..=false);
    assert!(outcome.answer.contains("m=video 0 "), "{}", outcome.answer);
}

#[test]
fn of_two_cameras_in_one_stream_the_second_is_refused() {
    let rig = Rig::new();
    let outcome =
        rig.negotiate(publish("ann", "ann#1", &[AUDIO, VIDEO, ("video", "2", "sendonly")])).expect("published");
    assert_eq!(outcome.answer.matches("m=video 0 ").count(), 1, "{}", outcome.answer);
}

#[test]
fn one_transport_carries_publications_and_subscriptions() {
    let rig = Rig::new();
    let (ann, bob) = (rig.published("ann"), rig.published("bob"));
    let lines = [
        ("audio", "mic", "sendonly"),
        ("video", "cam", "sendonly"),
        ("video", "screen", "sendonly"),
        ("audio", "a", "recvonly"),
        ("video", "b", "recvonly"),
    ];
    let mut request = request("cid", "cid", offer("ufrag", &lines));
    request.publications = vec![publication("cid#1", &["mic", "cam"]), publication("cid#2", &["screen"])];
    request.subscriptions = vec![subscription("cid#8", &ann, &["a"]), subscription("cid#9", &bob, &["b"])];
    let outcome = rig.negotiate(request).expect("negotiated");
    assert_eq!(
        outcome.publications.iter().map(|(_, audio, video)| (*audio, *video)).collect::<Vec<_>>(),
        [(true, true), (false, true)]
    );
    assert_eq!(rig.names(), ["open", "publish", "publish", "subscribe", "subscribe"]);
}

#[test]
fn bindings_that_do_not_fit_the_offer_are_refused() {
    let rig = Rig::new();
    let mut unknown = publish("ann", "ann#1", &[AUDIO]);
    unknown.publications[0] = publication("ann#1", &["7"]);
    let mut twice = publish("ann", "ann#1", &[AUDIO]);
    twice.publications = vec![publication("ann#1", &["0"]), publication("ann#2", &["0"])];
    let mut both_rest = publish("ann", "ann#1", &[AUDIO]);
    both_rest.publications = vec![publication("ann#1", &[]), publication("ann#2", &[])];
    let mut no_kind = publish("ann", "ann#1", &[AUDIO]);
    (no_kind.publications[0].audio, no_kind.publications[0].video) = (false, false);
    let mut nothing = publish("ann", "ann#1", &[AUDIO]);
    nothing.publications[0].audio = false;
    let mut same_id = publish("ann", "ann#1", &[AUDIO, VIDEO]);
    same_id.publications = vec![publication("ann#1", &["0"]), publication("ann#1", &["1"])];
    let mut long = publish("ann", "ann#1", &[AUDIO]);
    long.publications[0].metadata = vec![b' '; 20_000];
    let garbage = sfu::NegotiateRequest { offer_sdp: "v=0".to_owned(), ..publish("ann", "ann#1", &[AUDIO]) };
    let no_room = sfu::NegotiateRequest { room_id: "a/b".to_owned(), ..publish("ann", "ann#1", &[AUDIO]) };
    let many = sfu::NegotiateRequest {
        publications: (0..65).map(|number| publication(&number.to_string(), &["0"])).collect(),
        ..publish("ann", "ann#1", &[AUDIO])
    };
    for request in [unknown, twice, both_rest, no_kind, nothing, same_id, long, garbage, no_room, many] {
        assert_eq!(code(rig.negotiate(request)), Code::InvalidArgument);
    }
    assert!(rig.commands().is_empty());
    assert_eq!(rig.control.census(), Census::default());
}

#[test]
fn what_is_not_there_or_in_another_room_is_not_found() {
    let rig = Rig::new();
    assert_eq!(code(rig.negotiate(subscribe("bob", "bob#9", "ann#1", &[AUDIO_DOWN]))), Code::NotFound);
    let source = rig.published("ann");
    let request =
        sfu::NegotiateRequest { room_id: "elsewhere".to_owned(), ..subscribe("bob", "bob#9", &source, &[AUDIO_DOWN]) };
    assert_eq!(code(rig.negotiate(request)), Code::NotFound);
}

#[test]
fn ids_that_mean_something_else_already_are_a_conflict() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.subscribed("bob", &source);
    let other_client = publish("eve", &source, &[AUDIO, VIDEO, ("audio", "2", "sendonly")]);
    let mut other_transport = publish("ann", "ann#2", &[AUDIO]);
    other_transport.publications = vec![publication(&source, &[])];
    let mut other_subscription = subscribe("ann", "ann#3", &source, &[AUDIO_DOWN]);
    other_subscription.subscriptions[0].subscription_id = "bob#9".to_owned();
    let mut other_certificate = publish("ann", &source, &[AUDIO, VIDEO]);
    other_certificate.offer_sdp = other_certificate.offer_sdp.replace("sha-256 9A:", "sha-256 9B:");
    let fewer_lines = publish("ann", &source, &[AUDIO]);
    for request in [other_client, other_transport, other_subscription, other_certificate, fewer_lines] {
        assert_eq!(code(rig.negotiate(request)), Code::AlreadyExists);
    }
    assert!(rig.commands().is_empty());
}

#[test]
fn a_full_node_refuses_new_transports_and_serves_the_old() {
    let rig = Rig::with_capacity(1);
    let source = rig.published("ann");
    assert_eq!(code(rig.negotiate(publish("bob", "bob#1", &[AUDIO]))), Code::ResourceExhausted);
    rig.negotiate(publish("ann", &source, &[AUDIO, VIDEO])).expect("the same again");
    rig.control.close_transports(&[TransportId::new(&source).expect("valid")]);
    rig.negotiate(publish("bob", "bob#1", &[AUDIO])).expect("there is room again");
}

#[test]
fn a_shard_that_is_behind_refuses_and_nothing_has_changed() {
    let rig = Rig::new();
    while rig.control.shards[0].order(Vec::new()).is_ok() {}
    let request = publish("ann", "ann#1", &[AUDIO]);
    assert_eq!(code(rig.negotiate(request.clone())), Code::Unavailable);
    assert_eq!(rig.control.census(), Census::default());
    rig.commands();
    rig.negotiate(request).expect("once it has caught up");
}

#[test]
fn a_further_offer_adds_to_what_is_live_and_leaves_it_running() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let first = publish("bob", "bob#1", &[("audio", "mic", "sendonly")]);
    let before = rig.negotiate(first).expect("published");
    rig.commands();
    let lines = [("audio", "mic", "sendonly"), ("video", "cam", "sendonly"), ("video", "in", "recvonly")];
    let mut further = request("bob#1", "bob", offer("ufrag", &lines));
    further.publications = vec![publication("bob#1", &["mic", "cam"])];
    further.subscriptions = vec![subscription("bob#9", &source, &["in"])];
    let after = rig.negotiate(further.clone()).expect("applied");
    match &rig.commands()[..] {
        [(1, Command::Publish { tracks, .. }), (1, Command::Subscribe { .. })] => {
            assert_eq!((tracks.len(), &*tracks[0].mid), (1, "cam"), "the microphone goes on as it was");
        }
        other => panic!("unexpected {other:?}"),
    }
    let session = |answer: &str| -> Vec<String> {
        let origin = answer.lines().find(|line| line.starts_with("o=")).expect("an origin");
        origin.split(' ').map(str::to_owned).collect()
    };
    let (old, new) = (session(&before.answer), session(&after.answer));
    assert_eq!(old[1], new[1], "same session");
    assert!(new[2].parse::<u64>().expect("a number") > old[2].parse().expect("a number"), "next version");
    let ufrag = |answer: &str| answer.lines().find(|line| line.starts_with("a=ice-ufrag")).map(str::to_owned);
    assert_eq!(ufrag(&before.answer), ufrag(&after.answer), "same ICE");

    // And takes away again what it no longer names.
    further.subscriptions.clear();
    further.offer_sdp =
        offer("ufrag", &lines[..2]) + &offer("ufrag", &lines[2..]).split_off(offer("ufrag", &[]).len() + 2);
    rig.negotiate(further).expect("applied");
    assert_eq!(rig.names(), ["close subscription"]);
    assert_eq!(rig.control.census().subscriptions, 0);
}

#[test]
fn ssrcs_of_a_subscription_stay_the_same_over_further_offers() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let first = rig.negotiate(subscribe("bob", "bob#9", &source, &[AUDIO_DOWN])).expect("subscribed");
    rig.commands();
    let second = rig.negotiate(subscribe("bob", "bob#9", &source, &[AUDIO_DOWN, VIDEO_DOWN])).expect("applied");
    let ssrcs = |answer: &str| -> Vec<String> {
        answer.lines().filter(|line| line.starts_with("a=ssrc:")).map(str::to_owned).collect()
    };
    let (before, after) = (ssrcs(&first.answer), ssrcs(&second.answer));
    assert!(!before.is_empty() && after.len() > before.len() && after.starts_with(&before), "{before:?} {after:?}");
    assert_eq!(rig.names(), ["subscribe"]);
}

#[test]
fn a_restart_gives_new_credentials_once() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let id = TransportId::new(&source).expect("valid");
    let restart = OfferText::parse(&offer("other", &[AUDIO, VIDEO])).expect("valid");
    let answer = rig.control.restart(&id, &restart).expect("restarted");
    match &rig.commands()[..] {
        [(0, Command::RestartIce { local, .. })] => assert!(answer.contains(local.ufrag())),
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!(rig.control.restart(&id, &restart).expect("again"), answer);
    assert!(rig.commands().is_empty());
    let same_credentials = OfferText::parse(&(offer("other", &[AUDIO, VIDEO]) + "a=x-changed\r\n")).expect("valid");
    assert!(matches!(rig.control.restart(&id, &same_credentials), Err(Refusal::Invalid(_))));
    let unknown = TransportId::new("unknown").expect("valid");
    assert!(matches!(rig.control.restart(&unknown, &restart), Err(Refusal::NoTransport(_))));
}

#[test]
fn closing_a_transport_ends_what_subscribed_to_it() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.subscribed("bob", &source);
    let other = rig.published("cid");
    let mut both = request("dan", "dan", offer("ufrag", &[("audio", "0", "recvonly"), ("audio", "1", "recvonly")]));
    both.subscriptions = vec![subscription("dan#1", &source, &["0"]), subscription("dan#2", &other, &["1"])];
    rig.negotiate(both).expect("subscribed to both");
    rig.commands();
    let mut watch = rig.watch();
    rig.control.close_transports(&[TransportId::new(&source).expect("valid")]);
    let mut names = rig.names();
    names.sort_unstable();
    assert_eq!(names, ["close subscription", "close transport", "close transport"]);
    let census = rig.control.census();
    assert_eq!((census.transports, census.publications, census.subscriptions), (2, 1, 1));
    let gone: Vec<_> = std::iter::from_fn(|| watch.events.try_recv().ok())
        .map(|event| match event.as_ref() {
            watch_event::Event::TransportGone(gone) => (gone.transport_id.clone(), gone.reason()),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(gone, [(source.clone(), GoneReason::Closed)], "which says that all subscriptions to it have ended, too");
    // An id that is not known any more is ignored.
    rig.control.close_transports(&[TransportId::new(&source).expect("valid")]);
    assert_eq!((rig.commands().len(), rig.control.census()), (0, census));
}

#[tokio::test]
async fn a_shard_that_is_behind_is_told_of_every_end_when_it_has_room() {
    let rig = Rig::new();
    let source = rig.published("ann");
    for number in 0..40 {
        rig.subscribed(&format!("bob{number}"), &source);
    }
    for shard in &rig.control.shards {
        while shard.order(Vec::new()).is_ok() {}
    }
    rig.control.close_transports(&[TransportId::new(&source).expect("valid")]);
    assert_eq!(rig.control.census(), Census::default());
    let next = publish("cid", "cid#1", &[AUDIO]);
    assert_eq!(code(rig.negotiate(next.clone())), Code::Unavailable, "what has to end comes first");
    assert!(rig.commands().is_empty());
    let told = async {
        let mut told = Vec::new();
        while told.len() < 41 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            told.extend(rig.names());
        }
        told
    };
    let told = tokio::select! {
        told = told => told,
        () = rig.control.mind_late_closings() => unreachable!("for as long as the node lives"),
    };
    assert_eq!(told, ["close transport"; 41]);
    rig.negotiate(next).expect("it has caught up");
}

#[test]
fn a_large_room_s_end_is_told_in_few_orders() {
    let rig = Rig::new();
    let source = rig.published("ann");
    for number in 0..80 {
        rig.subscribed(&format!("bob{number}"), &source);
    }
    rig.control.close_transports(&[TransportId::new(&source).expect("valid")]);
    let orders: Vec<usize> = rig.orders.iter().flat_map(mpsc::Receiver::try_iter).map(|order| order.len()).collect();
    assert_eq!(orders.iter().sum::<usize>(), 81);
    assert!(orders.len() <= 8 && orders.iter().all(|commands| *commands <= 16), "{orders:?}");
}

#[test]
fn what_a_shard_says_reaches_the_watchers_of_the_room() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let mut watch = rig.watch();
    let snapshot = rig.snapshot(&mut watch, &mut VecDeque::from([room()]));
    assert_eq!((snapshot.room_ids.as_slice(), snapshot.publications.len()), (&["room".to_owned()][..], 1));
    let live = &snapshot.publications[0];
    assert_eq!((live.client_id.as_str(), &live.publication_id, &live.metadata[..]), ("ann", &source, &b"{}"[..]));
    let handle = rig.control.lock().transports.values().next().expect("one").handle;
    rig.control.handle_event(Event::TransportConnected(handle));
    rig.control.handle_event(Event::TransportClosed(handle, CloseReason::ConsentExpired));
    match watch.events.try_recv().expect("gone").as_ref() {
        watch_event::Event::TransportGone(gone) => {
            assert_eq!((gone.reason(), &gone.publication_ids), (GoneReason::ConsentExpired, &vec![source]));
        }
        other => panic!("unexpected {other:?}"),
    }
    // Twice, or of something unknown: nothing happens.
    rig.control.handle_event(Event::TransportClosed(handle, CloseReason::ConsentExpired));
    rig.control.handle_event(Event::TransportConnected(TransportHandle(999)));
    assert!(watch.events.try_recv().is_err());
    assert_eq!(rig.control.census(), Census { watchers: 1, ..Census::default() });
}

#[test]
fn a_client_that_never_connects_does_not_take_the_nodes_places() {
    let rig = Rig::with_capacity(MAX_CONNECTING + 10);
    let ask = |number: usize| {
        let answer = rig.negotiate(publish("ann", &format!("ann#{number}"), &[AUDIO]));
        rig.commands();
        answer.map(drop)
    };
    for number in 0..MAX_CONNECTING {
        ask(number).expect("a place");
    }
    assert_eq!(ask(MAX_CONNECTING).expect_err("too many").code(), Code::ResourceExhausted);
    ask(0).expect("asked again it is the same one");
    rig.negotiate(publish("bob", "bob#1", &[AUDIO])).expect("others have their own");
    let handles: Vec<_> =
        ["ann#0", "ann#1"].map(|id| rig.control.lock().transports[&TransportId::new(id).expect("valid")].handle).into();
    rig.control.handle_event(Event::TransportConnected(handles[0]));
    rig.control.handle_event(Event::TransportConnected(handles[0]));
    ask(MAX_CONNECTING).expect("one is connected");
    assert!(ask(MAX_CONNECTING + 1).is_err(), "connected once is counted once");
    rig.control.handle_event(Event::TransportClosed(handles[1], CloseReason::NeverConnected));
    ask(MAX_CONNECTING + 1).expect("one was given up");
}

#[test]
fn a_long_snapshot_comes_in_parts_of_whole_rooms() {
    let rig = Rig::new();
    let rooms: Vec<RoomId> = (0..100).map(|number| RoomId::new(format!("room {number}")).expect("valid")).collect();
    for (number, room) in rooms.iter().enumerate() {
        let mut request = publish("ann", &format!("ann#{number}"), &[AUDIO]);
        request.room_id = room.to_string();
        request.publications[0].metadata = vec![b'x'; 16_000];
        rig.negotiate(request).expect("published");
        rig.commands();
    }
    let mut queue = rig.control.open_watch().expect("a watch");
    rig.control.change_watch(queue.id, &rooms, &[]).expect("rooms");
    let mut owed = VecDeque::from(rooms);
    let mut parts = Vec::new();
    while !owed.is_empty() {
        parts.push(rig.snapshot(&mut queue, &mut owed));
    }
    assert_eq!(parts.len(), 2);
    assert_eq!(parts.iter().map(|part| part.publications.len()).sum::<usize>(), 100);
    for part in &parts {
        assert!(part.publications.iter().all(|live| part.room_ids.contains(&live.room_id)));
    }
}

#[test]
fn what_a_watch_has_to_be_told_comes_before_a_later_snapshot() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let mut watch = rig.watch();
    rig.control.close_transports(&[TransportId::new(&source).expect("valid")]);
    rig.published("bob");
    let mut owed = VecDeque::from([room()]);
    let told = rig.control.snapshot(&mut watch, &mut owed);
    assert!(matches!(told.as_ref(), watch_event::Event::TransportGone(gone) if gone.transport_id == source));
    assert_eq!(rig.snapshot(&mut watch, &mut owed).publications[0].client_id, "bob");
    assert!(owed.is_empty());
}

#[test]
fn ending_the_node_closes_every_transport_and_every_watch() {
    let rig = Rig::new();
    let source = rig.published("ann");
    rig.subscribed("bob", &source);
    let mut watch = rig.watch();
    rig.control.end();
    assert_eq!(rig.names(), ["close transport", "close transport"]);
    assert_eq!(rig.control.census(), Census::default());
    let mut told = 0;
    while let Ok(event) = watch.events.try_recv() {
        assert!(
            matches!(event.as_ref(), watch_event::Event::TransportGone(gone) if gone.reason() == GoneReason::NodeEnding)
        );
        told += 1;
    }
    assert!(told > 0 && watch.events.is_closed() && !watch.lagged());
    assert_eq!(rig.control.open_watch().expect_err("nobody would end it"), WatchRefusal::Ending);
    assert_eq!(code(rig.negotiate(publish("cid", "cid#1", &[AUDIO]))), Code::ResourceExhausted);
}
