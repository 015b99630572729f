//! Floods of invented sources leave a node's memory where it was. Alone in its program: it counts what the whole process allocates.
#![expect(unsafe_code, reason = "counting what is allocated takes an allocator, and that trait is unsafe")]

mod running;

use loadtests::peer::Section;
use running::{RunningNode, relay};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

/// The system's allocator, counting the bytes in use.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as above; `pointer` came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Invented sources per round; three rounds.
const SOURCES: u32 = 40_000;
/// Of them, how many come before the flood waits until the node is through with them: no more than the smallest socket buffer holds.
const AT_ONCE: u32 = 100;

/// Resident memory in KiB.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// An RTP or RTCP packet of an invented source, with an invented tag.
fn invented(source: u32) -> [u8; 200] {
    let mut packet = [source as u8; 200];
    packet[..2].copy_from_slice(if source.is_multiple_of(4) { &[0x80, 201] } else { &[0x80, 111] });
    packet[2..4].copy_from_slice(&(source as u16).to_be_bytes());
    let at = if source.is_multiple_of(4) { 4 } else { 8 };
    packet[at..at + 4].copy_from_slice(&source.wrapping_mul(0x9E37_79B9).to_be_bytes());
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_invented_sources_leaves_memory_flat() {
    let node = RunningNode::start(1);
    let mut publisher = node.publisher("memory", &[Section::SEND_AUDIO]).await;
    let mut subscriber = node.subscriber("memory-sub", "memory", &[Section::RECEIVE_AUDIO]).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let (mut in_use, mut memory) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for source in round * SOURCES..(round + 1) * SOURCES {
            let packet = invented(source);
            if source.is_multiple_of(2) {
                publisher.send_raw(&packet).await.expect("sends");
            } else {
                stranger.send_to(&packet, node.media[0]).expect("sends");
            }
            if source % AT_ONCE == AT_ONCE - 1 {
                // The shard takes what comes in its order: once this one is through, it is done with those before it.
                let number = source / AT_ONCE;
                let arrived = relay(&mut publisher, &mut subscriber, number..number + 1).await;
                assert_eq!(arrived, [number], "the call goes on");
            }
        }
        in_use.push(IN_USE.load(Relaxed));
        memory.push(resident());
    }
    // Every one of them got as far as it could.
    for reason in ["dropped_unauthenticated", "dropped_unknown_address"] {
        node.counted(reason, u64::from(3 * SOURCES / 2)).await;
    }
    // The first round touches buffers for the first time; from then on nothing grows. The least that could be remembered of 80,000
    // sources are their names, 320,000 bytes; what the allocator makes of that is rougher.
    let growth = in_use[2] - in_use[0];
    assert!(growth < 160_000, "{growth} bytes more after {} further sources: {in_use:?}", 2 * SOURCES);
    let growth = memory[2] - memory[0];
    assert!(growth < 8_192, "{growth} KiB more in memory, of which the program knows nothing: {memory:?}");
}
