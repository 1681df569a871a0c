//! Affinity and anti-affinity between pods, in both directions.
//!
//! The pod's own terms are questions about placed pods; the terms that placed pods
//! carry are looked up by the pod's labels. Both are laid out by topology once per pod
//! and follow the pods that come and go in a trial.

use std::sync::Arc;

use super::super::labels::LabelSet;
use super::super::pod::PodInfo;
use super::super::profile::Profile;
use super::super::questions::{Part, Question};
use super::super::snapshot::Snapshot;
use super::super::terms::{Effect, Term};
use super::super::topology::Topology;
use super::{MAX_SCORE, Plugin, Refusal};

/// Counts by number of a column.
#[derive(Debug)]
struct Tally {
    column: u32,
    counts: Vec<i64>,
}

/// What decides whether a node will do.
#[derive(Debug, Default)]
pub struct Required {
    /// Pods that all affinity terms select, by each term's topology.
    near: Vec<Tally>,
    /// Whether the pod is one of those that it wants to be near.
    own: bool,
    /// Pods that an anti-affinity term selects, by its topology.
    far: Vec<Tally>,
    /// Placed pods that want this one away, by topology.
    unwelcome: Vec<Tally>,
    /// Labels of the pod's namespace.
    namespace: Option<LabelSet>,
}

impl Tally {
    fn of(snapshot: &Snapshot, column: u32) -> Self {
        Self { column, counts: vec![0; snapshot.topology().get(column).numbers()] }
    }

    fn add(&mut self, topology: &Topology, slot: u32, by: i64) {
        let number = topology.get(self.column).value(slot) as usize;
        if number != 0 {
            self.counts[number] += by;
        }
    }

    fn at(&self, topology: &Topology, slot: u32) -> i64 {
        match topology.get(self.column).value(slot) as usize {
            0 => 0,
            number => self.counts[number],
        }
    }
}

/// The tally of a column, once each.
fn tally<'a>(tallies: &'a mut Vec<Tally>, snapshot: &Snapshot, column: u32) -> &'a mut Tally {
    let at = tallies.iter().position(|one| one.column == column).unwrap_or_else(|| {
        tallies.push(Tally::of(snapshot, column));
        tallies.len() - 1
    });
    &mut tallies[at]
}

/// Whether every one of the terms selects a pod; terms there must be.
fn all_select(terms: &[Arc<Term>], snapshot: &Snapshot, pod: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|term| selects(term, snapshot, pod))
}

fn selects(term: &Term, snapshot: &Snapshot, pod: &PodInfo) -> bool {
    term.selects(&pod.namespace, snapshot.namespace(&pod.namespace), &pod.labels)
}

/// The question that a term asks; what it says of namespaces is settled now.
fn part(term: &Term, snapshot: &Snapshot) -> Part {
    Part { namespaces: snapshot.covered(term), selector: term.selector.clone() }
}

impl Required {
    /// Counts for one pod.
    pub fn prepare(snapshot: &mut Snapshot, pod: &PodInfo) -> Self {
        let namespace = snapshot.namespace(&pod.namespace).cloned();
        let mut state = Self { namespace, ..Self::default() };
        let (near, far) = (&pod.terms.affinity, &pod.terms.anti_affinity);
        for term in near.iter().chain(far) {
            snapshot.column(&term.topology_key);
        }
        if !near.is_empty() {
            let parts = near.iter().map(|term| part(term, snapshot)).collect();
            let holders = snapshot.ask(Question { parts, live: false });
            for term in near.iter() {
                let column = snapshot.column(&term.topology_key);
                if state.near.iter().any(|one| one.column == column) {
                    continue;
                }
                let tally = tally(&mut state.near, snapshot, column);
                holders.iter().for_each(|(slot, count)| tally.add(snapshot.topology(), *slot, *count));
            }
            state.own = all_select(near, snapshot, pod);
        }
        for term in far.iter() {
            let parts = vec![part(term, snapshot)];
            let holders = snapshot.ask(Question { parts, live: false });
            let column = snapshot.column(&term.topology_key);
            let tally = tally(&mut state.far, snapshot, column);
            holders.iter().for_each(|(slot, count)| tally.add(snapshot.topology(), *slot, *count));
        }
        let snapshot = &*snapshot;
        let labels = snapshot.namespace(&pod.namespace);
        for carrying in snapshot.carried().selecting(&pod.namespace, labels, &pod.labels) {
            if carrying.effect == Effect::Forbids {
                let tally = tally(&mut state.unwelcome, snapshot, carrying.column);
                let holders = carrying.holders.iter();
                holders.for_each(|(slot, count)| tally.add(snapshot.topology(), *slot, *count));
            }
        }
        state
    }

