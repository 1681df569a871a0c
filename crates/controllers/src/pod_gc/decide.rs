//! Which pods nobody else will remove.

use crate::common::Pod;

/// Ended pods that may lie around.
pub const THRESHOLD: usize = 12_500;

/// Why a pod is removed by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is being deleted and was never placed.
    Unscheduled,
    /// Its node does not exist, which must be checked live.
    Orphaned,
    /// It is being deleted on a node that is out of service.
    OutOfService,
}

/// What is known about a pod's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It is there.
    There,
    /// It is there, not ready, and tainted as out of service.
    OutOfService,
    /// It has been missing for the quarantine, or longer.
    Missing,
    /// It is missing, but only since recently.
    JustMissing,
}

/// Decides about one pod.
pub fn decide(pod: &Pod, node: NodeState) -> Option<Reason> {
    if pod.spec.node_name.is_empty() {
        return pod.metadata.deleting().then_some(Reason::Unscheduled);
    }
    match node {
        NodeState::Missing => Some(Reason::Orphaned),
        NodeState::OutOfService => pod.metadata.deleting().then_some(Reason::OutOfService),
        NodeState::There | NodeState::JustMissing => None,
    }
}

/// Of the pods that have ended, those beyond `threshold`: evicted ones first, then
/// the oldest.
pub fn excess(mut ended: Vec<Pod>, threshold: usize) -> Vec<Pod> {
    let count = ended.len().saturating_sub(threshold);
    ended.sort_by(|a, b| {
        let evicted = |pod: &Pod| pod.status.reason == "Evicted";
        evicted(b)
            .cmp(&evicted(a))
            .then_with(|| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    ended.truncate(count);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: &str, deleting: bool, created: i64, reason: &str) -> Pod {
        let time = |second| jiff::Timestamp::from_second(second).unwrap();
        let mut pod = Pod::default();
        pod.metadata.name = name.into();
        pod.metadata.creation_timestamp = Some(time(created));
        pod.metadata.deletion_timestamp = deleting.then(|| time(9));
        pod.spec.node_name = node.into();
        pod.status.reason = reason.into();
        pod
    }

    #[test]
    fn removes_what_nobody_else_does() {
        for (node, deleting, state, expect) in [
            ("", true, NodeState::There, Some(Reason::Unscheduled)),
            ("", false, NodeState::There, None),
            ("n", true, NodeState::There, None),
            ("n", false, NodeState::Missing, Some(Reason::Orphaned)),
            ("n", true, NodeState::JustMissing, None),
            ("n", true, NodeState::OutOfService, Some(Reason::OutOfService)),
            ("n", false, NodeState::OutOfService, None),
        ] {
            assert_eq!(
                decide(&pod("p", node, deleting, 1, ""), state),
                expect,
                "{node} {deleting} {state:?}"
            );
        }
    }

    #[test]
    fn the_oldest_go_first_and_evicted_ones_before_them() {
        let ended = vec![
            pod("new", "n", false, 3, ""),
            pod("old", "n", false, 1, ""),
            pod("evicted", "n", false, 2, "Evicted"),
        ];
        let names: Vec<_> = excess(ended, 1).into_iter().map(|pod| pod.metadata.name).collect();
        assert_eq!(names, ["evicted", "old"]);
    }
}
