//! A runtime that exists only as data: actions change it, nothing runs. Pure.

use std::net::Ipv4Addr;

use carrack_runtime::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, ExitStatus, SandboxId, SandboxSpec,
    SandboxState, SandboxStatus,
};
use jiff::Timestamp;

use super::hash;
use crate::decide::{Action, Outcome};

/// What the runtime of one pod would have.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// Oldest first.
    pub(super) sandboxes: Vec<SandboxStatus>,
    /// The pod's address.
    pub(super) address: Ipv4Addr,
}

impl World {
    /// Does an action; killed containers end with `code`.
    pub(super) fn act(&mut self, action: &Action, uid: &str, code: i32, now: Timestamp) -> Outcome {
        match action {
            Action::RunSandbox { attempt } => {
                let id = SandboxId(identifier(&[uid, "sandbox", &attempt.to_string()]));
                self.sandboxes.push(sandbox(id.clone(), *attempt, now));
                Outcome::Sandbox(id, vec![self.address.into()])
            }
            Action::EnsureImage { container } => Outcome::Image(image_id(container)),
            Action::StartContainer { container, attempt, sandbox } => {
                let id = ContainerId(identifier(&[uid, container, &attempt.to_string()]));
                let Some(home) = self.sandboxes.iter_mut().find(|s| s.id == *sandbox) else {
                    return Outcome::Failed("CreateContainerError".into(), "its sandbox is gone".into());
                };
                home.containers.push(ContainerStatus {
                    id: id.clone(),
                    sandbox: sandbox.clone(),
                    spec: ContainerSpec {
                        name: container.clone(),
                        attempt: *attempt,
                        ..ContainerSpec::default()
                    },
                    image_id: image_id(container),
                    created_at: now,
                    state: ContainerState::Running { pid: 1, started_at: now },
                });
                Outcome::Started(id)
            }
            Action::Kill { id, .. } => {
                self.exit(id, code, now);
                Outcome::Done
            }
            Action::RemoveContainer { id } => {
                self.sandboxes.iter_mut().for_each(|s| s.containers.retain(|c| c.id != *id));
                Outcome::Done
            }
            Action::RemoveSandbox { id, .. } => {
                self.sandboxes.retain(|s| s.id != *id);
                Outcome::Done
            }
            Action::Probe { .. } => Outcome::Probed(true),
            Action::PrepareVolumes | Action::TearDown | Action::PostStart { .. } | Action::DeletePod => {
                Outcome::Done
            }
        }
    }

    /// Every running container and when it was started.
    pub(super) fn running(&self) -> impl Iterator<Item = (&ContainerStatus, Timestamp)> {
        let all = self.sandboxes.iter().flat_map(|s| &s.containers);
        all.filter_map(|c| match c.state {
            ContainerState::Running { started_at, .. } => Some((c, started_at)),
            _ => None,
        })
    }

    /// A running container ends.
    pub(super) fn exit(&mut self, id: &ContainerId, exit_code: i32, finished_at: Timestamp) {
        let mut all = self.sandboxes.iter_mut().flat_map(|s| &mut s.containers);
        let Some(container) = all.find(|c| c.id == *id) else { return };
        if let ContainerState::Running { started_at, .. } = container.state {
            container.state = ContainerState::Exited(exit(exit_code, Some(started_at), finished_at));
        }
    }
}

/// A sandbox that stands.
pub(super) fn sandbox(id: SandboxId, attempt: u32, created_at: Timestamp) -> SandboxStatus {
    SandboxStatus {
        id,
        spec: SandboxSpec { attempt, ..SandboxSpec::default() },
        state: SandboxState::Ready,
        created_at,
        netns: None,
        containers: Vec::new(),
    }
}

/// How a container ended.
pub(super) fn exit(exit_code: i32, started_at: Option<Timestamp>, finished_at: Timestamp) -> ExitStatus {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    ExitStatus {
        exit_code,
        signal: 0,
        started_at,
        finished_at,
        reason: reason.into(),
        message: String::new(),
    }
}

fn identifier(parts: &[&str]) -> String {
    format!("{:016x}", hash(parts))
}

fn image_id(container: &str) -> String {
    format!("sha256:{:064x}", hash(&["image", container]))
}
