//! Cordoned nodes.

use super::super::node::{NodeFacts, Taint};
use super::super::pod::{Needs, Toleration};
use super::{Plugin, Refusal};

/// Taint that cordoned nodes are treated as having.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Refuses nodes that are cordoned, unless the pod tolerates it.
pub fn filter(needs: &Needs, node: &NodeFacts) -> Result<(), Refusal> {
    if !node.unschedulable || tolerated(&needs.tolerations) {
        return Ok(());
    }
    Err(Refusal::final_of(Plugin::NodeUnschedulable, "node(s) were unschedulable"))
}

/// Whether tolerations let a pod on a cordoned node.
pub fn tolerated(tolerations: &[Toleration]) -> bool {
    let taint = Taint { key: CORDONED.into(), value: String::new(), effect: "NoSchedule".into() };
    tolerations.iter().any(|toleration| toleration.tolerates(&taint))
}
