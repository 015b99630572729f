//! The settings of an SFU node. How they are read is `telemetry::settings`' business; docs/configuration.md lists them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use axum::http::Uri;
use axum::http::uri::Authority;
use proto::ids::{NodeId, RegionId};
use room_store::Capacity;
#[cfg(feature = "etcd")]
use room_store::etcd::EtcdConfig;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use telemetry::kafka::KafkaSettings;
use telemetry::settings::{Contradiction, Period, Settings};
use telemetry::{LogSettings, OtlpSettings};

use crate::node::Entry;
use crate::overload::Marks;
use crate::recording::RecordingConfig;
use crate::serve::Certificates;
use crate::shard::MAX_SHARDS;

/// Heaviest node: placement multiplies weights with loads.
const MAX_WEIGHT: u32 = 1_000_000;

/// Longest address that edges are told: what the directory keeps.
const MAX_ADVERTISED: usize = 256;

/// All settings of a node.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, unique in the deployment. `auto`: its machine's.
    pub id: NodeId,
    /// Where it stands.
    #[serde(default = "default_region")]
    pub region: RegionId,
    /// Its share of new rooms among nodes of its region that are as loaded.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// The service that edges call.
    #[serde(default)]
    pub grpc: GrpcConfig,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    #[serde(default = "default_admin_listen")]
    pub admin_listen: SocketAddr,
    /// Sockets and threads of the media path.
    #[serde(default)]
    pub media: MediaConfig,
    /// How much the node takes on.
    #[serde(default)]
    pub capacity: CapacityConfig,
    /// From when on it is too much.
    #[serde(default)]
    pub overload: OverloadConfig,
    /// Where edges find the node.
    #[cfg(feature = "etcd")]
    #[serde(default)]
    pub etcd: EtcdConfig,
    /// How it goes away.
    #[serde(default)]
    pub drain: DrainConfig,
    /// What becomes of recordings.
    #[serde(default)]
    pub recording: RecordingConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogSettings,
    /// Where logs and events go besides.
    #[serde(default)]
    pub kafka: KafkaSettings,
    /// Where traces go.
    #[serde(default)]
    pub otlp: OtlpSettings,
}

/// Keys below `grpc`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Address of the service.
    pub listen: SocketAddr,
    /// Where edges reach the service, as etcd tells them: `http://host:port`, or `https://` with `tls`. By default `listen`.
    pub advertise: Option<String>,
    /// Mutual TLS. Needed on any address but loopback, unless `insecure_no_tls` is set.
    pub tls: Option<GrpcTls>,
    /// Whoever reaches `listen` may control the node: for networks that nobody else is on.
    pub insecure_no_tls: bool,
}

/// Keys below `grpc.tls`; files in PEM.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcTls {
    /// The node's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who issues the certificates of edges: a client without one of its certificates is refused.
    pub ca: PathBuf,
}

/// Keys below `media`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaConfig {
    /// Addresses that media is received on and that clients are told.
    pub ip: Vec<MediaIp>,
    /// Addresses that clients are told instead, where the node stands behind one-to-one NAT.
    pub public_ip: Vec<IpAddr>,
    /// UDP port of the first shard; each further shard has the next one. 0: each takes a free one.
    pub first_port: u16,
    /// Threads that forward media; absent: one per CPU.
    pub shards: Option<u16>,
    /// Which CPU each of them runs on.
    pub affinity: Affinity,
}

/// Keys below `capacity`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// Transports at a time; further ones are refused.
    pub transports: u32,
    /// Egress that edges may plan with, bit/s.
    pub egress_bps: u64,
    /// Subscribed tracks that edges may plan with.
    pub tracks: u64,
}

/// Keys below `overload`: when what the node has keeps it too busy. A shard that works all the time has packets wait.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverloadConfig {
    /// Share of its time that the busiest shard works, and share of `capacity.egress_bps`, from which new publications are
    /// refused. Half way from here to `shed` nothing new is taken. Above 1, like `shed`: never.
    pub refuse: f64,
    /// Share of its time from which a shard leaves video away.
    pub shed: f64,
    /// How long packets may be on the node: likewise from here on.
    pub delay: Period,
    /// Share of the memory that the process may have, from which new publications are refused.
    pub memory: f64,
}

/// Keys below `drain`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// How long what is on the node may take to move away when it is told to end.
    pub timeout: Period,
}

/// An address for media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaIp {
    /// `auto`: the addresses of the default route, and loopback.
    Auto,
    /// This one.
    Address(IpAddr),
}

