//! The shim: one small single-threaded process a pod, which holds the pod's namespaces,
//! launches its containers, writes their logs and records their ends. It runs as a
//! re-execution of the agent's own binary, in a session and a control group of its own.
//!
//! What always holds: it outlives the agent and reconnects to the next one through
//! `shim.sock` ([`protocol`]); everything it knows is also on disk; it does nothing unasked
//! but reap, log and record. No async runtime, no threads: it clones.

pub mod connection;
pub mod container;
pub mod failure;
pub mod log;
pub mod program;
pub mod protocol;
pub mod rootfs;
pub mod server;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::wait::waitpid;

use crate::bundle;
use crate::shim::failure::{Failure, Step};
use crate::shim::protocol::{SHIM_CONFIG, SOCKET, ShimConfig};
use crate::sys::{self, Cloned};

/// Name of the first argument that makes the binary a shim.
pub const SHIM_COMMAND: &str = "shim";

/// The main function of a shim: `carrack shim DIR`, where DIR is the sandbox's directory
/// and standard input may be a socket that is the first client. Call it before anything
/// starts a thread. Returns the process' exit code.
pub fn shim_main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> i32 {
    let Some(dir) = arguments.into_iter().next().map(PathBuf::from) else {
        eprintln!("shim: no sandbox directory given");
        return 2;
    };
    match set_up(&dir) {
        Ok(server) => {
            server.run();
            let _ = fs::remove_file(dir.join(SOCKET));
            0
        }
        Err(failure) => {
            eprintln!("shim: {failure}");
            1
        }
    }
}

fn set_up(dir: &Path) -> Result<server::Server, Failure> {
    // Until a program is executed in a container, our memory and our binary are none of
    // its business, also for root in there (CVE-2019-5736). Children inherit it.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).step(|| "hide from containers".to_owned())?;
    let first_client = take_standard_input()?;
    std::env::set_current_dir(dir).step(|| format!("enter {}", dir.display()))?;
    let config: ShimConfig = bundle::read_json(Path::new(SHIM_CONFIG))?;
    detach(&config)?;
    let signals = watch_children()?;
    let pid_namespace: OwnedFd =
        File::open("/proc/self/ns/pid").step(|| "open the process namespace".to_owned())?.into();
    make_namespaces(&config)?;
    let shm = make_shm(dir, config.shm_size)?;
    let listener = listen()?;
    if config.shared_pid {
        hold_process_namespace()?;
    }
    Ok(server::Server::new(dir.to_path_buf(), shm, pid_namespace, signals, listener, first_client))
}

/// The first client comes as standard input, which becomes `/dev/null`.
fn take_standard_input() -> Result<Option<OwnedFd>, Failure> {
    let client = sys::inherited_fd(0).filter(|fd| socket::getsockopt(fd, socket::sockopt::SockType).is_ok());
    let null =
        File::options().read(true).write(true).open("/dev/null").step(|| "open /dev/null".to_owned())?;
    for number in [0, 1] {
        sys::dup_onto(null.as_fd(), number).step(|| "let go of streams".to_owned())?;
    }
    sys::close_on_exec_from(3).step(|| "close descriptors".to_owned())?;
    Ok(client)
}

/// Away from whoever started us: session, control groups, orphans come to us.
fn detach(config: &ShimConfig) -> Result<(), Failure> {
    // Fails only for a group leader, which then has a session to itself already.
    let _ = nix::unistd::setsid();
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).step(|| "become subreaper".to_owned())?;
    let _ = fs::write("/proc/self/comm", "carrack-shim");
    // A huge page is twenty times what we need. Programs get their default back.
    let _ = sys::prctl(libc::PR_SET_THP_DISABLE, 1);
    // Where that is not permitted, the default is good enough.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    for dir in &config.cgroups {
        let tasks = dir.join("tasks");
        let file = if tasks.exists() { tasks } else { dir.join("cgroup.procs") };
        fs::write(&file, "0").step(|| format!("enter {}", dir.display()))?;
    }
    Ok(())
}

/// Children's ends arrive on a descriptor; what would end us politely is ignored, for
/// only `Shutdown` and SIGKILL end a shim.
fn watch_children() -> Result<SignalFd, Failure> {
    let mut blocked = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        blocked.add(signal);
    }
    blocked.thread_block().step(|| "block signals".to_owned())?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .step(|| "watch children".to_owned())
}

