//! Where a pod goes, and why it cannot go anywhere: filters, scores, verdicts, victims.
//!
//! Follows the default profile of upstream's `pkg/scheduler` but for dynamic resources
//! and gangs. Pure: a snapshot, a pod and a seed in, a decision out; the snapshot is
//! changed only in that it remembers questions.

mod affinity;
mod anchors;
mod budgets;
mod cycle;
mod explain;
pub mod hints;
mod labels;
mod local;
mod node;
mod owners;
pub mod plugins;
mod pod;
mod preempt;
mod profile;
mod questions;
pub mod queue;
mod resources;
mod score;
mod snapshot;
mod spreading;
mod terms;
mod topology;
mod verdict;
mod volumes;

use std::sync::Arc;

use carrack_client::backoff::mix;

pub use affinity::{Affinity, NodeRequirement, NodeTerm};
pub use budgets::BudgetInfo;
pub use cycle::Cycle;
pub use explain::{Explanation, explain};
pub use labels::{LabelSet, Selector};
pub use local::Memory;
pub use node::{NodeFacts, NodeInfo, Taint};
pub use owners::{OwnerKind, Owners};
pub use plugins::volume_binding::VolumePlan;
pub use plugins::{Plugin, Plugins, Refusal};
pub use pod::{HostPort, Needs, PodInfo, Toleration};
pub use preempt::{Eviction, Preemption, preempt};
pub use profile::{Profile, Weights};
pub use questions::{Part, Question, Questions};
pub use resources::Resources;
pub use snapshot::Snapshot;
pub use spreading::SpreadConstraint;
pub use terms::{Carried, Effect, PodTerms, Term};
pub use verdict::{Refused, Verdict};
pub use volumes::{
    AttachmentInfo, CapacityInfo, ClaimInfo, ClassInfo, Mount, VolumeInfo, Volumes, read_limits,
};

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Bind it to this node.
    Place {
        /// The node's name.
        node: String,
        /// Nodes that would have done.
        feasible: usize,
        /// What has to be written for its volumes first.
        volumes: VolumePlan,
    },
    /// Nothing fits.
    Unschedulable(Verdict),
}

/// What changes from one decision to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Decides between equally good nodes.
    pub seed: u64,
    /// The node to begin with: it moves on from pod to pod, so that sampling is fair.
    pub start: usize,
    /// Seconds since 1970, for pods that have not started yet.
    pub now: i64,
}

/// Decides about one pod. The profile comes with a number of its own, by which opinions
/// are remembered. Also answers where the next search begins.
pub fn decide(
    snapshot: &mut Snapshot,
    memory: &mut Memory,
    pod: &Arc<PodInfo>,
    profile: (usize, &Profile),
    turn: Turn,
) -> (Decision, usize) {
    let total = snapshot.len();
    if total == 0 {
        return (Decision::Unschedulable(Verdict::no_nodes()), 0);
    }
    let mut cycle = match Cycle::prepare(snapshot, pod, profile.1) {
        Ok(cycle) => cycle,
        Err(refusal) => return (Decision::Unschedulable(Verdict::of_all(total, refusal)), turn.start),
    };
    let found = find(snapshot, memory, &mut cycle, profile, turn.start, true);
    let next = (turn.start + found.looked_at) % total;
    if found.feasible.is_empty() {
        let preemption = preempt::preempt(snapshot, &mut cycle, &found.refused, turn);
        let verdict = Verdict::of_nodes(total, &cycle, snapshot, found.refused, preemption);
        return (Decision::Unschedulable(verdict), next);
    }
    let slot = match found.feasible[..] {
        [only] => only,
        ref feasible => {
            let scores = score::scores(snapshot, memory, &cycle, profile.0, feasible);
            choose(feasible, &scores, turn.seed, &pod.uid)
        }
    };
    let node = snapshot.at(slot);
    let volumes = cycle.volume_plan(snapshot, node).unwrap_or_default();
    let (node, feasible) = (String::from(&*node.facts.name), found.feasible.len());
    (Decision::Place { node, feasible, volumes }, next)
}

/// What a search found.
struct Found {
    feasible: Vec<u32>,
    refused: Vec<(u32, Arc<Refusal>)>,
    looked_at: usize,
}

/// Looks for nodes that do: at the one that is kept for the pod first, if `nominated`.
fn find(
    snapshot: &Snapshot,
    memory: &mut Memory,
    cycle: &mut Cycle<'_>,
    profile: (usize, &Profile),
    start: usize,
    nominated: bool,
) -> Found {
    let mut found = Found { feasible: Vec::new(), refused: Vec::new(), looked_at: 0 };
    if let Some(slot) = snapshot.slot(&cycle.pod.nominated).filter(|_| nominated)
        && cycle.filter_yielding(snapshot, slot, snapshot.at(slot)).is_ok()
    {
        found.feasible.push(slot);
        return found;
    }
    let named = cycle.named.take();
    let nodes = named.as_deref().unwrap_or_else(|| snapshot.order());
    let enough = profile.1.enough_feasible(nodes.len());
    let mut opinions = memory.about(&cycle.pod.needs, profile);
    while found.looked_at < nodes.len() && found.feasible.len() < enough {
        let slot = nodes[(start + found.looked_at) % nodes.len()];
        let node = snapshot.at(slot);
        let verdict = if snapshot.is_kept(&node.facts.name) {
            cycle.filter_yielding(snapshot, slot, node).map_err(Arc::new)
        } else {
            match opinions.of(slot, node) {
                Ok(_) => cycle.filter_beyond(snapshot, slot, node).map_err(Arc::new),
                Err(refusal) => Err(refusal.clone()),
            }
        };
        match verdict {
            Ok(()) => found.feasible.push(slot),
            Err(refusal) => found.refused.push((slot, refusal)),
        }
        found.looked_at += 1;
    }
    cycle.named = named;
    found
}

/// One of the best, drawn by seed and pod.
fn choose(feasible: &[u32], scores: &[i64], seed: u64, uid: &str) -> u32 {
    let best = scores.iter().copied().max().unwrap_or(0);
    let equals: Vec<u32> =
        feasible.iter().zip(scores).filter(|(_, score)| **score == best).map(|(slot, _)| *slot).collect();
    let draw = uid.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)));
    equals[(draw % equals.len() as u64) as usize]
}
