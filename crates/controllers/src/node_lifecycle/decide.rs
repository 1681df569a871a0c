//! Whether a node is alive, and which taints say how it is.
//!
//! Follows upstream's node life-cycle controller. How long a node has been silent is
//! given as the monotonic time that this process has seen, never as a difference of
//! wall clocks: a moved clock or a restart evicts nobody.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::common::{Condition, Node, Taint};

/// Silence after which a node is not known to be alive.
pub const GRACE: Duration = Duration::from_secs(50);
/// The same for a node that has never said anything.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that shows it.
const SHOWN: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// What is decided on.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The node.
    pub node: Node,
    /// How long neither its lease nor its heartbeat has changed.
    pub silent: Duration,
    /// Whether another node is ready. If none is, the trouble is likely ours, and
    /// nothing is evicted.
    pub others_ready: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The conditions, if they change.
    pub conditions: Option<Vec<Condition>>,
    /// The taints, if they change.
    pub taints: Option<Vec<Taint>>,
    /// Whether it has just been found to be silent.
    pub lost: bool,
    /// Whether its pods cannot be ready: nobody knows.
    pub pods_unready: bool,
    /// When to look again.
    pub look_again: Option<Duration>,
}

/// Which nodes are ready, to tell of each whether another one is.
#[derive(Debug, Clone, Default)]
pub struct ReadyNodes(HashSet<Box<str>>);

/// For whom it is now otherwise whether another node is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerned {
    /// For no node.
    Nobody,
    /// For the only one that was ready before, or is now.
    Only(Box<str>),
    /// For all but the node that has changed.
    Others,
}

impl ReadyNodes {
    /// Notes a node's readiness.
    pub fn set(&mut self, node: &str, ready: bool) -> Concerned {
        let changed = if ready { self.0.insert(node.into()) } else { self.0.remove(node) };
        let only = || self.0.iter().find(|other| ***other != *node).cloned();
        // With three of them, each has another whatever becomes of one.
        match (changed, ready, self.0.len()) {
            (true, true, 1) | (true, false, 0) => Concerned::Others,
            (true, true, 2) | (true, false, 1) => only().map_or(Concerned::Nobody, Concerned::Only),
            _ => Concerned::Nobody,
        }
    }

    /// Whether a node other than this one is ready.
    pub fn beside(&self, node: &str) -> bool {
        self.0.len() > usize::from(self.0.contains(node))
    }
}

/// Decides.
pub fn decide(view: &View, now: Timestamp) -> Plan {
    let node = &view.node;
    let grace = if node.ready().is_empty() { STARTUP_GRACE } else { GRACE };
    let silent = view.silent > grace;
    let mut conditions = node.status.conditions.clone();
    if silent {
        for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
            set_unknown(&mut conditions, kind, node.metadata.creation_timestamp, now);
        }
    }
    let after =
        Node { status: crate::common::node::Status { conditions: conditions.clone() }, ..node.clone() };
    let taints = taints(&after, view.others_ready, now);
    Plan {
        lost: node.ready() == "True" && after.ready() == "Unknown",
        pods_unready: after.ready() == "Unknown",
        conditions: (conditions != node.status.conditions).then_some(conditions),
        taints: (taints != node.spec.taints).then_some(taints),
        look_again: (!silent).then(|| grace.saturating_sub(view.silent) + Duration::from_secs(1)),
    }
}

fn set_unknown(conditions: &mut Vec<Condition>, kind: &str, created: Option<Timestamp>, now: Timestamp) {
    match conditions.iter_mut().find(|condition| condition.kind == kind) {
        Some(condition) if condition.status == "Unknown" => {}
        Some(condition) => {
            condition.status = "Unknown".into();
            condition.reason = "NodeStatusUnknown".into();
            condition.message = "Kubelet stopped posting node status.".into();
            condition.last_transition_time = Some(now);
        }
        None => {
            let text = "Kubelet never posted node status.";
            let condition = Condition::new(kind, "Unknown", "NodeStatusNeverUpdated", text, now);
            conditions.push(Condition { last_heartbeat_time: created, ..condition });
        }
    }
}

