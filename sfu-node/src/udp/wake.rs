//! Waking a shard's thread from its wait: an eventfd that is written at most once until the thread has looked.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sys;

/// The waiting side.
pub(crate) struct WakeReceiver {
    shared: Arc<Shared>,
}

/// The waking side; clones wake the same thread.
#[derive(Clone)]
pub(crate) struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    event: File,
    /// The event is written, or about to be, and the thread has not looked since.
    raised: AtomicBool,
}

/// A pair that belongs together.
pub(crate) fn wake_pair() -> io::Result<(Waker, WakeReceiver)> {
    let shared = Arc::new(Shared { event: File::from(sys::event()?), raised: AtomicBool::new(false) });
    Ok((Waker { shared: shared.clone() }, WakeReceiver { shared }))
}

impl Waker {
    /// Ends the thread's wait, now or the next one. Call it after the message is in its queue.
    pub(crate) fn wake(&self) {
        // The swap orders the message before the flag: whoever lowers the flag sees the message.
        if !self.shared.raised.swap(true, Ordering::AcqRel) {
            // It fails only when the counter is at its maximum, and then the event is raised anyway.
            let _ = (&self.shared.event).write(&1_u64.to_ne_bytes());
        }
    }
}

impl WakeReceiver {
    /// Lowers the event. Call it before looking into the queues: what comes later raises it again.
    pub(crate) fn lower(&self) {
        let mut counter = [0; 8];
        let _ = (&self.shared.event).read(&mut counter);
        self.shared.raised.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for WakeReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn raised(receiver: &WakeReceiver, timeout: Duration) -> bool {
        sys::wait([receiver.as_fd()], None, timeout).expect("ppoll works")[0]
    }

    #[test]
    fn a_wake_ends_the_wait_once() {
        let (waker, receiver) = wake_pair().expect("an eventfd");
        assert!(!raised(&receiver, Duration::ZERO));
        waker.wake();
        waker.wake();
        assert!(raised(&receiver, Duration::ZERO));
        receiver.lower();
        assert!(!raised(&receiver, Duration::ZERO));
        waker.wake();
        assert!(raised(&receiver, Duration::ZERO), "it can be raised again");
    }

    #[test]
    fn a_wake_from_another_thread_ends_a_wait_under_way() {
        let (waker, receiver) = wake_pair().expect("an eventfd");
        let thread = std::thread::spawn(move || waker.wake());
        assert!(raised(&receiver, Duration::from_secs(10)));
        thread.join().expect("woke");
    }
}
