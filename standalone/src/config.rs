//! The settings of `sluice`: an edge's and a node's in one file, without those that only matter between machines.

mod recording;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use edge_signal::Network;
use edge_signal::settings::{
    AuthSettings, EdgeSettings, LimitSettings, OverloadSettings, RecordingSettings, RtcSettings, SessionSettings,
    TlsSettings,
};
use proto::ids::{EdgeId, NodeId, RegionId};
use serde::{Deserialize, Serialize};
use sfu_node::{Affinity, CapacityConfig, MediaConfig, MediaIp, NodeConfig, OverloadConfig};
use telemetry::LogSettings;
use telemetry::settings::{Contradiction, Period, Settings};

use self::recording::RecordingSection;

/// All settings of `sluice`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SluiceConfig {
    /// Name of this server, told to clients as `signalid` and `sfuid`.
    pub(crate) id: NodeId,
    /// Where it stands.
    pub(crate) region: RegionId,
    /// Where clients connect, and where the page is.
    pub(crate) listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are; absent: on `listen`.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Certificate and key for `listen`.
    pub(crate) tls: TlsSettings,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Who is let in.
    pub(crate) auth: AuthSettings,
    /// How long sessions live.
    pub(crate) session: SessionSettings,
    /// What is too much.
    pub(crate) limits: LimitSettings,
    /// What `/rtc-config` tells clients.
    pub(crate) rtc: RtcSettings,
    /// Sockets and threads of the media path.
    pub(crate) media: MediaConfig,
    /// How much media it takes on.
    pub(crate) capacity: CapacitySettings,
    /// From which load on nobody new is let in, and video is left out.
    pub(crate) overload: OverloadSection,
    /// What is recorded, and what becomes of it.
    pub(crate) recording: RecordingSection,
    /// Logs.
    pub(crate) log: LogSettings,
}

/// What `sluice token` and `sluice revoke` read of settings, an edge's as well as `sluice`'s: whom they let in. The other keys are not
/// theirs to judge; an edge on several machines has some that `sluice` does not know.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct AccessConfig {
    /// Who is let in, and what tokens are signed with.
    pub(crate) auth: AuthSettings,
}

/// Keys below `capacity`. The rest of a node's is for edges that choose among several.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CapacitySettings {
    /// Transports at a time; further ones are refused.
    pub(crate) transports: u32,
}

/// Keys below `overload`: the edge's and the node's, which have one memory.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OverloadSection {
    /// The edge's.
    pub(crate) cpu: f64,
    /// The edge's.
    pub(crate) lag: Period,
    /// The node's.
    pub(crate) refuse: f64,
    /// The node's.
    pub(crate) shed: f64,
    /// The node's.
    pub(crate) delay: Period,
    /// Both's.
    pub(crate) memory: f64,
}

/// Flags that set what the file and the environment may set, too; a flag wins.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    /// Address of the page and of signalling [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Address that media comes in on, or "auto": those of the default route, and loopback. Repeatable
    #[arg(long, value_name = "IP")]
    media_ip: Vec<MediaIp>,
    /// UDP port for media; each further shard takes the next one. 0: free ones [default: 40000]
    #[arg(long, value_name = "PORT")]
    media_port: Option<u16>,
    /// Threads that forward media [default: one per CPU]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Directory for recordings; without, nothing is recorded
    #[arg(long, value_name = "DIR", value_parser = directory)]
    recordings: Option<String>,
    /// Certificate chain for HTTPS, in PEM. Browsers on other machines give camera and microphone only to HTTPS
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Let everybody in, on other addresses than loopback, too
    #[arg(long)]
    insecure_no_auth: bool,
}

impl Default for CapacitySettings {
    fn default() -> Self {
        Self { transports: CapacityConfig::default().transports }
    }
}

impl Default for OverloadSection {
    fn default() -> Self {
        let (OverloadSettings { cpu, lag, memory }, node) = (OverloadSettings::default(), OverloadConfig::default());
        Self { cpu, lag, refuse: node.refuse, shed: node.shed, delay: node.delay, memory }
    }
}

