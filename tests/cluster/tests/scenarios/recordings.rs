//! What is recorded, and what becomes of it when a node is killed, its disk is full, or the store is away: nothing is lost beyond what
//! docs/recording.md promises, and each manifest says exactly what was.

use std::collections::BTreeSet;
use std::fs;
use std::iter::repeat_n;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::account::Expected;
use cluster::admin::status;
use cluster::client::Client;
use cluster::deployment::{Deployment, Plan, SmallDisk};
use cluster::media::{FRAME, SILENCE, Speaker};
use cluster::population::Size;
use cluster::recordings::{Counts, Delivered, Place, Sound, files, tones};
use cluster::scenario::Scenario;
use cluster::schema::conforms;
use serde_json::json;
use servers::S3;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{UNHEARD, bound};

/// A file's length may differ from the call's by this much.
const LENGTH_WITHIN: Duration = Duration::from_millis(40);
/// A source that was announced counts for half a second after its last packet; another that goes on is not heard before.
const UNHEARD_AFTER_CHANGE: u64 = 27;
/// Packets that fill some 50 ms: a few long ones, and what is left over in short ones.
const FILLED_BEFORE: u64 = 5;
/// What a kill may cost of the end.
const KILL_COSTS: Duration = Duration::from_secs(1);
/// A manifest is there so soon after the end of a recording, while other scenarios run on the same machine.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries of a delivery, at most, and for the tries themselves.
const RETRIED_WITHIN: Duration = Duration::from_secs(100);
/// After the last packet: it is on its way, and may be waited for.
const SETTLE: Duration = Duration::from_secs(1);
/// The schema that docs/ promises.
const SCHEMA: &str = "recording.schema.json";

/// Directories of one test.
struct Directories {
    all: TempDir,
}

impl Directories {
    fn new() -> Self {
        let made = Self { all: TempDir::with_prefix("recordings-").expect("a temporary directory") };
        for path in [made.delivered(), made.spool()] {
            fs::create_dir(path).expect("a directory");
        }
        made
    }

    fn delivered(&self) -> PathBuf {
        self.all.path().join("delivered")
    }

    fn spool(&self) -> PathBuf {
        self.all.path().join("spool")
    }

    /// One edge and one node, which delivers to the directory.
    fn plan(&self) -> Plan {
        self.plan_to(&format!("url: 'file://{}'", self.delivered().display()))
    }

    fn plan_to(&self, url: &str) -> Plan {
        let spool = self.spool();
        let node_settings = format!("recording: {{{url}, spool_dir: '{}', min_free: 0}}\n", spool.display());
        Plan { edges: &["home"], nodes: &["home"], node_settings, ..Plan::default() }
    }

    /// Files of recordings that wait in the spool.
    fn waiting(&self) -> Vec<PathBuf> {
        let mut all = files(&self.spool()).expect("the spool is there");
        all.retain(|path| path.extension().is_some_and(|extension| extension == "ogg" || extension == "webm"));
        all
    }

    /// How many recordings in the spool have ended in order.
    fn closed(&self) -> usize {
        let all = files(&self.spool()).expect("the spool is there");
        let is_end = |path: &&PathBuf| path.to_str().is_some_and(|name| name.ends_with(".ended.json"));
        all.iter().filter(is_end).count()
    }
}

/// What a speaker knows of its own recording.
#[derive(Debug)]
struct Spoken {
    uid: String,
    room: String,
    mid: String,
    recording: String,
    sent: u64,
    /// How many of them may have been taken for a stranger's.
    unheard: u64,
    /// Its length is this at least, and at most the other: it began and ended some time between question and answer.
    length: [Duration; 2],
}

