//! What an edge can be told (docs/configuration.md). Read by the loader in `telemetry`; every key has an effect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proto::ids::{EdgeId, NodeId, RegionId, RoomId};
use room_store::{Capacity, Limits, Load, NodeRecord, NodeState, RoomSettings};
use serde::{Deserialize, Serialize};
use telemetry::kafka::KafkaSettings;
use telemetry::settings::{Contradiction, Period, Secret, Settings};
use telemetry::{LogSettings, OtlpSettings};

mod stores;

pub use self::stores::{DrainSettings, SessionSettings};
#[cfg(feature = "redis")]
pub use self::stores::{RedisSettings, RedisTlsSettings};
use crate::auth::PublicKeyAlgorithm;
pub use crate::nodes::{GrpcSettings, GrpcTlsSettings};
pub use crate::overload::OverloadSettings;
use crate::proxies::Network;
use crate::rate::Rate;
pub use crate::recorded_rooms::RoomPattern;

/// A byte's share of a second is counted in nanoseconds.
const MAX_BYTE_RATE: u32 = 1_000_000_000;

/// Settings of the program `edge-signal`, and of the edge inside `sluice`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeSettings {
    /// The edge's name, told to clients as `signalid` and `bizid`. Unique in the deployment; an edge alone may do without. `auto`: its
    /// machine's.
    pub id: Option<EdgeId>,
    /// Where it is: its clients' streams go to nodes of this region first.
    pub region: RegionId,
    /// Where clients connect. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are. Absent: on `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Certificate and key for `listen`.
    pub tls: TlsSettings,
    /// Proxies whose PROXY headers and `X-Forwarded-For` are believed.
    pub trusted_proxies: Vec<Network>,
    /// SFU nodes, when there is no registry to learn them from.
    pub nodes: Vec<NodeSettings>,
    /// How SFU nodes are spoken to.
    pub grpc: GrpcSettings,
    /// Where rooms are kept.
    #[cfg(feature = "redis")]
    pub redis: RedisSettings,
    /// Where nodes and edges are registered.
    #[cfg(feature = "etcd")]
    pub etcd: room_store::etcd::EtcdConfig,
    /// Who is let in.
    pub auth: AuthSettings,
    /// How long sessions live, and how they are proved.
    pub session: SessionSettings,
    /// How clients are sent away.
    pub drain: DrainSettings,
    /// What is too much.
    pub limits: LimitSettings,
    /// From when on nobody new is let in.
    pub overload: OverloadSettings,
    /// What is recorded without being asked for.
    pub recording: RecordingSettings,
    /// What `/rtc-config` tells clients beside the limits.
    pub rtc: RtcSettings,
    /// How logs are written.
    pub log: LogSettings,
    /// Where logs and events go besides.
    pub kafka: KafkaSettings,
    /// Where traces go.
    pub otlp: OtlpSettings,
}

/// `tls.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM file with the certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// One of `nodes`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// The node's own `id` setting.
    pub id: NodeId,
    /// Where it is; absent: where the edge is.
    #[serde(default)]
    pub region: Option<RegionId>,
    /// `http://host:port` of its gRPC service; with `grpc.tls`, `https://host:port`.
    pub grpc: String,
    /// Its share of new streams compared with others.
    #[serde(default = "one")]
    pub weight: u32,
}

/// `auth.*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// Secret shared with whoever makes tokens, at least 32 bytes.
    pub hs256_secret: Option<Secret>,
    /// File that holds it instead; a line break at its end is not part of it.
    pub hs256_secret_file: Option<PathBuf>,
    /// The one before: tokens signed with it are good, too, and none is made with it.
    pub hs256_previous_secret: Option<Secret>,
    /// File that holds it instead.
    pub hs256_previous_secret_file: Option<PathBuf>,
    /// Public keys of whoever makes tokens.
    pub public_keys: Vec<PublicKeySettings>,
    /// Where a server publishes such keys (RFC 7517): `https://`, or `http://` on this machine.
    pub jwks_url: Option<String>,
    /// PEM file with the certificates that are trusted for it; absent: the system's.
    pub jwks_ca: Option<PathBuf>,
    /// How often they are fetched anew, beside when a token names an unknown one.
    pub jwks_interval: Period,
    /// The `iss` every token must carry.
    pub issuer: Option<String>,
    /// The `aud` every token must carry.
    pub audience: Option<String>,
    /// Let everybody in, on other addresses than loopback too.
    pub insecure_no_auth: bool,
}

