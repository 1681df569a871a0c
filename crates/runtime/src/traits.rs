//! The trait `Runtime`: how the agent reaches a container runtime, shaped like the CRI.
//!
//! What always holds for an implementation:
//! - Containers do not depend on the process that holds the trait object: dropping
//!   it, or killing the process, stops none of them. [`Runtime::list`] shows after a
//!   restart what there is, with the specs as they were given.
//! - Operations on different pods run concurrently; `stop_*` and `remove_*` are
//!   idempotent, and removing what is not there succeeds.
//! - Events are wake-ups: they may be lost when a receiver lags (it then sees
//!   `Lagged`); the truth is in `list` and `container_status`.
//!
//! It decides nothing about restarts, probes or volumes, and sets up no network
//! interface: [`Runtime::run_sandbox`] returns the path of the pod's network namespace,
//! into which the agent puts one (crate `network`) before it starts containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;

use crate::error::Result;
use crate::spec::{ContainerId, ContainerSpec, SandboxId, SandboxSpec};

/// A container runtime. Use it as `Arc<dyn Runtime>`.
///
/// The order of a pod's life: `run_sandbox` → (network) → for each container:
/// `pull_image`/`image_status`, `create_container`, `start_container` →
/// `stop_container` → `remove_container` → `stop_sandbox` → (network) → `remove_sandbox`.
pub trait Runtime: Send + Sync + 'static {
    /// Name and version for `node.status.nodeInfo.containerRuntimeVersion`,
    /// such as `carrack://0.1.0`.
    fn version(&self) -> String;

    /// Creates the pod's namespaces, its control group, and the shim that holds them.
    /// Ready to have an interface put into it when this returns.
    fn run_sandbox<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Sandbox>>;

    /// Kills what still runs in the sandbox (SIGKILL; stop containers gracefully
    /// before). The namespaces stay until `remove_sandbox`, so that the network can be taken down.
    fn stop_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>>;

    /// Ends the shim and removes containers, control groups and files of the sandbox.
    /// Log files stay: they are the agent's.
    fn remove_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>>;

    /// Resolves image and user and lays out the bundle; runs nothing yet.
    fn create_container<'a>(
        &'a self,
        sandbox: &'a SandboxId,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<ContainerId>>;

    /// Starts the process and returns when the program has been executed. When that
    /// fails, the container is `Exited` with code 128 and reason `StartError`, and the
    /// error is [`crate::RuntimeError::Start`].
    fn start_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// Sends `signal` (None: the container's stop signal), waits at most `grace`, then
    /// SIGKILL. Returns when the container has ended; a grace of zero kills at once.
    fn stop_container<'a>(
        &'a self,
        id: &'a ContainerId,
        grace: Duration,
        signal: Option<i32>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Removes an ended (or never started) container and its writable layer; a running
    /// one is killed first. The log file stays.
    fn remove_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// All sandboxes with their containers, as known now.
    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxStatus>>>;

    /// One sandbox.
    fn sandbox_status<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<SandboxStatus>>;

    /// One container.
    fn container_status<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ContainerStatus>>;

    /// Events from now on. Subscribe before `list`, so that nothing falls between.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;

    /// Runs a command in a running container, with streams. Dropping the session kills it.
    fn exec<'a>(&'a self, id: &'a ContainerId, request: ExecRequest) -> BoxFuture<'a, Result<ExecSession>>;

    /// Runs a command to its end; each output is cut at 16 MiB (as in the CRI). After
    /// `timeout` (zero: none) it is killed and [`crate::RuntimeError::ExecTimeout`] returned.
    fn exec_sync<'a>(
        &'a self,
        id: &'a ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>>;

    /// Connects to the streams of the container's first process. `exit` ends when the
    /// container does; dropping the session only detaches.
    fn attach<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ExecSession>>;

    /// A TCP connection to `localhost:port` inside the pod's network namespace.
    fn port_forward<'a>(&'a self, id: &'a SandboxId, port: u16) -> BoxFuture<'a, Result<Box<dyn Duplex>>>;

    /// Pulls an image; `auth` are the credentials for its registry. Concurrent pulls of
    /// the same layers are made once.
    fn pull_image<'a>(
        &'a self,
        reference: &'a str,
        auth: Option<RegistryAuth>,
    ) -> BoxFuture<'a, Result<ImageStatus>>;

    /// Imports every image of a docker or OCI archive (tar, also gzipped).
    fn import_image<'a>(&'a self, archive: &'a Path) -> BoxFuture<'a, Result<Vec<ImageStatus>>>;

    /// All images.
    fn list_images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>>>;

    /// The image that a reference, digest or id names; None when it is not here.
    fn image_status<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<ImageStatus>>>;

    /// Removes a reference, and with the last one of an image its layers. An id removes
    /// all references. Refused while a container uses the layers.
    fn remove_image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// A sandbox just made.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Network namespace of the pod; None with `host_network`.
    pub netns: Option<PathBuf>,
}

