//! Container statuses: state, last state, readiness, reasons of waiting. Pure.

use carrack_runtime::{ContainerState as Life, ContainerStatus as Instance, ExitStatus};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, VolumeMountStatus,
};

use super::time;
use crate::decide::containers::backoff_until;
use crate::decide::restart::should_restart;
use crate::decide::{Current, ImageState, View, is_restartable_init, latest};

/// Statuses of the init containers, in the order of the spec.
pub fn init_statuses(view: &View<'_>) -> Vec<ContainerStatus> {
    view.inits().map(|container| one(view, container, true)).collect()
}

/// Statuses of the containers, by name.
pub fn main_statuses(view: &View<'_>) -> Vec<ContainerStatus> {
    let mut statuses: Vec<_> = view.spec().containers.iter().map(|c| one(view, c, false)).collect();
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

fn one(view: &View<'_>, container: &Container, init: bool) -> ContainerStatus {
    let last = view.last_of(&container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: last.map_or(0, |s| s.restart_count),
        last_state: last.and_then(|s| s.last_state.clone()).filter(|s| s.terminated.is_some()),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    };
    let latest = latest(view.sandboxes, &container.name).filter(|i| i.state != Life::Created);
    let state = match latest {
        Some(instance) => {
            from_instance(view, container, instance, &mut status);
            match &instance.state {
                Life::Running { started_at, .. } => running(*started_at),
                Life::Exited(exit) => exited(view, container, init, instance, exit, &mut status),
                Life::Created => waiting("ContainerCreating", ""),
            }
        }
        // The runtime has forgotten it: what was reported stands.
        None => match last.filter(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some())) {
            Some(last) if !will_start(view, container, init) => {
                status.container_id = last.container_id.clone();
                status.image_id.clone_from(&last.image_id);
                status.image.clone_from(&last.image);
                (status.ready, status.resources) = (last.ready, last.resources.clone());
                last.state.clone().unwrap_or_default()
            }
            last => {
                if let Some(state) = last.and_then(|l| l.state.clone()) {
                    status.last_state = Some(state);
                }
                not_started(view, container)
            }
        },
    };
    status.state = Some(state);
    if status.started.is_none() {
        status.started = Some(false);
    }
    status
}

/// Facts of the newest instance, and the last state from the one before it.
fn from_instance(view: &View<'_>, container: &Container, instance: &Instance, status: &mut ContainerStatus) {
    status.container_id = Some(container_id(instance));
    status.image_id.clone_from(&instance.image_id);
    status.restart_count = i32::try_from(instance.spec.attempt).unwrap_or(i32::MAX);
    status.resources = container.resources.clone().or_else(|| Some(Default::default()));
    status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
    let before = view
        .sandboxes
        .iter()
        .flat_map(|s| &s.containers)
        .filter(|c| c.spec.name == container.name && c.id != instance.id)
        .filter_map(|c| match &c.state {
            Life::Exited(exit) => Some((c.created_at, terminated(c, exit))),
            _ => None,
        })
        .max_by_key(|(created, _)| *created);
    if let Some((_, state)) = before {
        status.last_state = Some(state);
    }
    if let Life::Running { .. } = instance.state {
        status.started = Some(view.started(container, instance));
        let sidecar_or_main = !view.inits().any(|c| c.name == container.name && !is_restartable_init(c));
        status.ready = sidecar_or_main && view.ready(container, instance);
    }
}

/// An ended instance: terminated, or waiting for its next start.
fn exited(
    view: &View<'_>,
    container: &Container,
    init: bool,
    instance: &Instance,
    exit: &ExitStatus,
    status: &mut ContainerStatus,
) -> ContainerState {
    let state = terminated(instance, exit);
    let one_shot = init && !is_restartable_init(container);
    status.ready = one_shot && exit.exit_code == 0;
    let again = !view.ending() && should_restart(view.pod, container, init, exit.exit_code);
    if !again {
        return state;
    }
    let wait = if backoff_until(view, &container.name).is_some() {
        let delay = view.memory.container(&container.name).crash.map_or(10, |b| b.delay.as_secs());
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_seconds(delay),
            container.name,
            view.formatted()
        );
        Some(waiting("CrashLoopBackOff", &message))
    } else {
        held(view, container).or_else(|| backed_off(view, container, instance))
    };
    match wait {
        Some(wait) => {
            status.last_state = Some(state);
            wait
        }
        None => state,
    }
}

