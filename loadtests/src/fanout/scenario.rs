//! Which calls are measured.

use super::publisher::Stream;
use crate::peer::Section;
use serde::Serialize;

/// A call: publishers, and subscribers who each get all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Scenario {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// People who send one stream each.
    pub publishers: usize,
    /// People who get every stream.
    pub subscribers: usize,
    /// Streams per subscriber's transport: 1 is what an edge does today (each subscription has a transport of its own), more
    /// is one transport that carries as many.
    pub streams_per_transport: usize,
    /// Video bursts or audio.
    pub video: bool,
}

impl Scenario {
    /// All that measure something.
    pub const ALL: [Self; 5] = [
        Self { name: "video-10", publishers: 1, subscribers: 10, streams_per_transport: 1, video: true },
        Self { name: "video-50", publishers: 1, subscribers: 50, streams_per_transport: 1, video: true },
        Self { name: "video-200", publishers: 1, subscribers: 200, streams_per_transport: 1, video: true },
        Self { name: "audio-room", publishers: 10, subscribers: 100, streams_per_transport: 1, video: false },
        Self { name: "audio-room-bundled", publishers: 10, subscribers: 100, streams_per_transport: 10, video: false },
    ];

    /// Too small to measure anything: it shows in seconds that measuring works.
    pub const SMALLEST: Self =
        Self { name: "video-2", publishers: 1, subscribers: 2, streams_per_transport: 1, video: true };

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::SMALLEST]).find(|scenario| scenario.name == name)
    }

    /// What each publisher sends so that all forwarded packets together are `total` a second; audio has a rate of its own.
    pub fn stream(self, total: u32) -> Stream {
        if self.video { Stream::Video { packet_rate: total / self.fan_out() as u32 } } else { Stream::Audio }
    }

    /// Forwarded packets per second, all together.
    pub fn forwarded_rate(self, total: u32) -> u32 {
        self.stream(total).packet_rate() * self.fan_out() as u32
    }

    /// Pairs of publisher and subscriber.
    fn fan_out(self) -> usize {
        self.publishers * self.subscribers
    }

    /// Transports of subscribers.
    pub fn subscriber_transports(self) -> usize {
        self.fan_out() / self.streams_per_transport
    }

    /// What a publisher's offer has.
    pub fn sent_section(self) -> Section {
        if self.video { Section::SEND_VIDEO } else { Section::SEND_AUDIO }
    }

    /// What a subscriber's offer has for each stream.
    pub fn received_section(self) -> Section {
        if self.video { Section::RECEIVE_VIDEO } else { Section::RECEIVE_AUDIO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_forwards_fifty_thousand_packets_a_second() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.forwarded_rate(50_000), 50_000, "{}", scenario.name);
            assert_eq!(Scenario::named(scenario.name), Some(scenario));
        }
    }
}
