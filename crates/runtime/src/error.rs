//! Errors of the runtime, one enum, each with enough context to be shown to a
//! person in a pod's status or event as it stands.
//!
//! What always holds: a variant says which operation failed and on what; texts from
//! a registry are kept, because `ImagePullBackOff` shows them. No HTTP, no `Status`
//! mapping here: `node` and `server` do that at their edges.

use std::path::{Path, PathBuf};

/// Result of every runtime operation.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// What can go wrong in a runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No sandbox or container of that id is known.
    #[error("{kind} \"{id}\" not found")]
    NotFound {
        /// `sandbox`, `container` or `exec`.
        kind: &'static str,
        /// The id asked for.
        id: String,
    },

    /// The image is not in the local store.
    #[error("image \"{0}\" not found")]
    ImageNotFound(String),

    /// The image reference cannot be parsed (kubelet: `InvalidImageName`).
    #[error("couldn't parse image name \"{reference}\": {reason}")]
    InvalidImageName {
        /// The reference as given.
        reference: String,
        /// Why it is not one.
        reason: String,
    },

    /// The registry answered, and the answer was no. The text carries its words.
    #[error("failed to pull image \"{reference}\": {message}")]
    Registry {
        /// The reference as given.
        reference: String,
        /// HTTP status, such as 401 or 404.
        status: u16,
        /// Status line plus the registry's own error code and message.
        message: String,
    },

    /// The registry could not be reached, or what it sent cannot be used.
    #[error("failed to pull image \"{reference}\": {message}")]
    Pull {
        /// The reference as given.
        reference: String,
        /// What went wrong.
        message: String,
    },

    /// An archive or layer is malformed, too large, or tries to escape its root.
    #[error("invalid image content: {0}")]
    InvalidImage(String),

    /// A spec asks for something that cannot be (unknown user, bad capability…).
    #[error("invalid container configuration: {0}")]
    InvalidSpec(String),

    /// The container's process could not be started (kubelet: `StartError`, exit code 128).
    #[error("failed to start container \"{container}\": {message}")]
    Start {
        /// Container id.
        container: String,
        /// The step and the reason, such as `exec: "foo": executable file not found in $PATH`.
        message: String,
    },

    /// The operation needs a running container.
    #[error("container \"{0}\" is not running")]
    NotRunning(String),

    /// The operation is refused in the present state.
    #[error("{0}")]
    Conflict(String),

    /// A process run by `exec_sync` did not end in time and was killed.
    #[error("command timed out after {seconds}s")]
    ExecTimeout {
        /// The limit that was passed.
        seconds: u64,
    },

    /// A command could not be run in a container at all.
    #[error("failed to exec in container: {0}")]
    Exec(String),

    /// The pod's shim is gone or does not answer.
    #[error("shim of sandbox \"{sandbox}\": {message}")]
    Shim {
        /// Sandbox id.
        sandbox: String,
        /// What happened.
        message: String,
    },

    /// A file, directory or control group could not be read or written.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `create`, `read`, `write`…
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl RuntimeError {
    /// Wraps an I/O error with what was tried on which path.
    pub fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { operation, path, source }
    }

    /// A sandbox that is not known.
    pub fn no_sandbox(id: impl ToString) -> Self {
        Self::NotFound { kind: "sandbox", id: id.to_string() }
    }

    /// A container that is not known.
    pub fn no_container(id: impl ToString) -> Self {
        Self::NotFound { kind: "container", id: id.to_string() }
    }

    /// True for "not there", which removal treats as done.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::ImageNotFound(_))
    }
}