/// One of `auth.public_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeySettings {
    /// The `kid` of tokens it is for; absent: those that name no other key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// What it is for: a token's own `alg` chooses nothing.
    pub algorithm: PublicKeyAlgorithm,
    /// The key, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// File that holds it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// `limits.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address (IPv6: of one /64).
    pub connections_per_address: usize,
    /// Connections of one uid to this edge.
    pub connections_per_uid: usize,
    /// New connections per second of one address.
    pub connection_rate: u32,
    /// How many of them may come at once.
    pub connection_burst: u32,
    /// New connections per second in all.
    pub edge_connection_rate: u32,
    /// How many of them may come at once.
    pub edge_connection_burst: u32,
    /// Requests per second of one connection.
    pub message_rate: u32,
    /// How many of them may come at once.
    pub message_burst: u32,
    /// Requests per second of one uid's connections together; absent: twice those of one connection.
    pub uid_message_rate: Option<u32>,
    /// How many of them may come at once; absent: likewise.
    pub uid_message_burst: Option<u32>,
    /// What all members of one room are told per second through this edge (broadcasts, mutes, streams that come and go).
    pub room_message_rate: u32,
    /// How many of them may come at once.
    pub room_message_burst: u32,
    /// Bytes of broadcasts per second that all members of one room are told; at once, half of `queued_bytes`.
    pub room_broadcast_bytes: u32,
    /// Joins of one room per second.
    pub room_join_rate: u32,
    /// How many of them may come at once; absent: as many as the room may have members, and no fewer
    /// than in a second.
    pub room_join_burst: Option<u32>,
    /// Requests per second in all.
    pub edge_message_rate: u32,
    /// How many of them may come at once.
    pub edge_message_burst: u32,
    /// Bytes that may wait for one client that reads too slowly.
    pub queued_bytes: usize,
    /// Rooms with members.
    pub rooms: usize,
    /// Rooms one connection may be in.
    pub rooms_per_connection: usize,
    /// Members of one room.
    pub members_per_room: usize,
    /// Streams one member may publish in a room.
    pub streams_per_member: usize,
    /// Streams one member may be subscribed to in a room.
    pub subscriptions_per_member: usize,
}

/// `recording.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingSettings {
    /// Rooms in which every stream is recorded: names, or the beginning of names and a `*`.
    pub rooms: Vec<RoomPattern>,
}

impl RecordingSettings {
    /// Whether every stream of the room is recorded.
    pub(crate) fn covers(&self, room: &RoomId) -> bool {
        self.rooms.iter().any(|pattern| pattern.covers(room))
    }
}

/// `rtc.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RtcSettings {
    /// STUN and TURN servers for clients (`RTCIceServer` of the W3C API).
    pub ice_servers: Vec<IceServer>,
}

/// One of `rtc.ice_servers`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URLs.
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// TURN password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Secret>,
}

