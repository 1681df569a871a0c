//! Claims that have a volume, and those that get one when their pod is placed.

use std::sync::Arc;

use super::super::node::NodeFacts;
use super::super::pod::PodInfo;
use super::super::snapshot::Snapshot;
use super::super::volumes::{ClaimInfo, VolumeInfo};
use super::{Plugin, Refusal};

const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// The claims of a pod.
#[derive(Debug, Default)]
pub struct Claims {
    bound: Vec<Arc<ClaimInfo>>,
    /// Those that wait for the pod, the smallest first.
    waiting: Vec<Arc<ClaimInfo>>,
}

/// What has to be written before a pod is bound to a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VolumePlan {
    /// Volumes and the claims that they are to be bound to.
    pub bind: Vec<(Arc<VolumeInfo>, Arc<ClaimInfo>)>,
    /// Claims for which a volume is to be made on the node.
    pub provision: Vec<Arc<ClaimInfo>>,
}

impl VolumePlan {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

impl Claims {
    /// Looks the pod's claims up.
    pub fn prepare(snapshot: &Snapshot, pod: &PodInfo) -> Result<Self, Refusal> {
        let refuse = |reason: String| Err(Refusal::final_of(Plugin::VolumeBinding, reason));
        let mut claims = Self::default();
        let mut immediate = false;
        for mount in pod.mounts.iter() {
            let name = &mount.claim;
            let Some(claim) = snapshot.volumes().claim(&pod.namespace, name) else {
                return refuse(if mount.ephemeral {
                    format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                    )
                } else {
                    format!("persistentvolumeclaim {name:?} not found")
                });
            };
            if claim.lost {
                let volume = &claim.volume;
                return refuse(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.deleting {
                return refuse(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if mount.ephemeral && claim.controller.as_deref() != Some(&*pod.uid) {
                let (namespace, pod) = (&pod.namespace, &pod.name);
                return refuse(format!(
                    "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                ));
            }
            let waits = snapshot.volumes().classes.get(&claim.class).and_then(|class| class.waits);
            if claim.bound {
                claims.bound.push(claim.clone());
            } else if waits == Some(true) && claim.volume.is_empty() {
                claims.waiting.push(claim.clone());
            } else {
                immediate = true;
            }
        }
        if immediate {
            return refuse("pod has unbound immediate PersistentVolumeClaims".into());
        }
        claims.waiting.sort_by_key(|claim| claim.requested.unwrap_or(0));
        Ok(claims)
    }

    /// What would have to be done on a node; refuses those where it cannot be.
    pub fn plan(&self, snapshot: &Snapshot, node: &NodeFacts) -> Result<VolumePlan, Refusal> {
        let mut reasons = Vec::new();
        for claim in &self.bound {
            match snapshot.volumes().volumes.get(&claim.volume) {
                None => reasons.push(NO_VOLUME),
                Some(volume) if !volume.reaches(node) => reasons.push(NODE_CONFLICT),
                Some(_) => continue,
            }
            break;
        }
        let plan = self.plan_waiting(snapshot, node);
        if let Err(reason) = plan {
            // Upstream lists a missing volume last.
            reasons.insert(usize::from(reasons.first() == Some(&NODE_CONFLICT)), reason);
        }
        if reasons.is_empty() {
            return Ok(plan.unwrap_or_default());
        }
        let reasons = reasons.into_iter().map(Into::into).collect();
        Err(Refusal { plugin: Plugin::VolumeBinding, reasons, unresolvable: true })
    }

    fn plan_waiting(&self, snapshot: &Snapshot, node: &NodeFacts) -> Result<VolumePlan, &'static str> {
        let mut plan = VolumePlan::default();
        let elsewhere = |claim: &&Arc<ClaimInfo>| {
            claim.selected_node.as_ref().is_some_and(|selected| *selected != node.name)
        };
        if self.waiting.iter().any(|claim| elsewhere(&claim)) {
            return Err(BIND_CONFLICT);
        }
        let (selected, open): (Vec<_>, Vec<_>) =
            self.waiting.iter().partition(|claim| claim.selected_node.is_some());
        let mut provision: Vec<&Arc<ClaimInfo>> = selected;
        for claim in open {
            match matching(snapshot, claim, node, &plan.bind) {
                Some(volume) => plan.bind.push((volume, claim.clone())),
                None => provision.push(claim),
            }
        }
        for claim in provision {
            let class = snapshot.volumes().classes.get(&claim.class).ok_or(BIND_CONFLICT)?;
            let maker = &*class.provisioner;
            if maker.is_empty() || maker == "kubernetes.io/no-provisioner" || !class.serves(node) {
                return Err(BIND_CONFLICT);
            }
            if !has_space(snapshot, maker, claim, node) {
                return Err(NO_SPACE);
            }
            plan.provision.push(claim.clone());
        }
        Ok(plan)
    }
}

/// The smallest volume that will do, or the one that is kept for the claim.
fn matching(
    snapshot: &Snapshot,
    claim: &ClaimInfo,
    node: &NodeFacts,
    taken: &[(Arc<VolumeInfo>, Arc<ClaimInfo>)],
) -> Option<Arc<VolumeInfo>> {
    let mut smallest: Option<&Arc<VolumeInfo>> = None;
    let of_class = snapshot.volumes().volumes.values().filter(|volume| volume.class == claim.class);
    for volume in of_class {
        let usable = !taken.iter().any(|(one, _)| one.name == volume.name)
            && (volume.claim.is_none() || volume.is_for(claim))
            && volume.capacity >= claim.requested.unwrap_or(0)
            && volume.mode == claim.mode
            && volume.attributes_class == claim.attributes_class
            && !volume.deleting;
        if !usable {
            continue;
        }
        if volume.is_for(claim) {
            return volume.reaches(node).then(|| volume.clone());
        }
        let fits = volume.available
            && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels))
            && volume.reaches(node)
            && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode));
        if fits && smallest.is_none_or(|one| one.capacity > volume.capacity) {
            smallest = Some(volume);
        }
    }
    smallest.cloned()
}

/// Whether the driver has room for the claim, as far as it says.
fn has_space(snapshot: &Snapshot, driver: &str, claim: &ClaimInfo, node: &NodeFacts) -> bool {
    let Some(size) = claim.requested else { return true };
    let volumes = snapshot.volumes();
    if !volumes.tracking.get(driver).copied().unwrap_or(false) {
        return true;
    }
    volumes.capacities.values().any(|capacity| {
        capacity.class == claim.class
            && capacity.limit.is_some_and(|limit| limit >= size)
            && capacity.nodes.as_ref().is_some_and(|nodes| nodes.matches(&node.labels))
    })
}
