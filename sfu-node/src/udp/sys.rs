//! The system calls of the media path: `recvmmsg` with GRO, `sendmmsg` with GSO, `ppoll`, `eventfd`.
//!
//! Nothing here decides anything: errors go up as they come.

// The one place with unsafe code in the product: the kernel's batched calls take arrays of pointers, and no crate offers
// them with the segment sizes (UDP_GRO, UDP_SEGMENT) that make them worth it. Every pointer lives for one call only.
#![allow(unsafe_code, reason = "system calls that no crate offers")]

use std::ffi::c_int;
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use sfu_core::batch::Received;
use sfu_core::{CandidatePair, RxBatch};

/// Messages per `sendmmsg`: enough to amortise the call, few enough for the arrays to stay in the first-level cache.
pub(super) const SEND_MESSAGES: usize = 64;

/// Room for the control messages of one message: a segment size, an overflow counter, an address and a time, with some to spare.
const CONTROL_BYTES: usize = 160;

/// Control messages, aligned as `cmsghdr` is.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// A socket address as the kernel writes and reads it.
#[derive(Clone, Copy)]
#[repr(C)]
union Address {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Memory for the addresses and control messages of one receive call.
pub(super) struct ReceiveScratch {
    addresses: [Address; RxBatch::BUFFERS],
    controls: [Control; RxBatch::BUFFERS],
}

impl ReceiveScratch {
    pub(super) fn new() -> Box<Self> {
        // SAFETY: integers only, for which all zeroes is a value.
        Box::new(unsafe { zeroed() })
    }
}

/// What a receive call told beside the datagrams.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceiveReport {
    /// Buffers filled.
    pub(super) buffers: usize,
    /// Datagrams the socket has dropped since it was opened because its buffer was full, if the call told.
    pub(super) overflows: Option<u32>,
    /// When the first datagram came, since the epoch by the clock of day, if the call told.
    pub(super) came: Option<Duration>,
}

/// One message to send: datagrams of `segment` bytes each but the last.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) to: CandidatePair,
    pub(super) bytes: &'a [u8],
    pub(super) segment: usize,
}

/// Fills the empty `batch` with what has arrived, without waiting. `WouldBlock` when nothing has.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    batch: &mut RxBatch,
    scratch: &mut ReceiveScratch,
) -> io::Result<ReceiveReport> {
    // SAFETY: `iovec` and `mmsghdr` hold integers and pointers, for which all zeroes is a value.
    let (mut iovecs, mut messages) =
        unsafe { (zeroed::<[libc::iovec; RxBatch::BUFFERS]>(), zeroed::<[libc::mmsghdr; RxBatch::BUFFERS]>()) };
    for (iovec, buffer) in iovecs.iter_mut().zip(batch.buffers()) {
        *iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    }
    for (index, message) in messages.iter_mut().enumerate() {
        let header = &mut message.msg_hdr;
        header.msg_name = ptr::from_mut(&mut scratch.addresses[index]).cast();
        header.msg_namelen = size_of::<Address>() as libc::socklen_t;
        header.msg_iov = &raw mut iovecs[index];
        header.msg_iovlen = 1;
        header.msg_control = scratch.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
    }
    // SAFETY: every pointer in `messages` is to memory of the stated length that outlives the call and that nothing else
    // uses during it: the batch's buffers and `scratch` are borrowed mutably, `iovecs` is local.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    let received = check(received)?;
    let mut report = ReceiveReport { buffers: received, overflows: None, came: None };
    for (message, address) in messages.iter().zip(&scratch.addresses).take(received) {
        let len = message.msg_len as usize;
        let (mut segment, mut local) = (len, None);
        for_each_control(&message.msg_hdr, |level, kind, value| match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                segment = read(value).and_then(|size| usize::try_from(c_int::from_ne_bytes(size)).ok()).unwrap_or(len);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => report.overflows = read(value).map(u32::from_ne_bytes),
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if report.came.is_none() => {
                report.came = read(value).and_then(time_of);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => local = read(value).map(local_of_v4),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => local = read(value).map(local_of_v6),
            _ => {}
        });
        // An address of no known family cannot come from a UDP socket; an empty record keeps the buffers in step.
        let (remote, len) =
            decode(address).map_or((SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), 0), |from| (from, len));
        batch.push_received(Received { from: CandidatePair { remote, local }, len, segment });
    }
    Ok(report)
}

