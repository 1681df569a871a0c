//! Which pods a ReplicaSet takes, lets go, creates and deletes, and its status.
//!
//! Follows upstream's `pkg/controller/replicaset`. Pure: a view and a time in, a plan
//! out. It creates nothing twice only because the run loop shows it its own writes.

use carrack_api::selector::Labels;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::rank::rank_for_deletion;
use crate::common::meta::nullable;
use crate::common::{Claim, Condition, Meta, SharedPod, claim};

/// Most pods created or deleted in one pass.
pub const BURST: usize = 500;

/// What is decided on.
#[derive(Debug, Clone)]
pub struct View {
    /// The ReplicaSet.
    pub set: ReplicaSet,
    /// Its selector.
    pub selector: Labels,
    /// Pods that it controls and pods of its namespace that nobody controls.
    pub pods: Vec<SharedPod>,
    /// Pods of all ReplicaSets with the same owner, for ranking.
    pub related: Vec<SharedPod>,
}

/// A ReplicaSet.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ReplicaSet {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: Spec,
    /// `status`.
    pub status: Status,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Pods wanted; 1 by default.
    pub replicas: Option<i32>,
    /// How long a pod is ready before it is available.
    pub min_ready_seconds: i32,
    /// A `metav1.LabelSelector`.
    pub selector: serde_json::Value,
    /// A `PodTemplateSpec`.
    pub template: serde_json::Value,
}

/// `status`; zeros are left out where upstream leaves them out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Active pods.
    pub replicas: i32,
    /// Active pods with all labels of the template.
    #[serde(skip_serializing_if = "zero")]
    pub fully_labeled_replicas: i32,
    /// Ready pods.
    #[serde(skip_serializing_if = "zero")]
    pub ready_replicas: i32,
    /// Available pods.
    #[serde(skip_serializing_if = "zero")]
    pub available_replicas: i32,
    /// Pods being deleted that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i32>,
    /// Generation that this status is about.
    #[serde(skip_serializing_if = "zero64")]
    pub observed_generation: i64,
    /// `ReplicaFailure` or nothing.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Orphans to adopt.
    pub adopt: Vec<SharedPod>,
    /// Pods to release.
    pub release: Vec<SharedPod>,
    /// How many pods to create.
    pub create: usize,
    /// Pods to delete, first to go first.
    pub delete: Vec<SharedPod>,
    /// Active pods minus wanted ones: says what an error was about.
    pub surplus: i64,
    /// Status if all goes well.
    pub status: Status,
    /// When to look again.
    pub requeue_after: Option<SignedDuration>,
}

/// Decides.
pub fn decide(view: &View, now: Timestamp) -> Plan {
    let set = &view.set;
    let mut plan = Plan::default();
    let (mut active, mut terminating) = (Vec::new(), 0);
    for pod in &view.pods {
        let matches = view.selector.matches_with(|key| pod.metadata.labels.get(key).map(String::as_str));
        if pod.terminating() {
            let ours = pod.metadata.controller().is_some_and(|owner| owner.uid == set.metadata.uid);
            terminating += i32::from(ours && matches);
        }
        if !pod.active() {
            continue;
        }
        match claim(&set.metadata, &pod.metadata, matches) {
            Claim::Owned => active.push(pod),
            Claim::Adopt => {
                plan.adopt.push(pod.clone());
                active.push(pod);
            }
            Claim::Release => plan.release.push(pod.clone()),
            Claim::Ignore => {}
        }
    }
    plan.surplus = active.len() as i64 - i64::from(wanted(set));
    if !set.metadata.deleting() {
        let amount = plan.surplus.unsigned_abs().min(BURST as u64) as usize;
        if plan.surplus < 0 {
            plan.create = amount;
        } else if plan.surplus > 0 {
            let mut ranked: Vec<SharedPod> = active.iter().map(|pod| (*pod).clone()).collect();
            if amount < ranked.len() {
                rank_for_deletion(&mut ranked, &view.related, now);
            }
            ranked.truncate(amount);
            plan.delete = ranked;
        }
    }
    plan.status = count(set, &active, terminating, now);
    if set.spec.min_ready_seconds > 0 && plan.status.ready_replicas != plan.status.available_replicas {
        let next = active.iter().filter_map(|pod| pod.available_after(set.spec.min_ready_seconds, now)).min();
        let fallback = SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds));
        plan.requeue_after = Some(next.unwrap_or(fallback));
    }
    plan
}

/// The status to write after acting, `None` when nothing changes. `error` is why
/// creating or deleting failed.
pub fn status_after(set: &ReplicaSet, plan: &Plan, error: Option<&str>, now: Timestamp) -> Option<Status> {
    let mut status = plan.status.clone();
    let failing = Condition::find(&set.status.conditions, "ReplicaFailure").is_some();
    match error {
        Some(error) if !failing => {
            let reason = if plan.surplus < 0 { "FailedCreate" } else { "FailedDelete" };
            status.conditions.push(Condition::new("ReplicaFailure", "True", reason, error, now));
        }
        None => status.conditions.retain(|condition| condition.kind != "ReplicaFailure"),
        Some(_) => {}
    }
    let unchanged = Status { observed_generation: set.status.observed_generation, ..status.clone() }
        == set.status
        && set.metadata.generation == set.status.observed_generation;
    (!unchanged).then_some(status)
}

/// `spec.replicas`, 1 by default.
pub fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn count(set: &ReplicaSet, active: &[&SharedPod], terminating: i32, now: Timestamp) -> Status {
    let template = set.spec.template["metadata"]["labels"].as_object();
    let labelled = |pod: &&&SharedPod| {
        let has = |key: &str, value: &serde_json::Value| {
            pod.metadata.labels.get(key).map(String::as_str) == value.as_str()
        };
        template.is_none_or(|labels| labels.iter().all(|(key, value)| has(key, value)))
    };
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let available = |pod: &&&SharedPod| pod.available(set.spec.min_ready_seconds, now);
    Status {
        replicas: number(active.len()),
        fully_labeled_replicas: number(active.iter().filter(labelled).count()),
        ready_replicas: number(active.iter().filter(|pod| pod.ready()).count()),
        available_replicas: number(active.iter().filter(available).count()),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: set.status.conditions.clone(),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn zero(number: &i32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn zero64(number: &i64) -> bool {
    *number == 0
}