/// Somebody publishes, is recorded from before its first packet until after its last, and ends.
async fn recorded(client: Arc<Client>, payloads: Vec<Vec<u8>>, pause: Duration) -> anyhow::Result<Spoken> {
    let mut speaker = Speaker::publish(&client, &json!({})).await?;
    let asked = Instant::now();
    let recording = speaker.record(true).await?;
    let begun = Instant::now();
    let half = payloads.len() / 2;
    let mut payloads = payloads.into_iter();
    speaker.say(payloads.by_ref().take(half).collect::<Vec<_>>()).await?;
    speaker.pause(pause).await?;
    speaker.say(payloads).await?;
    speaker.pause(SETTLE).await?;
    let ending = Instant::now();
    speaker.record(false).await?;
    let length = [ending - begun, asked.elapsed()];
    let (uid, room) = (client.uid.to_string(), client.room.to_string());
    Ok(Spoken { uid, room, mid: speaker.mid().to_owned(), recording, sent: speaker.sent(), unheard: 0, length })
}

/// A silent microphone's packets.
fn silence(packets: usize) -> Vec<Vec<u8>> {
    repeat_n(SILENCE.to_vec(), packets).collect()
}

/// All of these speak at once; each is recorded.
async fn all_recorded(clients: Vec<Arc<Client>>, packets: usize, pause: Duration) -> Vec<Spoken> {
    let mut speaking = JoinSet::new();
    for client in clients {
        speaking.spawn(recorded(client, silence(packets), pause));
    }
    speaking.join_all().await.into_iter().map(|spoken| spoken.expect("it spoke and was recorded")).collect()
}

fn clients(deployment: &Deployment, count: usize) -> Vec<Arc<Client>> {
    let client =
        |number| Client::start(&format!("speaker-{number}"), &format!("room-{}", number % 10), &deployment.addresses());
    (0..count).map(|number| Arc::new(client(number))).collect()
}

fn of<'a>(spoken: &Spoken, delivered: &'a [Delivered]) -> &'a Delivered {
    let found = delivered.iter().find(|one| one.text("recording") == spoken.recording);
    found.unwrap_or_else(|| panic!("no manifest of {spoken:?}"))
}

/// Every packet is somewhere, the names are those it was recorded under, and the file is as long as the call.
fn is_whole(spoken: &Spoken, delivered: &Delivered) {
    let names = ["uid", "room", "mid"].map(|key| delivered.text(key));
    assert_eq!(names, [&spoken.uid, &spoken.room, &spoken.mid].map(String::as_str));
    let Counts { written, lost, dropped, invalid } = delivered.counts("audio").expect("it has sound");
    assert_eq!((dropped, invalid), (0, 0), "the recorder kept up: {}", delivered.manifest);
    let heard = spoken.sent - spoken.unheard..=spoken.sent;
    assert!(heard.contains(&(written + lost)), "{heard:?} packets of {}: {}", spoken.uid, delivered.manifest);
    let decoded = delivered.decoded().expect("it can be decoded");
    let [least, most] = spoken.length;
    let right = least.saturating_sub(LENGTH_WITHIN)..=most + LENGTH_WITHIN;
    assert!(right.contains(&decoded), "{}: {decoded:?} is not within {right:?}", spoken.uid);
    assert!(decoded.abs_diff(delivered.duration()) <= LENGTH_WITHIN, "{decoded:?}: {}", delivered.manifest);
}

