//! Node selectors and node affinity.

use super::super::node::NodeFacts;
use super::super::pod::{Needs, PodInfo};
use super::{Plugin, Refusal};

/// Refuses nodes whose labels or name do not match.
pub fn filter(needs: &Needs, node: &NodeFacts) -> Result<(), Refusal> {
    if needs.affinity.allows(node) {
        return Ok(());
    }
    Err(Refusal::final_of(Plugin::NodeAffinity, "node(s) didn't match Pod's node affinity/selector"))
}

/// The only nodes worth looking at, if the pod names them; refuses when its terms
/// contradict each other.
pub fn named_nodes(pod: &PodInfo) -> Result<Option<Vec<&str>>, Refusal> {
    match pod.needs.affinity.named_nodes() {
        Some(names) if names.is_empty() => {
            Err(Refusal::final_of(Plugin::NodeAffinity, "pod affinity terms conflict"))
        }
        names => Ok(names),
    }
}
