//! Control groups, the pure part: which hierarchies a machine has, and which files
//! take which values for given limits.
//!
//! What always holds: cgroup v2 is used for limits when it carries the controllers,
//! v1 otherwise (also in the hybrid layout, where v2 is mounted beside v1 without any).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::spec::Resources;

/// The controllers that limits need.
pub const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What is mounted where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// cgroup v1: mount point of each controller, and of `name=systemd`.
    pub v1: BTreeMap<String, PathBuf>,
    /// cgroup v2, wherever it is mounted.
    pub v2: Option<PathBuf>,
}

impl Hierarchies {
    /// From the text of `/proc/self/mountinfo`.
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount_point) = before.split(' ').nth(4) else {
                continue;
            };
            let mut after = after.split(' ');
            let kind = after.next().unwrap_or_default();
            let options = after.nth(1).unwrap_or_default();
            let mount_point = PathBuf::from(mount_point.replace("\\040", " "));
            match kind {
                "cgroup2" => {
                    found.v2.get_or_insert(mount_point);
                }
                "cgroup" => {
                    let controllers = options.split(',').filter(|o| !matches!(*o, "rw" | "ro"));
                    for controller in controllers {
                        found.v1.entry(controller.to_owned()).or_insert(mount_point.clone());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// True when limits go to v2: no controller of ours is bound to v1.
    pub fn unified(&self) -> bool {
        self.v2.is_some() && !CONTROLLERS.iter().any(|c| self.v1.contains_key(*c))
    }
}

/// Whether a process is in the root group of the hierarchy that `/proc/<pid>/cgroup` calls
/// `name` (empty for v2).
pub fn at_root(proc_cgroup: &str, name: &str) -> bool {
    let line = proc_cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        controllers.split(',').any(|c| c == name).then_some(path)
    });
    line.is_none_or(|path| path == "/")
}

/// Values to write for v1: controller, file, value, in order.
pub fn v1_values(resources: &Resources) -> Vec<(&'static str, &'static str, String)> {
    let mut values = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        values.push(("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string()));
    }
    if let Some(quota) = resources.cpu_quota {
        let period = resources.cpu_period.unwrap_or(100_000);
        values.push(("cpu", "cpu.cfs_period_us", period.to_string()));
        values.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
    }
    if let Some(limit) = resources.memory_limit {
        values.push(("memory", "memory.limit_in_bytes", limit.to_string()));
    }
    if let Some(limit) = resources.pids_limit {
        values.push(("pids", "pids.max", limit.to_string()));
    }
    values
}

/// Values to write for v2: file, value, in order.
pub fn v2_values(resources: &Resources) -> Vec<(&'static str, String)> {
    let mut values = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        // Kubernetes' conversion (KEP-2254): [2, 262144] onto [1, 10000].
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142;
        values.push(("cpu.weight", weight.to_string()));
    }
    if let Some(quota) = resources.cpu_quota {
        let period = resources.cpu_period.unwrap_or(100_000);
        let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
        values.push(("cpu.max", format!("{quota} {period}")));
    }
    if let Some(limit) = resources.memory_limit {
        values.push(("memory.max", limit.to_string()));
        values.push(("memory.oom.group", "1".to_owned()));
    }
    if let Some(limit) = resources.pids_limit {
        values.push(("pids.max", limit.to_string()));
    }
    values
}

/// The `oom_kill` counter of `memory.oom_control` (v1) or `memory.events` (v2).
pub fn oom_kills(text: &str) -> u64 {
    let counter = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    counter.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd
35 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn layouts() {
        let hybrid = Hierarchies::parse(HYBRID);
        assert!(!hybrid.unified());
        assert_eq!(hybrid.v1["cpu"], PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(hybrid.v1["name=systemd"], PathBuf::from("/sys/fs/cgroup/systemd"));
        assert_eq!(hybrid.v2, Some("/sys/fs/cgroup/unified".into()));
        let v2 = Hierarchies::parse("30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw");
        assert!(v2.unified());
        assert_eq!(Hierarchies::parse(""), Hierarchies::default());
    }

    #[test]
    fn own_place() {
        let text = "7:cpu,cpuacct:/\n1:name=systemd:/system.slice/x.service\n0::/";
        for (name, expect) in
            [("cpu", true), ("cpuacct", true), ("name=systemd", false), ("", true), ("blkio", true)]
        {
            assert_eq!(at_root(text, name), expect, "{name}");
        }
    }

    #[test]
    fn values() {
        let limits = Resources {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            memory_limit: Some(64 << 20),
            pids_limit: Some(100),
            ..Resources::default()
        };
        let v2: Vec<String> =
            v2_values(&limits).iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            v2,
            [
                "cpu.weight=20",
                "cpu.max=50000 100000",
                "memory.max=67108864",
                "memory.oom.group=1",
                "pids.max=100"
            ]
        );
        let v1: Vec<String> =
            v1_values(&limits).iter().map(|(_, file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            v1,
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=67108864",
                "pids.max=100"
            ]
        );
        assert!(v1_values(&Resources::default()).is_empty());
    }

    #[test]
    fn weight_ends() {
        for (shares, weight) in [(0, "1"), (2, "1"), (1024, "39"), (262_144, "10000")] {
            let limits = Resources { cpu_shares: Some(shares), ..Resources::default() };
            assert_eq!(v2_values(&limits)[0].1, weight);
        }
    }

    #[test]
    fn oom_counters() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 1"), 1);
        assert_eq!(oom_kills(""), 0);
    }
}
