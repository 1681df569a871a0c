//! From a process in place to the container's program: control groups, standard streams,
//! user, capabilities, system call filter, exec. Runs in a child of the shim, for a
//! container's first process and for commands run later alike.
//!
//! What always holds: a child never returns into the shim's loop; it executes a program
//! or says on its channel why it could not and exits. Nothing of ours is open when the
//! program starts (CVE-2024-21626).

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, execve, getcwd, setgroups, setresgid, setresuid, setsid};

use crate::bundle::oci::{Config, Process};
use crate::bundle::{CgroupJoin, Launch, caps};
use crate::shim::failure::{Failure, Step};
use crate::shim::rootfs;
use crate::{seccomp, sys};

/// First byte of a message on a child's channel: a terminal comes with it.
pub const TERMINAL: u8 = b'T';
/// First byte of a message on a child's channel: the rest says what failed.
pub const FAILURE: u8 = b'E';

/// What statfs says of a devpts (`DEVPTS_SUPER_MAGIC`).
const DEVPTS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x1cd1);

/// Where a new process finds its standard streams.
pub enum Stdio {
    /// Three descriptors.
    Streams([OwnedFd; 3]),
    /// A terminal made in the container, its master sent over the channel.
    Terminal(u16, u16),
}

/// Everything a child of the shim needs, whichever kind it is.
pub struct Child<'a> {
    /// The container's configuration.
    pub config: &'a Config,
    /// Its additions.
    pub launch: &'a Launch,
    /// The process to become: the container's own, or a command.
    pub process: &'a Process,
    /// To tell the shim.
    pub channel: &'a OwnedFd,
}

impl Child<'_> {
    /// The first process of a container. Does not return.
    pub fn run_first(&self, bundle: &Path, shm: &OwnedFd, stdio: Stdio) -> ! {
        let outcome = self.first(bundle, shm, stdio);
        self.give_up(outcome)
    }

    /// A further process, in the namespaces of `init`. Does not return.
    pub fn run_further(&self, init: BorrowedFd<'_>, stdio: Stdio) -> ! {
        let outcome = self.further(init, stdio);
        self.give_up(outcome)
    }

    fn give_up(&self, outcome: Result<Infallible, Failure>) -> ! {
        let failure = match outcome {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let mut message = vec![FAILURE];
        message.extend(failure.to_string().bytes().take(4000));
        let _ = sys::send(self.channel.as_fd(), &message, &[]);
        std::process::exit(128)
    }

    fn first(&self, bundle: &Path, shm: &OwnedFd, stdio: Stdio) -> Result<Infallible, Failure> {
        self.begin()?;
        if self.launch.cgroup.v2.is_some() {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
                .step(|| "make a cgroup namespace".to_owned())?;
        }
        let root = rootfs::build(self.config, self.launch, bundle, shm)?;
        rootfs::enter(root.as_fd(), self.config.root.readonly)?;
        drop(root);
        let console = matches!(stdio, Stdio::Terminal(..));
        self.connect(stdio, console)?;
        self.become_program(true)
    }

    fn further(&self, init: BorrowedFd<'_>, stdio: Stdio) -> Result<Infallible, Failure> {
        self.begin()?;
        let mut kinds = nix::sched::CloneFlags::CLONE_NEWNS;
        if self.launch.cgroup.v2.is_some() {
            kinds |= nix::sched::CloneFlags::CLONE_NEWCGROUP;
        }
        nix::sched::setns(init, kinds).step(|| "enter the container".to_owned())?;
        self.connect(stdio, false)?;
        self.become_program(false)
    }

    /// While still on the node's root.
    fn begin(&self) -> Result<(), Failure> {
        sys::reset_signals();
        setsid().step(|| "start a session".to_owned())?;
        join(&self.launch.cgroup)?;
        if let Some(score) = self.process.oom_score_adj {
            // Lowering it needs CAP_SYS_RESOURCE; the agent has warned once if it is missing.
            let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
        }
        // The shim does without huge pages; that is no choice for others.
        let _ = sys::prctl(libc::PR_SET_THP_DISABLE, 0);
        // Kernels without keyrings do without.
        let _ = sys::new_session_keyring();
        umask(Mode::from_bits_truncate(0o022));
        Ok(())
    }

    fn connect(&self, stdio: Stdio, console: bool) -> Result<(), Failure> {
        let streams = match stdio {
            Stdio::Streams(streams) => streams,
            Stdio::Terminal(width, height) => self.open_terminal(width, height, console)?,
        };
        for (number, stream) in streams.iter().enumerate() {
            sys::dup_onto(stream.as_fd(), number as i32).step(|| "connect streams".to_owned())?;
        }
        Ok(())
    }

    /// A terminal from the container's own devpts, whose master goes to the shim.
    fn open_terminal(&self, width: u16, height: u16, console: bool) -> Result<[OwnedFd; 3], Failure> {
        let step = || "make a terminal".to_owned();
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let no_links = sys::RESOLVE_NO_MAGICLINKS | sys::RESOLVE_IN_ROOT;
        let root =
            nix::fcntl::open("/", nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC, Mode::empty())
                .step(step)?;
        let master = sys::openat2(Some(root.as_fd()), c"/dev/pts/ptmx", flags, 0, no_links).step(step)?;
        let kind = nix::sys::statfs::fstatfs(&master).step(step)?.filesystem_type();
        if kind != DEVPTS {
            return Err(Failure::Other("/dev/pts in the container is no devpts".to_owned()));
        }
        let slave = sys::terminal_peer(master.as_fd()).step(step)?;
        if (width, height) != (0, 0) {
            sys::set_terminal_size(master.as_fd(), width, height).step(step)?;
        }
        let user = &self.process.user;
        nix::unistd::fchown(&slave, Some(Uid::from_raw(user.uid)), None).step(step)?;
        sys::set_controlling_terminal(slave.as_fd()).step(step)?;
        if console {
            // By descriptor on both sides: no path of the image takes part.
            let place = rootfs::ensure(&root, "/dev/console", false)?;
            let tree = sys::open_tree(Some(slave.as_fd()), "", false).step(step)?;
            sys::move_mount(tree.as_fd(), place.as_fd()).step(step)?;
        }
        sys::send(self.channel.as_fd(), &[TERMINAL], &[master.as_fd()]).step(step)?;
        let copy = |fd: &OwnedFd| fd.try_clone().step(step);
        Ok([copy(&slave)?, copy(&slave)?, slave])
    }

    fn become_program(&self, make_cwd: bool) -> Result<Infallible, Failure> {
        let process = self.process;
        sys::close_on_exec_from(3).step(|| "close descriptors".to_owned())?;
        enter_cwd(&process.cwd, make_cwd)?;
        self.drop_privileges()?;
        execute(process)
    }

    fn drop_privileges(&self) -> Result<(), Failure> {
        let (process, user) = (self.process, &self.process.user);
        let step = || "drop privileges".to_owned();
        let ours = sys::permitted_capabilities().step(step)?;
        // More than the node lets us have cannot be given.
        let granted = caps::mask_of(&process.capabilities.permitted) & ours;
        for number in (0..64).take_while(|n| sys::bounding_has(*n).is_some()) {
            if granted & 1 << number == 0 && sys::bounding_has(number) == Some(true) {
                sys::prctl(libc::PR_CAPBSET_DROP, number.into()).step(step)?;
            }
        }
        let groups: Vec<Gid> = user.additional_gids.iter().map(|g| Gid::from_raw(*g)).collect();
        setgroups(&groups).step(|| "set groups".to_owned())?;
        let gid = Gid::from_raw(user.gid);
        setresgid(gid, gid, gid).step(|| format!("set group {gid}"))?;
        sys::prctl(libc::PR_SET_KEEPCAPS, 1).step(step)?;
        let uid = Uid::from_raw(user.uid);
        setresuid(uid, uid, uid).step(|| format!("set user {uid}"))?;
        if process.no_new_privileges {
            sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step(step)?;
        }
        if self.launch.seccomp {
            // Installing takes CAP_SYS_ADMIN, which setuid has taken out of the effective set.
            sys::set_capabilities(ours, ours, 0).step(step)?;
            sys::install_seccomp(&seccomp::filter(granted))
                .step(|| "install the system call filter".to_owned())?;
        }
        sys::set_capabilities(granted, granted, 0).step(step)?;
        // A user that may not enter the directory must not have been given it as root.
        nix::unistd::chdir(process.cwd.as_str()).step(|| format!("chdir to cwd (\"{}\")", process.cwd))?;
        Ok(())
    }
}

