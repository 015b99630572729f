//! The SFU node: threads, sockets and gRPC around the media core.

mod addresses;
mod config;
mod drive;
mod shard;
mod siblings;
mod stats;
mod udp;
