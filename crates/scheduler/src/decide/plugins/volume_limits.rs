//! How many volumes of a driver a node takes (CSINode).

use std::collections::{BTreeMap, BTreeSet};

use super::super::node::NodeInfo;
use super::super::pod::PodInfo;
use super::super::snapshot::Snapshot;
use super::{Plugin, Refusal};

/// Driver and handle of a volume, or of one that is still to be made.
type VolumeId = (Box<str>, String);

/// The volumes that a pod brings.
#[derive(Debug, Default)]
pub struct Brought {
    volumes: BTreeSet<VolumeId>,
}

impl Brought {
    /// Looks the pod's volumes up.
    pub fn prepare(snapshot: &Snapshot, pod: &PodInfo) -> Result<Self, Refusal> {
        for mount in pod.mounts.iter() {
            if snapshot.volumes().claim(&pod.namespace, &mount.claim).is_none() {
                let (namespace, claim) = (&pod.namespace, &mount.claim);
                let reason =
                    format!("looking up PVC {namespace}/{claim}: persistentvolumeclaim {claim:?} not found");
                return Err(Refusal::final_of(Plugin::NodeVolumeLimits, reason));
            }
        }
        Ok(Self { volumes: of(snapshot, pod) })
    }

    /// Refuses nodes that would have too many.
    pub fn filter(&self, snapshot: &Snapshot, node: &NodeInfo) -> Result<(), Refusal> {
        let all = snapshot.volumes();
        let Some(limits) = all.limits.get(&node.facts.name).filter(|limits| !limits.is_empty()) else {
            return Ok(());
        };
        if self.volumes.is_empty() {
            return Ok(());
        }
        let mut there: BTreeSet<VolumeId> = node.pods.iter().flat_map(|pod| of(snapshot, pod)).collect();
        let new: Vec<&VolumeId> = self.volumes.iter().filter(|volume| !there.contains(volume)).collect();
        let attached = all.attachments.values().filter(|one| one.node == node.facts.name);
        there.extend(attached.filter_map(|one| {
            let (_, handle) = all.volumes.get(one.volume.as_ref()?)?.csi.as_ref()?;
            Some((one.attacher.clone(), handle.to_string()))
        }));
        let mut counts: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        there.iter().for_each(|(driver, _)| counts.entry(driver).or_default().0 += 1);
        new.iter().for_each(|(driver, _)| counts.entry(driver).or_default().1 += 1);
        let over = |driver: &str, (held, new): (i64, i64)| {
            new > 0 && limits.get(driver).is_some_and(|limit| held + new > *limit)
        };
        if counts.into_iter().any(|(driver, count)| over(driver, count)) {
            let reason = "node(s) exceed max volume count";
            return Err(Refusal::of(Plugin::NodeVolumeLimits, reason));
        }
        Ok(())
    }
}

/// The volumes of a pod's claims that a driver attaches.
fn of(snapshot: &Snapshot, pod: &PodInfo) -> BTreeSet<VolumeId> {
    let all = snapshot.volumes();
    let mut found = BTreeSet::new();
    for mount in pod.mounts.iter() {
        let Some(claim) = all.claim(&pod.namespace, &mount.claim) else { continue };
        if mount.ephemeral && claim.controller.as_deref() != Some(&*pod.uid) {
            continue;
        }
        match all.volumes.get(&claim.volume) {
            Some(volume) => {
                found
                    .extend(volume.csi.as_ref().map(|(driver, handle)| (driver.clone(), handle.to_string())));
            }
            // One volume per claim will be made by the driver of its class.
            None => {
                found.extend(all.classes.get(&claim.class).map(|class| {
                    (class.provisioner.clone(), format!("\0{}/{}", claim.namespace, claim.name))
                }))
            }
        }
    }
    found
}
