//! A scenario as it stands in a file (YAML): who is there when, what is done to the services meanwhile, and what must hold. Unknown
//! keys are errors that name their line. What it comes to from second to second is `schedule`'s.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Deserializer, de::Error};

use crate::fanout::publisher::Stream;

/// Members of a room at most, and streams in it: an edge tells what a client has in one answer up to there.
const MOST_IN_ROOM: usize = 500;
const MOST_STREAMS: usize = 100;

/// A length of time: `250ms`, `10s`, `5m` or `1h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        length(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("“{text}” is no length such as 250ms, 10s or 5m")))
    }
}

fn length(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let milliseconds = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// All of a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, in a sentence.
    pub about: String,
    /// What is started.
    #[serde(default)]
    pub deployment: Layout,
    /// How long it takes, beside starting and ending.
    pub length: Length,
    /// Of every choice that chance makes.
    #[serde(default)]
    pub seed: u64,
    /// All rooms that there will ever be are there for so long, and left, before anything is measured: pools fill, and stay so. What
    /// processes have then is what they had before anybody came.
    pub warm_up: Option<Length>,
    /// Kinds of rooms.
    pub rooms: Vec<Kind>,
    /// How many rooms there are.
    pub ramps: Vec<Ramp>,
    /// Who comes and goes beside that.
    #[serde(default)]
    pub churn: Churn,
    /// Between two broadcasts of a member, on average; none if absent.
    pub broadcast_every: Option<Length>,
    /// What is done to the services.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold.
    #[serde(default)]
    pub limits: Limits,
}

/// What is started, beside one Redis and one etcd.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layout {
    /// Edges: `edge-1` and so on.
    pub edges: usize,
    /// SFU nodes: `node-1` and so on.
    pub nodes: usize,
    /// Shards of each node.
    pub shards: usize,
    /// Edges and nodes refuse and shed by the marks that they have by themselves; else nothing is too much for them.
    pub overload: bool,
    /// Those of nodes in place of their own: such as are met before the generator on the same machine is too late.
    pub marks: Option<Marks>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { edges: 2, nodes: 1, shards: 1, overload: false, marks: None }
    }
}

/// What is too much for a node: its `overload` of the same names.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Share of a shard's time from which publications are refused.
    pub refuse: f64,
    /// And from which video is left away.
    pub shed: f64,
    /// Time that packets spend on the node.
    pub delay: Length,
}

/// A room's form; it sets who publishes where the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Two who see and hear each other.
    Pair,
    /// All hear and see all.
    Meeting,
    /// One speaks and is seen, the others watch.
    Talk,
    /// Some speak, all listen.
    Audio,
    /// No media.
    Chat,
}

/// A kind of room.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Its form.
    pub shape: Shape,
    /// Members.
    pub members: usize,
    /// How many of them publish audio.
    pub audio: Option<usize>,
    /// How many publish video.
    pub video: Option<usize>,
    /// Packets per second of a video.
    #[serde(default = "video_rate")]
    pub video_rate: u32,
    /// Of all rooms, how many parts are of this kind.
    #[serde(default = "one")]
    pub share: f64,
    /// Its members come one after the other in so long.
    #[serde(default)]
    pub fill: Length,
}

fn video_rate() -> u32 {
    100
}

fn one() -> f64 {
    1.0
}

impl Kind {
    fn publishers(&self) -> (usize, usize) {
        let (audio, video) = match self.shape {
            Shape::Pair | Shape::Meeting => (self.members, self.members),
            Shape::Talk => (1, 1),
            Shape::Audio => (self.members.min(3), 0),
            Shape::Chat => (0, 0),
        };
        (self.audio.unwrap_or(audio), self.video.unwrap_or(video))
    }

    /// What whoever has this seat publishes.
    pub fn streams(&self, seat: usize) -> Vec<Stream> {
        let (audio, video) = self.publishers();
        let video = (seat < video).then_some(Stream::Video { packet_rate: self.video_rate });
        (seat < audio).then_some(Stream::Audio).into_iter().chain(video).collect()
    }

    /// How long after its room whoever has this seat comes first.
    pub fn comes_after(&self, seat: usize) -> Duration {
        self.fill.0.mul_f64(seat as f64 / self.members as f64)
    }

    fn check(&self) -> anyhow::Result<()> {
        let (audio, video) = self.publishers();
        ensure!((1..=MOST_IN_ROOM).contains(&self.members), "a room has 1 to {MOST_IN_ROOM} members");
        ensure!(self.shape != Shape::Pair || self.members == 2, "a pair has 2 members");
        ensure!(audio.max(video) <= self.members, "more publish than there are members");
        ensure!(audio + video <= MOST_STREAMS, "a room has at most {MOST_STREAMS} streams");
        ensure!(self.shape != Shape::Chat || audio + video == 0, "a chat has no media");
        ensure!((30..=5_000).contains(&self.video_rate), "video_rate is 30 to 5000 packets a second");
        ensure!(self.share.is_finite() && self.share > 0.0, "share is above 0");
        Ok(())
    }
}

