//! The `RuntimeDefault` system call filter, as a BPF program.
//!
//! An allow list: the calls that docker and containerd allow by default, for the native
//! system call table. What always holds: another architecture's calls (32-bit, x32)
//! fail with `ENOSYS`, as do calls newer than the list, and `clone3` without CAP_SYS_ADMIN
//! (its flags are behind a pointer, and libc falls back to `clone`); everything else that is
//! not on the list fails with `EPERM`. The program is a list of number ranges, so it stays
//! at a few hundred instructions, and the kernel caches its answers per call (Linux 5.11).
//!
//! Assembled here rather than with `seccompiler`, whose program is a linear list of
//! single calls, four times as long. Pure.

use libc::{c_long, sock_filter};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JGT: u16 = 0x25;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`, little endian.
const NR: u32 = 0;
const ARCH: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Namespace flags of clone(2): new cgroup, uts, ipc, user, pid, net, mount.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// The filter for a process with the given capability mask.
pub fn filter(capabilities: u64) -> Vec<sock_filter> {
    let has = |n: u8| capabilities & 1 << n != 0;
    let mut allowed: Vec<c_long> = COMMON.to_vec();
    allowed.extend(NATIVE_ONLY);
    allowed.push(IO_PGETEVENTS);
    allowed.extend(RECENT);
    for (capability, calls) in WITH_CAPABILITY {
        if has(*capability) {
            allowed.extend(*calls);
        }
    }
    const SYS_ADMIN: u8 = 21;
    let mut program =
        vec![op(LOAD, ARCH), jump(JEQ, NATIVE, 1, 0), op(RET, ERRNO | libc::ENOSYS as u32), op(LOAD, NR)];
    if cfg!(target_arch = "x86_64") {
        // x32 calls have bit 30 set.
        program.extend([jump(JGE, 0x4000_0000, 0, 1), op(RET, ERRNO | libc::ENOSYS as u32)]);
    }
    if has(SYS_ADMIN) {
        allowed.extend([libc::SYS_clone, libc::SYS_clone3]);
    } else {
        program.extend([
            jump(JEQ, libc::SYS_clone3 as u32, 0, 1),
            op(RET, ERRNO | libc::ENOSYS as u32),
            jump(JEQ, libc::SYS_clone as u32, 0, 4),
            op(LOAD, argument(0)),
            jump(JSET, CLONE_NAMESPACES, 0, 1),
            op(RET, ERRNO | libc::EPERM as u32),
            op(RET, ALLOW),
        ]);
    }
    // No raw access to the hypervisor: AF_VSOCK is 40.
    program.extend([
        jump(JEQ, libc::SYS_socket as u32, 0, 4),
        op(LOAD, argument(0)),
        jump(JEQ, 40, 0, 1),
        op(RET, ERRNO | libc::EPERM as u32),
        op(RET, ALLOW),
    ]);
    personality(&mut program);
    let newest = allowed.iter().copied().max().unwrap_or(0) as u32;
    for (low, high) in ranges(allowed) {
        program.extend([
            jump(JGE, low, 1, 0),
            op(RET, ERRNO | libc::EPERM as u32),
            jump(JGT, high, 1, 0),
            op(RET, ALLOW),
        ]);
    }
    // What is newer than this list was not refused by anybody: libraries fall back to what
    // came before, if they are told that there is no such call.
    program.extend([jump(JGT, newest, 0, 1), op(RET, ERRNO | libc::ENOSYS as u32)]);
    program.push(op(RET, ERRNO | libc::EPERM as u32));
    program
}

/// Only the harmless personalities: Linux, UNAME26, 32-bit forms of both, and "tell me".
fn personality(program: &mut Vec<sock_filter>) {
    let values = [0u32, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
    program.push(jump(JEQ, libc::SYS_personality as u32, 0, 2 + 2 * values.len() as u8));
    program.push(op(LOAD, argument(0)));
    for value in values {
        program.extend([jump(JEQ, value, 0, 1), op(RET, ALLOW)]);
    }
    program.push(op(RET, ERRNO | libc::EPERM as u32));
}

/// Sorted, distinct and merged.
fn ranges(mut calls: Vec<c_long>) -> Vec<(u32, u32)> {
    calls.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for call in calls.into_iter().map(|c| c as u32) {
        match ranges.last_mut() {
            Some((_, high)) if call <= *high + 1 => *high = call,
            _ => ranges.push((call, call)),
        }
    }
    ranges
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Calls that need a capability, by its number.
const WITH_CAPABILITY: &[(u8, &[c_long])] = &[
    (2, calls!(SYS_open_by_handle_at)),
    (
        21,
        calls!(SYS_bpf SYS_fanotify_init SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick
            SYS_lookup_dcookie SYS_mount SYS_mount_setattr SYS_move_mount SYS_open_tree
            SYS_perf_event_open SYS_quotactl SYS_quotactl_fd SYS_setdomainname SYS_sethostname SYS_setns
            SYS_syslog SYS_umount2 SYS_unshare),
    ),
    (22, calls!(SYS_reboot)),
    (18, calls!(SYS_chroot)),
    (16, calls!(SYS_delete_module SYS_init_module SYS_finit_module)),
    (20, calls!(SYS_acct)),
    (
        19,
        calls!(SYS_kcmp SYS_pidfd_getfd SYS_process_madvise SYS_process_vm_readv
        SYS_process_vm_writev SYS_ptrace),
    ),
    (25, calls!(SYS_settimeofday SYS_clock_settime)),
    (26, calls!(SYS_vhangup)),
    (23, calls!(SYS_get_mempolicy SYS_mbind SYS_set_mempolicy)),
    (34, calls!(SYS_syslog)),
    (39, calls!(SYS_bpf)),
    (38, calls!(SYS_perf_event_open)),
];

/// On every architecture. (ptrace and its kin are allowed since Linux 4.8 closed the hole
/// through which they went round a filter.)
const COMMON: &[c_long] = calls!(
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir
    SYS_clock_adjtime SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_close
    SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1
    SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat SYS_exit
    SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fanotify_mark
    SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat SYS_fcntl
    SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr
    SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv SYS_getcpu SYS_getcwd
    SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername
    SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid
    SYS_getrlimit SYS_get_robust_list SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt
    SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1
    SYS_inotify_rm_watch SYS_io_cancel SYS_ioctl SYS_io_destroy SYS_io_getevents
    SYS_ioprio_get SYS_ioprio_set SYS_io_setup SYS_io_submit SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_membarrier
    SYS_memfd_create SYS_memfd_secret SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2
    SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open
    SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv
    SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep
    SYS_openat SYS_openat2 SYS_pidfd_getfd SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2
    SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv
    SYS_preadv2 SYS_prlimit64 SYS_process_mrelease SYS_process_vm_readv SYS_process_vm_writev
    SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead
    SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages
    SYS_removexattr SYS_renameat2 SYS_restart_syscall SYS_rseq SYS_rt_sigaction
    SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend
    SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_getaffinity SYS_sched_getattr
    SYS_sched_getparam SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
    SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_setfsgid SYS_setfsuid
    SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid
    SYS_setresuid SYS_setreuid SYS_setrlimit SYS_set_robust_list SYS_setsid SYS_setsockopt
    SYS_set_tid_address SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget
    SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socketpair SYS_splice SYS_statfs SYS_statx
    SYS_symlinkat SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill
    SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime
    SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate
    SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid SYS_write
    SYS_writev
);

/// cachestat, map_shadow_stack, futex_wake, futex_wait, futex_requeue, mseal: the same numbers
/// everywhere, and too new for libc to name.
const RECENT: [c_long; 6] = [451, 453, 454, 455, 456, 462];

// libc has no name for these two.
#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: c_long = 333;
#[cfg(target_arch = "aarch64")]
const IO_PGETEVENTS: c_long = 292;

#[cfg(target_arch = "x86_64")]
const NATIVE_ONLY: &[c_long] = calls!(
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create
    SYS_epoll_ctl_old SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat
    SYS_getdents SYS_getpgrp SYS_get_thread_area SYS_inotify_init SYS_lchown SYS_link SYS_lstat
    SYS_mkdir SYS_mknod SYS_modify_ldt SYS_newfstatat SYS_open SYS_pause SYS_pipe SYS_poll
    SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_select SYS_set_thread_area SYS_signalfd
    SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime SYS_utimes SYS_vfork
);
#[cfg(target_arch = "aarch64")]
const NATIVE_ONLY: &[c_long] = calls!(SYS_newfstatat SYS_renameat);

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[sock_filter], nr: c_long, arch: u32, argument0: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let i = &program[at];
            at += 1;
            let skip = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LOAD => {
                    accumulator = match i.k {
                        NR => nr as u32,
                        ARCH => arch,
                        k if k == argument(0) => argument0,
                        k => panic!("load of {k}"),
                    }
                }
                JEQ => at += skip(accumulator == i.k),
                JGE => at += skip(accumulator >= i.k),
                JGT => at += skip(accumulator > i.k),
                JSET => at += skip(accumulator & i.k != 0),
                RET => return i.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    const DEFAULT: u64 = 0xa804_25fb;

    fn check(capabilities: u64, nr: c_long, argument0: u32, expect: u32) {
        assert_eq!(run(&filter(capabilities), nr, NATIVE, argument0), expect, "call {nr}");
    }

    #[test]
    fn answers() {
        let (eperm, enosys) = (ERRNO | libc::EPERM as u32, ERRNO | libc::ENOSYS as u32);
        for (nr, argument0, expect) in [
            (libc::SYS_read, 0, ALLOW),
            (libc::SYS_openat, 0, ALLOW),
            (libc::SYS_execve, 0, ALLOW),
            (libc::SYS_mount, 0, eperm),
            (libc::SYS_unshare, 0, eperm),
            (libc::SYS_bpf, 0, eperm),
            (libc::SYS_keyctl, 0, eperm),
            (libc::SYS_io_uring_setup, 0, eperm),
            (libc::SYS_chroot, 0, ALLOW),
            (libc::SYS_clone, libc::CLONE_VM as u32, ALLOW),
            (libc::SYS_clone, libc::CLONE_NEWUSER as u32, eperm),
            (libc::SYS_clone3, 0, enosys),
            (libc::SYS_socket, libc::AF_INET as u32, ALLOW),
            (libc::SYS_socket, 40, eperm),
            (libc::SYS_personality, 0, ALLOW),
            (libc::SYS_personality, 0x0040_0000, eperm),
            (9999, 0, enosys),
            (462, 0, ALLOW),
            (457, 0, eperm),
        ] {
            check(DEFAULT, nr, argument0, expect);
        }
        check(u64::MAX, libc::SYS_mount, 0, ALLOW);
        check(u64::MAX, libc::SYS_clone3, 0, ALLOW);
        check(0, libc::SYS_chroot, 0, eperm);
        assert_eq!(run(&filter(DEFAULT), libc::SYS_read, 0x4000_0003, 0), enosys);
    }

    #[test]
    fn every_listed_call_is_allowed_and_the_program_is_small() {
        let program = filter(DEFAULT);
        for nr in COMMON.iter().chain(NATIVE_ONLY) {
            assert_eq!(run(&program, *nr, NATIVE, 0), ALLOW, "call {nr}");
        }
        assert!(program.len() < 400, "{}", program.len());
    }
}
