//! The stores that edges and nodes share: the rooms' Redis in each of its shapes, and etcd.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use servers::{Etcd, EtcdCluster, Redis, RedisCluster, RedisSentinels};

use crate::proxy::Proxy;

/// How rooms are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomStore {
    /// One Redis that loses everything when it ends.
    Forgetful,
    /// One Redis that has written to disk what it has answered.
    Durable,
    /// One Redis that takes only TLS, from clients with a certificate.
    Tls,
    /// A master and its replicas, found through sentinels. Edges reach them directly.
    Sentinels,
    /// Three masters with a replica each. Edges reach them directly.
    Cluster,
}

/// The servers that keep rooms.
#[derive(Debug)]
pub enum Rooms {
    /// One.
    Single(Redis),
    /// Several, one of which is written to.
    Sentinels(RedisSentinels),
    /// Several, each with a share of the rooms.
    Cluster(RedisCluster),
}

impl Rooms {
    pub(crate) async fn start(store: RoomStore) -> Self {
        match store {
            RoomStore::Forgetful => Self::Single(Redis::start().await),
            RoomStore::Durable => Self::Single(Redis::durable().await),
            RoomStore::Tls => Self::Single(Redis::tls().await),
            RoomStore::Sentinels => Self::Sentinels(RedisSentinels::start().await),
            RoomStore::Cluster => Self::Cluster(RedisCluster::start().await),
        }
    }

    /// One edge's way to them: its link where there can be one, and its settings.
    pub(crate) fn link(&self) -> anyhow::Result<(Option<Proxy>, String)> {
        let redis = match self {
            Self::Single(redis) => redis,
            Self::Sentinels(sentinels) => return Ok((None, format!("redis: {{url: '{}'}}\n", sentinels.url()))),
            Self::Cluster(cluster) => return Ok((None, format!("redis: {{url: '{}'}}\n", cluster.url()))),
        };
        let link = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port())))?;
        let settings = match redis.certificates() {
            None => format!("redis: {{url: 'redis://{}'}}\n", link.address()),
            Some(certificates) => format!(
                "redis: {{url: 'rediss://{}', tls: {{ca: '{}', cert: '{}', key: '{}'}}}}\n",
                link.address(),
                certificates.ca().display(),
                certificates.client().display(),
                certificates.client_key().display()
            ),
        };
        Ok((Some(link), settings))
    }
}

/// Where nodes and edges are registered.
#[derive(Debug)]
pub enum Registry {
    /// One etcd.
    Single(Etcd),
    /// Three.
    Three(EtcdCluster),
}

impl Registry {
    /// Three members, or one.
    pub(crate) async fn start(three: bool) -> Self {
        if three { Self::Three(EtcdCluster::start().await) } else { Self::Single(Etcd::start().await) }
    }

    /// Where each member listens.
    pub(crate) fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let endpoints = match self {
            Self::Single(one) => vec![one.endpoint()],
            Self::Three(all) => all.endpoints(),
        };
        let address = |endpoint: &String| endpoint.strip_prefix("http://").and_then(|rest| rest.parse().ok());
        endpoints.iter().map(|endpoint| address(endpoint).with_context(|| format!("etcd at {endpoint}"))).collect()
    }

    /// Kills all of it.
    pub fn stop(&mut self) {
        match self {
            Self::Single(one) => one.stop(),
            Self::Three(all) => all.stop(),
        }
    }

    /// Starts it with what it has on disk.
    pub async fn start_again(&mut self) {
        match self {
            Self::Single(one) => one.start_again().await,
            Self::Three(all) => all.start_again().await,
        }
    }

    /// Kills the member that leads the others.
    pub async fn kill_leader(&mut self) {
        match self {
            Self::Single(_) => panic!("one alone has no leader to lose"),
            Self::Three(all) => all.leader().await.stop(),
        }
    }
}
