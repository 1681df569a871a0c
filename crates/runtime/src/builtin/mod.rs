//! The `builtin` runtime: overlayfs, one shim a pod, a launcher of our own.
//!
//! ```text
//! <data>/images/…                         the image store
//! <data>/run/<sandbox>/sandbox.json       spec; there before anything runs
//! <data>/run/<sandbox>/shim.{json,sock,log}
//! <data>/run/<sandbox>/containers/<id>/   the bundle: container.json (spec), config.json,
//!                                         launch.json, exit.json, upper/, work/, rootfs/
//! ```
//!
//! What always holds: this process keeps nothing that is not also on disk or in a shim, so
//! that it may end at any moment; [`Builtin::open`] finds everything again.

mod adopt;
mod client;
mod container;
mod images;
mod sandbox;
mod streams;
mod terminal;
mod users;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::cgroup::Cgroups;
use crate::error::{Result, RuntimeError};
use crate::image::{ImageStore, Registries, RegistryConfig};
use crate::spec::{ContainerId, ContainerSpec, SandboxId, SandboxSpec};
use crate::traits::{
    ContainerState, ContainerStatus, Duplex, ExecOutput, ExecRequest, ExecSession, ImageStatus, RegistryAuth,
    Runtime, RuntimeEvent, Sandbox, SandboxState, SandboxStatus,
};
use client::ShimClient;

/// Events that a slow receiver may be behind before it sees `Lagged`.
const EVENTS: usize = 1024;

/// How a builtin runtime is set up.
#[derive(Clone, Debug)]
pub struct BuiltinConfig {
    /// Directory for `images` and `run`; overlayfs must work on it.
    pub data_dir: PathBuf,
    /// Name of our tree of control groups, `carrack` by default. Two runtimes on one
    /// machine need two.
    pub cgroup_root: String,
    /// Program that becomes a shim when called with `shim_arguments` and a directory; it
    /// calls [`crate::shim_main`]. By default this very binary.
    pub shim_program: PathBuf,
    /// `["shim"]` by default.
    pub shim_arguments: Vec<String>,
    /// Registries with special treatment.
    pub registries: RegistryConfig,
}

impl BuiltinConfig {
    /// The defaults for a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            cgroup_root: "carrack".to_owned(),
            shim_program: PathBuf::from("/proc/self/exe"),
            shim_arguments: vec![crate::SHIM_COMMAND.to_owned()],
            registries: RegistryConfig::default(),
        }
    }
}

/// The builtin runtime. Cloning shares it.
#[derive(Clone)]
pub struct Builtin {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: BuiltinConfig,
    run_dir: PathBuf,
    images: ImageStore,
    registries: Registries,
    cgroups: Cgroups,
    sandboxes: Mutex<HashMap<SandboxId, Arc<Pod>>>,
    events: broadcast::Sender<RuntimeEvent>,
}

/// A sandbox as this process knows it.
pub(crate) struct Pod {
    id: SandboxId,
    dir: PathBuf,
    record: SandboxRecord,
    state: watch::Sender<SandboxState>,
    /// None when the shim is gone.
    shim: Mutex<Option<Arc<ShimClient>>>,
    containers: Mutex<HashMap<ContainerId, Arc<Member>>>,
}

/// A container as this process knows it.
pub(crate) struct Member {
    id: ContainerId,
    dir: PathBuf,
    record: ContainerRecord,
    state: watch::Sender<ContainerState>,
}

/// `sandbox.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxRecord {
    spec: SandboxSpec,
    created_at: Timestamp,
}

/// `container.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    spec: ContainerSpec,
    image_id: String,
    created_at: Timestamp,
    stop_signal: i32,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves these maps whole: they change by single inserts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs file work where it may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(RuntimeError::Conflict(format!("a background task failed: {e}"))),
    }
}

pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(path).map_err(RuntimeError::io("create", path))
}

impl Builtin {
    /// Opens the runtime of a data directory and takes over the pods that run there.
    /// Needs root, overlayfs and Linux 5.12.
    pub async fn open(config: BuiltinConfig) -> Result<Self> {
        let run_dir = config.data_dir.join("run");
        make_dir(&run_dir, 0o700)?;
        // Whoever is in a pod's mount namespace sees paths of the node only by descriptor,
        // so they must be absolute here.
        let run_dir = run_dir.canonicalize().map_err(RuntimeError::io("find", &run_dir))?;
        let data_dir = run_dir.parent().unwrap_or(Path::new("/"));
        let shared = Arc::new(Shared {
            images: ImageStore::open(data_dir)?,
            registries: Registries::new(config.registries.clone()),
            cgroups: Cgroups::open(&config.cgroup_root)?,
            sandboxes: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            run_dir,
            config,
        });
        adopt::all(&shared).await?;
        Ok(Self { shared })
    }

    /// Removes the control groups that all pods shared; for taking a node down, after the
    /// last sandbox has been removed.
    pub fn close(&self) {
        self.shared.cgroups.remove_root();
    }
}

