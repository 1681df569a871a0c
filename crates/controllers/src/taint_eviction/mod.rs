//! The taint eviction controller: deletes pods that do not tolerate their node's
//! NoExecute taints, or no longer do.
//!
//! The time that a pod has tolerated runs in this process's monotonic clock, from
//! when it first saw pod and taint together; a restart gives the full time again.

pub mod decide;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::{Key, Record};
use carrack_client::clock::rfc3339;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{NODES, PODS};
use carrack_client::{Cache, Client, Clock, DeleteOptions, EventRecorder, Patch, Reference};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::common::{Node, Pod};
use crate::shell::{self, BY_NODE, Shared};
use decide::Plan;

struct Evictions {
    client: Client,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    nodes: Arc<Cache>,
    pods: Arc<Cache>,
    /// Since when pods (by uid) have been tolerating.
    since: Mutex<HashMap<String, Instant>>,
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let (client, events) = shared.identity("node-controller");
    let queue = shell::queue();
    let nodes = shared.informers.cache(&NODES);
    let pods = shared.informers.cache(&PODS);
    pods.add_index(BY_NODE, shell::node_name);
    let wake = queue.clone();
    pods.add_handler(Box::new(move |old, new| {
        // Whether its node is tainted is looked up when it is decided on.
        if let Some(record) = new.or(old).filter(|pod| !shell::node_name(pod).is_empty()) {
            wake.add(record.key.clone());
        }
    }));
    let (all, wake) = (pods.clone(), queue.clone());
    nodes.add_handler(Box::new(move |old, new| {
        let taints = |record: Option<&Arc<Record>>| record.map(|r| Node::evicting(r)).unwrap_or_default();
        if let Some(node) = new.or(old).filter(|_| taints(old) != taints(new)) {
            all.indexed(BY_NODE, node.key.name()).iter().for_each(|pod| wake.add(pod.key.clone()));
        }
    }));
    let (clock, since) = (shared.clock.clone(), Mutex::default());
    shared.run(Evictions { client, events, clock, nodes, pods, since }, queue, 4);
}

impl Controller for Evictions {
    type Plan = (Arc<Record>, Plan, bool);

    fn name(&self) -> &'static str {
        "taint-eviction"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.nodes.clone(), self.pods.clone()]
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Self::Plan> {
        let mut since = self.since.lock().expect("nobody panics with the times");
        let record = self.pods.get(key)?;
        let uid = record.header().uid.to_string();
        if record.header().deleting {
            since.remove(&uid);
            return None;
        }
        let node = self.nodes.find("", shell::node_name(&record).first()?)?;
        let taints = Node::evicting(&node);
        if taints.is_empty() {
            let waited = since.remove(&uid).is_some();
            return waited.then_some((record, Plan::Stay, true));
        }
        let pod = Pod::read(&record)?;
        let waited = since.get(&uid).map(Instant::elapsed).unwrap_or_default();
        let plan = decide::decide(&taints, &pod.spec.tolerations, waited);
        let cancelled = match plan {
            Plan::EvictAfter(_) => {
                since.entry(uid).or_insert_with(Instant::now);
                false
            }
            Plan::Stay => since.remove(&uid).is_some(),
            Plan::Evict => false,
        };
        Some((record, plan, cancelled))
    }

    async fn act(
        &self,
        key: &Key,
        (record, plan, cancelled): Self::Plan,
        writes: &Writes,
    ) -> Result<Option<Duration>, Error> {
        let (namespace, name) = (key.namespace(), key.name());
        let about = Reference::of(&record);
        if cancelled {
            let message = format!("Cancelling deletion of Pod {namespace}/{name}");
            self.events.normal(&about, "TaintManagerEviction", message);
        }
        match plan {
            Plan::Stay => return Ok(None),
            Plan::EvictAfter(left) => return Ok(Some(left)),
            Plan::Evict => {}
        }
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        self.events.normal(&about, "TaintManagerEviction", message);
        let uid = &record.header().uid;
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "observedGeneration": record.header().generation,
            "lastTransitionTime": rfc3339(self.clock.now()),
        });
        let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
        match self.client.patch(&PODS, (namespace, name), "status", &Patch::Strategic(patch)).await {
            Ok(written) => writes.wrote(&written),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        match self.client.delete(&PODS, (namespace, name), &DeleteOptions::of_uid(uid)).await {
            Ok(written) => writes.deleted(&written.key, uid),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}