fn make_namespaces(config: &ShimConfig) -> Result<(), Failure> {
    let mut kinds = CloneFlags::empty();
    if config.new_network {
        kinds |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if config.new_ipc {
        kinds |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(kinds).step(|| "make namespaces".to_owned())?;
    if config.new_network {
        if !config.hostname.is_empty() {
            nix::unistd::sethostname(&config.hostname).step(|| "set the host name".to_owned())?;
        }
        sys::loopback_up().step(|| "bring up loopback".to_owned())?;
        // As containerd does: any user in a pod may bind low ports and ping.
        let _ = set_sysctl("net.ipv4.ip_unprivileged_port_start", "0");
        let _ = set_sysctl("net.ipv4.ping_group_range", "0 2147483647");
    }
    for (name, value) in &config.sysctls {
        set_sysctl(name, value).step(|| format!("set sysctl {name}={value}"))?;
    }
    Ok(())
}

/// `/proc/sys` shows the writer's own namespaces.
fn set_sysctl(name: &str, value: &str) -> std::io::Result<()> {
    // Either separator is allowed; with slashes, dots belong to the name.
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if path.split('/').any(|part| part == ".." || part.is_empty()) {
        return Err(std::io::Error::from_raw_os_error(libc::EINVAL));
    }
    fs::write(Path::new("/proc/sys").join(path), value)
}

/// A tmpfs that all containers of the pod see as `/dev/shm`: a detached mount, so that it
/// goes with us. Before Linux 6.15 such a mount cannot be copied, and the tmpfs is mounted
/// below the sandbox's directory instead.
fn make_shm(dir: &Path, size: u64) -> Result<OwnedFd, Failure> {
    let attributes = sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC;
    let size = size.max(1 << 16).to_string();
    let options = [("mode", "1777"), ("size", size.as_str())];
    let tree = sys::new_mount("tmpfs", &options, attributes).step(|| "make /dev/shm".to_owned())?;
    if sys::open_tree(Some(tree.as_fd()), "", false).is_ok() {
        return Ok(tree);
    }
    let place = dir.join("shm");
    fs::create_dir_all(&place).step(|| format!("create {}", place.display()))?;
    let target = File::open(&place).step(|| format!("open {}", place.display()))?;
    sys::move_mount(tree.as_fd(), target.as_fd()).step(|| format!("mount {}", place.display()))?;
    Ok(tree)
}

/// By a relative name: absolute ones may be longer than a socket address.
fn listen() -> Result<OwnedFd, Failure> {
    let step = || format!("listen on {SOCKET}");
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).step(step)?;
    let _ = fs::remove_file(SOCKET);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let address = UnixAddr::new(SOCKET).step(step)?;
    socket::bind(socket.as_raw_fd(), &address).step(step)?;
    socket::listen(&socket, Backlog::new(64).step(step)?).step(step)?;
    Ok(socket)
}

/// With one process namespace for all containers, somebody must be process 1 in it and
/// reap its orphans: a child of ours that does nothing else and ends with us.
fn hold_process_namespace() -> Result<(), Failure> {
    let step = || "make a process namespace".to_owned();
    match sys::clone3(libc::CLONE_NEWPID, None).step(step)? {
        Cloned::Child => {
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
            let _ = fs::write("/proc/self/comm", "carrack-init");
            if let Err(failure) = lock_up() {
                eprintln!("shim: {failure}");
                std::process::exit(1);
            }
            reap_forever()
        }
        Cloned::Parent(_, pidfd) => setns(&pidfd, CloneFlags::CLONE_NEWPID).step(step),
    }
}

/// Process 1 is seen by every container of the pod, and one with CAP_SYS_PTRACE could follow
/// its `/proc/1/root`: so it has an empty one, no descriptors and no capabilities.
fn lock_up() -> Result<(), Failure> {
    let step = || "lock process 1 up".to_owned();
    unshare(CloneFlags::CLONE_NEWNS).step(step)?;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).step(step)?;
    let empty = sys::new_mount("tmpfs", &[("nr_inodes", "1")], sys::MOUNT_ATTR_RDONLY).step(step)?;
    let here = File::open(".").step(step)?;
    sys::move_mount(empty.as_fd(), here.as_fd()).step(step)?;
    rootfs::enter(empty.as_fd(), false)?;
    drop((empty, here));
    sys::close_from(3).step(step)?;
    sys::set_capabilities(0, 0, 0).step(step)
}

fn reap_forever() -> ! {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    loop {
        let _ = children.wait();
        while let Ok(status) = waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            if status == nix::sys::wait::WaitStatus::StillAlive {
                break;
            }
        }
    }
}