/// Someone's taints as they are, ours as they should be.
fn taints(node: &Node, others_ready: bool, now: Timestamp) -> Vec<Taint> {
    let holds = |kind: &str, status: &str| {
        Condition::find(&node.status.conditions, kind).is_some_and(|condition| condition.status == status)
    };
    let mut wanted: Vec<Taint> = SHOWN
        .iter()
        .filter(|(kind, status, _)| holds(kind, status))
        .map(|(_, _, key)| Taint::new(key, "NoSchedule"))
        .collect();
    if node.spec.unschedulable {
        wanted.push(Taint::new(CORDONED, "NoSchedule"));
    }
    if others_ready {
        let evicting = match node.ready() {
            "False" => Some(NOT_READY),
            "Unknown" => Some(UNREACHABLE),
            _ => None,
        };
        let taint = |key| Taint { time_added: Some(now), ..Taint::new(key, "NoExecute") };
        wanted.extend(evicting.map(taint));
    }
    let ours = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => taint.key == CORDONED || SHOWN.iter().any(|(_, _, key)| *key == taint.key),
        "NoExecute" => [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    };
    let stays = |taint: &&Taint| !ours(taint) || wanted.iter().any(|one| one.is(taint));
    let mut taints: Vec<Taint> = node.spec.taints.iter().filter(stays).cloned().collect();
    for taint in wanted {
        if !taints.iter().any(|one| one.is(&taint)) {
            taints.push(taint);
        }
    }
    taints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, taints: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        node.metadata.name = "n".into();
        if !ready.is_empty() {
            let now = Timestamp::UNIX_EPOCH;
            node.status.conditions.push(Condition::new("Ready", ready, "KubeletReady", "", now));
        }
        node.spec.taints = taints.iter().map(|(key, effect)| Taint::new(key, effect)).collect();
        node
    }

    /// Seconds of silence, whether others are ready → status, taints as `key:effect`.
    fn check(node: Node, silent: u64, others_ready: bool, ready: &str, taints: &[&str]) {
        let view = View { node, silent: Duration::from_secs(silent), others_ready };
        let plan = decide(&view, Timestamp::from_second(1000).unwrap());
        let conditions = plan.conditions.unwrap_or(view.node.status.conditions.clone());
        let status = Condition::find(&conditions, "Ready").map_or("", |condition| &condition.status);
        let got = plan.taints.unwrap_or(view.node.spec.taints.clone());
        let got: Vec<String> = got
            .iter()
            .map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap(), taint.effect))
            .collect();
        assert_eq!((status, got), (ready, taints.iter().map(ToString::to_string).collect()));
    }

    #[test]
    fn readiness_concerns_those_for_whom_it_decides() {
        let nodes = ["a", "b", "c", "d"];
        let mut ready = ReadyNodes::default();
        let steps = [("a", true), ("a", true), ("b", true), ("c", true), ("d", true), ("c", false)];
        let back = [("b", false), ("x", false), ("a", false), ("d", false), ("b", true)];
        for (node, is_ready) in steps.into_iter().chain(back) {
            let before: Vec<bool> = nodes.iter().map(|node| ready.beside(node)).collect();
            let told = ready.set(node, is_ready);
            let changed = nodes.iter().zip(before).filter(|(other, before)| ready.beside(other) != *before);
            let changed: Vec<&str> = changed.map(|(other, _)| *other).collect();
            let expect = match &*changed {
                [] => Concerned::Nobody,
                [only] => Concerned::Only((*only).into()),
                _ => Concerned::Others,
            };
            assert_eq!(told, expect, "{node} {is_ready}: {changed:?}");
        }
    }

    #[test]
    fn silence_makes_a_node_unknown() {
        check(node("True", &[]), 50, true, "True", &[]);
        check(node("True", &[]), 51, true, "Unknown", &["unreachable:NoSchedule", "unreachable:NoExecute"]);
        check(node("", &[]), 55, true, "", &[]);
        check(node("", &[]), 61, true, "Unknown", &["unreachable:NoSchedule", "unreachable:NoExecute"]);
    }

    #[test]
    fn nobody_is_evicted_when_all_are_lost() {
        check(node("True", &[]), 51, false, "Unknown", &["unreachable:NoSchedule"]);
        let tainted = node("Unknown", &[(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]);
        check(tainted, 90, false, "Unknown", &["unreachable:NoSchedule"]);
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let back =
            node("True", &[("mine", "NoSchedule"), (UNREACHABLE, "NoExecute"), (NOT_READY, "NoSchedule")]);
        check(back, 0, true, "True", &["mine:NoSchedule"]);
        check(node("False", &[]), 0, true, "False", &["not-ready:NoSchedule", "not-ready:NoExecute"]);
        let mut cordoned = node("True", &[]);
        cordoned.spec.unschedulable = true;
        check(cordoned, 0, true, "True", &["unschedulable:NoSchedule"]);
    }
}
