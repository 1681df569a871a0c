//! Sandboxes: starting a shim, and taking one down with everything in it.
//!
//! What always holds: `sandbox.json` is on disk before the shim runs, and goes last, so a
//! crash at any point leaves something that adoption can finish or remove.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::builtin::client::ShimClient;
use crate::builtin::{Pod, SandboxRecord, Shared, adopt, blocking, container, lock, make_dir};
use crate::bundle::write_json;
use crate::error::{Result, RuntimeError};
use crate::shim::protocol::{Answer, Op, SHIM_CONFIG, ShimConfig};
use crate::spec::{SandboxId, SandboxSpec};
use crate::sys::{self, MountAttr};
use crate::traits::{Sandbox, SandboxState};

/// Name of the spec's file.
pub const RECORD: &str = "sandbox.json";
/// Marks a sandbox that was stopped.
pub const STOPPED: &str = "stopped";
/// `/dev/shm` of a pod, as in docker and containerd.
const SHM_SIZE: u64 = 64 << 20;
/// The binary's allocator takes 4 MiB in huge pages to begin with, forty times what a shim
/// needs, unless it is told before it starts.
const SMALL_ALLOCATOR: [(&str, &str); 2] =
    [("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")];
/// How long a shim may take to start or to end its containers.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(shared: &Arc<Shared>, spec: &SandboxSpec) -> Result<Sandbox> {
    check_uid(&spec.pod_uid)?;
    let id = SandboxId(uuid::Uuid::new_v4().simple().to_string());
    let record = SandboxRecord { spec: spec.clone(), created_at: Timestamp::now() };
    let dir = shared.run_dir.join(&id.0);
    let socket = {
        let (shared, id, record, dir) = (shared.clone(), id.clone(), record.clone(), dir.clone());
        blocking(move || start_shim(&shared, &id, &record, &dir)).await
    };
    let outcome = match socket {
        Ok(socket) => greet(&id, &dir, socket).await,
        Err(e) => Err(e),
    };
    let (client, events) = match outcome {
        Ok(done) => done,
        Err(e) => {
            let (shared, dir, uid) = (shared.clone(), dir.clone(), spec.pod_uid.clone());
            let _ = blocking(move || clean_up(&shared, &dir, &uid)).await;
            return Err(e);
        }
    };
    let pod = Arc::new(Pod {
        id: id.clone(),
        dir,
        record,
        state: watch::Sender::new(SandboxState::Ready),
        shim: Mutex::new(Some(Arc::new(client))),
        containers: Mutex::new(HashMap::new()),
    });
    let netns = pod.netns();
    adopt::follow(shared, &pod, events);
    lock(&shared.sandboxes).insert(id.clone(), pod);
    Ok(Sandbox { id, netns })
}

/// The uid becomes part of a path.
fn check_uid(uid: &str) -> Result<()> {
    let legal = uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if uid.is_empty() || uid.len() > 128 || !legal {
        return Err(RuntimeError::InvalidSpec(format!("\"{uid}\" is no pod uid")));
    }
    Ok(())
}

fn start_shim(shared: &Shared, id: &SandboxId, record: &SandboxRecord, dir: &Path) -> Result<StdStream> {
    let spec = &record.spec;
    make_dir(&dir.join("containers"), 0o700)?;
    write_json(&dir.join(RECORD), record)?;
    if let Some(text) = &spec.resolv_conf {
        write(&dir.join("resolv.conf"), text)?;
    }
    if !spec.host_network && !spec.hostname.is_empty() {
        write(&dir.join("hostname"), &format!("{}\n", spec.hostname))?;
    }
    let config = ShimConfig {
        sandbox: id.0.clone(),
        hostname: spec.hostname.clone(),
        new_network: !spec.host_network,
        new_ipc: !spec.host_ipc,
        shared_pid: spec.share_process_namespace && !spec.host_pid,
        sysctls: spec.sysctls.clone().into_iter().collect(),
        cgroups: shared.cgroups.shim_dirs().to_vec(),
        shm_size: SHM_SIZE,
    };
    write_json(&dir.join(SHIM_CONFIG), &config)?;
    shared.cgroups.create_pod(&spec.pod_uid, &spec.resources)?;
    let (ours, theirs) = StdStream::pair().map_err(RuntimeError::io("connect", dir))?;
    ours.set_nonblocking(true).map_err(RuntimeError::io("connect", dir))?;
    let log = dir.join("shim.log");
    let log = File::create(&log).map_err(RuntimeError::io("create", &log))?;
    let program = &shared.config.shim_program;
    let sealed = read_only_view(program);
    let path = match &sealed {
        Some(fd) => PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
        None => program.clone(),
    };
    // No hooks between fork and exec: std then uses vfork, however large this process is.
    let child = tokio::process::Command::new(path)
        .args(&shared.config.shim_arguments)
        .arg(dir)
        .env_clear()
        .envs(SMALL_ALLOCATOR)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    // Tokio reaps it, whenever it ends.
    child.map_err(RuntimeError::io("run", program)).map(drop)?;
    Ok(ours)
}