impl Default for SluiceConfig {
    fn default() -> Self {
        let edge = EdgeSettings::default();
        Self {
            id: NodeId::new("sluice").expect("invariant: a valid id"),
            region: edge.region,
            listen: edge.listen,
            admin_listen: edge.admin_listen,
            tls: edge.tls,
            trusted_proxies: edge.trusted_proxies,
            auth: edge.auth,
            session: edge.session,
            limits: edge.limits,
            rtc: edge.rtc,
            // All in one shares its machine with whatever else runs there: the kernel places the threads.
            media: MediaConfig { affinity: Affinity::None, ..MediaConfig::default() },
            capacity: CapacitySettings::default(),
            overload: OverloadSection::default(),
            recording: RecordingSection::default(),
            log: edge.log,
        }
    }
}

impl SluiceConfig {
    /// Applies what the command line says.
    pub(crate) fn apply(&mut self, flags: Flags) {
        let Flags { listen, media_ip, media_port, shards, recordings, tls_cert, tls_key, insecure_no_auth } = flags;
        set(&mut self.listen, listen);
        set(&mut self.media.first_port, media_port);
        self.media.shards = shards.or(self.media.shards);
        self.recording.url = recordings.or(self.recording.url.take());
        self.tls.cert = tls_cert.or(self.tls.cert.take());
        self.tls.key = tls_key.or(self.tls.key.take());
        self.auth.insecure_no_auth |= insecure_no_auth;
        if !media_ip.is_empty() {
            self.media.ip = media_ip;
        }
    }

    /// The edge's part.
    pub(crate) fn edge(&self) -> EdgeSettings {
        let OverloadSection { cpu, lag, memory, .. } = self.overload;
        EdgeSettings {
            id: Some(EdgeId::new(&self.id).expect("invariant: edges and nodes are named by one rule")),
            region: self.region.clone(),
            listen: self.listen,
            admin_listen: self.admin_listen,
            tls: self.tls.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            auth: self.auth.clone(),
            session: self.session.clone(),
            limits: self.limits,
            overload: OverloadSettings { cpu, lag, memory },
            recording: RecordingSettings { rooms: self.recording.rooms.clone() },
            rtc: self.rtc.clone(),
            log: self.log.clone(),
            ..EdgeSettings::default()
        }
    }

    /// The node's part.
    pub(crate) fn node(&self) -> NodeConfig {
        let OverloadSection { refuse, shed, delay, memory, .. } = self.overload;
        NodeConfig {
            region: self.region.clone(),
            media: self.media.clone(),
            capacity: CapacityConfig { transports: self.capacity.transports, ..CapacityConfig::default() },
            overload: OverloadConfig { refuse, shed, delay, memory },
            recording: self.recording.node(),
            log: self.log.clone(),
            ..NodeConfig::new(self.id.clone())
        }
    }
}

impl Settings for SluiceConfig {
    fn operators_address(&self) -> Option<SocketAddr> {
        self.admin_listen.or_else(|| self.tls.cert.is_none().then_some(self.listen))
    }

    fn check(&self) -> Result<(), Contradiction> {
        if !self.listen.ip().is_loopback() && self.auth == AuthSettings::default() {
            return Err(Contradiction::new(
                "listen",
                format!(
                    "{} can be reached from other machines: set auth.hs256_secret so that clients need a token, or let \
                     everybody in with --insecure-no-auth",
                    self.listen
                ),
            ));
        }
        self.edge().check()?;
        self.node().check()?;
        // An edge alone cannot know; here both are in one file.
        if !self.recording.rooms.is_empty() && self.recording.url.is_none() {
            return Err(Contradiction::new(
                "recording.rooms",
                "needs recording.url: where recordings are delivered to",
            ));
        }
        Ok(())
    }

    fn try_out(&self) -> Result<(), Contradiction> {
        self.recording.node().try_out()
    }

