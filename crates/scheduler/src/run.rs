//! The scheduler's shell: watches pods and nodes, asks [`decide`], binds.
//!
//! One task owns snapshot and queue, so a decision sees every earlier one. Bindings
//! run beside it; the pod is assumed on its node until the watch confirms it or the
//! binding fails. After a restart everything is rebuilt from the watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::Record;
use carrack_client::backoff::Backoff;
use carrack_client::clock::rfc3339;
use carrack_client::resource::{NODES, PODS};
use carrack_client::{Client, Clock, Error, EventRecorder, Patch, Reference, Scope, Source, Update};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::decide::queue::{Change, Queue};
use crate::decide::{Decision, NodeInfo, PodInfo, Snapshot, Verdict, decide};

/// Name that pods ask for in `spec.schedulerName`.
pub const NAME: &str = "default-scheduler";

/// Bindings under way at once; beyond that, decisions wait.
const MAX_BINDINGS: usize = 256;

/// Longest note of an event.
const NOTE_LIMIT: usize = 1024;

/// The scheduler.
pub(crate) struct Scheduler {
    pub(crate) client: Client,
    pub(crate) events: EventRecorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seed: u64,
    started: Instant,
    snapshot: Snapshot,
    queue: Queue,
    /// Uids by store key, to tell a pod from its successor of the same name.
    uids: HashMap<String, String>,
    /// Where the next search begins.
    next_node: usize,
    bindings: JoinSet<Bound>,
    synced: (bool, bool),
}

/// What became of a binding.
struct Bound {
    pod: Arc<PodInfo>,
    node: String,
    result: Result<(), Error>,
}

impl Scheduler {
    pub(crate) fn new(client: Client, events: EventRecorder, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            client,
            events,
            clock,
            seed,
            started: Instant::now(),
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            uids: HashMap::new(),
            next_node: 0,
            bindings: JoinSet::new(),
            synced: (false, false),
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self, source: Arc<dyn Source>) {
        let mut pods = source.subscribe(&PODS, Scope::default());
        let mut nodes = source.subscribe(&NODES, Scope::default());
        loop {
            self.drain(&mut pods, &mut nodes);
            if self.ready() {
                self.place_next();
                continue;
            }
            // Both streams lag behind only while something waits in them.
            let due = self.queue.next_due().map(|due| self.started + due);
            tokio::select! {
                Some(update) = nodes.next() => self.node_update(update),
                Some(update) = pods.next() => self.pod_update(update),
                Some(bound) = self.bindings.join_next() => self.bound(bound),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                else => return tracing::warn!("the scheduler's source ended"),
            }
        }
    }

    /// Applies what has already arrived, so that decisions are made on the latest.
    fn drain(&mut self, pods: &mut BoxStream<'static, Update>, nodes: &mut BoxStream<'static, Update>) {
        while let Some(Some(update)) = nodes.next().now_or_never() {
            self.node_update(update);
        }
        // Bounded, so that a flood of pods does not keep decisions waiting.
        for _ in 0..1000 {
            let Some(Some(update)) = pods.next().now_or_never() else { break };
            self.pod_update(update);
        }
        while let Some(bound) = self.bindings.try_join_next() {
            self.bound(bound);
        }
    }

    fn ready(&mut self) -> bool {
        let now = self.now();
        self.synced == (true, true) && self.bindings.len() < MAX_BINDINGS && self.queue.ready(now)
    }

    fn place_next(&mut self) {
        let now = self.now();
        let Some(pod) = self.queue.take(now) else { return };
        let (decision, next) = decide(&self.snapshot, &pod, self.seed, self.next_node);
        self.next_node = next;
        match decision {
            Decision::Place { node, .. } => {
                self.snapshot.place(pod.clone(), &node);
                self.bindings.spawn(bind(self.client.clone(), pod, node));
            }
            Decision::Unschedulable(verdict) => self.unschedulable(&pod, verdict, now),
        }
    }

    fn unschedulable(&mut self, pod: &Arc<PodInfo>, verdict: Verdict, now: Duration) {
        tracing::debug!(pod = %pod.key(), message = verdict.message, "pod fits nowhere");
        self.report(pod, "Unschedulable", &verdict.message);
        self.queue.refused(&pod.uid, verdict.filters, now);
    }

