//! One pod's turn: what is worked out once for it, and then asked of every node.
//!
//! In a trial pods come and go without being placed: [`Cycle::moved`] keeps the counts
//! right, and taking every step back restores them.

use std::sync::Arc;

use super::local;
use super::node::NodeInfo;
use super::plugins::volume_binding::{Claims, VolumePlan};
use super::plugins::volume_limits::Brought;
use super::plugins::volume_restrictions::Exclusive;
use super::plugins::volume_zone::Zones;
use super::plugins::{Plugin, Refusal, inter_pod_affinity, node_affinity, topology_spread};
use super::pod::PodInfo;
use super::profile::Profile;
use super::snapshot::Snapshot;

/// What is known of a pod before any node is asked.
#[derive(Debug)]
pub struct Cycle<'a> {
    /// The pod.
    pub pod: &'a PodInfo,
    /// How it is scheduled.
    pub profile: &'a Profile,
    /// Slots of the only nodes that its terms name, if they name some.
    pub named: Option<Vec<u32>>,
    exclusive: Exclusive,
    brought: Option<Brought>,
    claims: Option<Claims>,
    zones: Option<Zones>,
    spread: topology_spread::Hard,
    inter: inter_pod_affinity::Required,
    /// Whether pods that come and go can matter to the claims, and to affinity: as
    /// upstream, a plugin that has nothing to say at first stays out of trials too.
    active: (bool, bool),
}

impl<'a> Cycle<'a> {
    /// Works out what can be before any node is asked; a refusal is one of all nodes.
    pub fn prepare(snapshot: &mut Snapshot, pod: &'a PodInfo, profile: &'a Profile) -> Result<Self, Refusal> {
        snapshot.sweep();
        snapshot.prepare_nominated();
        let on = |plugin| profile.has(plugin);
        let mut named = None;
        if on(Plugin::NodeAffinity)
            && let Some(names) = node_affinity::named_nodes(pod)?
        {
            named = Some(names.iter().filter_map(|name| snapshot.slot(name)).collect());
        }
        let mut cycle = Self {
            pod,
            profile,
            named,
            exclusive: Exclusive::default(),
            brought: None,
            claims: None,
            zones: None,
            spread: topology_spread::Hard::default(),
            inter: inter_pod_affinity::Required::default(),
            active: (false, false),
        };
        if !pod.mounts.is_empty() {
            if on(Plugin::VolumeRestrictions) {
                cycle.exclusive = Exclusive::prepare(snapshot, pod)?;
            }
            if on(Plugin::VolumeBinding) {
                cycle.claims = Some(Claims::prepare(snapshot, pod)?);
            }
            if on(Plugin::VolumeZone) {
                cycle.zones = Some(Zones::prepare(snapshot, pod)?);
            }
            if on(Plugin::NodeVolumeLimits) {
                cycle.brought = Some(Brought::prepare(snapshot, pod)?);
            }
        }
        if on(Plugin::PodTopologySpread) {
            cycle.spread = topology_spread::Hard::prepare(snapshot, pod, profile);
        }
        if on(Plugin::InterPodAffinity) {
            cycle.inter = inter_pod_affinity::Required::prepare(snapshot, pod);
        }
        cycle.active = (!pod.needs.disks.is_empty() || cycle.exclusive.in_use(), !cycle.inter.is_empty());
        Ok(cycle)
    }

    /// Asks every plugin about a node in the state of a trial.
    pub fn filter(&self, snapshot: &Snapshot, slot: u32, node: &NodeInfo) -> Result<(), Refusal> {
        local::check(&self.pod.needs, node, self.profile)?;
        self.filter_beyond(snapshot, slot, node)
    }

    /// Asks the plugins that look beyond the node.
    pub fn filter_beyond(&self, snapshot: &Snapshot, slot: u32, node: &NodeInfo) -> Result<(), Refusal> {
        if !self.pod.mounts.is_empty() {
            self.exclusive.filter()?;
            if let Some(brought) = &self.brought {
                brought.filter(snapshot, node)?;
            }
            self.volume_plan(snapshot, node)?;
            if let Some(zones) = &self.zones {
                zones.filter(&node.facts)?;
            }
        }
        if !self.spread.is_empty() {
            self.spread.filter(snapshot.topology(), slot)?;
        }
        if self.active.1 {
            self.inter.filter(snapshot.topology(), slot)?;
        }
        Ok(())
    }

    /// What has to be written for the pod's volumes before it goes to a node.
    pub fn volume_plan(&self, snapshot: &Snapshot, node: &NodeInfo) -> Result<VolumePlan, Refusal> {
        self.claims.as_ref().map_or_else(|| Ok(VolumePlan::default()), |one| one.plan(snapshot, &node.facts))
    }

    /// In a trial, a pod came to (`1`) or left (`-1`) the node in a slot.
    pub fn moved(&mut self, snapshot: &Snapshot, other: &PodInfo, slot: u32, by: i64) {
        if self.active.0 {
            self.exclusive.moved(other, by);
        }
        if !self.spread.is_empty() {
            let facts = &snapshot.at(slot).facts;
            self.spread.moved(self.pod, other, (snapshot.topology(), slot, facts), by);
        }
        if self.active.1 {
            self.inter.moved(self.pod, other, snapshot, slot, by);
        }
    }

    /// Asks about a node as it is in a trial, and as it would be with the pods that it
    /// is kept for and that the pod must yield to: both must do.
    pub fn filter_yielding(
        &mut self,
        snapshot: &Snapshot,
        slot: u32,
        node: &NodeInfo,
    ) -> Result<(), Refusal> {
        let pod = self.pod;
        let yields = |other: &&Arc<PodInfo>| other.priority >= pod.priority && other.uid != pod.uid;
        let first: Vec<Arc<PodInfo>> =
            snapshot.nominated_to(&node.facts.name).filter(yields).cloned().collect();
        if !first.is_empty() {
            let mut full = node.clone();
            for other in &first {
                full.add(other.clone());
                self.moved(snapshot, other, slot, 1);
            }
            let verdict = self.filter(snapshot, slot, &full);
            for other in &first {
                self.moved(snapshot, other, slot, -1);
            }
            verdict?;
        }
        self.filter(snapshot, slot, node)
    }
}
