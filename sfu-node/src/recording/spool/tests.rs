//! The spool as a whole: against a real directory, and against a store in memory that fails, hangs and is cut off.

mod troubled;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use boon::{Compiler, SchemaIndex, Schemas};
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use recording::{AudioFormat, Gap, Kind, Packet, Recording, StreamInfo, TrackSummary};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use self::troubled::Troubled;
use super::manifest::Manifest;
use super::names::{from_unix_ms, hex};
use super::*;
use crate::recording::settings::file_url;

/// Longest that anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Bytes of a part in memory: a file need not be long to have several.
const PART: usize = 10_000;

/// 2026-11-30T14:52:01.123Z.
const STARTED_MS: u64 = 1_796_050_321_123;

/// What the recordings of these tests are called, below their room.
const STEM: &str = "20261130T145201.123Z_alice_rec1";

fn new_recording(id: &str) -> NewRecording {
    NewRecording {
        recording: RecordingId::new(id).expect("an id"),
        room: RoomId::new("weekly").expect("a room"),
        uid: PeerId::new("alice").expect("a uid"),
        mid: Mid::new("alice#0123456789").expect("a mid"),
        started: from_unix_ms(STARTED_MS),
        audio: true,
        video: true,
    }
}

fn summary() -> Summary {
    let mut audio = TrackSummary::new(Kind::Audio, "opus", "ogg");
    (audio.channels, audio.packets, audio.lost) = (2, 3_000, 7);
    audio.duration = Duration::from_millis(60_020);
    audio.gaps = vec![Gap { at: Duration::from_millis(100), length: Duration::from_millis(140) }];
    let mut video = TrackSummary::new(Kind::Video, "vp8", "webm");
    (video.width, video.height, video.duration) = (1_280, 720, Duration::from_mins(1));
    let duration = audio.duration;
    Summary { duration, ogg: duration, webm: duration, tracks: vec![audio, video], unclosed: None }
}

fn config(place: &FilePath) -> RecordingConfig {
    RecordingConfig {
        url: Some(file_url(&place.join("store")).expect("a path")),
        spool_dir: Some(place.join("spool")),
        min_free: 0,
        ..RecordingConfig::default()
    }
}

fn node() -> NodeId {
    NodeId::new("node-1").expect("an id")
}

fn open(place: &FilePath) -> Spool {
    Spool::open(&config(place), &node()).expect("opened")
}

/// A spool whose store is this.
fn open_with(place: &FilePath, store: &Troubled) -> Spool {
    let lock = File::create(place.join("lock")).expect("made");
    let dir = Dir::make(place.join("spool")).expect("made");
    Spool::of(dir, Store::of(store.clone(), Path::from("below")).with_part(PART), lock, &config(place), &node())
}

/// Records something, and ends it.
fn record(spool: &Spool, id: &str, audio: &[u8], video: &[u8]) -> Name {
    let name = begin(spool, id, audio, video);
    spool.finished(Finished { name: name.clone(), summary: summary(), reason: Reason::Stopped, detail: None });
    name
}

fn begin(spool: &Spool, id: &str, audio: &[u8], video: &[u8]) -> Name {
    use std::io::Write as _;

    let files = spool.create(&new_recording(id)).expect("begun");
    files.audio.expect("there is sound").write_all(audio).expect("written");
    files.video.expect("there is a picture").write_all(video).expect("written");
    files.name
}

/// Delivers beside the test, which hears of what is delivered.
fn deliver(spool: Spool) -> (JoinHandle<()>, Receiver<Delivered>, CancellationToken) {
    let (told, hears) = channel();
    let (task, shutdown) = deliver_to(spool, move |event| {
        if let SpoolEvent::Delivered(delivered) = event {
            drop(told.send(delivered));
        }
    });
    (task, hears, shutdown)
}

fn deliver_to(spool: Spool, told: impl Fn(SpoolEvent) + Send + Sync + 'static) -> (JoinHandle<()>, CancellationToken) {
    let shutdown = CancellationToken::new();
    (tokio::spawn(spool.deliver(told, shutdown.clone())), shutdown)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Names in the spool, but for that of its lock.
fn left(place: &FilePath) -> Vec<String> {
    let names = fs::read_dir(place.join("spool")).expect("read").map(|file| file.expect("read").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).filter(|name| name != LOCK).collect();
    names.sort();
    names
}

/// Noise that is never the same twice in a file.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(bytes).collect()
}

