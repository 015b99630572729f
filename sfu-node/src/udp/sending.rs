//! What becomes of datagrams that the kernel does not take: waited for, cut, or dropped and counted.

use std::io;
use std::time::Duration;

use super::SocketTotals;
use super::offload::Offload;
use super::sys::Outgoing;

/// How long full buffers are waited for in one round of the drive loop, all its batches together. Dropping at once would lose whole
/// bursts to a moment's congestion of the interface; waiting longer would hold up what arrives meanwhile.
const PATIENCE: Duration = Duration::from_millis(3);

/// The least that a wait counts as: a buffer that stays full, and says that it is not, must not be asked for ever.
const MIN_WAIT: Duration = Duration::from_micros(50);

/// What is left of a round's time for waiting.
#[derive(Debug)]
pub(crate) struct Patience(Duration);

impl Patience {
    /// For a new round.
    pub(crate) fn new() -> Self {
        Self(PATIENCE)
    }
}

/// The kernel, as far as sending is concerned.
pub(super) trait Kernel {
    /// Sends the first of these, and says how many; an error is about the first.
    fn send(&self, outgoing: &[Outgoing<'_>]) -> io::Result<usize>;

    /// Waits until the send buffer may have room, and says how long that took.
    fn wait(&self, at_most: Duration) -> Duration;
}

/// Sending at work.
pub(super) struct Sending<'a, K> {
    pub(super) kernel: K,
    pub(super) offload: &'a mut Offload,
    pub(super) totals: &'a mut SocketTotals,
    pub(super) patience: &'a mut Patience,
}

impl<K: Kernel> Sending<'_, K> {
    /// Sends all of these. What cannot be sent is dropped and counted, as a network would.
    pub(super) fn send(&mut self, mut outgoing: &[Outgoing<'_>]) {
        while !outgoing.is_empty() {
            outgoing = &outgoing[self.send_some(outgoing)..];
        }
    }

    /// Returns how many are done with.
    fn send_some(&mut self, outgoing: &[Outgoing<'_>]) -> usize {
        let first = outgoing[0];
        if is_run(&first) && !self.offload.is_on() {
            self.offload.cut();
            self.send_cut(first);
            return 1;
        }
        // Without offload the call ends before the next run that has to be cut.
        let count = outgoing.iter().position(|run| is_run(run) && !self.offload.is_on()).unwrap_or(outgoing.len());
        self.totals.send_calls += 1;
        match self.kernel.send(&outgoing[..count]) {
            Ok(sent) => {
                if outgoing[..sent].iter().any(is_run) {
                    self.offload.accepted();
                }
                sent.max(1)
            }
            Err(error) => self.handle_refusal(first, &error),
        }
    }

    /// The kernel did not take `first`; returns how many messages are done with.
    fn handle_refusal(&mut self, first: Outgoing<'_>, error: &io::Error) -> usize {
        match error.raw_os_error() {
            Some(libc::EINTR) => 0,
            Some(libc::EAGAIN) if self.wait() => 0,
            // The second is a kernel without memory: waiting would not help.
            Some(libc::EAGAIN | libc::ENOBUFS) => {
                self.totals.send_congested += datagrams(first);
                1
            }
            Some(libc::EIO) if is_run(&first) => {
                self.offload.refused(first.to.remote.ip());
                self.send_cut(first);
                1
            }
            // This path's MTU is below the segments' size: other paths are not concerned.
            Some(libc::EINVAL | libc::EMSGSIZE) if is_run(&first) => {
                self.send_cut(first);
                1
            }
            _ => {
                self.totals.send_refused += datagrams(first);
                1
            }
        }
    }

    /// Sends the datagrams of a run one by one.
    fn send_cut(&mut self, run: Outgoing<'_>) {
        self.totals.send_split += 1;
        let mut rest = run.bytes;
        while !rest.is_empty() {
            let mut singles = [Outgoing { bytes: &[], ..run }; super::sys::SEND_MESSAGES];
            let mut count = 0;
            for (slot, bytes) in singles.iter_mut().zip(rest.chunks(run.segment)) {
                *slot = Outgoing { bytes, segment: bytes.len(), ..run };
                count += 1;
            }
            self.totals.send_calls += 1;
            let done = match self.kernel.send(&singles[..count]) {
                Ok(sent) => sent.max(1),
                Err(error) => self.handle_refusal(singles[0], &error),
            };
            let bytes: usize = singles[..done].iter().map(|single| single.bytes.len()).sum();
            rest = &rest[bytes..];
        }
    }

    /// False when there is no time left for it.
    fn wait(&mut self) -> bool {
        let Patience(left) = self.patience;
        if left.is_zero() {
            return false;
        }
        let waited = self.kernel.wait(*left);
        *left = left.saturating_sub(waited.max(MIN_WAIT));
        true
    }
}

fn is_run(outgoing: &Outgoing<'_>) -> bool {
    outgoing.segment < outgoing.bytes.len()
}

fn datagrams(run: Outgoing<'_>) -> u64 {
    run.bytes.len().div_ceil(run.segment.max(1)) as u64
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::SocketAddr;

    use sfu_core::CandidatePair;

    use super::*;

    /// A kernel that refuses what the test says, and keeps what it takes.
    struct Refusing<F> {
        /// The error for a message, after so many calls.
        error: F,
        calls: Cell<usize>,
        waits: RefCell<Vec<Duration>>,
        /// What a wait takes.
        wait: Duration,
        taken: RefCell<Vec<(CandidatePair, usize)>>,
    }

    impl<F: Fn(usize, &Outgoing<'_>) -> Option<i32>> Kernel for &Refusing<F> {
        fn send(&self, outgoing: &[Outgoing<'_>]) -> io::Result<usize> {
            let call = self.calls.replace(self.calls.get() + 1);
            let fine = outgoing.iter().take_while(|message| (self.error)(call, message).is_none());
            let taken: Vec<_> = fine.map(|message| (message.to, message.bytes.len())).collect();
            if taken.is_empty() {
                return Err(io::Error::from_raw_os_error((self.error)(call, &outgoing[0]).expect("refused")));
            }
            self.taken.borrow_mut().extend(&taken);
            Ok(taken.len())
        }

        fn wait(&self, at_most: Duration) -> Duration {
            self.waits.borrow_mut().push(at_most);
            self.wait.min(at_most)
        }
    }

    fn refusing<F: Fn(usize, &Outgoing<'_>) -> Option<i32>>(wait: Duration, error: F) -> Refusing<F> {
        Refusing { error, calls: Cell::new(0), waits: RefCell::default(), wait, taken: RefCell::default() }
    }

    const BYTES: [u8; 3_000] = [0; 3_000];

    /// Three datagrams to an address.
    fn run(last: u8) -> Outgoing<'static> {
        Outgoing { to: SocketAddr::from(([192, 0, 2, last], 9)).into(), bytes: &BYTES, segment: 1_000 }
    }

    fn send<F: Fn(usize, &Outgoing<'_>) -> Option<i32>>(
        kernel: &Refusing<F>,
        offload: &mut Offload,
        batches: &[&[Outgoing<'_>]],
    ) -> SocketTotals {
        let (mut totals, mut patience) = (SocketTotals::default(), Patience::new());
        for batch in batches {
            Sending { kernel, offload, totals: &mut totals, patience: &mut patience }.send(batch);
        }
        totals
    }

    #[test]
    fn the_rest_of_a_burst_waits_for_room_and_is_sent() {
        let runs = [run(1), run(2), run(3)];
        // Room for one run between two waits.
        let kernel = refusing(Duration::from_micros(500), |call, message| {
            let room_for = call / 2 + 1;
            (call % 2 == 1 || message.to != run(room_for as u8).to).then_some(libc::EAGAIN)
        });
        let totals = send(&kernel, &mut Offload::default(), &[&runs]);
        assert_eq!(totals.send_congested, 0);
        assert_eq!(*kernel.taken.borrow(), runs.map(|run| (run.to, 3_000)));
        let waits = [PATIENCE, Duration::from_micros(2_500)];
        assert_eq!(*kernel.waits.borrow(), waits);
    }

    #[test]
    fn a_round_waits_so_long_in_all_and_then_drops_and_counts() {
        let kernel = refusing(Duration::from_millis(2), |_, _| Some(libc::EAGAIN));
        let totals = send(&kernel, &mut Offload::default(), &[&[run(1), run(2)], &[run(3)]]);
        assert_eq!((totals.send_congested, totals.send_refused), (9, 0));
        assert_eq!(*kernel.waits.borrow(), [PATIENCE, Duration::from_millis(1)], "not for each run or batch");
    }

    #[test]
    fn a_kernel_without_memory_is_not_waited_for() {
        let kernel = refusing(Duration::ZERO, |_, _| Some(libc::ENOBUFS));
        let totals = send(&kernel, &mut Offload::default(), &[&[run(1)]]);
        assert_eq!((totals.send_congested, kernel.waits.borrow().len()), (3, 0));
    }

    #[test]
    fn a_buffer_that_says_it_has_room_and_has_none_is_not_asked_for_ever() {
        let kernel = refusing(Duration::ZERO, |_, _| Some(libc::EAGAIN));
        let totals = send(&kernel, &mut Offload::default(), &[&[run(1)]]);
        assert_eq!(totals.send_congested, 3);
        assert_eq!(kernel.waits.borrow().len() as u32, PATIENCE.div_duration_f64(MIN_WAIT).round() as u32);
    }

    #[test]
    fn one_route_without_offload_is_sent_cut_and_others_whole() {
        let kernel =
            refusing(Duration::ZERO, |_, message| (message.to == run(1).to && is_run(message)).then_some(libc::EIO));
        let mut offload = Offload::default();
        let totals = send(&kernel, &mut offload, &[&[run(1), run(2)][..]; 100]);
        assert_eq!((totals.send_split, totals.send_refused, totals.send_congested), (100, 0, 0));
        let one_by_one = [(run(1).to, 1_000); 3];
        assert_eq!(kernel.taken.borrow()[..4], [&one_by_one[..], &[(run(2).to, 3_000)]].concat());
        assert!(offload.is_on());
    }

    #[test]
    fn a_machine_without_offload_is_not_asked_each_time() {
        let kernel = refusing(Duration::ZERO, |_, message| is_run(message).then_some(libc::EIO));
        let mut offload = Offload::default();
        let totals = send(&kernel, &mut offload, &[&[run(1), run(2)][..]; 50]);
        assert_eq!((totals.send_split, totals.send_refused), (100, 0));
        assert_eq!(kernel.taken.borrow().len(), 300, "nothing is lost");
        assert!(!offload.is_on());
        assert_eq!(totals.send_calls, 100 + 16, "one call for each, but for the first");
    }

    #[test]
    fn single_datagrams_between_runs_go_without_offload_as_well() {
        let kernel = refusing(Duration::ZERO, |_, message| is_run(message).then_some(libc::EIO));
        let mut offload = Offload::default();
        send(&kernel, &mut offload, &[&[run(1), run(2)][..]; 50]);
        kernel.taken.borrow_mut().clear();
        let single = Outgoing { bytes: &BYTES[..10], segment: 10, ..run(3) };
        send(&kernel, &mut offload, &[&[single, run(1), single]]);
        let sizes: Vec<usize> = kernel.taken.borrow().iter().map(|(_, size)| *size).collect();
        assert_eq!(sizes, [10, 1_000, 1_000, 1_000, 10]);
    }
}
