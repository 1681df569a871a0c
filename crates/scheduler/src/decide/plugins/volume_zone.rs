//! Zones and regions that volumes are labelled with.

use super::super::node::NodeFacts;
use super::super::pod::PodInfo;
use super::super::snapshot::Snapshot;
use super::{Plugin, Refusal};

const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// What a node must be labelled with: the label, its name today, and the values.
#[derive(Debug)]
struct Zone {
    key: &'static str,
    today: &'static str,
    values: Vec<Box<str>>,
}

/// The zones of a pod's volumes.
#[derive(Debug, Default)]
pub struct Zones(Vec<Zone>);

impl Zones {
    /// Looks the pod's volumes up.
    pub fn prepare(snapshot: &Snapshot, pod: &PodInfo) -> Result<Self, Refusal> {
        let refuse = |reason: String| Err(Refusal::final_of(Plugin::VolumeZone, reason));
        let volumes = snapshot.volumes();
        let mut zones = Vec::new();
        for mount in pod.mounts.iter().filter(|mount| !mount.ephemeral) {
            if mount.claim.is_empty() {
                return refuse("PersistentVolumeClaim had no name".into());
            }
            let Some(claim) = volumes.claim(&pod.namespace, &mount.claim) else {
                return refuse(format!("persistentvolumeclaim {:?} not found", mount.claim));
            };
            if claim.volume.is_empty() {
                if claim.class.is_empty() {
                    return refuse("PersistentVolumeClaim had no pv name and storageClass name".into());
                }
                let Some(class) = volumes.classes.get(&claim.class) else {
                    let reason = format!("storageclass.storage.k8s.io {:?} not found", claim.class);
                    return refuse(reason);
                };
                match class.waits {
                    None => {
                        let class = &claim.class;
                        return refuse(format!("VolumeBindingMode not set for StorageClass {class:?}"));
                    }
                    Some(true) => continue,
                    Some(false) => return refuse("PersistentVolume had no name".into()),
                }
            }
            let Some(volume) = volumes.volumes.get(&claim.volume) else {
                return refuse(format!("persistentvolume {:?} not found", claim.volume));
            };
            for (key, today) in LABELS {
                let Some(value) = volume.labels.get(key) else { continue };
                let values: Vec<Box<str>> = value.split("__").map(|one| one.trim().into()).collect();
                // A list with a hole in it is taken for no list.
                if values.iter().all(|value| !value.is_empty()) {
                    zones.push(Zone { key, today, values });
                }
            }
        }
        Ok(Self(zones))
    }

    /// Refuses nodes in other zones; nodes that say nothing of zones are in all.
    pub fn filter(&self, node: &NodeFacts) -> Result<(), Refusal> {
        if self.0.is_empty() || LABELS.iter().all(|(key, _)| node.labels.get(key).is_none()) {
            return Ok(());
        }
        let fits = |zone: &Zone| {
            let value = node.labels.get(zone.key).or_else(|| node.labels.get(zone.today));
            value.is_some_and(|value| zone.values.iter().any(|one| **one == *value))
        };
        if self.0.iter().all(fits) {
            return Ok(());
        }
        Err(Refusal::final_of(Plugin::VolumeZone, "node(s) had no available volume zone"))
    }
}
