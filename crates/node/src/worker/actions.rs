//! Carries out the actions of a plan, and says what came of each. The events of
//! these steps have kubelet's reasons and words.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_runtime::{ContainerId, ContainerState, ContainerStatus, RuntimeError, SandboxId};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Local, hooks, images, prepare, probes};
use crate::decide::{Action, Outcome};
use crate::shared::{Shared, reference};
use crate::spec::{self, files, refs};

/// At most this long a container's stop waits for the rules to let its endpoint go.
const DRAIN: Duration = Duration::from_secs(2);
/// What a container gets after its preStop hook, however long that took.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);
/// Pause after a step that cannot be retried by the plan's own back-off.
const PAUSE: Duration = Duration::from_secs(1);

/// Everything that one action needs.
pub(super) struct Run {
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    pub uid: String,
    pub local: Arc<Mutex<Local>>,
    /// Addresses of the current sandbox.
    pub addresses: Vec<IpAddr>,
    /// Image of the container to start.
    pub image_id: String,
    /// Hooks are run and endpoints waited for.
    pub graceful: bool,
}

fn failed(reason: &str, message: impl ToString) -> Outcome {
    Outcome::Failed(reason.to_owned(), message.to_string())
}

// === impl Run ===

impl Run {
    /// Does it.
    pub async fn execute(&self, action: &Action) -> Outcome {
        match action {
            Action::PrepareVolumes => match prepare::volumes(self).await {
                Ok(()) => Outcome::Done,
                Err(message) => {
                    self.warning(None, "FailedMount", &message);
                    failed("ContainerCreating", message)
                }
            },
            Action::RunSandbox { attempt } => self.run_sandbox(*attempt).await,
            Action::EnsureImage { container } => match self.container(container) {
                Some(container) => images::ensure(self, container).await,
                None => Outcome::Done,
            },
            Action::StartContainer { container, attempt, sandbox } => match self.container(container) {
                Some(container) => self.start(container, *attempt, sandbox).await,
                None => Outcome::Done,
            },
            Action::PostStart { container, id } => {
                if let Some(spec) = self.container(container) {
                    hooks::post_start(self, spec, id).await;
                }
                Outcome::Done
            }
            Action::Kill { container, id, message, grace, ending } => {
                self.kill(container, id, message, *grace, *ending).await
            }
            Action::RemoveContainer { id } => {
                self.finish(self.shared.runtime.remove_container(id).await).await
            }
            Action::RemoveSandbox { id, detach } => self.remove_sandbox(id, *detach).await,
            Action::Probe { container, id, kind, early } => match self.container(container) {
                Some(spec) => Outcome::Probed(probes::probe(self, spec, id, *kind, *early).await),
                None => Outcome::Done,
            },
            Action::TearDown => self.tear_down().await,
            Action::DeletePod => match super::delete(&self.shared, &self.pod).await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    tracing::warn!(%error, pod = %self.uid, "pod not deleted");
                    tokio::time::sleep(PAUSE).await;
                    failed("", error)
                }
            },
        }
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.find(|c| c.name == name)
    }

    pub fn normal(&self, container: Option<&str>, reason: &str, message: impl Into<String>) {
        self.shared.recorder.normal(&reference(&self.pod, container), reason, message);
    }

    pub fn warning(&self, container: Option<&str>, reason: &str, message: impl Into<String>) {
        self.shared.recorder.warning(&reference(&self.pod, container), reason, message);
    }

    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    async fn finish(&self, result: Result<(), RuntimeError>) -> Outcome {
        match result {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(%error, pod = %self.uid, "runtime");
                tokio::time::sleep(PAUSE).await;
                failed("", error)
            }
            _ => Outcome::Done,
        }
    }

    async fn run_sandbox(&self, attempt: u32) -> Outcome {
        let shared = &self.shared;
        if attempt > 0 {
            self.normal(None, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
        }
        let (hostname, _) = files::host_name(&self.pod, &shared.domain);
        let resolver = files::resolver(&self.pod, &shared.host_resolver, &shared.cluster_dns, &shared.domain);
        let spec = spec::sandbox(&self.pod, attempt, hostname, resolver.render());
        let made = match shared.runtime.run_sandbox(&spec).await {
            Ok(made) => made,
            Err(error) => return self.no_sandbox(&error.to_string()),
        };
        shared.own(&made.id, &self.uid);
        let Some(netns) = made.netns else {
            return Outcome::Sandbox(made.id, shared.addresses.host_ips.clone());
        };
        let (net, uid) = (shared.net.clone(), self.uid.clone());
        let attached = tokio::task::spawn_blocking(move || {
            if attempt > 0 {
                // The interface of the sandbox before has the same name on the node.
                net.detach(&uid)?;
            }
            net.attach(&netns, &uid)
        });
        match attached.await {
            Ok(Ok(ips)) => Outcome::Sandbox(made.id, ips),
            Ok(Err(message)) => {
                self.abandon(&made.id).await;
                self.no_sandbox(&format!("failed to set up pod network: {message}"))
            }
            Err(error) => {
                self.abandon(&made.id).await;
                self.no_sandbox(&error.to_string())
            }
        }
    }

    fn no_sandbox(&self, message: &str) -> Outcome {
        self.warning(None, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
        failed("ContainerCreating", message)
    }

    async fn abandon(&self, id: &SandboxId) {
        let runtime = &self.shared.runtime;
        let stopped = runtime.stop_sandbox(id).await;
        if let Err(error) = stopped.and(runtime.remove_sandbox(id).await) {
            tracing::warn!(%error, sandbox = %id, "sandbox not removed");
        }
        self.shared.disown(id);
    }

    async fn start(&self, container: &Container, attempt: u32, sandbox: &SandboxId) -> Outcome {
        let name = container.name.as_str();
        let spec = match self.container_spec(container, attempt).await {
            Ok(spec) => spec,
            Err(error) => {
                self.warning(Some(name), "Failed", format!("Error: {}", error.message));
                return failed(error.reason, &error.message);
            }
        };
        let id = match self.shared.runtime.create_container(sandbox, &spec).await {
            Ok(id) => id,
            Err(error) => {
                self.warning(Some(name), "Failed", format!("Error: {error}"));
                return failed("CreateContainerError", error);
            }
        };
        self.normal(Some(name), "Created", "Container created");
        match self.shared.runtime.start_container(&id).await {
            Ok(()) => {
                self.normal(Some(name), "Started", "Container started");
                Outcome::Started(id)
            }
            Err(error) => {
                self.warning(Some(name), "Failed", format!("Error: {error}"));
                failed("RunContainerError", error)
            }
        }
    }

    async fn container_spec(
        &self,
        container: &Container,
        attempt: u32,
    ) -> Result<carrack_runtime::ContainerSpec, spec::ConfigError> {
        let shared = &self.shared;
        let objects = shared.watched.load(self.namespace(), &refs::references(&self.pod)).await;
        let objects = objects.map_err(spec::ConfigError::config)?;
        let image = container.image.as_deref().unwrap_or_default();
        let wanted = if self.image_id.is_empty() { image } else { &self.image_id };
        let image = shared.runtime.image_status(wanted).await;
        let image = image.map_err(|error| spec::ConfigError::config(error.to_string()))?.unwrap_or_default();
        let links = self.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
        let services = shared.net.services(self.namespace(), links);
        let mut facts = shared.facts.clone();
        facts.pod_ips.clone_from(&self.addresses);
        let files = prepare::files(self, container, attempt).await;
        let files = files.map_err(|message| spec::ConfigError { reason: "CreateContainerError", message })?;
        let volumes = self.local.lock().expect("nobody panics with it locked").volumes.clone();
        let inputs = spec::Inputs {
            objects: &objects,
            facts: &facts,
            services: &services,
            volumes: &volumes,
            image: &image.config,
            image_id: &self.image_id,
            log_path: files.log,
            hosts_file: Some(files.hosts),
            termination_log: files.termination,
        };
        spec::container(&self.pod, container, attempt, &inputs)
    }

    async fn kill(
        &self,
        name: &str,
        id: &ContainerId,
        message: &str,
        grace: Duration,
        ending: bool,
    ) -> Outcome {
        self.normal(Some(name), "Killing", message);
        let begun = tokio::time::Instant::now();
        let mut left = grace;
        if self.graceful && !grace.is_zero() {
            let hook = async {
                if let Some(container) = self.container(name) {
                    hooks::pre_stop(self, container, id, grace).await;
                }
            };
            let drain = async {
                // On the node's own addresses others may be serving too.
                let own = self.pod.spec.as_ref().and_then(|s| s.host_network) != Some(true);
                if ending && own && !self.addresses.is_empty() {
                    let drained = self.shared.net.drained(self.addresses.clone());
                    let _ = tokio::time::timeout(DRAIN.min(grace), drained).await;
                }
            };
            tokio::join!(hook, drain);
            left = grace.saturating_sub(begun.elapsed()).max(MINIMUM_GRACE);
        }
        self.finish(self.shared.runtime.stop_container(id, left, None).await).await
    }

    async fn remove_sandbox(&self, id: &SandboxId, detach: bool) -> Outcome {
        let runtime = &self.shared.runtime;
        if let Err(error) = runtime.stop_sandbox(id).await
            && !error.is_not_found()
        {
            return self.finish(Err(error)).await;
        }
        if detach {
            let (net, uid) = (self.shared.net.clone(), self.uid.clone());
            let detached = tokio::task::spawn_blocking(move || net.detach(&uid)).await;
            if let Ok(Err(message)) = detached {
                tracing::warn!(%message, pod = %self.uid, "network of the pod not taken down");
            }
        }
        let removed = runtime.remove_sandbox(id).await;
        if removed.is_ok() {
            self.shared.disown(id);
        }
        self.finish(removed).await
    }

    async fn tear_down(&self) -> Outcome {
        self.shared.net.host_ports(&self.uid, Vec::new());
        let (paths, uid) = (self.shared.paths.clone(), self.uid.clone());
        let done = tokio::task::spawn_blocking(move || crate::volumes::setup::tear_down(&paths, &uid)).await;
        match done {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => {
                tracing::warn!(%error, pod = %self.uid, "volumes not removed");
                tokio::time::sleep(PAUSE).await;
                failed("", error)
            }
            Err(error) => failed("", error),
        }
    }
}

/// Where a container's termination message goes.
pub(super) fn termination_file(shared: &Shared, uid: &str, container: &str, attempt: u32) -> PathBuf {
    shared.paths.pod(uid).join("containers").join(container).join(attempt.to_string())
}

/// Fills in the message of an ended container: what it wrote, or the end of its log.
pub(super) fn termination_message(shared: &Shared, pod: &Pod, status: &mut ContainerStatus) {
    let ContainerState::Exited(exit) = &mut status.state else { return };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let name = status.spec.name.as_str();
    let file = termination_file(shared, uid, name, status.spec.attempt);
    let text = crate::stream::logs::tail_bytes(&file, 4096).unwrap_or_default();
    if !text.is_empty() {
        exit.message = String::from_utf8_lossy(&text).into_owned();
        return;
    }
    let spec = pod.spec.as_ref();
    let mut all = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let policy = all.find(|c| c.name == name).and_then(|c| c.termination_message_policy.as_deref());
    if policy == Some("FallbackToLogsOnError") && exit.exit_code != 0 && exit.message.is_empty() {
        exit.message = crate::stream::logs::tail_lines(&status.spec.log_path, 80, 2048);
    }
}