#[expect(clippy::print_stdout, reason = "figures for people; the test harness shows them")]
fn tell(what: &str, figure: impl std::fmt::Debug) {
    println!("  {what}: {figure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_recordings_at_once_every_packet_is_accounted_for() {
    let directories = Directories::new();
    let deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    // Two halves of five seconds, and two seconds of nothing between them.
    let spoken = all_recorded(clients(&deployment, 50), 500, Duration::from_secs(2)).await;
    let (place, directory) = (directories.delivered(), directories.delivered());
    let delivered = Place::Directory(&place).delivered(50, DELIVERED_WITHIN).await.expect("all are delivered");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    let mut mids = BTreeSet::new();
    for one in &spoken {
        let manifest = of(one, &delivered);
        is_whole(one, manifest);
        assert_eq!((manifest.text("reason"), manifest.manifest["recovered"] == true), ("stopped", false));
        mids.insert(&one.mid);
    }
    assert_eq!(mids.len(), 50);
    // An .ogg and a manifest each, and nothing else.
    assert_eq!(files(&directory).expect("it is there").len(), 100);
    assert_eq!(directories.waiting(), Vec::<PathBuf>::new(), "nothing is left in the spool");
    let lost: u64 = delivered.iter().map(|one| one.counts("audio").expect("sound").lost).sum();
    tell("fifty recordings: packets lost on the way", lost);
}

/// Its file cannot be told from that of a sender who stayed: a tone in each ear, and as long as the call. (What browsers send is in
/// tests/browser/recording.test.mjs; none of them can be made to change its source and nothing else.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_who_is_replaced_by_another_source_is_recorded_without_a_seam() {
    const TONES: [f64; 2] = [440.0, 880.0];
    let directories = Directories::new();
    let deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    let mut packets = tones(TONES, 60).expect("an encoder");
    let client = Arc::new(Client::start("replaced", "room", &deployment.addresses()));
    let mut speaker = Speaker::publish(&client, &json!({})).await.expect("it publishes");
    let asked = Instant::now();
    let recording = speaker.record(true).await.expect("it is recorded");
    let begun = Instant::now();
    let second = packets.split_off(packets.len() / 2);
    speaker.say(packets).await.expect("it speaks");
    speaker.change_source();
    speaker.say(second).await.expect("it speaks on");
    let ending = Instant::now();
    speaker.record(false).await.expect("it is recorded no more");
    let length = [ending - begun, asked.elapsed()];
    let place = directories.delivered();
    let delivered = Place::Directory(&place).delivered(1, DELIVERED_WITHIN).await.expect("it is delivered");
    let (uid, room, mid) = (client.uid.to_string(), client.room.to_string(), speaker.mid().to_owned());
    let spoken = Spoken { uid, room, mid, recording, sent: speaker.sent(), unheard: UNHEARD_AFTER_CHANGE, length };
    is_whole(&spoken, &delivered[0]);
    let files = delivered[0].files().expect("they are there");
    let apart = Sound::decoded(&files[0]).expect("it is sound").apart(TONES);
    let good = apart.iter().filter(|db| **db >= 20.0).count();
    tell("tenths of a second with a tone in each ear, of all", (good, apart.len()));
    // The half second at the seam, the beginning and the end.
    assert!(good + 8 >= apart.len(), "{apart:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_has_recorded_is_delivered_when_it_is_back() {
    const PACKETS: usize = 400;
    let directories = Directories::new();
    let mut deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    let mut speaking = JoinSet::new();
    for client in clients(&deployment, 5) {
        speaking.spawn(async move {
            let mut speaker = Speaker::publish(&client, &json!({})).await?;
            let asked = Instant::now();
            let recording = speaker.record(true).await?;
            let begun = Instant::now();
            speaker.say_nothing(PACKETS).await?;
            anyhow::Ok((recording, asked, begun))
        });
    }
    let spoken: Vec<_> = speaking.join_all().await.into_iter().map(|spoken| spoken.expect("it speaks")).collect();
    deployment.nodes[0].process.kill();
    let killed = Instant::now();
    let place = directories.delivered();
    assert!(Place::Directory(&place).manifests().await.expect("it is there").is_empty(), "nothing was finished");
    deployment.nodes[0].restart().await.expect("it starts again");
    let delivered = Place::Directory(&place).delivered(5, DELIVERED_WITHIN).await.expect("all are delivered");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    for (recording, asked, begun) in spoken {
        let one = delivered.iter().find(|one| one.text("recording") == recording).expect("each has a manifest");
        assert_eq!(one.manifest["recovered"], true, "{}", one.manifest);
        let decoded = one.decoded().expect("it can be decoded");
        let (least, most) = ((killed - begun).saturating_sub(KILL_COSTS), killed - asked + LENGTH_WITHIN);
        tell("length of what was recovered, and of the call", (decoded, killed - begun));
        assert!((least..=most).contains(&decoded), "{decoded:?} is not within {least:?}..={most:?}");
        let Counts { written, .. } = one.counts("audio").expect("it has sound");
        let kept = PACKETS as u64 - (KILL_COSTS.as_millis() / FRAME.as_millis()) as u64;
        // What fills the moment before the first packet counts like the others in a file that was recovered.
        let most = PACKETS as u64 + FILLED_BEFORE;
        assert!((kept..=most).contains(&written), "{written} packets of {PACKETS}: {}", one.manifest);
    }
    assert_eq!(directories.waiting(), Vec::<PathBuf>::new(), "nothing is left in the spool");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_end_finishes_what_it_records() {
    let directories = Directories::new();
    let mut deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    let client = clients(&deployment, 1).remove(0);
    let mut speaker = Speaker::publish(&client, &json!({})).await.expect("it publishes");
    speaker.record(true).await.expect("it is recorded");
    speaker.say_nothing(150).await.expect("it speaks");
    let process = &mut deployment.nodes[0].process;
    process.terminate().expect("a signal");
    // There is no node to move to: it waits for its streams as long as it is set to (20 s).
    process.ended(Duration::from_secs(40)).await.expect("it ends by itself");
    deployment.nodes[0].restart().await.expect("it starts again");
    let place = directories.delivered();
    let delivered = Place::Directory(&place).delivered(1, DELIVERED_WITHIN).await.expect("it is delivered");
    assert_ne!(delivered[0].manifest["recovered"], true, "it was closed in order: {}", delivered[0].manifest);
    let Counts { written, lost, .. } = delivered[0].counts("audio").expect("it has sound");
    assert_eq!((written, lost), (speaker.sent(), 0), "{}", delivered[0].manifest);
    delivered[0].decoded().expect("it can be decoded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_recordings_and_touches_no_call() {
    let directories = Directories::new();
    let small_disk = Some(SmallDisk { at: directories.spool(), kib: 384 });
    let plan = Plan { small_disk, ..directories.plan() };
    let size = Size { rooms: 4, members: 4, with_media: 4, publishers: 2 };
    let mut scenario = Scenario::start("a disk is full", &plan, size).await;
    scenario.fault();
    let mids: Vec<(Arc<Client>, String)> = scenario.population.members.iter().filter_map(published).collect();
    assert_eq!(mids.len(), 8);
    for (client, mid) in &mids {
        client.record(mid, true, DELIVERED_WITHIN).await.expect("it is recorded");
    }
    let place = directories.delivered();
    let is_full = |one: &Delivered| one.text("reason") == "disk_full";
    let deadline = Instant::now() + Duration::from_mins(2);
    while !Place::Directory(&place).manifests().await.expect("it is there").iter().any(is_full) {
        assert!(Instant::now() < deadline, "a recording of which the disk is full is ended, and delivered");
        sleep(Duration::from_millis(200)).await;
    }
    scenario.nobody_notices(Duration::from_secs(5)).await;
    assert_eq!(status(scenario.deployment.nodes[0].admin, "/healthz").await.expect("it answers"), 200);
    for (client, mid) in &mids {
        // It may have ended already.
        client.record(mid, false, DELIVERED_WITHIN).await.expect("it is carried out");
    }
    let delivered = Place::Directory(&place).delivered(8, DELIVERED_WITHIN).await.expect("all are delivered");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    for one in &delivered {
        let length = one.decoded().expect("what there was room for can be decoded");
        let told = one.manifest["files"][0]["duration_ms"].as_u64().map(Duration::from_millis).expect("a length");
        assert!(length.abs_diff(told) <= LENGTH_WITHIN, "{length:?}, and the manifest says {told:?}");
    }
    tell("recordings of which the disk was full, of 8", delivered.iter().filter(|one| is_full(one)).count());
    let verdict = scenario.verdict(&Expected::default()).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0, 0), "{audit}");
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

fn published(member: &cluster::population::Member) -> Option<(Arc<Client>, String)> {
    Some((Arc::clone(&member.client), member.publisher.as_ref()?.mid()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_while_the_store_is_away_waits_for_it_over_restarts() {
    let directories = Directories::new();
    let mut store = S3::not_started();
    let options = format!(
        "{{aws_endpoint: '{}', aws_allow_http: 'true', aws_access_key_id: test, aws_secret_access_key: test, \
         aws_region: us-east-1}}",
        store.endpoint()
    );
    let url = format!("url: 's3://{}/calls', store: {options}", store.bucket());
    let mut deployment = Deployment::start(&directories.plan_to(&url)).await.expect("it starts without its store");
    let mut spoken = all_recorded(clients(&deployment, 3), 250, Duration::ZERO).await;
    let closed = Instant::now() + DELIVERED_WITHIN;
    while directories.closed() < 3 {
        assert!(Instant::now() < closed, "they are closed, and wait in the spool: {:?}", directories.waiting());
        sleep(Duration::from_millis(50)).await;
    }
    deployment.nodes[0].process.kill();
    deployment.nodes[0].restart().await.expect("it starts again");
    sleep(bound(Duration::from_secs(1))).await;
    let late = Arc::new(Client::start("late", "room-0", &deployment.addresses()));
    spoken.push(recorded(late, silence(100), Duration::ZERO).await.expect("it is recorded"));
    assert_eq!(directories.waiting().len(), 4, "they wait in the spool still");
    store.start_empty().await;
    let fetched = directories.delivered();
    let place = Place::Store(&store, &fetched);
    let delivered = place.delivered(4, RETRIED_WITHIN).await.expect("all are delivered once it is there");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    for one in &spoken {
        is_whole(one, of(one, &delivered));
    }
    let keys = store.keys().await;
    assert!(keys.len() == 8 && keys.iter().all(|key| key.starts_with("calls/")), "{keys:?}");
    let deadline = Instant::now() + DELIVERED_WITHIN;
    while !directories.waiting().is_empty() {
        assert!(Instant::now() < deadline, "what is delivered leaves the spool: {:?}", directories.waiting());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_stay_within_the_directory_whatever_rooms_and_people_are_called() {
    let directories = Directories::new();
    let deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    let edges = deployment.addresses();
    let long = "長".repeat(128);
    let faces = "🦀".repeat(128);
    let names = [
        "..",
        ".",
        "...",
        ".hidden",
        "CON",
        "a b%2F..%2F..",
        "-rf",
        "~",
        "\\..\\..",
        "NUL.ogg",
        "é\u{301}",
        &long,
        &faces,
    ];
    let mut speaking = JoinSet::new();
    for (number, name) in names.iter().enumerate() {
        // Each is a room's, and a person's in the next one's room.
        let room = names[(number + 1) % names.len()];
        let client = Arc::new(Client::start(name, room, &edges));
        speaking.spawn(recorded(client, silence(50), Duration::ZERO));
    }
    let spoken: Vec<Spoken> =
        speaking.join_all().await.into_iter().map(|spoken| spoken.expect("it is recorded")).collect();
    let place = directories.delivered();
    let delivered = Place::Directory(&place).delivered(names.len(), DELIVERED_WITHIN).await.expect("all are delivered");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    for one in &spoken {
        is_whole(one, of(one, &delivered));
    }
    let all = files(directories.all.path()).expect("it is there");
    for path in &all {
        assert!(path.starts_with(&place) || path.starts_with(directories.spool()), "{} is outside", path.display());
        assert!(is_plain(path.strip_prefix(directories.all.path()).expect("it is below")), "{}", path.display());
    }
    let lower: BTreeSet<String> = all.iter().map(|path| path.display().to_string().to_lowercase()).collect();
    assert_eq!(lower.len(), all.len(), "no two names differ by case only");
}

/// Every part of it is a name that any file system takes.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| {
        let name = part.as_os_str().to_string_lossy();
        let plain = name.chars().all(|one| one.is_ascii_alphanumeric() || "-_.%+=@,~".contains(one));
        plain && !name.starts_with('.') && name.len() <= 255
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_none_are_refused_before_anything_is_recorded() {
    let directories = Directories::new();
    let deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    let edges = deployment.addresses();
    let endless = "x".repeat(500);
    for uid in ["../up", "nul\0", &endless] {
        let client = Client::start(uid, "room", &edges);
        let refused = client.until(Duration::from_secs(20), |now| now.ended.is_some()).await;
        assert!(refused, "{uid:?} is let in");
    }
    // Its connection is good, its join is not.
    for room in ["../room", "nul\0", &endless] {
        let client = Client::start("up", room, &edges);
        let joined = client.until(Duration::from_secs(2), |now| now.joined).await;
        assert!(!joined, "a room is called {room:?}");
    }
    let lock = directories.spool().join("lock");
    let all = files(directories.all.path()).expect("it is there");
    assert!(all.iter().all(|path| *path == lock), "{all:?}");
}

/// Packets that are Opus only by name: each first byte there is, with nothing after it, with a little, with a lot, and such as announce
/// more frames than there can be (RFC 6716, section 3.2: at most 120 ms); and none at all.
fn hostile() -> Vec<Vec<u8>> {
    let endings: [&[u8]; 6] = [&[], &[0], &[0xFF], &[0x3F, 0xFF, 0xFE], &[0xBF, 0xFF, 0xFF, 0xFF], &[0x81, 0x00]];
    let mut packets: Vec<Vec<u8>> = (0..=u8::MAX)
        .map(|first| {
            let ending = endings[usize::from(first) % endings.len()];
            [&[first][..], ending].concat()
        })
        .collect();
    packets.push(Vec::new());
    // 120 ms: six frames of 20 ms of two bytes each, and the same of seven, which is too much.
    packets.extend([
        [&[0xFF, 6][..], &[0xFF, 0xFE].repeat(6)].concat(),
        [&[0xFF, 7][..], &[0xFF, 0xFE].repeat(7)].concat(),
    ]);
    packets.extend([vec![0xFC; 1_100], vec![0x03; 1_100], vec![0xFF; 1_100]]);
    packets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_are_no_opus_harm_neither_the_file_nor_anybody_elses() {
    let directories = Directories::new();
    let deployment = Deployment::start(&directories.plan()).await.expect("it starts");
    let [mallory, ann] = ["mallory", "ann"].map(|uid| Arc::new(Client::start(uid, "room", &deployment.addresses())));
    let packets = hostile();
    let (hostile, honest) = tokio::join!(
        recorded(mallory, packets.clone(), Duration::from_millis(200)),
        recorded(ann, silence(packets.len()), Duration::from_millis(200)),
    );
    let (hostile, honest) = (hostile.expect("it is recorded"), honest.expect("it is recorded"));
    let place = directories.delivered();
    let delivered = Place::Directory(&place).delivered(2, DELIVERED_WITHIN).await.expect("both are delivered");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    is_whole(&honest, of(&honest, &delivered));
    let worst = of(&hostile, &delivered);
    let decoded = worst.files().expect("they are there");
    // What a decoder makes of it is its own business; but it is one stream of Opus, as long as the call and no longer.
    assert_eq!(decoded.len(), 1, "{}", worst.manifest);
    let [least, most] = hostile.length;
    let right = least.saturating_sub(Duration::from_secs(1))..=most + Duration::from_secs(1);
    assert!(right.contains(&worst.duration()), "{:?} is not within {right:?}", worst.duration());
    let Counts { written, lost, invalid, .. } = worst.counts("audio").expect("it has sound");
    // All but the empty one, which is padding.
    assert_eq!(written + lost + invalid, hostile.sent - 1, "{}", worst.manifest);
    assert_eq!(status(deployment.nodes[0].admin, "/healthz").await.expect("it answers"), 200);
}

/// As long as a stream takes to be told to move, and its successor to be there.
const MOVED_WITHIN: Duration = Duration::from_secs(20);

/// Somebody in a room that is recorded is asked to move, does as the SDK does (publishes again, then takes the first back), and speaks
/// on: two recordings on two nodes, which between them have all that was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_off_a_draining_node_is_recorded_on_the_other() {
    const PACKETS: usize = 250;
    let directories = Directories::new();
    let (url, spool) = (directories.delivered(), directories.spool());
    let node_settings = format!(
        "recording: {{url: 'file://{}', spool_dir: '{}/NODE_ID', min_free: 0}}\n",
        url.display(),
        spool.display()
    );
    let edge_settings = "recording: {rooms: [room]}\n".to_owned();
    let plan = Plan { edges: &["home"], nodes: &["home", "home"], edge_settings, node_settings, ..Plan::default() };
    let mut deployment = Deployment::start(&plan).await.expect("it starts");
    let client = Arc::new(Client::start("moving", "room", &deployment.addresses()));
    let asked = Instant::now();
    let mut first = Speaker::publish(&client, &json!({})).await.expect("it publishes");
    let begun = Instant::now();
    first.say_nothing(PACKETS).await.expect("it speaks");
    let node = first.node().to_owned();
    deployment.node(&node).process.terminate().expect("a signal");
    let is_asked = client.until(MOVED_WITHIN, |now| now.unwanted.contains(first.mid())).await;
    assert!(is_asked, "its owner is asked to move it");
    let asked_again = Instant::now();
    let mut second = Speaker::publish(&client, &json!({"replaces": first.mid()})).await.expect("it publishes again");
    let begun_again = Instant::now();
    assert_ne!(second.node(), node, "on the other node");
    let ending = Instant::now();
    unpublish(&client, first.mid()).await;
    let ended = Instant::now();
    let process = &mut deployment.node(&node).process;
    let status = process.ended(Duration::from_secs(40)).await.expect("nothing is on it any more: it ends");
    assert!(status.success(), "{status}");
    second.say_nothing(PACKETS).await.expect("it speaks on");
    second.pause(SETTLE).await.expect("its packets arrive");
    let ending_again = Instant::now();
    unpublish(&client, second.mid()).await;
    let ended_again = Instant::now();
    // What it could not deliver before its end it delivers now.
    deployment.node(&node).restart().await.expect("it starts again");
    let place = directories.delivered();
    let delivered = Place::Directory(&place).delivered(2, DELIVERED_WITHIN).await.expect("both are delivered");
    conforms(SCHEMA, delivered.iter().map(|one| &one.manifest)).expect("manifests are as docs/ has them");
    let [left, right] = [(&first, &node[..]), (&second, second.node())].map(|(speaker, node)| {
        let one = delivered.iter().find(|one| one.text("mid") == speaker.mid()).expect("each has a recording");
        assert_eq!((one.text("node"), one.manifest["recovered"] == true), (node, false), "{}", one.manifest);
        let length = if speaker.mid() == first.mid() {
            [ending - begun, ended - asked]
        } else {
            [ending_again - begun_again, ended_again - asked_again]
        };
        let (uid, room, mid) = (client.uid.to_string(), client.room.to_string(), speaker.mid().to_owned());
        let recording = one.text("recording").to_owned();
        is_whole(&Spoken { uid, room, mid, recording, sent: speaker.sent(), unheard: 0, length }, one);
        one
    });
    // The recorder may hear first that the node ends, for which this was the last stream.
    assert!(["publication_ended", "node_ending"].contains(&left.text("reason")), "{}", left.manifest);
    assert_eq!(right.text("reason"), "publication_ended", "{}", right.manifest);
    // By one clock: the first goes on until the second is there.
    tell("the second recording begins while the first lasts, from, to", (right.text("started"), left.text("ended")));
    assert!(right.text("started") <= left.text("ended"), "there is no gap: {} {}", left.manifest, right.manifest);
    let both = left.decoded().expect("it can be decoded") + right.decoded().expect("it can be decoded");
    tell("length of both, and of the call", (both, ended_again - asked));
    assert!(both + 2 * LENGTH_WITHIN >= ending_again - begun, "{both:?} of {:?}", ending_again - begun);
}

async fn unpublish(client: &Client, mid: &str) {
    client.request("unpublish", json!({"mid": mid}), MOVED_WITHIN, || ()).await.expect("it is carried out");
}
