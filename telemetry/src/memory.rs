//! How much memory the process has in use, and may have: as its control groups (v2) or the machine allow.

use std::fs;
use std::path::Path;

/// Where the kernel shows control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// Resident memory of this process, bytes; `None` where the system does not tell.
pub fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(1_024 * kibibytes.parse::<u64>().ok()?)
}

/// Bytes that this process may have in use; `None` where the system does not tell.
pub fn memory_limit() -> Option<u64> {
    let of_groups =
        fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| of_groups(Path::new(GROUPS), &groups));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|info| of_machine(&info));
    of_groups.into_iter().chain(machine).min()
}

/// The least of what its control group and those above it allow. `groups` is what `/proc/self/cgroup` says: `0::/a/b`.
fn of_groups(root: &Path, groups: &str) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(own);
    let above = own.ancestors().take_while(|group| group.starts_with(root));
    // A group without a limit says `max`, and the topmost has no such file.
    above.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()).min()
}

fn of_machine(info: &str) -> Option<u64> {
    let kibibytes = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?;
    Some(1_024 * kibibytes.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_use_more_than_it_does() {
        let limit = memory_limit().expect("Linux tells");
        assert!(limit > resident_memory().expect("Linux tells"), "{limit}");
    }

    #[test]
    fn memory_that_is_taken_shows() {
        let before = resident_memory().expect("Linux tells");
        let taken = vec![1_u8; 64 << 20];
        let with = resident_memory().expect("Linux tells");
        assert!(with >= before + (taken.len() as u64) / 2, "{before} -> {with}");
    }

    #[test]
    fn the_narrowest_group_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |group: &str, limit: &str| {
            fs::create_dir_all(root.path().join(group)).expect("made");
            fs::write(root.path().join(group).join("memory.max"), limit).expect("written");
        };
        write("pods/one", "max\n");
        let of = |groups: &str| of_groups(root.path(), groups);
        assert_eq!(of("0::/pods/one\n"), None);
        write("pods", "3000\n");
        write("pods/one/inner", "5000\n");
        assert_eq!(of("0::/pods/one/inner\n"), Some(3_000));
        assert_eq!(of("1:memory:/pods\n"), None, "of another time");
        // As a container sees its own.
        write("", "2000\n");
        assert_eq!(of("0::/\n"), Some(2_000));
    }

    #[test]
    fn a_machine_has_so_much() {
        assert_eq!(of_machine("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert_eq!(of_machine("MemFree: 1 kB\n"), None);
    }
}
