//! Everything about one pod at once: every node's score or refusal, and every node's
//! victims. For comparing with other schedulers and with slow references; the scheduler
//! itself stops as soon as it knows enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Turn;
use super::cycle::Cycle;
use super::local::Memory;
use super::pod::PodInfo;
use super::preempt::{self, Preemption};
use super::profile::Profile;
use super::snapshot::Snapshot;
use super::verdict::Verdict;
use super::{find, score};

/// What becomes of a pod, everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Nodes that would do, with their scores.
    pub scores: BTreeMap<String, i64>,
    /// Why none does; empty when one does.
    pub message: String,
    /// On every node where it helps, whom to evict, and how many budgets that violates.
    pub candidates: BTreeMap<String, (Vec<String>, usize)>,
    /// The node that would be chosen for it.
    pub chosen: String,
}

/// Explains one pod.
pub fn explain(snapshot: &mut Snapshot, pod: &Arc<PodInfo>, profile: &Profile, now: i64) -> Explanation {
    let total = snapshot.len();
    let turn = Turn { seed: 0, start: 0, now };
    let mut cycle = match Cycle::prepare(snapshot, pod, profile) {
        Ok(cycle) => cycle,
        Err(refusal) => {
            let message = Verdict::of_all(total, refusal).message;
            return Explanation { message, ..Explanation::default() };
        }
    };
    let mut memory = Memory::default();
    let all = Profile { percentage_of_nodes_to_score: Some(100), ..profile.clone() };
    let found = find(snapshot, &mut memory, &mut cycle, (0, &all), 0, false);
    let name = |snapshot: &Snapshot, slot: u32| String::from(&*snapshot.at(slot).facts.name);
    if !found.feasible.is_empty() {
        let scores = score::scores(snapshot, &mut memory, &cycle, 0, &found.feasible);
        let named = found.feasible.iter().zip(scores).map(|(slot, score)| (name(snapshot, *slot), score));
        return Explanation { scores: named.collect(), ..Explanation::default() };
    }
    let mut candidates = BTreeMap::new();
    let preemption = preempt::preempt(snapshot, &mut cycle, &found.refused, turn);
    if !matches!(preemption, Preemption::Ineligible(_)) {
        for (slot, _) in found.refused.iter().filter(|(_, refusal)| !refusal.unresolvable) {
            if let Ok((victims, violations)) = preempt::victims(snapshot, &mut cycle, *slot, now) {
                let mut names: Vec<String> = victims.iter().map(|pod| pod.name.clone()).collect();
                names.sort();
                candidates.insert(name(snapshot, *slot), (names, violations));
            }
        }
    }
    let chosen = match &preemption {
        Preemption::Evict(eviction) => eviction.node.clone(),
        _ => String::new(),
    };
    let message = Verdict::of_nodes(total, &cycle, snapshot, found.refused, preemption).message;
    Explanation { scores: BTreeMap::new(), message, candidates, chosen }
}
