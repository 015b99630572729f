//! `redis.*`, `session.*`, `drain.*`: what makes several edges one deployment, and whether the values fit together. Connecting is
//! `stores`'; `etcd.*` is the directory's own (`room_store::etcd`).

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "redis")]
use room_store::redis::{RedisConfig, RedisTls, RedisUrlError};
use serde::{Deserialize, Serialize};
use telemetry::settings::{Contradiction, Period, Secret};

use super::EdgeSettings;

/// Spread of a drain where other edges can take the clients, unless told otherwise.
const SPREAD: Duration = Duration::from_secs(10);
/// Longest spread: a drain ends while somebody still waits for it.
const MAX_SPREAD: Duration = Duration::from_mins(10);
/// How long an edge has after the spread to end, unless told otherwise: requests under way are answered in ten seconds.
const TIMEOUT: Duration = Duration::from_secs(12);
/// Likewise without a spread: somebody waits for the end, and most requests are answered in milliseconds. It takes as long to say
/// goodbye.
const MIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest of that.
const MAX_TIMEOUT: Duration = Duration::from_mins(10);
/// Most connections to one Redis node: many calls share each, and Redis carries them out one after the other all the same.
#[cfg(feature = "redis")]
const MAX_POOL: usize = 64;

/// `redis.*`.
#[cfg(feature = "redis")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// Where rooms are kept: `redis://`, `rediss://`, `redis-sentinel://` or `redis-cluster://`. A secret, for there may be a
    /// password in it. Absent: in this process.
    pub url: Option<Secret>,
    /// Connections to each Redis node.
    pub pool_size: usize,
    /// Certificates, for URLs with TLS.
    pub tls: RedisTlsSettings,
}

/// `redis.tls.*`.
#[cfg(feature = "redis")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTlsSettings {
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
    /// How long after that it has ended, whatever clients do. Absent: 12 s, or 2 s without a spread.
    pub timeout: Option<Period>,
}

#[cfg(feature = "redis")]
impl Default for RedisSettings {
    fn default() -> Self {
        Self { url: None, pool_size: RedisConfig::POOL_SIZE, tls: RedisTlsSettings::default() }
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { ttl: Period::seconds(60), grace: Period::seconds(30), secret: None, secret_file: None }
    }
}

#[cfg(feature = "redis")]
impl RedisTlsSettings {
    fn check(&self) -> Result<(), Contradiction> {
        match (&self.cert, &self.key) {
            (Some(_), None) => return Err(Contradiction::new("redis.tls.key", "needed with redis.tls.cert")),
            (None, Some(_)) => return Err(Contradiction::new("redis.tls.cert", "needed with redis.tls.key")),
            _ => {}
        }
        for (key, file) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            let Some(file) = file else { continue };
            if let Err(error) = std::fs::File::open(file) {
                return Err(Contradiction::new(format!("redis.tls.{key}"), format!("{}: {error}", file.display())));
            }
        }
        Ok(())
    }
}

impl EdgeSettings {
    /// Whether other edges may serve the same rooms.
    pub fn shares_rooms(&self) -> bool {
        #[cfg(feature = "redis")]
        let shares = self.redis.url.is_some();
        #[cfg(not(feature = "redis"))]
        let shares = false;
        shares
    }

    /// Whether nodes and edges are registered in etcd.
    pub fn is_registered(&self) -> bool {
        #[cfg(feature = "etcd")]
        let registered = self.etcd.is_set();
        #[cfg(not(feature = "etcd"))]
        let registered = false;
        registered
    }

    /// Over how long a drain is spread.
    pub(crate) fn drain_spread(&self) -> Duration {
        let default = if self.shares_rooms() { SPREAD } else { Duration::ZERO };
        self.drain.spread.map_or(default, Duration::from)
    }

    /// How long after that an edge has ended.
    pub(crate) fn drain_timeout(&self) -> Duration {
        let default = if self.drain_spread().is_zero() { MIN_TIMEOUT } else { TIMEOUT };
        self.drain.timeout.map_or(default, Duration::from)
    }

    pub(super) fn check_stores(&self) -> Result<(), Contradiction> {
        #[cfg(feature = "redis")]
        self.redis_config()?;
        #[cfg(feature = "etcd")]
        self.check_etcd()?;
        let shared = [("redis.url", self.shares_rooms()), ("etcd.endpoints", self.is_registered())];
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
        if !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&self.drain_timeout()) {
            return Err(Contradiction::new("drain.timeout", "2s to 10m"));
        }
        Ok(())
    }

    /// How Redis is reached; `None`: rooms are in this process.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_config(&self) -> Result<Option<RedisConfig>, Contradiction> {
        let RedisSettings { url, pool_size, tls } = &self.redis;
        let Some(url) = url else {
            let idle = Contradiction::new("redis.tls", "has no meaning without redis.url");
            return if *tls == RedisTlsSettings::default() { Ok(None) } else { Err(idle) };
        };
        let url =
            url.expose().parse().map_err(|error: RedisUrlError| Contradiction::new("redis.url", error.to_string()))?;
        if !(1..=MAX_POOL).contains(pool_size) {
            return Err(Contradiction::new("redis.pool_size", format!("1 to {MAX_POOL}")));
        }
        tls.check()?;
        let RedisTlsSettings { ca, cert, key } = tls.clone();
        Ok(Some(RedisConfig { url, pool_size: *pool_size, tls: RedisTls { ca, cert, key } }))
    }

    #[cfg(feature = "etcd")]
    fn check_etcd(&self) -> Result<(), Contradiction> {
        self.etcd.check()?;
        if self.etcd.is_set() && !self.nodes.is_empty() {
            return Err(Contradiction::new("nodes", "cannot be used with etcd.endpoints: nodes register there"));
        }
        Ok(())
    }
}