#[tokio::test]
async fn a_recording_is_delivered_with_its_manifest_and_leaves_the_spool() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let (task, hears, shutdown) = deliver(spool.clone());
    record(&spool, "rec1", b"sound", b"picture and sound");
    let delivered = {
        until("it is delivered", || left(place.path()).is_empty()).await;
        hears.try_recv().expect("told")
    };
    assert_eq!(delivered.path, format!("weekly/{STEM}.json"));
    let store = place.path().join("store/weekly");
    assert_eq!(fs::read(store.join(format!("{STEM}.ogg"))).expect("there"), b"sound");
    assert_eq!(fs::read(store.join(format!("{STEM}.webm"))).expect("there"), b"picture and sound");
    let text = fs::read_to_string(store.join(format!("{STEM}.json"))).expect("there");
    assert_eq!(text, delivered.manifest.to_json());
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in [
        ("version", Value::from(1)),
        ("recording", "rec1".into()),
        ("room", "weekly".into()),
        ("uid", "alice".into()),
        ("mid", "alice#0123456789".into()),
        ("node", "node-1".into()),
        ("started", "2026-11-30T14:52:01.123Z".into()),
        ("ended", "2026-11-30T14:53:01.143Z".into()),
        ("duration_ms", 60_020.into()),
        ("reason", "stopped".into()),
        ("recovered", false.into()),
    ] {
        assert_eq!(manifest[key], value, "{key}");
    }
    let file = &manifest["files"][1];
    assert_eq!(file["name"], format!("{STEM}.webm"));
    assert_eq!((&file["bytes"], &file["duration_ms"]), (&17.into(), &60_020.into()));
    assert_eq!(file["sha256"], hex(&Sha256::digest(b"picture and sound")));
    assert_eq!(file["codecs"], serde_json::json!(["vp8", "opus"]));
    assert_eq!(manifest["tracks"][0]["gaps"], serde_json::json!([{"at_ms": 100, "length_ms": 140}]));
    assert_eq!((&manifest["tracks"][0]["channels"], &manifest["tracks"][1]["width"]), (&2.into(), &1_280.into()));
    shutdown.cancel();
    task.await.expect("ended");
}

#[test]
fn a_spool_is_one_process_own() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let refused = Spool::open(&config(place.path()), &node()).expect_err("in use");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    drop(spool);
    open(place.path());
}

#[test]
fn without_room_no_recording_begins() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(&RecordingConfig { min_free: u64::MAX, ..config(place.path()) }, &node()).expect("opened");
    assert!(!spool.has_room());
    assert!(matches!(spool.create(&new_recording("rec1")), Err(CreateError::Full)));
    assert!(left(place.path()).is_empty());
}

#[test]
fn a_recording_is_never_begun_twice() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    begin(&spool, "rec1", b"sound", b"");
    assert!(matches!(spool.create(&new_recording("rec1")), Err(CreateError::Io(_))));
    drop(spool);
    assert!(matches!(open(place.path()).create(&new_recording("rec1")), Err(CreateError::Io(_))), "nor after a crash");
    let audio = place.path().join("spool").join(format!("{STEM}.ogg"));
    assert_eq!(fs::read(audio).expect("there"), b"sound");
}

#[tokio::test]
async fn what_a_killed_process_left_is_closed_and_delivered_and_says_so() {
    let place = tempfile::tempdir().expect("a directory");
    begin(&open(place.path()), "rec1", b"no Ogg at all", b"");
    let (_task, hears, _shutdown) = deliver(open(place.path()));
    until("it is delivered", || left(place.path()).is_empty()).await;
    let manifest: Value = serde_json::from_str(&hears.try_recv().expect("told").manifest.to_json()).expect("JSON");
    assert_eq!((&manifest["reason"], &manifest["recovered"]), (&"interrupted".into(), &true.into()));
    assert_eq!((&manifest["uid"], &manifest["node"]), (&"alice".into(), &"node-1".into()));
}

