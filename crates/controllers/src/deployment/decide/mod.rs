//! How a Deployment moves from one ReplicaSet to the next.
//!
//! Follows upstream's `pkg/controller/deployment` step by step, but on copies: one
//! pass collects what it would write, merged per ReplicaSet, and the shell writes it.
//! Pure: a view and a time in, a plan out.

mod hash;
mod rollout;
mod sets;
mod status;
mod view;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::common::{Claim, claim};
pub use hash::template_hash;
use rollout::Rollout;
pub use status::{on_collision, on_create_failure};
pub use view::{Deployment, Kind, ReplicaSet, Spec, Status, Strategy, View, same_template};

/// What to do, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// ReplicaSets to adopt, by name.
    pub adopt: Vec<String>,
    /// ReplicaSets to release, by name.
    pub release: Vec<String>,
    /// ReplicaSets to write.
    pub update: Vec<SetUpdate>,
    /// The ReplicaSet to create.
    pub create: Option<NewSet>,
    /// ReplicaSets to delete: name and uid.
    pub delete: Vec<(String, String)>,
    /// The Deployment's annotations, if they change.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Whether this is a rollback: annotations and template go into the spec's side.
    pub rolls_back: bool,
    /// The Deployment's template, if it is rolled back.
    pub template: Option<Value>,
    /// Events: whether a warning, reason and message.
    pub events: Vec<(bool, &'static str, String)>,
    /// The status, if it changes.
    pub status: Option<Status>,
    /// When to look again.
    pub requeue_after: Option<SignedDuration>,
}

/// A write to an existing ReplicaSet.
#[derive(Debug, Clone, PartialEq)]
pub struct SetUpdate {
    /// Its name.
    pub name: String,
    /// All its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its size.
    pub replicas: i32,
    /// Its `minReadySeconds`.
    pub min_ready_seconds: i32,
    /// Messages of ScalingReplicaSet events to record once it is written.
    pub scaled: Vec<String>,
}

/// A ReplicaSet to create.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSet {
    /// The object.
    pub object: Value,
    /// Its name.
    pub name: String,
    /// Its size.
    pub replicas: i32,
}

/// Decides.
pub fn decide(view: &View, now: Timestamp) -> Plan {
    let deployment = &view.deployment;
    if deployment.selects_all() {
        return selects_all(deployment);
    }
    let mut plan = Plan::default();
    let mut owned = Vec::new();
    for set in &view.sets {
        let matches = view.selector.matches_with(|key| set.metadata.labels.get(key).map(String::as_str));
        match claim(&deployment.metadata, &set.metadata, matches) {
            Claim::Owned => owned.push(set.clone()),
            Claim::Adopt => {
                plan.adopt.push(set.metadata.name.clone());
                owned.push(set.clone());
            }
            Claim::Release => plan.release.push(set.metadata.name.clone()),
            Claim::Ignore => {}
        }
    }
    let mut rollout = Rollout::new(deployment, owned, plan, now);
    if deployment.metadata.deleting() {
        rollout.sync_revision(false);
        return rollout.finish_status_only();
    }
    rollout.status.set_paused(deployment, now);
    if deployment.spec.paused {
        return rollout.scale_only();
    }
    if let Some(revision) = deployment.rollback_to() {
        return rollout.roll_back(revision);
    }
    if rollout.is_scaling() {
        return rollout.scale_only();
    }
    match deployment.spec.strategy.kind {
        Kind::Recreate => rollout.recreate(&view.pods),
        Kind::RollingUpdate => rollout.roll(),
    }
}

fn selects_all(deployment: &Deployment) -> Plan {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    let observed = deployment.status.observed_generation < deployment.metadata.generation;
    let generation = deployment.metadata.generation;
    let status = Status { observed_generation: generation, ..deployment.status.clone() };
    Plan {
        events: vec![(true, "SelectingAll", message.into())],
        status: observed.then_some(status),
        ..Plan::default()
    }
}