    fn elsewhere(key: &str) -> Option<&'static str> {
        Some(match key {
            "kafka" => "sluice has no Kafka, for it needs nothing beside it: edge-signal and sfu-node have",
            "otlp" => "sluice exports no traces: edge-signal and sfu-node do",
            "redis" => "sluice keeps its rooms in memory: edge-signal keeps them in Redis",
            "etcd" => "sluice is alone, and looks for nobody in etcd: edge-signal and sfu-node do",
            "nodes" | "grpc" | "drain" | "weight" => "is for several machines: edge-signal and sfu-node have it",
            _ => return None,
        })
    }
}

impl Settings for AccessConfig {
    /// The secret alone is used here: keys that an edge checks tokens with need not be on this machine.
    fn check(&self) -> Result<(), Contradiction> {
        self.auth.shared_secret().map(drop)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// As the settings have it.
fn directory(text: &str) -> Result<String, String> {
    sfu_node::file_url(text.as_ref()).map_err(|error| error.to_string())
}

fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use telemetry::settings::{Secret, Sources};

    use super::*;

    fn load(text: &str) -> SluiceConfig {
        Sources::text("sluice.yaml", text).load().expect("valid")
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let mut config = load("listen: 127.0.0.1:1\nmedia: {ip: [10.0.0.1], first_port: 7, shards: 1}\n");
        config.apply(Flags {
            listen: Some("127.0.0.1:2".parse().expect("an address")),
            media_ip: vec![MediaIp::Auto],
            media_port: Some(0),
            shards: Some(2),
            recordings: directory("/my recordings").ok(),
            ..Flags::default()
        });
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.recording.url.as_deref(), Some("file:///my%20recordings"));
        assert_eq!(
            (config.media.ip.as_slice(), config.media.first_port, config.media.shards),
            (&[MediaIp::Auto][..], 0, Some(2))
        );
    }

    #[test]
    fn without_flags_the_file_counts() {
        let mut config = load("listen: 127.0.0.1:1\nmedia: {first_port: 7, shards: 1}\n");
        config.tls = TlsSettings { cert: Some("a".into()), key: Some("b".into()) };
        let before = config.clone();
        config.apply(Flags::default());
        assert_eq!(config, before);
    }

    #[test]
    fn an_address_that_others_reach_needs_a_decision_about_who_gets_in() {
        let mut config = load("");
        config.listen = "0.0.0.0:8080".parse().expect("an address");
        let error = config.check().expect_err("nobody decided").to_string();
        assert!(error.contains("0.0.0.0:8080") && error.contains("--insecure-no-auth"), "{error}");
        config.apply(Flags { insecure_no_auth: true, ..Flags::default() });
        config.check().expect("decided");
        load("listen: '0.0.0.0:8080'\nauth: {hs256_secret: '00000000000000000000000000000000'}");
    }

    #[test]
    fn rooms_to_be_recorded_need_a_place_for_their_recordings() {
        let sources = Sources::text("sluice.yaml", "recording: {rooms: [weekly]}\n");
        let error = sources.load::<SluiceConfig>().expect_err("nothing would be recorded").to_string();
        assert!(error.contains("recording.rooms") && error.contains("recording.url"), "{error}");
        let recordings = directory("/recordings").ok();
        let flags = Flags { recordings, ..Flags::default() };
        sources.load_with(|config: &mut SluiceConfig| config.apply(flags)).expect("the flag says where");
    }

