//! The ReplicaSet and ReplicationController controllers: keep as many pods as are wanted.
//! Both are one; they differ in names and in how a selector is written.
//!
//! The shell around [`decide`]: gathers the view from the caches, writes what the
//! plan says (creations in slow-start batches), and reports each pod as an event.

pub mod decide;
mod rank;

use std::sync::Arc;
use std::time::Duration;

use carrack_api::selector::Labels;
use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{PODS, REPLICA_SETS, REPLICATION_CONTROLLERS};
use carrack_client::{Cache, Client, Clock, DeleteOptions, EventRecorder, Patch, Reference, Resource};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;

use crate::common::{OwnerReference, Pod, SharedPod};
use crate::shell::{self, ORPHANS, Shared};
use decide::{Plan, ReplicaSet, View};

/// The controller of one of the two kinds.
pub(crate) struct ReplicaSets {
    name: &'static str,
    resource: &'static Resource,
    client: Client,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    sets: Arc<Cache>,
    pods: Arc<Cache>,
}

/// A plan with what it is about.
pub(crate) struct Work {
    record: Arc<Record>,
    set: ReplicaSet,
    plan: Plan,
}

/// Starts that of ReplicaSets.
pub(crate) fn start(shared: &Shared) {
    start_of(shared, "replicaset", "replicaset-controller", &REPLICA_SETS);
}

/// Starts that of ReplicationControllers.
pub(crate) fn start_replication_controllers(shared: &Shared) {
    start_of(shared, "replicationcontroller", "replication-controller", &REPLICATION_CONTROLLERS);
}

fn start_of(shared: &Shared, name: &'static str, identity: &str, resource: &'static Resource) {
    let (client, events) = shared.identity(identity);
    let queue = shell::queue();
    let sets = shared.informers.cache(resource);
    let pods = shared.informers.cache(&PODS);
    pods.add_index(ORPHANS, shell::orphans);
    shell::enqueue_changes(&sets, &queue);
    shell::enqueue_controllers(&pods, &queue, resource);
    let (owner_of_orphan, wake) = (sets.clone(), queue.clone());
    pods.add_handler(Box::new(move |_, new| {
        let Some(pod) = new.filter(|pod| pod.header().controller().is_none() && !pod.header().deleting)
        else {
            return;
        };
        for set in owner_of_orphan.in_namespace(pod.key.namespace()) {
            let of = |record: &Record| selector(record, &shell::read(record)?);
            if of(&set).is_some_and(|selector| selector.matches(pod.header())) {
                wake.add(set.key.clone());
            }
        }
    }));
    let clock = shared.clock.clone();
    shared.run(ReplicaSets { name, resource, client, events, clock, sets, pods }, queue, 5);
}

impl Controller for ReplicaSets {
    type Plan = Work;

    fn name(&self) -> &'static str {
        self.name
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.sets.clone(), self.pods.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Work> {
        let record = self.sets.get(key)?;
        let set: ReplicaSet = shell::read(&record)?;
        let selector = selector(&record, &set)?;
        let mut pods = self.pods.owned_by(&set.metadata.uid);
        let orphans = self.pods.indexed(ORPHANS, key.namespace()).into_iter();
        pods.extend(orphans.filter(|pod| selector.matches(pod.header())));
        let pods: Vec<SharedPod> = pods.iter().filter_map(|pod| SharedPod::read(pod)).collect();
        let surplus = pods.iter().filter(|pod| pod.active()).count() > decide::wanted(&set).max(0) as usize;
        let related = if surplus { self.related(&set) } else { Vec::new() };
        let view = View { set, selector, pods, related };
        let mut plan = decide::decide(&view, now);
        if *self.resource == REPLICATION_CONTROLLERS {
            // Their status has no such field.
            plan.status.terminating_replicas = None;
        }
        Some(Work { record, set: view.set, plan })
    }

    async fn act(&self, _: &Key, work: Work, writes: &Writes) -> Result<Option<Duration>, Error> {
        let Work { record, set, plan } = work;
        let owner = set.metadata.controller_ref(&self.resource.api_version(), &self.resource.kind);
        self.claim(&record, &plan, &owner, writes).await?;
        let result = if plan.create > 0 {
            self.create(&record, &set, &owner, plan.create, writes).await
        } else {
            self.delete(&record, &plan.delete, writes).await
        };
        let text = result.as_ref().err().map(ToString::to_string);
        if let Some(status) = decide::status_after(&set, &plan, text.as_deref(), self.clock.now()) {
            let mut object = record.decode();
            object["status"] = shell::to_value(&status);
            let at = (record.key.namespace(), record.key.name());
            writes.wrote(&self.client.replace(self.resource, at, "status", &object).await?);
        }
        result?;
        Ok(plan.requeue_after.and_then(|after| after.try_into().ok()))
    }
}

