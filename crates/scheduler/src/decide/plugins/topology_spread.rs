//! Topology spread constraints: how many matching pods each domain has.
//!
//! Counts come from standing answers ([`Snapshot::count`]) and are laid out by domain
//! once per pod; in a trial they follow the pods that come and go.

use super::super::labels::Selector;
use super::super::node::NodeFacts;
use super::super::pod::PodInfo;
use super::super::profile::Profile;
use super::super::snapshot::Snapshot;
use super::super::spreading::SpreadConstraint;
use super::super::topology::Topology;
use super::{MAX_SCORE, Plugin, Refusal, taint_toleration};

const REASON: &str = "node(s) didn't match pod topology spread constraints";
const MISSING: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Count of what is not a domain.
const ABSENT: i64 = i64::MIN;

/// A constraint, ready for one pod.
#[derive(Debug)]
struct Constraint {
    column: u32,
    hostname: bool,
    max_skew: i64,
    min_domains: usize,
    selector: Selector,
    /// 1 when the pod counts itself.
    own: i64,
    honor_affinity: bool,
    honor_taints: bool,
    /// Pods by domain; [`ABSENT`] where nothing is a domain.
    counts: Vec<i64>,
    /// The lowest count; 0 with fewer domains than wanted.
    least: i64,
}

/// The hard constraints of a pod.
#[derive(Debug, Default)]
pub struct Hard {
    constraints: Vec<Constraint>,
}

/// The constraints of a pod that must hold, or those that only should.
fn constraints(snapshot: &mut Snapshot, pod: &PodInfo, profile: &Profile, hard: bool) -> Vec<Constraint> {
    let own = !pod.spread.is_empty();
    let all = if own { &pod.spread[..] } else { &profile.default_constraints[..] };
    let wanted: Vec<&SpreadConstraint> = all.iter().filter(|one| one.hard == hard).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let default = if own { None } else { Some(snapshot.owners().default_selector(pod)) };
    if default.as_ref().is_some_and(Selector::is_everything) {
        return Vec::new();
    }
    let ready = |one: &SpreadConstraint| {
        let selector = default.clone().unwrap_or_else(|| one.selector_for(&pod.labels));
        Constraint {
            column: snapshot.column(&one.topology_key),
            hostname: *one.topology_key == *HOSTNAME,
            max_skew: one.max_skew,
            min_domains: one.min_domains,
            own: i64::from(selector.matches(&pod.labels)),
            selector,
            honor_affinity: one.honor_affinity && !pod.needs.affinity.is_indifferent(),
            honor_taints: one.honor_taints,
            counts: Vec::new(),
            least: 0,
        }
    };
    wanted.into_iter().map(ready).collect()
}

impl Constraint {
    /// Whether a node counts.
    fn includes(&self, pod: &PodInfo, node: &NodeFacts) -> bool {
        (!self.honor_affinity || pod.needs.affinity.allows(node))
            && (!self.honor_taints || taint_toleration::tolerates(&pod.needs.tolerations, node))
    }

    fn settle(&mut self) {
        let domains = self.counts.iter().filter(|count| **count != ABSENT);
        let (number, least) = domains.fold((0, i64::MAX), |(n, least), count| (n + 1, least.min(*count)));
        self.least = if number < self.min_domains.max(1) { 0 } else { least };
    }
}

fn has_all(topology: &Topology, constraints: &[Constraint], slot: u32) -> bool {
    constraints.iter().all(|one| topology.get(one.column).value(slot) != 0)
}

impl Hard {
    /// Counts for one pod.
    pub fn prepare(snapshot: &mut Snapshot, pod: &PodInfo, profile: &Profile) -> Self {
        let mut all = constraints(snapshot, pod, profile, true);
        for at in 0..all.len() {
            let holders = snapshot.count(pod, &all[at].selector);
            let one = &all[at];
            let column = snapshot.topology().get(one.column);
            let mut counts = vec![ABSENT; column.numbers()];
            let plain = all.len() == 1 && !one.honor_affinity && !one.honor_taints;
            let counted = |slot: u32| {
                plain && column.value(slot) != 0
                    || has_all(snapshot.topology(), &all, slot) && one.includes(pod, &snapshot.at(slot).facts)
            };
            if plain {
                // Every node that has the label counts.
                (1..counts.len())
                    .filter(|number| column.nodes(*number) > 0)
                    .for_each(|number| counts[number] = 0);
            } else {
                for slot in snapshot.order().iter().filter(|slot| counted(**slot)) {
                    counts[column.value(*slot) as usize] = 0;
                }
            }
            for (slot, count) in holders.iter().filter(|(slot, _)| counted(*slot)) {
                counts[column.value(*slot) as usize] += *count;
            }
            all[at].counts = counts;
            all[at].settle();
        }
        Self { constraints: all }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.constraints.is_empty()
    }