    /// Whether no node can be refused.
    pub fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty() && self.unwelcome.is_empty()
    }

    /// Refuses nodes that are too far from some pods or too near to others.
    pub fn filter(&self, topology: &Topology, slot: u32) -> Result<(), Refusal> {
        if !self.near_enough(topology, slot) {
            let reason = "node(s) didn't match pod affinity rules";
            return Err(Refusal::final_of(Plugin::InterPodAffinity, reason));
        }
        if self.far.iter().any(|tally| tally.at(topology, slot) > 0) {
            let reason = "node(s) didn't match pod anti-affinity rules";
            return Err(Refusal::of(Plugin::InterPodAffinity, reason));
        }
        if self.unwelcome.iter().any(|tally| tally.at(topology, slot) > 0) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Refusal::of(Plugin::InterPodAffinity, reason));
        }
        Ok(())
    }

    fn near_enough(&self, topology: &Topology, slot: u32) -> bool {
        if self.near.iter().any(|tally| topology.get(tally.column).value(slot) == 0) {
            return false;
        }
        if self.near.iter().all(|tally| tally.at(topology, slot) > 0) {
            return true;
        }
        // The first of a group that wants to be near itself may go anywhere.
        self.own && self.near.iter().all(|tally| tally.counts.iter().all(|count| *count == 0))
    }

    /// In a trial, `other` came to (`1`) or left (`-1`) the node in a slot.
    pub fn moved(&mut self, pod: &PodInfo, other: &PodInfo, snapshot: &Snapshot, slot: u32, by: i64) {
        let topology = snapshot.topology();
        if all_select(&pod.terms.affinity, snapshot, other) {
            self.near.iter_mut().for_each(|tally| tally.add(topology, slot, by));
        }
        for term in pod.terms.anti_affinity.iter().filter(|term| selects(term, snapshot, other)) {
            let Some(column) = topology.find(&term.topology_key) else { continue };
            tally(&mut self.far, snapshot, column).add(topology, slot, by);
        }
        for term in other.terms.anti_affinity.iter() {
            if !term.selects(&pod.namespace, self.namespace.as_ref(), &pod.labels) {
                continue;
            }
            // The columns of placed and of nominated pods are there.
            if let Some(column) = topology.find(&term.topology_key) {
                tally(&mut self.unwelcome, snapshot, column).add(topology, slot, by);
            }
        }
    }
}

/// Scores of the feasible nodes; `None` when nobody prefers anything.
pub fn scores(
    snapshot: &mut Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    feasible: &[u32],
) -> Option<Vec<i64>> {
    let mut tallies: Vec<Tally> = Vec::new();
    for (weight, term) in pod.terms.preferred.iter() {
        let parts = vec![part(term, snapshot)];
        let holders = snapshot.ask(Question { parts, live: false });
        let column = snapshot.column(&term.topology_key);
        if holders.is_empty() {
            continue;
        }
        let tally = tally(&mut tallies, snapshot, column);
        holders.iter().for_each(|(slot, count)| tally.add(snapshot.topology(), *slot, weight * count));
    }
    let snapshot = &*snapshot;
    let labels = snapshot.namespace(&pod.namespace);
    for carrying in snapshot.carried().selecting(&pod.namespace, labels, &pod.labels) {
        let weight = match carrying.effect {
            Effect::Forbids => continue,
            Effect::Requires => profile.hard_pod_affinity_weight,
            Effect::Prefers(weight) => weight,
        };
        let tally = tally(&mut tallies, snapshot, carrying.column);
        let holders = carrying.holders.iter();
        holders.for_each(|(slot, count)| tally.add(snapshot.topology(), *slot, weight * count));
    }
    if tallies.is_empty() {
        return None;
    }
    let topology = snapshot.topology();
    let mut scores: Vec<i64> =
        feasible.iter().map(|slot| tallies.iter().map(|tally| tally.at(topology, *slot)).sum()).collect();
    let (least, most) = (scores.iter().copied().min()?, scores.iter().copied().max()?);
    for score in &mut scores {
        *score = if most == least {
            0
        } else {
            (MAX_SCORE as f64 * ((*score - least) as f64 / (most - least) as f64)) as i64
        };
    }
    Some(scores)
}
