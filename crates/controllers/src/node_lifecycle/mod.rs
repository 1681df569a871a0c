//! The node life-cycle controller: notices silent nodes, taints them, and says that
//! their pods are not ready.
//!
//! The shell around [`decide`]. It remembers when each node was last seen to move, in
//! monotonic time; renewed leases only move that mark and cause no work.

pub mod decide;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::clock::rfc3339;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{LEASES, NODES, PODS};
use carrack_client::{Cache, Client, Clock, EventRecorder, Patch, Reference, Scope};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::common::{Condition, Node, Pod};
use crate::shell::{self, BY_NODE, Shared};
use decide::{Concerned, Plan, ReadyNodes, View};

/// What is remembered of the nodes.
#[derive(Default)]
struct Seen {
    moves: HashMap<String, Move>,
    ready: ReadyNodes,
}

/// What is remembered of a node, by name.
struct Move {
    /// When it was last seen to move.
    at: Instant,
    heartbeat: Option<Timestamp>,
    /// Status of its Ready condition, if it has one.
    ready: Option<String>,
}

struct Nodes {
    client: Client,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    nodes: Arc<Cache>,
    pods: Arc<Cache>,
    leases: Arc<Cache>,
    seen: Arc<Mutex<Seen>>,
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let (client, events) = shared.identity("node-controller");
    let queue = shell::queue();
    let nodes = shared.informers.cache(&NODES);
    let pods = shared.informers.cache(&PODS);
    pods.add_index(BY_NODE, shell::node_name);
    let scope = Scope { namespace: Some("kube-node-lease".into()), ..Scope::default() };
    let leases = shared.informers.scoped(&LEASES, scope);
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (marks, all, wake) = (seen.clone(), nodes.clone(), queue.clone());
    nodes.add_handler(Box::new(move |old, new| {
        let Some(record) = new.or(old) else { return };
        let name = record.key.name();
        let concerned = match new {
            Some(node) => lock(&marks).changed(name, old.is_none(), ready(node)),
            None => lock(&marks).gone(name),
        };
        wake.add(record.key.clone());
        // What happens to one node decides whether others are evicted from.
        match concerned {
            Concerned::Nobody => {}
            Concerned::Only(other) => wake.add(NODES.key("", &other)),
            Concerned::Others => all.all().iter().for_each(|node| wake.add(node.key.clone())),
        }
    }));
    let (marks, wake) = (seen.clone(), queue.clone());
    leases.add_handler(Box::new(move |_, new| {
        let Some(lease) = new else { return };
        if lock(&marks).moved(lease.key.name()) {
            wake.add(NODES.key("", lease.key.name()));
        }
    }));
    let clock = shared.clock.clone();
    shared.run(Nodes { client, events, clock, nodes, pods, leases, seen }, queue, 2);
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics with the marks")
}

fn ready(record: &Arc<Record>) -> Option<Condition> {
    let node: Node = shell::read(record)?;
    Condition::find(&node.status.conditions, "Ready").cloned()
}

// === impl Seen ===

impl Seen {
    /// A node is there (as `new`), with this Ready condition; tells whom else that concerns.
    fn changed(&mut self, node: &str, new: bool, condition: Option<Condition>) -> Concerned {
        let heartbeat = condition.as_ref().and_then(|condition| condition.last_heartbeat_time);
        let ready = condition.map(|condition| condition.status);
        let is_ready = ready.as_deref() == Some("True");
        match self.moves.get_mut(node) {
            Some(known) if !new && known.heartbeat == heartbeat => known.ready = ready,
            _ => {
                self.moves.insert(node.to_owned(), Move { at: Instant::now(), heartbeat, ready });
            }
        }
        self.ready.set(node, is_ready)
    }

    fn gone(&mut self, node: &str) -> Concerned {
        self.moves.remove(node);
        self.ready.set(node, false)
    }

    /// A node's lease was renewed; tells whether that is news, for one that was silent.
    fn moved(&mut self, node: &str) -> bool {
        let at = Instant::now();
        let known = self.moves.entry(node.to_owned()).or_insert(Move { at, heartbeat: None, ready: None });
        known.at = at;
        known.ready.as_deref().is_none_or(|status| status == "Unknown")
    }
}

impl Controller for Nodes {
    type Plan = (Arc<Record>, Plan);

    fn name(&self) -> &'static str {
        "nodelifecycle"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.nodes.clone(), self.pods.clone(), self.leases.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Self::Plan> {
        let record = self.nodes.get(key)?;
        let node: Node = shell::read(&record)?;
        let (silent, others_ready) = {
            let mut seen = lock(&self.seen);
            let others_ready = seen.ready.beside(key.name());
            let known = seen.moves.entry(key.name().to_owned());
            let known = known.or_insert_with(|| Move { at: Instant::now(), heartbeat: None, ready: None });
            (known.at.elapsed(), others_ready)
        };
        let plan = decide::decide(&View { node, silent, others_ready }, now);
        Some((record, plan))
    }

    async fn act(
        &self,
        _: &Key,
        (record, plan): Self::Plan,
        writes: &Writes,
    ) -> Result<Option<Duration>, Error> {
        let (at, mut object) = (("", record.key.name()), record.decode());
        if let Some(conditions) = &plan.conditions {
            object["status"]["conditions"] = shell::to_value(conditions);
            let written = self.client.replace(&NODES, at, "status", &object).await?;
            writes.wrote(&written);
            object = written.decode()?;
        }
        if plan.lost {
            let about = Reference::of(&record);
            let message = format!("Node {} status is now: NodeNotReady", record.key.name());
            self.events.normal(&about, "NodeNotReady", message);
        }
        if let Some(taints) = &plan.taints {
            let taints = if taints.is_empty() { Value::Null } else { shell::to_value(taints) };
            let revision = object["metadata"]["resourceVersion"].clone();
            let patch = json!({"metadata": {"resourceVersion": revision}, "spec": {"taints": taints}});
            writes.wrote(&self.client.patch(&NODES, at, "", &Patch::Merge(patch)).await?);
        }
        if plan.pods_unready {
            self.mark_pods(record.key.name(), writes).await?;
        }
        Ok(plan.look_again)
    }
}

impl Nodes {
    /// Sets Ready to False on the pods of a lost node, so that Services leave them out.
    async fn mark_pods(&self, node: &str, writes: &Writes) -> Result<(), Error> {
        for record in self.pods.indexed(BY_NODE, node) {
            let Some(pod) = Pod::read(&record).filter(Pod::ready) else { continue };
            let condition = json!({
                "type": "Ready", "status": "False", "lastTransitionTime": rfc3339(self.clock.now()),
            });
            let patch = json!({
                "metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]},
            });
            let at = (record.key.namespace(), record.key.name());
            match self.client.patch(&PODS, at, "status", &Patch::Strategic(patch)).await {
                Ok(written) => writes.wrote(&written),
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            }
            self.events.warning(&Reference::of(&record), "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }
}
