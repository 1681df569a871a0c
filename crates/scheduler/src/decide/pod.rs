//! What the scheduler keeps of a pod.
//!
//! What a single node can be asked about is a [`Needs`], shared by all pods that say
//! the same: thousands of replicas cost one.

use std::sync::Arc;

use carrack_api::{Key, Record, Value};

use super::affinity::Affinity;
use super::labels::LabelSet;
use super::node::Taint;
use super::resources::{Purpose, Resources, is_resized, pod_requests};
use super::spreading::SpreadConstraint;
use super::terms::PodTerms;
use super::volumes::{Disk, Mount};

/// A small projection of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: Arc<str>,
    /// Labels.
    pub labels: LabelSet,
    /// Its controller: group, kind and name.
    pub controller: Option<(Box<str>, Box<str>, Box<str>)>,
    /// Generation, for the condition that is written.
    pub generation: i64,
    /// Revision of the record.
    pub revision: u64,
    /// Higher goes first.
    pub priority: i64,
    /// Whether it may evict pods of lower priority.
    pub preempts: bool,
    /// `spec.nodeName`: set once it is bound.
    pub node_name: String,
    /// `status.nominatedNodeName`: where room is being made for it.
    pub nominated: String,
    /// `spec.schedulerName`: the profile that it wants.
    pub scheduler: String,
    /// What it waits for before it may be scheduled.
    pub gates: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is being deleted to make room for another.
    pub preempted: bool,
    /// Whether it has ended and holds nothing any more.
    pub terminal: bool,
    /// `status.startTime` in seconds since 1970.
    pub started: Option<i64>,
    /// What it wants of one node.
    pub needs: Arc<Needs>,
    /// What it holds, where its status says otherwise than its spec: for filters and
    /// for scores.
    pub resized: Option<Box<(Resources, Resources)>>,
    /// What it says about other pods.
    pub terms: Arc<PodTerms>,
    /// How it is spread.
    pub spread: Arc<[SpreadConstraint]>,
    /// Claims that it mounts.
    pub mounts: Arc<[Mount]>,
    /// Status, reason and message of its PodScheduled condition.
    pub condition: Option<(String, String, String)>,
}

/// What a pod wants that a node can be asked about alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// What it asks for.
    pub requests: Resources,
    /// What it counts as on a node when others are scored.
    pub weight: Resources,
    /// What it counts as when it is scored itself.
    pub wish: Resources,
    /// Ports of the node that it needs.
    pub host_ports: Vec<HostPort>,
    /// What it wants of its node.
    pub affinity: Affinity,
    /// What it tolerates.
    pub tolerations: Vec<Toleration>,
    /// Images of its containers and volumes, tagged.
    pub images: Vec<Box<str>>,
    /// How many containers it has, those that initialise it included.
    pub containers: usize,
    /// Disks that two pods of a node cannot share.
    pub disks: Vec<Disk>,
}

/// A port of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number.
    pub port: i64,
}

/// A toleration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Key; empty with `Exists` for all.
    pub key: String,
    /// `Equal`, `Exists`; empty means `Equal`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; empty for all.
    pub effect: String,
}

impl PodInfo {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode_lean();
        let (spec, status) = (&object["spec"], &object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let condition = |kind: &str| list(&status["conditions"]).find(|one| one["type"] == kind);
        let header = record.header();
        let namespace: Arc<str> = record.key.namespace().into();
        let preempted = condition("DisruptionTarget")
            .is_some_and(|one| one["status"] == "True" && one["reason"] == "PreemptionByScheduler");
        let resized = is_resized(status).then(|| {
            Box::new((
                pod_requests(spec, Some(status), Purpose::Fit),
                pod_requests(spec, Some(status), Purpose::Hold),
            ))
        });
        let needs = Needs::read(spec);
        let gates = list(&spec["schedulingGates"]).map(|gate| text(&gate["name"]));
        Self {
            name: record.key.name().into(),
            uid: (&*header.uid).into(),
            labels: header.labels.iter().map(|(key, value)| (&**key, &**value)).collect(),
            controller: header.controller().map(|owner| {
                let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
                (group.into(), owner.kind.clone(), owner.name.clone())
            }),
            generation: header.generation,
            revision: record.revision,
            priority: spec["priority"].as_i64().unwrap_or(0),
            preempts: spec["preemptionPolicy"] != "Never",
            node_name: text(&spec["nodeName"]),
            nominated: text(&status["nominatedNodeName"]),
            scheduler: text(&spec["schedulerName"]),
            gates: gates.collect(),
            deleting: header.deleting,
            preempted,
            terminal: matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
            started: status["startTime"].as_str().and_then(seconds),
            resized: resized.filter(|held| (&held.0, &held.1) != (&needs.requests, &needs.weight)),
            needs: Arc::new(needs),
            terms: Arc::new(PodTerms::read(&spec["affinity"], &namespace)),
            spread: list(&spec["topologySpreadConstraints"]).map(SpreadConstraint::read).collect(),
            mounts: list(&spec["volumes"]).filter_map(|one| Mount::read(one, record.key.name())).collect(),
            condition: condition("PodScheduled")
                .map(|c| (text(&c["status"]), text(&c["reason"]), text(&c["message"]))),
            namespace,
        }
    }

