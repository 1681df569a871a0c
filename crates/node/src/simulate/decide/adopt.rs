//! What the runtime of a pod must have, by what its status says. Pure.

use carrack_runtime::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, SandboxId, SandboxStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus as ApiStatus, Pod};

use super::world::{exit, sandbox};

/// The sandbox of a pod that has one by its status, with its containers.
pub(super) fn sandboxes(pod: &Pod) -> Vec<SandboxStatus> {
    let Some(status) = &pod.status else { return Vec::new() };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let statuses = [&status.init_container_statuses, &status.container_statuses];
    let containers: Vec<ContainerStatus> =
        statuses.into_iter().flatten().flatten().flat_map(instances).collect();
    if containers.is_empty() {
        return Vec::new();
    }
    let created = containers.iter().map(|c| c.created_at).min().unwrap_or(Timestamp::UNIX_EPOCH);
    let mut home = sandbox(home(), 0, created);
    home.containers = containers;
    vec![home]
}

fn home() -> SandboxId {
    SandboxId("adopted".into())
}

/// The instance before, if one is reported, and the newest.
fn instances(status: &ApiStatus) -> Vec<ContainerStatus> {
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.clone())
    };
    let before = ended(&status.last_state);
    let state = status.state.as_ref();
    if let Some(running) = state.and_then(|state| state.running.as_ref()) {
        let started_at = running.started_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let id = bare(status.container_id.as_deref());
        let running =
            instance(status, id, restarts, started_at, ContainerState::Running { pid: 1, started_at });
        let before = before.map(|t| terminated(status, &t, restarts.saturating_sub(1)));
        return before.into_iter().chain([running]).collect();
    }
    match ended(&status.state) {
        Some(now) => {
            let before = before.map(|t| terminated(status, &t, restarts.saturating_sub(1)));
            before.into_iter().chain([terminated(status, &now, restarts)]).collect()
        }
        // It waits for its next start.
        None => before.map(|t| terminated(status, &t, restarts)).into_iter().collect(),
    }
}

fn terminated(status: &ApiStatus, ended: &ContainerStateTerminated, attempt: u32) -> ContainerStatus {
    let started_at = ended.started_at.as_ref().map(|time| time.0);
    let finished_at = ended.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let state = ContainerState::Exited(exit(ended.exit_code, started_at, finished_at));
    let id = bare(ended.container_id.as_deref());
    instance(status, id, attempt, started_at.unwrap_or(finished_at), state)
}

fn instance(
    status: &ApiStatus,
    id: ContainerId,
    attempt: u32,
    created_at: Timestamp,
    state: ContainerState,
) -> ContainerStatus {
    let spec = ContainerSpec { name: status.name.clone(), attempt, ..ContainerSpec::default() };
    ContainerStatus { id, sandbox: home(), spec, image_id: status.image_id.clone(), created_at, state }
}

/// The id without the runtime's name.
fn bare(id: Option<&str>) -> ContainerId {
    let id = id.unwrap_or_default();
    ContainerId(id.split_once("://").map_or(id, |(_, id)| id).to_owned())
}
