//! A microphone that counts: publishes once, sends what it is given, a packet every 20 ms, and knows how many that were. It does not
//! come back by itself, as a [`super::Publisher`] does: what is recorded of it can be told to the packet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadtests::peer::{PeerEvent, Section};
use serde_json::{Value, json};

use super::REQUEST_WITHIN;
use super::negotiation::{Accepted, connect, negotiate};
use crate::client::{Client, Refusal};

/// Between two packets.
pub const FRAME: Duration = Duration::from_millis(20);
/// The same in samples.
const FRAME_SAMPLES: u32 = 960;
/// Twenty milliseconds of stereo (RFC 6716, section 3.1: CELT, fullband, one frame) that decode to silence.
pub const SILENCE: [u8; 3] = [0xFC, 0xFF, 0xFE];

/// A speaker with a stream that is up. Nothing is sent but by [`Self::say`].
pub struct Speaker {
    client: Arc<Client>,
    accepted: Accepted,
    /// The timestamp of the next packet.
    timestamp: u32,
    sent: u64,
}

impl Speaker {
    /// Publishes, with this in `minfo` besides, and returns when its connection is up.
    pub async fn publish(client: &Arc<Client>, more: &Value) -> anyhow::Result<Self> {
        let mut minfo = json!({"audio": true, "video": false});
        for (key, value) in more.as_object().into_iter().flatten() {
            minfo[key] = value.clone();
        }
        let asked = negotiate(client, "publish", Section::SEND_AUDIO, json!({"minfo": minfo})).await;
        let mut accepted = asked.with_context(|| format!("{} publishes", client.uid))?;
        connect(&mut accepted).await.with_context(|| format!("{} connects", client.uid))?;
        // Near its end, so that it wraps while a test looks.
        Ok(Self { client: Arc::clone(client), accepted, timestamp: u32::MAX - 48_000, sent: 0 })
    }

    /// Its stream.
    pub fn mid(&self) -> &str {
        &self.accepted.id
    }

    /// The node that carries it.
    pub fn node(&self) -> &str {
        &self.accepted.node
    }

    /// Packets sent so far, those without a payload included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Has its stream recorded, or no longer. The answer names the recording.
    pub async fn record(&self, on: bool) -> Result<String, Refusal> {
        Ok(self.client.record(self.mid(), on, REQUEST_WITHIN).await?.unwrap_or_default())
    }

    /// Sends these, one every 20 ms. An error if the server ends the connection meanwhile.
    pub async fn say(&mut self, payloads: impl IntoIterator<Item = Vec<u8>>) -> anyhow::Result<()> {
        let mut next = Instant::now();
        for payload in payloads {
            self.accepted.peer.peer.send(0, self.timestamp, false, &payload).context("it is connected")?;
            self.timestamp = self.timestamp.wrapping_add(FRAME_SAMPLES);
            self.sent += 1;
            next += FRAME;
            self.live_until(next).await?;
        }
        Ok(())
    }

    /// Sends so many packets of silence.
    pub async fn say_nothing(&mut self, packets: usize) -> anyhow::Result<()> {
        self.say(std::iter::repeat_n(SILENCE.to_vec(), packets)).await
    }

    /// Goes on as another source: another SSRC, other numbers, another clock.
    pub fn change_source(&mut self) {
        self.accepted.peer.peer.change_source(0);
        self.timestamp = rand::random();
    }

    /// Sends nothing for this long. Its time goes on.
    pub async fn pause(&mut self, time: Duration) -> anyhow::Result<()> {
        let frames = time.as_millis().div_ceil(FRAME.as_millis());
        self.timestamp = self.timestamp.wrapping_add(FRAME_SAMPLES.wrapping_mul(frames as u32));
        self.live_until(Instant::now() + time).await
    }

    /// Answers checks and reports meanwhile.
    async fn live_until(&mut self, until: Instant) -> anyhow::Result<()> {
        let events = self.accepted.peer.run_until(until).await?;
        anyhow::ensure!(!events.contains(&PeerEvent::Closed), "the server ended the connection of {}", self.client.uid);
        Ok(())
    }
}
