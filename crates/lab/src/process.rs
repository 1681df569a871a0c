//! What a running process uses, as `/proc` says.

/// Clock ticks a second: USER_HZ is 100 on Linux.
const TICKS: f64 = 100.0;

/// What a process has used so far, or within a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time in seconds.
    pub cpu: f64,
    /// Resident memory in MB.
    pub memory_mb: f64,
    /// The most that it ever was.
    pub peak_mb: f64,
}

impl Usage {
    /// Of a running process; nothing of one that is gone.
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = read("stat");
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        // utime and stime are the 14th and 15th of all fields, two of which come before.
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok());
        let status = read("status");
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
        };
        Self { cpu: ticks.sum::<f64>() / TICKS, memory_mb: megabytes("VmRSS:"), peak_mb: megabytes("VmHWM:") }
    }

    /// What was used since `earlier`.
    pub fn after(&self, earlier: &Self) -> Self {
        Self { cpu: self.cpu - earlier.cpu, ..*self }
    }
}