/// The number of rooms goes to this one, evenly.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// From when.
    pub at: Length,
    /// To how many.
    pub rooms: usize,
    /// In how long.
    #[serde(default)]
    pub over: Length,
}

/// Who comes and goes, on average.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// Members that leave per second; a new one takes the place of each.
    pub leave_per_second: f64,
    /// Connections that are cut per second; their members come back and resume.
    pub cut_per_second: f64,
}

/// Something is done to a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub at: Length,
    /// What.
    #[serde(rename = "do")]
    pub deed: Deed,
    /// To whom: `edge-1`, `node-2`, `redis`, `etcd`.
    pub what: String,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// It ends at once.
    Kill,
    /// It is told to end, and drains.
    Drain,
    /// It is started again, after it has ended.
    Restart,
    /// It hangs.
    Pause,
    /// It goes on.
    Resume,
}

/// What must hold; what is absent is only reported.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Ninety-nine of a hundred joins take no longer.
    pub join_p99: Option<Length>,
    /// From a broadcast's request to each other member, ninety-nine of a hundred.
    pub broadcast_p99: Option<Length>,
    /// From a packet's sending to its arrival, ninety-nine of a hundred.
    pub delay_p99: Option<Length>,
    /// No flow is silent for longer.
    pub media_gap: Option<Length>,
    /// Of all packets, the share that never came.
    pub loss: Option<f64>,
    /// No flow of audio is silent for longer.
    pub audio_gap: Option<Length>,
    /// Of all packets of audio, the share that never came.
    pub audio_loss: Option<f64>,
    /// So many requests were refused for the time being, or more: it was too much.
    pub refused: Option<u64>,
    /// So long after the last ramp nothing is refused any more, and nobody is silent for a second.
    pub normal_after: Option<Length>,
    /// Requests that came to nothing.
    pub failed: Option<u64>,
    /// By which share a service's memory grows after `settle`.
    pub memory_growth: Option<f64>,
    /// Descriptors that a service has more when all have left than before anybody came.
    pub descriptors: Option<u64>,
    /// Members that the store has when all have left.
    pub ghosts: Option<u64>,
    /// How long memory may take until it is expected not to grow.
    pub settle: Length,
}

impl Scenario {
    /// Reads one.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = serde_saphyr::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The same, of another length.
    #[must_use]
    pub fn lasting(mut self, length: Duration) -> Self {
        self.length = Length(length);
        self
    }

    /// What it is warmed up by: all its rooms at once, and its churn.
    #[must_use]
    pub fn warming_up(&self, length: Length) -> Self {
        let most = self.ramps.iter().map(|ramp| ramp.rooms).max().unwrap_or_default();
        let ramps = vec![Ramp { at: Length::default(), rooms: most, over: Length::default() }];
        Self { length, ramps, faults: Vec::new(), limits: Limits::default(), ..self.clone() }
    }

    /// When the number of rooms changes no more.
    pub fn last_ramp_ends(&self) -> Duration {
        self.ramps.last().map_or(Duration::ZERO, |ramp| ramp.at.0 + ramp.over.0)
    }

    fn check(&self) -> anyhow::Result<()> {
        let Layout { edges, nodes, shards, overload, marks } = self.deployment;
        ensure!(marks.is_none() || overload, "marks without overload: true");
        let counts = [("edges", edges), ("nodes", nodes), ("shards", shards)];
        for (what, count) in counts {
            ensure!((1..=20).contains(&count), "{what}: 1 to 20");
        }
        ensure!(self.length.0 >= Duration::from_secs(1), "it takes a second at least");
        ensure!(!self.rooms.is_empty() && !self.ramps.is_empty(), "there are rooms, and a ramp");
        for (number, kind) in self.rooms.iter().enumerate() {
            kind.check().with_context(|| format!("rooms, number {}", number + 1))?;
        }
        ensure!(self.ramps.is_sorted_by_key(|ramp| ramp.at), "ramps are in the order of time");
        ensure!(self.ramps.windows(2).all(|two| two[0].at.0 + two[0].over.0 <= two[1].at.0), "ramps do not overlap");
        let calm = self
            .limits
            .normal_after
            .map_or(Duration::ZERO, |after| self.last_ramp_ends() + after.0 + Duration::from_secs(2));
        ensure!(calm <= self.length.0, "normal_after needs two seconds more after the last ramp");
        let rates = [self.churn.leave_per_second, self.churn.cut_per_second];
        ensure!(rates.iter().all(|rate| (0.0..=10_000.0).contains(rate)), "churn: 0 to 10000 a second");
        let pause = self.broadcast_every.map_or(Duration::MAX, |every| every.0);
        ensure!(pause >= Duration::from_millis(10), "broadcast_every is 10 ms at least");
        let names = self.names();
        for fault in &self.faults {
            ensure!(fault.at <= self.length, "a fault after the end: {fault:?}");
            ensure!(names.contains(&fault.what), "{} is none of {names:?}", fault.what);
            let ours = fault.what != "redis" && fault.what != "etcd";
            ensure!(ours || matches!(fault.deed, Deed::Pause | Deed::Resume), "a store is only paused and resumed");
        }
        Ok(())
    }

