//! The system calls that neither std nor nix wraps, as safe functions on owned
//! descriptors. The only module of this crate with `unsafe`.
//!
//! What always holds: descriptors come back as `OwnedFd` with close-on-exec set; errors
//! are `nix::Result`. No policy here.

use std::ffi::{CStr, CString};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Descriptors in one message at most.
pub const MAX_FDS: usize = 4;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MountAttr {
    /// Flags to set.
    pub set: u64,
    /// Flags to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or 0.
    pub propagation: u64,
    /// User namespace of an idmapped mount.
    pub userns_fd: u64,
}

pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;

pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub const RESOLVE_BENEATH: u64 = 0x08;
pub const RESOLVE_IN_ROOT: u64 = 0x10;

const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_EMPTY_PATHS: u32 = 0x04 | 0x40;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

fn fd(result: libc::c_long) -> Result<OwnedFd> {
    let raw = Errno::result(result)? as RawFd;
    // SAFETY: the kernel has just handed this descriptor to us and nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn raw(dir: Option<BorrowedFd<'_>>) -> RawFd {
    dir.map_or(libc::AT_FDCWD, |d| d.as_raw_fd())
}

fn cstring(s: &str) -> Result<CString> {
    CString::new(s).map_err(|_| Errno::EINVAL)
}

/// Takes over a descriptor number inherited from the parent, such as standard input.
/// None when it is not open.
pub fn inherited_fd(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC has no memory effects; a bad number only fails.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    fd(copy.into()).ok()
}

/// Who goes on after [`clone3`].
pub enum Cloned {
    /// The caller, with the child's process id and its pidfd.
    Parent(i32, OwnedFd),
    /// The new process.
    Child,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) as a fork with namespace `flags`, straight into the cgroup v2 directory
