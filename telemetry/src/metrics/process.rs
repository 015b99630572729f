//! What the operating system knows of this process, under the names that Prometheus' own clients use. Read when asked for.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalogue::{counter, gauge};
use super::exposition::{Collect, Exposition};

crate::catalogue! {
    "The process", "As Prometheus' own clients name it; of the whole process." {
        CPU = counter("process_cpu_seconds_total", "Processor time of all threads.");
        RESIDENT = gauge("process_resident_memory_bytes", "Memory that is in use.").look("docs/runbook.md, MemoryHigh");
        OPEN_FILES = gauge("process_open_fds", "Open file descriptors: sockets above all.");
        MAX_FILES = gauge("process_max_fds", "How many there may be.");
        STARTED = gauge("process_start_time_seconds", "When the process started, in seconds since 1970.");
    }
}

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    started: Duration,
}

impl Process {
    /// To be made soon after the start of the process, which it takes for its own.
    pub(super) fn new() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

impl Collect for Process {
    fn collect(&self, to: &mut Exposition) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
        to.sample(&CPU, &[], cpu.as_secs_f64());
        // A limit that is none, or a /proc that is hidden, leaves its metric out.
        if let Some(bytes) = resident_memory() {
            to.sample(&RESIDENT, &[], bytes as f64);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // Without the one that lists them.
            to.sample(&OPEN_FILES, &[], files.count().saturating_sub(1) as f64);
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            to.sample(&MAX_FILES, &[], limit as f64);
        }
        to.sample(&STARTED, &[], self.started.as_secs_f64());
    }
}

/// Resident memory of this process, bytes; `None` where the system does not tell.
pub fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(1_024 * kibibytes.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_shows() {
        let before = resident_memory().expect("Linux tells");
        let taken = vec![1_u8; 64 << 20];
        let with = resident_memory().expect("Linux tells");
        assert!(with >= before + (taken.len() as u64) / 2, "{before} -> {with}");
    }
}