    /// Refuses nodes whose domain would become too full.
    pub fn filter(&self, topology: &Topology, slot: u32) -> Result<(), Refusal> {
        for one in &self.constraints {
            let number = topology.get(one.column).value(slot) as usize;
            if number == 0 {
                return Err(Refusal::final_of(Plugin::PodTopologySpread, MISSING));
            }
            let there = one.counts.get(number).copied().filter(|count| *count != ABSENT).unwrap_or(0);
            if there + one.own - one.least > one.max_skew {
                return Err(Refusal::of(Plugin::PodTopologySpread, REASON));
            }
        }
        Ok(())
    }

    /// In a trial, `other` came to (`1`) or left (`-1`) a node.
    pub fn moved(&mut self, pod: &PodInfo, other: &PodInfo, node: (&Topology, u32, &NodeFacts), by: i64) {
        let (topology, slot, facts) = node;
        if other.namespace != pod.namespace || !has_all(topology, &self.constraints, slot) {
            return;
        }
        for one in &mut self.constraints {
            if !one.selector.matches(&other.labels) || !one.includes(pod, facts) {
                continue;
            }
            let number = topology.get(one.column).value(slot) as usize;
            if let Some(count) = one.counts.get_mut(number) {
                *count = if *count == ABSENT { by } else { *count + by };
                one.settle();
            }
        }
    }
}

/// Scores of the feasible nodes by the soft constraints; `None` when there are none.
pub fn scores(
    snapshot: &mut Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    feasible: &[u32],
) -> Option<Vec<i64>> {
    let mut all = constraints(snapshot, pod, profile, false);
    if all.is_empty() {
        return None;
    }
    let strict = !pod.spread.is_empty() || !profile.system_defaulted;
    let ignored: Vec<bool> =
        feasible.iter().map(|slot| strict && !has_all(snapshot.topology(), &all, *slot)).collect();
    let used = || feasible.iter().zip(&ignored).filter(|(_, ignored)| !**ignored).map(|(slot, _)| *slot);
    let mut weights = Vec::with_capacity(all.len());
    for at in 0..all.len() {
        let holders = snapshot.count(pod, &all[at].selector);
        let (one, topology) = (&all[at], snapshot.topology());
        let column = topology.get(one.column);
        if one.hostname {
            // By slot: each node is its own domain.
            weights.push(((used().count() + 2) as f64).ln());
            let mut counts = vec![0; snapshot.slots()];
            holders.iter().for_each(|(slot, count)| counts[*slot as usize] = *count);
            all[at].counts = counts;
            continue;
        }
        let mut counts = vec![ABSENT; column.numbers()];
        let mut domains = 0;
        for slot in used() {
            let here = &mut counts[column.value(slot) as usize];
            if *here == ABSENT {
                *here = 0;
                domains += 1;
            }
        }
        weights.push(((domains + 2) as f64).ln());
        for (slot, count) in &holders {
            let node = snapshot.at(*slot);
            let here = column.value(*slot) as usize;
            let counted = node.known
                && counts[here] != ABSENT
                && (!strict || has_all(topology, &all, *slot))
                && one.includes(pod, &node.facts);
            if counted {
                counts[here] += count;
            }
        }
        all[at].counts = counts;
    }
    let raw = |slot: u32| {
        let mut sum = 0.0;
        for (one, weight) in all.iter().zip(&weights) {
            let number = snapshot.topology().get(one.column).value(slot);
            if number != 0 {
                let count = one.counts[if one.hostname { slot } else { number } as usize];
                sum += count as f64 * weight + (one.max_skew - 1) as f64;
            }
        }
        f64::round(sum) as i64
    };
    let mut scores: Vec<i64> =
        feasible.iter().zip(&ignored).map(|(slot, ignored)| if *ignored { 0 } else { raw(*slot) }).collect();
    normalise(&mut scores, &ignored);
    Some(scores)
}

/// The emptier, the better; nodes that lack a label get nothing.
fn normalise(scores: &mut [i64], ignored: &[bool]) {
    let counted = || scores.iter().zip(ignored).filter(|(_, ignored)| !**ignored).map(|(score, _)| *score);
    let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
    for (score, ignored) in scores.iter_mut().zip(ignored) {
        *score = match (ignored, most) {
            (true, _) => 0,
            (false, 0) => MAX_SCORE,
            (false, most) => MAX_SCORE * (most + least - *score) / most,
        };
    }
}
