//! What the scheduler keeps of a node, and of the pods on it.

use std::collections::HashMap;
use std::sync::Arc;

use carrack_api::Record;
use carrack_api::quantity::Quantity;
use serde_json::Value;

use super::labels::LabelSet;
use super::pod::PodInfo;
use super::resources::Resources;

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// Name.
    pub name: Box<str>,
    /// Labels.
    pub labels: LabelSet,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What it has to give.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub max_pods: usize,
    /// Sizes of the images that it has, by name.
    pub images: HashMap<Box<str>, i64>,
}

/// A node with the pods on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// What it says of itself; of a node that is not known, only its name.
    pub facts: Arc<NodeFacts>,
    /// Whether the node is known.
    pub known: bool,
    /// Pods on it, or about to be.
    pub pods: Vec<Arc<PodInfo>>,
    /// What they hold.
    pub requested: Resources,
    /// What they count as when scoring.
    pub weight: Resources,
    /// Rises with every change that a filter of this node alone can see.
    pub generation: u64,
}

/// A taint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl NodeFacts {
    /// Projects a record.
    pub fn read(record: &Record) -> Self {
        let object = record.decode_lean();
        let (spec, status) = (&object["spec"], &object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let taint = |taint: Value| Taint {
            key: text(&taint["key"]),
            value: text(&taint["value"]),
            effect: text(&taint["effect"]),
        };
        // The server may write 2000 as 2k.
        let pods = &status["allocatable"]["pods"];
        let pods = pods.as_str().map_or_else(|| pods.to_string(), str::to_owned);
        let pods = Quantity::parse(&pods).map_or(0, |quantity| quantity.value());
        let mut images = HashMap::new();
        for image in list(&status["images"]) {
            let size = image["sizeBytes"].as_i64().unwrap_or(0);
            images.extend(list(&image["names"]).iter().map(|name| (text(name).into(), size)));
        }
        Self {
            name: record.key.name().into(),
            labels: record.header().labels.iter().map(|(key, value)| (&**key, &**value)).collect(),
            taints: list(&spec["taints"]).into_iter().map(taint).collect(),
            unschedulable: spec["unschedulable"].as_bool().unwrap_or(false),
            allocatable: Resources::read(&status["allocatable"]),
            max_pods: usize::try_from(pods).unwrap_or(0),
            images,
        }
    }
}

impl NodeInfo {
    /// Puts a pod on it.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(pod.requests());
        self.weight.add(pod.weight());
        self.pods.push(pod);
    }

    /// Takes a pod off it.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|pod| *pod.uid == *uid)?;
        let pod = self.pods.remove(at);
        self.requested.subtract(pod.requests());
        self.weight.subtract(pod.weight());
        Some(pod)
    }
}