impl ReplicaSets {
    /// Pods of all sets with the same controller as this one.
    fn related(&self, set: &ReplicaSet) -> Vec<SharedPod> {
        let siblings = match set.metadata.controller() {
            Some(owner) => self.sets.owned_by(&owner.uid),
            None => self.sets.find(&set.metadata.namespace, &set.metadata.name).into_iter().collect(),
        };
        let pods = siblings.iter().flat_map(|sibling| self.pods.owned_by(&sibling.header().uid));
        pods.filter_map(|pod| SharedPod::read(&pod)).collect()
    }

    async fn claim(
        &self,
        record: &Record,
        plan: &Plan,
        owner: &OwnerReference,
        writes: &Writes,
    ) -> Result<(), Error> {
        if !plan.adopt.is_empty() {
            shell::recheck_owner(&self.client, self.resource, record).await?;
        }
        for pod in &plan.adopt {
            let mut owners = pod.metadata.owner_references.clone();
            owners.push(owner.clone());
            self.set_owners(pod, owners, writes).await?;
        }
        for pod in &plan.release {
            let mut owners = pod.metadata.owner_references.clone();
            owners.retain(|reference| reference.uid != owner.uid);
            self.set_owners(pod, owners, writes).await?;
        }
        Ok(())
    }

    async fn set_owners(&self, pod: &Pod, owners: Vec<OwnerReference>, writes: &Writes) -> Result<(), Error> {
        let meta = &pod.metadata;
        let patch = Patch::Merge(json!({"metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": owners,
        }}));
        match self.client.patch(&PODS, (&meta.namespace, &meta.name), "", &patch).await {
            Ok(written) => writes.wrote(&written),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Creates pods in batches of 1, 2, 4, …; a failed batch is the last one, so that
    /// a set whose pods are refused does not flood the server.
    async fn create(
        &self,
        record: &Record,
        set: &ReplicaSet,
        owner: &OwnerReference,
        count: usize,
        writes: &Writes,
    ) -> Result<(), Error> {
        let (pod, about) = (pod_from_template(set, owner), Reference::of(record));
        let namespace = record.key.namespace();
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            batch = batch.min(left);
            let results = join_all((0..batch).map(|_| self.client.create(&PODS, namespace, &pod))).await;
            let mut failure = None;
            for result in results {
                match result {
                    Ok(written) => {
                        writes.wrote(&written);
                        let message = format!("Created pod: {}", written.key.name());
                        self.events.normal(&about, "SuccessfulCreate", message);
                    }
                    // Everything in it goes away; nothing to report.
                    Err(error) if error.is_namespace_terminating() => {}
                    Err(error) => {
                        self.events.warning(&about, "FailedCreate", format!("Error creating: {error}"));
                        failure = Some(error);
                    }
                }
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
            left -= batch;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, record: &Record, pods: &[SharedPod], writes: &Writes) -> Result<(), Error> {
        let about = Reference::of(record);
        let options: Vec<_> = pods.iter().map(|pod| DeleteOptions::of_uid(&pod.metadata.uid)).collect();
        let deletions = pods.iter().zip(&options).map(|(pod, options)| {
            let meta = &pod.metadata;
            self.client.delete(&PODS, (&meta.namespace, &meta.name), options)
        });
        let mut failure = None;
        for (pod, result) in pods.iter().zip(join_all(deletions).await) {
            let name = &pod.metadata.name;
            match result {
                Ok(written) => {
                    writes.deleted(&written.key, &pod.metadata.uid);
                    self.events.normal(&about, "SuccessfulDelete", format!("Deleted pod: {name}"));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    self.events.warning(&about, "FailedDelete", format!("Error deleting: {error}"));
                    failure = Some(Error::Other(format!("unable to delete pods: {error}")));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

fn selector(record: &Record, set: &ReplicaSet) -> Option<Labels> {
    let selector = &set.spec.selector;
    let read = if *record.header().kind == *REPLICATION_CONTROLLERS.kind {
        Labels::from_value(&json!({ "matchLabels": selector }))
    } else {
        Labels::from_value(selector)
    };
    read.ok()
}

/// A pod of the set's template, named by the server after the set.
fn pod_from_template(set: &ReplicaSet, owner: &OwnerReference) -> Value {
    let template = &set.spec.template;
    let mut meta = json!({
        "generateName": format!("{}-", set.metadata.name),
        "namespace": set.metadata.namespace,
        "ownerReferences": [owner],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            meta[field] = template["metadata"][field].clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})
}
