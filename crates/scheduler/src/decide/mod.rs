//! Where a pod goes, and why it cannot go anywhere: filters, scores, verdicts.
//!
//! Follows the default profile of upstream's `pkg/scheduler` for what is covered:
//! unschedulable nodes, node name, taints, node selector and affinity, host ports,
//! resources. Pure: a snapshot, a pod and a seed in, a decision out.

mod affinity;
mod filter;
mod node;
mod pod;
pub mod queue;
mod resources;
mod score;
mod snapshot;

use std::collections::BTreeMap;

use carrack_client::backoff::mix;

pub use affinity::{Affinity, NodeTerm, Preferred, Requirement};
pub use filter::{Filter, Refusal};
pub use node::{NodeInfo, Taint};
pub use pod::{HostPort, PodInfo, Toleration};
pub use resources::Resources;
pub use snapshot::Snapshot;

/// Nodes below which every one is looked at.
const LOOK_AT_ALL: usize = 100;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Bind it to this node.
    Place {
        /// The node's name.
        node: String,
        /// Nodes that would have done.
        feasible: usize,
    },
    /// Nothing fits.
    Unschedulable(Verdict),
}

/// Why a pod fits nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Upstream's sentence, such as `0/3 nodes are available: 3 Insufficient cpu. …`.
    pub message: String,
    /// The filters that refused: a change that none of them looks at cannot help.
    pub filters: Vec<Filter>,
}

/// Decides about one pod. `start` is the node to begin with (it moves on from pod to
/// pod, so that sampling is fair); the next one is returned.
pub fn decide(snapshot: &Snapshot, pod: &PodInfo, seed: u64, start: usize) -> (Decision, usize) {
    let total = snapshot.nodes().len();
    if total == 0 {
        let message = "no nodes available to schedule pods".into();
        return (Decision::Unschedulable(Verdict { message, filters: vec![Filter::NoNodes] }), 0);
    }
    let enough = enough_feasible(total);
    let (mut feasible, mut refusals, mut looked_at) = (Vec::new(), Vec::new(), 0);
    while looked_at < total && feasible.len() < enough {
        let at = (start + looked_at) % total;
        match filter::check(pod, &snapshot.nodes()[at]) {
            Ok(()) => feasible.push(at),
            Err(refusal) => refusals.push(refusal),
        }
        looked_at += 1;
    }
    let next = (start + looked_at) % total;
    if feasible.is_empty() {
        return (Decision::Unschedulable(verdict(total, &refusals)), next);
    }
    let scores = score::scores(snapshot, pod, &feasible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let equals: Vec<usize> =
        feasible.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(at, _)| *at).collect();
    let draw = pod.uid.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)));
    let chosen = equals[(draw % equals.len() as u64) as usize];
    let node = snapshot.nodes()[chosen].name.clone();
    (Decision::Place { node, feasible: feasible.len() }, next)
}

/// How many feasible nodes are enough, as upstream's adaptive percentage.
fn enough_feasible(total: usize) -> usize {
    if total < LOOK_AT_ALL {
        return total;
    }
    let percent = 50usize.saturating_sub(total / 125).max(5);
    (total * percent / 100).max(LOOK_AT_ALL)
}

fn verdict(total: usize, refusals: &[Refusal]) -> Verdict {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.iter().flat_map(|refusal| &refusal.reasons) {
        *reasons.entry(reason).or_default() += 1;
    }
    let hopeless = refusals.iter().filter(|refusal| refusal.unresolvable).count();
    let preemption = BTreeMap::from([
        ("No preemption victims found for incoming pod", total - hopeless),
        ("Preemption is not helpful for scheduling", hopeless),
    ]);
    let message = format!(
        "0/{total} nodes are available: {}. preemption: 0/{total} nodes are available: {}.",
        histogram(&reasons),
        histogram(&preemption)
    );
    let mut filters: Vec<Filter> = refusals.iter().map(|refusal| refusal.filter).collect();
    filters.sort_unstable();
    filters.dedup();
    Verdict { message, filters }
}

/// `1 Insufficient cpu, 2 Too many pods`, sorted as text.
fn histogram(reasons: &BTreeMap<&str, usize>) -> String {
    let mut texts: Vec<String> =
        reasons.iter().filter(|(_, n)| **n > 0).map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}
