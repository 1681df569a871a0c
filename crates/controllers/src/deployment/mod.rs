//! The Deployment controller: moves pods from one template to the next.
//!
//! The shell around [`decide`]. Objects are written back whole, as they were read
//! and with their resourceVersion, so a plan made on a late cache conflicts.

pub mod decide;

use std::sync::Arc;
use std::time::Duration;

use carrack_api::selector::Labels;
use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{DEPLOYMENTS, PODS, REPLICA_SETS};
use carrack_client::{Cache, Client, Clock, DeleteOptions, EventKind, EventRecorder, Reference};
use jiff::Timestamp;

use crate::common::SharedPod;
use crate::shell::{self, ORPHANS, Shared};
use decide::{Deployment, Kind, NewSet, Plan, Status, View};

/// The controller.
pub(crate) struct Deployments {
    client: Client,
    events: EventRecorder,
    clock: Arc<dyn Clock>,
    deployments: Arc<Cache>,
    sets: Arc<Cache>,
    pods: Arc<Cache>,
}

/// A plan with what it is about.
pub(crate) struct Work {
    record: Arc<Record>,
    deployment: Deployment,
    plan: Plan,
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let (client, events) = shared.identity("deployment-controller");
    let queue = shell::queue();
    let deployments = shared.informers.cache(&DEPLOYMENTS);
    let sets = shared.informers.cache(&REPLICA_SETS);
    let pods = shared.informers.cache(&PODS);
    sets.add_index(ORPHANS, shell::orphans);
    shell::enqueue_changes(&deployments, &queue);
    shell::enqueue_controllers(&sets, &queue, &DEPLOYMENTS);
    let (all, wake) = (deployments.clone(), queue.clone());
    sets.add_handler(Box::new(move |_, new| {
        let Some(set) = new.filter(|set| set.header().controller().is_none()) else { return };
        for record in all.in_namespace(set.key.namespace()) {
            let selector = shell::read::<Deployment>(&record);
            let selector = selector.and_then(|d| Labels::from_value(&d.spec.selector).ok());
            if selector.is_some_and(|selector| selector.matches(set.header())) {
                wake.add(record.key.clone());
            }
        }
    }));
    // `Recreate` waits for the last old pod to be gone.
    let (all, wake) = (sets.clone(), queue.clone());
    pods.add_handler(Box::new(move |old, new| {
        let Some(pod) = old.filter(|_| new.is_none()) else { return };
        let Some(owner) = pod.header().controller() else { return };
        let set = all.find(pod.key.namespace(), &owner.name).filter(|set| set.header().uid == owner.uid);
        if let Some(owner) = set.as_ref().and_then(|set| set.header().controller()) {
            wake.add(DEPLOYMENTS.key(pod.key.namespace(), &owner.name));
        }
    }));
    let clock = shared.clock.clone();
    shared.run(Deployments { client, events, clock, deployments, sets, pods }, queue, 5);
}

impl Controller for Deployments {
    type Plan = Work;

    fn name(&self) -> &'static str {
        "deployment"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.deployments.clone(), self.sets.clone(), self.pods.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Work> {
        let record = self.deployments.get(key)?;
        let deployment: Deployment = shell::read(&record)?;
        let selector = Labels::from_value(&deployment.spec.selector).ok()?;
        let mut sets = self.sets.owned_by(&deployment.metadata.uid);
        sets.extend(self.sets.indexed(ORPHANS, key.namespace()));
        let pods = match deployment.spec.strategy.kind {
            Kind::Recreate => sets.iter().flat_map(|set| self.pods.owned_by(&set.header().uid)).collect(),
            Kind::RollingUpdate => Vec::new(),
        };
        let view = View {
            deployment,
            selector,
            sets: sets.iter().filter_map(|set| shell::read(set)).collect(),
            pods: pods.iter().filter_map(|pod| SharedPod::read(pod)).collect(),
        };
        let plan = decide::decide(&view, now);
        Some(Work { record, deployment: view.deployment, plan })
    }

