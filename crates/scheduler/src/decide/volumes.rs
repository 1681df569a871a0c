//! Storage as far as the scheduler looks at it: claims, volumes, classes, and what
//! nodes and drivers say. Projections of objects, kept as they come.
//!
//! Volumes of in-tree drivers are taken as they are; they are not translated to CSI.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use carrack_api::quantity::Quantity;
use carrack_api::{Record, Value};

use super::affinity::NodeTerm;
use super::labels::{LabelSet, Selector};
use super::node::NodeFacts;

/// A disk that two pods of one node cannot both have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disk {
    kind: &'static str,
    /// What makes it the same disk.
    id: Vec<String>,
    /// Ceph monitors, of which one must be shared.
    monitors: Vec<String>,
    /// Whether it may be shared by those that only read.
    read_only: bool,
}

/// A claim that a pod mounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// Name of the claim.
    pub claim: Box<str>,
    /// Whether it is made for the pod, and must be its own.
    pub ephemeral: bool,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the fields are those of the object")]
pub struct ClaimInfo {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    /// Uid of its controller.
    pub controller: Option<Box<str>>,
    pub class: Box<str>,
    pub volume: Box<str>,
    /// Whether the binding to the volume is complete.
    pub bound: bool,
    pub lost: bool,
    pub deleting: bool,
    pub access_modes: Vec<Box<str>>,
    pub mode: Box<str>,
    /// Bytes; `None` when nothing is requested.
    pub requested: Option<i64>,
    pub selector: Option<Selector>,
    pub attributes_class: Box<str>,
    /// Node for which a volume is being made.
    pub selected_node: Option<Box<str>>,
    pub revision: u64,
}

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the fields are those of the object")]
pub struct VolumeInfo {
    pub name: Box<str>,
    pub class: Box<str>,
    /// Namespace, name and uid of the claim that it is bound to, or kept for.
    pub claim: Option<(Box<str>, Box<str>, Box<str>)>,
    pub capacity: i64,
    pub mode: Box<str>,
    pub access_modes: Vec<Box<str>>,
    pub attributes_class: Box<str>,
    pub deleting: bool,
    pub available: bool,
    pub labels: LabelSet,
    /// Nodes that reach it; `None` for all.
    pub nodes: Option<Arc<[NodeTerm]>>,
    /// Driver and handle.
    pub csi: Option<(Box<str>, Box<str>)>,
    pub revision: u64,
}

/// Labels with the values that a node may have; all must hold.
pub type TopologyTerm = Vec<(Box<str>, Vec<Box<str>>)>;

/// A StorageClass.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the fields are those of the object")]
pub struct ClassInfo {
    pub provisioner: Box<str>,
    /// Whether claims wait for their first pod; `None` when it is not said.
    pub waits: Option<bool>,
    /// One of them must hold, if there are any.
    pub topologies: Vec<TopologyTerm>,
}

/// A CSIStorageCapacity.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the fields are those of the object")]
pub struct CapacityInfo {
    pub class: Box<str>,
    pub limit: Option<i64>,
    pub nodes: Option<Selector>,
}

/// A VolumeAttachment.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the fields are those of the object")]
pub struct AttachmentInfo {
    pub node: Box<str>,
    pub attacher: Box<str>,
    pub volume: Option<Box<str>>,
}

/// All of it.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the fields are the kinds")]
pub struct Volumes {
    /// By namespace and name.
    pub claims: HashMap<(Box<str>, Box<str>), Arc<ClaimInfo>>,
    pub volumes: BTreeMap<Box<str>, Arc<VolumeInfo>>,
    pub classes: HashMap<Box<str>, ClassInfo>,
    /// Limits by driver, by node.
    pub limits: HashMap<Box<str>, BTreeMap<Box<str>, i64>>,
    /// Drivers that say what capacity they have left.
    pub tracking: HashMap<Box<str>, bool>,
    pub capacities: HashMap<Box<str>, CapacityInfo>,
    pub attachments: HashMap<Box<str>, AttachmentInfo>,
}

