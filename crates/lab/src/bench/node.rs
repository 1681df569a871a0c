//! What a node costs and how quick it is: start, pods one after the other and at once, and
//! what remains when nothing happens.
//!
//! Everything runs in a [`Machine`] of its own; its processes are told from others by their
//! PID namespace, and what a container runs has one of its own, so it is not counted.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine::{Machine, run};

/// Ticks of a process's CPU time in a second: the kernel's USER_HZ, the same on every
/// machine that Linux runs on today.
const TICKS: f64 = 100.0;

/// One process of Carrack.
#[derive(Debug, Clone, Copy)]
struct Process {
    pid: u32,
    /// Proportional set size, in kB.
    pss_kb: u64,
    /// CPU time used so far, in ticks.
    ticks: u64,
}

/// What all processes of Carrack in a machine used over a while.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// How many there are.
    pub processes: usize,
    /// Their memory at the end (PSS), in MB.
    pub memory_mb: f64,
    /// Share of one core.
    pub cpu: f64,
    /// How long it was watched.
    pub seconds: f64,
}

fn processes(machine: &Machine) -> Result<Vec<Process>> {
    let home = fs::read_link(machine.namespace("pid"))?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at.
        if let Some(process) = look(&entry.path(), pid, &home) {
            found.push(process);
        }
    }
    Ok(found)
}

fn look(proc: &Path, pid: u32, home: &Path) -> Option<Process> {
    if fs::read_link(proc.join("ns/pid")).ok()? != home {
        return None;
    }
    let name = fs::read_to_string(proc.join("comm")).ok()?;
    if !name.starts_with("carrack") {
        return None;
    }
    let rollup = fs::read_to_string(proc.join("smaps_rollup")).ok()?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Process { pid, pss_kb: pss.trim().trim_end_matches(" kB").parse().ok()?, ticks })
}

/// Counts the syncs of processes until it is ended.
struct Syncs {
    strace: Child,
    out: tempfile::NamedTempFile,
}

impl Syncs {
    fn of(processes: &[Process]) -> Result<Option<Self>> {
        let out = tempfile::NamedTempFile::new()?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-e", "trace=fsync,fdatasync,sync,syncfs,msync,sync_file_range", "-o"]);
        strace.arg(out.path());
        for process in processes {
            strace.args(["-p", &process.pid.to_string()]);
        }
        match strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(strace) => Ok(Some(Self { strace, out })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot start strace"),
        }
    }

    fn end(mut self) -> Result<u64> {
        let pid = nix::unistd::Pid::from_raw(self.strace.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
        self.strace.wait()?;
        let lines = fs::read_to_string(self.out.path())?;
        Ok(lines.lines().filter(|line| line.contains("sync") && !line.contains("resumed")).count() as u64)
    }
}

/// Watches the processes of Carrack in a machine for a while.
///
/// # Errors
/// They cannot be looked at.
pub fn idle(machine: &Machine, time: Duration) -> Result<Idle> {
    let before = processes(machine)?;
    let start = Instant::now();
    std::thread::sleep(time);
    let after = processes(machine)?;
    let seconds = start.elapsed().as_secs_f64();
    let ticks = |all: &[Process]| all.iter().map(|p| p.ticks).sum::<u64>();
    Ok(Idle {
        processes: after.len(),
        memory_mb: after.iter().map(|p| p.pss_kb).sum::<u64>() as f64 / 1024.0,
        cpu: ticks(&after).saturating_sub(ticks(&before)) as f64 / TICKS / seconds,
        seconds,
    })
}

/// Syncs that the processes of Carrack ask the kernel for in a while; `None` where strace is
/// not installed. It stops them at every call, so their CPU time is looked at apart.
///
/// # Errors
/// They cannot be traced.
pub fn syncs(machine: &Machine, time: Duration) -> Result<Option<u64>> {
    let syncs = Syncs::of(&processes(machine)?)?;
    std::thread::sleep(time);
    syncs.map(Syncs::end).transpose()
}

/// Starts `carrack up` with the example, as a user does, and returns what it said.
///
/// # Errors
/// It does not come up.
pub fn up(machine: &Machine, carrack: &Path, data: &Path) -> Result<String> {
    let mut up = machine.command(carrack);
    up.args(["up", "--detach", "--example", "hello", "--node-name", "lab", "--data-dir"]).arg(data);
    run(up, Duration::from_secs(120))
}

/// Stops everything that [`up`] started.
///
/// # Errors
/// `carrack down` fails.
pub fn down(machine: &Machine, carrack: &Path, data: &Path) -> Result<String> {
    let mut down = machine.command(carrack);
    down.args(["down", "--purge", "--data-dir"]).arg(data);
    run(down, Duration::from_secs(120))
}
