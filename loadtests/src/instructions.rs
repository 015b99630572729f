//! `loadtests instructions`: the core's fan-out alone, without sockets or a kernel, the same each time: for callgrind, told to count
//! only what happens in [`Simulation::replay`].
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*Simulation*replay*' --callgrind-out-file=/dev/null \
//!     target/release/loadtests instructions --subscribers 50 --bursts 100
//! ```
//!
//! The instructions collected, divided by the packets forwarded, are what one costs.

use crate::{
    network::Quality,
    peer::Section,
    simulation::{Binding, Simulation},
};
use anyhow::ensure;
use std::time::Duration;

/// One burst of video in so many milliseconds.
const VIDEO_INTERVAL: Duration = Duration::from_millis(33);
/// Packets per burst: 1,000 a second.
const VIDEO_BURST: u32 = 33;
/// Audio packets come one by one.
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);

/// How much to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Subscribers of the one publisher.
    #[arg(long, default_value_t = 50)]
    subscribers: usize,
    /// Bursts of 33 packets; with `--audio` packets.
    #[arg(long, default_value_t = 100)]
    bursts: u32,
    /// Audio instead of video: a packet every 20 ms.
    #[arg(long)]
    audio: bool,
}

/// Connects everybody, then fans out.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut simulation = Simulation::new(1, 1)?;
    let (send, receive, burst, interval) = if options.audio {
        (Section::SEND_AUDIO, Section::RECEIVE_AUDIO, 1, AUDIO_INTERVAL)
    } else {
        (Section::SEND_VIDEO, Section::RECEIVE_VIDEO, VIDEO_BURST, VIDEO_INTERVAL)
    };
    let publisher = simulation.open(0, Quality::PERFECT, &[send], &[Binding::Publish(vec![0])])?;
    for _ in 0..options.subscribers {
        let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
        simulation.open(0, Quality::PERFECT, &[receive], &[binding])?;
    }
    ensure!(simulation.connect_all(Duration::from_secs(30)), "not everybody connected");
    let bursts = if options.audio {
        simulation.sealed_audio(publisher.client, options.bursts)
    } else {
        simulation.sealed_bursts(publisher.client, options.bursts, burst)
    };
    let forwarded = simulation.replay(0, publisher.client, &bursts, interval);
    let expected = u64::from(options.bursts) * u64::from(burst) * options.subscribers as u64;
    ensure!(forwarded == expected, "{forwarded} packets of {expected} were forwarded");
    eprintln!("{forwarded} packets forwarded to {} subscribers", options.subscribers);
    Ok(())
}
