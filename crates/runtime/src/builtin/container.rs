//! Containers: laying out a bundle, starting, stopping, removing.
//!
//! What always holds: `container.json` is written last, so that a bundle that has it is
//! complete; states move forward only (Created → Running → Exited).

use std::fs;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::sync::watch;

use crate::builtin::{ContainerRecord, Member, Pod, Shared, blocking, lock, make_dir, users};
use crate::bundle::{self, Launch, Overlay, plan, write_json};
use crate::error::{Result, RuntimeError};
use crate::shim::protocol::{Answer, Op};
use crate::spec::{ContainerId, ContainerSpec, SandboxId, Seccomp};
use crate::sys;
use crate::traits::{ContainerState, ExitStatus, RuntimeEvent, SandboxState};

/// Name of the spec's file.
pub const RECORD: &str = "container.json";
/// How long a killed container may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn create(
    shared: &Arc<Shared>,
    sandbox: &SandboxId,
    spec: &ContainerSpec,
) -> Result<ContainerId> {
    let pod = shared.pod(sandbox)?;
    if *pod.state.borrow() != SandboxState::Ready {
        return Err(RuntimeError::Conflict(format!("sandbox \"{sandbox}\" is not ready")));
    }
    let (shared, spec) = (shared.clone(), spec.clone());
    blocking(move || {
        let new = || uuid::Uuid::new_v4().simple().to_string();
        let id = ContainerId(new() + &new());
        let dir = pod.dir.join("containers").join(&id.0);
        match lay_out(&shared, &pod, &id, &dir, spec) {
            Ok(record) => {
                let state = watch::Sender::new(ContainerState::Created);
                let member = Arc::new(Member { id: id.clone(), dir, record, state });
                lock(&pod.containers).insert(id.clone(), member);
                Ok(id)
            }
            Err(e) => {
                let _ = shared.cgroups.remove_container(&pod.record.spec.pod_uid, &id.0);
                let _ = fs::remove_dir_all(&dir);
                Err(e)
            }
        }
    })
    .await
}

fn lay_out(
    shared: &Shared,
    pod: &Pod,
    id: &ContainerId,
    dir: &Path,
    mut spec: ContainerSpec,
) -> Result<ContainerRecord> {
    let sandbox = &pod.record.spec;
    let image = shared.images.find(&spec.image)?;
    let image = image.ok_or_else(|| RuntimeError::ImageNotFound(spec.image.clone()))?;
    let config = &image.status.config;
    let layers_dir = shared.images.layers_dir();
    let user = users::resolve(&spec.user, &config.user, &layers_dir, &image.layers)?;
    permit_score(&mut spec);
    let sandbox_files: Vec<(String, String)> = ["resolv.conf", "hostname"]
        .iter()
        .map(|name| (format!("/etc/{name}"), pod.dir.join(name)))
        .filter(|(_, file)| file.exists())
        .map(|(path, file)| (path, file.to_string_lossy().into_owned()))
        .collect();
    let oci = plan::config(&plan::Inputs {
        sandbox,
        spec: &spec,
        image: config,
        user: &user,
        sandbox_files: &sandbox_files,
        cgroups_path: shared.cgroups.container_path(&sandbox.pod_uid, &id.0),
    })?;
    for part in ["upper", "work", "rootfs"] {
        // The upper directory becomes the container's root: anybody may enter that.
        make_dir(&dir.join(part), if part == "upper" { 0o755 } else { 0o700 })?;
    }
    let mut cgroup = shared.cgroups.create_container(&sandbox.pod_uid, &id.0, &spec.resources)?;
    let may_mount = oci.process.capabilities.bounding.iter().any(|c| c == "CAP_SYS_ADMIN");
    if may_mount && !spec.security.privileged {
        shared.cgroups.confine_devices(&sandbox.pod_uid, &id.0, &mut cgroup)?;
    }
    let launch = Launch {
        rootfs: Overlay {
            layers_dir,
            lower: image.layers.clone(),
            upper: dir.join("upper"),
            work: dir.join("work"),
        },
        cgroup,
        log_path: spec.log_path.clone(),
        log_max_bytes: spec.log_rotation.max_bytes,
        log_max_files: spec.log_rotation.max_files,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        seccomp: spec.security.seccomp == Seccomp::RuntimeDefault && !spec.security.privileged,
        privileged: spec.security.privileged,
    };
    write_json(&dir.join(bundle::CONFIG), &oci)?;
    write_json(&dir.join(bundle::LAUNCH), &launch)?;
    let stop_signal = spec.stop_signal.or_else(|| signal_number(&config.stop_signal));
    let record = ContainerRecord {
        image_id: image.status.id.clone(),
        created_at: Timestamp::now(),
        stop_signal: stop_signal.unwrap_or(libc::SIGTERM),
        spec,
    };
    write_json(&dir.join(RECORD), &record)?;
    Ok(record)
}

/// A negative score takes CAP_SYS_RESOURCE, which some machines keep even from root.
fn permit_score(spec: &mut ContainerSpec) {
    const SYS_RESOURCE: u64 = 1 << 24;
    static WARN: Once = Once::new();
    let allowed = sys::permitted_capabilities().unwrap_or(0) & SYS_RESOURCE != 0;
    if spec.resources.oom_score_adj.is_some_and(|s| s < 0) && !allowed {
        WARN.call_once(|| {
            tracing::warn!("negative oom_score_adj is not permitted here; containers get 0 instead");
        });
        spec.resources.oom_score_adj = None;
    }
}

