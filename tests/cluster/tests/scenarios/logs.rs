//! Logs and life events on their way to Kafka: each arrives once and in order, over an outage too, and nobody in a call notices whether
//! there is a broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::account::Expected;
use cluster::deployment::{Deployment, Plan};
use cluster::lines::{arrived_once_in_order, traces, written};
use cluster::population::{Population, Size};
use cluster::process::Process;
use cluster::scenario::Scenario;
use cluster::schema::conforms;
use cluster::topic::{self, Message};
use serde_json::Value;
use servers::Kafka;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::{UNHEARD, bound};

/// The topics that are the default.
const LOGS: &str = "sluice.logs";
const EVENTS: &str = "sluice.events";
/// The schema that docs/ promises.
const SCHEMA: &str = "events.schema.json";
/// How long the broker is away.
const AWAY: Duration = Duration::from_mins(1);
/// What is logged is written within this time when a process ends.
const FLUSH: Duration = Duration::from_secs(2);
/// For a process with nobody left to end in.
const END: Duration = Duration::from_secs(40);
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// Two edges and two nodes that say all they have to say.
fn plan(brokers: &str, recordings: Option<&TempDir>) -> Plan {
    let logs = format!("log: {{format: json, level: debug}}\nkafka: {{brokers: ['{brokers}']}}\n");
    let recording = recordings.map(|directory| {
        let path = directory.path().display();
        format!("recording: {{url: 'file://{path}/delivered', spool_dir: '{path}/spool-NODE_ID', min_free: 0}}\n")
    });
    let node_settings = format!("{logs}{}", recording.unwrap_or_default());
    Plan { edge_settings: logs, node_settings, ..Plan::default() }
}

/// All processes.
fn processes(deployment: &mut Deployment) -> impl Iterator<Item = &mut Process> {
    let edges = deployment.edges.iter_mut().map(|edge| &mut edge.process);
    edges.chain(deployment.nodes.iter_mut().map(|node| &mut node.process))
}

async fn read(kafka: &Kafka, topic: &'static str) -> Vec<Message> {
    let brokers = kafka.brokers();
    spawn_blocking(move || topic::read(&brokers, topic)).await.expect("it ends").expect("the topic can be read")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_and_every_event_arrives_once_and_in_order_over_an_outage_of_a_minute() {
    const SIZE: Size = Size { rooms: 6, members: 4, with_media: 3, publishers: 1 };
    let mut kafka = Kafka::start().await;
    let recordings = TempDir::with_prefix("recordings-").expect("a temporary directory");
    let plan = plan(&kafka.brokers(), Some(&recordings));
    let mut deployment = Deployment::start(&plan).await.expect("it starts");
    let mut population = Population::enter(SIZE, &deployment.addresses(), plan.ttl);
    population.settled(Duration::from_mins(1)).await.expect("everybody is there");
    let begun = Instant::now();

    kafka.stop();
    population.measure();
    sleep(AWAY / 2).await;
    // What happens meanwhile is told afterwards.
    population.add("newcomer", "room-5", &deployment.addresses(), true, true);
    record_for_a_moment(&population).await;
    sleep(AWAY / 2).await;
    population.settled(Duration::from_mins(1)).await.expect("everybody is there");
    assert_eq!(population.closes_after(begun), Vec::new(), "nobody has lost its connection");
    assert!(population.gaps().max() < UNHEARD, "{}", population.gaps());
    kafka.start_again().await;
    all_are_heard(&kafka, &deployment).await;

    population.quieten(Duration::from_mins(1)).await.expect("everybody has heard all");
    for member in &population.members {
        member.client.leave(REQUEST_WITHIN).await.expect("it leaves");
    }
    drop(population);
    for process in processes(&mut deployment) {
        process.terminate().expect("a signal");
        let status = process.ended(END).await.expect("it ends by itself");
        assert!(status.success(), "{} ended with {status}", process.name());
    }
    let lines: Vec<Value> =
        processes(&mut deployment).flat_map(|process| written(process).expect("they are lines")).collect();
    let arrived = read(&kafka, LOGS).await;
    tell("lines", arrived.len());
    arrived_once_in_order(&lines, &arrived).expect("every line arrived once and in order");
    let (edges, nodes) = (traces(&lines, "edge-signal"), traces(&lines, "sfu-node"));
    // Publishing and subscribing go on from the edge to a node.
    let both = edges.intersection(&nodes).count();
    let asked = SIZE.with_media * SIZE.publishers * SIZE.members;
    assert!(both >= asked, "{both} traces of {asked} requests have lines of an edge and of a node");
    events_are_right(&read(&kafka, EVENTS).await, &edges.union(&nodes).cloned().collect());
}

/// Until lines of each process have come: all have found the broker.
async fn all_are_heard(kafka: &Kafka, deployment: &Deployment) {
    let deadline = Instant::now() + REQUEST_WITHIN;
    let processes = deployment.edges.len() + deployment.nodes.len();
    loop {
        let arrived = read(kafka, LOGS).await;
        let names: BTreeSet<&str> =
            arrived.iter().filter_map(|message| message.value["service.node.name"].as_str()).collect();
        if names.len() == processes {
            return;
        }
        assert!(Instant::now() < deadline, "only {names:?} have found the broker");
        sleep(Duration::from_millis(500)).await;
    }
}

/// One stream is recorded for two seconds.
async fn record_for_a_moment(population: &Population) {
    let member = population.members.iter().find(|member| member.publisher.is_some()).expect("somebody publishes");
    let mid = member.publisher.as_ref().and_then(|publisher| publisher.mid()).expect("it has a stream");
    for on in [true, false] {
        member.client.record(&mid, on, REQUEST_WITHIN).await.expect("it is carried out");
        sleep(Duration::from_secs(2)).await;
    }
}

/// What happened to each room is told once, from its opening to its end, and all of it as docs/ has it.
fn events_are_right(events: &[Message], traces: &BTreeSet<String>) {
    conforms(SCHEMA, events.iter().map(|event| &event.value)).expect("events are as docs/ has them");
    let text = |event: &Message, key: &str| event.value[key].as_str().unwrap_or_default().to_owned();
    let ids: BTreeSet<String> = events.iter().map(|event| text(event, "id")).collect();
    assert_eq!(ids.len(), events.len(), "no event is told twice");
    let mut rooms: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        let kind = text(event, "type");
        if text(event, "room").is_empty() {
            *others.entry(kind).or_default() += 1;
        } else {
            assert_eq!(event.key, text(event, "room"), "the room is the key");
            *rooms.entry(text(event, "room")).or_default().entry(kind).or_default() += 1;
        }
        if let Some(trace) = event.value["trace"].as_str() {
            assert!(traces.contains(trace), "no line is of its trace: {}", event.value);
        }
    }
    for number in 0..6 {
        let (room, has_media, is_newcomers) = (format!("room-{number}"), number < 3, number == 5);
        let told = rooms.get(&room).cloned().unwrap_or_default();
        let count = |kind: &str| told.get(kind).copied().unwrap_or_default();
        let members = if is_newcomers { 5 } else { 4 };
        let lives = ["room-opened", "peer-joined", "peer-left", "room-closed"].map(count);
        assert_eq!(lives, [1, members, members, 1], "{room}: {told:?}");
        let recordings = ["recording-started", "recording-ended", "recording-delivered"].map(count);
        assert_eq!(recordings, if number == 0 { [1, 1, 1] } else { [0, 0, 0] }, "{room}: {told:?}");
        // A busy machine may take two tries for a stream.
        let [published, unpublished] = ["stream-published", "stream-unpublished"].map(count);
        assert!(published == unpublished && (published > 0) == (has_media || is_newcomers), "{room}: {told:?}");
        let [subscribed, unsubscribed] = ["stream-subscribed", "stream-unsubscribed"].map(count);
        assert!(subscribed == unsubscribed && subscribed >= if has_media { 3 } else { 0 }, "{room}: {told:?}");
        spans_all(events, &room);
    }
    assert_eq!(rooms.len(), 6, "{:?}", rooms.keys());
    let nodes = ["node-up", "node-down"].map(|kind| others.get(kind).copied());
    assert_eq!(nodes, [Some(2), Some(2)], "{others:?}");
}

