//! What a node says of its load, under media of real peers.

mod running;

use std::time::{Duration, Instant};

use loadtests::peer::Section;
use proto::sfu::Load;
use running::{PATIENCE, RunningNode, relay};

impl RunningNode {
    /// Waits until the node says a load that is so.
    async fn load_is(&self, what: &str, mut is_so: impl FnMut(&Load) -> bool) -> Load {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let load = self.load().await;
            if is_so(&load) {
                return load;
            }
            assert!(Instant::now() < deadline, "{what}: {load:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_follows_the_traffic_and_goes_with_it() {
    let node = RunningNode::start(2);
    let mut publisher = node.publisher("ann", &[Section::SEND_AUDIO]).await;
    let mut subscriber = node.subscriber("bob", "ann", &[Section::RECEIVE_AUDIO]).await;
    node.load_is("one track", |load| load.tracks == 1 && load.transports == 2 && load.packets_per_second == 0).await;

    // 200 packets a second; the machine may be slow, but not that much faster.
    let media = relay(&mut publisher, &mut subscriber, 0..600);
    let under_load = node.load_is("media", |load| load.packets_per_second >= 50 && load.delay_us > 0);
    let (arrived, load) = tokio::join!(media, under_load);
    assert!(arrived.len() > 500, "{} arrived", arrived.len());
    assert!(load.packets_per_second <= 400 && load.cpu > 0.0 && load.cpu <= 1.0, "{load:?}");
    assert!(load.busy > 0.0 && load.busy <= 1.0 && load.memory > 0.0 && load.pressure > 0.0, "{load:?}");
    // 48 bytes of payload, RTP's header and extensions, and a tag.
    let bytes = load.egress_bps as f64 / 8.0 / load.packets_per_second as f64;
    assert!((60.0..120.0).contains(&bytes), "{bytes} bytes a packet: {load:?}");

    node.load_is("silence", |load| load.packets_per_second == 0 && load.egress_bps == 0 && load.tracks == 1).await;
    node.load_is("nothing waits", |load| load.delay_us == 0).await;
    node.counted("packets_reported", 1).await;
    assert!(
        20 * node.counter("packets_reported_lost") <= node.counter("packets_reported"),
        "loopback loses next to nothing"
    );
    node.close("bob").await;
    node.load_is("nobody listens", |load| load.tracks == 0 && load.transports == 1).await;
}
