//! What the system tells of this process: processor time over what there is of it, and memory likewise. What there is may be less than
//! the machine has: a container's share.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use telemetry::{memory_limit, resident_memory};

/// This process on its machine.
#[derive(Debug)]
pub(super) struct Machine {
    cpus: f64,
    /// Bytes there are for it; `None`: the system does not tell, and memory is no measure.
    memory: Option<u64>,
    last: (Instant, Duration),
}

impl Machine {
    /// What there is is read once: it hardly changes while a process runs.
    pub(super) fn new() -> Self {
        let cpus = available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
        Self { cpus, memory: memory_limit(), last: (Instant::now(), cpu_time()) }
    }

    /// Share of the processors that was used since the last call, 0 to 1.
    pub(super) fn cpu(&mut self) -> f64 {
        let (now, used) = (Instant::now(), cpu_time());
        let (then, used_then) = std::mem::replace(&mut self.last, (now, used));
        let elapsed = (now - then).as_secs_f64();
        // Asked twice at once there is nothing to tell.
        if elapsed > 0.0 { used.saturating_sub(used_then).as_secs_f64() / elapsed / self.cpus } else { 0.0 }
    }

    /// Share of the memory that is used, 0 to 1.
    pub(super) fn memory(&self) -> f64 {
        match (resident_memory(), self.memory) {
            (Some(used), Some(limit)) => used as f64 / limit.max(1) as f64,
            _ => 0.0,
        }
    }
}

/// Processor time of all threads so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_that_spins_uses_shows() {
        let (begun, mut machine) = (Instant::now(), Machine::new());
        let (used, spun) = (cpu_time(), Duration::from_millis(50));
        while cpu_time().saturating_sub(used) < spun {}
        let share = machine.cpu();
        // Other tests' threads are of this process, too: what spun here is in it at the least.
        assert!(share * machine.cpus * begun.elapsed().as_secs_f64() >= spun.as_secs_f64(), "{share}");
    }

    #[test]
    fn this_process_uses_some_of_the_memory_and_not_all() {
        let share = Machine::new().memory();
        assert!(share > 0.0 && share < 1.0, "{share}");
    }
}
