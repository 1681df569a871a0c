//! What a pod on this node needs next: `decide(&View) -> Plan`. Pure.
//!
//! The order is kubelet's (`computePodActions`): volumes and sandbox → init
//! containers one after the other (restartable ones keep running) → containers in
//! the order of the spec, each with its image → probes; and for the end: containers,
//! then sidecars in reverse, sandbox, volumes, and last the object itself.
//!
//! What always holds: the same view gives the same plan; nothing that is under way
//! ([`Memory::in_flight`]) is asked for twice; a plan without actions and without a
//! `wake_at` means that only an event can change anything. No I/O, no clock.

pub mod containers;
mod end;
mod memory;
pub mod probe;
pub mod restart;
mod view;

use jiff::Timestamp;

pub use memory::{Backoff, ContainerMemory, Failure, ImageState, Memory, Outcome, note_restarts};
pub use view::{Current, Role, View, is_restartable_init, latest};

use carrack_runtime::{ContainerId, SandboxId};
use std::time::Duration;

/// Something for the shell to do. Its outcome comes back through [`Memory::apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Lay out the pod's directories and volumes.
    PrepareVolumes,
    /// Make the sandbox and put an interface into it.
    RunSandbox {
        /// Counts the sandboxes of this pod.
        attempt: u32,
    },
    /// Have the container's image here, as its pull policy says.
    EnsureImage {
        /// Name of the container.
        container: String,
    },
    /// Create and start a container.
    StartContainer {
        /// Name of the container.
        container: String,
        /// Its restart count.
        attempt: u32,
        /// In which sandbox.
        sandbox: SandboxId,
    },
    /// Run the postStart hook.
    PostStart {
        /// Name of the container.
        container: String,
        /// The started instance.
        id: ContainerId,
    },
    /// preStop hook, wait for the endpoint to go, stop signal, and the kill after `grace`.
    Kill {
        /// Name of the container.
        container: String,
        /// The instance.
        id: ContainerId,
        /// Event message, such as `Stopping container web`.
        message: String,
        /// From now until SIGKILL.
        grace: Duration,
        /// Whether the pod ends with it, so that its endpoint must go first.
        ending: bool,
    },
    /// Remove an ended container that nobody looks at any more.
    RemoveContainer {
        /// The instance.
        id: ContainerId,
    },
    /// Stop the sandbox, take its network down, remove it.
    RemoveSandbox {
        /// The sandbox.
        id: SandboxId,
        /// Whether the pod's interface and addresses go, too: not while another
        /// sandbox of the pod takes them over.
        detach: bool,
    },
    /// Probe a running container once.
    Probe {
        /// Name of the container.
        container: String,
        /// The instance.
        id: ContainerId,
        /// Which of its probes.
        kind: probe::Kind,
        /// An extra attempt, whose failure means nothing.
        early: bool,
    },
    /// Unmount and remove volumes and the pod's directory.
    TearDown,
    /// Delete the object for good: everything of it has stopped.
    DeletePod,
}

/// Identity of an action that is under way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// [`Action::PrepareVolumes`].
    Volumes,
    /// [`Action::RunSandbox`].
    Sandbox,
    /// [`Action::EnsureImage`].
    Image(String),
    /// [`Action::StartContainer`].
    Start(String),
    /// [`Action::PostStart`].
    PostStart(ContainerId),
    /// [`Action::Kill`].
    Kill(ContainerId),
    /// [`Action::RemoveContainer`].
    RemoveContainer(ContainerId),
    /// [`Action::RemoveSandbox`].
    RemoveSandbox(SandboxId),
    /// [`Action::Probe`].
    Probe(ContainerId, probe::Kind),
    /// [`Action::TearDown`].
    TearDown,
    /// [`Action::DeletePod`].
    DeletePod,
}

/// What to do now, and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be started now, concurrently.
    pub actions: Vec<Action>,
    /// When something falls due without an event.
    pub wake_at: Option<Timestamp>,
    /// Nothing of the pod is left on this node; the worker can end once the object
    /// is gone.
    pub finished: bool,
}

// === impl Action ===

impl Action {
    /// Under which identity it is under way.
    pub fn task(&self) -> Task {
        match self {
            Self::PrepareVolumes => Task::Volumes,
            Self::RunSandbox { .. } => Task::Sandbox,
            Self::EnsureImage { container } => Task::Image(container.clone()),
            Self::StartContainer { container, .. } => Task::Start(container.clone()),
            Self::PostStart { id, .. } => Task::PostStart(id.clone()),
            Self::Kill { id, .. } => Task::Kill(id.clone()),
            Self::RemoveContainer { id } => Task::RemoveContainer(id.clone()),
            Self::RemoveSandbox { id, .. } => Task::RemoveSandbox(id.clone()),
            Self::Probe { id, kind, .. } => Task::Probe(id.clone(), *kind),
            Self::TearDown => Task::TearDown,
            Self::DeletePod => Task::DeletePod,
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Looks again at `at`, or earlier.
    pub fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn act(&mut self, view: &View<'_>, action: Action) {
        if !view.memory.in_flight.contains(&action.task()) {
            self.actions.push(action);
        }
    }
}

/// The next steps of one pod.
pub fn decide(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    if view.ending() || view.finished() {
        end::decide(view, &mut plan);
    } else {
        if let Some(deadline) = view.active_deadline() {
            plan.wake(deadline);
        }
        run(view, &mut plan);
    }
    plan
}

/// A pod that shall run: prerequisites first, then containers and probes.
fn run(view: &View<'_>, plan: &mut Plan) {
    let memory = view.memory;
    if !memory.volumes_ready && step_due(view, plan, memory.volumes_failure.as_ref()) {
        plan.act(view, Action::PrepareVolumes);
    }
    let Some(sandbox) = view.sandbox() else {
        // The last one stays for its containers' last states; those before it go.
        let stale: Vec<_> = view.sandboxes.iter().rev().skip(1).collect();
        for old in stale {
            plan.act(view, Action::RemoveSandbox { id: old.id.clone(), detach: false });
        }
        if step_due(view, plan, memory.sandbox_failure.as_ref()) {
            let attempt = view.sandboxes.iter().map(|s| s.spec.attempt + 1).max().unwrap_or(0);
            plan.act(view, Action::RunSandbox { attempt });
        }
        containers::ensure_first_images(view, plan);
        return;
    };
    if !memory.volumes_ready {
        containers::ensure_first_images(view, plan);
        return;
    }
    containers::decide(view, sandbox, plan);
    containers::probes(view, plan);
    containers::forget_old(view, plan);
}

/// Whether a step that may have failed can be tried now; otherwise asks to be woken.
fn step_due(view: &View<'_>, plan: &mut Plan, failure: Option<&Failure>) -> bool {
    match failure {
        Some(failure) if failure.retry_at > view.now => {
            plan.wake(failure.retry_at);
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod simulation;