/// `auto` (shard 0 on the first CPU this process may use, and so on), `none` (the kernel places them), or a list of CPU
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affinity {
    /// One CPU each, as long as there are some.
    Auto,
    /// Left to the kernel.
    None,
    /// By number, from the start again when there are more shards.
    Cpus(Vec<usize>),
}

fn default_region() -> RegionId {
    RegionId::new("default").expect("invariant: a valid region")
}

fn default_weight() -> u32 {
    1
}

fn default_admin_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 9091).into()
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 7000).into(), advertise: None, tls: None, insecure_no_tls: false }
    }
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            ip: vec![MediaIp::Auto],
            public_ip: Vec::new(),
            first_port: 40_000,
            shards: None,
            affinity: Affinity::Auto,
        }
    }
}

impl Default for CapacityConfig {
    /// Ten thousand idle transports take 0.2 to 0.6 GB (docs/performance.md).
    fn default() -> Self {
        let Capacity { egress_bps, tracks } = Capacity::default();
        Self { transports: 10_000, egress_bps, tracks }
    }
}

impl Default for OverloadConfig {
    /// What is left above `refuse` is for what the node has: keyframes of all at once, and subscribers of streams that are here.
    fn default() -> Self {
        Self { refuse: 0.85, shed: 0.95, delay: Period::milliseconds(20), memory: 0.9 }
    }
}

impl Default for DrainConfig {
    /// Clients of the SDK move within two or three seconds; service managers kill after 90.
    fn default() -> Self {
        Self { timeout: Period::seconds(30) }
    }
}

impl NodeConfig {
    /// The default settings of the node called `id`.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            region: default_region(),
            weight: default_weight(),
            grpc: GrpcConfig::default(),
            admin_listen: default_admin_listen(),
            media: MediaConfig::default(),
            capacity: CapacityConfig::default(),
            overload: OverloadConfig::default(),
            #[cfg(feature = "etcd")]
            etcd: EtcdConfig::default(),
            drain: DrainConfig::default(),
            recording: RecordingConfig::default(),
            log: LogSettings::default(),
            kafka: KafkaSettings::default(),
            otlp: OtlpSettings::default(),
        }
    }
}

impl NodeConfig {
    /// From which load on something is refused.
    pub(crate) fn marks(&self) -> Marks {
        let OverloadConfig { refuse, shed, delay, memory } = self.overload;
        Marks {
            refuse: refuse as f32,
            shed: shed as f32,
            delay: delay.into(),
            memory: memory as f32,
            egress_bps: self.capacity.egress_bps,
        }
    }

    /// What the node directory is told of a node whose service is bound there.
    pub fn entry(&self, bound: SocketAddr) -> Entry {
        let scheme = if self.grpc.tls.is_some() { "https" } else { "http" };
        Entry {
            address: self.grpc.advertise.clone().unwrap_or_else(|| format!("{scheme}://{bound}")),
            weight: self.weight,
            capacity: Capacity { egress_bps: self.capacity.egress_bps, tracks: self.capacity.tracks },
        }
    }
}

impl OverloadConfig {
    /// What is wrong with these keys, which stand below `overload`.
    fn check(&self) -> Result<(), Contradiction> {
        let wrong = |key: &str, why| Err(Contradiction::new(format!("overload.{key}"), why));
        if !(self.refuse > 0.0 && self.refuse < 2.0) {
            return wrong("refuse", "must be above 0 and below 2; above 1 it is never reached");
        }
        if !(self.shed > self.refuse && self.shed <= 2.0) {
            return wrong("shed", "must be above overload.refuse, and 2 at most; above 1 it is never reached");
        }
        if self.delay == Period::default() {
            return wrong("delay", "must be at least 1ms");
        }
        if !(self.memory > 0.0 && self.memory <= 1.0) {
            return wrong("memory", "must be above 0, and 1 at most");
        }
        Ok(())
    }
}

impl GrpcConfig {
    /// What is wrong with these keys, which stand below `grpc`.
    fn check(&self) -> Result<(), Contradiction> {
        if self.tls.is_some() && self.insecure_no_tls {
            return Err(Contradiction::new("grpc.insecure_no_tls", "contradicts grpc.tls"));
        }
        if let Some(tls) = &self.tls {
            Certificates::read(tls)?;
        }
        if self.tls.is_none() && !self.insecure_no_tls && !self.listen.ip().is_loopback() {
            return Err(Contradiction::new(
                "grpc.listen",
                "is not a loopback address, and whoever reaches it may control the node: set grpc.tls, or \
                 grpc.insecure_no_tls if the network is private",
            ));
        }
        self.advertise.as_ref().map_or(Ok(()), |advertise| self.check_advertised(advertise))
    }

