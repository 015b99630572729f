//! What the operating system knows of this process, under the names that Prometheus' own clients use. Read when asked for.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalogue::{counter, gauge};
use super::exposition::{Collect, Exposition};
use crate::memory::resident_memory;

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
