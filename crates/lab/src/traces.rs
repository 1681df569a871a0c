//! What a machine looks like, so that before and after can be compared: processes,
//! mounts, links, routes, nf_tables, settings, conntrack, control groups and files.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::images;
use crate::machine::{Machine, run};

/// Each thing on a line of its own, its sort before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces(pub BTreeSet<String>);

/// Places where a cluster might leave files.
const FILES: &[&str] = &["/etc", "/opt", "/run", "/srv", "/usr/local", "/var/cache", "/var/lib", "/var/log"];

impl Traces {
    /// Looks at a machine.
    ///
    /// # Errors
    /// A probe cannot be run.
    pub fn of(machine: &Machine) -> Result<Self> {
        let mut found = BTreeSet::new();
        let mut add = |sort: &str, text: String| {
            found.extend(
                text.lines().map(str::trim_end).filter(|l| !l.is_empty()).map(|l| format!("{sort}: {l}")),
            );
        };
        let busybox = |words: &[&str]| -> Result<String> {
            let mut command = machine.busybox(words[0])?;
            command.args(&words[1..]);
            run(command, Duration::from_secs(20))
        };
        add("process", processes(&busybox(&["ps", "-o", "pid,args"])?));
        add("mount", mounts(&busybox(&["cat", "/proc/self/mountinfo"])?));
        add("address", busybox(&["ip", "-o", "addr"])?);
        add("route", busybox(&["ip", "route", "show", "table", "all"])?);
        add("rule", busybox(&["ip", "rule"])?);
        add("setting", settings(machine)?);
        add("conntrack", conntrack(machine)?);
        add("nftables", nftables(machine)?);
        add("cgroup", busybox(&["find", "/sys/fs/cgroup", "-type", "d"])?);
        let mut files = vec!["find"];
        files.extend(FILES.iter().filter(|path| Path::new(path).exists()));
        files.extend(["-xdev"]);
        add("file", busybox(&files)?);
        Ok(Self(found))
    }

    /// What `later` has more (`+`) or less (`-`), a line each; empty when nothing.
    pub fn difference(&self, later: &Self) -> String {
        let mut text = String::new();
        for line in later.0.difference(&self.0) {
            let _ = writeln!(text, "+ {line}");
        }
        for line in self.0.difference(&later.0) {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}

/// Processes without their ids and without the probe itself.
fn processes(text: &str) -> String {
    let command = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    let own = |line: &String| !line.contains("ps -o pid,args") && line != "COMMAND";
    text.lines().map(command).filter(own).collect::<Vec<_>>().join("\n")
}

/// Mounts by what they are, without the ids that change.
fn mounts(text: &str) -> String {
    text.lines()
        .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Network settings with their values; not those that count.
fn settings(machine: &Machine) -> Result<String> {
    let mut command = machine.busybox("sh")?;
    command.args(["-c", "grep -r . /proc/sys/net 2>/dev/null || true"]);
    let text = run(command, Duration::from_secs(60))?;
    let counts = ["nf_conntrack_count", "stable_secret", "nf_conntrack_generic_timeout", "random"];
    Ok(text.lines().filter(|l| !counts.iter().any(|c| l.contains(c))).collect::<Vec<_>>().join("\n"))
}

fn conntrack(machine: &Machine) -> Result<String> {
    let mut command = machine.busybox("sh")?;
    command.args(["-c", "cat /proc/net/nf_conntrack 2>/dev/null || true"]);
    let text = run(command, Duration::from_secs(20))?;
    // Entries of the loopback live and die by themselves; timers differ. The kernel reports
    // multicast memberships (224.0.0.22) of the machine's link at a random moment.
    let lasting = |line: &&str| !line.contains("src=127.0.0.1") && !line.contains("dst=224.0.0.22");
    let place =
        |line: &str| line.split_whitespace().filter(|w| w.contains('=')).collect::<Vec<_>>().join(" ");
    Ok(text.lines().filter(lasting).map(place).collect::<Vec<_>>().join("\n"))
}

/// All tables, as Debian's `nft` lists them.
fn nftables(machine: &Machine) -> Result<String> {
    let tree = images::packages(&[
        "nftables",
        "libnftables1",
        "libnftnl11",
        "libmnl0",
        "libjansson4",
        "libgmp10",
        "libxtables12",
        "libedit2",
        "libbsd0",
        "libmd0",
        "libtinfo6",
    ])?;
    let mut command = machine.command(nft_loader());
    command
        .args(["--library-path", &libraries(&tree)])
        .arg(tree.join("usr/sbin/nft"))
        .args(["list", "tables"]);
    run(command, Duration::from_secs(20))
}

fn nft_loader() -> PathBuf {
    "/lib64/ld-linux-x86-64.so.2".into()
}

fn libraries(tree: &Path) -> String {
    let places = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
    places.map(|place| tree.join(place).display().to_string()).join(":")
}