/// Enters control groups. On v1 by writing 0 to `tasks`: a single thread that moves
/// itself needs none of the kernel's global locks, which cost milliseconds.
fn join(groups: &CgroupJoin) -> Result<(), Failure> {
    for (_, dir) in &groups.v1 {
        fs::write(dir.join("tasks"), "0").step(|| format!("enter {}", dir.display()))?;
    }
    Ok(())
}

/// The working directory must be inside the root (CVE-2024-21626: one reached through a
/// leaked descriptor shows as unreachable).
fn enter_cwd(cwd: &str, make: bool) -> Result<(), Failure> {
    let step = || format!("chdir to cwd (\"{cwd}\")");
    match nix::unistd::chdir(cwd) {
        Err(Errno::ENOENT) if make => {
            fs::create_dir_all(cwd).step(step)?;
            nix::unistd::chdir(cwd).step(step)?;
        }
        // Only the user, who may know a way in, can tell.
        Err(Errno::EACCES) => {}
        other => other.step(step)?,
    }
    if !getcwd().step(step)?.starts_with("/") {
        return Err(Failure::Other(format!("cwd (\"{cwd}\") is outside of the container")));
    }
    Ok(())
}

/// Looks the program up as `execvpe` does, with the errors that Kubernetes users know.
fn execute(process: &Process) -> Result<Infallible, Failure> {
    let program = process.args.first().map(String::as_str).unwrap_or_default();
    let c_strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
        list.iter()
            .map(|s| CString::new(s.as_str()).map_err(|_| Errno::EINVAL))
            .collect::<Result<_, _>>()
            .step(|| "pass arguments".to_owned())
    };
    let (args, env) = (c_strings(&process.args)?, c_strings(&process.env)?);
    if program.contains('/') {
        let path = CString::new(program).map_err(|_| Errno::EINVAL).step(|| "exec".to_owned())?;
        let errno = match execve(&path, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => errno,
        };
        if errno == Errno::ENOENT && !Path::new(program).exists() {
            return Err(Failure::Other(format!(
                "exec: \"{program}\": stat {program}: no such file or directory"
            )));
        }
        return Err(Failure::Other(format!("exec: \"{program}\": {}", errno.desc().to_lowercase())));
    }
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = None;
    for dir in path.split(':').filter(|_| !program.is_empty()) {
        let dir = if dir.is_empty() { "." } else { dir };
        let Ok(candidate) = CString::new(format!("{dir}/{program}")) else {
            continue;
        };
        match execve(&candidate, &args, &env) {
            Ok(never) => match never {},
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => {
                denied = Some(errno);
            }
        }
    }
    Err(Failure::Other(match denied {
        Some(errno) => format!("exec: \"{program}\": {}", errno.desc().to_lowercase()),
        None => format!("exec: \"{program}\": executable file not found in $PATH"),
    }))
}