    async fn act(&self, _: &Key, work: Work, writes: &Writes) -> Result<Option<Duration>, Error> {
        let Work { record, deployment, plan } = work;
        let about = Reference::of(&record);
        self.claim(&record, &deployment, &plan, writes).await?;
        for update in &plan.update {
            let Some(set) = self.sets.find(record.key.namespace(), &update.name) else { continue };
            let mut object = set.decode();
            object["metadata"]["annotations"] = shell::to_value(&update.annotations);
            object["spec"]["replicas"] = update.replicas.into();
            object["spec"]["minReadySeconds"] = update.min_ready_seconds.into();
            self.replace_set(&set, &object, writes).await?;
            for message in &update.scaled {
                self.events.normal(&about, "ScalingReplicaSet", message);
            }
        }
        if let Some(new) = &plan.create {
            self.create(&record, &deployment, new, writes).await?;
        }
        for (name, uid) in &plan.delete {
            let at = (record.key.namespace(), name.as_str());
            match self.client.delete(&REPLICA_SETS, at, &DeleteOptions::of_uid(uid)).await {
                Ok(written) => writes.deleted(&written.key, uid),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (warning, reason, message) in &plan.events {
            let kind = if *warning { EventKind::Warning } else { EventKind::Normal };
            self.events.event(&about, kind, reason, message);
        }
        self.write_itself(&record, &plan, writes).await?;
        Ok(plan.requeue_after.and_then(|after| after.try_into().ok()))
    }
}

impl Deployments {
    async fn claim(
        &self,
        record: &Record,
        deployment: &Deployment,
        plan: &Plan,
        writes: &Writes,
    ) -> Result<(), Error> {
        if !plan.adopt.is_empty() {
            shell::recheck_owner(&self.client, &DEPLOYMENTS, record).await?;
        }
        let owner = shell::to_value(&deployment.metadata.controller_ref("apps/v1", "Deployment"));
        for (name, adopt) in
            plan.adopt.iter().map(|n| (n, true)).chain(plan.release.iter().map(|n| (n, false)))
        {
            let Some(set) = self.sets.find(record.key.namespace(), name) else { continue };
            let mut object = set.decode();
            let mut owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            owners.retain(|reference| reference["uid"] != owner["uid"]);
            owners.extend(adopt.then(|| owner.clone()));
            object["metadata"]["ownerReferences"] = owners.into();
            self.replace_set(&set, &object, writes).await?;
        }
        Ok(())
    }

    async fn replace_set(&self, set: &Record, object: &Value, writes: &Writes) -> Result<(), Error> {
        let at = (set.key.namespace(), set.key.name());
        match self.client.replace(&REPLICA_SETS, at, "", object).await {
            Ok(written) => writes.wrote(&written),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Creates the new set. If its name is taken by another's, the collision count
    /// is raised, so that the next pass finds another name.
    async fn create(
        &self,
        record: &Record,
        deployment: &Deployment,
        new: &NewSet,
        writes: &Writes,
    ) -> Result<(), Error> {
        let namespace = record.key.namespace();
        let about = Reference::of(record);
        let error = match self.client.create(&REPLICA_SETS, namespace, &new.object).await {
            Ok(written) => {
                writes.wrote(&written);
                if new.replicas > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {}", new.name, new.replicas);
                    self.events.normal(&about, "ScalingReplicaSet", message);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if error.is_already_exists() {
            let there = self.client.get(&REPLICA_SETS, namespace, &new.name).await?;
            writes.wrote(&there);
            let set: decide::ReplicaSet = there.decode()?;
            let ours = set.metadata.controller().is_some_and(|owner| owner.uid == deployment.metadata.uid);
            if ours && decide::same_template(&set.spec.template, &deployment.spec.template) {
                return Ok(());
            }
            let status = decide::on_collision(deployment);
            self.write_status(record, record.decode(), &status, writes).await?;
        } else if !error.is_namespace_terminating() {
            let message = format!("Failed to create new replica set {:?}: {error}", new.name);
            if let Some(status) = decide::on_create_failure(deployment, &message, self.clock.now()) {
                self.write_status(record, record.decode(), &status, writes).await?;
            }
            self.events.warning(&about, "ReplicaSetCreateError", message);
        }
        Err(error.into())
    }

    /// Writes annotations and status at once, through the status subresource: so the
    /// generation stays, which a change of annotations would raise. A template (of a
    /// rollback) goes the other way.
    async fn write_itself(&self, record: &Record, plan: &Plan, writes: &Writes) -> Result<(), Error> {
        let mut object = record.decode();
        if let Some(annotations) = &plan.annotations {
            object["metadata"]["annotations"] = shell::to_value(annotations);
        }
        let at = (record.key.namespace(), record.key.name());
        if let Some(template) = &plan.template {
            object["spec"]["template"] = template.clone();
        }
        if plan.rolls_back {
            writes.wrote(&self.client.replace(&DEPLOYMENTS, at, "", &object).await?);
            return Ok(());
        }
        match &plan.status {
            Some(status) => self.write_status(record, object, status, writes).await,
            None if plan.annotations.is_some() => {
                writes.wrote(&self.client.replace(&DEPLOYMENTS, at, "status", &object).await?);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn write_status(
        &self,
        record: &Record,
        mut object: Value,
        status: &Status,
        writes: &Writes,
    ) -> Result<(), Error> {
        object["status"] = shell::to_value(status);
        let at = (record.key.namespace(), record.key.name());
        writes.wrote(&self.client.replace(&DEPLOYMENTS, at, "status", &object).await?);
        Ok(())
    }
}
