//! Shapes that a Deployment is decided on.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use carrack_api::selector::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::meta::nullable;
use crate::common::{Condition, Meta, SharedPod};
use crate::replicaset::decide::Status as SetStatus;

/// Label that tells the pods of one template from another's.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Annotation of the deprecated `spec.rollbackTo`.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// What is decided on.
#[derive(Debug, Clone)]
pub struct View {
    /// The Deployment.
    pub deployment: Deployment,
    /// Its selector.
    pub selector: Labels,
    /// ReplicaSets that it controls, and those of its namespace that nobody does.
    pub sets: Vec<ReplicaSet>,
    /// Pods of those ReplicaSets; only read for `Recreate`.
    pub pods: Vec<SharedPod>,
}

/// A Deployment.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Deployment {
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
    /// A `metav1.LabelSelector`.
    pub selector: Value,
    /// A `PodTemplateSpec`.
    pub template: Value,
    /// How to replace pods.
    pub strategy: Strategy,
    /// How long a pod is ready before it is available.
    pub min_ready_seconds: i32,
    /// Old ReplicaSets to keep.
    pub revision_history_limit: Option<i32>,
    /// Whether rollouts stand still.
    pub paused: bool,
    /// Seconds without progress after which a rollout has failed.
    pub progress_deadline_seconds: Option<i32>,
}

/// `spec.strategy`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Parameters of `RollingUpdate`.
    #[serde(deserialize_with = "nullable")]
    pub rolling_update: RollingUpdate,
}

/// `spec.strategy.type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// New pods come as old ones go.
    #[default]
    RollingUpdate,
    /// All old pods go first.
    Recreate,
}

/// `spec.strategy.rollingUpdate`: numbers or percentages.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    /// Pods above the wanted number.
    pub max_surge: Value,
    /// Pods below it.
    pub max_unavailable: Value,
}

/// `status`; zeros are left out, as upstream does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Generation that this status is about.
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// Active pods of all ReplicaSets.
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: i32,
    /// Active pods of the newest one.
    #[serde(skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    /// Ready pods.
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    /// Available pods.
    #[serde(skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    /// Pods still to become available.
    #[serde(skip_serializing_if = "is_default")]
    pub unavailable_replicas: i32,
    /// Pods being deleted that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i32>,
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
    /// Collisions of the template's hash so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
}

/// A ReplicaSet, in the state that this pass has brought it to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ReplicaSet {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: SetSpec,
    /// `status`.
    pub status: SetStatus,
}

/// `spec` of a ReplicaSet.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetSpec {
    /// Pods wanted; 1 by default.
    pub replicas: Option<i32>,
    /// How long a pod is ready before it is available.
    pub min_ready_seconds: i32,
    /// A `PodTemplateSpec`.
    pub template: Value,
}

// === impl Deployment ===

impl Deployment {
    /// Pods wanted.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Whether the selector is empty, which validation refuses.
    pub fn selects_all(&self) -> bool {
        self.spec.selector.as_object().is_some_and(serde_json::Map::is_empty)
    }

    /// The revision to roll back to, 0 for the last one.
    pub fn rollback_to(&self) -> Option<i64> {
        self.metadata.annotations.get(ROLLBACK_TO)?.parse().ok()
    }

    /// Whether lack of progress is to be reported.
    pub fn has_deadline(&self) -> bool {
        self.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
    }

    /// Whether the strategy is RollingUpdate.
    pub fn rolls(&self) -> bool {
        self.spec.strategy.kind == Kind::RollingUpdate
    }

    /// Pods allowed above the wanted number.
    pub fn max_surge(&self) -> i32 {
        if self.rolls() { self.fenceposts().0 } else { 0 }
    }

    /// Pods allowed below the wanted number.
    pub fn max_unavailable(&self) -> i32 {
        if !self.rolls() || self.replicas() == 0 {
            return 0;
        }
        self.fenceposts().1.min(self.replicas())
    }

    /// Surge is rounded up, unavailability down; both zero would stand still.
    fn fenceposts(&self) -> (i32, i32) {
        let parameters = &self.spec.strategy.rolling_update;
        let surge = scaled(&parameters.max_surge, self.replicas(), true);
        match (surge, scaled(&parameters.max_unavailable, self.replicas(), false)) {
            (0, 0) => (0, 1),
            posts => posts,
        }
    }
}

// === impl ReplicaSet ===

impl ReplicaSet {
    /// Pods wanted.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Order from old to new.
    pub fn by_age(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.metadata, &other.metadata);
        a.creation_timestamp.cmp(&b.creation_timestamp).then_with(|| a.name.cmp(&b.name))
    }

    /// A number in an annotation.
    pub fn number(&self, annotation: &str) -> Option<i32> {
        self.metadata.annotations.get(annotation)?.parse().ok().filter(|number| *number >= 0)
    }
}

/// Whether two templates mean the same pods, the hash label left out.
pub fn same_template(a: &Value, b: &Value) -> bool {
    comparable(a) == comparable(b)
}

/// Without the hash label, and with nothing where there is nothing.
fn comparable(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH_LABEL);
        }
        meta.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
    }
    prune(&mut template);
    if template["metadata"].as_object().is_some_and(serde_json::Map::is_empty) {
        template.as_object_mut().and_then(|map| map.remove("metadata"));
    }
    template
}

/// Drops nulls and empty lists, which mean absence.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// A number, or a percentage of `total`.
pub fn scaled(value: &Value, total: i32, round_up: bool) -> i32 {
    if let Some(number) = value.as_i64() {
        return i32::try_from(number).unwrap_or(i32::MAX);
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    let product = percent.unwrap_or(0) * i64::from(total);
    let quotient = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
    i32::try_from(quotient).unwrap_or(i32::MAX)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Annotations that go from a Deployment to its ReplicaSets and back are all but
/// these.
pub const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    super::sets::REVISION,
    super::sets::REVISION_HISTORY,
    super::sets::DESIRED_REPLICAS,
    super::sets::MAX_REPLICAS,
    ROLLBACK_TO,
];

/// The annotations among `of` that are copied.
pub fn copied(of: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    of.iter().filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
}
