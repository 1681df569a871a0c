//! What to say of a namespace that is being emptied, and when it is done.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::common::Condition;

/// Finalizer in `spec.finalizers` that this controller takes away.
pub const FINALIZER: &str = "kubernetes";

/// Seconds that finalizers are given by default.
pub const FINALIZER_ESTIMATE: i64 = 15;

/// What is left after one round of deletions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Objects by resource, such as `pods.` or `deployments.apps`.
    pub objects: BTreeMap<String, usize>,
    /// Objects by the finalizer that holds them.
    pub finalizers: BTreeMap<String, usize>,
    /// What failed.
    pub errors: Vec<String>,
    /// Whether only pods were looked at, because they go first.
    pub pods_only: bool,
    /// Seconds until it may be over; 0 if nothing says so.
    pub estimate: i64,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The conditions, if they change.
    pub conditions: Option<Vec<Condition>>,
    /// Whether to take the finalizer away: nothing is left.
    pub finalize: bool,
    /// Seconds after which to look again if nothing changes before.
    pub look_again: Option<u64>,
}

/// Type, reason and message of each condition when all is well.
const FINE: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// Decides.
pub fn decide(before: &[Condition], remaining: &Remaining, now: Timestamp) -> Plan {
    let conditions = conditions(before, remaining, now);
    let done = remaining.objects.is_empty() && remaining.errors.is_empty();
    let wait = u64::try_from(remaining.estimate / 2 + 1).unwrap_or(1);
    Plan {
        conditions: (conditions != before).then_some(conditions),
        finalize: done,
        look_again: (!done).then_some(wait),
    }
}

fn conditions(before: &[Condition], remaining: &Remaining, now: Timestamp) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    for (kind, reason, message) in FINE {
        let (status, reason, message) = match trouble(kind, remaining) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        match conditions.iter_mut().find(|condition| condition.kind == kind) {
            None => conditions.push(Condition::new(kind, status, reason, message, now)),
            Some(old) => {
                if old.status != status {
                    old.last_transition_time = Some(now);
                }
                (old.status, old.reason, old.message) = (status.into(), reason.into(), message);
            }
        }
    }
    conditions
}

fn trouble(kind: &str, remaining: &Remaining) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionContentFailure" if !remaining.errors.is_empty() => {
            let mut errors = remaining.errors.clone();
            errors.sort();
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                errors.len(),
                errors.join(", ")
            );
            Some(("ContentDeletionFailed", message))
        }
        // While only pods were looked at, upstream does not count yet.
        "NamespaceContentRemaining" if !remaining.objects.is_empty() && !remaining.pods_only => {
            let mut list: Vec<String> = remaining
                .objects
                .iter()
                .map(|(resource, count)| format!("{resource} has {count} resource instances"))
                .collect();
            list.sort();
            Some(("SomeResourcesRemain", format!("Some resources are remaining: {}", list.join(", "))))
        }
        "NamespaceFinalizersRemaining" if !remaining.finalizers.is_empty() && !remaining.pods_only => {
            let mut list: Vec<String> = remaining
                .finalizers
                .iter()
                .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
                .collect();
            list.sort();
            let message =
                format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
            Some(("SomeFinalizersRemain", message))
        }
        _ => None,
    }
}
