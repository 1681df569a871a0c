//! The one place for system interfaces that the compiler cannot check.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::inotify::{InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// A queue of inotify events that tokio can wait on.
pub(crate) struct Queue(pub Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A new queue, registered with the current runtime.
pub(crate) fn inotify() -> io::Result<AsyncFd<Queue>> {
    let queue = Queue(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?);
    // SAFETY: the queue owns its descriptor, which stays open and the same until the
    // queue is dropped, and `AsyncFd` gives it up before that.
    unsafe { AsyncFd::register(queue) }.map_err(Into::into)
}