/// Sends the first messages of `outgoing`, at most [`SEND_MESSAGES`], without waiting; returns how many the kernel took. An
/// error is about the first. `mapped`: the socket is an IPv6 one and IPv4 addresses are written as IPv4-mapped.
pub(super) fn send(socket: BorrowedFd<'_>, outgoing: &[Outgoing<'_>], mapped: bool) -> io::Result<usize> {
    let mut addresses = [const { MaybeUninit::<Address>::uninit() }; SEND_MESSAGES];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_MESSAGES];
    let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_MESSAGES];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SEND_MESSAGES];
    let count = outgoing.len().min(SEND_MESSAGES);
    for (index, run) in outgoing[..count].iter().enumerate() {
        let (address, length) = encode(run.to.remote, mapped);
        // SAFETY: as in `receive`.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        let header = &mut message.msg_hdr;
        header.msg_name = ptr::from_mut(addresses[index].write(address)).cast();
        header.msg_namelen = length;
        // The kernel only reads what it is to send.
        let iovec = libc::iovec { iov_base: run.bytes.as_ptr().cast_mut().cast(), iov_len: run.bytes.len() };
        header.msg_iov = iovecs[index].write(iovec);
        header.msg_iovlen = 1;
        let is_run = run.segment < run.bytes.len();
        if is_run || run.to.local.is_some() {
            let control = controls[index].write(Control([0; CONTROL_BYTES]));
            let mut length = 0;
            if is_run {
                let size = (run.segment as u16).to_ne_bytes();
                length += write_control(control, length, libc::SOL_UDP, libc::UDP_SEGMENT, size);
            }
            length += match run.to.local {
                Some(local) if mapped => {
                    write_control(control, length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, leaving_from_v6(local))
                }
                Some(IpAddr::V4(local)) => {
                    write_control(control, length, libc::IPPROTO_IP, libc::IP_PKTINFO, leaving_from_v4(local))
                }
                Some(IpAddr::V6(_)) | None => 0,
            };
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = length as _;
        }
        messages[index].write(message);
    }
    // SAFETY: the first `count` messages are initialised, and their pointers are to local arrays and to `outgoing`'s bytes,
    // all of which outlive the call.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr().cast(),
            count as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    check(sent)
}