    fn names(&self) -> BTreeSet<String> {
        let edges = (1..=self.deployment.edges).map(|number| format!("edge-{number}"));
        let nodes = (1..=self.deployment.nodes).map(|number| format!("node-{number}"));
        edges.chain(nodes).chain(["redis".to_owned(), "etcd".to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "about: small\nlength: 10s\nrooms: [{shape: pair, members: 2}]\nramps: [{at: 0s, rooms: 3}]\n";

    #[test]
    fn each_file_that_is_shipped_is_read() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut read = 0;
        for entry in std::fs::read_dir(directory).expect("the directory is there") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a file of text");
            Scenario::read(&text).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            read += 1;
        }
        assert!(read >= 5, "{read} files");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
        let error = Scenario::read(&format!("{SMALL}limits: {{media_gapp: 1s}}\n")).expect_err("a slip").to_string();
        assert!(error.contains("media_gapp") && error.contains("line 5"), "{error}");
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        Scenario::read(SMALL).expect("as it is");
        for (slip, why) in [
            ("faults: [{at: 1s, do: kill, what: node-2}]", "none of"),
            ("faults: [{at: 11s, do: kill, what: node-1}]", "after the end"),
            ("faults: [{at: 1s, do: kill, what: redis}]", "only paused"),
            ("churn: {leave_per_second: -1}", "churn"),
            ("broadcast_every: 1ms", "broadcast_every"),
            ("deployment: {nodes: 0}", "nodes"),
            ("deployment: {marks: {refuse: 0.1, shed: 0.2, delay: 20ms}}", "marks"),
            ("limits: {normal_after: 9s}", "normal_after"),
        ] {
            let error = Scenario::read(&format!("{SMALL}{slip}\n")).expect_err(slip).to_string();
            assert!(error.contains(why), "{slip}: {error}");
        }
    }

    #[test]
    fn a_shape_says_who_publishes_unless_the_file_does() {
        let kind = |text: &str| serde_saphyr::from_str::<Kind>(text).expect("a kind");
        let count = |kind: Kind| (0..kind.members).map(|seat| kind.streams(seat).len()).sum::<usize>();
        assert_eq!(count(kind("{shape: meeting, members: 4}")), 8);
        assert_eq!(count(kind("{shape: meeting, members: 4, video: 1}")), 5);
        assert_eq!(count(kind("{shape: talk, members: 50}")), 2);
        assert_eq!(count(kind("{shape: audio, members: 10}")), 3);
        assert_eq!(count(kind("{shape: chat, members: 10}")), 0);
    }

    #[test]
    fn a_room_fills_evenly() {
        let kind: Kind = serde_saphyr::from_str("{shape: talk, members: 4, fill: 20s}").expect("a kind");
        assert_eq!([0, 1, 3].map(|seat| kind.comes_after(seat).as_secs()), [0, 5, 15]);
    }

    #[test]
    fn it_is_warmed_up_by_all_its_rooms_and_by_no_fault() {
        let text =
            SMALL.replace("rooms: 3}]", "rooms: 3}, {at: 2s, rooms: 9, over: 1s}, {at: 5s, rooms: 1, over: 2s}]");
        let text =
            text + "churn: {leave_per_second: 2}\nfaults: [{at: 1s, do: kill, what: node-1}]\nlimits: {failed: 0}\n";
        let scenario = Scenario::read(&text).expect("a scenario");
        assert_eq!(scenario.last_ramp_ends(), Duration::from_secs(7));
        let warm = scenario.warming_up(Length(Duration::from_secs(4)));
        assert_eq!((warm.length.0.as_secs(), warm.ramps.len(), warm.ramps[0].rooms), (4, 1, 9));
        assert!(warm.faults.is_empty() && warm.limits.failed.is_none());
        assert!(warm.churn.leave_per_second > 1.0);
    }

    #[test]
    fn lengths_have_a_unit() {
        let read = ["250ms", "10s", "5m", "1h", "10", "s", "-1s", "1 s"].map(length);
        let known = [250, 10_000, 300_000, 3_600_000].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!((&read[..4], &read[4..]), (&known[..], &[None; 4][..]));
    }
}
