//! The memory budget that counts when the configuration names none.
//!
//! `auto` is the smaller of 512 MiB and a quarter of what the unit's control group allows, so
//! that the daemon stops its senders long before the kernel stops the daemon.

use crate::pipeline::options::Options;

/// What `auto` never exceeds, in bytes.
const AUTO_MAX: usize = 512 << 20;

/// The budget in bytes.
pub(super) fn of(daemon: &Options) -> usize {
    let given = daemon
        .maybe_size("memory")
        .and_then(|bytes| usize::try_from(bytes).ok());
    given.unwrap_or_else(|| automatic(cgroup_limit()))
}

fn automatic(cgroup: Option<usize>) -> usize {
    cgroup.map_or(AUTO_MAX, |limit| AUTO_MAX.min(limit / 4))
}

/// `memory.max` of our control group (cgroup v2); none where there is no limit or no such file.
fn cgroup_limit() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let file = format!("/sys/fs/cgroup{path}/memory.max");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_group_but_never_more_than_the_most() {
        assert_eq!(automatic(None), AUTO_MAX);
        assert_eq!(automatic(Some(1 << 30)), 256 << 20);
        assert_eq!(automatic(Some(64 << 30)), AUTO_MAX);
    }
}