/// Once the back-off is over, it is shown until the next instance runs.
fn backed_off(view: &View<'_>, container: &Container, instance: &Instance) -> Option<ContainerState> {
    let last = view.last_of(&container.name)?;
    let same = last.container_id.as_deref() == Some(container_id(instance).as_str());
    let shown = last.state.clone()?;
    let waits = shown.waiting.as_ref().is_some_and(|w| w.reason.as_deref() == Some("CrashLoopBackOff"));
    (same && waits).then_some(shown)
}

/// Never started in this sandbox: what it waits for.
fn not_started(view: &View<'_>, container: &Container) -> ContainerState {
    if let Some(state) = held(view, container) {
        return state;
    }
    if view.inits().next().is_some() {
        waiting("PodInitializing", "")
    } else {
        waiting("ContainerCreating", "")
    }
}

/// What keeps a container from starting, when it is more than its turn.
fn held(view: &View<'_>, container: &Container) -> Option<ContainerState> {
    let memory = view.memory.container(&container.name);
    if let ImageState::Failed(failure) = &memory.image {
        let shown_long_enough = view.now.duration_since(failure.since).as_millis() >= 1000;
        if failure.reason == "ErrImagePull" && shown_long_enough {
            let image = container.image.as_deref().unwrap_or_default();
            let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {}", failure.message);
            return Some(waiting("ImagePullBackOff", &message));
        }
        return Some(waiting(&failure.reason, &failure.message));
    }
    memory.failure.as_ref().map(|failure| waiting(&failure.reason, &failure.message))
}

/// Whether a container without an instance is going to be started (again).
fn will_start(view: &View<'_>, container: &Container, init: bool) -> bool {
    if view.ending() || view.finished() {
        return false;
    }
    if init && view.initialized() && !is_restartable_init(container) {
        return false;
    }
    // In a new sandbox init containers run again.
    init || view.exit_code(&container.name).is_none_or(|code| should_restart(view.pod, container, init, code))
}

fn running(started_at: jiff::Timestamp) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(time(started_at)) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let waiting = ContainerStateWaiting { reason: text(reason), message: text(message) };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(instance: &Instance, exit: &ExitStatus) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(instance)),
        exit_code: exit.exit_code,
        // upstream shows the signal only where the runtime splits it from the code
        signal: None,
        reason: Some(exit.reason.clone()).filter(|r| !r.is_empty()),
        message: Some(exit.message.clone()).filter(|m| !m.is_empty()),
        started_at: Some(time(exit.started_at.unwrap_or(jiff::Timestamp::UNIX_EPOCH))),
        finished_at: Some(time(exit.finished_at)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn container_id(instance: &Instance) -> String {
    format!("carrack://{}", instance.id)
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let one = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: (mount.read_only == Some(true)).then(|| {
            match mount.recursive_read_only.as_deref() {
                Some("Enabled" | "IfPossible") => "Enabled".to_owned(),
                _ => "Disabled".to_owned(),
            }
        }),
        ..VolumeMountStatus::default()
    };
    let mounts: Vec<_> = container.volume_mounts.iter().flatten().map(one).collect();
    Some(mounts).filter(|mounts| !mounts.is_empty())
}

/// A duration in whole seconds as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_seconds(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

/// Whether the newest instance of `name` runs now.
pub fn runs(view: &View<'_>, name: &str) -> bool {
    matches!(view.current(name), Current::Running(..))
}
