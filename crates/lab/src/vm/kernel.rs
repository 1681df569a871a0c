//! What a virtual machine boots: Debian's kernel for clouds, and an initial file system
//! with busybox, the carrack binary, the modules for the disk and the network, and a first
//! process that mounts the disk and starts the server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::initramfs::Archive;
use crate::machine::run;
use crate::{images, paths};

const PATIENCE: Duration = Duration::from_secs(300);

/// The package that depends on the kernel of the day.
const NEWEST: &str = "linux-image-cloud-amd64";

/// Modules for qemu's disk and network, each after those that it needs.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// The first process. What it has to say to the lab begins with `LAB`. Two options of ext4
/// that mend what programs forget are off: renames do not write files back, and metadata
/// waits half a minute for whoever does not sync.
const INIT: &str = r#"#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
for M in /modules/*; do $B insmod $M; done
$B ip link set lo up
$B ip addr add 10.0.2.15/24 dev eth0
$B ip link set eth0 up
$B mount -t ext4 -o noatime,noauto_da_alloc,commit=30 /dev/vda /data || { echo "LAB broken: the disk cannot be mounted"; $B poweroff -f; }
echo "LAB clock $($B date -u +%s)"
told() { $B grep -qw "$1" /proc/cmdline; }
if told lab.check && [ -e /data/carrack/carrack.db ]; then
  /carrack check --data-dir /data/carrack 2>&1 || { echo "LAB broken: check"; $B poweroff -f; }
fi
$B httpd -p 10.0.2.15:8000 -h /data
if told lab.kubectl; then
  (
    K="/kubectl --kubeconfig /data/carrack/kubeconfig --cache-dir /tmp"
    until $K get --raw /readyz >/tmp/said 2>&1 || [ $((N += 1)) = 20 ]; do $B sleep 1; done
    echo "LAB kubectl readyz: $($B head -c 300 /tmp/said)"
    echo "LAB kubectl create: $($K create configmap clock-$($B date -u +%s) 2>&1 | $B head -c 300)"
    echo "LAB kubectl done"
  ) &
fi
/carrack server --data-dir /data/carrack --listen 10.0.2.15:6443 --node-address 10.0.2.15 --node-name lab --simulate 3 --simulate-heartbeat 1s --log warn 2>&1
echo "LAB broken: the server ended with $?"
$B poweroff -f
"#;

/// A kernel and its initial file system.
pub struct Kernel {
    /// The kernel.
    pub image: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
}

impl Kernel {
    /// Fetches the kernel, once, and makes an initial file system in `dir`; with `kubectl`
    /// in it if wanted.
    ///
    /// # Errors
    /// Packages cannot be had, or the carrack binary is not built.
    pub fn get(dir: &Path, kubectl: bool) -> Result<Self> {
        let tree = images::packages(&[package()?.as_str()])?;
        let image = only(&tree.join("boot"), "vmlinuz-")?;
        let modules = only(&tree.join("lib/modules"), "")?.join("kernel");
        let initramfs = dir.join("initramfs");
        let mut archive = Archive::new(std::io::BufWriter::new(std::fs::File::create(&initramfs)?));
        for path in ["bin", "data", "dev", "modules", "proc", "sys", "tmp"] {
            archive.directory(path)?;
        }
        archive.file("init", INIT.as_bytes())?;
        let mut program = |path: &str, from: &Path| -> Result<()> {
            let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
            Ok(archive.file(path, &content)?)
        };
        program("bin/busybox", &images::busybox()?)?;
        program("carrack", &paths::carrack()?)?;
        if kubectl {
            program("kubectl", &paths::upstream("kubectl")?)?;
        }
        for (number, module) in MODULES.iter().enumerate() {
            let from = modules.join(format!("{module}.ko"));
            let name = from.file_name().context("a module has a name")?.to_string_lossy();
            program(&format!("modules/{number}-{name}"), &from)?;
        }
        archive.finish()?;
        Ok(Self { image, initramfs })
    }
}

/// The name of the kernel's package: of one that was fetched before, or of the newest.
fn package() -> Result<String> {
    let family =
        |name: &str| name.starts_with("linux-image-") && name.ends_with("-cloud-amd64") && name != NEWEST;
    if let Ok(trees) = std::fs::read_dir(paths::cache()?.join("trees")) {
        let names = trees.flatten().map(|tree| tree.file_name().to_string_lossy().into_owned());
        if let Some(name) = names.filter(|name| family(name)).max() {
            return Ok(name);
        }
    }
    let ask = || -> Result<String> {
        let mut command = Command::new("apt-cache");
        command.args(["depends", NEWEST]);
        let said = run(command, PATIENCE)?;
        let names = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        names.map(str::to_owned).find(|name| family(name)).with_context(|| format!("no kernel in {said:?}"))
    };
    ask().or_else(|_| {
        // A new machine has no package lists yet.
        let mut update = Command::new("apt-get");
        update.args(["-qq", "update"]);
        run(update, PATIENCE)?;
        ask()
    })
}

/// The only entry of a directory whose name begins so.
fn only(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(fits).collect();
    ensure!(found.len() == 1, "{} of {prefix}* in {}", found.len(), dir.display());
    Ok(found[0].clone())
}

/// An empty ext4 file system, in blocks of the disk's sectors.
///
/// # Errors
/// There is no `mkfs.ext4` (Debian's e2fsprogs).
pub fn file_system(dir: &Path) -> Result<Vec<u8>> {
    const SIZE: u64 = 256 << 20;
    let path = dir.join("empty.ext4");
    std::fs::File::create(&path)?.set_len(SIZE)?;
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&path);
    run(command, PATIENCE).context("needs mkfs.ext4 (Debian's e2fsprogs)")?;
    let content = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    Ok(content)
}
