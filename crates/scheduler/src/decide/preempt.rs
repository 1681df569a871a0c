//! Whom to evict so that a pod of higher priority fits (upstream's DefaultPreemption).
//!
//! On every node where an eviction may help, all pods of lower priority are taken off
//! in a trial; if the pod then fits, as many as possible are let back in, first those
//! whose budget would be violated, the most important first. The node with the least
//! harm wins. Nobody of equal or higher priority is ever a victim.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Turn;
use super::cycle::Cycle;
use super::plugins::{Plugin, Refusal};
use super::pod::PodInfo;
use super::snapshot::Snapshot;

/// What preemption comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Preemption {
    /// Evict these.
    Evict(Eviction),
    /// The pod may not evict anybody (now), and why.
    Ineligible(&'static str),
    /// It would not help: reasons with the number of nodes.
    Useless(BTreeMap<String, usize>),
    /// The profile does not preempt.
    Off,
}

/// Pods to evict from a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Eviction {
    /// The node.
    pub node: String,
    /// The victims, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them have a budget that does not allow it.
    pub violations: usize,
    /// Pods of lower priority that the node is kept for: it is not any more.
    pub displaced: Vec<Arc<PodInfo>>,
}

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// Plans an eviction, given why each node refuses.
pub fn preempt(
    snapshot: &Snapshot,
    cycle: &mut Cycle<'_>,
    refused: &[(u32, Arc<Refusal>)],
    turn: Turn,
) -> Preemption {
    let (pod, profile) = (cycle.pod, cycle.profile);
    if !profile.has(Plugin::DefaultPreemption) {
        return Preemption::Off;
    }
    if let Some(reason) = ineligible(snapshot, pod, refused) {
        return Preemption::Ineligible(reason);
    }
    let helped: Vec<u32> =
        refused.iter().filter(|(_, refusal)| !refusal.unresolvable).map(|(slot, _)| *slot).collect();
    let (percent, least) = profile.preemption_candidates;
    let wanted = (helped.len() * percent / 100).max(least).min(helped.len());
    let (mut kind, mut harmful) = (Vec::new(), Vec::new());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for at in 0..helped.len() {
        if !kind.is_empty() && kind.len() + harmful.len() >= wanted {
            break;
        }
        // Not always the same nodes first.
        let slot = helped[(turn.start + at) % helped.len()];
        match victims(snapshot, cycle, slot, turn.now) {
            Ok((victims, 0)) => kind.push((slot, victims, 0)),
            Ok((victims, violations)) => harmful.push((slot, victims, violations)),
            Err(refusal) => {
                for reason in refusal.reasons {
                    *reasons.entry(reason.into_owned()).or_default() += 1;
                }
            }
        }
    }
    kind.append(&mut harmful);
    let best = kind.into_iter().reduce(|best, one| {
        let better = harm(&one.1, one.2, turn.now) < harm(&best.1, best.2, turn.now);
        if better { one } else { best }
    });
    let Some((slot, victims, violations)) = best else {
        *reasons.entry(NOT_HELPFUL.into()).or_default() += snapshot.len() - helped.len();
        return Preemption::Useless(reasons);
    };
    let node = String::from(&*snapshot.at(slot).facts.name);
    let lower = snapshot.nominated_to(&node).filter(|other| other.priority < pod.priority);
    let displaced = lower.cloned().collect();
    Preemption::Evict(Eviction { node, victims, violations, displaced })
}

/// Why a pod must not evict anybody.
fn ineligible(snapshot: &Snapshot, pod: &PodInfo, refused: &[(u32, Arc<Refusal>)]) -> Option<&'static str> {
    if !pod.preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let slot = snapshot.slot(&pod.nominated)?;
    let hopeless =
        refused.iter().find(|(one, _)| *one == slot).is_none_or(|(_, refusal)| refusal.unresolvable);
    let leaving = |other: &Arc<PodInfo>| other.priority < pod.priority && other.deleting && other.preempted;
    (!hopeless && snapshot.at(slot).pods.iter().any(leaving))
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The fewest victims on a node, and how many of them violate a budget.
pub(super) fn victims(
    snapshot: &Snapshot,
    cycle: &mut Cycle<'_>,
    slot: u32,
    now: i64,
) -> Result<(Vec<Arc<PodInfo>>, usize), Refusal> {
    let mut node = snapshot.at(slot).clone();
    let priority = cycle.pod.priority;
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|other| other.priority < priority).cloned().collect();
    if lower.is_empty() {
        return Err(Refusal::final_of(Plugin::DefaultPreemption, NO_VICTIMS));
    }
    for other in &lower {
        node.remove(&other.uid);
        cycle.moved(snapshot, other, slot, -1);
    }
    let mut gone = lower.clone();
    let result = cycle.filter_yielding(snapshot, slot, &node).map(|()| {
        lower.sort_by_key(|other| importance(other, now));
        let (violating, others) = by_budget(snapshot, lower);
        let (mut victims, mut violations) = (Vec::new(), 0);
        gone.clear();
        for (other, violates) in
            violating.into_iter().map(|one| (one, true)).chain(others.into_iter().map(|one| (one, false)))
        {
            node.add(other.clone());
            cycle.moved(snapshot, &other, slot, 1);
            if cycle.filter_yielding(snapshot, slot, &node).is_err() {
                node.remove(&other.uid);
                cycle.moved(snapshot, &other, slot, -1);
                violations += usize::from(violates);
                victims.push(other);
            }
        }
        gone.clone_from(&victims);
        victims.sort_by_key(|other| importance(other, now));
        (victims, violations)
    });
    gone.iter().for_each(|other| cycle.moved(snapshot, other, slot, 1));
    match result {
        Ok((victims, _)) if victims.is_empty() => {
            let node = &snapshot.at(slot).facts.name;
            let reason = format!("expected at least one victim pod on node {node:?}");
            Err(Refusal::of(Plugin::DefaultPreemption, reason))
        }
        result => result,
    }
}

/// Sorts the most important first: by priority, then by who has been running longer.
fn importance(pod: &PodInfo, now: i64) -> (i64, i64) {
    (-pod.priority, pod.started.unwrap_or(now))
}

/// Splits off those whose eviction a budget does not allow once those before them are gone.
fn by_budget(snapshot: &Snapshot, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i64> = snapshot.budgets().values().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (budget, allowed) in snapshot.budgets().values().zip(&mut allowed) {
            if budget.guards(pod) {
                *allowed -= 1;
                violates |= *allowed < 0;
            }
        }
        violates
    })
}

/// What is compared between nodes, the least first: violated budgets, the highest
/// priority among the victims, the sum of priorities, the number of victims, and how
/// long the most important of them have been running.
fn harm(victims: &[Arc<PodInfo>], violations: usize, now: i64) -> (usize, i64, i64, usize, i64) {
    let highest = victims.first().map_or(i64::MIN, |pod| pod.priority);
    let sum = victims.iter().map(|pod| pod.priority + (1 << 31)).sum();
    let most = victims.iter().filter(|pod| pod.priority == highest);
    let started = most.map(|pod| pod.started.unwrap_or(now)).min().unwrap_or(now);
    (violations, highest, sum, victims.len(), -started)
}
