//! Which change may help which refused pod (upstream's queueing hints).
//!
//! Each plugin is asked whether an event can change its mind about a pod. A wrong "no"
//! costs five minutes, so what is not sure is a "yes".

use super::labels::LabelSet;
use super::node::NodeFacts;
use super::plugins::{Plugin, Plugins, node_unschedulable, resources_fit, taint_toleration};
use super::pod::PodInfo;
use super::resources::Resources;
use super::terms::Term;
use super::volumes::{ClaimInfo, VolumeInfo};

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A pod came to a node.
    PodPlaced(&'a PodInfo),
    /// A pod on a node changed.
    PodChanged(&'a PodInfo, &'a PodInfo),
    /// A pod left its node, or is gone.
    PodGone(&'a PodInfo),
    /// A node came.
    NodeAdded(&'a NodeFacts),
    /// A node changed.
    NodeChanged(&'a NodeFacts, &'a NodeFacts),
    /// A node is gone.
    NodeGone(&'a NodeFacts),
    /// A claim came or changed.
    Claim(&'a ClaimInfo),
    /// A volume came, or changed from what it was.
    Volume(Option<&'a VolumeInfo>, &'a VolumeInfo),
    /// A storage class came or changed.
    Class,
    /// What a node says of its drivers changed.
    CsiNode,
    /// What a driver says of its capacity changed.
    Capacity,
    /// A volume was detached.
    Detached,
}

impl Event<'_> {
    /// The plugins that may change their mind at all: a quick first look.
    pub fn concerns(&self) -> Plugins {
        use Plugin as P;
        let all: &[Plugin] = match self {
            Self::PodPlaced(_) => &[P::PodTopologySpread, P::InterPodAffinity],
            Self::PodChanged(before, after) => {
                let labels = before.labels != after.labels;
                let less = is_less(after.requests(), before.requests());
                return [
                    (labels, P::PodTopologySpread),
                    (labels, P::InterPodAffinity),
                    (less, P::NodeResourcesFit),
                ]
                .into_iter()
                .filter_map(|(changed, plugin)| changed.then_some(plugin))
                .collect();
            }
            Self::PodGone(_) => &[
                P::NodePorts,
                P::NodeResourcesFit,
                P::VolumeRestrictions,
                P::NodeVolumeLimits,
                P::PodTopologySpread,
                P::InterPodAffinity,
            ],
            Self::NodeAdded(_) => return Plugins::ALL,
            Self::NodeChanged(before, after) => {
                let labels = before.labels != after.labels;
                let taints = before.taints != after.taints;
                let room = before.allocatable != after.allocatable || before.max_pods != after.max_pods;
                let cordon = before.unschedulable && !after.unschedulable;
                return [
                    (cordon, P::NodeUnschedulable),
                    (taints, P::TaintToleration),
                    (labels, P::NodeAffinity),
                    (room, P::NodeResourcesFit),
                    (labels, P::VolumeBinding),
                    (labels, P::VolumeZone),
                    (labels || taints, P::PodTopologySpread),
                    (labels, P::InterPodAffinity),
                ]
                .into_iter()
                .filter_map(|(changed, plugin)| changed.then_some(plugin))
                .collect();
            }
            Self::NodeGone(_) => &[P::PodTopologySpread],
            Self::Claim(_) => &[P::VolumeRestrictions, P::VolumeBinding, P::VolumeZone, P::NodeVolumeLimits],
            Self::Volume(..) => &[P::VolumeBinding, P::VolumeZone],
            Self::Class => &[P::VolumeBinding, P::VolumeZone],
            Self::CsiNode => &[P::VolumeBinding, P::NodeVolumeLimits],
            Self::Capacity => &[P::VolumeBinding],
            Self::Detached => &[P::NodeVolumeLimits],
        };
        all.iter().copied().collect()
    }

    /// Whether one of the plugins that refused a pod may change its mind.
    pub fn helps(&self, plugins: Plugins, pod: &PodInfo) -> bool {
        let refused = plugins.and(self.concerns());
        match self {
            Self::PodPlaced(other) => self.placed(refused, pod, other),
            Self::PodChanged(before, after) => changed(refused, pod, before, after),
            Self::PodGone(other) => gone(refused, pod, other),
            Self::NodeAdded(node) => node_came(refused, pod, node),
            Self::NodeChanged(before, after) => node_changed(refused, pod, before, after),
            Self::NodeGone(node) => has_keys(pod, &node.labels),
            Self::Claim(claim) => {
                *claim.namespace == *pod.namespace && pod.mounts.iter().any(|mount| mount.claim == claim.name)
            }
            Self::Volume(before, after) => {
                refused.has(Plugin::VolumeBinding)
                    || before.is_none_or(|before| before.labels != after.labels)
            }
            Self::Class | Self::CsiNode | Self::Capacity => true,
            Self::Detached => pod.mounts.iter().any(|mount| !mount.ephemeral),
        }
    }

    fn placed(&self, refused: Plugins, pod: &PodInfo, other: &PodInfo) -> bool {
        let spread = || other.namespace == pod.namespace && spread_selects(pod, &other.labels);
        (refused.has(Plugin::PodTopologySpread) && spread())
            || (refused.has(Plugin::InterPodAffinity) && all_select(&pod.terms.affinity, other))
    }
}

fn changed(refused: Plugins, pod: &PodInfo, before: &PodInfo, after: &PodInfo) -> bool {
    let fit = || is_less_for(pod, after.requests(), before.requests());
    let spread = || {
        after.namespace == pod.namespace
            && pod.spread.iter().filter(|one| one.hard).any(|one| {
                let selector = one.selector_for(&pod.labels);
                selector.matches(&before.labels) != selector.matches(&after.labels)
            })
    };
    let terms = &pod.terms;
    let inter = || {
        (!all_select(&terms.affinity, before) && all_select(&terms.affinity, after))
            || (any_selects(&terms.anti_affinity, before) && !any_selects(&terms.anti_affinity, after))
            || (any_selects(&before.terms.anti_affinity, pod))
    };
    (refused.has(Plugin::NodeResourcesFit) && fit())
        || (refused.has(Plugin::PodTopologySpread) && spread())
        || (refused.has(Plugin::InterPodAffinity) && inter())
}

fn gone(refused: Plugins, pod: &PodInfo, other: &PodInfo) -> bool {
    if !other.settled() {
        return false;
    }
    let ports = || {
        let held = &other.needs.host_ports;
        pod.needs.host_ports.iter().any(|wanted| held.iter().any(|one| one.conflicts(wanted)))
    };
    let shares = || {
        let disks = &other.needs.disks;
        other.namespace == pod.namespace
            && (pod.needs.disks.iter().any(|wanted| disks.iter().any(|one| one.conflicts(wanted)))
                || pod.mounts.iter().any(|mount| other.mounts.contains(mount)))
    };
    let spread = || other.namespace == pod.namespace && spread_selects(pod, &other.labels);
    let inter =
        || any_selects(&pod.terms.anti_affinity, other) || any_selects(&other.terms.anti_affinity, pod);
    refused.has(Plugin::NodeResourcesFit)
        || (refused.has(Plugin::NodePorts) && ports())
        || (refused.has(Plugin::VolumeRestrictions) && shares())
        || (refused.has(Plugin::NodeVolumeLimits) && !other.mounts.is_empty())
        || (refused.has(Plugin::PodTopologySpread) && spread())
        || (refused.has(Plugin::InterPodAffinity) && inter())
}

fn node_came(refused: Plugins, pod: &PodInfo, node: &NodeFacts) -> bool {
    let (needs, terms) = (&pod.needs, &pod.terms);
    let near = || terms.affinity.iter().any(|term| node.labels.get(&term.topology_key).is_some());
    let cordoned = node.unschedulable && !node_unschedulable::tolerated(&needs.tolerations);
    [
        (Plugin::NodeUnschedulable, !cordoned),
        (Plugin::NodeName, true),
        (Plugin::TaintToleration, taint_toleration::tolerates(&needs.tolerations, node)),
        (Plugin::NodeAffinity, needs.affinity.allows(node)),
        (Plugin::NodePorts, true),
        (Plugin::NodeResourcesFit, resources_fit::fits_alone(needs, node)),
        (Plugin::VolumeRestrictions, true),
        (Plugin::NodeVolumeLimits, true),
        (Plugin::VolumeBinding, true),
        (Plugin::VolumeZone, true),
        (Plugin::PodTopologySpread, has_keys(pod, &node.labels)),
        // Pods that are kept away by others may come too, wherever those are.
        (Plugin::InterPodAffinity, near() || terms.affinity.is_empty()),
    ]
    .into_iter()
    .any(|(plugin, helps)| helps && refused.has(plugin))
}

fn node_changed(refused: Plugins, pod: &PodInfo, before: &NodeFacts, after: &NodeFacts) -> bool {
    let needs = &pod.needs;
    let tolerates = |node: &NodeFacts| taint_toleration::tolerates(&needs.tolerations, node);
    let fit = || {
        resources_fit::fits_alone(needs, after)
            && (after.max_pods > before.max_pods || is_less_for(pod, &before.allocatable, &after.allocatable))
    };
    let spread = || {
        let (had, has) = (has_keys(pod, &before.labels), has_keys(pod, &after.labels));
        let moved = || {
            let mut keys = pod.spread.iter().filter(|one| one.hard).map(|one| &one.topology_key);
            keys.any(|key| before.labels.get(key) != after.labels.get(key))
        };
        had != has || (has && (moved() || before.taints != after.taints))
    };
    let inter = || {
        let moved =
            |term: &Term| before.labels.get(&term.topology_key) != after.labels.get(&term.topology_key);
        let terms = &pod.terms;
        (terms.affinity.is_empty() && terms.anti_affinity.is_empty())
            || terms.affinity.iter().chain(&terms.anti_affinity).any(|term| moved(term))
    };
    (refused.has(Plugin::NodeUnschedulable) && before.unschedulable && !after.unschedulable)
        || (refused.has(Plugin::TaintToleration) && !tolerates(before) && tolerates(after))
        || (refused.has(Plugin::NodeAffinity)
            && !needs.affinity.allows(before)
            && needs.affinity.allows(after))
        || (refused.has(Plugin::NodeResourcesFit) && fit())
        || refused.has(Plugin::VolumeBinding)
        || refused.has(Plugin::VolumeZone)
        || (refused.has(Plugin::PodTopologySpread) && spread())
        || (refused.has(Plugin::InterPodAffinity) && inter())
}

/// Whether a node's labels have the keys of all hard constraints.
fn has_keys(pod: &PodInfo, labels: &LabelSet) -> bool {
    pod.spread.iter().filter(|one| one.hard).all(|one| labels.get(&one.topology_key).is_some())
}

fn spread_selects(pod: &PodInfo, labels: &LabelSet) -> bool {
    let mut hard = pod.spread.iter().filter(|one| one.hard);
    hard.any(|one| one.selector_for(&pod.labels).matches(labels))
}

/// Namespaces are taken as they are named; one that is selected may be any.
fn may_select(term: &Term, pod: &PodInfo) -> bool {
    let covers =
        !term.namespace_selector.is_nothing() || term.namespaces.iter().any(|name| **name == *pod.namespace);
    covers && term.selector.matches(&pod.labels)
}

fn all_select(terms: &[std::sync::Arc<Term>], pod: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|term| may_select(term, pod))
}

fn any_selects(terms: &[std::sync::Arc<Term>], pod: &PodInfo) -> bool {
    terms.iter().any(|term| may_select(term, pod))
}

/// Whether something became less.
fn is_less(now: &Resources, before: &Resources) -> bool {
    now.milli_cpu < before.milli_cpu
        || now.memory < before.memory
        || now.ephemeral < before.ephemeral
        || before.others.iter().any(|(name, was)| now.others.get(name).copied().unwrap_or(0) < *was)
}

/// Whether something became less that a pod asks for.
fn is_less_for(pod: &PodInfo, now: &Resources, before: &Resources) -> bool {
    let wanted = &pod.needs.requests;
    (wanted.milli_cpu > 0 && now.milli_cpu < before.milli_cpu)
        || (wanted.memory > 0 && now.memory < before.memory)
        || (wanted.ephemeral > 0 && now.ephemeral < before.ephemeral)
        || wanted.others.iter().any(|(name, amount)| {
            let of = |all: &Resources| all.others.get(name).copied().unwrap_or(0);
            *amount > 0 && of(now) < of(before)
        })
}
