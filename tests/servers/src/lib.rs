//! Real servers for tests, each on loopback, on a free port, with a private directory, and gone on drop, also when a test
//! panics. They come from the system's packages, Kafka from Maven and S3's stand-in from
//! `PyPI`; a server that isn't installed is a test that fails.
//!
//! Nothing here knows what is kept in them.

mod certificates;
mod etcd;
mod kafka;
mod ports;
mod process;
mod prometheus;
mod redis;
mod s3;
mod shared;

pub use self::{
    certificates::Certificates,
    etcd::{Etcd, EtcdCluster},
    kafka::Kafka,
    ports::free_port,
    prometheus::Prometheus,
    redis::{Redis, RedisCluster, RedisSentinels, Reply},
    s3::S3,
    shared::Shared,
};
