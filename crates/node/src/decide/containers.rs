//! Which containers to start, to restart and to probe. Pure.

use carrack_runtime::{ContainerState, SandboxStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use std::time::Duration;

use super::probe::{self, Kind};
use super::restart::should_restart;
use super::{Action, Current, ImageState, Plan, Role, Task, View, is_restartable_init, latest, step_due};

/// Starts what is to run next in `sandbox`, and kills what has to start over.
pub(super) fn decide(view: &View<'_>, sandbox: &SandboxStatus, plan: &mut Plan) {
    if !init(view, sandbox, plan) {
        return;
    }
    for container in &view.spec().containers {
        if busy(view, container) {
            // One after the other, as kubelet: a postStart hook holds the next one back.
            break;
        }
        match view.current(&container.name) {
            Current::None => {
                // Before a new sandbox it may have ended for good.
                let over = view.exit_code(&container.name);
                if over.is_none_or(|code| should_restart(view.pod, container, false, code))
                    && start(view, sandbox, container, plan)
                {
                    break;
                }
            }
            Current::Running(status, _) => {
                if post_start(view, container, status, plan) {
                    break;
                }
                restart_unhealthy(view, container, status, plan);
            }
            Current::Exited(_, exit) => {
                if should_restart(view.pod, container, false, exit.exit_code)
                    && start(view, sandbox, container, plan)
                {
                    break;
                }
            }
        }
    }
}

/// Init containers in order; true when the containers may start.
fn init(view: &View<'_>, sandbox: &SandboxStatus, plan: &mut Plan) -> bool {
    let initialized = view.initialized();
    for container in view.inits() {
        let restartable = is_restartable_init(container);
        if initialized && !restartable {
            continue;
        }
        if busy(view, container) {
            return initialized;
        }
        let passed = match view.current(&container.name) {
            Current::None => {
                start(view, sandbox, container, plan);
                false
            }
            Current::Running(status, _) => {
                if !post_start(view, container, status, plan) {
                    restart_unhealthy(view, container, status, plan);
                }
                restartable && view.started(container, status)
            }
            Current::Exited(_, exit) => {
                if should_restart(view.pod, container, true, exit.exit_code) {
                    start(view, sandbox, container, plan);
                }
                !restartable && exit.exit_code == 0
            }
        };
        if !passed && !initialized {
            return false;
        }
    }
    true
}

/// Whether a start, a hook or a kill of the container is under way.
fn busy(view: &View<'_>, container: &Container) -> bool {
    view.memory.in_flight.iter().any(|task| match task {
        Task::Start(name) => *name == container.name,
        Task::PostStart(id) => {
            matches!(view.current(&container.name), Current::Running(status, _) if status.id == *id)
        }
        _ => false,
    })
}

/// Starts a container once its back-off is over and its image is here. True when it
/// is being started, so that the next one waits.
fn start(view: &View<'_>, sandbox: &SandboxStatus, container: &Container, plan: &mut Plan) -> bool {
    let memory = view.memory.container(&container.name);
    if let Some(until) = backoff_until(view, &container.name) {
        plan.wake(until);
        return false;
    }
    if !step_due(view, plan, memory.failure.as_ref()) {
        return false;
    }
    if !image(view, container, plan) {
        return false;
    }
    let attempt = view.next_attempt(&container.name);
    plan.act(
        view,
        Action::StartContainer { container: container.name.clone(), attempt, sandbox: sandbox.id.clone() },
    );
    true
}

/// Whether the image is here; otherwise has it fetched when that is due.
fn image(view: &View<'_>, container: &Container, plan: &mut Plan) -> bool {
    match &view.memory.container(&container.name).image {
        ImageState::Present { .. } => return true,
        ImageState::Failed(failure) => {
            // Shown as ErrImagePull first, then as ImagePullBackOff.
            let shown = failure.since.checked_add(SignedDuration::from_secs(1));
            if let Some(shown) = shown.ok().filter(|shown| *shown > view.now) {
                plan.wake(shown);
            }
            if failure.retry_at > view.now {
                plan.wake(failure.retry_at);
                return false;
            }
        }
        ImageState::Unknown => {}
    }
    plan.act(view, Action::EnsureImage { container: container.name.clone() });
    false
}

/// While the sandbox is being made, the images of what starts first are fetched.
pub(super) fn ensure_first_images(view: &View<'_>, plan: &mut Plan) {
    let first = view.inits().next();
    let mains = view.spec().containers.iter().filter(|_| first.is_none());
    for container in first.into_iter().chain(mains) {
        let over = view.exit_code(&container.name).is_some();
        if !over && view.memory.container(&container.name).failure.is_none() {
            image(view, container, plan);
        }
    }
}

/// Until when a crashed container waits.
pub fn backoff_until(view: &View<'_>, name: &str) -> Option<Timestamp> {
    let ContainerState::Exited(exit) = &latest(view.sandboxes, name)?.state else { return None };
    view.memory.container(name).crash?.until(exit.finished_at, view.now)
}

/// Runs the hook of an instance that has just started. True while it is to run.
fn post_start(
    view: &View<'_>,
    container: &Container,
    status: &carrack_runtime::ContainerStatus,
    plan: &mut Plan,
) -> bool {
    let hook = container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
    if !hook || view.post_started(&container.name, &status.id) {
        return false;
    }
    plan.act(view, Action::PostStart { container: container.name.clone(), id: status.id.clone() });
    true
}

/// Kills an instance whose probe failed or whose image was changed in the spec.
fn restart_unhealthy(
    view: &View<'_>,
    container: &Container,
    status: &carrack_runtime::ContainerStatus,
    plan: &mut Plan,
) {
    let name = &container.name;
    let mut grace = grace_period(view);
    let failed = [Kind::Startup, Kind::Liveness]
        .into_iter()
        .find(|kind| view.verdict(container, status, *kind) == Some(false));
    let message = if let Some(kind) = failed {
        let own = probe::of(container, kind).and_then(|p| p.termination_grace_period_seconds);
        if let Some(seconds) = own {
            grace = Duration::from_secs(seconds.try_into().unwrap_or(0));
        }
        let which = if kind == Kind::Startup { "startup" } else { "liveness" };
        format!("Container {name} failed {which} probe, will be restarted")
    } else if status.spec.annotations.get(IMAGE).is_some_and(|image| Some(image) != container.image.as_ref())
    {
        format!("Container {name} definition changed, will be restarted")
    } else {
        return;
    };
    if !view.memory.stopping.contains_key(&status.id) {
        plan.act(
            view,
            Action::Kill { container: name.clone(), id: status.id.clone(), message, grace, ending: false },
        );
    }
}

/// Annotation of a created container: the image its spec named.
pub const IMAGE: &str = "carrack.io/image";

/// `terminationGracePeriodSeconds`.
pub fn grace_period(view: &View<'_>) -> Duration {
    let seconds = view.spec().termination_grace_period_seconds.unwrap_or(30);
    Duration::from_secs(seconds.try_into().unwrap_or(0))
}

/// Probes that are due, and when the next ones are.
pub(super) fn probes(view: &View<'_>, plan: &mut Plan) {
    for (container, role) in view.roles() {
        if role == Role::Init {
            continue;
        }
        let Current::Running(status, started) = view.current(&container.name) else { continue };
        if view.memory.stopping.contains_key(&status.id) && !view.ending() {
            continue;
        }
        for kind in Kind::ALL {
            let Some(spec) = probe::of(container, kind) else { continue };
            let startup = view.verdict(container, status, Kind::Startup);
            let held = container.startup_probe.is_some() && startup != Some(true);
            let over = kind == Kind::Startup && startup.is_some();
            let late = view.ending() && kind != Kind::Readiness;
            if over || late || (held && kind != Kind::Startup) {
                continue;
            }
            let memory = view.memory.container(&container.name);
            let known = memory.probes.get(&kind).filter(|_| memory.probed.as_ref() == Some(&status.id));
            let due = known.cloned().unwrap_or_default().next(kind, spec, started);
            if due.at > view.now {
                plan.wake(due.at);
            } else {
                plan.act(
                    view,
                    Action::Probe {
                        container: container.name.clone(),
                        id: status.id.clone(),
                        kind,
                        early: due.early,
                    },
                );
            }
        }
    }
}

/// Of each container the newest instance and the one before stay (for its last state
/// and `logs --previous`); older ones go.
pub(super) fn forget_old(view: &View<'_>, plan: &mut Plan) {
    for (container, _) in view.roles() {
        let mut instances: Vec<_> = view
            .sandboxes
            .iter()
            .flat_map(|s| &s.containers)
            .filter(|c| c.spec.name == container.name)
            .collect();
        instances.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.spec.attempt)));
        for old in instances.iter().skip(2) {
            if !matches!(old.state, ContainerState::Running { .. }) {
                plan.act(view, Action::RemoveContainer { id: old.id.clone() });
            }
        }
    }
}
