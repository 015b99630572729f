//! `redis.*`, `etcd.*`, `session.*`, `drain.*`: what makes several edges one deployment. Whether the values fit together; connecting
//! is `stores`'.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::settings::{Contradiction, Period, Secret};

use super::EdgeSettings;

/// Spread of a drain where other edges can take the clients, unless told otherwise.
const SPREAD: Duration = Duration::from_secs(10);
/// Longest spread: a drain ends while somebody still waits for it.
const MAX_SPREAD: Duration = Duration::from_mins(10);
/// Most connections to one Redis node: more than that many calls at once it does not carry out any faster.
const MAX_POOL: usize = 1_024;

/// `redis.*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// Where rooms are kept: `redis://`, `rediss://`, `redis-sentinel://` or `redis-cluster://`. A secret, for there may be a
    /// password in it. Absent: in this process.
    pub url: Option<Secret>,
    /// Connections to each Redis node.
    pub pool_size: usize,
    /// Certificates, for URLs with TLS.
    pub tls: ClientTlsSettings,
}

/// `etcd.*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdSettings {
    /// `http://host:port` or `https://host:port` of its members. Absent: SFU nodes are those of `nodes`.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// User name, where etcd asks for one.
    pub username: Option<String>,
    /// And password.
    pub password: Option<Secret>,
    /// Certificates, for `https://`.
    pub tls: ClientTlsSettings,
}

/// `redis.tls.*` and `etcd.tls.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTlsSettings {
    /// PEM file with the certificates the server's is signed by; absent: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file with our own certificate, where the server asks for one.
    pub cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// `session.*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// A session of which nothing was seen for this long ends.
    pub ttl: Period,
    /// A session whose socket is gone ends after this long.
    pub grace: Period,
    /// Signs session tokens; the same on every edge, at least 32 bytes. Absent: `auth.hs256_secret`, and without that a random one.
    pub secret: Option<Secret>,
    /// File that holds it instead; a line break at its end is not part of it.
    pub secret_file: Option<PathBuf>,
}

/// `drain.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainSettings {
    /// Over how long an edge that is told to end sends its clients away. Absent: 10 s with `redis.url`, else at once.
    pub spread: Option<Period>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { url: None, pool_size: 32, tls: ClientTlsSettings::default() }
    }
}

impl Default for EtcdSettings {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: "/sluice".to_owned(),
            username: None,
            password: None,
            tls: ClientTlsSettings::default(),
        }
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { ttl: Period::seconds(60), grace: Period::seconds(30), secret: None, secret_file: None }
    }
}

impl ClientTlsSettings {
    fn check(&self, of: &str) -> Result<(), Contradiction> {
        match (&self.cert, &self.key) {
            (Some(_), None) => return Err(Contradiction::new(format!("{of}.tls.key"), format!("needed with {of}.tls.cert"))),
            (None, Some(_)) => return Err(Contradiction::new(format!("{of}.tls.cert"), format!("needed with {of}.tls.key"))),
            _ => {}
        }
        for (key, file) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            let Some(file) = file else { continue };
            if let Err(error) = std::fs::File::open(file) {
                return Err(Contradiction::new(format!("{of}.tls.{key}"), format!("{}: {error}", file.display())));
            }
        }
        Ok(())
    }

    fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

impl EdgeSettings {
    /// Whether other edges may serve the same rooms.
    pub fn shares_rooms(&self) -> bool {
        self.redis.url.is_some()
    }

    /// Over how long a drain is spread.
    pub(crate) fn drain_spread(&self) -> Duration {
        let default = if self.shares_rooms() { SPREAD } else { Duration::ZERO };
        self.drain.spread.map_or(default, Duration::from)
    }

    pub(super) fn check_stores(&self) -> Result<(), Contradiction> {
        self.check_redis()?;
        self.check_etcd()?;
        let shared = [("redis.url", self.shares_rooms()), ("etcd.endpoints", !self.etcd.endpoints.is_empty())];
        if let Some((with, _)) = shared.into_iter().find(|(_, set)| *set)
            && self.id.is_none()
        {
            let reason = format!("needed with {with}: the name of this edge, unlike any other's");
            return Err(Contradiction::new("id", reason));
        }
        self.session_secret()?;
        if self.shares_rooms() && self.session_secret()?.is_none() && self.auth.shared_secret()?.is_none() {
            let reason = "needed with redis.url, the same on every edge: sessions are resumed on whichever";
            return Err(Contradiction::new("session.secret", reason));
        }
        if self.drain_spread() > MAX_SPREAD {
            return Err(Contradiction::new("drain.spread", "at most 10m"));
        }
        Ok(())
    }

    fn check_redis(&self) -> Result<(), Contradiction> {
        let redis = &self.redis;
        let Some(url) = &redis.url else {
            if redis.tls.is_set() {
                return Err(Contradiction::new("redis.tls", "has no meaning without redis.url"));
            }
            return Ok(());
        };
        if cfg!(not(feature = "redis")) {
            return Err(Contradiction::new("redis.url", "this program was built without Redis (cargo feature `redis`)"));
        }
        let schemes = ["redis://", "rediss://", "redis-sentinel://", "redis-cluster://"];
        let others = ["rediss-sentinel://", "rediss-cluster://"];
        if !schemes.iter().chain(&others).any(|scheme| url.expose().starts_with(scheme)) {
            let reason = "must be redis://, rediss://, redis-sentinel:// or redis-cluster://, and hosts";
            return Err(Contradiction::new("redis.url", reason));
        }
        if !(1..=MAX_POOL).contains(&redis.pool_size) {
            return Err(Contradiction::new("redis.pool_size", format!("1 to {MAX_POOL}")));
        }
        redis.tls.check("redis")
    }

    fn check_etcd(&self) -> Result<(), Contradiction> {
        let etcd = &self.etcd;
        if etcd.endpoints.is_empty() {
            let idle = [
                ("etcd.username", etcd.username.is_some()),
                ("etcd.password", etcd.password.is_some()),
                ("etcd.tls", etcd.tls.is_set()),
            ];
            return match idle.into_iter().find(|(_, set)| *set) {
                Some((key, _)) => Err(Contradiction::new(key, "has no meaning without etcd.endpoints")),
                None => Ok(()),
            };
        }
        if cfg!(not(feature = "etcd")) {
            return Err(Contradiction::new(
                "etcd.endpoints",
                "this program was built without etcd (cargo feature `etcd`)",
            ));
        }
        if !self.nodes.is_empty() {
            return Err(Contradiction::new("nodes", "cannot be used with etcd.endpoints: nodes register there"));
        }
        for (index, endpoint) in etcd.endpoints.iter().enumerate() {
            let is_url = endpoint.parse::<http::Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && uri.path() == "/"
            });
            if !is_url {
                let key = format!("etcd.endpoints.{index}");
                return Err(Contradiction::new(key, "must be http://host:port or https://host:port"));
            }
        }
        if !etcd.prefix.starts_with('/') || etcd.prefix.len() < 2 || etcd.prefix.ends_with('/') {
            return Err(Contradiction::new("etcd.prefix", "must begin with / and not end with it"));
        }
        match (&etcd.username, &etcd.password) {
            (Some(_), None) => return Err(Contradiction::new("etcd.password", "needed with etcd.username")),
            (None, Some(_)) => return Err(Contradiction::new("etcd.username", "needed with etcd.password")),
            _ => {}
        }
        etcd.tls.check("etcd")
    }
}
