//! What the system tells of this process: processor time over what there is of it, and memory likewise. What there is may be less than
//! the machine has: a container's share.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Where the second version of control groups is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

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
        match (telemetry::metrics::resident_memory(), self.memory) {
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

/// The least that any control group around the process may use, or the machine has.
fn memory_limit() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_path(&text).map(str::to_owned));
    let group = group.and_then(|group| least_limit(Path::new(CGROUPS), &group));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    [group, machine].into_iter().flatten().min()
}

/// The process' group of the second version, from the root on.
fn group_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn least_limit(root: &Path, group: &str) -> Option<u64> {
    let limit = |directory: &Path| fs::read_to_string(directory.join("memory.max")).ok()?.trim().parse().ok();
    let own = root.join(group);
    own.ancestors().take_while(|directory| directory.starts_with(root)).filter_map(limit).min()
}

/// `MemTotal` in bytes.
fn total(text: &str) -> Option<u64> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?;
    Some(kibibytes.parse::<u64>().ok()? * 1_024)
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

    #[test]
    fn a_group_may_use_no_more_than_those_around_it() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).expect("made");
        let limit = |directory: &Path, text: &str| fs::write(directory.join("memory.max"), text).expect("written");
        limit(&inner, "max\n");
        assert_eq!(least_limit(root.path(), "outer/inner"), None);
        limit(&root.path().join("outer"), "1000\n");
        assert_eq!(least_limit(root.path(), "outer/inner"), Some(1_000));
        limit(&inner, "500\n");
        assert_eq!(least_limit(root.path(), "outer/inner"), Some(500));
        assert_eq!(least_limit(root.path(), "elsewhere"), None);
    }

    #[test]
    fn what_the_system_writes_is_read() {
        assert_eq!(group_path("1:cpu:/x\n0::/system.slice/edge.service\n"), Some("system.slice/edge.service"));
        assert_eq!(group_path("1:cpu:/x\n"), None);
        assert_eq!(total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16_384));
    }
}