fn one() -> u32 {
    1
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            id: None,
            region: RegionId::new("default").expect("invariant: a valid id"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: None,
            tls: TlsSettings::default(),
            trusted_proxies: Vec::new(),
            nodes: Vec::new(),
            grpc: GrpcSettings::default(),
            #[cfg(feature = "redis")]
            redis: RedisSettings::default(),
            #[cfg(feature = "etcd")]
            etcd: room_store::etcd::EtcdConfig::default(),
            auth: AuthSettings::default(),
            session: SessionSettings::default(),
            drain: DrainSettings::default(),
            limits: LimitSettings::default(),
            overload: OverloadSettings::default(),
            recording: RecordingSettings::default(),
            rtc: RtcSettings::default(),
            log: LogSettings::default(),
            kafka: KafkaSettings::default(),
            otlp: OtlpSettings::default(),
        }
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            hs256_secret: None,
            hs256_secret_file: None,
            hs256_previous_secret: None,
            hs256_previous_secret_file: None,
            public_keys: Vec::new(),
            jwks_url: None,
            jwks_ca: None,
            jwks_interval: Period::seconds(300),
            issuer: None,
            audience: None,
            insecure_no_auth: false,
        }
    }
}

impl LimitSettings {
    /// What one uid's connections may ask for together.
    pub(crate) fn uid_requests(&self) -> Rate {
        let rate = self.uid_message_rate.unwrap_or(self.message_rate.saturating_mul(2));
        Rate::new(rate, self.uid_message_burst.unwrap_or(self.message_burst.saturating_mul(2)))
    }
}

impl AuthSettings {
    /// Whether there is anything to check tokens with.
    pub fn has_keys(&self) -> bool {
        let has_secret = self.hs256_secret.is_some() || self.hs256_secret_file.is_some();
        has_secret || !self.public_keys.is_empty() || self.jwks_url.is_some()
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 4_096,
            connections_per_uid: 32,
            connection_rate: 500,
            connection_burst: 4_096,
            edge_connection_rate: 1_000,
            edge_connection_burst: 8_192,
            message_rate: 50,
            message_burst: 300,
            uid_message_rate: None,
            uid_message_burst: None,
            room_message_rate: 500,
            room_message_burst: 2_000,
            room_broadcast_bytes: 256 * 1024,
            room_join_rate: 250,
            room_join_burst: None,
            edge_message_rate: 50_000,
            edge_message_burst: 200_000,
            queued_bytes: 512 * 1024,
            rooms: 100_000,
            rooms_per_connection: 16,
            members_per_room: 5_000,
            streams_per_member: 16,
            subscriptions_per_member: 1_000,
        }
    }
}

impl Settings for EdgeSettings {
    fn check(&self) -> Result<(), Contradiction> {
        self.log.check()?;
        self.kafka.check()?;
        self.otlp.check()?;
        self.tls.server_config()?;
        self.check_auth()?;
        let scheme = if self.grpc.tls.client_config()?.is_some() { "https" } else { "http" };
        self.check_nodes(scheme)?;
        self.check_stores()?;
        self.check_ice_servers()?;
        self.overload.check()?;
        self.check_times_and_limits()
    }

    fn operators_address(&self) -> Option<SocketAddr> {
        self.admin_listen
    }
}

impl EdgeSettings {
    /// The edge's name: that of the settings, or the one of an edge alone.
    pub fn edge_id(&self) -> EdgeId {
        self.id.clone().unwrap_or_else(|| EdgeId::new("edge-1").expect("invariant: a valid id"))
    }

    /// How long things live in this edge's rooms, and how many there may be, for a store in this process.
    pub fn room_settings(&self) -> RoomSettings {
        let limits = &self.limits;
        RoomSettings {
            ttl: self.session.ttl.into(),
            grace: self.session.grace.into(),
            limits: Limits {
                rooms: limits.rooms,
                members: limits.members_per_room,
                publications: limits.streams_per_member,
                subscriptions: limits.subscriptions_per_member,
            },
            ..RoomSettings::default()
        }
    }

    /// The nodes listed, for a directory that is that list.
    pub fn node_records(&self) -> impl Iterator<Item = NodeRecord> {
        self.nodes.iter().map(|node| NodeRecord {
            node: node.id.clone(),
            boot: None,
            region: node.region.clone().unwrap_or_else(|| self.region.clone()),
            address: node.grpc.clone(),
            weight: node.weight,
            capacity: Capacity::default(),
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: String::new(),
        })
    }

