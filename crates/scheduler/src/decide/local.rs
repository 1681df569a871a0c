//! What one node alone says about one kind of pod, remembered until the node changes.
//!
//! Identical pods come in batches. Between two of them usually one node changes: the
//! one that took the last. Everything else about them is looked up here instead of
//! being worked out again.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::NodeInfo;
use super::plugins::{
    Plugin, Refusal, balanced_allocation, node_affinity, node_ports, node_unschedulable, resources_fit,
    taint_toleration, volume_restrictions,
};
use super::pod::Needs;
use super::profile::Profile;

/// Kinds of pods that are remembered.
const KINDS: usize = 128;

/// Scores that one node alone decides, before they are normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalScores {
    /// Taints that the pod would rather not have.
    pub intolerable: i64,
    /// Weights of the preferred node terms that match.
    pub preferred: i64,
    /// Room that is left.
    pub free: i64,
    /// Balance of cpu and memory.
    pub balance: i64,
}

/// What a node says.
pub type Opinion = Result<LocalScores, Arc<Refusal>>;

/// Opinions, by kind of pod and slot.
#[derive(Debug, Default)]
pub struct Memory {
    kinds: HashMap<(usize, usize), Kind>,
    clock: u64,
}

/// Opinions about one kind of pod.
#[derive(Debug)]
struct Kind {
    /// Kept, so that its address is not taken by another.
    needs: Arc<Needs>,
    opinions: Vec<(u64, Opinion)>,
    last: u64,
}

/// The opinions about one kind of pod.
#[derive(Debug)]
pub struct Opinions<'a> {
    needs: &'a Needs,
    profile: &'a Profile,
    opinions: &'a mut Vec<(u64, Opinion)>,
}

impl Memory {
    /// Opinions about pods with these needs. `profile` is known by its place.
    pub fn about<'a>(&'a mut self, needs: &'a Arc<Needs>, profile: (usize, &'a Profile)) -> Opinions<'a> {
        self.clock += 1;
        let key = (Arc::as_ptr(needs) as usize, profile.0);
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&key) {
            let mut ages: Vec<u64> = self.kinds.values().map(|kind| kind.last).collect();
            ages.sort_unstable();
            let limit = ages[ages.len() / 2];
            self.kinds.retain(|_, kind| kind.last > limit);
        }
        let fresh = || Kind { needs: needs.clone(), opinions: Vec::new(), last: 0 };
        let kind = self.kinds.entry(key).or_insert_with(fresh);
        kind.last = self.clock;
        debug_assert_eq!(kind.needs, *needs, "an address is that of what is kept");
        Opinions { needs, profile: profile.1, opinions: &mut kind.opinions }
    }
}

impl Opinions<'_> {
    /// What the node in a slot says.
    pub fn of(&mut self, slot: u32, node: &NodeInfo) -> &Opinion {
        let at = slot as usize;
        if self.opinions.len() <= at {
            // No node has generation 0.
            self.opinions.resize_with(at + 1, || (0, Ok(LocalScores::default())));
        }
        let entry = &mut self.opinions[at];
        if entry.0 != node.generation {
            let opinion = check(self.needs, node, self.profile);
            *entry = (node.generation, opinion.map(|()| scores(self.needs, node)).map_err(Arc::new));
        }
        &entry.1
    }
}

/// Asks the plugins that look at one node alone.
pub fn check(needs: &Needs, node: &NodeInfo, profile: &Profile) -> Result<(), Refusal> {
    let facts = &*node.facts;
    let on = |plugin| profile.has(plugin);
    if on(Plugin::NodeUnschedulable) {
        node_unschedulable::filter(needs, facts)?;
    }
    if on(Plugin::TaintToleration) {
        taint_toleration::filter(needs, facts)?;
    }
    if on(Plugin::NodeAffinity) {
        node_affinity::filter(needs, facts)?;
    }
    if on(Plugin::NodePorts) {
        node_ports::filter(needs, node)?;
    }
    if on(Plugin::NodeResourcesFit) {
        resources_fit::filter(needs, node)?;
    }
    if on(Plugin::VolumeRestrictions) {
        volume_restrictions::filter(needs, node)?;
    }
    Ok(())
}

fn scores(needs: &Needs, node: &NodeInfo) -> LocalScores {
    LocalScores {
        intolerable: taint_toleration::intolerable(needs, &node.facts),
        preferred: needs.affinity.preference(&node.facts),
        free: resources_fit::least_allocated(needs, node),
        balance: balanced_allocation::score(needs, node),
    }
}
