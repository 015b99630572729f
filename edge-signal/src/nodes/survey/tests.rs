use std::time::Duration;

use proto::json::RawJson;
use proto::signalling::Minfo;
use tonic::transport::Endpoint;

use super::*;

fn text<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("valid")
}

fn node() -> Node {
    let record = room_store::NodeRecord {
        node: text("sfu-1"),
        boot: None,
        region: text("here"),
        address: "http://127.0.0.1:9".to_owned(),
        weight: 1,
        capacity: room_store::Capacity::default(),
        state: room_store::NodeState::Ready,
        load: room_store::Load::default(),
        reports: 0,
        version: String::new(),
    };
    let channel = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
    Node::new(
        &record,
        channel,
        std::collections::BTreeSet::new(),
        tokio_util::sync::CancellationToken::new(),
        crate::metrics::EdgeMetrics::register(),
    )
}

fn metadata() -> Metadata {
    let minfo = Minfo::new(RawJson::new(r#"{"audio":true}"#.to_owned()).expect("JSON")).expect("a minfo");
    Metadata { session: SessionId::of(7), at_ms: 1, always_recorded: false, minfo }
}

fn stream(room: &str, mid: &str) -> LivePublication {
    LivePublication {
        room_id: room.to_owned(),
        client_id: "ann".to_owned(),
        publication_id: mid.to_owned(),
        metadata: metadata().to_bytes(),
        ..LivePublication::default()
    }
}

fn page(publications: Vec<LivePublication>, next_cursor: &str) -> SurveyResponse {
    SurveyResponse {
        node_id: "sfu-1".to_owned(),
        boot_id: "boot-1".to_owned(),
        publications,
        next_cursor: next_cursor.to_owned(),
        ..SurveyResponse::default()
    }
}

#[tokio::test]
async fn streams_are_gathered_by_room_with_what_their_records_need() {
    let (node, mut survey) = (node(), Survey::default());
    let mut first = page(vec![stream("a", "m1"), stream("b", "m2")], "more");
    first.subscriptions.push(LiveSubscription {
        room_id: "a".to_owned(),
        client_id: "bob".to_owned(),
        subscription_id: "s1".to_owned(),
        publication_id: "m1".to_owned(),
        ..LiveSubscription::default()
    });
    let reading = survey.take(&node, first, &|_| true, &super::first()).expect("there is more");
    assert_eq!((reading.cursor.as_str(), reading.boot.clone(), reading.pages), ("more", Some(text("boot-1")), 1));
    assert!(survey.take(&node, page(vec![stream("a", "m3")], ""), &|_| true, &reading).is_none());
    let a = &survey.rooms[&text::<RoomId>("a")];
    let mids: Vec<&str> = a.publications.iter().map(|stream| stream.record.mid.as_str()).collect();
    assert_eq!(mids, ["m1", "m3"]);
    let SurveyedPublication { session, record, .. } = &a.publications[0];
    assert_eq!((session, record.owner.as_str(), &record.minfo), (&metadata().session, "ann", &metadata().minfo));
    assert!(
        record.confirmed && record.placement.boot.as_str() == "boot-1" && record.placement.region.as_str() == "here"
    );
    assert_eq!((a.subscriptions[0].subscriber.as_str(), a.subscriptions[0].mid.as_str()), ("bob", "m1"));
    assert_eq!(survey.rooms.len(), 2);
}

#[tokio::test]
async fn members_are_put_together_from_their_streams() {
    let (node, mut survey) = (node(), Survey::default());
    let bobs = LivePublication { client_id: "bob".to_owned(), ..stream("a", "m3") };
    let mut only = page(vec![stream("a", "m1"), stream("a", "m2"), bobs], "");
    for (client, sid) in [("bob", "s1"), ("carl", "s2")] {
        only.subscriptions.push(LiveSubscription {
            room_id: "a".to_owned(),
            client_id: client.to_owned(),
            subscription_id: sid.to_owned(),
            publication_id: "m1".to_owned(),
            ..LiveSubscription::default()
        });
    }
    survey.take(&node, only, &|_| true, &first());
    let rooms = survey.into_assertions();
    let members: Vec<_> = rooms[&text::<RoomId>("a")]
        .iter()
        .map(|member| (member.hold.peer.as_str(), member.publications.len(), member.subscriptions.len()))
        .collect();
    assert_eq!(members, [("ann", 2, 0), ("bob", 1, 1), ("carl", 0, 1)], "of carl nobody knows the session");
}

#[tokio::test]
async fn of_two_sessions_of_one_member_the_later_is_put_back_wherever_it_is_listed() {
    let (node, earlier) = (node(), metadata());
    let later = Metadata { session: SessionId::of(8), at_ms: earlier.at_ms + 1, ..metadata() };
    for order in [[&earlier, &later], [&later, &earlier]] {
        let of = |metadata: &Metadata| {
            let mid = format!("m{}", metadata.at_ms);
            LivePublication { metadata: metadata.to_bytes(), ..stream("a", &mid) }
        };
        let mut survey = Survey::default();
        survey.take(&node, page(order.map(of).to_vec(), ""), &|_| true, &first());
        let mut rooms = survey.into_assertions();
        let members = rooms.remove(&text::<RoomId>("a")).expect("there");
        let [member] = members.as_slice() else { panic!("one member") };
        let mids: Vec<&str> = member.publications.iter().map(|stream| stream.mid.as_str()).collect();
        assert_eq!((&member.hold.session, mids), (&later.session, vec!["m2"]));
    }
}

#[tokio::test]
async fn only_rooms_asked_for_are_kept() {
    let (node, mut survey) = (node(), Survey::default());
    let wanted = |room: &RoomId| room.as_str() == "a";
    survey.take(&node, page(vec![stream("a", "m1"), stream("b", "m2")], ""), &wanted, &first());
    assert_eq!(survey.rooms.keys().map(RoomId::as_str).collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn what_cannot_be_used_is_left_out_and_counted() {
    let (node, mut survey) = (node(), Survey::default());
    let broken = [
        LivePublication { room_id: "bad/room".to_owned(), ..stream("a", "m1") },
        LivePublication { client_id: String::new(), ..stream("a", "m1") },
        LivePublication { publication_id: "x".repeat(100_000), ..stream("a", "m1") },
        LivePublication { metadata: b"{\"audio\":true}".to_vec(), ..stream("a", "m1") },
        LivePublication { metadata: vec![0xff; 20_000], ..stream("a", "m1") },
    ];
    survey.take(&node, page(broken.to_vec(), ""), &|_| true, &first());
    assert_eq!((survey.unreadable, survey.rooms.len()), (broken.len(), 0));
    let no_boot = SurveyResponse { boot_id: String::new(), ..page(vec![stream("a", "m1")], "more") };
    assert!(survey.take(&node, no_boot, &|_| true, &first()).is_none());
    assert_eq!(survey.unheard, std::slice::from_ref(&node.id));
}

#[tokio::test]
async fn a_node_that_goes_in_circles_is_read_no_further_and_the_whole_is_bounded() {
    let (node, mut survey) = (node(), Survey::default());
    let (mut reading, mut pages) = (Some(first()), 0);
    while let Some(before) = reading.take() {
        let streams = (0..1_000).map(|number| stream("a", &format!("m{number}"))).collect();
        // Past the bound pages need not be full to be counted.
        let streams = if pages < 201 { streams } else { Vec::new() };
        reading = survey.take(&node, page(streams, "again"), &|_| true, &before);
        pages += 1;
    }
    assert_eq!((pages, survey.unheard.len()), (MAX_PAGES, 1));
    assert_eq!((survey.kept, survey.left_out), (MAX_STREAMS, 1_000));
}

#[tokio::test]
async fn a_node_that_does_not_answer_costs_no_more_than_the_deadline() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut silent = node();
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URI").connect_lazy();
    silent.client = crate::nodes::traced::client(channel);
    let deadline = Instant::now() + Duration::from_millis(200);
    let (_, _, page) = read_page(Arc::new(silent), first(), deadline).await;
    assert_eq!(page, Err(SfuError::Unreachable));
    assert!(Instant::now() < deadline + Duration::from_secs(5));
}
