//! Taints and tolerations.

use super::super::node::NodeFacts;
use super::super::pod::{Needs, Toleration};
use super::{Plugin, Refusal};

/// Refuses nodes with a taint that forbids and is not tolerated.
pub fn filter(needs: &Needs, node: &NodeFacts) -> Result<(), Refusal> {
    if tolerates(&needs.tolerations, node) {
        return Ok(());
    }
    Err(Refusal::final_of(Plugin::TaintToleration, "node(s) had untolerated taint(s)"))
}

/// Whether all taints that forbid are tolerated.
pub fn tolerates(tolerations: &[Toleration], node: &NodeFacts) -> bool {
    let mut forbidding =
        node.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    forbidding.all(|taint| tolerations.iter().any(|toleration| toleration.tolerates(taint)))
}

/// PreferNoSchedule taints that the pod does not tolerate.
pub fn intolerable(needs: &Needs, node: &NodeFacts) -> i64 {
    let prefers = |t: &&Toleration| t.effect.is_empty() || t.effect == "PreferNoSchedule";
    let taints = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let tolerated = |taint| needs.tolerations.iter().filter(prefers).any(|t| t.tolerates(taint));
    taints.filter(|taint| !tolerated(taint)).count() as i64
}
