//! What the scheduler keeps of a pod.

use std::sync::Arc;

use carrack_api::{Key, Record, Value};

use super::affinity::Affinity;
use super::node::Taint;
use super::resources::{Resources, pod_requests};

/// A small projection of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Generation, for the condition that is written.
    pub generation: i64,
    /// Revision of the record.
    pub revision: u64,
    /// Higher goes first.
    pub priority: i64,
    /// `spec.nodeName`: set once it is bound.
    pub node_name: String,
    /// Whether this scheduler is meant.
    pub scheduler: String,
    /// Whether it waits for something else before it may be scheduled.
    pub gated: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it has ended and holds nothing any more.
    pub terminal: bool,
    /// What it asks for.
    pub requests: Resources,
    /// What it counts as when scoring.
    pub weight: Resources,
    /// Ports of the node that it needs.
    pub host_ports: Vec<HostPort>,
    /// What it wants of its node.
    pub affinity: Arc<Affinity>,
    /// What it tolerates.
    pub tolerations: Arc<[Toleration]>,
    /// Images of its containers, tagged.
    pub images: Arc<[String]>,
    /// Status, reason and message of its PodScheduled condition.
    pub condition: Option<(String, String, String)>,
}

/// A port of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number.
    pub port: i64,
}

/// A toleration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
        let object = record.decode();
        let (spec, status) = (&object["spec"], &object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let scheduled = conditions.into_iter().find(|condition| condition["type"] == "PodScheduled");
        let header = record.header();
        Self {
            namespace: record.key.namespace().into(),
            name: record.key.name().into(),
            uid: header.uid.to_string(),
            generation: header.generation,
            revision: record.revision,
            priority: spec["priority"].as_i64().unwrap_or(0),
            node_name: text(&spec["nodeName"]),
            scheduler: text(&spec["schedulerName"]),
            gated: spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()),
            deleting: header.deleting,
            terminal: matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
            requests: pod_requests(spec, false),
            weight: pod_requests(spec, true),
            host_ports: host_ports(spec),
            affinity: Arc::new(Affinity::read(spec)),
            tolerations: list(&spec["tolerations"]).map(Toleration::read).collect(),
            images: images(spec),
            condition: scheduled.map(|c| (text(&c["status"]), text(&c["reason"]), text(&c["message"]))),
        }
    }

    /// Store key.
    pub fn key(&self) -> Key {
        Key::new("pods", &self.namespace, &self.name)
    }

    /// Whether it waits to be placed by the scheduler of this name.
    pub fn pending(&self, scheduler: &str) -> bool {
        self.node_name.is_empty()
            && self.scheduler == scheduler
            && !(self.gated || self.deleting || self.terminal)
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
            "" | "Equal" => self.value == taint.value && !self.key.is_empty(),
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

fn images(spec: &Value) -> Arc<[String]> {
    let containers = list(&spec["initContainers"]).chain(list(&spec["containers"]));
    containers.filter_map(|container| container["image"].as_str()).map(tagged).collect()
}

/// `nginx` → `nginx:latest`; a tag or digest stays.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