#[tokio::test]
async fn the_end_of_what_a_killed_process_recorded_is_told_once_and_of_nothing_else() {
    let place = tempfile::tempdir().expect("a directory");
    begin(&open(place.path()), "rec1", b"no Ogg at all", b"");
    let spool = open(place.path());
    record(&spool, "rec2", b"sound", b"");
    spool.abandon(&begin(&spool, "rec3", b"no Ogg at all", b""));
    let (told, hears) = channel();
    let (_task, _shutdown) = deliver_to(spool, move |event| {
        drop(told.send(match event {
            SpoolEvent::Recovered(manifest) => (manifest.recording().to_string(), false),
            SpoolEvent::Delivered(delivered) => (delivered.manifest.recording().to_string(), true),
        }));
    });
    until("all are delivered", || left(place.path()).is_empty()).await;
    let mut told: Vec<_> = hears.try_iter().collect();
    told.sort();
    let expected = [("rec1", false), ("rec1", true), ("rec2", true), ("rec3", true)];
    assert_eq!(told, expected.map(|(id, delivered)| (id.to_owned(), delivered)));
}

#[tokio::test]
async fn sound_that_a_killed_process_was_writing_can_be_played_to_its_end() {
    let place = tempfile::tempdir().expect("a directory");
    let files = open(place.path()).create(&NewRecording { video: false, ..new_recording("rec1") }).expect("begun");
    let info = StreamInfo {
        room: "weekly".to_owned(),
        uid: "alice".to_owned(),
        mid: "alice#0123456789".to_owned(),
        recording: "rec1".to_owned(),
        started: from_unix_ms(STARTED_MS),
        encoder: "sluice 0".to_owned(),
    };
    let audio = (AudioFormat { channels: 2 }, files.audio.expect("there is sound"));
    let mut recording = Recording::new(&info, Some(audio), None).expect("begun");
    for n in 0..200 {
        let now = Duration::from_millis(20 * n);
        // 20 ms of silence (RFC 6716, section 3).
        let (timestamp, payload) = (960 * n as u32, &[0xfc, 0xff, 0xfe][..]);
        let packet = Packet { index: n, timestamp, source: 0, marker: false, keyframe: false, payload };
        recording.handle_packet(now, Kind::Audio, packet).expect("written");
        recording.handle_timeout(now).expect("written");
    }
    drop(recording);
    let (_task, hears, _shutdown) = deliver(open(place.path()));
    until("it is delivered", || left(place.path()).is_empty()).await;
    let manifest: Value = serde_json::from_str(&hears.try_recv().expect("told").manifest.to_json()).expect("JSON");
    assert_eq!((&manifest["reason"], &manifest["recovered"]), (&"interrupted".into(), &true.into()));
    assert_eq!(manifest["files"][0]["name"], format!("{STEM}.ogg"));
    assert!((3_000..=4_000).contains(&manifest["duration_ms"].as_u64().expect("a number")), "{manifest}");
    assert_eq!((&manifest["tracks"][0]["codec"], &manifest["tracks"][0]["channels"]), (&"opus".into(), &2.into()));
}

#[tokio::test]
async fn what_is_being_recorded_is_left_alone_until_it_ends() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let running = begin(&spool, "rec1", b"sound", b"");
    let (_task, _hears, _shutdown) = deliver(spool.clone());
    record(&spool, "rec2", b"another", b"");
    let other = place.path().join("store/weekly").join(format!("{}.json", STEM.replace("rec1", "rec2")));
    until("the other is delivered", || other.exists() && left(place.path()).len() == 3).await;
    spool.abandon(&running);
    until("it is closed", || left(place.path()).is_empty()).await;
}

#[tokio::test]
async fn an_end_that_a_full_disk_had_no_room_for_is_told_all_the_same() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let name = begin(&spool, "rec1", b"sound", b"");
    // As good as a full disk: neither the end nor the manifest can be written.
    for record in ["ended.json.new", "json.new"] {
        fs::create_dir(place.path().join("spool").join(name.stem().file(record))).expect("made");
    }
    let detail = Some("no space left on device".to_owned());
    spool.finished(Finished { name, summary: summary(), reason: Reason::DiskFull, detail });
    let (_task, hears, _shutdown) = deliver(spool);
    let mut told = None;
    until("it is delivered", || {
        told = told.take().or_else(|| hears.try_recv().ok());
        told.is_some()
    })
    .await;
    let manifest: Value = serde_json::from_str(&told.expect("told").manifest.to_json()).expect("JSON");
    assert_eq!((&manifest["reason"], &manifest["duration_ms"]), (&"disk_full".into(), &60_020.into()));
    assert_eq!((&manifest["detail"], &manifest["recovered"]), (&"no space left on device".into(), &false.into()));
}

