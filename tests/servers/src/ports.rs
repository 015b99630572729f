//! Free ports below the range from which the kernel takes those of outgoing connections: a client that tries again and again to
//! reach a stopped server must not be given the server's port as its own.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Those that were given to somebody in this process, who may not listen yet, or not at the moment.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of this machine that nobody listens on now, and that nobody else in this process is given. Another process may take it
/// before its server does: then that server's start fails.
pub fn free_port() -> u16 {
    loop {
        let port = FIRST + (RandomState::new().hash_one(std::process::id()) % u64::from(COUNT)) as u16;
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}
