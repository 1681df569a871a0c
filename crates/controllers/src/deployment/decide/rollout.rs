//! One pass over a Deployment: copies of its ReplicaSets are moved towards the new
//! one, and what changed becomes the plan.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::sets::{self, REVISION};
use super::view::{Deployment, HASH_LABEL, NOT_COPIED, ROLLBACK_TO, ReplicaSet, SetSpec, copied};
use super::{NewSet, Plan, SetUpdate, Status, same_template, status, template_hash};
use crate::common::{Meta, SharedPod};

/// Longest object name.
const NAME_LIMIT: usize = 253;

/// The pass.
pub(super) struct Rollout<'a> {
    deployment: &'a Deployment,
    /// Sets without the new one, old to new.
    old: Vec<ReplicaSet>,
    /// The set with the Deployment's template.
    new: Option<ReplicaSet>,
    /// Status with the conditions that this pass has added.
    pub(super) status: Status,
    /// Annotations of the Deployment.
    revision: Option<String>,
    plan: Plan,
    now: Timestamp,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        deployment: &'a Deployment,
        mut sets: Vec<ReplicaSet>,
        plan: Plan,
        now: Timestamp,
    ) -> Self {
        sets.sort_by(ReplicaSet::by_age);
        let new = sets::find_new(deployment, &sets).map(|at| sets.remove(at));
        let status = deployment.status.clone();
        Self { deployment, old: sets, new, status, revision: None, plan, now }
    }

    /// Gives the new set its revision and annotations; creates it if `create` and it
    /// is missing.
    pub(super) fn sync_revision(&mut self, create: bool) {
        let revision = sets::max_revision(&self.old) + 1;
        if let Some(set) = &mut self.new {
            let mut annotations = set.metadata.annotations.clone();
            sets::annotate_new(self.deployment, &mut annotations, revision, true);
            let seconds = self.deployment.spec.min_ready_seconds;
            if annotations != set.metadata.annotations || set.spec.min_ready_seconds != seconds {
                set.metadata.annotations = annotations;
                set.spec.min_ready_seconds = seconds;
                let set = set.clone();
                touch(&mut self.plan, &set, None);
                // The Deployment's own revision follows in the next pass.
                return;
            }
            self.revision = set.metadata.annotations.get(REVISION).cloned();
            if self.deployment.has_deadline() && self.status.condition("Progressing").is_none() {
                let message = format!("Found new replica set {:?}", set.metadata.name);
                self.status.set_new_set("FoundNewReplicaSet", message, self.now);
            }
        } else if create {
            self.create_set(revision);
        }
    }

    fn create_set(&mut self, revision: i64) {
        let (deployment, now) = (self.deployment, self.now);
        let hash = template_hash(&deployment.spec.template, deployment.status.collision_count);
        let mut base = deployment.metadata.name.as_str();
        base = &base[..base.len().min(NAME_LIMIT - 1 - hash.len())];
        let name = format!("{base}-{hash}");
        let mut set = ReplicaSet {
            metadata: Meta {
                name: name.clone(),
                namespace: deployment.metadata.namespace.clone(),
                creation_timestamp: Some(now),
                ..Meta::default()
            },
            spec: SetSpec {
                replicas: Some(0),
                min_ready_seconds: deployment.spec.min_ready_seconds,
                template: deployment.spec.template.clone(),
            },
            ..ReplicaSet::default()
        };
        let replicas = new_size(deployment, sets::wanted(&self.old), &set);
        set.spec.replicas = Some(replicas);
        sets::annotate_new(deployment, &mut set.metadata.annotations, revision, false);
        let object = set_object(deployment, &set, &hash);
        self.plan.create = Some(NewSet { object, name: name.clone(), replicas });
        self.revision = Some(revision.to_string());
        if deployment.has_deadline() {
            let message = format!("Created new replica set {name:?}");
            self.status.set_new_set("NewReplicaSetCreated", message, now);
        }
        self.new = Some(set);
    }

    /// Whether the Deployment's size has changed since its sets were scaled.
    pub(super) fn is_scaling(&self) -> bool {
        let replicas = self.deployment.replicas();
        let mut active = self.old.iter().chain(&self.new).filter(|set| set.replicas() > 0);
        active.any(|set| set.number(sets::DESIRED_REPLICAS).is_some_and(|desired| desired != replicas))
    }

    /// Scales without moving the rollout on: after a change of size, or while paused.
    pub(super) fn scale_only(mut self) -> Plan {
        self.sync_revision(false);
        self.scale();
        if self.deployment.spec.paused && self.deployment.rollback_to().is_none() {
            self.clean_up();
        }
        self.finish_status_only()
    }

    fn scale(&mut self) {
        let deployment = self.deployment;
        let active: Vec<String> =
            self.all().filter(|set| set.replicas() > 0).map(|set| set.metadata.name.clone()).collect();
        match &active[..] {
            [] => {
                let newest = self.new.as_ref().or(self.old.last());
                if let Some(name) = newest.map(|set| set.metadata.name.clone()) {
                    self.resize(&name, deployment.replicas(), false);
                }
            }
            [one] => self.resize(&one.clone(), deployment.replicas(), false),
            _ if self.new.as_ref().is_some_and(|set| sets::saturated(deployment, set)) => {
                for name in self.active_old() {
                    self.resize(&name, 0, false);
                }
            }
            _ if deployment.rolls() => self.scale_proportionally(),
            _ => {}
        }
    }

    fn scale_proportionally(&mut self) {
        let deployment = self.deployment;
        let mut active: Vec<ReplicaSet> = self.all().filter(|set| set.replicas() > 0).cloned().collect();
        let allowed = match deployment.replicas() {
            0 => 0,
            replicas => replicas + deployment.max_surge(),
        };
        let to_add = allowed - sets::wanted(&active);
        active.sort_by(|a, b| {
            let by_age = if to_add > 0 { b.by_age(a) } else { a.by_age(b) };
            b.replicas().cmp(&a.replicas()).then(by_age)
        });
        let (mut added, mut sizes) = (0, Vec::new());
        for set in &active {
            let share = sets::proportion(deployment, set, to_add, added);
            added += share;
            sizes.push(set.replicas() + share);
        }
        if to_add != 0 {
            sizes[0] = (sizes[0] + to_add - added).max(0);
        }
        for (set, size) in active.iter().zip(sizes) {
            self.resize(&set.metadata.name, size, true);
        }
    }

    /// `RollingUpdate`.
    pub(super) fn roll(mut self) -> Plan {
        self.sync_revision(true);
        if self.scale_up_new() || self.scale_down_old() {
            return self.finish();
        }
        if self.deployment.status.complete(self.deployment) {
            self.clean_up();
        }
        self.finish()
    }

    fn scale_up_new(&mut self) -> bool {
        let Some(new) = self.new.clone() else { return false };
        let wanted = self.deployment.replicas();
        let size = match new.replicas().cmp(&wanted) {
            std::cmp::Ordering::Equal => return false,
            std::cmp::Ordering::Greater => wanted,
            std::cmp::Ordering::Less => new_size(self.deployment, sets::wanted(self.all()), &new),
        };
        self.resize(&new.metadata.name, size, false);
        size != new.replicas()
    }

    fn scale_down_old(&mut self) -> bool {
        let Some(new) = self.new.clone() else { return false };
        if sets::wanted(&self.old) == 0 {
            return false;
        }
        let min_available = self.deployment.replicas() - self.deployment.max_unavailable();
        // A set that was scaled down may still report more; that is no slack.
        let new_unavailable = (new.replicas() - new.status.available_replicas).max(0);
        let most = sets::wanted(self.all()) - min_available - new_unavailable;
        if most <= 0 {
            return false;
        }
        let unhealthy = self.drop_unhealthy(most);
        // Counted on the sets as they were read: what is dropped was not available.
        let available = sets::available(self.all());
        let healthy = self.drop_healthy(available - min_available);
        unhealthy + healthy > 0
    }

    /// Takes pods that are not available from old sets: they do not serve.
    fn drop_unhealthy(&mut self, most: i32) -> i32 {
        let mut dropped = 0;
        for name in self.active_old() {
            let set = self.old_set(&name);
            let amount = (most - dropped).min(set.replicas() - set.status.available_replicas);
            if amount > 0 {
                let size = set.replicas() - amount;
                self.resize(&name, size, false);
                dropped += amount;
            }
        }
        dropped
    }

    fn drop_healthy(&mut self, most: i32) -> i32 {
        let mut dropped = 0;
        for name in self.active_old() {
            let replicas = self.old_set(&name).replicas();
            let amount = replicas.min(most - dropped);
            if amount > 0 {
                self.resize(&name, replicas - amount, false);
                dropped += amount;
            }
        }
        dropped
    }

    /// `Recreate`.
    pub(super) fn recreate(mut self, pods: &[SharedPod]) -> Plan {
        self.sync_revision(false);
        let active = self.active_old();
        if !active.is_empty() {
            for name in active {
                self.resize(&name, 0, false);
            }
            return self.finish();
        }
        if self.old_pods_run(pods) {
            return self.finish();
        }
        if self.new.is_none() {
            self.sync_revision(true);
        }
        if let Some(name) = self.new.as_ref().map(|set| set.metadata.name.clone()) {
            self.resize(&name, self.deployment.replicas(), false);
        }
        if self.deployment.status.complete(self.deployment) {
            self.clean_up();
        }
        self.finish()
    }

    fn old_pods_run(&self, pods: &[SharedPod]) -> bool {
        let new = self.new.as_ref().map(|set| set.metadata.uid.as_str());
        let old = |pod: &&SharedPod| {
            let owner = pod.metadata.controller().map(|owner| owner.uid.as_str());
            owner.is_some_and(|uid| self.old.iter().any(|set| set.metadata.uid == uid)) && owner != new
        };
        self.old.iter().any(|set| set.status.replicas > 0)
            || pods.iter().filter(old).any(|pod| !pod.terminal())
    }

    /// The deprecated `rollbackTo`.
    pub(super) fn roll_back(mut self, mut revision: i64) -> Plan {
        self.sync_revision(true);
        if revision == 0 {
            revision = sets::last_revision(self.all());
        }
        let name = &self.deployment.metadata.name;
        let mut annotations = self.deployment.metadata.annotations.clone();
        let target = self.all().find(|set| revision > 0 && sets::revision(set) == Some(revision)).cloned();
        let not_found = "DeploymentRollbackRevisionNotFound";
        let event = match target {
            None if revision == 0 => (true, not_found, "Unable to find last revision.".into()),
            None => (true, not_found, "Unable to find the revision to rollback to.".into()),
            Some(set) if same_template(&set.spec.template, &self.deployment.spec.template) => {
                let message = format!(
                    "The rollback revision contains the same template as current deployment {name:?}"
                );
                (true, "DeploymentRollbackTemplateUnchanged", message)
            }
            Some(set) => {
                self.plan.template = Some(without_hash(&set.spec.template));
                annotations.retain(|key, _| NOT_COPIED.contains(&key.as_str()));
                annotations.extend(copied(&set.metadata.annotations).map(|(k, v)| (k.clone(), v.clone())));
                let message = format!("Rolled back deployment {name:?} to revision {revision}");
                (false, "DeploymentRollback", message)
            }
        };
        annotations.remove(ROLLBACK_TO);
        self.plan.annotations = Some(annotations);
        self.plan.rolls_back = true;
        self.plan.events.push(event);
        self.plan
    }

    /// Deletes old sets beyond the history limit that hold no pods.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX)
        else {
            return;
        };
        let mut alive: Vec<&ReplicaSet> = self.old.iter().filter(|set| !set.metadata.deleting()).collect();
        let excess = alive.len().saturating_sub(limit.max(0) as usize);
        alive.sort_by(|a, b| match (sets::revision(a), sets::revision(b)) {
            (Some(x), Some(y)) if x != y => x.cmp(&y),
            _ => a.by_age(b),
        });
        for set in alive.into_iter().take(excess) {
            let settled = set.metadata.generation <= set.status.observed_generation;
            if set.status.replicas == 0 && set.replicas() == 0 && settled {
                self.plan.delete.push((set.metadata.name.clone(), set.metadata.uid.clone()));
            }
        }
    }

    /// Ends the pass with a status that judges progress.
    fn finish(mut self) -> Plan {
        let status =
            status::of_rollout(self.deployment, &self.status, &self.old, self.new.as_ref(), self.now);
        self.plan.requeue_after = status::next_check(self.deployment, &status, self.now);
        self.close(status)
    }

    /// Ends the pass with a status that only counts.
    pub(super) fn finish_status_only(self) -> Plan {
        let status = status::calculate(self.deployment, &self.status, &self.old, self.new.as_ref(), self.now);
        self.close(status)
    }

    fn close(mut self, status: Status) -> Plan {
        self.plan.status = (status != self.deployment.status).then_some(status);
        if let Some(revision) = self.revision.take() {
            let mut annotations = self.deployment.metadata.annotations.clone();
            if annotations.insert(REVISION.into(), revision.clone()) != Some(revision) {
                self.plan.annotations = Some(annotations);
            }
        }
        self.plan
    }

    /// Sets a set's size. Unless `force`, annotations alone are no reason to write.
    fn resize(&mut self, name: &str, size: i32, force: bool) {
        let deployment = self.deployment;
        let Some(set) = self.old.iter_mut().chain(&mut self.new).find(|set| set.metadata.name == name) else {
            return;
        };
        let from = set.replicas();
        if from == size && !force {
            return;
        }
        let mut annotations = set.metadata.annotations.clone();
        sets::annotate_replicas(deployment, &mut annotations);
        if from == size && annotations == set.metadata.annotations {
            return;
        }
        set.metadata.annotations = annotations;
        set.spec.replicas = Some(size);
        let direction = if from < size { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {name} from {from} to {size}");
        let set = set.clone();
        touch(&mut self.plan, &set, (from != size).then_some(message));
    }

    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    fn active_old(&self) -> Vec<String> {
        self.old.iter().filter(|set| set.replicas() > 0).map(|set| set.metadata.name.clone()).collect()
    }

    fn old_set(&self, name: &str) -> ReplicaSet {
        self.old.iter().find(|set| set.metadata.name == name).cloned().unwrap_or_default()
    }
}