#[tokio::test]
async fn a_store_that_is_away_gets_everything_when_it_is_back() {
    let place = tempfile::tempdir().expect("a directory");
    let store = Troubled::new();
    store.go_away(true);
    let spool = open_with(place.path(), &store);
    let (_task, hears, _shutdown) = deliver(spool.clone());
    for n in 0..10 {
        record(&spool, &format!("rec{n}"), &noise(100 + n), &noise(1_000));
    }
    until("it was tried", || store.refused() > 1).await;
    let is_media = |name: &String| [".ogg", ".webm"].iter().any(|kind| name.ends_with(kind));
    let media = left(place.path()).iter().filter(|name| is_media(name)).count();
    assert_eq!(media, 20, "nothing goes before it is delivered");
    store.go_away(false);
    until("all are delivered", || left(place.path()).is_empty()).await;
    let mut told: Vec<_> = hears.try_iter().map(|delivered| delivered.path).collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 10);
    assert_eq!(store.names().await.len(), 30);
}

#[tokio::test]
async fn a_delivery_that_is_cut_off_anywhere_comes_to_the_same() {
    let large = noise(2 * PART + 1);
    for after in 0.. {
        let place = tempfile::tempdir().expect("a directory");
        let store = Troubled::new();
        let spool = open_with(place.path(), &store);
        record(&spool, "rec1", b"sound", &large);
        // From the operation of that number on nothing is answered: as for a process that is killed then.
        store.hang_after(after);
        let (task, hears, _) = deliver(spool);
        until("it hangs, or is done", || store.hangs() || left(place.path()).is_empty()).await;
        let whole = !store.hangs();
        task.abort();
        let _ = task.await;
        store.hang_after(u64::MAX);
        let (task, hears_then, _) = deliver(open_with(place.path(), &store));
        until("it is delivered", || left(place.path()).is_empty()).await;
        let names = ["json", "ogg", "webm"].map(|extension| format!("below/weekly/{STEM}.{extension}"));
        assert_eq!(store.names().await, names, "cut off after {after}");
        assert_eq!(store.read(&names[2]).await, large);
        assert_eq!(store.uploads_left(), 0, "cut off after {after}");
        assert!(hears.try_iter().chain(hears_then.try_iter()).count() >= 1);
        task.abort();
        if whole {
            assert!(after > 10, "{after} operations are too few for a delivery");
            return;
        }
    }
}

#[tokio::test]
async fn an_upload_that_cannot_be_given_up_yet_is_not_forgotten_for_a_newer_one() {
    let place = tempfile::tempdir().expect("a directory");
    let store = Troubled::new();
    let spool = open_with(place.path(), &store);
    let large = noise(2 * PART);
    let name = begin(&spool, "rec1", b"", &large);
    let [path, kept] = ["webm", "webm.upload"].map(|file| place.path().join("spool").join(name.stem().file(file)));
    let source = upload::Source { path, upload: kept.clone(), content: store::Digest::of(&large) };
    let id = store.create_multipart(&spool.shared.store.key("weekly", "cut-off.webm")).await.expect("begun");
    fs::write(&kept, &id).expect("written");
    store.refuse_to_forget(true);
    for (number, is_kept) in [(0, true), (1, false)] {
        let key = spool.shared.store.key("weekly", &format!("{number}.webm"));
        let made = upload::upload(&spool.shared.store, &key, &source).await.expect("uploaded");
        assert_eq!(made, store::Made::Made);
        assert_eq!(fs::read_to_string(&kept).ok().as_deref(), is_kept.then_some(id.as_str()));
        store.refuse_to_forget(false);
    }
    assert_eq!(store.uploads_left(), 0);
}

#[tokio::test]
async fn a_file_that_got_its_name_just_before_a_kill_is_for_whom_its_folder_is() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let name = record(&spool, "rec1", b"sound", b"");
    let store = place.path().join("store/weekly");
    fs::create_dir_all(&store).expect("made");
    let file = name.stem().file("ogg");
    fs::hard_link(place.path().join("spool").join(&file), store.join(&file)).expect("linked");
    let (_task, _hears, _shutdown) = deliver(spool);
    until("it is delivered", || left(place.path()).is_empty()).await;
    let mode =
        |extension: &str| fs::metadata(store.join(name.stem().file(extension))).expect("there").permissions().mode();
    assert_eq!(mode("ogg"), mode("webm"));
}

