//! A container's file system: runs in the new process, in its new mount namespace.
//!
//! What always holds: sources are opened before anything changes, and targets are resolved
//! by the kernel below the root (`openat2` with `RESOLVE_IN_ROOT`) and mounted on by
//! descriptor, so that no symbolic link of an image or a volume, swapped at any moment,
//! leads out (CVE-2021-25741, CVE-2025-52565 and their kin). Masks are checked to be the
//! real `/dev/null` (CVE-2025-31133). Everything lives in the container's own mount
//! namespace, overlay included, and goes with it: the node sees no mount, and none leaks.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat, stat};
use nix::unistd::symlinkat;

use crate::bundle::oci::{Config, OciMount};
use crate::bundle::{Launch, Overlay};
use crate::shim::failure::{Failure, Step};
use crate::sys::{self, MountAttr};

/// Devices every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

type Done<T = ()> = Result<T, Failure>;

/// Builds the tree at `bundle/rootfs` and answers its root. `shm` is the pod's `/dev/shm`.
pub fn build(config: &Config, launch: &Launch, bundle: &Path, shm: &OwnedFd) -> Done<OwnedFd> {
    let sources = config.mounts.iter().map(open_source).collect::<Done<Vec<_>>>()?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .step(|| "make mounts private".to_owned())?;
    let root = mount_overlay(&launch.rootfs, &bundle.join(&config.root.path), launch.privileged)?;
    for (mount, source) in config.mounts.iter().zip(sources) {
        attach(&root, mount, source, launch, shm)
            .map_err(|e| Failure::Other(format!("mount {}: {e}", mount.destination)))?;
    }
    if config.process.terminal {
        ensure(&root, "/dev/console", false)?;
    }
    protect(&root, config)?;
    Ok(root)
}

/// What is mounted from the node, as a detached mount; None for a file system of its own.
fn open_source(mount: &OciMount) -> Done<Option<OwnedFd>> {
    let recursive = mount.options.iter().any(|o| o == "rbind");
    match (mount.kind.as_str(), &mount.sub_path) {
        ("bind", None) => sys::open_tree(None, &mount.source, recursive)
            .step(|| format!("mount {}: open \"{}\"", mount.destination, mount.source))
            .map(Some),
        ("carrack-subpath", Some(sub_path)) => {
            let place = open_sub_path(&mount.source, sub_path)?;
            let step = || format!("mount {}: open subPath \"{sub_path}\"", mount.destination);
            sys::open_tree(Some(place.as_fd()), "", recursive).step(step).map(Some)
        }
        _ => Ok(None),
    }
}

/// Opens `sub_path` below `base` and nowhere else; makes what is missing as directories.
fn open_sub_path(base: &str, sub_path: &str) -> Done<OwnedFd> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base_fd = open(base, directory, Mode::empty()).step(|| format!("open \"{base}\""))?;
    let below = |path: &str| {
        sys::openat2(
            Some(base_fd.as_fd()),
            &c_string(path)?,
            libc::O_PATH,
            0,
            sys::RESOLVE_BENEATH | sys::RESOLVE_NO_MAGICLINKS,
        )
    };
    let step = || format!("subPath \"{sub_path}\" of volume \"{base}\"");
    match below(sub_path) {
        Err(Errno::ENOENT) => {}
        found => return found.step(step),
    }
    let mut walked = String::new();
    let mut current = below(".").step(step)?;
    for part in sub_path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if !walked.is_empty() {
            walked.push('/');
        }
        walked.push_str(part);
        match mkdirat(&current, part, Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).step(step),
        }
        current = below(&walked).step(step)?;
    }
    Ok(current)
}

fn c_string(path: &str) -> nix::Result<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}

fn mount_overlay(overlay: &Overlay, target: &Path, privileged: bool) -> Done<OwnedFd> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open_dir =
        |dir: &Path| open(dir, directory, Mode::empty()).step(|| format!("open {}", dir.display()));
    let (upper, work) = (open_dir(&overlay.upper)?, open_dir(&overlay.work)?);
    // Relative and by descriptor: short, and free of characters that need escaping.
    nix::unistd::chdir(&overlay.layers_dir).step(|| "enter the layers".to_owned())?;
    let options = format!(
        "lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
        overlay.lower.join(":"),
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    let flags = if privileged { MsFlags::empty() } else { MsFlags::MS_NODEV };
    // volatile: the writable layer never outlives a crash of the node, so nothing in it
    // needs syncing, least of all when it is unmounted.
    let try_mount = |options: &str| mount(Some("overlay"), target, Some("overlay"), flags, Some(options));
    match try_mount(&format!("{options},volatile")) {
        Err(Errno::EINVAL) => try_mount(&options),
        done => done,
    }
    .step(|| {
        "mount the image's layers (the data directory must be on a file system that overlayfs can write to)"
            .to_owned()
    })?;
    open_dir(target)
}

