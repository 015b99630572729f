//! A real node with three times as much to forward as its one shard can: what happens to those who are in. How much that is depends on
//! the machine and the build, so it is found out first; nothing here says how fast anything is.

mod running;

use std::{
    fs,
    net::UdpSocket as StdSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use loadtests::{
    fanout::payload::{InFrame, Stamp, VIDEO_BYTES, read, write_video},
    live::{LiveError, LivePeer},
    peer::{PeerEvent, Section, TestPeer},
};
use running::{RunningNode, numbered};
use sfu_node::OverloadConfig;
use tokio::{net::UdpSocket, runtime::Builder, task::JoinSet};

const VIEWERS: usize = 250;
const LISTENERS: usize = 4;
/// Between two packets of audio.
const SPOKEN: Duration = Duration::from_millis(20);
/// Between two bursts of video.
const BURST: Duration = Duration::from_millis(5);
/// Packets of video a second that the node carries easily: before and after.
const EASY: u64 = 100;
/// The most that a track may have.
const MOST: u64 = 9_000;
/// How long each rate is tried.
const STEP: Duration = Duration::from_millis(750);
/// Between two looks at what viewers were sent.
const GLANCE: Duration = Duration::from_millis(250);
/// How long there is too much.
const OVERLOAD: Duration = Duration::from_secs(4);
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

/// Has a peer do this by a thread of its own: what others have to decrypt is not to keep it from hearing, or speaking.
fn apart<R: Send + 'static, F: Future<Output = R>>(
    peer: LivePeer,
    does: impl FnOnce(LivePeer) -> F + Send + 'static,
) -> JoinHandle<R> {
    let (peer, socket) = peer.into_parts();
    let socket = socket.into_std().expect("a socket");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let socket = UdpSocket::from_std(socket).expect("a socket");
            does(LivePeer::on(peer, socket)).await
        })
    })
}

/// Has everybody's sockets read until it is over, and of what came each time decrypts the last packet: who reads nothing while 2^15 packets
/// come cannot decrypt what comes after them (RFC 3711, section 3.3.1), and who decrypts them all leaves nothing of the machine.
fn glance(viewers: Vec<LivePeer>, over: Arc<AtomicBool>) -> JoinHandle<Vec<(TestPeer, StdSocket)>> {
    let parts = viewers.into_iter().map(LivePeer::into_parts);
    let mut viewers: Vec<_> = parts.map(|(peer, socket)| (peer, socket.into_std().expect("a socket"))).collect();
    thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while !over.load(Relaxed) {
            for (peer, socket) in &mut viewers {
                let mut last = None;
                while let Ok(len) = socket.recv(&mut buffer) {
                    last = Some(len);
                }
                if let Some(len) = last {
                    peer.handle_datagram(Instant::now(), &buffer[..len]).expect("the viewer lives");
                }
            }
            thread::sleep(GLANCE);
        }
        viewers
    })
}

/// Waits for a packet of video with this number or a later one. Gives when it came.
async fn sees(mut viewer: LivePeer, number: u64, within: Duration) -> Result<Instant, LiveError> {
    let shown = |event| match event {
        PeerEvent::Media(media) => read(&media.payload).filter(|stamp| stamp.number >= number).map(|_| Instant::now()),
        _ => None,
    };
    viewer.wait_for(within, shown).await
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
    let node = RunningNode::start_with(1, OverloadConfig::default());
    let speaker = node.publisher("ann", &[Section::SEND_AUDIO]).await;
    let shower = node.publisher("vic", &[Section::SEND_VIDEO]).await;
    let told = Arc::new(Show::default());
    let mut listeners = Vec::new();
    for number in 0..LISTENERS {
        let listener = node.subscriber(&format!("listener-{number}"), "ann", &[Section::RECEIVE_AUDIO]).await;
        let told = told.clone();
        listeners.push(apart(listener, |peer| listen(peer, told)));
    }
    let mut viewers = Vec::new();
    for number in 0..VIEWERS {
        viewers.push(node.subscriber(&format!("viewer-{number}"), "vic", &[Section::RECEIVE_VIDEO]).await);
    }
    let glancing = Arc::new(AtomicBool::new(false));
    let viewers = glance(viewers, glancing.clone());
    let speaking = apart(speaker, {
        let told = told.clone();
        |peer| speak(peer, told)
    });
    told.per_second.store(EASY, Relaxed);
    let showing = apart(shower, {
        let told = told.clone();
        |peer| show(peer, told)
    });

    // More and more, until it is too much.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = (left_out(&node), resident_bytes());
    let mut all = EASY;
    while left_out(&node) == before.0 {
        all *= 2;
        assert!(all <= MOST / 2, "this machine carries more than a track may have");
        told.per_second.store(all, Relaxed);
        tokio::time::sleep(STEP).await;
    }

    // The last rate but one was not.
    told.per_second.store((3 * all).min(MOST), Relaxed);
    tokio::time::sleep(OVERLOAD).await;
    told.per_second.store(EASY, Relaxed);
    let (ended, shown) = (Instant::now(), told.sent.load(Relaxed));

    let mut seeing = JoinSet::new();
    glancing.store(true, Relaxed);
    for (peer, socket) in viewers.join().expect("glanced to the end") {
        let viewer = LivePeer::on(peer, UdpSocket::from_std(socket).expect("a socket"));
        seeing.spawn(sees(viewer, shown, 2 * NORMAL_AGAIN));
    }
    let seen = seeing.join_all().await;
    told.over.store(true, Relaxed);
    showing.join().expect("showed to the end");
    let (spoken, heard) = (
        speaking.join().expect("spoke to the end"),
        listeners.into_iter().map(|listener| listener.join().expect("listened to the end")),
    );

    let load = format!(
        "{all} packets a second were too much, and three times that was to be done at most; {shown} were shown"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (arrived, gap) in heard {
        assert!(gap < Duration::from_millis(500), "no audio for {gap:?}: {load}");
        // The last packet may be under way.
        assert!(100 * (spoken - 1).saturating_sub(arrived) <= spoken, "{arrived} of {spoken} heard: {load}");
    }
    let again = seen.into_iter().map(|at| {
        let at = at.unwrap_or_else(|error| panic!("a viewer sees no video again: {error}; {load}"));
        at.saturating_duration_since(ended)
    });
    let mut again: Vec<Duration> = again.collect();
    again.sort();
    let last = again[VIEWERS - 1];
    assert!(last < NORMAL_AGAIN, "video again after {last:?}, half of it after {:?}: {load}", again[VIEWERS / 2]);
    node.carries_everything(NORMAL_AGAIN).await;
    let grown = resident_bytes().saturating_sub(before.1);
    assert!(grown < 64 << 20, "{grown} bytes more: {load}");
}
