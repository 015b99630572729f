//! What the load generator asks of Linux beyond the standard library: many datagrams per system call, time stamps of the kernel,
//! readiness of a thousand sockets, CPU affinity. The crate's only `unsafe` but for the counting allocator.
#![expect(unsafe_code, reason = "system calls that the standard library does not wrap")]

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

/// Buffers per receive call.
const BUFFERS: usize = 32;
/// What the kernel coalesces into one at most.
const BUFFER_BYTES: usize = 65_536;
/// Room for two control messages (segment size, time stamp).
const CONTROL_BYTES: usize = 128;
/// Segments that the kernel takes per message.
const MAX_SEGMENTS: usize = 64;
/// The most bytes that one UDP message over IPv4 may have.
const MAX_MESSAGE: usize = 65_507;

/// Prepares a socket for a receiver of bursts: a large buffer, the kernel's time stamps, and coalescing if asked for.
///
/// On loopback a coalescing receiver takes the sender's segmented message as it is, and nobody ever cuts it into datagrams; for
/// others the kernel cuts it, in the sender's time.
pub fn prepare_receiver(socket: &UdpSocket, buffer_bytes: i32, coalesce: bool) -> io::Result<()> {
    // Beyond the system's limit only with the right to; what the limit allows is the second choice.
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer_bytes).is_err() {
        set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, buffer_bytes)?;
    }
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, coalesce.into())?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let result = unsafe {
        let value = ptr::from_ref(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, name, value, size_of::<i32>() as u32)
    };
    check(result.into()).map(|_| ())
}

/// One buffer's worth of received datagrams.
#[derive(Debug)]
pub struct Received<'a> {
    /// The datagrams, one after the other.
    pub bytes: &'a mut [u8],
    /// Length of each but the last.
    pub segment: usize,
    /// When the kernel received the first of them, nanoseconds of the real-time clock.
    pub at_ns: Option<u64>,
}

/// Memory for receive calls.
pub struct Receiver {
    buffers: Box<[u8]>,
    controls: Box<[[u64; CONTROL_BYTES / 8]; BUFFERS]>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffers: vec![0; BUFFERS * BUFFER_BYTES].into_boxed_slice(),
            controls: Box::new([[0; CONTROL_BYTES / 8]; BUFFERS]),
        }
    }
}

impl Receiver {
    /// Receives what is there without waiting, hands it to `take`, and says whether there may be more.
    pub fn receive(&mut self, socket: &UdpSocket, mut take: impl FnMut(Received)) -> io::Result<bool> {
        // SAFETY: all-zero bytes are valid values of these plain C structs.
        let mut messages: [libc::mmsghdr; BUFFERS] = unsafe { mem::zeroed() };
        let mut vectors: [libc::iovec; BUFFERS] = unsafe { mem::zeroed() };
        let parts = self.buffers.chunks_exact_mut(BUFFER_BYTES).zip(self.controls.iter_mut());
        for ((message, vector), (buffer, control)) in messages.iter_mut().zip(&mut vectors).zip(parts) {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_BYTES };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every header points to a vector and a control buffer that live until after the call.
        let result = unsafe {
            let flags = libc::MSG_DONTWAIT as _;
            libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BUFFERS as u32, flags, ptr::null_mut())
        };
        let count = match check(result.into()) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // The echo of an ICMP message about an earlier datagram; the next call is fine again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for (message, buffer) in messages[..count].iter().zip(self.buffers.chunks_exact_mut(BUFFER_BYTES)) {
            let len = (message.msg_len as usize).min(BUFFER_BYTES);
            // SAFETY: the kernel filled the header and its control buffer.
            let (segment, at_ns) = unsafe { read_control(&message.msg_hdr) };
            take(Received { bytes: &mut buffer[..len], segment: segment.unwrap_or(len).max(1), at_ns });
        }
        Ok(count == BUFFERS)
    }
}