/// Waits until one of `readable` can be read, `writable` can be written, or `timeout` has passed; says which. A signal ends
/// the wait early.
pub(super) fn wait<const N: usize>(
    readable: [BorrowedFd<'_>; N],
    writable: Option<BorrowedFd<'_>>,
    timeout: Duration,
) -> io::Result<[bool; N]> {
    let entry = |fd: BorrowedFd<'_>, events| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // ppoll skips entries with a negative descriptor.
    let mut polled = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 4];
    const { assert!(N < 4, "one entry is for the writable descriptor") };
    for (slot, fd) in polled.iter_mut().zip(readable) {
        *slot = entry(fd, libc::POLLIN);
    }
    if let Some(fd) = writable {
        polled[N] = entry(fd, libc::POLLOUT);
    }
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: `polled` and `timeout` are local and outlive the call; no signal mask is given.
    let ready =
        unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const timeout, ptr::null()) };
    match check(ready) {
        Ok(_) => Ok(std::array::from_fn(|index| polled[index].revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// A new eventfd, non-blocking.
pub(super) fn event() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the call has just made the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// Sets an integer option of a socket.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: `value` is local, of the length given, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

fn check(result: c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Writes a control message of `N` bytes after the `offset` bytes of those before it, and returns how many it takes.
fn write_control<const N: usize>(
    control: &mut Control,
    offset: usize,
    level: c_int,
    kind: c_int,
    value: [u8; N],
) -> usize {
    // SAFETY: CMSG_SPACE and CMSG_LEN compute with their argument only.
    let (space, length) = unsafe { (libc::CMSG_SPACE(N as u32) as usize, libc::CMSG_LEN(N as u32)) };
    let header: *mut libc::cmsghdr = control.0[offset..offset + space].as_mut_ptr().cast();
    // SAFETY: `space` bytes from `header` on are inside `control`, as the slice has shown; it is aligned as a cmsghdr, and so is
    // every multiple of CMSG_SPACE in it.
    unsafe {
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = length as _;
        ptr::copy_nonoverlapping(value.as_ptr(), libc::CMSG_DATA(header), N);
    }
    space
}

/// Calls `f(level, type, value)` with every control message.
fn for_each_control(header: &libc::msghdr, mut f: impl FnMut(c_int, c_int, &[u8])) {
    // SAFETY: the kernel has filled the control buffer of `header` and set its length; CMSG_FIRSTHDR and CMSG_NXTHDR stay
    // inside it, and a message's own length says how much of it is its value.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if let Some(len) = ((*message).cmsg_len as usize).checked_sub(libc::CMSG_LEN(0) as usize) {
                let value = std::slice::from_raw_parts(libc::CMSG_DATA(message), len);
                f((*message).cmsg_level, (*message).cmsg_type, value);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

/// The first `N` bytes of a control message's value.
fn read<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.first_chunk().copied()
}

/// A `timespec`.
fn time_of(stamp: [u8; size_of::<libc::timespec>()]) -> Option<Duration> {
    let [seconds, nanos] = {
        let (seconds, nanos) = stamp.split_at(size_of::<libc::time_t>());
        [read(seconds)?, read(nanos)?].map(i64::from_ne_bytes)
    };
    Some(Duration::new(seconds.try_into().ok()?, nanos.try_into().ok()?))
}

/// Bytes of an `in_pktinfo`: interface index, the address that answers leave from, the address in the header.
const V4_INFO_BYTES: usize = size_of::<libc::in_pktinfo>();
/// Bytes of an `in6_pktinfo`: address, interface index.
const V6_INFO_BYTES: usize = size_of::<libc::in6_pktinfo>();

fn local_of_v4(info: [u8; V4_INFO_BYTES]) -> IpAddr {
    let [.., a, b, c, d] = info;
    Ipv4Addr::new(a, b, c, d).into()
}

fn local_of_v6(info: [u8; V6_INFO_BYTES]) -> IpAddr {
    let [address @ .., _, _, _, _] = info;
    Ipv6Addr::from(address).to_canonical()
}

/// Without an interface: which one is the routing table's business.
fn leaving_from_v4(local: Ipv4Addr) -> [u8; V4_INFO_BYTES] {
    let mut info = [0; V4_INFO_BYTES];
    info[4..8].copy_from_slice(&local.octets());
    info
}

fn leaving_from_v6(local: IpAddr) -> [u8; V6_INFO_BYTES] {
    let address = match local {
        IpAddr::V4(local) => local.to_ipv6_mapped(),
        IpAddr::V6(local) => local,
    };
    let mut info = [0; V6_INFO_BYTES];
    info[..16].copy_from_slice(&address.octets());
    info
}

fn encode(to: SocketAddr, mapped: bool) -> (Address, libc::socklen_t) {
    match to {
        SocketAddr::V4(to) if mapped => {
            encode(SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into(), true)
        }
        SocketAddr::V4(to) => {
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                sin_zero: [0; 8],
            };
            (Address { v4: address }, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(to) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo().to_be(),
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            };
            (Address { v6: address }, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

/// The address, an IPv4-mapped one as IPv4.
fn decode(address: &Address) -> Option<SocketAddr> {
    // SAFETY: every variant begins with the family.
    match c_int::from(unsafe { address.family }) {
        libc::AF_INET => {
            // SAFETY: the family says that this one was written.
            let v4 = unsafe { address.v4 };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: likewise.
            let v6 = unsafe { address.v6 };
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddrV4::new(ip, port).into(),
                None => SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernel_s_format() {
        for (address, mapped) in
            [("127.0.0.1:40000", false), ("192.0.2.7:1", true), ("[2001:db8::1]:65535", true), ("[::1]:40000", false)]
        {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(decode(&encode(address, mapped).0), Some(address));
        }
    }

    #[test]
    fn a_mapped_address_is_an_ipv6_one_to_the_kernel() {
        let (address, length) = encode("192.0.2.7:1".parse().expect("an address"), true);
        assert_eq!(length as usize, size_of::<libc::sockaddr_in6>());
        // SAFETY: integers only.
        assert_eq!(unsafe { c_int::from(address.family) }, libc::AF_INET6);
    }
}