    /// Store key.
    pub fn key(&self) -> Key {
        Key::new("pods", &self.namespace, &self.name)
    }

    /// What it holds of its node.
    pub fn requests(&self) -> &Resources {
        self.resized.as_ref().map_or(&self.needs.requests, |held| &held.0)
    }

    /// What it counts as on its node when scoring.
    pub fn weight(&self) -> &Resources {
        self.resized.as_ref().map_or(&self.needs.weight, |held| &held.1)
    }

    /// Whether it still has to be placed.
    pub fn pending(&self) -> bool {
        self.node_name.is_empty() && !(self.deleting || self.terminal)
    }

    /// Whether it is on a node, or a node is kept for it: then others may notice it.
    pub fn settled(&self) -> bool {
        !(self.node_name.is_empty() && self.nominated.is_empty())
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.needs.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

impl Needs {
    /// Reads a pod's spec.
    pub fn read(spec: &Value) -> Self {
        let all = list(&spec["initContainers"]).chain(list(&spec["containers"]));
        Self {
            requests: pod_requests(spec, None, Purpose::Fit),
            weight: pod_requests(spec, None, Purpose::Hold),
            wish: pod_requests(spec, None, Purpose::Score),
            host_ports: host_ports(spec),
            affinity: Affinity::read(spec),
            tolerations: list(&spec["tolerations"]).map(Toleration::read).collect(),
            images: images(spec),
            containers: all.count(),
            disks: list(&spec["volumes"]).filter_map(Disk::read).collect(),
        }
    }
}

impl Toleration {
    fn read(toleration: &Value) -> Self {
        let text = |field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
        Self { key: text("key"), operator: text("operator"), value: text("value"), effect: text("effect") }
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => self.value == taint.value,
            _ => false,
        }
    }
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let everywhere = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || everywhere(&self.ip) || everywhere(&other.ip))
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

fn host_ports(spec: &Value) -> Vec<HostPort> {
    let sidecars = list(&spec["initContainers"]).filter(|container| container["restartPolicy"] == "Always");
    let ports = list(&spec["containers"]).chain(sidecars).flat_map(|container| list(&container["ports"]));
    let or = |value: &Value, default: &str| match value.as_str() {
        None | Some("") => default.to_owned(),
        Some(text) => text.to_owned(),
    };
    let port = |port: &Value| {
        let number = port["hostPort"].as_i64().filter(|number| *number > 0)?;
        Some(HostPort {
            ip: or(&port["hostIP"], "0.0.0.0"),
            protocol: or(&port["protocol"], "TCP"),
            port: number,
        })
    };
    ports.filter_map(port).collect()
}

fn images(spec: &Value) -> Vec<Box<str>> {
    let containers = list(&spec["initContainers"]).chain(list(&spec["containers"]));
    let of_containers = containers.filter_map(|container| container["image"].as_str());
    let of_volumes = list(&spec["volumes"]).filter_map(|volume| volume["image"]["reference"].as_str());
    of_containers.chain(of_volumes).map(tagged).collect()
}

/// `nginx` → `nginx:latest`; a tag or digest stays.
fn tagged(image: &str) -> Box<str> {
    let (colon, slash) = (image.rfind(':'), image.rfind('/'));
    if colon <= slash { format!("{image}:latest").into() } else { image.into() }
}