    fn check_advertised(&self, advertise: &str) -> Result<(), Contradiction> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri: Option<Uri> = advertise.parse().ok();
        let usable = uri.is_some_and(|uri| {
            let host = uri.authority().filter(|authority| !authority.as_str().contains('@')).map(Authority::host);
            let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']'));
            let everywhere = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
            host.is_some_and(|host| !host.is_empty() && !everywhere(host))
                && uri.scheme_str() == Some(scheme)
                && uri.port_u16().is_some_and(|port| port != 0)
                && uri.path() == "/"
                && uri.query().is_none()
        });
        if usable && advertise.len() <= MAX_ADVERTISED {
            return Ok(());
        }
        let why = if self.tls.is_some() { "with" } else { "without" };
        Err(Contradiction::new("grpc.advertise", format!("must be {scheme}://host:port {why} grpc.tls")))
    }
}

impl MediaConfig {
    /// Number of shards: as set, or one per CPU that this process may use.
    pub fn shard_count(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.shards.map_or_else(cpus, usize::from).clamp(1, MAX_SHARDS)
    }

    /// What is wrong with these keys, which stand below `media`.
    pub fn check(&self) -> Result<(), Contradiction> {
        if self.ip.is_empty() {
            return Err(Contradiction::new("media.ip", "needs at least one address, or auto"));
        }
        let unusable = |ip: &IpAddr| ip.is_unspecified() || ip.is_multicast();
        let given = self.ip.iter().filter_map(|ip| match ip {
            MediaIp::Auto => None,
            MediaIp::Address(ip) => Some(ip),
        });
        for (key, ip) in given.map(|ip| ("media.ip", ip)).chain(self.public_ip.iter().map(|ip| ("media.public_ip", ip)))
        {
            if unusable(ip) {
                return Err(Contradiction::new(key, format!("{ip} is not an address that clients can send to")));
            }
        }
        if self.shards.is_some_and(|shards| shards == 0 || usize::from(shards) > MAX_SHARDS) {
            return Err(Contradiction::new("media.shards", format!("must be 1 to {MAX_SHARDS}")));
        }
        if self.first_port != 0 && usize::from(self.first_port) + self.shard_count() - 1 > usize::from(u16::MAX) {
            return Err(Contradiction::new("media.first_port", "leaves no room for a port per shard"));
        }
        if matches!(&self.affinity, Affinity::Cpus(cpus) if cpus.is_empty()) {
            return Err(Contradiction::new("media.affinity", "is an empty list: say none or auto"));
        }
        Ok(())
    }
}

impl Settings for NodeConfig {
    fn operators_address(&self) -> Option<SocketAddr> {
        Some(self.admin_listen)
    }

    fn check(&self) -> Result<(), Contradiction> {
        self.media.check()?;
        self.log.check()?;
        self.kafka.check()?;
        self.otlp.check()?;
        self.recording.check()?;
        let CapacityConfig { transports, egress_bps, tracks } = self.capacity;
        let counts = [("transports", u64::from(transports)), ("egress_bps", egress_bps), ("tracks", tracks)];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Contradiction::new(format!("capacity.{key}"), "must be at least 1"));
        }
        if self.weight == 0 || self.weight > MAX_WEIGHT {
            return Err(Contradiction::new("weight", format!("must be 1 to {MAX_WEIGHT}")));
        }
        self.overload.check()?;
        self.grpc.check()?;
        self.check_etcd()
    }

    fn try_out(&self) -> Result<(), Contradiction> {
        self.recording.try_out()
    }
}

impl NodeConfig {
    #[cfg(feature = "etcd")]
    fn check_etcd(&self) -> Result<(), Contradiction> {
        self.etcd.check()?;
        if self.etcd.is_set() && self.grpc.advertise.is_none() && self.grpc.listen.ip().is_unspecified() {
            return Err(Contradiction::new(
                "grpc.advertise",
                "is needed with etcd, because grpc.listen is every address of this machine: say which one edges reach",
            ));
        }
        Ok(())
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with etcd")]
    fn check_etcd(&self) -> Result<(), Contradiction> {
        Ok(())
    }
}

impl Affinity {
    /// The CPU for a shard; `None`: any.
    pub(crate) fn cpu(&self, shard: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Auto => core_affinity::get_core_ids()?.get(shard).map(|core| core.id),
            Self::Cpus(cpus) => cpus.get(shard.checked_rem(cpus.len())?).copied(),
        }
    }
}

impl std::str::FromStr for MediaIp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Address).map_err(|_| format!("{text:?} is neither an IP address nor auto")),
        }
    }
}