    pub(crate) fn check_auth(&self) -> Result<(), Contradiction> {
        let auth = &self.auth;
        let has_keys = auth.has_keys();
        auth.check_previous_secret()?;
        auth.keyring()?;
        auth.check_jwks()?;
        if has_keys && auth.insecure_no_auth {
            return Err(Contradiction::new("auth.insecure_no_auth", "contradicts the keys that are set"));
        }
        for (key, value) in [("auth.issuer", &auth.issuer), ("auth.audience", &auth.audience)] {
            if value.is_some() && !has_keys {
                return Err(Contradiction::new(key, "has no meaning without a key to check tokens with"));
            }
        }
        if !has_keys && !auth.insecure_no_auth && !self.listen.ip().is_loopback() {
            let reason = "on other addresses than loopback set auth.hs256_secret, auth.public_keys or auth.jwks_url, or auth.insecure_no_auth to let everybody in";
            return Err(Contradiction::new("listen", reason));
        }
        Ok(())
    }

    fn check_nodes(&self, scheme: &str) -> Result<(), Contradiction> {
        for (index, node) in self.nodes.iter().enumerate() {
            let wrong =
                |key: &str, reason: &str| Err(Contradiction::new(format!("nodes.{index}.{key}"), reason.to_owned()));
            let is_url = node.grpc.parse::<http::Uri>().is_ok_and(|uri| {
                uri.scheme_str() == Some(scheme)
                    && uri.authority().is_some()
                    && uri.path() == "/"
                    && uri.query().is_none()
            });
            if !is_url {
                let when = if scheme == "https" { "with" } else { "without" };
                return wrong("grpc", &format!("must be {scheme}://host:port {when} grpc.tls"));
            }
            if node.weight == 0 {
                return wrong("weight", "must be above 0");
            }
            if self.nodes[..index].iter().any(|earlier| earlier.id == node.id) {
                return wrong("id", "is used twice");
            }
        }
        Ok(())
    }

    /// What `RTCPeerConnection` of the W3C API would throw on, and with it every call.
    fn check_ice_servers(&self) -> Result<(), Contradiction> {
        for (index, server) in self.rtc.ice_servers.iter().enumerate() {
            let wrong = |key: &str, reason: &str| {
                Err(Contradiction::new(format!("rtc.ice_servers.{index}.{key}"), reason.to_owned()))
            };
            if server.urls.is_empty() {
                return wrong("urls", "is empty");
            }
            for url in &server.urls {
                let (scheme, rest) = url.split_once(':').unwrap_or_default();
                let is_turn = matches!(scheme, "turn" | "turns");
                let (host, query) = rest.split_once('?').map_or((rest, None), |(host, query)| (host, Some(query)));
                let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
                // Only a relay's transport is chosen (RFC 7064, RFC 7065).
                let is_query = query.is_none_or(|it| is_turn && matches!(it, "transport=udp" | "transport=tcp"));
                if !(is_turn || matches!(scheme, "stun" | "stuns")) || !is_host || !is_query {
                    return wrong(
                        "urls",
                        "must be stun:HOST:PORT or turn:HOST:PORT?transport=udp (or stuns:, turns:, tcp)",
                    );
                }
                if is_turn && server.username.as_ref().is_none_or(String::is_empty) {
                    return wrong("username", "needed with a turn: URL");
                }
                if is_turn && server.credential.as_ref().is_none_or(|credential| credential.expose().is_empty()) {
                    return wrong("credential", "needed with a turn: URL");
                }
            }
        }
        Ok(())
    }

