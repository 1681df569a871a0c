//! Which of the feasible nodes is best: upstream's scores with the profile's weights.

use super::cycle::Cycle;
use super::local::{LocalScores, Memory};
use super::plugins::{Plugin, image_locality, inter_pod_affinity, normalise, topology_spread};
use super::snapshot::Snapshot;

/// Scores of the nodes in these slots, in that order.
pub fn scores(
    snapshot: &mut Snapshot,
    memory: &mut Memory,
    cycle: &Cycle<'_>,
    profile_number: usize,
    feasible: &[u32],
) -> Vec<i64> {
    let (pod, profile) = (cycle.pod, cycle.profile);
    let weights = profile.weights;
    let on = |plugin| profile.has(plugin);
    let mut opinions = memory.about(&pod.needs, (profile_number, profile));
    let locals: Vec<LocalScores> = feasible
        .iter()
        .map(|slot| opinions.of(*slot, snapshot.at(*slot)).as_ref().copied().unwrap_or_default())
        .collect();
    let mut totals = vec![0; feasible.len()];
    let mut add = |weight: i64, scores: &mut dyn Iterator<Item = i64>| {
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    };
    if on(Plugin::TaintToleration) {
        let mut taints: Vec<i64> = locals.iter().map(|one| one.intolerable).collect();
        normalise(&mut taints, true);
        add(weights.taint_toleration, &mut taints.into_iter());
    }
    if on(Plugin::NodeAffinity) && !pod.needs.affinity.preferred.is_empty() {
        let mut preferred: Vec<i64> = locals.iter().map(|one| one.preferred).collect();
        normalise(&mut preferred, false);
        add(weights.node_affinity, &mut preferred.into_iter());
    }
    if on(Plugin::NodeResourcesFit) {
        add(weights.resources_fit, &mut locals.iter().map(|one| one.free));
    }
    if on(Plugin::NodeResourcesBalancedAllocation) {
        add(weights.balanced_allocation, &mut locals.iter().map(|one| one.balance));
    }
    if on(Plugin::ImageLocality) {
        let holders = image_locality::holders(snapshot, &pod.needs);
        if !holders.is_empty() {
            let total = snapshot.len();
            let score =
                |slot: &u32| image_locality::score(&pod.needs, &snapshot.at(*slot).facts, &holders, total);
            add(weights.image_locality, &mut feasible.iter().map(score));
        }
    }
    if on(Plugin::PodTopologySpread)
        && let Some(scores) = topology_spread::scores(snapshot, pod, profile, feasible)
    {
        add(weights.topology_spread, &mut scores.into_iter());
    }
    if on(Plugin::InterPodAffinity)
        && let Some(scores) = inter_pod_affinity::scores(snapshot, pod, profile, feasible)
    {
        add(weights.inter_pod_affinity, &mut scores.into_iter());
    }
    totals
}