impl fmt::Display for MediaIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl Serialize for MediaIp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Affinity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::None => serializer.serialize_str("none"),
            Self::Cpus(cpus) => cpus.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Affinity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> de::Visitor<'de> for Written {
            type Value = Affinity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, none or a list of CPU numbers")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Affinity, E> {
                let cpus = || text.split(',').map(|cpu| cpu.trim().parse().ok()).collect::<Option<Vec<usize>>>();
                match text.trim() {
                    "auto" => Ok(Affinity::Auto),
                    "none" => Ok(Affinity::None),
                    _ => cpus().map(Affinity::Cpus).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Affinity, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = items.next_element()? {
                    cpus.push(cpu);
                }
                Ok(Affinity::Cpus(cpus))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use telemetry::settings::{Sources, to_yaml};

    use super::*;
    use crate::recording::Fsync;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<NodeConfig, String> {
        let sources = Sources::text("node.yaml", text).with_environment(environment.iter().copied());
        sources.load().map_err(|error| error.to_string())
    }

    #[test]
    fn every_setting_can_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).expect("a certificate");
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
        write("c.pem", &made.cert.pem());
        write("k.pem", &made.signing_key.serialize_pem());
        let text = format!(
            "
id: sz_sfu_1
region: sz
admin_listen: 127.0.0.1:0
grpc:
  listen: 10.0.0.1:7000
  advertise: https://node.example:7001
  tls: {{cert: {0}/c.pem, key: {0}/k.pem, ca: {0}/c.pem}}
media:
  ip: [auto, 10.0.0.1, '2001:db8::1']
  public_ip: [192.0.2.1]
  first_port: 0
  shards: 3
  affinity: [2, 3]
capacity: {{transports: 10, egress_bps: 20, tracks: 30}}
overload: {{refuse: 0.5, shed: 0.75, delay: 7ms, memory: 0.25}}
weight: 7
drain: {{timeout: 5s}}
recording: {{url: 'file:///r', spool_dir: /s, fsync: page, max: 7, max_length: 1h, min_free: 0}}
log: {{format: json, level: debug}}
kafka: {{topic: logs, events_topic: events, linger: {{ms: 7}}}}
otlp: {{ratio: 0.5}}
",
            directory.path().display()
        );
        let config = load(&text, &[]).expect("valid");
        assert_eq!(config.media.ip[1..], ["10.0.0.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address")));
        assert_eq!((config.media.shard_count(), config.capacity.transports), (3, 10));
        assert_eq!([0, 1, 2].map(|shard| config.media.affinity.cpu(shard)), [Some(2), Some(3), Some(2)]);
        let capacity = Capacity { egress_bps: 20, tracks: 30 };
        let entry = Entry { address: "https://node.example:7001".to_owned(), weight: 7, capacity };
        assert_eq!(config.entry("10.0.0.1:7000".parse().expect("an address")), entry);
        assert_eq!(config.drain.timeout, Period::seconds(5));
        let marks = Marks { refuse: 0.5, shed: 0.75, delay: Duration::from_millis(7), memory: 0.25, egress_bps: 20 };
        assert_eq!(config.marks(), marks);
        let recording = RecordingConfig {
            url: Some("file:///r".to_owned()),
            spool_dir: Some("/s".into()),
            fsync: Fsync::Page,
            max: 7,
            max_length: Period::seconds(3_600),
            min_free: 0,
            ..RecordingConfig::default()
        };
        assert_eq!(config.recording, recording);
        assert_eq!(load(&to_yaml(&config), &[]).expect("what is shown can be read"), config);
    }

    #[test]
    fn only_the_id_has_no_default() {
        let config = load("id: a", &[]).expect("valid");
        assert_eq!(config, NodeConfig::new(NodeId::new("a").expect("valid")));
        assert!(load("", &[]).expect_err("no id").contains("id is missing"));
        assert!(load("id: a b", &[]).expect_err("no id").starts_with("node.yaml:1: id: "));
    }

    #[test]
    fn lists_and_affinity_can_come_from_the_environment() {
        let environment = [
            ("SLUICE_ID", "b"),
            ("SLUICE_MEDIA__IP", "auto,127.0.0.1"),
            ("SLUICE_MEDIA__AFFINITY", "1, 0"),
            ("SLUICE_MEDIA__SHARDS", "2"),
        ];
        let media = load("id: a", &environment).expect("valid").media;
        assert_eq!(media.ip, [MediaIp::Auto, MediaIp::Address(Ipv4Addr::LOCALHOST.into())]);
        assert_eq!((media.affinity, media.shards), (Affinity::Cpus(vec![1, 0]), Some(2)));
        assert_eq!(load("id: a", &[("SLUICE_MEDIA__AFFINITY", "none")]).expect("valid").media.affinity, Affinity::None);
        #[cfg(feature = "object-stores")]
        {
            let environment = [
                ("SLUICE_RECORDING__URL", "s3://bucket/path"),
                ("SLUICE_RECORDING__SPOOL_DIR", "/spool"),
                ("SLUICE_RECORDING__STORE__AWS_SECRET_ACCESS_KEY", "hush"),
            ];
            let config = load("id: a", &environment).expect("valid");
            assert_eq!(config.recording.store["aws_secret_access_key"].expose(), "hush");
            assert!(!to_yaml(&config).contains("hush"), "secrets are not shown");
        }
    }

    #[test]
    fn contradictions_name_their_key() {
        for (text, key) in [
            ("media: {ip: []}", "media.ip"),
            ("media: {ip: [0.0.0.0]}", "media.ip"),
            ("media: {public_ip: [224.0.0.1]}", "media.public_ip"),
            ("media: {shards: 0}", "media.shards"),
            ("media: {shards: 64}", "media.shards"),
            ("media: {first_port: 65535, shards: 2}", "media.first_port"),
            ("media: {affinity: []}", "media.affinity"),
            ("capacity: {transports: 0}", "capacity.transports"),
            ("capacity: {egress_bps: 0}", "capacity.egress_bps"),
            ("capacity: {tracks: 0}", "capacity.tracks"),
            ("overload: {refuse: 0}", "overload.refuse"),
            ("overload: {refuse: 85, shed: 95}", "overload.refuse"),
            ("overload: {shed: 0.85}", "overload.shed"),
            ("overload: {shed: 95}", "overload.shed"),
            ("overload: {delay: 0ms}", "overload.delay"),
            ("overload: {memory: 0}", "overload.memory"),
            ("overload: {memory: 1.5}", "overload.memory"),
            ("weight: 0", "weight"),
            ("weight: 1000001", "weight"),
            ("grpc: {advertise: 'https://a:1'}", "grpc.advertise"),
            ("grpc: {advertise: 'http://a'}", "grpc.advertise"),
            ("grpc: {advertise: 'http://a:0'}", "grpc.advertise"),
            ("grpc: {advertise: 'http://a:1/b'}", "grpc.advertise"),
            ("grpc: {advertise: 'http://b@a:1'}", "grpc.advertise"),
            ("grpc: {advertise: 'http://0.0.0.0:1'}", "grpc.advertise"),
            ("grpc: {advertise: 'http://[::]:1'}", "grpc.advertise"),
            ("drain: {timeout: soon}", "drain.timeout"),
            ("grpc: {listen: '0.0.0.0:7000'}", "grpc.listen"),
            ("grpc: {tls: {cert: /nowhere/c.pem, key: k, ca: c}}", "grpc.tls.cert: /nowhere/c.pem"),
            ("log: {level: a=b=c}", "log.level"),
            ("recording: {url: nowhere}", "recording.url"),
            ("recording: {fsync: often}", "recording.fsync"),
            ("recording: {store: {aws_region: a}}", "recording.store"),
        ] {
            let error = load(&format!("id: a\n{text}\n"), &[]).expect_err(text);
            assert!(error.starts_with(&format!("node.yaml:2: {key}: ")), "{text} gave {error}");
        }
        load("id: a\ngrpc: {listen: '0.0.0.0:7000', insecure_no_tls: true}", &[]).expect("said explicitly");
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn edges_are_told_an_address_they_can_reach() {
        let everywhere =
            "id: a\netcd: {endpoints: ['http://127.0.0.1:2379']}\ngrpc: {listen: '0.0.0.0:7000', insecure_no_tls: true";
        let error = load(&format!("{everywhere}}}\n"), &[]).expect_err("which one?");
        assert!(error.starts_with("node.yaml:3: grpc.advertise: "), "{error}");
        let config = load(&format!("{everywhere}, advertise: 'http://10.0.0.1:7000'}}\n"), &[]).expect("said");
        assert_eq!(config.entry(config.grpc.listen).address, "http://10.0.0.1:7000");
        let config = load("id: a\netcd: {endpoints: ['http://127.0.0.1:2379']}", &[]).expect("on loopback");
        assert_eq!(config.entry(([127, 0, 0, 1], 7).into()).address, "http://127.0.0.1:7");
        let error = load("id: a\netcd: {endpoints: [nowhere]}", &[]).expect_err("no endpoint");
        assert!(error.starts_with("node.yaml:2: etcd.endpoints.0: "), "{error}");
    }
}
