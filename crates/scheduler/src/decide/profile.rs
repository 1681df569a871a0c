//! How pods of a scheduler name are scheduled: which plugins, with which weights.

use super::plugins::{Plugin, Plugins};
use super::spreading::SpreadConstraint;

/// A profile; the default is upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What pods ask for in `spec.schedulerName`.
    pub name: String,
    /// Plugins that may refuse, preempt or prefer.
    pub plugins: Plugins,
    /// Weights of the scores.
    pub weights: Weights,
    /// Weight of a placed pod's required affinity to others.
    pub hard_pod_affinity_weight: i64,
    /// Constraints of pods that have none.
    pub default_constraints: Vec<SpreadConstraint>,
    /// Whether those are the system's, which do not ask for the labels to be there.
    pub system_defaulted: bool,
    /// Share of the nodes after which no more feasible ones are looked for; `None`
    /// chooses by the number of nodes.
    pub percentage_of_nodes_to_score: Option<usize>,
    /// Share of the nodes on which preemption is tried, in percent, and at least how many.
    pub preemption_candidates: (usize, usize),
}

/// What each score counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Taints that are not tolerated.
    pub taint_toleration: i64,
    /// Preferred node affinity.
    pub node_affinity: i64,
    /// Room that is left.
    pub resources_fit: i64,
    /// Soft spread constraints.
    pub topology_spread: i64,
    /// Preferred affinity between pods.
    pub inter_pod_affinity: i64,
    /// Balance of cpu and memory.
    pub balanced_allocation: i64,
    /// Images that are there.
    pub image_locality: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            taint_toleration: 3,
            node_affinity: 2,
            resources_fit: 1,
            topology_spread: 2,
            inter_pod_affinity: 2,
            balanced_allocation: 1,
            image_locality: 1,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new("default-scheduler")
    }
}

impl Profile {
    /// Upstream's defaults under a name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            plugins: Plugins::ALL,
            weights: Weights::default(),
            hard_pod_affinity_weight: 1,
            default_constraints: vec![
                SpreadConstraint::soft("kubernetes.io/hostname", 3),
                SpreadConstraint::soft("topology.kubernetes.io/zone", 5),
            ],
            system_defaulted: true,
            percentage_of_nodes_to_score: None,
            preemption_candidates: (10, 100),
        }
    }

    /// Whether a plugin takes part.
    pub fn has(&self, plugin: Plugin) -> bool {
        self.plugins.has(plugin)
    }

    /// How many feasible nodes are enough among so many.
    pub fn enough_feasible(&self, total: usize) -> usize {
        if total < 100 {
            return total;
        }
        let adaptive = || 50usize.saturating_sub(total / 125).max(5);
        let percent =
            self.percentage_of_nodes_to_score.filter(|percent| *percent > 0).unwrap_or_else(adaptive);
        (total * percent / 100).max(100)
    }
}