/// `cgroup` when given. Call it only while the process has a single thread: the child
/// then has a consistent copy of everything, allocator included.
pub fn clone3(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags as u64 | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` outlive the call; no stack is given, so the child goes
    // on with a copy of ours, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match Errno::result(pid)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(pid as i32, fd(pidfd.into())?)),
    }
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo is allowed.
    let r = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    };
    Errno::result(r).map(drop)
}

/// openat2(2) with `resolve` flags.
pub fn openat2(
    dir: Option<BorrowedFd<'_>>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: mode.into(), resolve };
    // The kernel answers EAGAIN when a rename raced with a walk below a root.
    for _ in 0..64 {
        // SAFETY: `path` is NUL-terminated and `how` has the size passed.
        let r = unsafe {
            libc::syscall(libc::SYS_openat2, raw(dir), path.as_ptr(), &raw const how, size_of::<OpenHow>())
        };
        match fd(r) {
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            done => return done,
        }
    }
    Err(Errno::EAGAIN)
}

/// open_tree(2) with `OPEN_TREE_CLONE`: a detached copy of the mount at `path` (at `dir`
/// itself when the path is empty), with what is mounted below it when `recursive`.
pub fn open_tree(dir: Option<BorrowedFd<'_>>, path: &str, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    let path = cstring(path)?;
    // SAFETY: `path` is NUL-terminated.
    fd(unsafe { libc::syscall(libc::SYS_open_tree, raw(dir), path.as_ptr(), flags) })
}

/// move_mount(2): attaches the detached mount `from` at the file or directory `to`.
pub fn move_mount(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: both paths are empty and NUL-terminated.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            to.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_EMPTY_PATHS,
        )
    };
    Errno::result(r).map(drop)
}

/// mount_setattr(2) on the mount that `fd` refers to.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is NUL-terminated and `attr` has the size passed.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(r).map(drop)
}

/// A new, detached file system: fsopen, fsconfig for every option, fsmount. An option with
/// an empty value is a flag.
pub fn new_mount(fstype: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd> {
    let fstype = cstring(fstype)?;
    // SAFETY: `fstype` is NUL-terminated; flag 1 is FSOPEN_CLOEXEC.
    let context = fd(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), 1) })?;
    for (key, value) in options {
        let command = if value.is_empty() { FSCONFIG_SET_FLAG } else { FSCONFIG_SET_STRING };
        fsconfig(&context, command, Some(key), (!value.is_empty()).then_some(value))?;
    }
    fsconfig(&context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: plain numbers; flag 1 is FSMOUNT_CLOEXEC.
    fd(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes) })
}

fn fsconfig(context: &OwnedFd, command: u32, key: Option<&str>, value: Option<&str>) -> Result<()> {
    let key = key.map(cstring).transpose()?;
    let value = value.map(cstring).transpose()?;
    // SAFETY: key and value are null or NUL-terminated and live through the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key.as_ref().map_or(std::ptr::null(), |k| k.as_ptr()),
            value.as_ref().map_or(std::ptr::null(), |v| v.as_ptr()),
            0,
        )
    };
    Errno::result(r).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec (CVE-2024-21626: nothing of ours
/// may reach the program).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: plain numbers; nothing is closed now.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    Errno::result(r).map(drop)
}

/// Closes every descriptor from `first` on, for a process that goes on without any. Values
/// that own them must not be used, or dropped, afterwards: it is for functions that never
/// return.
pub fn close_from(first: u32) -> Result<()> {
    // SAFETY: plain numbers; the caller uses none of the descriptors again.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// dup2 onto a standard stream (0, 1 or 2), which then survives exec.
pub fn dup_onto(from: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    debug_assert!((0..=2).contains(&number));
    if from.as_raw_fd() == number {
        // SAFETY: plain numbers; clears close-on-exec, which dup2 onto itself would not.
        return Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: the three standard numbers are owned by no OwnedFd of this process.
    Errno::result(unsafe { libc::dup2(from.as_raw_fd(), number) }).map(drop)
}

/// A prctl(2) with numbers only.
pub fn prctl(option: i32, argument: u64) -> Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: used only with options whose arguments are numbers.
    Errno::result(unsafe { libc::prctl(option, argument as libc::c_ulong, zero, zero, zero) }).map(drop)
}

/// The highest capability number that the kernel knows, from prctl(PR_CAPBSET_READ).
pub fn bounding_has(capability: u8) -> Option<bool> {
    // SAFETY: plain numbers.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// capget(2): our permitted set as a bit mask.
pub fn permitted_capabilities() -> Result<u64> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 writes two CapData.
    let r = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(r)?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// capset(2) with bit masks.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two CapData.
    let r = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(r).map(drop)
}

/// Installs a seccomp filter for this thread. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn install_seccomp(filter: &[libc::sock_filter]) -> Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions and does not write to them.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(r).map(drop)
}

/// A session keyring of its own, so that none of the node's keys is possessed.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let r = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    Errno::result(r).map(drop)
}

/// Makes the terminal `tty` the controlling one of this session.
pub fn set_controlling_terminal(tty: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    Errno::result(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// The slave end of the pseudo terminal `master`, without looking at any path.
pub fn terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let (on, flags) = (0i32, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
    // SAFETY: TIOCSPTLCK reads one int; TIOCGPTPEER takes flags by value.
    unsafe {
        Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const on))?;
        fd(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags).into())
    }
}

/// Sets a terminal's size in characters.
pub fn set_terminal_size(terminal: BorrowedFd<'_>, width: u16, height: u16) -> Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Brings the loopback interface of the current network namespace up.
pub fn loopback_up() -> Result<()> {
    // SAFETY: plain numbers.
    let socket = fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}

/// lsetxattr(2) relative to a directory: follows no symbolic link at the end of `path`.
pub fn set_xattr(path: &CStr, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: both strings are NUL-terminated and `value` has the length passed.
    let r = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(r).map(drop)
}

/// Receives bytes, and descriptors that came with them (close-on-exec). Zero bytes is the
/// end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
    )?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = control {
            // SAFETY: the kernel has just installed these descriptors for us.
            fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Sends bytes without waiting, with descriptors attached to the first one. Answers how
/// many bytes went; the descriptors have gone when it is not zero.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize> {
    let list: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&list)];
    let control = if list.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)
}

/// Default dispositions and an empty mask: ignored signals survive exec, and Rust ignores
/// SIGPIPE.
pub fn reset_signals() {
    #[repr(C)]
    struct KernelSigaction {
        handler: usize,
        flags: libc::c_ulong,
        restorer: usize,
        mask: u64,
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let nothing = std::ptr::null_mut::<KernelSigaction>();
    for signal in 1..=64 {
        // Not through libc, which keeps 32 and 33 to itself.
        // SAFETY: SIG_DFL installs no code; the mask is 8 bytes; signals that cannot be set
        // only fail.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, nothing, 8);
        }
    }
}

/// A descriptor that becomes readable when the process has ended.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes plain numbers.
    fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Gives memory that the allocator holds but does not use back to the kernel.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only touches the C allocator's own free lists.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes ownership of a descriptor number that a call has just returned.
pub fn own(number: RawFd) -> OwnedFd {
    debug_assert!(number > 2, "standard streams have no owner");
    // SAFETY: callers pass what the kernel has just returned to them.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Registers an owned descriptor with tokio.
pub fn async_fd(fd: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its number, open, for as long as it lives.
    unsafe { Ok(tokio::io::unix::AsyncFd::register(fd)?) }
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` and attaches it to the cgroup v2
/// directory `group`, where it stays for as long as the group.
pub fn attach_device_program(
    group: &std::path::Path,
    program: &[crate::cgroup::plan::Instruction],
) -> Result<()> {
    const PROG_LOAD: i32 = 5;
    const PROG_ATTACH: i32 = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    /// The head of `union bpf_attr` for PROG_LOAD.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
    }
    let mut code = Vec::with_capacity(program.len() * 8);
    for (operation, registers, offset, value) in program {
        code.extend([*operation, *registers]);
        code.extend(offset.to_ne_bytes());
        code.extend(value.to_ne_bytes());
    }
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
    };
    // SAFETY: the structure has the size passed, and what it points to outlives the call.
    let loaded = fd(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    let group =
        std::fs::File::open(group).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let attach = [group.as_raw_fd() as u32, loaded.as_raw_fd() as u32, ATTACH_CGROUP_DEVICE, ALLOW_MULTI];
    // SAFETY: four numbers, as PROG_ATTACH reads them.
    let r = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of_val(&attach)) };
    Errno::result(r).map(drop)
}