fn attach(root: &OwnedFd, mount: &OciMount, source: Option<OwnedFd>, launch: &Launch, shm: &OwnedFd) -> Done {
    let to = mount.destination.as_str();
    let tree = match (mount.kind.as_str(), source) {
        (_, Some(tree)) => {
            set_attributes(&tree, &mount.options)?;
            tree
        }
        ("carrack-shm", _) => {
            sys::open_tree(Some(shm.as_fd()), "", false).step(|| "open the pod's shm".to_owned())?
        }
        ("cgroup", _) => return attach_cgroups(root, mount, launch),
        (kind, _) => new_file_system(kind, &mount.options)?,
    };
    let is_dir = is_dir(&tree)?;
    let place = ensure(root, to, is_dir)?;
    sys::move_mount(tree.as_fd(), place.as_fd()).step(|| "attach".to_owned())?;
    match to {
        "/dev" => fill_dev(root, launch.privileged),
        _ => Ok(()),
    }
}

fn new_file_system(kind: &str, options: &[String]) -> Done<OwnedFd> {
    let settings: Vec<(&str, &str)> = options
        .iter()
        .filter(|o| attribute(o).is_none() && !matches!(o.as_str(), "rw" | "dev"))
        .map(|o| o.split_once('=').unwrap_or((o, "")))
        .collect();
    let attributes = options.iter().filter_map(|o| attribute(o)).fold(0, |a, b| a | b);
    sys::new_mount(kind, &settings, attributes).step(|| format!("make a {kind}"))
}

fn attribute(option: &str) -> Option<u64> {
    match option {
        "ro" => Some(sys::MOUNT_ATTR_RDONLY),
        "nosuid" => Some(sys::MOUNT_ATTR_NOSUID),
        "nodev" => Some(sys::MOUNT_ATTR_NODEV),
        "noexec" => Some(sys::MOUNT_ATTR_NOEXEC),
        _ => None,
    }
}

/// Attributes and propagation of a detached bind mount, for all mounts in it.
fn set_attributes(tree: &OwnedFd, options: &[String]) -> Done {
    let set = options.iter().filter_map(|o| attribute(o)).fold(0, |a, b| a | b);
    let propagation = options.iter().find_map(|o| match o.as_str() {
        "rprivate" => Some(libc::MS_PRIVATE),
        "rslave" => Some(libc::MS_SLAVE),
        "rshared" => Some(libc::MS_SHARED),
        _ => None,
    });
    let attr = MountAttr { set, propagation: propagation.unwrap_or(0), ..MountAttr::default() };
    sys::mount_setattr(tree.as_fd(), true, attr).step(|| "set mount attributes".to_owned())
}

/// v2: the container's own view of its group. v1: a tmpfs with its group of each hierarchy,
/// which is where programs look up their limits.
fn attach_cgroups(root: &OwnedFd, mount: &OciMount, launch: &Launch) -> Done {
    let place = ensure(root, &mount.destination, true)?;
    if launch.cgroup.v2.is_some() {
        let tree = new_file_system("cgroup2", &mount.options)?;
        return sys::move_mount(tree.as_fd(), place.as_fd()).step(|| "attach".to_owned());
    }
    let settings = ["mode=755".to_owned(), "nodev".into(), "nosuid".into(), "noexec".into()];
    let tree = new_file_system("tmpfs", &settings)?;
    sys::move_mount(tree.as_fd(), place.as_fd()).step(|| "attach".to_owned())?;
    for (controller, dir) in &launch.cgroup.v1 {
        let place = ensure(root, &format!("{}/{controller}", mount.destination), true)?;
        let Ok(group) = sys::open_tree(None, &dir.to_string_lossy(), false) else {
            continue;
        };
        set_attributes(&group, &mount.options)?;
        sys::move_mount(group.as_fd(), place.as_fd()).step(|| format!("attach {controller}"))?;
    }
    Ok(())
}

/// Device nodes and the usual links. Unprivileged ones are bound from the node, because
/// `/dev` itself is `nodev`.
fn fill_dev(root: &OwnedFd, privileged: bool) -> Done {
    let dev = ensure(root, "/dev", true)?;
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlinkat(target, &dev, link).step(|| format!("link /dev/{link}"))?;
    }
    if privileged {
        return copy_devices(&dev, Path::new("/dev"));
    }
    for name in DEVICES {
        let Ok(node) = sys::open_tree(None, &format!("/dev/{name}"), false) else {
            continue;
        };
        if SFlag::from_bits_truncate(mode_of(&node)?) & SFlag::S_IFMT != SFlag::S_IFCHR {
            return Err(Failure::Other(format!("/dev/{name} of the node is no device")));
        }
        let place = ensure(root, &format!("/dev/{name}"), false)?;
        sys::move_mount(node.as_fd(), place.as_fd()).step(|| format!("attach /dev/{name}"))?;
    }
    Ok(())
}