fn text(value: &Value) -> Box<str> {
    value.as_str().unwrap_or_default().into()
}

fn texts(value: &Value) -> Vec<Box<str>> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn amount(value: &Value) -> Option<i64> {
    let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Quantity::parse(&written).ok().map(|quantity| quantity.value())
}

fn or(value: &Value, default: &str) -> Box<str> {
    value.as_str().filter(|one| !one.is_empty()).unwrap_or(default).into()
}

/// The class of a claim or volume: the old annotation, or the field.
fn class(object: &Value) -> Box<str> {
    let old = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    if old.is_string() { text(old) } else { text(&object["spec"]["storageClassName"]) }
}

impl Disk {
    /// Reads a volume of a pod.
    pub fn read(volume: &Value) -> Option<Self> {
        let own = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let disk = |kind, source: &Value, ids: Vec<String>| Self {
            kind,
            id: ids,
            monitors: Vec::new(),
            read_only: source["readOnly"].as_bool().unwrap_or(false),
        };
        let (gce, ebs) = (&volume["gcePersistentDisk"], &volume["awsElasticBlockStore"]);
        let (iscsi, rbd) = (&volume["iscsi"], &volume["rbd"]);
        if !gce.is_null() {
            Some(disk("gce", gce, vec![own(&gce["pdName"])]))
        } else if !ebs.is_null() {
            // Never shared, not even by readers.
            Some(Self { read_only: false, ..disk("ebs", ebs, vec![own(&ebs["volumeID"])]) })
        } else if !iscsi.is_null() {
            Some(disk("iscsi", iscsi, vec![own(&iscsi["iqn"])]))
        } else if !rbd.is_null() {
            let monitors = texts(&rbd["monitors"]).into_iter().map(String::from).collect();
            let id = vec![or(&rbd["pool"], "rbd").into(), own(&rbd["image"])];
            Some(Self { monitors, ..disk("rbd", rbd, id) })
        } else {
            None
        }
    }

    /// Whether two pods cannot both have it on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.id == other.id
            && (self.kind != "rbd" || self.monitors.iter().any(|one| other.monitors.contains(one)))
            && !(self.read_only && other.read_only)
    }
}

impl Mount {
    /// Reads a volume of a pod.
    pub fn read(volume: &Value, pod: &str) -> Option<Self> {
        let named = &volume["persistentVolumeClaim"];
        if !named.is_null() {
            return Some(Self { claim: text(&named["claimName"]), ephemeral: false });
        }
        let made = !volume["ephemeral"].is_null();
        let name = volume["name"].as_str().unwrap_or_default();
        made.then(|| Self { claim: format!("{pod}-{name}").into(), ephemeral: true })
    }
}

impl ClaimInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode();
        let (spec, notes) = (&object["spec"], &object["metadata"]["annotations"]);
        let volume = text(&spec["volumeName"]);
        let header = record.header();
        Self {
            namespace: record.key.namespace().into(),
            name: record.key.name().into(),
            uid: header.uid.clone(),
            controller: header.controller().map(|owner| owner.uid.clone()),
            class: class(&object),
            bound: !volume.is_empty() && !notes["pv.kubernetes.io/bind-completed"].is_null(),
            volume,
            lost: object["status"]["phase"] == "Lost",
            deleting: header.deleting,
            access_modes: texts(&spec["accessModes"]),
            mode: or(&spec["volumeMode"], "Filesystem"),
            requested: amount(&spec["resources"]["requests"]["storage"]),
            selector: (!spec["selector"].is_null()).then(|| Selector::read(&spec["selector"])),
            attributes_class: text(&spec["volumeAttributesClassName"]),
            selected_node: notes["volume.kubernetes.io/selected-node"].as_str().map(Into::into),
            revision: record.revision,
        }
    }

    /// Whether only one pod may use it.
    pub fn is_exclusive(&self) -> bool {
        self.access_modes.iter().any(|mode| &**mode == "ReadWriteOncePod")
    }
}

