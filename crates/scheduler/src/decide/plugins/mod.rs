//! The plugins of upstream's scheduler, one file each: what they refuse and in what
//! words, what they prefer, and how they follow a trial in which pods come and go.
//!
//! [`Plugin`] lists them in the order in which they are asked; the first that refuses a
//! node ends the matter. Dynamic resources and gangs are left out.

pub mod balanced_allocation;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_ports;
pub mod node_unschedulable;
pub mod resources_fit;
pub mod taint_toleration;
pub mod topology_spread;
pub mod volume_binding;
pub mod volume_limits;
pub mod volume_restrictions;
pub mod volume_zone;

use std::borrow::Cow;

/// The plugins, by their upstream names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Plugin {
    /// `spec.schedulingGates`.
    SchedulingGates,
    /// `spec.unschedulable` of the node.
    NodeUnschedulable,
    /// `spec.nodeName` of the pod.
    NodeName,
    /// Taints of the node.
    TaintToleration,
    /// Labels of the node.
    NodeAffinity,
    /// Ports that other pods hold.
    NodePorts,
    /// Resources that other pods hold.
    NodeResourcesFit,
    /// Volumes that two pods cannot share.
    VolumeRestrictions,
    /// How many volumes of a driver a node takes.
    NodeVolumeLimits,
    /// Claims that have, or need, a volume.
    VolumeBinding,
    /// Zones of volumes.
    VolumeZone,
    /// Topology spread constraints.
    PodTopologySpread,
    /// Affinity and anti-affinity between pods.
    InterPodAffinity,
    /// Evicts pods of lower priority.
    DefaultPreemption,
    /// Likes cpu and memory to be used alike.
    NodeResourcesBalancedAllocation,
    /// Likes nodes that have the images.
    ImageLocality,
}

/// A set of plugins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plugins(u32);

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub plugin: Plugin,
    /// In whose words.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether evicting pods could not change it.
    pub unresolvable: bool,
}

impl Plugins {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);

    /// With one more.
    #[must_use]
    pub fn with(self, plugin: Plugin) -> Self {
        Self(self.0 | 1 << plugin as u8)
    }

    /// Without one.
    #[must_use]
    pub fn without(self, plugin: Plugin) -> Self {
        Self(self.0 & !(1 << plugin as u8))
    }

    /// Whether one is in it.
    pub fn has(self, plugin: Plugin) -> bool {
        self.0 & 1 << plugin as u8 != 0
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether some are in both.
    pub fn meets(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }

    /// Whether none is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Plugin> for Plugins {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        plugins.into_iter().fold(Self::default(), Self::with)
    }
}

impl Refusal {
    /// One reason that an eviction could take away.
    pub fn of(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { plugin, reasons: vec![reason.into()], unresolvable: false }
    }

    /// One reason that no eviction takes away.
    pub fn final_of(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { unresolvable: true, ..Self::of(plugin, reason) }
    }
}

/// Scores go up to this.
pub const MAX_SCORE: i64 = 100;

/// To 0…100 of the highest; reversed when less is better.
pub fn normalise(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0).max(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MAX_SCORE / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