#[tokio::test]
async fn what_has_our_name_is_not_overwritten() {
    let place = tempfile::tempdir().expect("a directory");
    let store = Troubled::new();
    let other = Path::from(format!("below/weekly/{STEM}.webm"));
    store.put(&other, PutPayload::from_static(b"somebody else's")).await.expect("put");
    let spool = open_with(place.path(), &store);
    let large = noise(2 * PART);
    record(&spool, "rec1", b"sound", &large);
    let (_task, hears, _shutdown) = deliver(spool);
    until("it is delivered", || left(place.path()).is_empty()).await;
    assert_eq!(store.read(other.as_ref()).await, b"somebody else's");
    let manifest: Value = serde_json::from_str(&hears.try_recv().expect("told").manifest.to_json()).expect("JSON");
    let name = manifest["files"][1]["name"].as_str().expect("a name");
    assert_eq!(name, format!("{STEM}-{}.webm", &hex(&Sha256::digest(&large))[..12]));
    assert_eq!(store.read(&format!("below/weekly/{name}")).await, large);
}

#[tokio::test]
async fn a_large_file_goes_to_a_directory_whole_or_not_at_all() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let large = noise(9 << 20);
    record(&spool, "rec1", b"sound", &large);
    let (_task, hears, _shutdown) = deliver(spool);
    until("it is delivered", || left(place.path()).is_empty()).await;
    hears.try_recv().expect("told");
    let store = place.path().join("store/weekly");
    assert_eq!(fs::read(store.join(format!("{STEM}.webm"))).expect("there"), large);
    let mode =
        |extension: &str| fs::metadata(store.join(format!("{STEM}.{extension}"))).expect("there").permissions().mode();
    assert_eq!(mode("webm"), mode("json"), "it is for the same people");
    assert_eq!(fs::read_dir(&store).expect("read").count(), 3, "nothing of the way is left");
}

#[tokio::test]
async fn one_bad_recording_does_not_hold_up_the_others() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let bad = record(&spool, "rec0", b"sound", b"");
    fs::write(place.path().join("spool").join(bad.stem().file("part.json")), "{").expect("written");
    for n in 1..6 {
        record(&spool, &format!("rec{n}"), b"sound", b"");
    }
    let (_task, hears, _shutdown) = deliver(spool);
    let mut told = 0;
    until("the others are delivered", || {
        told += hears.try_iter().count();
        told == 5
    })
    .await;
    until("they are gone", || left(place.path()).len() == 4).await;
    assert!(
        left(place.path()).iter().all(|name| name.contains("rec0")),
        "what nobody knows stays: {:?}",
        left(place.path())
    );
}

#[tokio::test]
async fn a_name_that_the_store_refuses_does_not_hold_up_what_was_recorded_later() {
    let place = tempfile::tempdir().expect("a directory");
    let store = Troubled::new();
    store.forbid("rec0");
    let spool = open_with(place.path(), &store);
    let (_task, hears, _shutdown) = deliver(spool.clone());
    record(&spool, "rec0", b"sound", b"");
    until("it is refused", || store.refused() > 0).await;
    record(&spool, "rec1", b"sound", b"");
    until("the later one is delivered", || left(place.path()).iter().all(|name| name.contains("rec0"))).await;
    assert!(hears.try_recv().expect("told").path.contains("rec1"));
    assert!(!left(place.path()).is_empty(), "nothing is given up");
}

#[tokio::test]
async fn a_file_that_the_disk_has_damaged_is_not_delivered_as_good() {
    let place = tempfile::tempdir().expect("a directory");
    let store = Troubled::new();
    store.go_away(true);
    let spool = open_with(place.path(), &store);
    let name = record(&spool, "rec1", b"sound", b"");
    let (task, hears, _shutdown) = deliver(spool.clone());
    until("it is hashed", || store.refused() > 0).await;
    fs::write(place.path().join("spool").join(name.stem().file("ogg")), b"siund").expect("written");
    store.go_away(false);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(hears.try_recv().is_err() && store.names().await.is_empty());
    task.abort();
}