/// Notes that a set is to be written in its present state. A set that is only about
/// to be created takes its final size at once.
fn touch(plan: &mut Plan, set: &ReplicaSet, scaled: Option<String>) {
    if let Some(new) = plan.create.as_mut().filter(|new| new.name == set.metadata.name) {
        new.object["spec"]["replicas"] = set.replicas().into();
        new.replicas = set.replicas();
        return;
    }
    let at = plan.update.iter().position(|update| update.name == set.metadata.name);
    let mut messages = at.map(|at| plan.update[at].scaled.clone()).unwrap_or_default();
    messages.extend(scaled);
    let update = SetUpdate {
        name: set.metadata.name.clone(),
        annotations: set.metadata.annotations.clone(),
        replicas: set.replicas(),
        min_ready_seconds: set.spec.min_ready_seconds,
        scaled: messages,
    };
    match at {
        Some(at) => plan.update[at] = update,
        None => plan.update.push(update),
    }
}

/// Size of the new set: as far as the surge allows. `total` counts all sets.
fn new_size(deployment: &Deployment, total: i32, new: &ReplicaSet) -> i32 {
    if !deployment.rolls() {
        return deployment.replicas();
    }
    let most = deployment.replicas() + deployment.max_surge();
    if total >= most {
        return new.replicas();
    }
    new.replicas() + (most - total).min(deployment.replicas() - new.replicas())
}

/// The new ReplicaSet: the Deployment's template and selector with the hash label.
fn set_object(deployment: &Deployment, set: &ReplicaSet, hash: &str) -> Value {
    let mut template = deployment.spec.template.clone();
    template["metadata"]["labels"][HASH_LABEL] = hash.into();
    let mut selector = deployment.spec.selector.clone();
    selector["matchLabels"][HASH_LABEL] = hash.into();
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": set.metadata.name,
            "namespace": set.metadata.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": set.metadata.annotations,
            "ownerReferences": [deployment.metadata.controller_ref("apps/v1", "Deployment")],
        },
        "spec": {
            "replicas": set.replicas(),
            "minReadySeconds": set.spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    })
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH_LABEL);
    }
    template
}
