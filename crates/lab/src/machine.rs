//! A machine of its own: process, mount, network, host-name and IPC namespaces, and a
//! control group that it sees as the root of each hierarchy.
//!
//! Its network has a loopback and one link with an address and a default route that
//! lead nowhere. The file system is the host's, with private mounts. Killing its first
//! process kills every process in it; mounts, links and rules go with the namespaces.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::images;

/// Address of the machine on its one link.
pub const ADDRESS: &str = "10.77.0.2";

/// Sets the link up, says so, and waits to be killed, burying orphans meanwhile.
const INIT: &str = r#"
set -e
B=$1
$B ip link set lo up
$B ip link add e0 type bridge
echo 1 > /proc/sys/net/ipv6/conf/e0/addr_gen_mode 2>/dev/null || true
$B ip addr add 10.77.0.2/24 dev e0
$B ip link set e0 up
$B ip route add default via 10.77.0.1 dev e0
$B hostname lab
for H in $2; do
  $B mount -o bind "$H/$3" "$H"
done
$B sleep 86400 &
# Ready is when nothing changes any more by itself.
for I in 1 2 3 4 5 6 7 8 9; do
  [ "$($B tr '\0' ' ' < /proc/$!/cmdline)" = "$B sleep 86400 " ] && break
  $B sleep 0.01
done
echo ready
wait
"#;

/// A running machine; dropped, it is gone.
pub struct Machine {
    init: Child,
    /// Process id, on the host, of the machine's first process.
    pid: i32,
    dir: tempfile::TempDir,
    /// Gone after the processes that are in them.
    _groups: Groups,
}

/// A group of the machine's own in each hierarchy of control groups, bound over the root:
/// two machines would otherwise remove each other's groups.
struct Groups {
    /// Mount points of the hierarchies.
    hierarchies: Vec<PathBuf>,
    name: String,
}

impl Groups {
    fn make(name: String) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let of = |line: &str| -> Option<PathBuf> {
            let (place, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup").then(|| place.split(' ').nth(4).map(PathBuf::from))?
        };
        let groups = Self { hierarchies: mounts.lines().filter_map(of).collect(), name };
        for hierarchy in &groups.hierarchies {
            // Only v2 has this file; a group has the controllers that its parent hands down.
            let handed = hierarchy.join("cgroup.subtree_control");
            if handed.exists() {
                for controller in ["+cpu", "+memory", "+pids"] {
                    let _ = std::fs::write(&handed, controller);
                }
            }
            let dir = hierarchy.join(&groups.name);
            std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(groups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.join(&self.name);
            // Its last processes may still be on their way out.
            let _ = until(Duration::from_secs(2), || Ok(remove_groups(&dir)?));
        }
    }
}

/// Removes a group and those below it; files in it go by themselves.
fn remove_groups(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    std::fs::remove_dir(dir)
}

impl Machine {
    /// Starts one.
    ///
    /// # Errors
    /// Without root, or when busybox cannot be had.
    pub fn start() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the lab makes namespaces and needs root");
        let busybox = images::busybox()?;
        let dir = tempfile::Builder::new().prefix("lab-").tempdir_in(crate::paths::cache()?)?;
        let name = dir.path().file_name().context("a directory has a name")?.to_string_lossy().into_owned();
        let groups = Groups::make(name)?;
        let hierarchies: Vec<_> = groups.hierarchies.iter().map(|path| path.to_string_lossy()).collect();
        let mut init = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"])
            .arg(&busybox)
            .args(["sh", "-c", INIT, "init"])
            .arg(&busybox)
            .arg(hierarchies.join(" "))
            .arg(&groups.name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare (Debian's util-linux)")?;
        let mut line = String::new();
        let stdout = init.stdout.take().context("piped above")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "ready\n", "the machine did not come up");
        let pid = child_of(init.id())?;
        Ok(Self { init, pid, dir, _groups: groups })
    }

    /// A directory of the machine's own, removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command that will run in the machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--"]);
        command.arg(program);
        command
    }

    /// A busybox applet that will run in the machine.
    ///
    /// # Errors
    /// Busybox cannot be had.
    pub fn busybox(&self, applet: &str) -> Result<Command> {
        let mut command = self.command(images::busybox()?);
        command.arg(applet);
        Ok(command)
    }

    /// Runs `work` on a thread of its own whose sockets are the machine's. Threads that
    /// it starts are in the machine's network too.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = self.namespace("net");
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(&path).expect("the machine runs");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("the lab runs as root");
            work()
        })
    }

    /// Process id, on the host, of the machine's first process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The namespace's file, for `setns`.
    pub fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.pid).into()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        let _ = self.init.wait();
    }
}

/// The only child of a process that has just forked.
fn child_of(pid: u32) -> Result<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    children.trim().parse().with_context(|| format!("{path}: {children:?}"))
}

/// Runs a command to its end, at most `limit`, and returns its output whatever its
/// exit code.
///
/// # Errors
/// It cannot be started, or does not end in time (and is killed).
pub fn output(mut command: Command, limit: Duration) -> Result<Output> {
    let said = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot start {said}"))?;
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match receive.recv_timeout(limit) {
        Ok(output) => Ok(output?),
        Err(_) => {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            bail!("{said} did not end within {limit:?}")
        }
    }
}

/// Runs a command that must succeed and returns what it printed.
///
/// # Errors
/// As [`output`], or it fails: the error holds what it said.
pub fn run(command: Command, limit: Duration) -> Result<String> {
    let said = format!("{command:?}");
    let output = output(command, limit)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{said}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// Calls `probe` until it answers, at most `limit`; for what has no watch, such as a
/// program that is about to listen.
///
/// # Errors
/// The last error of the probe.
pub fn until<T>(limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => {
                return Err(error.context(format!("gave up after {limit:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
