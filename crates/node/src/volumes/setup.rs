//! Puts volumes onto the node, and takes them away. Blocking: call it from a
//! blocking thread.
//!
//! Layout, as kubelet's: `<root>/pods/<uid>/volumes/<plugin>/<name>`, and the same
//! below `<root>/memory` (one tmpfs for all) for what must not reach the disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Wanted, writer};

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file or directory.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A hostPath is not what its type says.
    #[error("hostPath type check failed: {0}")]
    HostPath(String),
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { what, path, source }
}

/// Where the agent keeps things.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `<data-dir>/node`.
    pub root: PathBuf,
    /// Container logs: `<logs>/<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub logs: PathBuf,
}

impl Paths {
    /// A pod's directory.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    fn memory(&self) -> PathBuf {
        self.root.join("memory")
    }

    /// A pod's directory of logs.
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }

    /// Makes the directories and the tmpfs for secrets (or finds it from before).
    pub fn prepare(&self) -> Result<(), VolumeError> {
        for dir in [&self.root, &self.logs] {
            fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        }
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o750))
            .map_err(io_error("set mode of", &self.root))?;
        let memory = self.memory();
        fs::create_dir_all(&memory).map_err(io_error("create", &memory))?;
        if !is_mount(&memory) {
            tmpfs(&memory, "mode=0750")?;
        }
        Ok(())
    }

    /// Takes every mount below the root away and removes the root and the logs.
    pub fn purge(&self) -> Result<(), VolumeError> {
        unmount_below(&self.root)?;
        for dir in [&self.root, &self.logs] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", dir)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes one volume as wanted and gives its path.
pub fn set_up(
    paths: &Paths,
    uid: &str,
    name: &str,
    wanted: &Wanted,
    stamp: &str,
    fs_group: Option<u32>,
) -> Result<PathBuf, VolumeError> {
    let below = |base: PathBuf, plugin: &str| base.join("volumes").join(plugin).join(name);
    match wanted {
        Wanted::HostPath { path, kind } => {
            check_host_path(Path::new(path), kind)?;
            Ok(PathBuf::from(path))
        }
        Wanted::EmptyDir { memory, size } => {
            let dir = below(paths.pod(uid), "kubernetes.io~empty-dir");
            fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
            if *memory && !is_mount(&dir) {
                let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
                tmpfs(&dir, &format!("mode=0777{size}"))?;
            }
            let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
            if fs_group.is_some() {
                std::os::unix::fs::chown(&dir, None, fs_group).map_err(io_error("change owner of", &dir))?;
            }
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode))
                .map_err(io_error("set mode of", &dir))?;
            Ok(dir)
        }
        Wanted::Files { plugin, memory, payload } => {
            let base = if *memory { paths.memory().join(uid) } else { paths.pod(uid) };
            let dir = below(base, plugin);
            fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))
                .map_err(io_error("set mode of", &dir))?;
            writer::write(&dir, payload, stamp, fs_group).map_err(io_error("write", &dir))?;
            Ok(dir)
        }
    }
}

/// Removes a pod's volumes and directory.
pub fn tear_down(paths: &Paths, uid: &str) -> Result<(), VolumeError> {
    if uid.is_empty() || uid.contains('/') || uid.starts_with('.') {
        return Ok(());
    }
    let dir = paths.pod(uid);
    unmount_below(&dir)?;
    for dir in [dir, paths.memory().join(uid)] {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &dir)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `type` of a hostPath: checks, and creates where it says so.
fn check_host_path(path: &Path, kind: &str) -> Result<(), VolumeError> {
    let found = fs::metadata(path).ok().map(|meta| meta.file_type());
    let text = path.display();
    let (fits, what) = match kind {
        "" => {
            // As docker did: what is not there becomes a directory.
            if found.is_none() {
                fs::create_dir_all(path).map_err(io_error("create", path))?;
            }
            return Ok(());
        }
        "DirectoryOrCreate" if found.is_none() => {
            return fs::create_dir_all(path).map_err(io_error("create", path));
        }
        "FileOrCreate" if found.is_none() => {
            return fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(drop)
                .map_err(io_error("create", path));
        }
        "Directory" | "DirectoryOrCreate" => (found.is_some_and(|t| t.is_dir()), "a directory"),
        "File" | "FileOrCreate" => (found.is_some_and(|t| t.is_file()), "a file"),
        "Socket" => (found.is_some_and(|t| t.is_socket()), "a socket file"),
        "CharDevice" => (found.is_some_and(|t| t.is_char_device()), "a character device"),
        "BlockDevice" => (found.is_some_and(|t| t.is_block_device()), "a block device"),
        other => return Err(VolumeError::HostPath(format!("{text}: unknown type {other}"))),
    };
    if fits { Ok(()) } else { Err(VolumeError::HostPath(format!("{text} is not {what}"))) }
}

fn tmpfs(dir: &Path, options: &str) -> Result<(), VolumeError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options))
        .map_err(|errno| io_error("mount a tmpfs on", dir)(errno.into()))
}

fn is_mount(dir: &Path) -> bool {
    mounts_below(dir).is_ok_and(|mounts| mounts.iter().any(|m| m == dir))
}

/// Mount points at or below a directory, from the kernel's own list.
fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.map(PathBuf::from).filter(|point| point.starts_with(&dir)).collect())
}

/// Octal escapes of mountinfo: space, tab, newline, backslash.
fn unescape(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
}

fn unmount_below(dir: &Path) -> Result<(), VolumeError> {
    let mut mounts = mounts_below(dir).map_err(io_error("list mounts below", dir))?;
    mounts.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in mounts {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|errno| io_error("unmount", &point)(errno.into()))?;
    }
    Ok(())
}

/// Sizes of what a pod's volumes and files on the node come to, by container.
pub type VolumePaths = BTreeMap<String, PathBuf>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_path_types() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("f");
        fs::write(&file, "").expect("written");
        let cases = [
            (dir.path().to_owned(), "Directory", true),
            (file.clone(), "Directory", false),
            (file.clone(), "File", true),
            (file, "Socket", false),
            (dir.path().join("new"), "Directory", false),
            (dir.path().join("new"), "DirectoryOrCreate", true),
            (dir.path().join("new"), "Directory", true),
            (dir.path().join("newfile"), "FileOrCreate", true),
            ("/dev/null".into(), "CharDevice", true),
        ];
        for (path, kind, fits) in cases {
            assert_eq!(check_host_path(&path, kind).is_ok(), fits, "{} {kind}", path.display());
        }
    }

    #[test]
    fn plain_directories_come_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths { root: dir.path().join("node"), logs: dir.path().join("logs") };
        let wanted = Wanted::EmptyDir { memory: false, size: None };
        let made = set_up(&paths, "u1", "v", &wanted, "t", None).expect("made");
        assert_eq!(fs::metadata(&made).expect("there").permissions().mode() & 0o777, 0o777);
        tear_down(&paths, "u1").expect("gone");
        assert!(!made.exists());
        tear_down(&paths, "u1").expect("still gone");
        tear_down(&paths, "").expect("nothing");
    }
}
