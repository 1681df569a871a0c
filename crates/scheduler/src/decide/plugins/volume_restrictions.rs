//! Disks that pods of a node cannot share, and claims that only one pod may use.

use std::sync::Arc;

use super::super::node::NodeInfo;
use super::super::pod::{Needs, PodInfo};
use super::super::snapshot::Snapshot;
use super::super::volumes::ClaimInfo;
use super::{Plugin, Refusal};

const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

/// Claims that only the pod may use, and how many others do.
#[derive(Debug, Default)]
pub struct Exclusive {
    claims: Vec<Arc<ClaimInfo>>,
    uses: i64,
}

/// Refuses nodes where another pod has a wanted disk.
pub fn filter(needs: &Needs, node: &NodeInfo) -> Result<(), Refusal> {
    let taken = |wanted| node.pods.iter().flat_map(|pod| &pod.needs.disks).any(|held| held.conflicts(wanted));
    if needs.disks.iter().any(taken) {
        return Err(Refusal::of(Plugin::VolumeRestrictions, "node(s) had no available disk"));
    }
    Ok(())
}

impl Exclusive {
    /// Looks the pod's claims up; refuses when one is not there.
    pub fn prepare(snapshot: &Snapshot, pod: &PodInfo) -> Result<Self, Refusal> {
        let mut claims: Vec<Arc<ClaimInfo>> = Vec::new();
        for mount in pod.mounts.iter().filter(|mount| !mount.ephemeral) {
            let claim = snapshot.volumes().claim(&pod.namespace, &mount.claim).ok_or_else(|| {
                let reason = format!("persistentvolumeclaim {:?} not found", mount.claim);
                Refusal::final_of(Plugin::VolumeRestrictions, reason)
            })?;
            if claim.is_exclusive() && !claims.contains(claim) {
                claims.push(claim.clone());
            }
        }
        let used = |claim: &&Arc<ClaimInfo>| snapshot.claim_users(&claim.namespace, &claim.name) > 0;
        let uses = claims.iter().filter(used).count() as i64;
        Ok(Self { claims, uses })
    }

    /// Whether another pod uses a claim.
    pub fn in_use(&self) -> bool {
        self.uses > 0
    }

    /// Refuses every node while another pod uses a claim.
    pub fn filter(&self) -> Result<(), Refusal> {
        if self.uses > 0 { Err(Refusal::of(Plugin::VolumeRestrictions, IN_USE)) } else { Ok(()) }
    }

    /// In a trial, `other` came (`1`) or left (`-1`).
    pub fn moved(&mut self, other: &PodInfo, by: i64) {
        let wanted = |claim: &Arc<ClaimInfo>| {
            *claim.namespace == *other.namespace
                && other.mounts.iter().any(|mount| !mount.ephemeral && mount.claim == claim.name)
        };
        self.uses += by * self.claims.iter().filter(|claim| wanted(claim)).count() as i64;
    }
}
