//! A real node with three times as much to forward as its one shard can: what happens to those who are in. How much that is depends on
//! the machine and the build, so it is measured first; nothing here says how fast anything is.

mod running;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use loadtests::{
    fanout::payload::{InFrame, Stamp, VIDEO_BYTES, read, write_video},
    live::LivePeer,
    os::clock_ticks,
    peer::{PeerEvent, Section},
};
use running::{RunningNode, numbered};
use tokio::task::JoinSet;

const VIEWERS: usize = 100;
const LISTENERS: usize = 4;
/// Between two packets of audio.
const SPOKEN: Duration = Duration::from_millis(20);
/// Between two bursts of video.
const BURST: Duration = Duration::from_millis(5);
/// Packets of video a second that the node carries easily, to see what they cost, and before and after.
const EASY: u64 = 100;
/// The most that a track may have.
const MOST: u64 = 9_000;
/// How long there is too much.
const OVERLOAD: Duration = Duration::from_secs(5);
/// How soon everything is as before.
const NORMAL_AGAIN: Duration = Duration::from_secs(5);

/// What the one who shows is told, and tells.
#[derive(Default)]
struct Show {
    per_second: AtomicU64,
    /// Packets sent so far.
    sent: AtomicU64,
    over: AtomicBool,
}

/// Sends video, every packet a keyframe of its own, until it is over.
async fn show(mut publisher: LivePeer, show: Arc<Show>) {
    let (mut payload, mut owed, mut then) = ([0; VIDEO_BYTES], 0.0, Instant::now());
    while !show.over.load(Relaxed) {
        let now = Instant::now();
        owed += show.per_second.load(Relaxed) as f64 * (now - std::mem::replace(&mut then, now)).as_secs_f64();
        let timestamp = publisher.peer.rtp_timestamp(now, 0);
        // Who was held up does not make up for it at once.
        owed = owed.min(500.0);
        while owed >= 1.0 {
            owed -= 1.0;
            let number = show.sent.fetch_add(1, Relaxed);
            let frame = InFrame { picture: number as u16, first: true, keyframe: true };
            write_video(&mut payload, frame, Stamp { number, sent_ns: 0 });
            publisher.peer.send(0, timestamp, true, &payload).expect("connected");
        }
        publisher.run_until(now + BURST).await.expect("the publisher lives");
    }
}

/// Sends numbered audio until it is over. Gives how many packets.
async fn speak(mut publisher: LivePeer, over: Arc<Show>) -> u32 {
    let (mut number, mut next) = (0, Instant::now());
    while !over.over.load(Relaxed) {
        let timestamp = publisher.peer.rtp_timestamp(Instant::now(), 0);
        publisher.peer.send(0, timestamp, false, &numbered(number)).expect("connected");
        number += 1;
        next += SPOKEN;
        publisher.run_until(next).await.expect("the publisher lives");
    }
    number
}

/// Listens until it is over. Gives how many packets came, and the longest time without one.
async fn listen(mut subscriber: LivePeer, over: Arc<Show>) -> (u32, Duration) {
    let (mut heard, mut gap, mut last) = (0, Duration::ZERO, None::<Instant>);
    while !over.over.load(Relaxed) {
        let event = subscriber.event_until(Instant::now() + SPOKEN).await.expect("the listener lives");
        if let Some(PeerEvent::Media(_)) = event {
            let now = Instant::now();
            gap = gap.max(last.map_or(Duration::ZERO, |last| now - last));
            last = Some(now);
            heard += 1;
        }
    }
    (heard, gap.max(last.map_or(Duration::MAX, |last| last.elapsed())))
}

/// Waits for a packet of video with this number or a later one. Gives when it came.
async fn sees(mut viewer: LivePeer, number: u64, within: Duration) -> Option<Instant> {
    let shown = |event| match event {
        PeerEvent::Media(media) => read(&media.payload).filter(|stamp| stamp.number >= number).map(|_| Instant::now()),
        _ => None,
    };
    viewer.wait_for(within, shown).await.ok()
}

/// Processor time that the shard has used.
fn shard_cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").filter_map(Result::ok);
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let stat = stats.into_iter().find(|stat| stat.contains("(shard-0)")).expect("the shard runs");
    // Behind the name: the state is the first field, user and system time the 12th and 13th.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Duration::from_secs_f64(ticks / clock_ticks())
}

/// Resident memory of this process, which is the node's and everybody's.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("known");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

fn left_out(node: &RunningNode) -> u64 {
    ["shed_late", "shed_paused", "shed_unopened"].map(|how| node.counter(how)).iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_three_times_too_much_to_do_leaves_out_video_and_no_audio() {
    let node = RunningNode::start(1);
    let speaker = node.publisher("ann", &[Section::SEND_AUDIO]).await;
    let shower = node.publisher("vic", &[Section::SEND_VIDEO]).await;
    let told = Arc::new(Show::default());
    let mut listeners = JoinSet::new();
    for number in 0..LISTENERS {
        let listener = node.subscriber(&format!("listener-{number}"), "ann", &[Section::RECEIVE_AUDIO]).await;
        listeners.spawn(listen(listener, told.clone()));
    }
    let mut viewers = Vec::new();
    for number in 0..VIEWERS {
        viewers.push(node.subscriber(&format!("viewer-{number}"), "vic", &[Section::RECEIVE_VIDEO]).await);
    }
    let speaking = tokio::spawn(speak(speaker, told.clone()));
    told.per_second.store(EASY, Relaxed);
    let showing = tokio::spawn(show(shower, told.clone()));

    // What it costs when it is easy. From what is left out in that time, a machine is too slow for all this.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (begun, cpu) = (Instant::now(), shard_cpu());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let share = (shard_cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let all = (EASY as f64 / share) as u64;
    let before = (left_out(&node), resident_bytes());

    told.per_second.store((3 * all).min(MOST), Relaxed);
    tokio::time::sleep(OVERLOAD).await;
    told.per_second.store(EASY, Relaxed);
    let (ended, shown) = (Instant::now(), told.sent.load(Relaxed));

    // Their sockets were not read so far: what they see first is old.
    let mut seeing = JoinSet::new();
    for viewer in viewers {
        seeing.spawn(sees(viewer, shown, 2 * NORMAL_AGAIN));
    }
    let seen = seeing.join_all().await;
    told.over.store(true, Relaxed);
    showing.await.expect("showed to the end");
    let (spoken, heard) = (speaking.await.expect("spoke to the end"), listeners.join_all().await);

    let load = format!("{all} packets a second were all it could, at a share of {share}; {shown} were shown");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(left_out(&node) > before.0, "not too much after all: {load}");
    for (arrived, gap) in heard {
        assert!(gap < Duration::from_millis(500), "no audio for {gap:?}: {load}");
        // The last packet may be under way.
        assert!(100 * (spoken - 1).saturating_sub(arrived) <= spoken, "{arrived} of {spoken} heard: {load}");
    }
    for at in seen {
        let at = at.expect("every viewer sees video again");
        assert!(at < ended + NORMAL_AGAIN, "video again after {:?}: {load}", at - ended);
    }
    let grown = resident_bytes().saturating_sub(before.1);
    assert!(grown < 64 << 20, "{grown} bytes more: {load}");
}
