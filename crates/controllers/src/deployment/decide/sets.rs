//! Sums over ReplicaSets, and the annotations by which they remember a rollout.

use std::collections::BTreeMap;

use super::view::{Deployment, ReplicaSet, copied, same_template};

/// Annotation: position in the rollout's history.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation: earlier positions, separated by commas.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation: size of the Deployment when the set was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation: that size with its surge.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Longest history in characters.
const HISTORY_LIMIT: usize = 2000;

/// Pods wanted by all.
pub fn wanted<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(ReplicaSet::replicas).sum()
}

/// Pods available in all.
pub fn available<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(|set| set.status.available_replicas).sum()
}

/// Which of the sets (sorted by age) has the Deployment's template: the oldest one.
pub fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    sets.iter().position(|set| same_template(&set.spec.template, &deployment.spec.template))
}

/// The revision of a set; 0 without one, `None` if it is no number.
pub fn revision(set: &ReplicaSet) -> Option<i64> {
    set.metadata.annotations.get(REVISION).map_or(Some(0), |text| text.parse().ok())
}

/// The highest revision.
pub fn max_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().filter_map(revision).max().unwrap_or(0).max(0)
}

/// The second highest revision, 0 if there is none.
pub fn last_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    let mut revisions: Vec<i64> = sets.into_iter().filter_map(revision).collect();
    revisions.sort_unstable_by(|a, b| b.cmp(a));
    revisions.get(1).copied().unwrap_or(0)
}

/// Brings a new set's annotations up to date: the Deployment's own, and the revision
/// with its history. `exists` is whether the set does.
pub fn annotate_new(
    deployment: &Deployment,
    annotations: &mut BTreeMap<String, String>,
    revision: i64,
    exists: bool,
) {
    for (key, value) in copied(&deployment.metadata.annotations) {
        annotations.insert(key.clone(), value.clone());
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref() {
        None | Some("") => Some(0),
        Some(text) => text.parse::<i64>().ok(),
    };
    let Some(old_number) = old_number else { return };
    if old_number < revision {
        annotations.insert(REVISION.into(), revision.to_string());
        if let Some(old) = old {
            remember(annotations, &old);
        }
    }
    if !exists {
        annotate_replicas(deployment, annotations);
    }
}

/// Notes the Deployment's size.
pub fn annotate_replicas(deployment: &Deployment, annotations: &mut BTreeMap<String, String>) {
    let replicas = deployment.replicas();
    annotations.insert(DESIRED_REPLICAS.into(), replicas.to_string());
    annotations.insert(MAX_REPLICAS.into(), (replicas + deployment.max_surge()).to_string());
}

/// Appends a revision to the history, dropping the oldest ones beyond its limit.
fn remember(annotations: &mut BTreeMap<String, String>, old: &str) {
    let history = annotations.entry(REVISION_HISTORY.into()).or_default();
    if history.is_empty() {
        *history = old.into();
        return;
    }
    let mut rest = history.as_str();
    while rest.len() + old.len() + 1 > HISTORY_LIMIT {
        let Some((_, shorter)) = rest.split_once(',') else { return };
        rest = shorter;
    }
    *history = format!("{rest},{old}");
}

/// Whether a set holds all of the Deployment's pods, available, and both know it.
pub fn saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let replicas = deployment.replicas();
    set.replicas() == replicas
        && set.number(DESIRED_REPLICAS) == Some(replicas)
        && set.status.available_replicas == replicas
}

/// How many pods a set gains or loses when the Deployment's size changes by `to_add`
/// in all, of which `added` are given out.
pub fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if set.replicas() == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let (fraction, allowed) = (fraction(deployment, set), to_add - added);
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if deployment.replicas() == 0 {
        return -set.replicas();
    }
    let after = deployment.replicas() + deployment.max_surge();
    let before = match set.number(MAX_REPLICAS) {
        Some(before) if before > 0 => before,
        _ => deployment.status.replicas,
    };
    if before == 0 {
        return 0;
    }
    let size = f64::from(set.replicas()) * f64::from(after) / f64::from(before);
    // Half away from zero, as Go's integer.RoundToInt32 does for what is not negative.
    size.round() as i32 - set.replicas()
}
