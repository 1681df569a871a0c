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

/// Devices that a container may use besides making nodes: null, zero, full, random, urandom,
/// tty, console, ptmx (character, major and minor), and every pseudo terminal.
pub const DEVICES: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
/// Major number of pseudo terminals.
pub const PTS_MAJOR: u32 = 136;

/// Values for `devices.allow` of v1, after everything has been denied.
pub fn v1_devices() -> Vec<String> {
    let mut values = vec!["c *:* m".to_owned(), "b *:* m".to_owned(), format!("c {PTS_MAJOR}:* rwm")];
    values.extend(DEVICES.iter().map(|(major, minor)| format!("c {major}:{minor} rwm")));
    values
}

/// One eBPF instruction: code, registers (destination low, source high), offset, immediate.
pub type Instruction = (u8, u8, i16, i32);

/// The same rule as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, for v2. Its context is
/// `struct bpf_cgroup_dev_ctx`: access type, major, minor.
pub fn v2_devices() -> Vec<Instruction> {
    const LOAD: u8 = 0x61; // destination = *(u32 *)(source + offset)
    const MOVE: u8 = 0xbf;
    const MOVE_VALUE: u8 = 0xb7;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const JEQ: u8 = 0x15;
    const EXIT: u8 = 0x95;
    const CHARACTER: i32 = 2;
    const MAKE_NODE: i32 = 1;
    // r2 type, r3 access, r4 major, r5 minor
    let mut program = vec![
        (LOAD, 0x12, 0, 0),
        (MOVE, 0x23, 0, 0),
        (AND, 0x02, 0, 0xffff),
        (SHIFT_RIGHT, 0x03, 0, 16),
        (LOAD, 0x14, 4, 0),
        (LOAD, 0x15, 8, 0),
    ];
    let allow = |program: &mut Vec<Instruction>| program.extend([(MOVE_VALUE, 0, 0, 1), (EXIT, 0, 0, 0)]);
    let deny = |program: &mut Vec<Instruction>| program.extend([(MOVE_VALUE, 0, 0, 0), (EXIT, 0, 0, 0)]);
    // Each test that holds falls into an "allow", and jumps over it otherwise.
    program.push((JEQ, 0x03, 1, MAKE_NODE));
    program.push((0x05, 0, 2, 0));
    allow(&mut program);
    program.push((JEQ, 0x02, 2, CHARACTER));
    deny(&mut program);
    program.push((JEQ, 0x04, 1, PTS_MAJOR as i32));
    program.push((0x05, 0, 2, 0));
    allow(&mut program);
    for (major, minor) in DEVICES {
        program.push((JEQ, 0x04, 1, major as i32));
        program.push((0x05, 0, 4, 0));
        program.push((JEQ, 0x05, 1, minor as i32));
        program.push((0x05, 0, 2, 0));
        allow(&mut program);
    }
    deny(&mut program);
    program
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

    /// Runs the program as the kernel would.
    fn device(kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let program = v2_devices();
        let context = [kind | access << 16, major, minor];
        let (mut at, mut registers) = (0usize, [0u64; 10]);
        loop {
            let (code, pair, offset, value) = program[at];
            at += 1;
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            match code {
                0x61 => registers[to] = context[offset as usize / 4].into(),
                0xbf => registers[to] = registers[from],
                0xb7 => registers[to] = value as u64,
                0x57 => registers[to] &= value as u64,
                0x77 => registers[to] >>= value,
                0x05 => at += offset as usize,
                0x15 if registers[to] == value as u64 => at += offset as usize,
                0x15 => {}
                0x95 => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn devices() {
        let (block, character, make, read, write) = (1, 2, 1, 2, 4);
        for (kind, access, major, minor, expect) in [
            (character, read | write, 1, 3, true),
            (character, read, 1, 9, true),
            (character, read, 1, 1, false),
            (character, read, 1, 11, false),
            (character, write, 5, 2, true),
            (character, write, 136, 77, true),
            (character, read, 3, 5, false),
            (block, read, 1, 3, false),
            (block, read, 254, 0, false),
            (block, make, 254, 0, true),
            (character, make, 1, 1, true),
            (character, make | read, 1, 1, false),
        ] {
            assert_eq!(device(kind, access, major, minor), expect, "{kind} {access} {major}:{minor}");
        }
        assert!(v1_devices().contains(&"c 1:3 rwm".to_owned()));
    }

    #[test]
    fn oom_counters() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 1"), 1);
        assert_eq!(oom_kills(""), 0);
    }
}