/// `SIGTERM`, `TERM` or `15`.
fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if let Some(above) = full.strip_prefix("SIGRTMIN") {
        let above: i32 = if above.is_empty() { 0 } else { above.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&above).then_some(34 + above);
    }
    full.parse::<Signal>().ok().map(|s| s as i32)
}

pub(super) async fn start(shared: &Arc<Shared>, id: &ContainerId) -> Result<()> {
    let (pod, member) = shared.member(id)?;
    if *member.state.borrow() != ContainerState::Created {
        return Err(RuntimeError::Conflict(format!("container \"{id}\" was started before")));
    }
    let shim = pod.shim()?;
    let answer = shim.request(Op::Start { container: id.0.clone() }).await;
    match answer.map_err(|e| pod.shim_error(e))? {
        Answer::Started { pid, started_at } => {
            // Its end may have been heard of already.
            member.state.send_if_modified(|state| {
                let first = *state == ContainerState::Created;
                if first {
                    *state = ContainerState::Running { pid, started_at };
                }
                first
            });
            let (sandbox, container) = (pod.id.clone(), id.clone());
            shared.tell(RuntimeEvent::ContainerStarted { sandbox, container });
            Ok(())
        }
        Answer::Failed(message) => {
            let exit = ExitStatus {
                exit_code: 128,
                signal: 0,
                started_at: None,
                finished_at: Timestamp::now(),
                reason: "StartError".to_owned(),
                message: message.clone(),
            };
            // The shim has recorded and told this, unless it failed before there was a process.
            let path = member.dir.join(bundle::EXIT);
            if !path.exists() {
                write_json(&path, &exit)?;
            }
            member.state.send_if_modified(|state| {
                let first = !matches!(state, ContainerState::Exited(_));
                if first {
                    *state = ContainerState::Exited(exit);
                }
                first
            });
            Err(RuntimeError::Start { container: id.to_string(), message })
        }
        other => Err(pod.shim_error(format!("answers {other:?} to start"))),
    }
}

pub(super) async fn stop(
    shared: &Arc<Shared>,
    id: &ContainerId,
    grace: Duration,
    signal: Option<i32>,
) -> Result<()> {
    let Ok((pod, member)) = shared.member(id) else {
        return Ok(());
    };
    if !member.is_running() {
        return Ok(());
    }
    if !grace.is_zero() {
        send_signal(&pod, &member, signal.unwrap_or(member.record.stop_signal)).await?;
        if wait(&member, grace).await {
            return Ok(());
        }
    }
    send_signal(&pod, &member, libc::SIGKILL).await?;
    if wait(&member, KILL_PATIENCE).await {
        return Ok(());
    }
    Err(RuntimeError::Conflict(format!("container \"{id}\" does not end after SIGKILL")))
}

async fn send_signal(pod: &Pod, member: &Member, signal: i32) -> Result<()> {
    let shim = match pod.shim() {
        Ok(shim) => shim,
        // Without a shim its end is being recorded now.
        Err(_) => return Ok(()),
    };
    let op = Op::Signal { container: member.id.0.clone(), signal };
    match shim.request(op).await {
        Ok(Answer::Failed(message)) => Err(pod.shim_error(message)),
        _ => Ok(()),
    }
}

/// True when it has ended in time.
async fn wait(member: &Member, limit: Duration) -> bool {
    let mut state = member.state.subscribe();
    let ended = state.wait_for(|s| !matches!(s, ContainerState::Running { .. }));
    tokio::time::timeout(limit, ended).await.is_ok()
}

pub(super) async fn wait_for_all(pod: &Pod, limit: Duration) -> Result<()> {
    let members: Vec<Arc<Member>> = lock(&pod.containers).values().cloned().collect();
    for member in members {
        if !wait(&member, limit).await {
            return Err(pod.shim_error(format!("container {} does not end", member.id)));
        }
    }
    Ok(())
}

pub(super) async fn remove(shared: &Arc<Shared>, id: &ContainerId) -> Result<()> {
    let Ok((pod, member)) = shared.member(id) else {
        return Ok(());
    };
    stop(shared, id, Duration::ZERO, None).await?;
    let shim = lock(&pod.shim).clone();
    if let Some(shim) = shim {
        let _ = shim.request(Op::Forget { container: id.0.clone() }).await;
    }
    let (shared, uid) = (shared.clone(), pod.record.spec.pod_uid.clone());
    let dir = member.dir.clone();
    let name = id.0.clone();
    blocking(move || {
        shared.cgroups.remove_container(&uid, &name)?;
        // The spec first: what is left after a crash is then no container any more.
        let _ = fs::remove_file(dir.join(RECORD));
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(RuntimeError::io("remove", &dir)(e)),
            _ => Ok(()),
        }
    })
    .await?;
    lock(&pod.containers).remove(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (name, expect) in [
            ("SIGTERM", Some(15)),
            ("QUIT", Some(3)),
            ("sigint", Some(2)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("", None),
            ("SIGNONSENSE", None),
            ("99", None),
        ] {
            assert_eq!(signal_number(name), expect, "{name}");
        }
    }
}
