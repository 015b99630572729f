//! Floods of invented sources leave a node's memory where it was. Alone in its program: it reads the process' memory.

mod running;

use loadtests::peer::Section;
use running::{RunningNode, relay};
use std::{fs, net::UdpSocket, time::Duration};

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
    assert_eq!(relay(&mut publisher, &mut subscriber, 0..20).await.len(), 20);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let mut memory = Vec::new();
    for round in 0..3 {
        for source in 0..100_000_u32 {
            let packet = invented(round * 100_000 + source);
            if source % 2 == 0 {
                publisher.send_raw(&packet).await.expect("sends");
            } else {
                stranger.send_to(&packet, node.media[0]).expect("sends");
            }
            if source % 500 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let arrived = relay(&mut publisher, &mut subscriber, 20..120).await;
        assert_eq!(arrived, (20..120).collect::<Vec<_>>(), "the call goes on");
        memory.push(resident());
    }
    node.counted("dropped_unknown_address", 10_000).await;
    // The first round touches buffers for the first time; from then on nothing grows.
    let growth = memory[2] - memory[0];
    assert!(growth < 1_024, "{growth} KiB more after 200,000 further sources: {memory:?}");
}