/// State of a sandbox with its containers.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxStatus {
    /// Its id.
    pub id: SandboxId,
    /// As given to `run_sandbox`.
    pub spec: SandboxSpec,
    /// Ready until stopped or its shim is lost (then the pod needs a new sandbox).
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Network namespace of the pod; None with `host_network` or when the shim is gone.
    pub netns: Option<PathBuf>,
    /// Its containers, oldest first.
    pub containers: Vec<ContainerStatus>,
}

/// Life of a sandbox (CRI `PodSandboxState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Containers can be started in it.
    Ready,
    /// Stopped, or its shim is gone.
    NotReady,
}

/// State of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// The sandbox it belongs to.
    pub sandbox: SandboxId,
    /// As given to `create_container`.
    pub spec: ContainerSpec,
    /// Id of the image it was made from (`sha256:…`, for `imageID`).
    pub image_id: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: ContainerState,
}

/// Life of a container (CRI `ContainerState`).
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    /// Laid out, not started.
    Created,
    /// Its first process runs.
    Running {
        /// Process id on the node.
        pid: i32,
        /// When it was started.
        started_at: Timestamp,
    },
    /// It ended.
    Exited(ExitStatus),
}

/// How a container ended. Kept on disk by the shim, so that none is lost while no agent runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitStatus {
    /// Exit code; 128 + n after signal n; 128 when it could not be started; 255 when
    /// nobody saw it end (the shim was lost).
    pub exit_code: i32,
    /// The signal that ended it, 0 for none.
    #[serde(default)]
    pub signal: i32,
    /// When it was started; absent when it never ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`, as
    /// in `state.terminated.reason`.
    pub reason: String,
    /// More words, when there are any.
    #[serde(default)]
    pub message: String,
}

/// A wake-up.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeEvent {
    /// A container's first process runs.
    ContainerStarted {
        /// Its sandbox.
        sandbox: SandboxId,
        /// Its id.
        container: ContainerId,
    },
    /// A container's first process ended.
    ContainerExited {
        /// Its sandbox.
        sandbox: SandboxId,
        /// Its id.
        container: ContainerId,
        /// How.
        exit: ExitStatus,
    },
    /// The pod's shim is gone: the sandbox is `NotReady`, its containers ended.
    SandboxLost {
        /// Its id.
        sandbox: SandboxId,
    },
}

/// A command to run in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub command: Vec<String>,
    /// With a terminal: one output stream, resizable.
    pub tty: bool,
    /// Keep standard input.
    pub stdin: bool,
    /// Columns and rows of the terminal at the start.
    pub size: Option<TerminalSize>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Streams of a running command. Dropping `stdin` closes it; dropping the session ends the command.
pub struct ExecSession {
    /// Absent when none was asked for.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output, or the terminal's output.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Absent with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets the terminal's size; absent without one.
    pub resize: Option<Box<dyn Fn(TerminalSize) + Send + Sync>>,
    /// The exit code (128 + n after signal n). Drop it to kill the command.
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// What a command left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// At most 16 MiB.
    pub stdout: Vec<u8>,
    /// At most 16 MiB.
    pub stderr: Vec<u8>,
}

/// A stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Credentials for a registry, from an imagePullSecret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// An identity token (OAuth2 refresh token) in place of both.
    pub identity_token: String,
}

impl std::fmt::Debug for RegistryAuth {
    /// Shows that there is one, and whose, but no secret (CVE-2020-8565).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An image in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStatus {
    /// Digest of its config, `sha256:…`.
    pub id: String,
    /// Normalised references with a tag, `docker.io/library/busybox:1.36`.
    pub repo_tags: Vec<String>,
    /// References by digest, `docker.io/library/busybox@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// What it says about running it.
    pub config: ImageConfig,
}

/// The parts of an OCI image config that matter for running it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageConfig {
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`, as `NAME=value`.
    pub env: Vec<String>,
    /// `USER`: name or number, with an optional `:group`; empty is root.
    pub user: String,
    /// `WORKDIR`; empty is `/`.
    pub working_dir: String,
    /// `EXPOSE`, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `STOPSIGNAL`, such as `SIGQUIT`.
    pub stop_signal: String,
    /// `LABEL`.
    pub labels: BTreeMap<String, String>,
}