/// Reads segment size and time stamp of a received message.
///
/// # Safety
/// `header` was filled by a receive call, and its control buffer lives.
unsafe fn read_control(header: &libc::msghdr) -> (Option<usize>, Option<u64>) {
    let (mut segment, mut at_ns) = (None, None);
    // SAFETY: the macros walk the control buffer within the length that the kernel wrote; data are read unaligned and only
    // of the types that go with the message's level and kind.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            let data = libc::CMSG_DATA(control);
            match ((*control).cmsg_level, (*control).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = usize::try_from(data.cast::<i32>().read_unaligned()).ok();
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let stamp = data.cast::<libc::timespec>().read_unaligned();
                    at_ns = Some(stamp.tv_sec as u64 * 1_000_000_000 + stamp.tv_nsec as u64);
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    (segment, at_ns)
}

/// How many datagrams of `segment` bytes go into one message.
pub fn segments_per_message(segment: usize) -> usize {
    MAX_SEGMENTS.min(MAX_MESSAGE / segment.max(1)).max(1)
}

/// Sends `bytes` as datagrams of `segment` bytes (the last may be shorter), at most [`segments_per_message`].
pub fn send_segments(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()> {
    let SocketAddr::V4(to) = to else { return socket.send_to(bytes, to).map(|_| ()) };
    // SAFETY: all-zero bytes are valid values of these plain C structs.
    let (mut header, mut address): (libc::msghdr, libc::sockaddr_in) = unsafe { (mem::zeroed(), mem::zeroed()) };
    address.sin_family = libc::AF_INET as _;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [0_u64; 4];
    header.msg_name = ptr::from_mut(&mut address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if bytes.len() > segment {
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: `control` has room for one message with two bytes of data, and all pointers live until after the call.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_UDP;
            (*message).cmsg_type = libc::UDP_SEGMENT;
            (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(message).cast::<u16>().write_unaligned(segment as u16);
        }
    }
    // SAFETY: the header's pointers refer to locals that live until after the call; the kernel only reads `bytes`.
    let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    check(result as i64).map(|_| ())
}

/// Tells which of many sockets have something to read.
pub struct Readiness {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Readiness {
    /// Nothing is watched yet.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers; the descriptor it returns is owned by nobody else.
        let epoll = unsafe {
            let descriptor = check(libc::epoll_create1(libc::EPOLL_CLOEXEC).into())?;
            OwnedFd::from_raw_fd(descriptor as i32)
        };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1_024] })
    }

    /// Watches a socket under a number of the caller's.
    pub fn watch(&self, socket: &UdpSocket, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: the event lives until after the call.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        check(result.into()).map(|_| ())
    }

    /// Waits for at most `timeout` and gives the numbers of readable sockets.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = u64>> {
        let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        // SAFETY: the events' memory and the timeout live until after the call; no signal mask is given.
        let result = unsafe {
            libc::epoll_pwait2(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                &raw const timeout,
                ptr::null(),
            )
        };
        let count = match check(result.into()) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(self.events[..count].iter().map(|event| event.u64))
    }
}

/// Ties the calling thread, and those that it starts, to these CPUs.
pub fn pin_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty set; CPU_SET checks its bounds; the set lives until after the call.
    let result = unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    check(result.into()).map(|_| ())
}

/// Numbers of the CPUs that the calling thread may use; fewer once it is pinned. A container's need not begin at 0.
pub fn available_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero set is an empty set; the kernel fills it and it lives until after the call; CPU_ISSET checks its
    // bounds.
    unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set).into())?;
        Ok((0..8 * size_of::<libc::cpu_set_t>()).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect())
    }
}

/// Clock ticks per second in `/proc/PID/stat`.
pub fn clock_ticks() -> f64 {
    // SAFETY: the call takes no pointers.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Sends a signal to a process of the caller's.
pub fn signal(process: u32, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    let result = unsafe { libc::kill(process as libc::pid_t, signal) };
    check(result.into()).map(|_| ())
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_arrive_as_the_datagrams_they_are_with_a_time_stamp() {
        let (sender, socket) =
            (UdpSocket::bind("127.0.0.1:0").expect("bind"), UdpSocket::bind("127.0.0.1:0").expect("bind"));
        prepare_receiver(&socket, 1 << 20, true).expect("options");
        let mut readiness = Readiness::new().expect("epoll");
        readiness.watch(&socket, 7).expect("watch");
        let sent: Vec<u8> = (0..250).collect();
        send_segments(&sender, socket.local_addr().expect("address"), &sent, 100).expect("send");
        assert_eq!(readiness.wait(Duration::from_secs(5)).expect("wait").collect::<Vec<_>>(), [7]);
        let (mut lengths, mut bytes, mut stamped) = (Vec::new(), Vec::new(), true);
        Receiver::default()
            .receive(&socket, |received| {
                stamped &= received.at_ns.is_some();
                lengths.extend(received.bytes.chunks(received.segment).map(<[u8]>::len));
                bytes.extend_from_slice(received.bytes);
            })
            .expect("receive");
        assert_eq!((lengths, bytes, stamped), (vec![100, 100, 50], sent, true));
    }

    #[test]
    fn a_thread_may_use_the_cpus_it_is_pinned_to() {
        std::thread::spawn(|| {
            let last = *available_cpus().expect("known").last().expect("it runs on one");
            pin_to(&[last]).expect("pinned");
            assert_eq!(available_cpus().expect("known"), [last]);
        })
        .join()
        .expect("as asserted");
    }

    #[test]
    fn an_empty_socket_has_nothing() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let more = Receiver::default().receive(&socket, |_| panic!("nothing was sent")).expect("receive");
        assert!(!more);
    }
}