    fn check_times_and_limits(&self) -> Result<(), Contradiction> {
        let (ttl, grace) = (Duration::from(self.session.ttl), Duration::from(self.session.grace));
        if ttl < Duration::from_secs(5) {
            return Err(Contradiction::new("session.ttl", "at least 5s"));
        }
        if grace > ttl {
            return Err(Contradiction::new("session.grace", "at most session.ttl"));
        }
        let limits = &self.limits;
        let counts = [
            ("connections", limits.connections),
            ("connections_per_address", limits.connections_per_address),
            ("rooms", limits.rooms),
            ("rooms_per_connection", limits.rooms_per_connection),
            ("members_per_room", limits.members_per_room),
            ("streams_per_member", limits.streams_per_member),
            ("subscriptions_per_member", limits.subscriptions_per_member),
            ("connection_rate", limits.connection_rate as usize),
            ("connection_burst", limits.connection_burst as usize),
            ("message_rate", limits.message_rate as usize),
            ("message_burst", limits.message_burst as usize),
            ("connections_per_uid", limits.connections_per_uid),
            ("edge_connection_rate", limits.edge_connection_rate as usize),
            ("edge_connection_burst", limits.edge_connection_burst as usize),
            ("uid_message_rate", limits.uid_message_rate.unwrap_or(1) as usize),
            ("uid_message_burst", limits.uid_message_burst.unwrap_or(1) as usize),
            ("room_message_rate", limits.room_message_rate as usize),
            ("room_message_burst", limits.room_message_burst as usize),
            ("room_join_rate", limits.room_join_rate as usize),
            ("room_join_burst", limits.room_join_burst.unwrap_or(1) as usize),
            ("edge_message_rate", limits.edge_message_rate as usize),
            ("edge_message_burst", limits.edge_message_burst as usize),
        ];
        match counts.into_iter().find(|(_, count)| !(1..=1_000_000).contains(count)) {
            Some((key, _)) => Err(Contradiction::new(format!("limits.{key}"), "1 to 1000000")),
            // The longest frame has to fit in whatever waits already.
            None if !(256 * 1024..=16 * 1024 * 1024).contains(&limits.queued_bytes) => {
                Err(Contradiction::new("limits.queued_bytes", "262144 to 16777216"))
            }
            None if !(1..=MAX_BYTE_RATE).contains(&limits.room_broadcast_bytes) => {
                Err(Contradiction::new("limits.room_broadcast_bytes", format!("1 to {MAX_BYTE_RATE}")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::settings::{Sources, to_yaml};

    use super::*;

    fn load(text: &str) -> Result<EdgeSettings, String> {
        Sources::text("edge.yaml", text).load().map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        load(text).expect_err("cannot be used")
    }

    #[test]
    fn the_defaults_are_usable() {
        assert_eq!(load("").expect("usable"), EdgeSettings::default());
    }

    #[test]
    fn a_contradiction_names_its_key_and_line() {
        let secret = "0123456789abcdef0123456789abcdef";
        for (text, start) in [
            ("listen: 0.0.0.0:80\n".to_owned(), "edge.yaml:1: listen: on other addresses than loopback"),
            (
                "auth:\n  hs256_secret: short\n".to_owned(),
                "edge.yaml:2: auth.hs256_secret: the secret has 5 bytes, at least 32 ",
            ),
            (
                format!("auth:\n  hs256_secret: {secret}\n  insecure_no_auth: true\n"),
                "edge.yaml:3: auth.insecure_no_auth: ",
            ),
            (
                format!("auth:\n  hs256_secret: {secret}\n  hs256_secret_file: x\n"),
                "edge.yaml:3: auth.hs256_secret_file: ",
            ),
            (
                format!("auth:\n  hs256_previous_secret: {secret}\n"),
                "edge.yaml:2: auth.hs256_previous_secret: needs auth.hs256_secret",
            ),
            (
                format!("auth:\n  hs256_secret: {secret}\n  hs256_previous_secret: short\n"),
                "edge.yaml:3: auth.hs256_previous_secret: the secret has 5 bytes",
            ),
            ("auth:\n  issuer: app\n".to_owned(), "edge.yaml:2: auth.issuer: "),
            ("auth:\n  jwks_url: 'ftp://x/'\n".to_owned(), "edge.yaml:2: auth.jwks_url: must be https://"),
            ("auth:\n  jwks_url: 'http://192.0.2.1/'\n".to_owned(), "edge.yaml:2: auth.jwks_url: must be https://"),
            ("auth:\n  jwks_ca: x\n".to_owned(), "edge.yaml:2: auth.jwks_ca: has no meaning"),
            (
                "auth:\n  jwks_url: 'https://x/'\n  jwks_ca: x\n".to_owned(),
                "edge.yaml:3: auth.jwks_ca: no certificates to trust: x: ",
            ),
            (
                "auth:\n  jwks_url: 'https://x/'\n  jwks_interval: 100ms\n".to_owned(),
                "edge.yaml:3: auth.jwks_interval: 1s to 24h",
            ),
            ("tls:\n  cert: x.pem\n".to_owned(), "edge.yaml:2: tls.key: needed with tls.cert"),
            ("tls:\n  cert: x.pem\n  key: y.pem\n".to_owned(), "edge.yaml:2: tls.cert: x.pem: No such file"),
            ("auth:\n  hs256_secret_file: x\n".to_owned(), "edge.yaml:2: auth.hs256_secret_file: x: No such file"),
            ("session:\n  ttl: 10s\n  grace: 20s\n".to_owned(), "edge.yaml:3: session.grace: at most session.ttl"),
            ("session:\n  ttl: 1s\n".to_owned(), "edge.yaml:2: session.ttl: at least 5s"),
            ("nodes:\n- {id: a, grpc: 'https://a:1'}\n".to_owned(), "edge.yaml:2: nodes.0.grpc: "),
            ("nodes:\n- {id: a, grpc: 'http://a:1/path'}\n".to_owned(), "edge.yaml:2: nodes.0.grpc: "),
            ("nodes:\n- {id: a, grpc: 'http://a:1', weight: 0}\n".to_owned(), "edge.yaml:2: nodes.0.weight: "),
            (
                "nodes:\n- {id: a, grpc: 'http://a:1'}\n- {id: a, grpc: 'http://b:1'}\n".to_owned(),
                "edge.yaml:3: nodes.1.id: ",
            ),
            ("trusted_proxies: [10.0.0.0/33]\n".to_owned(), "edge.yaml:1: trusted_proxies"),
            ("id: a b\n".to_owned(), "edge.yaml:1: id: "),
            ("rtc: {ice_servers: [{urls: []}]}\n".to_owned(), "edge.yaml:1: rtc.ice_servers.0.urls: is empty"),
            (
                "rtc: {ice_servers: [{urls: ['http://x']}]}\n".to_owned(),
                "edge.yaml:1: rtc.ice_servers.0.urls: must be stun:",
            ),
            (
                "rtc: {ice_servers: [{urls: ['stun:']}]}\n".to_owned(),
                "edge.yaml:1: rtc.ice_servers.0.urls: must be stun:",
            ),
            (
                "rtc: {ice_servers: [{urls: ['stun:s:3478?transport=udp']}]}\n".to_owned(),
                "edge.yaml:1: rtc.ice_servers.0.urls: must be stun:",
            ),
            (
                "rtc: {ice_servers: [{urls: ['turn:t?transport=quic']}]}\n".to_owned(),
                "edge.yaml:1: rtc.ice_servers.0.urls: must be stun:",
            ),
            (
                "rtc: {ice_servers: [{urls: ['turn:t']}]}\n".to_owned(),
                "edge.yaml:1: rtc.ice_servers.0.username: needed",
            ),
            (
                "rtc: {ice_servers: [{urls: ['turn:t?transport=tcp'], username: u}]}\n".to_owned(),
                "edge.yaml:1: rtc.ice_servers.0.credential: needed",
            ),
            ("redis: {url: x}\n".to_owned(), "edge.yaml:1: redis.url: the scheme is none of "),
            ("redis: {tls: {ca: x}}\n".to_owned(), "edge.yaml:1: redis.tls: has no meaning without redis.url"),
            ("redis: {url: 'redis://a', pool_size: 0}\n".to_owned(), "edge.yaml:1: redis.pool_size: 1 to "),
            ("redis:\n  url: redis://a\n  tls: {ca: /x}\n".to_owned(), "edge.yaml:3: redis.tls.ca: /x: No such file"),
            ("redis: {url: 'redis://a', tls: {cert: x}}\n".to_owned(), "edge.yaml:1: redis.tls.key: needed with"),
            ("redis: {url: 'redis://a'}\n".to_owned(), "id: needed with redis.url"),
            ("id: e\nredis: {url: 'redis://a'}\n".to_owned(), "session.secret: needed with redis.url"),
            ("etcd: {endpoints: ['http://a:1']}\n".to_owned(), "id: needed with etcd.endpoints"),
            (
                "id: e\netcd: {endpoints: ['http://a:1']}\nnodes: [{id: a, grpc: 'http://a:1'}]\n".to_owned(),
                "edge.yaml:3: nodes: cannot be used with etcd.endpoints",
            ),
            ("session:\n  secret: short\n".to_owned(), "edge.yaml:2: session.secret: the secret has 5 bytes"),
            (
                format!("session:\n  secret: {secret}\n  secret_file: x\n"),
                "edge.yaml:3: session.secret_file: cannot be used with session.secret",
            ),
            ("drain: {spread: 1h}\n".to_owned(), "edge.yaml:1: drain.spread: at most 10m"),
            ("drain: {timeout: 1s}\n".to_owned(), "edge.yaml:1: drain.timeout: 2s to 10m"),
            ("drain: {timeout: 1h}\n".to_owned(), "edge.yaml:1: drain.timeout: 2s to 10m"),
        ] {
            let error = refused(&text);
            assert!(error.starts_with(start), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn a_mark_out_of_bounds_names_itself_and_them() {
        for (text, error) in [
            ("overload: {cpu: 0}\n", "edge.yaml:1: overload.cpu: above 0, at most 1"),
            ("overload: {memory: 1.1}\n", "edge.yaml:1: overload.memory: above 0, at most 1"),
            ("overload: {lag: 0s}\n", "edge.yaml:1: overload.lag: 1ms to 10s"),
        ] {
            assert_eq!(refused(text), error);
        }
    }

    #[test]
    fn a_limit_out_of_bounds_names_itself_and_them() {
        for (key, value, bounds) in [
            ("queued_bytes", 1_000, "262144 to 16777216"),
            ("room_broadcast_bytes", 0, "1 to 1000000000"),
            ("room_join_rate", 0, "1 to 1000000"),
            ("room_join_burst", 0, "1 to 1000000"),
            ("uid_message_rate", 0, "1 to 1000000"),
            ("connections", 0, "1 to 1000000"),
        ] {
            let error = refused(&format!("limits:\n  {key}: {value}\n"));
            assert_eq!(error, format!("edge.yaml:2: limits.{key}: {bounds}"));
        }
    }

    #[test]
    fn a_drain_is_spread_where_other_edges_can_take_the_clients() {
        let secret = "session: {secret: 0123456789abcdef0123456789abcdef}";
        let spread = |text: &str| load(text).expect("usable").drain_spread();
        assert_eq!(spread(""), Duration::ZERO);
        assert_eq!(spread(&format!("id: e\nredis: {{url: 'redis://a'}}\n{secret}\n")), Duration::from_secs(10));
        assert_eq!(spread("drain: {spread: 3s}\n"), Duration::from_secs(3));
    }

    #[test]
    fn a_drain_ends_some_time_after_its_spread() {
        let timeout = |text: &str| load(text).expect("usable").drain_timeout();
        assert_eq!(timeout(""), Duration::from_secs(2));
        assert_eq!(timeout("drain: {spread: 3s}\n"), Duration::from_secs(12));
        assert_eq!(timeout("drain: {timeout: 5s}\n"), Duration::from_secs(5));
    }

    #[test]
    fn a_key_that_cannot_be_used_names_itself_and_its_line() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let (public, private) = (pair.public_key_pem(), pair.serialize_pem());
        let good = format!("  - {{kid: a, algorithm: EdDSA, key: {public:?}}}\n");
        load(&format!("listen: 0.0.0.0:1\nauth:\n  public_keys:\n{good}")).expect("nobody is let in without a token");
        for (entry, start) in [
            (format!("{{kid: a, algorithm: EdDSA, key: {public:?}}}"), "kid: its kid is used twice"),
            (format!("{{kid: '', algorithm: EdDSA, key: {public:?}}}"), "kid: kid must have 1 to 256 bytes"),
            (format!("{{algorithm: ES256, key: {public:?}}}"), "key: is no key for ES256"),
            (format!("{{algorithm: EdDSA, key: {private:?}}}"), "key: holds a private key"),
            ("{algorithm: EdDSA}".to_owned(), "key: is missing, or key_file"),
            (format!("{{algorithm: EdDSA, key: {public:?}, key_file: x}}"), "key_file: cannot be used with key"),
            ("{algorithm: EdDSA, key_file: /nowhere}".to_owned(), "key_file: /nowhere: No such file"),
            (format!("{{algorithm: HS256, key: {public:?}}}"), "algorithm: "),
            (format!("{{algorithm: none, key: {public:?}}}"), "algorithm: "),
        ] {
            let error = refused(&format!("auth:\n  public_keys:\n{good}  - {entry}\n"));
            let start = format!("edge.yaml:4: auth.public_keys.1.{start}");
            assert!(error.starts_with(&start), "{entry} gave {error:?}");
        }
        let many = refused(&format!("auth:\n  public_keys:\n{}", good.repeat(17)));
        assert!(many.starts_with("edge.yaml:3: auth.public_keys: at most 16"), "{many}");
        let unnamed = format!("  - {{algorithm: EdDSA, key: {public:?}}}\n");
        let unnamed = refused(&format!("auth:\n  public_keys:\n{}", unnamed.repeat(5)));
        assert!(unnamed.contains("auth.public_keys.4.kid: at most 4 keys"), "{unnamed}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "auth: {hs256_secret: 0123456789abcdef0123456789abcdef}\nrtc: {ice_servers: [{urls: ['turn:t'], username: u, credential: hunter2}]}\n";
        let shown = to_yaml(&load(text).expect("usable"));
        assert!(!shown.contains("0123456789abcdef") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_store_in_this_process_gets_the_times_and_limits() {
        let text = "session: {ttl: 90s, grace: 10s}\nlimits: {rooms: 9, members_per_room: 7, streams_per_member: 3, subscriptions_per_member: 5}\n";
        let rooms = load(text).expect("usable").room_settings();
        assert_eq!((rooms.ttl, rooms.grace), (Duration::from_secs(90), Duration::from_secs(10)));
        let Limits { rooms, members, publications, subscriptions } = rooms.limits;
        assert_eq!((rooms, members, publications, subscriptions), (9, 7, 3, 5));
    }

    #[test]
    fn a_listed_node_is_in_the_edges_region_unless_it_says_otherwise() {
        let text = "region: east\nnodes:\n- {id: a, grpc: 'http://a:1', weight: 3}\n- {id: b, region: west, grpc: 'http://b:1'}\n";
        let settings = load(text).expect("usable");
        let nodes: Vec<_> =
            settings.node_records().map(|node| (node.region.to_string(), node.weight, node.address)).collect();
        let expected =
            [("east".to_owned(), 3, "http://a:1".to_owned()), ("west".to_owned(), 1, "http://b:1".to_owned())];
        assert_eq!(nodes, expected);
    }
}
