//! Finding pods again after a restart, and following a shim's events.
//!
//! What always holds: what a shim says wins over what is on disk; without a shim, the exit
//! records on disk win over "unknown"; processes whose shim is gone are killed, because
//! nobody would see them end.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::builtin::client::ShimClient;
use crate::builtin::sandbox::{self, RECORD, STOPPED};
use crate::builtin::{ContainerRecord, Member, Pod, SandboxRecord, Shared, blocking, container, lock};
use crate::bundle::{EXIT, read_json};
use crate::error::{Result, RuntimeError};
use crate::shim::protocol::{Answer, ContainerReport, Event, Op};
use crate::spec::{ContainerId, SandboxId};
use crate::traits::{ContainerState, ExitStatus, RuntimeEvent, SandboxState};

/// How long a living shim may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes over every sandbox on disk.
pub(super) async fn all(shared: &Arc<Shared>) -> Result<()> {
    let dir = &shared.run_dir;
    let entries = fs::read_dir(dir).map_err(RuntimeError::io("read", dir))?;
    let dirs: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    join_all(dirs.iter().map(|dir| one(shared, dir))).await;
    Ok(())
}

async fn one(shared: &Arc<Shared>, dir: &Path) {
    let Some(id) = dir.file_name().and_then(|n| n.to_str()) else {
        return;
    };
    let record: SandboxRecord = match read_json(&dir.join(RECORD)) {
        Ok(record) => record,
        Err(e) => {
            // Made by a process that died before it wrote what it wanted.
            tracing::warn!(sandbox = id, error = %e, "removing an unfinished sandbox");
            let (shared, dir) = (shared.clone(), dir.to_path_buf());
            let _ = blocking(move || sandbox::clean_up(&shared, &dir, "none")).await;
            return;
        }
    };
    let connected = tokio::time::timeout(PATIENCE, connect(dir)).await;
    let (client, reports, events) = match connected {
        Ok(Ok((client, reports, events))) => (Some(Arc::new(client)), reports, Some(events)),
        _ => (None, Vec::new(), None),
    };
    let stopped = client.is_none() || dir.join(STOPPED).exists();
    let state = if stopped { SandboxState::NotReady } else { SandboxState::Ready };
    let pod = Arc::new(Pod {
        id: SandboxId(id.to_owned()),
        dir: dir.to_path_buf(),
        record,
        state: watch::Sender::new(state),
        shim: Mutex::new(client),
        containers: Mutex::new(HashMap::new()),
    });
    for entry in fs::read_dir(dir.join("containers")).into_iter().flatten().flatten() {
        adopt_container(shared, &pod, &entry.path(), &reports);
    }
    if let Some(events) = events {
        follow(shared, &pod, events);
    }
    lock(&shared.sandboxes).insert(pod.id.clone(), pod);
}

async fn connect(dir: &Path) -> std::io::Result<(ShimClient, Vec<ContainerReport>, mpsc::Receiver<Event>)> {
    let (client, events) = ShimClient::connect(dir).await?;
    match client.request(Op::Watch).await? {
        Answer::Containers(reports) => Ok((client, reports, events)),
        other => Err(std::io::Error::other(format!("the shim answers {other:?} to watch"))),
    }
}

fn adopt_container(shared: &Shared, pod: &Arc<Pod>, dir: &Path, reports: &[ContainerReport]) {
    let Some(id) = dir.file_name().and_then(|n| n.to_str()) else {
        return;
    };
    let Ok(record) = read_json::<ContainerRecord>(&dir.join(container::RECORD)) else {
        // Not wholly laid out, so nobody was ever told of it.
        let _ = shared.cgroups.remove_container(&pod.record.spec.pod_uid, id);
        let _ = fs::remove_dir_all(dir);
        return;
    };
    let recorded = || read_json::<ExitStatus>(&dir.join(EXIT)).ok();
    let alive = lock(&pod.shim).is_some();
    let report = reports.iter().find(|r| r.container == id);
    let state = match report {
        Some(ContainerReport { exit: Some(exit), .. }) => ContainerState::Exited(exit.clone()),
        Some(r) => ContainerState::Running { pid: r.pid, started_at: r.started_at },
        None => match recorded() {
            Some(exit) => ContainerState::Exited(exit),
            None if alive => ContainerState::Created,
            None => {
                kill_orphans(shared, pod, id);
                ContainerState::Exited(unknown(None))
            }
        },
    };
    let id = ContainerId(id.to_owned());
    let state = watch::Sender::new(state);
    let member = Arc::new(Member { id: id.clone(), dir: dir.to_path_buf(), record, state });
    lock(&pod.containers).insert(id, member);
}

fn kill_orphans(shared: &Shared, pod: &Pod, container: &str) {
    if let Err(e) = shared.cgroups.remove_container(&pod.record.spec.pod_uid, container) {
        tracing::warn!(container, error = %e, "cannot end what is left of a container");
    }
}

/// Nobody saw the end.
fn unknown(started_at: Option<Timestamp>) -> ExitStatus {
    ExitStatus {
        exit_code: 255,
        signal: 0,
        started_at,
        finished_at: Timestamp::now(),
        reason: "ContainerStatusUnknown".to_owned(),
        message: "the shim of this container is gone".to_owned(),
    }
}

/// Turns a shim's events into states, until its connection ends.
pub(super) fn follow(shared: &Arc<Shared>, pod: &Arc<Pod>, mut events: mpsc::Receiver<Event>) {
    // The task must keep neither the runtime nor the connection alive.
    let (shared, pod) = (Arc::downgrade(shared), Arc::downgrade(pod));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let (Some(shared), Some(pod)) = (shared.upgrade(), pod.upgrade()) else {
                return;
            };
            if let Event::Exited { container, exit } = event {
                ended(&shared, &pod, &ContainerId(container), exit);
            }
        }
        if let (Some(shared), Some(pod)) = (shared.upgrade(), pod.upgrade()) {
            // When we shut the shim down ourselves, it was taken out before.
            let was_there = lock(&pod.shim).take().is_some();
            if was_there {
                lost(&shared, &pod).await;
            }
        }
    });
}

fn ended(shared: &Shared, pod: &Pod, id: &ContainerId, exit: ExitStatus) {
    let member = lock(&pod.containers).get(id).cloned();
    if let Some(member) = member {
        member.state.send_replace(ContainerState::Exited(exit.clone()));
        let (sandbox, container) = (pod.id.clone(), id.clone());
        shared.tell(RuntimeEvent::ContainerExited { sandbox, container, exit });
    }
}

async fn lost(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    tracing::warn!(sandbox = %pod.id, "the shim is gone");
    pod.state.send_replace(SandboxState::NotReady);
    let members: Vec<Arc<Member>> = lock(&pod.containers).values().cloned().collect();
    for member in members.iter().filter(|m| m.is_running()) {
        let started = match &*member.state.borrow() {
            ContainerState::Running { started_at, .. } => Some(*started_at),
            _ => None,
        };
        let exit = read_json::<ExitStatus>(&member.dir.join(EXIT)).unwrap_or_else(|_| unknown(started));
        let (worker, pod_too, id) = (shared.clone(), pod.clone(), member.id.0.clone());
        let killed = blocking(move || {
            kill_orphans(&worker, &pod_too, &id);
            Ok(())
        });
        let _ = killed.await;
        ended(shared, pod, &member.id, exit);
    }
    shared.tell(RuntimeEvent::SandboxLost { sandbox: pod.id.clone() });
}
