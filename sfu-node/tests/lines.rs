//! What stands in the log of a recording: enough to find it by its room, and by the request that began it.

mod process;

use std::time::{Duration, Instant};

use process::{CONFIG, PATIENCE, Running};
use proto::sfu::sfu_node_client::SfuNodeClient;
use proto::sfu::{NegotiateRequest, PublicationBinding, RecordRequest, WatchRequest, watch_event};
use serde_json::Value;
use tonic::Request;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn publish() -> NegotiateRequest {
    let digest = vec!["AB"; 32].join(":");
    let offer_sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
         a=fingerprint:sha-256 {digest}\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    );
    let publications = vec![PublicationBinding {
        publication_id: "ann#1".to_owned(),
        metadata: b"{}".to_vec(),
        audio: true,
        ..PublicationBinding::default()
    }];
    let (transport_id, room_id, client_id) = ("t1".to_owned(), "weekly".to_owned(), "ann".to_owned());
    NegotiateRequest { transport_id, room_id, client_id, offer_sdp, publications, ..NegotiateRequest::default() }
}

/// As an edge asks, for a request of a client's if that is named.
fn record(on: bool, trace: Option<&str>) -> Request<RecordRequest> {
    let (publication_id, recording_id) = ("ann#1".to_owned(), "rec1".to_owned());
    let mut request = Request::new(RecordRequest { publication_id, recording_id, on, ..RecordRequest::default() });
    if let Some(trace) = trace {
        let value = format!("00-{trace}-b7ad6b7169203331-00").parse().expect("a header");
        request.metadata_mut().insert("traceparent", value);
    }
    request
}

/// The first that says this, once it is there.
fn line(running: &Running, message: &str) -> Value {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let lines = running.lines();
        let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(line) = lines.find(|line| line["message"] == message) {
            return line;
        }
        assert!(Instant::now() < give_up, "no line says {message:?}: {:?}", running.lines());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_recording_is_found_by_its_room_and_by_the_request_that_began_it() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path().display();
    let config = format!("{CONFIG}log: {{format: json}}\nrecording: {{url: 'file://{place}/to', min_free: 0}}\n");
    let running = Running::start(&config);
    let mut node = SfuNodeClient::connect(format!("http://{}", running.grpc)).await.expect("it answers");
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let room = WatchRequest { add_rooms: vec!["weekly".to_owned()], remove_rooms: Vec::new() };
    ask.send(room).await.expect("there is room");
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut watch = node.watch(asked).await.expect("watched").into_inner();
    node.negotiate(publish()).await.expect("published");
    node.record(record(true, Some(TRACE))).await.expect("recorded");
    node.record(record(false, None)).await.expect("stopped");
    let told = async {
        loop {
            let event = watch.message().await.expect("it goes on").expect("an event").event;
            if let Some(watch_event::Event::RecordingEnded(ended)) = event {
                return ended.traceparent;
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.expect("told in time");
    assert!(told.starts_with(&format!("00-{TRACE}-")), "edges are told, too: {told:?}");

    let line = |message| line(&running, message);
    for message in ["a recording has begun", "a recording has ended"] {
        let line = line(message);
        let of = ["trace.id", "sluice.room", "sluice.peer", "sluice.mid", "sluice.recording"].map(|key| &line[key]);
        assert_eq!(of, [TRACE, "weekly", "ann", "ann#1", "rec1"], "{line}");
    }
    assert_eq!(line("a recording has ended")["sluice.reason"], "stopped");
    let line = line("recordings are written to the spool and delivered from it");
    assert_eq!(line["sluice.spool_dir"], format!("{place}/to/.spool"), "and no Some(…)");
    assert_eq!(line["sluice.url"], format!("file://{place}/to"));
}

#[tokio::test]
async fn what_cannot_be_delivered_is_found_by_its_room_and_recording() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path().display();
    let store =
        "{endpoint: 'http://127.0.0.1:1', allow_http: 'true', access_key_id: a, secret_access_key: b, region: c}";
    let recording = format!("{{url: 's3://nobody/listens', spool_dir: '{place}', min_free: 0, store: {store}}}");
    let running = Running::start(&format!("{CONFIG}log: {{format: json}}\nrecording: {recording}\n"));
    let mut node = SfuNodeClient::connect(format!("http://{}", running.grpc)).await.expect("it answers");
    node.negotiate(publish()).await.expect("published");
    node.record(record(true, None)).await.expect("recorded");
    node.record(record(false, None)).await.expect("stopped");
    let line = line(&running, "not delivered: trying again");
    assert_eq!([&line["sluice.room"], &line["sluice.recording"]], ["weekly", "rec1"], "{line}");
    assert!(line["sluice.files"].as_str().is_some_and(|files| files.contains("ann")), "{line}");
}
