//! Free ports below the range from which the kernel takes those of outgoing connections: a client that tries again and again to
//! reach a stopped server must not be given the server's port as its own.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port nobody listens on now. Somebody else may take it before its server does: then that server's start fails, and another
/// port is tried.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = FIRST + (RandomState::new().hash_one(std::process::id()) % u64::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