    /// Says in an event and in the PodScheduled condition why a pod waits.
    fn report(&self, pod: &PodInfo, reason: &str, message: &str) {
        self.events.warning(&reference(pod), "FailedScheduling", shorten(message));
        let now_is = |(status, was, text): &(String, String, String)| {
            status == "False" && was == reason && text == message
        };
        if pod.condition.as_ref().is_some_and(now_is) {
            return;
        }
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null, "observedGeneration": pod.generation,
        });
        if pod.condition.as_ref().is_none_or(|(status, ..)| status != "False") {
            condition["lastTransitionTime"] = rfc3339(self.clock.now()).into();
        }
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
        let (client, namespace, name) = (self.client.clone(), pod.namespace.clone(), pod.name.clone());
        tokio::spawn(async move {
            let patch = Patch::Strategic(patch);
            if let Err(error) = client.patch(&PODS, (&namespace, &name), "status", &patch).await {
                tracing::debug!(namespace, name, %error, "condition not written");
            }
        });
    }

    fn bound(&mut self, bound: Result<Bound, tokio::task::JoinError>) {
        let Bound { pod, node, result } = match bound {
            Ok(bound) => bound,
            Err(error) => return tracing::error!(%error, "a binding broke off"),
        };
        let Err(error) = result else {
            let (namespace, name) = (&pod.namespace, &pod.name);
            let message = format!("Successfully assigned {namespace}/{name} to {node}");
            self.events.normal(&reference(&pod), "Scheduled", message);
            return;
        };
        let now = self.now();
        if self.queue.uids().all(|uid| uid != pod.uid) {
            // Meanwhile bound by someone, or gone: the watch has said what holds.
            return;
        }
        tracing::debug!(pod = %pod.key(), node, %error, "binding failed");
        self.snapshot.remove(&pod.uid);
        self.queue.changed(Change::PodRemoved, now);
        self.queue.back_off(&pod.uid, now);
        if !error.is_not_found() && !error.is_conflict() {
            self.report(&pod, "SchedulerError", &error.to_string());
        }
    }

    fn pod_update(&mut self, update: Update) {
        match update {
            Update::Reset { records, .. } => {
                self.synced.0 = true;
                let there: HashMap<String, &Arc<Record>> =
                    records.iter().map(|record| (record.header().uid.to_string(), record)).collect();
                let known: Vec<String> =
                    self.snapshot.placed().chain(self.queue.uids()).map(str::to_owned).collect();
                for uid in known.iter().filter(|uid| !there.contains_key(*uid)) {
                    self.pod_gone(uid);
                }
                records.iter().for_each(|record| self.pod_changed(record));
            }
            Update::Changed { record, .. } => self.pod_changed(&record),
            Update::Deleted { record, .. } => {
                self.uids.remove(record.key.as_str());
                self.pod_gone(&record.header().uid);
            }
            Update::Progress(_) => {}
        }
    }

    fn pod_changed(&mut self, record: &Record) {
        let pod = Arc::new(PodInfo::read(record));
        // A successor of the same name: the deletion may have been missed in a reset.
        let before = self.uids.insert(record.key.as_str().to_owned(), pod.uid.clone());
        if let Some(before) = before.filter(|uid| *uid != pod.uid) {
            self.pod_gone(&before);
        }
        let now = self.now();
        if pod.terminal {
            self.pod_gone(&pod.uid);
        } else if !pod.node_name.is_empty() {
            self.queue.remove(&pod.uid);
            let node = pod.node_name.clone();
            self.snapshot.place(pod, &node);
        } else if pod.pending(NAME) {
            self.queue.set(pod, now);
        } else {
            self.pod_gone(&pod.uid);
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        if self.snapshot.remove(uid) {
            let now = self.now();
            self.queue.changed(Change::PodRemoved, now);
        }
    }

    fn node_update(&mut self, update: Update) {
        match update {
            Update::Reset { records, .. } => {
                self.synced.1 = true;
                let gone: Vec<String> = {
                    let there = |name: &str| records.iter().any(|record| record.key.name() == name);
                    let names = self.snapshot.nodes().iter().map(|node| node.name.clone());
                    names.filter(|name| !there(name)).collect()
                };
                gone.iter().for_each(|name| self.snapshot.remove_node(name));
                records.iter().for_each(|record| self.node_changed(record));
            }
            Update::Changed { record, .. } => self.node_changed(&record),
            Update::Deleted { record, .. } => self.snapshot.remove_node(record.key.name()),
            Update::Progress(_) => {}
        }
    }

    fn node_changed(&mut self, record: &Record) {
        let node = NodeInfo::read(record);
        let change = match self.snapshot.node(&node.name) {
            None => Change::NodeAdded,
            Some(before) => Change::NodeChanged {
                labels: before.labels != node.labels,
                taints: before.taints != node.taints,
                unschedulable: before.unschedulable != node.unschedulable,
                allocatable: before.allocatable != node.allocatable || before.max_pods != node.max_pods,
            },
        };
        self.snapshot.set_node(node);
        let now = self.now();
        self.queue.changed(change, now);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

async fn bind(client: Client, pod: Arc<PodInfo>, node: String) -> Bound {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "target": {"kind": "Node", "name": node},
    });
    let at = (pod.namespace.as_str(), pod.name.as_str());
    let result = match client.create_sub(&PODS, at, "binding", &binding).await {
        Ok(_) => Ok(()),
        Err(error @ Error::Transport(_)) => settle(&client, &pod, &node, error).await,
        Err(error) => Err(error),
    };
    Bound { pod, node, result }
}

/// After a binding that was not answered: did it take effect? Until that is known the
/// pod keeps its room on the node.
async fn settle(client: &Client, pod: &PodInfo, node: &str, error: Error) -> Result<(), Error> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 0);
    loop {
        match client.get(&PODS, &pod.namespace, &pod.name).await {
            Ok(found) => {
                let object: serde_json::Value = found.decode()?;
                let bound = found.uid == pod.uid && object["spec"]["nodeName"] == node;
                return if bound { Ok(()) } else { Err(error) };
            }
            Err(Error::Transport(_)) => tokio::time::sleep(backoff.next_delay()).await,
            Err(error) => return Err(error),
        }
    }
}

fn reference(pod: &PodInfo) -> Reference {
    Reference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        resource_version: pod.revision.to_string(),
        field_path: String::new(),
    }
}

fn shorten(message: &str) -> String {
    if message.len() <= NOTE_LIMIT {
        return message.to_owned();
    }
    let mut end = NOTE_LIMIT - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", &message[..end])
}
