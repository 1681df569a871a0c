//! The snapshot that a decision is made on, and the questions asked of it. Pure.

use carrack_runtime::{ContainerState, ContainerStatus, ExitStatus, SandboxState, SandboxStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus as ApiStatus, Pod, PodSpec, PodStatus};

use super::restart::should_restart;
use super::{Memory, probe};

/// Everything that is known of one pod.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The object as last seen.
    pub pod: &'a Pod,
    /// The API has no such object any more.
    pub gone: bool,
    /// What the runtime has, oldest first.
    pub sandboxes: &'a [SandboxStatus],
    /// What was learnt.
    pub memory: &'a Memory,
    /// The status as last made (at first: as found in the object).
    pub last: &'a PodStatus,
    /// Now.
    pub now: Timestamp,
}

/// The part that a container plays in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An init container that runs to its end.
    Init,
    /// A restartable init container.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// Where a container stands in the current sandbox.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Current<'a> {
    /// Never started here (a created one that did not start counts as such).
    None,
    /// Running.
    Running(&'a ContainerStatus, Timestamp),
    /// Ended.
    Exited(&'a ContainerStatus, &'a ExitStatus),
}

/// Whether an init container is a sidecar (`restartPolicy: Always`).
pub fn is_restartable_init(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The newest instance of a container in all sandboxes.
pub fn latest<'a>(sandboxes: &'a [SandboxStatus], name: &str) -> Option<&'a ContainerStatus> {
    let all = sandboxes.iter().flat_map(|s| &s.containers).filter(|c| c.spec.name == name);
    all.max_by_key(|c| (c.created_at, c.spec.attempt))
}

