//! Real servers for tests, each on loopback, on a free port, with a private directory, and gone on drop, also when a test
//! panics. They come from the system's packages; a server that isn't installed is a test that fails.
//!
//! Nothing here knows what is kept in them.

mod certificates;
mod etcd;
mod ports;
mod process;
mod redis;
mod shared;

pub use self::{
    certificates::Certificates,
    etcd::{Etcd, EtcdCluster},
    ports::free_port,
    redis::{Redis, RedisCluster, RedisSentinels, Reply},
    shared::Shared,
};