/// The program on a read-only mount of its own: a process in a container that gets hold
/// of the shim's binary through `/proc/<pid>/exe` cannot write to it, as root neither
/// (CVE-2019-5736). None where the kernel cannot do that.
fn read_only_view(program: &Path) -> Option<OwnedFd> {
    // Mounts cannot be taken of a link that the kernel makes up.
    let program = program.canonicalize().ok()?;
    let tree = sys::open_tree(None, program.to_str()?, false).ok()?;
    let attr = MountAttr { set: sys::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    sys::mount_setattr(tree.as_fd(), false, attr).ok()?;
    Some(tree)
}

async fn greet(
    id: &SandboxId,
    dir: &Path,
    socket: StdStream,
) -> Result<(ShimClient, tokio::sync::mpsc::Receiver<crate::shim::protocol::Event>)> {
    let failed = |e: std::io::Error| {
        let log = fs::read_to_string(dir.join("shim.log")).unwrap_or_default();
        let message = if log.trim().is_empty() { e.to_string() } else { log.trim().to_owned() };
        RuntimeError::Shim { sandbox: id.to_string(), message }
    };
    let socket = tokio::net::UnixStream::from_std(socket).map_err(failed)?;
    let timed = tokio::time::timeout(PATIENCE, async {
        let (client, events) = ShimClient::greet(socket).await?;
        client.request(Op::Watch).await?;
        Ok((client, events))
    });
    match timed.await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(RuntimeError::io("write", path))
}

pub(super) async fn stop(shared: &Arc<Shared>, id: &SandboxId) -> Result<()> {
    let Ok(pod) = shared.pod(id) else {
        return Ok(());
    };
    let _ = fs::write(pod.dir.join(STOPPED), "");
    pod.state.send_replace(SandboxState::NotReady);
    let shim = lock(&pod.shim).clone();
    if let Some(shim) = shim {
        match tokio::time::timeout(PATIENCE, shim.request(Op::Stop)).await {
            Ok(Ok(Answer::Done)) => {}
            Ok(Ok(other)) => return Err(pod.shim_error(format!("answers {other:?} to stop"))),
            // A shim that is gone has nothing left to stop; its orphans go with the groups.
            Ok(Err(_)) => {}
            Err(_) => return Err(pod.shim_error("containers do not end")),
        }
    }
    container::wait_for_all(&pod, PATIENCE).await
}

pub(super) async fn remove(shared: &Arc<Shared>, id: &SandboxId) -> Result<()> {
    let Ok(pod) = shared.pod(id) else {
        return Ok(());
    };
    stop(shared, id).await?;
    let shim = lock(&pod.shim).take();
    if let Some(shim) = shim {
        let _ = tokio::time::timeout(PATIENCE, shut_down(&shim)).await;
    }
    let (dir, uid) = (pod.dir.clone(), pod.record.spec.pod_uid.clone());
    let cleaner = shared.clone();
    blocking(move || clean_up(&cleaner, &dir, &uid)).await?;
    lock(&shared.sandboxes).remove(id);
    Ok(())
}

/// Until the process is no more, and with it the pod's namespaces.
async fn shut_down(shim: &ShimClient) -> std::io::Result<()> {
    let process = sys::async_fd(sys::pidfd_open(shim.pid)?)?;
    shim.request(Op::Shutdown).await?;
    process.readable().await.map(drop)
}

/// Removes control groups and files of a sandbox whose shim has ended.
pub(super) fn clean_up(shared: &Shared, dir: &Path, uid: &str) -> Result<()> {
    let containers = dir.join("containers");
    for entry in fs::read_dir(&containers).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        shared.cgroups.remove_container(uid, &id)?;
    }
    shared.cgroups.remove_pod(uid);
    let shm = dir.join("shm");
    if shm.exists() {
        let _ = nix::mount::umount2(&shm, nix::mount::MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(&containers);
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(RuntimeError::io("remove", dir)(e)),
        _ => Ok(()),
    }
}
