//! Which node has to do with which object: through the pods bound to it, the claims of
//! those, and the volumes bound to the claims.

use std::collections::HashMap;

use carrack_api::{Header, Record};

use super::references::{self, text};
use crate::auth::follow::Index;

const VOLUMES: &str = "persistentvolumes";
const ATTACHMENTS: &str = "volumeattachments.storage.k8s.io";
const SLICES: &str = "resourceslices.resource.k8s.io";

/// Kinds of objects whose readers are found through pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Secret,
    ConfigMap,
    ServiceAccount,
    VolumeClaim,
    ResourceClaim,
}

type Object = (Of, Box<str>, Box<str>);
type Named = (Box<str>, Box<str>);

/// The graph. Pods of no node are not in it.
#[derive(Default)]
pub(super) struct Graph {
    pods: HashMap<Named, Pod>,
    /// How many pods of which node refer to an object.
    readers: HashMap<Object, HashMap<Box<str>, u32>>,
    volumes: HashMap<Box<str>, Volume>,
    /// Names of the volumes that need a secret.
    volume_secrets: HashMap<Named, Vec<Box<str>>>,
    /// Node of an attachment or a resource slice.
    attachments: HashMap<Box<str>, Box<str>>,
    slices: HashMap<Box<str>, Box<str>>,
}

struct Pod {
    node: Box<str>,
    /// What the pod's header said when its references were read: they are read again
    /// only when it says something else.
    uid: Box<str>,
    generation: i64,
    fields: Box<[Box<str>]>,
    objects: Vec<Object>,
    /// Its claims are named in its status, which no header tells of.
    claims_in_status: bool,
}

struct Volume {
    claim: Named,
    secrets: Vec<Named>,
}

// === impl Graph ===

impl Index for Graph {
    const RESOURCES: &'static [&'static str] = &["pods", VOLUMES, ATTACHMENTS, SLICES];

    fn apply(&mut self, record: &Record, gone: bool) {
        match record.key.resource() {
            "pods" => self.apply_pod(record, gone),
            VOLUMES => self.apply_volume(record, gone),
            resource => {
                let node = || -> Option<Box<str>> {
                    let object = record.decode();
                    Some(text(&object, "/spec/nodeName")?.into())
                };
                let node = if gone { None } else { node() };
                let map = if resource == SLICES { &mut self.slices } else { &mut self.attachments };
                match node {
                    Some(node) => _ = map.insert(record.key.name().into(), node),
                    None => _ = map.remove(record.key.name()),
                }
            }
        }
    }
}

impl Graph {
    /// Whether the pod is bound to the node.
    pub(super) fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.pods.get(&(namespace.into(), name.into())).is_some_and(|pod| &*pod.node == node)
    }

    /// Whether a pod bound to the node refers to the object, itself or through a volume.
    pub(super) fn reads(&self, node: &str, of: Of, namespace: &str, name: &str) -> bool {
        let object = (of, namespace.into(), name.into());
        if self.readers.get(&object).is_some_and(|nodes| nodes.contains_key(node)) {
            return true;
        }
        let volumes = match of {
            Of::Secret => self.volume_secrets.get(&(object.1, object.2)),
            _ => None,
        };
        volumes.into_iter().flatten().any(|volume| self.mounts(node, volume))
    }

    /// Whether a pod bound to the node uses the claim that the volume is bound to.
    pub(super) fn mounts(&self, node: &str, volume: &str) -> bool {
        self.volumes.get(volume).is_some_and(|volume| {
            let (namespace, name) = volume.claim.clone();
            let nodes = self.readers.get(&(Of::VolumeClaim, namespace, name));
            nodes.is_some_and(|nodes| nodes.contains_key(node))
        })
    }

    /// Whether the attachment is of the node.
    pub(super) fn attaches(&self, node: &str, name: &str) -> bool {
        self.attachments.get(name).is_some_and(|of| &**of == node)
    }

    /// Whether the resource slice is of the node.
    pub(super) fn offers(&self, node: &str, name: &str) -> bool {
        self.slices.get(name).is_some_and(|of| &**of == node)
    }

    fn apply_pod(&mut self, record: &Record, gone: bool) {
        let key: Named = (record.key.namespace().into(), record.key.name().into());
        let header = record.header();
        if !gone && self.pods.get(&key).is_some_and(|pod| pod.is_still(header)) {
            return;
        }
        if let Some(pod) = self.pods.remove(&key) {
            for object in &pod.objects {
                self.forget(object, &pod.node);
            }
        }
        if gone {
            return;
        }
        let Some(pod) = Pod::read(record) else { return };
        for object in &pod.objects {
            *self.readers.entry(object.clone()).or_default().entry(pod.node.clone()).or_default() += 1;
        }
        self.pods.insert(key, pod);
    }

    fn forget(&mut self, object: &Object, node: &str) {
        let Some(nodes) = self.readers.get_mut(object) else { return };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.readers.remove(object);
        }
    }

    fn apply_volume(&mut self, record: &Record, gone: bool) {
        let name = record.key.name();
        if let Some(volume) = self.volumes.remove(name) {
            for secret in &volume.secrets {
                if let Some(volumes) = self.volume_secrets.get_mut(secret) {
                    volumes.retain(|volume| &**volume != name);
                    if volumes.is_empty() {
                        self.volume_secrets.remove(secret);
                    }
                }
            }
        }
        if gone {
            return;
        }
        let object = record.decode();
        let Some(claim) = text(&object, "/spec/claimRef/name") else { return };
        let namespace = text(&object, "/spec/claimRef/namespace").unwrap_or_default();
        let secrets: Vec<Named> = references::volume_secrets(&object)
            .into_iter()
            .map(|(namespace, secret)| (namespace.into(), secret.into()))
            .collect();
        for secret in &secrets {
            self.volume_secrets.entry(secret.clone()).or_default().push(name.into());
        }
        self.volumes.insert(name.into(), Volume { claim: (namespace.into(), claim.into()), secrets });
    }
}

impl Pod {
    fn read(record: &Record) -> Option<Self> {
        let pod = record.decode();
        let header = record.header();
        let namespace = record.key.namespace();
        let node = text(&pod, "/spec/nodeName")?.into();
        let mut objects = Vec::new();
        let mut add = |of: Of, name: &str| objects.push((of, namespace.into(), name.into()));
        // A node must never make a pod that lets it read more; admission refuses such
        // pods, and here their references do not count either.
        if !references::is_mirror(&pod) {
            text(&pod, "/spec/serviceAccountName").into_iter().for_each(|n| add(Of::ServiceAccount, n));
            references::secrets(&pod).into_iter().for_each(|name| add(Of::Secret, name));
            references::config_maps(&pod).into_iter().for_each(|name| add(Of::ConfigMap, name));
            references::volume_claims(&pod).iter().for_each(|name| add(Of::VolumeClaim, name));
            references::resource_claims(&pod).into_iter().for_each(|name| add(Of::ResourceClaim, name));
        }
        Some(Self {
            node,
            uid: header.uid.clone(),
            generation: header.generation,
            fields: header.fields.clone(),
            objects,
            claims_in_status: references::items(&pod, "/spec/resourceClaims").next().is_some()
                || pod.pointer("/status/extendedResourceClaimStatus").is_some(),
        })
    }

    fn is_still(&self, header: &Header) -> bool {
        !self.claims_in_status
            && self.uid == header.uid
            && self.generation == header.generation
            && self.fields == header.fields
    }
}
