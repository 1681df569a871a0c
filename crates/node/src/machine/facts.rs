//! Reads what this machine is from /proc, /sys and /etc. A file that is missing
//! leaves its fact empty.

use std::fs;
use std::path::Path;

/// What the machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processors.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of the file system with the data directory.
    pub storage: u64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Of this boot.
    pub boot_id: String,
    /// Of the hardware, where readable.
    pub system_uuid: String,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: &'static str,
}

/// What is running short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Bytes of a line of /proc/meminfo.
fn meminfo(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let value = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    let kib = value.and_then(|v| v.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Size and free bytes of the file system of a path (or its nearest parent).
fn disk(path: &Path) -> (u64, u64) {
    let found = path.ancestors().find_map(|p| nix::sys::statvfs::statvfs(p).ok());
    found.map_or((0, 0), |s| {
        let block = s.fragment_size();
        (s.blocks() * block, s.blocks_available() * block)
    })
}

/// Reads the machine.
pub fn read(data_dir: &Path) -> Facts {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os_image = os.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let machine_id = line("/etc/machine-id");
    let uuid = line("/sys/class/dmi/id/product_uuid");
    Facts {
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        memory: meminfo("MemTotal"),
        storage: disk(data_dir).0,
        system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
        machine_id,
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel: line("/proc/sys/kernel/osrelease"),
        os_image: os_image.trim_matches('"').to_owned(),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    }
}

/// What is short now. Thresholds are those at which a machine is about to fail, lower
/// than kubelet's, since nothing is evicted yet that could bring relief.
pub fn pressure(data_dir: &Path) -> Pressure {
    let (size, free) = disk(data_dir);
    let used = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let threads =
        used.split(' ').nth(3).and_then(|t| t.split('/').nth(1)).and_then(|t| t.parse::<u64>().ok());
    let max = line("/proc/sys/kernel/pid_max").parse::<u64>().unwrap_or(u64::MAX);
    Pressure {
        memory: meminfo("MemAvailable") < 100 << 20,
        disk: size > 0 && free < (size / 50).min(1 << 30),
        pids: threads.unwrap_or(0) > max - max / 20,
    }
}

/// `node name`: the host name in lower case.
pub fn default_name() -> String {
    line("/proc/sys/kernel/hostname").to_lowercase()
}