impl VolumeInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode();
        let spec = &object["spec"];
        let (claim, csi) = (&spec["claimRef"], &spec["csi"]);
        let terms = spec["nodeAffinity"]["required"]["nodeSelectorTerms"].as_array();
        Self {
            name: record.key.name().into(),
            class: class(&object),
            claim: (!claim.is_null())
                .then(|| (text(&claim["namespace"]), text(&claim["name"]), text(&claim["uid"]))),
            capacity: amount(&spec["capacity"]["storage"]).unwrap_or(0),
            mode: or(&spec["volumeMode"], "Filesystem"),
            access_modes: texts(&spec["accessModes"]),
            attributes_class: text(&spec["volumeAttributesClassName"]),
            deleting: record.header().deleting,
            available: object["status"]["phase"] == "Available",
            labels: record.header().labels.iter().map(|(key, value)| (&**key, &**value)).collect(),
            nodes: terms.map(|terms| terms.iter().map(NodeTerm::read).collect()),
            csi: (!csi.is_null()).then(|| (text(&csi["driver"]), text(&csi["volumeHandle"]))),
            revision: record.revision,
        }
    }

    /// Whether a node reaches it.
    pub fn reaches(&self, node: &NodeFacts) -> bool {
        self.nodes.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// Whether it is bound to a claim, or kept for it.
    pub fn is_for(&self, claim: &ClaimInfo) -> bool {
        self.claim.as_ref().is_some_and(|(namespace, name, uid)| {
            *namespace == claim.namespace && *name == claim.name && (uid.is_empty() || *uid == claim.uid)
        })
    }
}

impl ClassInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let label = |one: &Value| (text(&one["key"]), texts(&one["values"]));
        let term = |term: &Value| list(&term["matchLabelExpressions"]).iter().map(label).collect();
        Self {
            provisioner: text(&object["provisioner"]),
            waits: object["volumeBindingMode"].as_str().map(|mode| mode == "WaitForFirstConsumer"),
            topologies: list(&object["allowedTopologies"]).iter().map(term).collect(),
        }
    }

    /// Whether volumes for a node can be made.
    pub fn serves(&self, node: &NodeFacts) -> bool {
        let holds = |(key, values): &(Box<str>, Vec<Box<str>>)| {
            node.labels.get(key).is_some_and(|value| values.iter().any(|one| **one == *value))
        };
        let any = |term: &TopologyTerm| !term.is_empty() && term.iter().all(holds);
        self.topologies.is_empty() || self.topologies.iter().any(any)
    }
}

impl CapacityInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode();
        let nodes = &object["nodeTopology"];
        Self {
            class: text(&object["storageClassName"]),
            limit: amount(&object["maximumVolumeSize"]).or_else(|| amount(&object["capacity"])),
            nodes: (!nodes.is_null()).then(|| Selector::read(nodes)),
        }
    }
}

impl AttachmentInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let spec = &record.decode()["spec"];
        Self {
            node: text(&spec["nodeName"]),
            attacher: text(&spec["attacher"]),
            volume: spec["source"]["persistentVolumeName"].as_str().map(Into::into),
        }
    }
}

/// Limits of a CSINode, by driver.
pub fn read_limits(record: &Record) -> BTreeMap<Box<str>, i64> {
    let object = record.decode();
    let drivers = object["spec"]["drivers"].as_array().cloned().unwrap_or_default();
    let limit = |driver: &Value| Some((text(&driver["name"]), driver["allocatable"]["count"].as_i64()?));
    drivers.iter().filter_map(limit).collect()
}

impl Volumes {
    /// A claim by namespace and name.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<ClaimInfo>> {
        self.claims.get(&(Box::from(namespace), Box::from(name)))
    }
}
