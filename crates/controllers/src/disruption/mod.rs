//! The disruption controller: keeps the status of PodDisruptionBudgets, which evictions
//! and preemption ask, and takes back what was said of pods that then did not go.

pub mod decide;

use std::sync::Arc;
use std::time::Duration;

use carrack_api::selector::Labels;
use carrack_api::{Key, Record};
use carrack_client::clock::rfc3339;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{
    DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use carrack_client::{Cache, Client, Clock, EventRecorder, Patch, Reference};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::common::{Condition, Pod};
use crate::shell::{self, Shared};
use decide::{Member, Owner};

/// How long a pod may say that it is to go, without going.
const STALE: SignedDuration = SignedDuration::from_mins(2);

struct Disruption {
    client: Client,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    budgets: Arc<Cache>,
    pods: Arc<Cache>,
    sets: Arc<Cache>,
    deployments: Arc<Cache>,
    stateful: Arc<Cache>,
    replication: Arc<Cache>,
}

/// What to do.
enum Plan {
    /// Write a budget's status.
    Budget(Arc<Record>, decide::Plan),
    /// Look at a pod again after a time; at once when nothing is left.
    Pod(Arc<Record>, SignedDuration),
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let (client, events) = shared.identity("disruption-controller");
    let queue = shell::queue();
    let cache = |resource| shared.informers.cache(resource);
    let (budgets, pods) = (cache(&POD_DISRUPTION_BUDGETS), cache(&PODS));
    shell::enqueue_changes(&budgets, &queue);
    let (wake, all) = (queue.clone(), budgets.clone());
    pods.add_handler(Box::new(move |old, new| {
        for record in [old, new].into_iter().flatten() {
            for budget in all.in_namespace(record.key.namespace()) {
                if selector(&budget).matches(record.header()) {
                    wake.add(budget.key.clone());
                }
            }
        }
        if let Some(record) = new.filter(|record| doomed(record)) {
            wake.add(record.key.clone());
        }
    }));
    // A controller that wants another number of pods concerns the budgets of its namespace.
    let owners = [&REPLICA_SETS, &DEPLOYMENTS, &STATEFUL_SETS, &REPLICATION_CONTROLLERS].map(cache);
    for owner in &owners {
        let (wake, all) = (queue.clone(), budgets.clone());
        owner.add_handler(Box::new(move |old, new| {
            let replicas = |record: Option<&Arc<Record>>| record.map(|record| record.header().generation);
            if replicas(old) != replicas(new) {
                let namespace = new.or(old).map_or("", |record| record.key.namespace());
                all.in_namespace(namespace).iter().for_each(|budget| wake.add(budget.key.clone()));
            }
        }));
    }
    let [sets, deployments, stateful, replication] = owners;
    let clock = shared.clock.clone();
    let controller =
        Disruption { client, events, clock, budgets, pods, sets, deployments, stateful, replication };
    shared.run(controller, queue, 1);
}

fn selector(budget: &Record) -> Labels {
    Labels::from_value(&budget.decode_lean()["spec"]["selector"]).unwrap_or_else(|_| Labels::nothing())
}

/// Whether a pod says that it is to go, and is not going.
fn doomed(record: &Record) -> bool {
    !record.header().deleting && record.mentions("\"DisruptionTarget\"")
}

impl Controller for Disruption {
    type Plan = Plan;

    fn name(&self) -> &'static str {
        "disruption"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        let all =
            [&self.budgets, &self.pods, &self.sets, &self.deployments, &self.stateful, &self.replication];
        all.into_iter().cloned().collect()
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Plan> {
        if let Some(record) = self.pods.get(key) {
            let left = stale_after(&Pod::read(&record)?, now)?;
            return Some(Plan::Pod(record, left));
        }
        let record = self.budgets.get(key)?;
        let selector = selector(&record);
        let pods = self.pods.in_namespace(key.namespace());
        let members = pods.iter().filter(|pod| selector.matches(pod.header()));
        let members: Vec<Member> = members.filter_map(|pod| self.member(pod)).collect();
        let plan = decide::decide(&record.decode(), &members, now);
        Some(Plan::Budget(record, plan))
    }

    async fn act(&self, _: &Key, plan: Plan, writes: &Writes) -> Result<Option<Duration>, Error> {
        match plan {
            Plan::Pod(_, left) if left.is_positive() => Ok(left.try_into().ok()),
            Plan::Pod(record, _) => {
                let condition = json!({"type": "DisruptionTarget", "status": "False", "reason": null,
                    "message": null, "lastTransitionTime": rfc3339(self.clock.now())});
                let patch = json!({"metadata": {"uid": &*record.header().uid},
                    "status": {"conditions": [condition]}});
                let at = (record.key.namespace(), record.key.name());
                match self.client.patch(&PODS, at, "status", &Patch::Strategic(patch)).await {
                    Ok(written) => writes.wrote(&written),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(None)
            }
            Plan::Budget(record, plan) => {
                let about = Reference::of(&record);
                if let Some(status) = plan.status {
                    for (warning, reason, message) in &plan.events {
                        match warning {
                            true => self.events.warning(&about, reason, message.as_str()),
                            false => self.events.normal(&about, reason, message.as_str()),
                        }
                    }
                    let mut object: Value = record.decode();
                    object["status"] = status;
                    object["metadata"]["resourceVersion"] = record.revision.to_string().into();
                    let at = (record.key.namespace(), record.key.name());
                    match self.client.replace(&POD_DISRUPTION_BUDGETS, at, "status", &object).await {
                        Ok(written) => writes.wrote(&written),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(plan.again.and_then(|again| again.try_into().ok()))
            }
        }
    }
}

impl Disruption {
    fn member(&self, record: &Record) -> Option<Member> {
        let pod = Pod::read(record)?;
        let owner = self.owner(record);
        let (deleting, ready) = (pod.metadata.deleting(), pod.ready());
        Some(Member { name: pod.metadata.name, deleting, ready, owner })
    }

    /// What made a pod, and how many it wants: the Deployment above a ReplicaSet.
    fn owner(&self, pod: &Record) -> Owner {
        let Some(owner) = pod.header().controller() else { return Owner::Nobody };
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let cache = match (group, &*owner.kind) {
            ("apps" | "extensions", "ReplicaSet") => &self.sets,
            ("apps", "StatefulSet") => &self.stateful,
            ("", "ReplicationController") => &self.replication,
            (group, kind) => {
                let plural = format!("{}s", kind.to_lowercase());
                let name = if group.is_empty() { plural } else { format!("{plural}.{group}") };
                return Owner::Unscalable(format!("{name} does not implement the scale subresource"));
            }
        };
        let namespace = pod.key.namespace();
        let found = |cache: &Cache, name: &str, uid: &str| {
            cache.find(namespace, name).filter(|record| *record.header().uid == *uid)
        };
        let Some(record) = found(cache, &owner.name, &owner.uid) else { return Owner::Missing };
        let above = record.header().controller().filter(|above| &*above.kind == "Deployment");
        let record = match above {
            Some(above) if Arc::ptr_eq(cache, &self.sets) => {
                let Some(deployment) = found(&self.deployments, &above.name, &above.uid) else {
                    return Owner::Missing;
                };
                deployment
            }
            _ => record,
        };
        let replicas = record.decode_lean()["spec"]["replicas"].as_i64().unwrap_or(1);
        Owner::Scale(record.header().uid.to_string(), replicas)
    }
}

/// How long a pod may still say that it is to go; `None` when it does not, or goes.
fn stale_after(pod: &Pod, now: Timestamp) -> Option<SignedDuration> {
    if pod.metadata.deleting() || pod.terminal() {
        return None;
    }
    let condition = Condition::find(&pod.status.conditions, "DisruptionTarget")?;
    if condition.status != "True" || condition.reason == "TerminationByKubelet" {
        return None;
    }
    let since = condition.last_transition_time?;
    Some((STALE - now.duration_since(since)).max(SignedDuration::ZERO))
}
