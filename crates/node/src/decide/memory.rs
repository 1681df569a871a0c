//! What the agent has learnt about a pod since it took it up: outcomes of actions,
//! back-off, probe results. Pure: outcomes and `now` go in.
//!
//! It is volatile: after a restart it begins empty, and [`Memory::adopt`] fills in
//! what must not be forgotten (readiness, hooks that have run, restart back-off)
//! from the pod's last written status and the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use carrack_runtime::{ContainerId, ContainerState, SandboxId, SandboxStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus as ApiStatus, Pod};

use super::probe::{self, ProbeState};
use super::restart::{IMAGE_BACKOFF, STEP_BACKOFF, exponential};
use super::{Task, View};

/// What was learnt about one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Actions under way.
    pub in_flight: BTreeSet<Task>,
    /// Volumes and directories are laid out.
    pub volumes_ready: bool,
    /// Why they are not.
    pub volumes_failure: Option<Failure>,
    /// Why there is no sandbox.
    pub sandbox_failure: Option<Failure>,
    /// Addresses by sandbox.
    pub addresses: BTreeMap<SandboxId, Vec<IpAddr>>,
    /// By container name.
    pub containers: BTreeMap<String, ContainerMemory>,
    /// Until when each container being stopped may live.
    pub stopping: BTreeMap<ContainerId, Timestamp>,
    /// When the pod was first seen here (`status.startTime`).
    pub first_seen: Option<Timestamp>,
    /// Why the node ended the pod: reason and message of the status.
    pub ended: Option<(String, String)>,
    /// The volumes are gone again.
    pub torn_down: bool,
    /// The final status has been written, so that the object may go.
    pub final_written: bool,
    /// The object has been deleted for good (finalizers of others may still hold it).
    pub deleted: bool,
}

/// What was learnt about one container of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerMemory {
    /// Whether its image is here.
    pub image: ImageState,
    /// Why it could not be created or started.
    pub failure: Option<Failure>,
    /// Restart back-off.
    pub crash: Option<Backoff>,
    /// Probe states of the instance named by `probed`.
    pub probes: BTreeMap<probe::Kind, ProbeState>,
    /// The instance that the probes look at.
    pub probed: Option<ContainerId>,
    /// The instance whose postStart hook has run.
    pub post_started: Option<ContainerId>,
}

/// Whether a container's image is here.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ImageState {
    /// To be looked up (and pulled, as the policy says).
    #[default]
    Unknown,
    /// There.
    Present {
        /// Its id.
        id: String,
    },
    /// Not there; `failure.reason` is kubelet's, such as `ErrImagePull`.
    Failed(Failure),
}

/// A step that failed, and when to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Waiting reason, such as `CreateContainerConfigError`.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// How often in a row.
    pub failures: u32,
    /// When it failed last.
    pub since: Timestamp,
    /// When to try again.
    pub retry_at: Timestamp,
}

/// Restart back-off of a container (client-go `flowcontrol.Backoff`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The delay counted from the end of the last run.
    pub delay: Duration,
    /// End of the run for which the delay was last raised.
    pub updated: Timestamp,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, nothing to remember but that.
    Done,
    /// The pod's sandbox is there, with these addresses.
    Sandbox(SandboxId, Vec<IpAddr>),
    /// The image is here under this id.
    Image(String),
    /// The container was started.
    Started(ContainerId),
    /// A probe's verdict: success, or failure.
    Probed(bool),
    /// It did not work: reason (a waiting reason where there is one) and message.
    Failed(String, String),
}

// === impl Memory ===

impl Memory {
    /// What is known of a container by name.
    pub fn container(&self, name: &str) -> &ContainerMemory {
        static NONE: ContainerMemory = ContainerMemory {
            image: ImageState::Unknown,
            failure: None,
            crash: None,
            probes: BTreeMap::new(),
            probed: None,
            post_started: None,
        };
        self.containers.get(name).unwrap_or(&NONE)
    }

    fn entry(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// Takes up a pod that may have run under an earlier agent.
    pub fn adopt(pod: &Pod, sandboxes: &[SandboxStatus], now: Timestamp) -> Self {
        let status = pod.status.as_ref();
        let mut memory = Self {
            first_seen: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0).or(Some(now)),
            ..Self::default()
        };
        let running = sandboxes.iter().flat_map(|s| &s.containers);
        for container in running {
            let known = status_of(pod, &container.spec.name, &container.id);
            let entry = memory.entry(&container.spec.name);
            if container.spec.attempt > 0 {
                let delay = exponential(container.spec.attempt - 1);
                entry.crash = Some(Backoff { delay, updated: container.created_at });
            }
            if !matches!(container.state, ContainerState::Running { .. }) {
                continue;
            }
            entry.post_started = Some(container.id.clone());
            entry.probed = Some(container.id.clone());
            let verdicts = [
                (probe::Kind::Startup, known.and_then(|s| s.started).unwrap_or(false)),
                (probe::Kind::Readiness, known.is_some_and(|s| s.ready)),
            ];
            for (kind, passed) in verdicts {
                if passed {
                    entry.probes.insert(kind, ProbeState::passed(now));
                }
            }
        }
        memory
    }

    /// Notes that the plan's actions are under way.
    pub fn begin(&mut self, view_now: Timestamp, actions: &[super::Action]) {
        for action in actions {
            match action {
                super::Action::Kill { id, grace, .. } => {
                    self.stopping.insert(id.clone(), later(view_now, *grace));
                }
                super::Action::Probe { container, id, .. } => {
                    let entry = self.entry(container);
                    if entry.probed.as_ref() != Some(id) {
                        entry.probes.clear();
                        entry.probed = Some(id.clone());
                    }
                }
                _ => {}
            }
            self.in_flight.insert(action.task());
        }
    }

