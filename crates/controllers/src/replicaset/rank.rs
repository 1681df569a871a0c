//! Which pods go first when there are too many: upstream's `ActivePodsWithRanks`.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;

use crate::common::{Pod, SharedPod};

/// Annotation with a pod's cost of deletion; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts so that the pods to delete come first. `related` are the active pods among
/// which doubling up on a node counts.
pub fn rank_for_deletion(pods: &mut [SharedPod], related: &[SharedPod], now: Timestamp) {
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
            (Some(since_a), Some(since_b)) => younger_first(since_a, since_b, now),
            _ => Ordering::Equal,
        })
        .then_with(|| b.max_restarts().cmp(&a.max_restarts()))
        .then_with(|| younger_first(a.metadata.creation_timestamp, b.metadata.creation_timestamp, now))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
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
/// age go in the order of their (random) uids. Upstream looks at the uids here, but for
/// equal times: then three pods can each come before the next, and sorting has no end.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let age = |time: Timestamp| match now.duration_since(time).as_nanos() {
        nanos if nanos > 0 => i64::from(nanos.ilog2()),
        _ => -1,
    };
    // A time that is not there comes first.
    a.map(age).cmp(&b.map(age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_is_total_whatever_the_times() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        // Many of about the same age, some of the very same: sorting panics when three of
        // them each come before the next.
        let pods: Vec<SharedPod> = (0..500)
            .map(|n: u64| {
                let (ready, made) = (n * 7 % 5, n * 11 % 7);
                let pod = json!({
                    "metadata": {"name": format!("p{n}"), "uid": format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                        "creationTimestamp": format!("2026-01-01T00:00:0{made}Z")},
                    "spec": {"nodeName": "n"},
                    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True",
                        "lastTransitionTime": format!("2026-01-01T00:00:1{ready}Z")}]}});
                SharedPod::from(serde_json::from_value::<Pod>(pod).expect("a pod"))
            })
            .collect();
        let mut ranked = pods.clone();
        rank_for_deletion(&mut ranked, &pods, now);
        let uids: Vec<&str> = ranked.iter().map(|pod| pod.metadata.uid.as_str()).collect();
        assert!(uids.is_sorted(), "all of about the same age");
    }
}
