//! What a [`RedisRooms`](super::RedisRooms) is told: which Redis, how many connections, which certificates.

use std::{fmt, path::PathBuf};

use super::url::RedisUrl;

/// Which Redis to keep rooms in, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where it is.
    pub url: RedisUrl,
    /// Connections to each server, over each of which many calls go at once; one more is for what is heard. More: large answers
    /// hold up fewer small ones; less: fewer sockets at the server, which counts them for all edges.
    pub pool_size: usize,
    /// Certificates, when the URL says TLS.
    pub tls: RedisTls,
}

impl RedisConfig {
    /// Connections where nobody says otherwise.
    pub const POOL_SIZE: usize = 4;

    /// A Redis with nothing special about it.
    pub fn new(url: RedisUrl) -> Self {
        Self { url, pool_size: Self::POOL_SIZE, tls: RedisTls::default() }
    }
}

/// Files in PEM form. They are read when connecting is prepared, not again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// Who signed the servers' certificates; none means the system's authorities.
    pub ca: Option<PathBuf>,
    /// The edge's own certificate, with those between it and its authority.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Why a configuration can't be used. Never for a Redis that is away.
#[derive(Debug, thiserror::Error)]
pub enum RedisConfigError {
    /// A file that can't be read.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A certificate without a key, or the reverse.
    #[error("a certificate and its key go together")]
    HalfAnIdentity,
    /// Files that are given, but the URL doesn't say TLS.
    #[error("certificates are given, but the URL says no TLS (rediss)")]
    TlsNotAsked,
    /// Certificates or key that are none.
    #[error("certificates or key can't be used: {0}")]
    Certificates(String),
    /// No connection at all.
    #[error("pool_size is 0")]
    NoConnections,
}

/// What the files hold.
#[derive(Clone, Default)]
pub(super) struct Certificates {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl RedisConfig {
    /// Reads the files and checks what can be checked without a server.
    pub(super) fn read(&self) -> Result<Certificates, RedisConfigError> {
        if self.pool_size == 0 {
            return Err(RedisConfigError::NoConnections);
        }
        let RedisTls { ca, cert, key } = &self.tls;
        if !self.url.tls && [ca, cert, key].into_iter().all(Option::is_none) {
            return Ok(Certificates::default());
        }
        if !self.url.tls {
            return Err(RedisConfigError::TlsNotAsked);
        }
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| RedisConfigError::File { path: path.clone(), error });
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err(RedisConfigError::HalfAnIdentity),
        };
        Ok(Certificates { ca: ca.as_ref().map(read).transpose()?, identity })
    }
}
