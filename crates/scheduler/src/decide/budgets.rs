//! Disruption budgets as preemption looks at them.

use std::collections::BTreeSet;

use carrack_api::{Record, Value};

use super::labels::Selector;
use super::pod::PodInfo;

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BudgetInfo {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Selects its pods.
    pub selector: Selector,
    /// How many of them may go now.
    pub allowed: i64,
    /// Names of pods whose eviction has been counted already.
    pub disrupted: BTreeSet<Box<str>>,
}

impl BudgetInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode_lean();
        let status = &object["status"];
        let disrupted = status["disruptedPods"].as_object().into_iter().flatten();
        Self {
            namespace: record.key.namespace().into(),
            selector: Selector::read(&object["spec"]["selector"]),
            allowed: status["disruptionsAllowed"].as_i64().unwrap_or(0),
            disrupted: disrupted.map(|(name, _): (&String, &Value)| name.as_str().into()).collect(),
        }
    }

    /// Whether a pod's eviction counts against it.
    pub fn guards(&self, pod: &PodInfo) -> bool {
        *self.namespace == *pod.namespace
            && !pod.labels.is_empty()
            && !self.selector.is_everything()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&*pod.name)
    }
}