impl Shared {
    fn pod(&self, id: &SandboxId) -> Result<Arc<Pod>> {
        lock(&self.sandboxes).get(id).cloned().ok_or_else(|| RuntimeError::no_sandbox(id))
    }

    fn member(&self, id: &ContainerId) -> Result<(Arc<Pod>, Arc<Member>)> {
        let pods: Vec<Arc<Pod>> = lock(&self.sandboxes).values().cloned().collect();
        let find = |pod: Arc<Pod>| {
            let member = lock(&pod.containers).get(id).cloned();
            member.map(|m| (pod, m))
        };
        pods.into_iter().find_map(find).ok_or_else(|| RuntimeError::no_container(id))
    }

    fn tell(&self, event: RuntimeEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

impl Pod {
    fn shim(&self) -> Result<Arc<ShimClient>> {
        lock(&self.shim).clone().ok_or_else(|| self.shim_error("is gone"))
    }

    fn shim_error(&self, message: impl ToString) -> RuntimeError {
        RuntimeError::Shim { sandbox: self.id.to_string(), message: message.to_string() }
    }

    fn status(&self) -> SandboxStatus {
        let mut containers: Vec<ContainerStatus> =
            lock(&self.containers).values().map(|m| m.status(&self.id)).collect();
        containers.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        SandboxStatus {
            id: self.id.clone(),
            spec: self.record.spec.clone(),
            state: *self.state.borrow(),
            created_at: self.record.created_at,
            netns: self.netns(),
            containers,
        }
    }

    fn netns(&self) -> Option<PathBuf> {
        let shim = lock(&self.shim).as_ref().map(|s| s.pid);
        let own = !self.record.spec.host_network;
        shim.filter(|_| own).map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")))
    }
}

impl Member {
    fn status(&self, sandbox: &SandboxId) -> ContainerStatus {
        ContainerStatus {
            id: self.id.clone(),
            sandbox: sandbox.clone(),
            spec: self.record.spec.clone(),
            image_id: self.record.image_id.clone(),
            created_at: self.record.created_at,
            state: self.state.borrow().clone(),
        }
    }

    fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), ContainerState::Running { .. })
    }
}

impl Runtime for Builtin {
    fn version(&self) -> String {
        concat!("carrack://", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn run_sandbox<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Sandbox>> {
        Box::pin(sandbox::run(&self.shared, spec))
    }

    fn stop_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(sandbox::stop(&self.shared, id))
    }

    fn remove_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(sandbox::remove(&self.shared, id))
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a SandboxId,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<ContainerId>> {
        Box::pin(container::create(&self.shared, sandbox, spec))
    }

    fn start_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(container::start(&self.shared, id))
    }

    fn stop_container<'a>(
        &'a self,
        id: &'a ContainerId,
        grace: Duration,
        signal: Option<i32>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(container::stop(&self.shared, id, grace, signal))
    }

    fn remove_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(container::remove(&self.shared, id))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxStatus>>> {
        Box::pin(async {
            let pods: Vec<Arc<Pod>> = lock(&self.shared.sandboxes).values().cloned().collect();
            let mut list: Vec<SandboxStatus> = pods.iter().map(|pod| pod.status()).collect();
            list.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            Ok(list)
        })
    }

    fn sandbox_status<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<SandboxStatus>> {
        Box::pin(async move { Ok(self.shared.pod(id)?.status()) })
    }

    fn container_status<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ContainerStatus>> {
        Box::pin(async move {
            let (pod, member) = self.shared.member(id)?;
            Ok(member.status(&pod.id))
        })
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.shared.events.subscribe()
    }

    fn exec<'a>(&'a self, id: &'a ContainerId, request: ExecRequest) -> BoxFuture<'a, Result<ExecSession>> {
        Box::pin(streams::exec(&self.shared, id, request))
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>> {
        Box::pin(streams::exec_sync(&self.shared, id, command, timeout))
    }

    fn attach<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ExecSession>> {
        Box::pin(streams::attach(&self.shared, id))
    }

    fn port_forward<'a>(&'a self, id: &'a SandboxId, port: u16) -> BoxFuture<'a, Result<Box<dyn Duplex>>> {
        Box::pin(streams::port_forward(&self.shared, id, port))
    }

    fn pull_image<'a>(
        &'a self,
        reference: &'a str,
        auth: Option<RegistryAuth>,
    ) -> BoxFuture<'a, Result<ImageStatus>> {
        Box::pin(images::pull(&self.shared, reference, auth))
    }

    fn import_image<'a>(&'a self, archive: &'a Path) -> BoxFuture<'a, Result<Vec<ImageStatus>>> {
        Box::pin(images::import(&self.shared, archive))
    }

    fn list_images(&self) -> BoxFuture<'_, Result<Vec<ImageStatus>>> {
        Box::pin(images::list(&self.shared))
    }

    fn image_status<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<ImageStatus>>> {
        Box::pin(images::status(&self.shared, reference))
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(images::remove(&self.shared, reference))
    }
}
