//! The system calls that have no safe wrapper. The only module with `unsafe`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes the kernel answer without echoing whole requests, and with words where it has any.
pub fn brief_answers(socket: &impl AsFd) -> io::Result<()> {
    for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the descriptor is open for the length of the call, and the pointer and the
        // size describe `on`, which outlives it.
        let result = unsafe { libc::setsockopt(fd, libc::SOL_NETLINK, option, (&raw const on).cast(), size) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
