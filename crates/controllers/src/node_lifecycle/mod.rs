//! The node life-cycle controller: notices silent nodes, taints them, and says that
//! their pods are not ready.
//!
//! The shell around [`decide`]. It remembers when each node was last seen to move, in
//! monotonic time; renewed leases only move that mark and cause no work.

pub mod decide;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
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
use decide::{Plan, View};

/// When nodes were last seen to move, by name.
type Moves = Arc<Mutex<HashMap<String, Instant>>>;

struct Nodes {
    client: Client,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    nodes: Arc<Cache>,
    pods: Arc<Cache>,
    leases: Arc<Cache>,
    moves: Moves,
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
    let moves = Moves::default();
    let (marks, all, wake) = (moves.clone(), nodes.clone(), queue.clone());
    nodes.add_handler(Box::new(move |old, new| {
        let Some(record) = new else {
            if let Some(old) = old {
                marks.lock().expect("nobody panics with the marks").remove(old.key.name());
            }
            return all.all().iter().for_each(|node| wake.add(node.key.clone()));
        };
        let (before, after) = (old.and_then(ready), ready(record));
        if old.is_none() || heartbeat(&before) != heartbeat(&after) {
            moved(&marks, record.key.name());
        }
        // What happens to one node decides whether others are evicted from.
        let status = |c: &Option<Condition>| c.as_ref().map(|condition| condition.status.clone());
        if status(&before) == status(&after) {
            wake.add(record.key.clone());
        } else {
            all.all().iter().for_each(|node| wake.add(node.key.clone()));
        }
    }));
    let (marks, all, wake) = (moves.clone(), nodes.clone(), queue.clone());
    leases.add_handler(Box::new(move |_, new| {
        let Some(lease) = new else { return };
        moved(&marks, lease.key.name());
        let node = all.find("", lease.key.name());
        if let Some(node) = node.filter(|node| ready(node).is_none_or(|c| c.status == "Unknown")) {
            wake.add(node.key.clone());
        }
    }));
    let clock = shared.clock.clone();
    shared.run(Nodes { client, events, clock, nodes, pods, leases, moves }, queue, 2);
}

fn moved(marks: &Moves, name: &str) {
    marks.lock().expect("nobody panics with the marks").insert(name.to_owned(), Instant::now());
}

fn ready(record: &Arc<Record>) -> Option<Condition> {
    let node: Node = shell::read(record)?;
    Condition::find(&node.status.conditions, "Ready").cloned()
}

fn heartbeat(condition: &Option<Condition>) -> Option<Timestamp> {
    condition.as_ref().and_then(|condition| condition.last_heartbeat_time)
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
        let seen = {
            let mut marks = self.moves.lock().expect("nobody panics with the marks");
            *marks.entry(key.name().to_owned()).or_insert_with(Instant::now)
        };
        let is_ready = |other: &Arc<Record>| ready(other).is_some_and(|condition| condition.status == "True");
        let others_ready = self.nodes.all().iter().any(|other| other.key != *key && is_ready(other));
        let plan = decide::decide(&View { node, silent: seen.elapsed(), others_ready }, now);
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
