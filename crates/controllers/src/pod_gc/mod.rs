//! The pod garbage collector: removes pods of nodes that are gone, deleted pods that
//! were never placed, and the oldest ended pods when there are too many.
//!
//! It is woken by what makes a pod its business, and never scans by the clock. A
//! node's absence is checked live before its pods are removed.

pub mod decide;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::{Key, Record};
use carrack_client::clock::rfc3339;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{NODES, PODS};
use carrack_client::{Cache, Client, Clock, DeleteOptions, Patch, WorkQueue};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::common::{Node, Pod};
use crate::shell::{self, BY_NODE, Shared};
use decide::{NodeState, Reason, THRESHOLD};

/// How long a node may be missing before its pods are removed.
const QUARANTINE: Duration = Duration::from_secs(40);

struct PodGc {
    client: Client,
    clock: Arc<dyn Clock>,
    nodes: Arc<Cache>,
    pods: Arc<Cache>,
    /// Pods that have ended.
    ended: Arc<Mutex<BTreeSet<Key>>>,
    /// Since when nodes have been missing.
    missing: Mutex<HashMap<String, Instant>>,
}

/// What to do.
enum Plan {
    /// Look at the node again when its quarantine is over.
    Wait(Duration),
    /// Remove a pod.
    Remove(Arc<Record>, Reason),
    /// Remove ended pods.
    Excess(Vec<Pod>),
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let client = shared.client("pod-garbage-collector");
    let queue = shell::queue();
    let nodes = shared.informers.cache(&NODES);
    let pods = shared.informers.cache(&PODS);
    pods.add_index(BY_NODE, shell::node_name);
    let ended: Arc<Mutex<BTreeSet<Key>>> = Arc::default();
    let (set, wake, all) = (ended.clone(), queue.clone(), nodes.clone());
    pods.add_handler(Box::new(move |old, new| pod_changed(&set, &wake, &all, old, new)));
    let (wake, all) = (queue.clone(), pods.clone());
    nodes.add_handler(Box::new(move |old, new| {
        let Some(node) = new.or(old) else { return };
        let tainted = |node: &Node| node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE);
        let out = new.and_then(|node| shell::read::<Node>(node)).is_some_and(|node| tainted(&node));
        if new.is_none() || out {
            all.indexed(BY_NODE, node.key.name()).iter().for_each(|pod| wake.add(pod.key.clone()));
        }
    }));
    let (clock, missing) = (shared.clock.clone(), Mutex::default());
    shared.run(PodGc { client, clock, nodes, pods, ended, missing }, queue, 2);
}

/// Taint of a node that someone has declared dead.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Key under which the number of ended pods is looked at.
fn all_ended() -> Key {
    PODS.key("", "")
}

fn pod_changed(
    ended: &Mutex<BTreeSet<Key>>,
    queue: &WorkQueue<Key>,
    nodes: &Cache,
    old: Option<&Arc<Record>>,
    new: Option<&Arc<Record>>,
) {
    let mut ended = ended.lock().expect("nobody panics with the ended pods");
    let Some(record) = new else {
        if let Some(old) = old {
            ended.remove(&old.key);
        }
        return;
    };
    let phase = shell::pod_field(record, "status.phase");
    if matches!(&*phase, "Succeeded" | "Failed") {
        ended.insert(record.key.clone());
        if ended.len() > THRESHOLD {
            queue.add(all_ended());
        }
    } else {
        ended.remove(&record.key);
    }
    let node = shell::pod_field(record, "spec.nodeName");
    let forsaken = if node.is_empty() { record.header().deleting } else { nodes.find("", &node).is_none() };
    if forsaken {
        queue.add(record.key.clone());
    }
}

impl Controller for PodGc {
    type Plan = Plan;

    fn name(&self) -> &'static str {
        "pod-gc"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.nodes.clone(), self.pods.clone()]
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Plan> {
        if *key == all_ended() {
            let keys = self.ended.lock().expect("nobody panics with the ended pods").clone();
            let pods = keys.iter().filter_map(|key| Pod::read(&*self.pods.get(key)?)).collect();
            return Some(Plan::Excess(decide::excess(pods, THRESHOLD)));
        }
        let record = self.pods.get(key)?;
        let pod = Pod::read(&record)?;
        let (state, left) = self.node_state(&pod.spec.node_name);
        match decide::decide(&pod, state) {
            Some(reason) => Some(Plan::Remove(record, reason)),
            None => left.map(Plan::Wait),
        }
    }

    async fn act(&self, _: &Key, plan: Plan, writes: &Writes) -> Result<Option<Duration>, Error> {
        match plan {
            Plan::Wait(left) => return Ok(Some(left)),
            Plan::Remove(record, reason) => {
                let Some(pod) = Pod::read(&record) else { return Ok(None) };
                if reason == Reason::Orphaned {
                    match self.client.get(&NODES, "", &pod.spec.node_name).await {
                        Ok(_) => return Ok(Some(QUARANTINE)),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                self.remove(&pod, reason == Reason::Orphaned, writes).await?;
            }
            Plan::Excess(pods) => {
                for pod in &pods {
                    self.remove(pod, false, writes).await?;
                }
            }
        }
        Ok(None)
    }
}

impl PodGc {
    /// State of a node, and how long its quarantine lasts yet.
    fn node_state(&self, name: &str) -> (NodeState, Option<Duration>) {
        let mut missing = self.missing.lock().expect("nobody panics with the missing nodes");
        if name.is_empty() {
            return (NodeState::There, None);
        }
        let Some(record) = self.nodes.find("", name) else {
            // A name that no pod uses any more is forgotten with the process.
            let since = missing.entry(name.to_owned()).or_insert_with(Instant::now);
            let left = QUARANTINE.saturating_sub(since.elapsed());
            let state = if left.is_zero() { NodeState::Missing } else { NodeState::JustMissing };
            return (state, (!left.is_zero()).then_some(left));
        };
        missing.remove(name);
        let node: Option<Node> = shell::read(&record);
        let out = node.is_some_and(|node| {
            node.ready() != "True" && node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
        });
        (if out { NodeState::OutOfService } else { NodeState::There }, None)
    }

    /// Marks a pod as failed if it has not ended, and deletes it without grace.
    async fn remove(&self, pod: &Pod, orphaned: bool, writes: &Writes) -> Result<(), Error> {
        let meta = &pod.metadata;
        let at = (meta.namespace.as_str(), meta.name.as_str());
        if !pod.terminal() {
            let mut status = json!({"phase": "Failed"});
            if orphaned {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "observedGeneration": meta.generation,
                    "lastTransitionTime": rfc3339(self.clock.now()),
                }]);
            }
            let patch: Value = json!({"metadata": {"uid": meta.uid}, "status": status});
            match self.client.patch(&PODS, at, "status", &Patch::Strategic(patch)).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::of_uid(&meta.uid) };
        tracing::info!(namespace = at.0, pod = at.1, "removing a pod by force");
        match self.client.delete(&PODS, at, &options).await {
            Ok(written) => writes.deleted(&written.key, &meta.uid),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
