//! What the system keeps for the sockets of an edge in this process, and whether it still knows those that the edge has closed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use socket2::SockRef;

/// `SK_MEMINFO_*` of `linux/sock_diag.h`.
const RMEM_ALLOC: usize = 0;
const WMEM_QUEUED: usize = 5;
const VARS: usize = 9;

/// Bytes that the system keeps for the connection of `client` to `edge`: what came in and is not read, and what is not taken by the
/// client. `None`: the edge has closed it.
pub(crate) fn kept(edge: SocketAddr, client: SocketAddr) -> Option<usize> {
    fs::read_dir("/proc/self/fd").expect("mounted").find_map(|entry| {
        let fd = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // SAFETY: used for questions to the system only; of one that was closed meanwhile it says so.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        (ends(fd)? == (edge, client)).then_some(())?;
        let memory = memory(fd).ok()?;
        Some(memory[RMEM_ALLOC] as usize + memory[WMEM_QUEUED] as usize)
    })
}

/// Whether the edge's end of the connection is there, closed or not.
pub(crate) fn knows(edge: SocketAddr, client: SocketAddr) -> bool {
    let ends = [edge, client].map(|end| format!("{:04X}", end.port()));
    let table = fs::read_to_string("/proc/net/tcp").expect("mounted");
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace().skip(1).map(|address| address.rsplit(':').next());
        ends.iter().all(|end| columns.next().flatten() == Some(end))
    })
}

/// Its own address and its client's; `None`: it is no connection.
fn ends(fd: BorrowedFd<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let socket = SockRef::from(&fd);
    Some((socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?))
}

fn memory(fd: BorrowedFd<'_>) -> io::Result<[u32; VARS]> {
    let mut memory = [0; VARS];
    let mut length = size_of_val(&memory) as libc::socklen_t;
    // SAFETY: the system writes at most `length` bytes, which `memory` has.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(memory) } else { Err(io::Error::last_os_error()) }
}
