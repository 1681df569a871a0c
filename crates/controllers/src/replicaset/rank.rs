//! Which pods go first when there are too many: upstream's `ActivePodsWithRanks`.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;

use crate::common::Pod;

/// Annotation with a pod's cost of deletion; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts so that the pods to delete come first. `related` are the active pods among
/// which doubling up on a node counts.
pub fn rank_for_deletion(pods: &mut [Pod], related: &[Pod], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pod.active()) {
        *on_node.entry(&pod.spec.node_name).or_default() += 1;
    }
    let rank = |pod: &Pod| on_node.get(pod.spec.node_name.as_str()).copied().unwrap_or(0);
    pods.sort_by(|a, b| compare(a, b, rank(a), rank(b), now));
}

fn compare(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let unassigned = |pod: &Pod| pod.spec.node_name.is_empty();
    // `false` sorts first, so each key says what stays.
    (!unassigned(a))
        .cmp(&!unassigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.ready().cmp(&b.ready()))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| match (ready_since(a), ready_since(b)) {
            (Some(since_a), Some(since_b)) => younger_first(since_a, since_b, a, b, now),
            _ => Ordering::Equal,
        })
        .then_with(|| b.max_restarts().cmp(&a.max_restarts()))
        .then_with(|| younger_first(a.metadata.creation_timestamp, b.metadata.creation_timestamp, a, b, now))
}

/// Pending, then unknown, then running.
fn phase(pod: &Pod) -> u8 {
    match pod.status.phase.as_str() {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.metadata.annotations.get(DELETION_COST);
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// For a ready pod, since when (`Some(None)`: it does not say).
fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    pod.ready().then(|| pod.ready_condition().and_then(|condition| condition.last_transition_time))
}

/// Times are compared by the logarithm of the age, so that pods of about the same
/// age go in the order of their (random) uids.
fn younger_first(
    time_a: Option<Timestamp>,
    time_b: Option<Timestamp>,
    a: &Pod,
    b: &Pod,
    now: Timestamp,
) -> Ordering {
    match (time_a, time_b) {
        (a, b) if a == b => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(time_a), Some(time_b)) => {
            let age = |time: Timestamp| match now.duration_since(time).as_nanos() {
                nanos if nanos > 0 => i64::from(nanos.ilog2()),
                _ => -1,
            };
            age(time_a).cmp(&age(time_b)).then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
        }
    }
}
