//! One worker a pod: sees, decides, acts, reports. The shell around
//! [`decide`] and [`status`].
//!
//! What always holds: one status write at a time, and the newest status wins; every
//! action runs beside the loop, so that a deletion is seen during a pull or a hook;
//! the worker ends only when nothing of the pod is left here and its object is gone.

mod actions;
mod hooks;
mod images;
mod mailbox;
mod prepare;
mod probes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_client::{Error as ClientError, EventKind, Patch, resource};
use carrack_runtime::{SandboxId, SandboxStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::task::JoinSet;

use crate::decide::{Action, Memory, Outcome, Plan, Task, View, decide, note_restarts};
use crate::shared::{Shared, reference};
use crate::spec::refs;
use crate::status::{self, diff};

pub use mailbox::{Inbox, Mailbox};

/// The first status of a pod that is only being created waits this long for a better one.
const FIRST_STATUS: Duration = Duration::from_millis(300);

/// What actions of one pod share besides [`Shared`].
#[derive(Default)]
struct Local {
    /// Path of each volume.
    volumes: BTreeMap<String, PathBuf>,
    /// When a token falls due.
    refresh_at: Option<Timestamp>,
    /// Tokens in use, with the time to renew each.
    tokens: BTreeMap<crate::volumes::TokenRequest, (String, Timestamp)>,
}

/// What a task beside the loop came to.
enum Done {
    Action(Action, Outcome),
    Status(Box<PodStatus>, Result<(), bool>),
    Refresh,
}

/// A pod's worker.
pub struct Worker {
    shared: Arc<Shared>,
    uid: String,
    pod: Arc<Pod>,
    gone: bool,
    sandboxes: Vec<SandboxStatus>,
    known: Vec<SandboxId>,
    memory: Memory,
    local: Arc<Mutex<Local>>,
    /// As last made.
    last: PodStatus,
    /// As the server has it.
    written: PodStatus,
    writing: bool,
    retry_status_at: Option<Timestamp>,
    born: Timestamp,
    tasks: JoinSet<Done>,
    refreshing: bool,
}

// === impl Worker ===

impl Worker {
    /// A worker for a pod, with the sandboxes that an earlier agent left.
    pub fn new(shared: Arc<Shared>, uid: String, pod: Arc<Pod>, sandboxes: Vec<SandboxStatus>) -> Self {
        let now = shared.now();
        let mut memory = Memory::adopt(&pod, &sandboxes, now);
        for sandbox in &sandboxes {
            shared.own(&sandbox.id, &uid);
            if sandbox.netns.is_none() && !sandbox.spec.host_network {
                continue;
            }
            let ips = if sandbox.spec.host_network {
                Some(shared.addresses.host_ips.clone())
            } else {
                shared.net.addresses(&uid)
            };
            memory.addresses.extend(ips.map(|ips| (sandbox.id.clone(), ips)));
        }
        let status = pod.status.clone().unwrap_or_default();
        let known = sandboxes.iter().map(|s| s.id.clone()).collect();
        Self {
            shared,
            uid,
            pod,
            gone: false,
            sandboxes,
            known,
            memory,
            local: Arc::default(),
            last: status.clone(),
            written: status,
            writing: false,
            retry_status_at: None,
            born: now,
            tasks: JoinSet::new(),
            refreshing: false,
        }
    }

    /// Runs until nothing is left of the pod.
    pub async fn run(mut self, mailbox: Arc<Mailbox>) {
        self.hold();
        self.heal_network().await;
        if !self.known.is_empty() {
            // What happened since the runtime was listed made no event that found us.
            self.look().await;
        }
        self.publish_host_ports();
        loop {
            let inbox = mailbox.take();
            self.take(inbox).await;
            let plan = self.step();
            if plan.finished && self.gone {
                // Only pulls and probes can be left.
                self.tasks.shutdown().await;
                break;
            }
            self.wait(&mailbox, plan.wake_at).await;
        }
        let (namespace, name) = self.names();
        self.shared.watched.hold(&self.uid, &namespace, &refs::References::default());
        let logs = self.shared.paths.pod_logs(&namespace, &name, &self.uid);
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(logs)).await;
    }

    /// A sandbox without a container may have been left by an agent that died before its
    /// interface was there: it is given (again).
    async fn heal_network(&mut self) {
        for sandbox in self.sandboxes.iter().filter(|s| s.containers.is_empty()) {
            let Some(netns) = sandbox.netns.clone() else { continue };
            let (net, uid) = (self.shared.net.clone(), self.uid.clone());
            let attached = tokio::task::spawn_blocking(move || net.attach(&netns, &uid)).await;
            match attached {
                Ok(Ok(ips)) => {
                    self.memory.addresses.insert(sandbox.id.clone(), ips);
                }
                Ok(Err(error)) => tracing::warn!(%error, pod = %self.uid, "pod network not restored"),
                Err(error) => tracing::warn!(%error, pod = %self.uid, "pod network not restored"),
            }
        }
    }

    fn names(&self) -> (String, String) {
        let meta = &self.pod.metadata;
        (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }

    fn hold(&self) {
        let (namespace, _) = self.names();
        self.shared.watched.hold(&self.uid, &namespace, &refs::references(&self.pod));
    }

    async fn take(&mut self, inbox: Inbox) {
        if let Some(record) = inbox.pod {
            match record.decode_as::<Pod>() {
                Ok(pod) => self.pod = Arc::new(pod),
                Err(error) => tracing::error!(%error, pod = %record.key, "pod cannot be read"),
            }
        }
        self.gone |= inbox.gone;
        if inbox.objects_changed {
            self.memory.retry_now(self.shared.now());
            self.refresh_volumes();
        }
        if inbox.runtime_changed {
            self.look().await;
        }
    }

    /// Asks the runtime for the state of this pod's sandboxes.
    async fn look(&mut self) {
        let mut seen = Vec::with_capacity(self.known.len());
        for id in &self.known {
            match self.shared.runtime.sandbox_status(id).await {
                Ok(mut status) => {
                    for container in &mut status.containers {
                        actions::termination_message(&self.shared, &self.pod, container);
                    }
                    seen.push(status);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::warn!(%error, sandbox = %id, "runtime does not tell a sandbox's state");
                    seen.extend(self.sandboxes.iter().find(|s| s.id == *id).cloned());
                }
            }
        }
        seen.sort_by_key(|s| s.created_at);
        self.known = seen.iter().map(|s| s.id.clone()).collect();
        self.sandboxes = seen;
    }

    /// One round: make the status, decide, begin what is decided, write the status.
    fn step(&mut self) -> Plan {
        let now = self.shared.now();
        let view = View {
            pod: &self.pod,
            gone: self.gone,
            sandboxes: &self.sandboxes,
            memory: &self.memory,
            last: &self.last,
            now,
        };
        let status = status::generate(&view, &self.shared.addresses);
        for transition in diff::transitions(&self.last, &status, &view.formatted()) {
            let kind = if transition.warning { EventKind::Warning } else { EventKind::Normal };
            let about = reference(&self.pod, Some(&transition.container));
            self.shared.recorder.event(&about, kind, transition.reason, transition.message);
        }
        let out_of_time = view.out_of_time();
        self.last = status;
        if out_of_time && self.memory.ended.is_none() {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.shared.recorder.normal(&reference(&self.pod, None), "DeadlineExceeded", message.clone());
            self.memory.ended = Some(("DeadlineExceeded".into(), message));
        }
        let wake = self.write_status(now);
        self.memory.final_written =
            !self.writing && diff::patch(&self.uid, &self.written, &self.last).is_none();
        let view = View {
            pod: &self.pod,
            gone: self.gone,
            sandboxes: &self.sandboxes,
            memory: &self.memory,
            last: &self.last,
            now,
        };
        let mut plan = decide(&view);
        for at in [wake, self.token_due(now)].into_iter().flatten() {
            plan.wake(at);
        }
        self.begin(&plan, now);
        plan
    }

    fn begin(&mut self, plan: &Plan, now: Timestamp) {
        note_restarts(&mut self.memory, &self.sandboxes, &plan.actions);
        self.memory.begin(now, &plan.actions);
        for action in plan.actions.iter().cloned() {
            let run = actions::Run {
                shared: self.shared.clone(),
                pod: self.pod.clone(),
                uid: self.uid.clone(),
                local: self.local.clone(),
                addresses: self.current_addresses(),
                image_id: self.image_id(&action),
                graceful: !self.gone,
            };
            self.tasks.spawn(async move {
                let outcome = run.execute(&action).await;
                Done::Action(action, outcome)
            });
        }
    }

    fn current_addresses(&self) -> Vec<std::net::IpAddr> {
        let newest = self.sandboxes.last().and_then(|s| self.memory.addresses.get(&s.id));
        newest.cloned().unwrap_or_default()
    }

    fn image_id(&self, action: &Action) -> String {
        let Action::StartContainer { container, .. } = action else { return String::new() };
        match &self.memory.container(container).image {
            crate::decide::ImageState::Present { id } => id.clone(),
            _ => String::new(),
        }
    }

    /// Writes the status if it differs from the server's. Says when to look again.
    fn write_status(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.gone || self.writing {
            return None;
        }
        let patch = diff::patch(&self.uid, &self.written, &self.last)?;
        let only_creating = self.last.phase.as_deref() == Some("Pending")
            && self.written.container_statuses.is_none()
            && waits_quietly(&self.last);
        let first = self.born.checked_add(FIRST_STATUS).unwrap_or(now);
        let due = if only_creating { Some(first) } else { self.retry_status_at };
        if let Some(due) = due.filter(|due| *due > now) {
            return Some(due);
        }
        self.retry_status_at = None;
        self.writing = true;
        let (shared, status) = (self.shared.clone(), Box::new(self.last.clone()));
        let (namespace, name) = self.names();
        self.tasks.spawn(async move {
            let patch = Patch::Strategic(patch);
            let answer = shared.client.patch(&resource::PODS, (&namespace, &name), "status", &patch).await;
            let result = match answer {
                Ok(_) => Ok(()),
                Err(error) => {
                    // Gone: the watch will say so. Anything else is tried again.
                    let over = error.is_not_found();
                    if !over {
                        tracing::warn!(%error, pod = %format!("{namespace}/{name}"), "status not written");
                    }
                    Err(over)
                }
            };
            Done::Status(status, result)
        });
        None
    }

    /// Waits for whatever comes next, and takes in what tasks came to.
    async fn wait(&mut self, mailbox: &Mailbox, wake_at: Option<Timestamp>) {
        let sleep = wake_at.map(|at| {
            let left = at.duration_since(self.shared.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO).min(Duration::from_secs(3600))
        });
        let timer = async {
            match sleep {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = mailbox.wait() => {}
            () = timer => {}
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.done(done).await,
        }
        // What else has ended meanwhile goes into the same round.
        while let Some(done) = self.tasks.try_join_next() {
            self.done(done).await;
        }
    }

    async fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.shared.now();
        match done {
            Ok(Done::Action(action, outcome)) => {
                if let Outcome::Sandbox(id, _) = &outcome {
                    self.known.push(id.clone());
                }
                let quiet = matches!(action.task(), Task::Image(_) | Task::Volumes | Task::Probe(..));
                self.memory.apply(&action, outcome, &self.pod, now);
                if !quiet {
                    self.look().await;
                }
                if matches!(action, Action::RunSandbox { .. } | Action::RemoveSandbox { .. }) {
                    self.publish_host_ports();
                }
            }
            Ok(Done::Status(status, result)) => {
                self.writing = false;
                match result {
                    // Gone or replaced: there is nobody to tell any more.
                    Ok(()) | Err(true) => self.written = *status,
                    Err(false) => self.retry_status_at = now.checked_add(Duration::from_secs(1)).ok(),
                }
            }
            Ok(Done::Refresh) => self.refreshing = false,
            Err(error) => {
                tracing::error!(%error, pod = %self.uid, "a step of the pod's worker failed");
                self.memory.in_flight.clear();
                self.writing = false;
            }
        }
    }

    /// Renews the contents of volumes when objects or tokens have changed.
    fn refresh_volumes(&mut self) {
        self.hold();
        if !self.memory.volumes_ready || self.refreshing {
            return;
        }
        self.refreshing = true;
        let run = actions::Run {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            local: self.local.clone(),
            addresses: self.current_addresses(),
            image_id: String::new(),
            graceful: true,
        };
        self.tasks.spawn(async move {
            if let Err(error) = prepare::volumes(&run).await {
                tracing::debug!(%error, pod = %run.uid, "volumes not renewed");
            }
            Done::Refresh
        });
    }

    fn token_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let due = self.local.lock().expect("nobody panics with it locked").refresh_at?;
        if due <= now && !self.memory.torn_down {
            self.refresh_volumes();
            return now.checked_add(Duration::from_secs(10)).ok();
        }
        Some(due)
    }

    /// Tells the rules which of the node's ports lead to this pod.
    fn publish_host_ports(&self) {
        let ips = self.current_addresses();
        let ports = prepare::host_ports(&self.pod, &ips);
        if !ports.is_empty() || self.sandboxes.is_empty() {
            self.shared.net.host_ports(&self.uid, ports);
        }
    }
}

/// Nothing to say yet but that it is being created.
fn waits_quietly(status: &PodStatus) -> bool {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().all(|s| {
        let waiting = s.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        matches!(waiting, Some("ContainerCreating" | "PodInitializing"))
    })
}

/// Deletes a pod's object for good; true when it is gone.
async fn delete(shared: &Shared, pod: &Pod) -> Result<(), ClientError> {
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref());
    let options =
        carrack_client::DeleteOptions { uid: meta.uid.clone(), grace_seconds: Some(0), ..Default::default() };
    let answer = shared.client.delete(&resource::PODS, (namespace, name.unwrap_or_default()), &options).await;
    match answer {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