/// A room's opening is the first in its log, and its end the last. What several edges tell is in order by `seq` only.
fn spans_all(events: &[Message], room: &str) {
    let of_room =
        events.iter().map(|event| &event.value).filter(|event| event["room"] == room && event["seq"].is_u64());
    let places: Vec<(u64, &Value)> =
        of_room.map(|event| (event["seq"].as_u64().unwrap_or_default(), &event["type"])).collect();
    let at = |kind: &str| places.iter().find(|(_, told)| *told == kind).map(|(seq, _)| *seq);
    let (first, last) = (places.iter().map(|(seq, _)| *seq).min(), places.iter().map(|(seq, _)| *seq).max());
    assert_eq!((at("room-opened"), at("room-closed")), (first, last), "{room}: {places:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_broker_that_is_never_there_nobody_notices() {
    let brokers = Kafka::not_started().brokers();
    let begun = Instant::now();
    let plan = plan(&brokers, None);
    let mut scenario = Scenario::start("no broker is ever there", &plan, Size::USUAL).await;
    scenario.figure(&format!("up after {} ms", begun.elapsed().as_millis()));
    scenario.fault();
    scenario.nobody_notices(Duration::from_secs(15)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0, 0), "{audit}");
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_broker_is_never_there_starts_and_ends_in_time() {
    let plan = Plan { edges: &["home"], nodes: &["home"], ..plan(&Kafka::not_started().brokers(), None) };
    let mut deployment = Deployment::start(&plan).await.expect("it starts");
    let mut node = deployment.nodes.remove(0);
    let begun = Instant::now();
    node.process.terminate().expect("a signal");
    let status = node.process.ended(END).await.expect("it ends by itself");
    assert!(status.success(), "{status}");
    let took = begun.elapsed();
    tell("the end of a node that cannot say it", took);
    assert!(took < bound(FLUSH), "{took:?}");
    assert!(!written(&node.process).expect("they are lines").is_empty(), "it said on stdout what it could not send");
}

#[expect(clippy::print_stdout, reason = "figures for people; the test harness shows them")]
fn tell(what: &str, figure: impl std::fmt::Debug) {
    println!("  {what}: {figure:?}");
}
