//! Why a container could not be launched: the step that failed, for people.

use nix::errno::Errno;

/// A failed step. Crosses from the child to the shim as text.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A system call said no.
    #[error("{step}: {}", errno.desc().to_lowercase())]
    System {
        /// What was being done, with its object.
        step: String,
        /// The system's answer.
        errno: Errno,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Adds the step to a system call's result.
pub trait Step<T> {
    /// `step` says what was being done.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Step<T> for nix::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure::System { step: step(), errno })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))).step(step)
    }
}

impl From<crate::RuntimeError> for Failure {
    fn from(e: crate::RuntimeError) -> Self {
        Self::Other(e.to_string())
    }
}