/// All device nodes of the node, for a privileged container.
fn copy_devices(dev: &OwnedFd, from: &Path) -> Done {
    let Ok(entries) = std::fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let name = entry.file_name();
        if kind.is_dir() {
            let skipped = ["pts", "shm", "mqueue", "fd", "hugepages"];
            if skipped.iter().any(|s| name == *s) {
                continue;
            }
            let mode = Mode::from_bits_truncate(0o755);
            mkdirat(dev, name.as_os_str(), mode).step(|| format!("create {}", entry.path().display()))?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let below = nix::fcntl::openat(dev, name.as_os_str(), flags, Mode::empty())
                .step(|| format!("open {}", entry.path().display()))?;
            copy_devices(&below, &entry.path())?;
        } else if (kind.is_char_device() || kind.is_block_device())
            && let Ok(info) = stat(&entry.path())
        {
            let kind = SFlag::from_bits_truncate(info.st_mode) & SFlag::S_IFMT;
            let mode = Mode::from_bits_truncate(info.st_mode);
            match mknodat(dev, name.as_os_str(), kind, mode, info.st_rdev) {
                Ok(()) | Err(Errno::EEXIST | Errno::EPERM) => {}
                Err(e) => return Err(e).step(|| format!("create {}", entry.path().display())),
            }
        }
    }
    Ok(())
}

/// Masked and read-only paths; what an image does not have needs no mask.
fn protect(root: &OwnedFd, config: &Config) -> Done {
    let find = |path: &str| {
        sys::openat2(
            Some(root.as_fd()),
            &c_string(path)?,
            libc::O_PATH,
            0,
            sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS,
        )
    };
    for path in &config.linux.readonly_paths {
        let place = match find(path) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(e) => return Err(e).step(|| format!("open {path}")),
        };
        let tree = sys::open_tree(Some(place.as_fd()), "", true).step(|| format!("open {path}"))?;
        set_attributes(&tree, &["ro".to_owned()])?;
        sys::move_mount(tree.as_fd(), place.as_fd()).step(|| format!("protect {path}"))?;
    }
    for path in &config.linux.masked_paths {
        let place = match find(path) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(e) => return Err(e).step(|| format!("open {path}")),
        };
        let mask = if is_dir(&place)? {
            new_file_system("tmpfs", &["ro", "nosuid", "nodev", "noexec", "nr_inodes=1"].map(str::to_owned))?
        } else {
            null_device()?
        };
        sys::move_mount(mask.as_fd(), place.as_fd()).step(|| format!("mask {path}"))?;
    }
    Ok(())
}

/// A bind of the node's `/dev/null`, checked to be character device 1:3.
fn null_device() -> Done<OwnedFd> {
    let tree = sys::open_tree(None, "/dev/null", false).step(|| "open /dev/null".to_owned())?;
    let info = fstat(&tree).step(|| "look at /dev/null".to_owned())?;
    let character = SFlag::from_bits_truncate(info.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    if !character || info.st_rdev != nix::sys::stat::makedev(1, 3) {
        return Err(Failure::Other("/dev/null of the node is not the null device".to_owned()));
    }
    Ok(tree)
}

fn mode_of(fd: &OwnedFd) -> Done<libc::mode_t> {
    fstat(fd).map(|info| info.st_mode).step(|| "look at a mount".to_owned())
}

fn is_dir(fd: &OwnedFd) -> Done<bool> {
    Ok(SFlag::from_bits_truncate(mode_of(fd)?) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Opens `path` below the root, making it and its parents when missing.
pub fn ensure(root: &OwnedFd, path: &str, dir: bool) -> Done<OwnedFd> {
    let in_root = |path: &str, flags: i32| {
        sys::openat2(
            Some(root.as_fd()),
            &c_string(path)?,
            flags,
            if flags & libc::O_CREAT != 0 { 0o644 } else { 0 },
            sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS,
        )
    };
    match in_root(path, libc::O_PATH) {
        Err(Errno::ENOENT) => {}
        found => return found.step(|| format!("open {path}")),
    }
    let mut walked = PathBuf::from("/");
    let mut parent = in_root("/", libc::O_PATH).step(|| "open the root".to_owned())?;
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    for (n, part) in parts.iter().enumerate() {
        walked.push(part);
        let here = walked.to_string_lossy().into_owned();
        let last = n + 1 == parts.len();
        if last && !dir {
            drop(in_root(&here, libc::O_CREAT | libc::O_RDONLY).step(|| format!("create {here}"))?);
        } else {
            match mkdirat(&parent, *part, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e).step(|| format!("create {here}")),
            }
        }
        parent = in_root(&here, libc::O_PATH).step(|| format!("open {here}"))?;
    }
    Ok(parent)
}

/// Makes `root` the root of this process and lets go of everything else.
pub fn enter(root: BorrowedFd<'_>, read_only: bool) -> Done {
    nix::unistd::fchdir(root).step(|| "enter the root".to_owned())?;
    nix::unistd::pivot_root(".", ".").step(|| "pivot to the root".to_owned())?;
    // The old root is on top of the new one now, and goes.
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH).step(|| "leave the node's root".to_owned())?;
    nix::unistd::chdir("/").step(|| "enter the root".to_owned())?;
    if read_only {
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open("/", directory, Mode::empty()).step(|| "open the root".to_owned())?;
        let attr = MountAttr { set: sys::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        sys::mount_setattr(root.as_fd(), false, attr).step(|| "make the root read-only".to_owned())?;
    }
    Ok(())
}