impl<'a> View<'a> {
    /// The pod's spec.
    pub fn spec(&self) -> &'a PodSpec {
        static NONE: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
        self.pod.spec.as_ref().unwrap_or_else(|| NONE.get_or_init(PodSpec::default))
    }

    /// Init containers in order.
    pub fn inits(&self) -> impl DoubleEndedIterator<Item = &'a Container> + Clone {
        self.spec().init_containers.iter().flatten()
    }

    /// Init containers, then containers, each with its role.
    pub fn roles(&self) -> impl Iterator<Item = (&'a Container, Role)> {
        let inits =
            self.inits().map(|c| (c, if is_restartable_init(c) { Role::Sidecar } else { Role::Init }));
        inits.chain(self.spec().containers.iter().map(|c| (c, Role::Main)))
    }

    /// The sandbox that containers are started in.
    pub fn sandbox(&self) -> Option<&'a SandboxStatus> {
        self.sandboxes.iter().rev().find(|s| s.state == SandboxState::Ready)
    }

    /// Where a container stands in the current sandbox.
    pub fn current(&self, name: &str) -> Current<'a> {
        let Some(sandbox) = self.sandbox() else { return Current::None };
        let Some(found) = latest(std::slice::from_ref(sandbox), name) else { return Current::None };
        match &found.state {
            ContainerState::Created => Current::None,
            ContainerState::Running { started_at, .. } => Current::Running(found, *started_at),
            ContainerState::Exited(exit) => Current::Exited(found, exit),
        }
    }

    /// Every instance that runs, in any sandbox.
    pub fn running(&self) -> impl Iterator<Item = &'a ContainerStatus> {
        let all = self.sandboxes.iter().flat_map(|s| &s.containers);
        all.filter(|c| matches!(c.state, ContainerState::Running { .. }))
    }

    /// Its entry in the last status.
    pub fn last_of(&self, name: &str) -> Option<&'a ApiStatus> {
        let lists = [&self.last.init_container_statuses, &self.last.container_statuses];
        lists.into_iter().flatten().flatten().find(|s| s.name == name)
    }

    /// How the container ended last, by the runtime or, where that has forgotten, by
    /// the last status. `None` while it runs or before it ever did.
    pub fn exit_code(&self, name: &str) -> Option<i32> {
        match self.current(name) {
            Current::Running(..) => None,
            Current::Exited(_, exit) => Some(exit.exit_code),
            Current::None => match latest(self.sandboxes, name).map(|c| &c.state) {
                Some(ContainerState::Exited(exit)) => Some(exit.exit_code),
                _ => {
                    let state = self.last_of(name)?.state.as_ref()?;
                    state.terminated.as_ref().map(|t| t.exit_code)
                }
            },
        }
    }

    /// Number for the next instance: what the runtime has plus one, and never below
    /// what was reported.
    pub fn next_attempt(&self, name: &str) -> u32 {
        let seen = latest(self.sandboxes, name).map(|c| match c.state {
            // It never ran: the next one takes its place.
            ContainerState::Created => c.spec.attempt,
            _ => c.spec.attempt + 1,
        });
        let reported = self.last_of(name).map(|s| {
            let ran = s.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some());
            u32::try_from(s.restart_count).unwrap_or(0) + u32::from(ran && s.container_id.is_some())
        });
        match (seen, reported) {
            (Some(seen), _) => seen,
            (None, reported) => reported.unwrap_or(0),
        }
    }

    /// Whether a running instance counts as started: hook run, startup probe passed.
    pub fn started(&self, container: &Container, status: &ContainerStatus) -> bool {
        let memory = self.memory.container(&container.name);
        let hook = container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
        if hook && memory.post_started.as_ref() != Some(&status.id) {
            return false;
        }
        container.startup_probe.is_none()
            || self.verdict(container, status, probe::Kind::Startup) == Some(true)
    }

    /// Whether a running instance is ready.
    pub fn ready(&self, container: &Container, status: &ContainerStatus) -> bool {
        self.started(container, status)
            && (container.readiness_probe.is_none()
                || self.verdict(container, status, probe::Kind::Readiness) == Some(true))
    }

    /// What a probe has shown of an instance.
    pub fn verdict(
        &self,
        container: &Container,
        status: &ContainerStatus,
        kind: probe::Kind,
    ) -> Option<bool> {
        let memory = self.memory.container(&container.name);
        if memory.probed.as_ref() != Some(&status.id) {
            return None;
        }
        memory.probes.get(&kind).and_then(|state| state.verdict)
    }

    /// When `activeDeadlineSeconds` is over.
    pub fn active_deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec().active_deadline_seconds?;
        let start = self.memory.first_seen?;
        start.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Whether the pod is being ended: deleted, gone, evicted, or out of time.
    pub fn ending(&self) -> bool {
        self.gone
            || self.pod.metadata.deletion_timestamp.is_some()
            || self.memory.ended.is_some()
            || self.out_of_time()
    }

    /// Whether `activeDeadlineSeconds` is over while the pod still ran.
    pub fn out_of_time(&self) -> bool {
        !self.finished() && self.active_deadline().is_some_and(|deadline| deadline <= self.now)
    }

    /// Whether everything that was to run has run, so that nothing starts again.
    pub fn finished(&self) -> bool {
        if matches!(self.last.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return true;
        }
        self.init_failed() || (self.initialized() && self.mains_done())
    }

    /// Whether an init container failed for good.
    pub fn init_failed(&self) -> bool {
        self.inits().filter(|c| !is_restartable_init(c)).any(|c| {
            let code = self.exit_code(&c.name).unwrap_or(0);
            code != 0 && !should_restart(self.pod, c, true, code)
        })
    }

    /// Whether every container has ended and stays so.
    fn mains_done(&self) -> bool {
        let containers = &self.spec().containers;
        !containers.is_empty()
            && containers.iter().all(|c| {
                let code = self.exit_code(&c.name);
                code.is_some_and(|code| !should_restart(self.pod, c, false, code))
            })
    }

    /// Whether a container of the spec has been started in this sandbox (or, without
    /// a sandbox, ever), after which init containers are over.
    pub fn initialized(&self) -> bool {
        let containers = &self.spec().containers;
        if self.sandbox().is_some() {
            containers.iter().any(|c| self.current(&c.name) != Current::None)
        } else {
            containers.iter().any(|c| self.exit_code(&c.name).is_some())
        }
    }

    /// `namespace/name`, as messages have it: `name_namespace(uid)`.
    pub fn formatted(&self) -> String {
        let meta = &self.pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
    }
}