#[tokio::test]
async fn a_node_that_goes_away_delivers_what_it_can_and_does_not_wait_long() {
    let place = tempfile::tempdir().expect("a directory");
    let spool = open(place.path());
    let (task, _hears, shutdown) = deliver(spool.clone());
    record(&spool, "rec1", b"sound", b"");
    shutdown.cancel();
    task.await.expect("ended");
    assert!(left(place.path()).is_empty(), "a directory takes no time");

    let store = Troubled::new();
    store.hang_after(0);
    let spool = open_with(place.path(), &store);
    let (task, _hears, shutdown) = deliver(spool.clone());
    record(&spool, "rec2", b"sound", b"");
    until("it hangs", || store.hangs()).await;
    let begun = Instant::now();
    shutdown.cancel();
    task.await.expect("ended");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!left(place.path()).is_empty());
}

/// A spool for a store that speaks S3's protocol.
#[cfg(feature = "object-stores")]
fn open_for(place: &FilePath, store: &servers::S3) -> Spool {
    let endpoint = store.endpoint();
    let options = [
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
        ("region", "us-east-1"),
        ("access_key_id", "test"),
        ("secret_access_key", "test"),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), telemetry::settings::Secret::new(value))).into();
    let url = Some(format!("s3://{}/a/b", store.bucket()));
    Spool::open(&RecordingConfig { url, store: options, ..config(place) }, &node()).expect("opened")
}

#[cfg(feature = "object-stores")]
#[tokio::test]
async fn recordings_go_to_s3_in_parts_once_it_is_there_and_never_over_others() {
    let place = tempfile::tempdir().expect("a directory");
    let mut store = servers::S3::not_started();
    let spool = open_for(place.path(), &store);
    let (_task, hears, _shutdown) = deliver(spool.clone());
    let large = noise(9 << 20);
    record(&spool, "rec1", b"sound", &large);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(left(place.path()).len(), 5, "{:?}", left(place.path()));
    store.start_empty().await;
    until("it is delivered", || left(place.path()).is_empty()).await;
    hears.try_recv().expect("told");
    let names = ["json", "ogg", "webm"].map(|extension| format!("a/b/weekly/{STEM}.{extension}"));
    assert_eq!(store.keys().await, names);
    assert!(store.object(&names[2]).await.expect("there") == large);
    // Again, as after a crash: it is found there.
    record(&spool, "rec1", b"sound", &large);
    until("it is delivered", || left(place.path()).is_empty()).await;
    assert_eq!(format!("a/b/{}", hears.try_recv().expect("told").path), names[0]);
    assert_eq!(store.keys().await, names);
    // Another content under the same names.
    record(&spool, "rec1", b"noise", &noise(10 << 20));
    until("it is delivered", || left(place.path()).is_empty()).await;
    let path = hears.try_recv().expect("told").path;
    assert!(path.starts_with(&format!("weekly/{STEM}-")), "{path}");
    assert_eq!(store.keys().await.len(), 6);
    assert_eq!(store.object(&names[1]).await.expect("there"), b"sound");
}

/// The schema of manifests, ready to be held against one.
fn schema() -> (Schemas, SchemaIndex) {
    const AT: &str = "https://sluice.invalid/recording.schema.json";
    let schema = serde_json::from_str(include_str!("../../../../docs/recording.schema.json")).expect("JSON");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource(AT, schema).expect("a resource");
    let index = compiler.compile(AT, &mut schemas).expect("a schema");
    (schemas, index)
}

#[test]
fn manifests_are_what_their_schema_says_whatever_the_reason() {
    use Reason::{DiskFull, Failed, Interrupted, Limit, NodeEnding, PublicationEnded, Stopped};

    let (schemas, index) = schema();
    let new = new_recording("rec1");
    let start = Start {
        recording: new.recording,
        room: new.room,
        uid: new.uid,
        mid: new.mid,
        node: node(),
        started_ms: STARTED_MS,
        files: vec![FileKind::Ogg, FileKind::Webm],
    };
    for reason in [Stopped, PublicationEnded, DiskFull, Failed, NodeEnding, Limit, Interrupted] {
        let files = vec![(FileKind::Ogg, 5), (FileKind::Webm, 9)];
        let end = End::of(&summary(), reason, Some("why".to_owned()), files);
        let manifest = Manifest::new(&start, end, vec![hex(&Sha256::digest(b"a")), hex(&Sha256::digest(b"b"))]);
        let manifest: Value = serde_json::from_str(&manifest.to_json()).expect("JSON");
        schemas.validate(&manifest, index).unwrap_or_else(|error| panic!("{error:#}"));
        let mut more = manifest.clone();
        more["tracks"][0]["more"] = 1.into();
        assert!(schemas.validate(&more, index).is_err(), "the schema knows every key there is");
    }
}
