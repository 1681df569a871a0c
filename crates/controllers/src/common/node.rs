//! A node as controllers see it.

use carrack_api::Record;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::meta::{nullable, seconds};
use super::pod::Toleration;
use super::{Condition, Meta};

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: Spec,
    /// `status`.
    pub status: Status,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Taints.
    #[serde(deserialize_with = "nullable")]
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Conditions.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

/// A taint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// When it was added (NoExecute).
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub time_added: Option<Timestamp>,
}

impl Node {
    /// NoExecute taints of a record, which is not decoded when it can have none.
    pub fn evicting(record: &Record) -> Vec<Taint> {
        if !record.mentions("\"NoExecute\"") {
            return Vec::new();
        }
        crate::shell::read::<Self>(record).map(|node| node.evicting_taints()).unwrap_or_default()
    }

    /// Status of its Ready condition; empty if it never had one.
    pub fn ready(&self) -> &str {
        Condition::find(&self.status.conditions, "Ready").map_or("", |condition| &condition.status)
    }

    /// Its NoExecute taints.
    pub fn evicting_taints(&self) -> Vec<Taint> {
        self.spec.taints.iter().filter(|taint| taint.effect == "NoExecute").cloned().collect()
    }
}

impl Taint {
    /// Without value and time.
    pub fn new(key: &str, effect: &str) -> Self {
        Self { key: key.into(), effect: effect.into(), ..Self::default() }
    }

    /// Whether both are one taint: key and effect say so.
    pub fn is(&self, other: &Self) -> bool {
        self.key == other.key && self.effect == other.effect
    }

    /// Whether a toleration covers it.
    pub fn tolerated_by(&self, toleration: &Toleration) -> bool {
        if !toleration.effect.is_empty() && toleration.effect != self.effect {
            return false;
        }
        if !toleration.key.is_empty() && toleration.key != self.key {
            return false;
        }
        match toleration.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => !toleration.key.is_empty() && toleration.value == self.value,
            _ => false,
        }
    }
}