    /// Takes in what came of an action.
    pub fn apply(&mut self, action: &super::Action, outcome: Outcome, pod: &Pod, now: Timestamp) {
        use super::Action as A;
        self.in_flight.remove(&action.task());
        match (action, outcome) {
            (A::PrepareVolumes, Outcome::Done) => {
                (self.volumes_ready, self.volumes_failure) = (true, None);
            }
            (A::PrepareVolumes, Outcome::Failed(reason, message)) => {
                self.volumes_failure = Some(again(self.volumes_failure.take(), reason, message, now));
            }
            (A::RunSandbox { .. }, Outcome::Sandbox(id, addresses)) => {
                self.sandbox_failure = None;
                self.addresses.insert(id, addresses);
            }
            (A::RunSandbox { .. }, Outcome::Failed(reason, message)) => {
                self.sandbox_failure = Some(again(self.sandbox_failure.take(), reason, message, now));
            }
            (A::EnsureImage { container }, outcome) => self.image(container, outcome, now),
            (A::StartContainer { container, .. }, outcome) => self.started(container, outcome, now),
            (A::PostStart { container, id }, _) => {
                self.entry(container).post_started = Some(id.clone());
            }
            (A::Probe { container, id, kind, early }, outcome) => {
                self.probed(container, id, (*kind, *early), outcome, pod, now);
            }
            (A::RemoveSandbox { id, .. }, Outcome::Done) => {
                self.addresses.remove(id);
            }
            (A::Kill { id, .. }, _) => {
                self.stopping.remove(id);
            }
            (A::DeletePod, Outcome::Done) => self.deleted = true,
            (A::TearDown, Outcome::Done) => {
                (self.torn_down, self.volumes_ready) = (true, false);
            }
            _ => {}
        }
    }

    /// Something that a failed step may have waited for has changed: try at once.
    pub fn retry_now(&mut self, now: Timestamp) {
        let failures = self.containers.values_mut().filter_map(|c| c.failure.as_mut());
        for failure in failures.chain(self.volumes_failure.as_mut()) {
            failure.retry_at = failure.retry_at.min(now);
        }
    }

    fn image(&mut self, container: &str, outcome: Outcome, now: Timestamp) {
        let entry = self.entry(container);
        entry.image = match (outcome, std::mem::take(&mut entry.image)) {
            (Outcome::Image(id), _) => ImageState::Present { id },
            (Outcome::Failed(reason, message), before) => {
                let failures = match before {
                    ImageState::Failed(before) => before.failures,
                    _ => 0,
                };
                let retry_at = later(now, IMAGE_BACKOFF.delay(failures));
                ImageState::Failed(Failure { reason, message, failures: failures + 1, since: now, retry_at })
            }
            (_, before) => before,
        };
    }

    fn started(&mut self, container: &str, outcome: Outcome, now: Timestamp) {
        let entry = self.entry(container);
        match outcome {
            Outcome::Started(id) => {
                entry.failure = None;
                entry.image = ImageState::Unknown;
                entry.probes.clear();
                entry.probed = Some(id);
            }
            Outcome::Failed(reason, message) => {
                // The next attempt looks at the image again: it may have been removed.
                entry.image = ImageState::Unknown;
                entry.failure = Some(again(entry.failure.take(), reason, message, now));
            }
            _ => {}
        }
    }

    fn probed(
        &mut self,
        container: &str,
        id: &ContainerId,
        (kind, early): (probe::Kind, bool),
        outcome: Outcome,
        pod: &Pod,
        now: Timestamp,
    ) {
        let Some(spec) = probe::spec_of(pod, container, kind) else { return };
        let entry = self.entry(container);
        // A late answer about an instance that is no more says nothing of the next one.
        if entry.probed.as_ref() != Some(id) {
            return;
        }
        let state = entry.probes.entry(kind).or_default();
        let success = matches!(outcome, Outcome::Probed(true));
        if early {
            state.observe_early(spec, success, now);
        } else {
            state.observe(spec, success, now);
        }
    }

    /// Raises the restart back-off for a run that ended at `finished`, as
    /// `Backoff.Next` does: 10 s, doubled, at most 300 s, and from the start again
    /// after a run that lasted more than 10 minutes.
    pub fn raise_backoff(&mut self, container: &str, finished: Timestamp) {
        let entry = self.entry(container);
        entry.crash = Some(Backoff::next(entry.crash, finished));
    }
}

/// Folds decisions that change memory without an action: back-off is raised when a
/// container is started again.
pub fn note_restarts(memory: &mut Memory, view_sandboxes: &[SandboxStatus], actions: &[super::Action]) {
    for action in actions {
        let super::Action::StartContainer { container, .. } = action else { continue };
        if let Some(last) = super::latest(view_sandboxes, container)
            && let ContainerState::Exited(exit) = &last.state
        {
            memory.raise_backoff(container, exit.finished_at);
        }
    }
}

fn status_of<'a>(pod: &'a Pod, name: &str, id: &ContainerId) -> Option<&'a ApiStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|s| s.name == name && s.container_id.as_deref().is_some_and(|c| c.ends_with(id.as_ref())))
}

fn again(before: Option<Failure>, reason: String, message: String, now: Timestamp) -> Failure {
    let failures = before.map_or(0, |failure| failure.failures);
    let retry_at = later(now, STEP_BACKOFF.delay(failures));
    Failure { reason, message, failures: failures + 1, since: now, retry_at }
}

fn later(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}

impl View<'_> {
    /// Whether the instance's postStart hook (if any) has run.
    pub fn post_started(&self, container: &str, id: &ContainerId) -> bool {
        self.memory.container(container).post_started.as_ref() == Some(id)
    }
}