    #[test]
    fn what_only_the_services_have_is_said_to_be_theirs() {
        for (section, names) in [
            ("kafka: {brokers: ['a:9092']}", "Kafka"),
            ("otlp: {endpoint: 'http://a:1'}", "traces"),
            ("redis: {url: 'redis://a'}", "Redis"),
            ("etcd: {endpoints: ['http://a:1']}", "etcd"),
            ("nodes: []", "several machines"),
        ] {
            let refused = Sources::text("sluice.yaml", format!("id: one\n{section}\n")).load::<SluiceConfig>();
            let error = refused.expect_err(section).to_string();
            assert!(error.starts_with("sluice.yaml:2: ") && error.contains(names), "{error}");
            assert!(error.contains("edge-signal") && !error.contains("unknown key"), "{error}");
        }
        let variable = Sources::default().with_environment([("SLUICE_KAFKA__BROKERS", "a:9092")]);
        let error = variable.load::<SluiceConfig>().expect_err("none to use").to_string();
        assert!(error.contains("SLUICE_KAFKA__BROKERS") && error.contains("edge-signal and sfu-node"), "{error}");
        let error = Sources::text("sluice.yaml", "media: {kafka: 1}\n").load::<SluiceConfig>().expect_err("unknown");
        assert!(error.to_string().contains("media.kafka: unknown key"), "{error}");
    }

    #[test]
    fn of_an_edge_s_settings_only_who_is_let_in_is_read() {
        let secret = "0123456789abcdef0123456789abcdef";
        let file = format!(
            "id: edge-1\nredis: {{url: 'redis://:p@10.0.0.1'}}\ngrpc: {{tls: {{ca: /nowhere/ca.pem}}}}\ndrain: {{spread: 5s}}\n\
             auth: {{hs256_secret: {secret}, public_keys: [{{algorithm: EdDSA, key_file: /nowhere/public.pem}}]}}\n"
        );
        let sources = Sources::text("edge.yaml", file).with_environment([("SLUICE_ETCD__PREFIX", "/other")]);
        let config: AccessConfig = sources.load().expect("other keys are others' to judge");
        assert_eq!(config.auth.hs256_secret.as_ref().map(Secret::expose), Some(secret));
        let unread = Sources::text("edge.yaml", "id: edge-1\nauth: {hs256_secret: short}\n").load::<AccessConfig>();
        let error = unread.expect_err("its own keys it judges").to_string();
        assert!(error.starts_with("edge.yaml:2: auth.hs256_secret: "), "{error}");
        let misspelt = Sources::text("edge.yaml", "auth:\n  hs256_secret_fil: a\n").load::<AccessConfig>();
        let error = misspelt.expect_err("these, too").to_string();
        assert!(error.starts_with("edge.yaml:2: auth.hs256_secret_fil: unknown key"), "{error}");
    }

    #[test]
    fn every_setting_reaches_its_part() {
        let config = load(
            "id: one\nregion: sz\nlisten: 127.0.0.1:1\nadmin_listen: 127.0.0.1:2\ntrusted_proxies: [10.0.0.0/8]\n\
             auth: {hs256_secret: '00000000000000000000000000000000'}\nsession: {ttl: 50s, grace: 20s}\n\
             limits: {connections: 7}\nrtc: {ice_servers: [{urls: ['stun:127.0.0.1']}]}\nmedia: {shards: 3}\n\
             capacity: {transports: 9}\nrecording: {url: 'file:///r', max: 8, rooms: [weekly]}\nlog: {level: debug}\n",
        );
        let (edge, node) = (config.edge(), config.node());
        assert_eq!((edge.edge_id().as_str(), node.id.as_str()), ("one", "one"));
        assert_eq!((edge.region.as_str(), node.region.as_str()), ("sz", "sz"));
        assert_eq!((edge.listen, edge.admin_listen), (config.listen, config.admin_listen));
        assert_eq!((edge.trusted_proxies.len(), edge.limits.connections, edge.rtc.ice_servers.len()), (1, 7, 1));
        assert_eq!((edge.auth, edge.session), (config.auth, config.session));
        assert_eq!((node.media.shards, node.capacity.transports), (Some(3), 9));
        assert_eq!((node.recording.url.as_deref(), node.recording.max), (Some("file:///r"), 8));
        assert_eq!(edge.recording.rooms, config.recording.rooms);
        assert_eq!(edge.log.level, "debug");
    }
}
