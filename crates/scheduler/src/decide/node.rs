//! What the scheduler keeps of a node, and of the pods on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use carrack_api::Record;
use carrack_api::quantity::Quantity;
use serde_json::Value;

use super::pod::PodInfo;
use super::resources::Resources;

/// A small projection of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeInfo {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What it has to give.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub max_pods: usize,
    /// Sizes of the images that it has, by name.
    pub images: Arc<HashMap<String, i64>>,
    /// Pods on it, or about to be.
    pub pods: HashMap<String, Arc<PodInfo>>,
    /// What they ask for.
    pub requested: Resources,
    /// What they count as when scoring.
    pub weight: Resources,
}

/// A taint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl NodeInfo {
    /// Projects a record; without pods.
    pub fn read(record: &Record) -> Self {
        let object = record.decode();
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
            images.extend(list(&image["names"]).iter().map(|name| (text(name), size)));
        }
        Self {
            name: record.key.name().into(),
            labels: record.header().labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            taints: list(&spec["taints"]).into_iter().map(taint).collect(),
            unschedulable: spec["unschedulable"].as_bool().unwrap_or(false),
            allocatable: Resources::read(&status["allocatable"]),
            max_pods: usize::try_from(pods).unwrap_or(0),
            images: Arc::new(images),
            ..Self::default()
        }
    }

    /// Puts a pod on it.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.weight.add(&pod.weight);
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Takes a pod off it.
    pub fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.requested.subtract(&pod.requests);
            self.weight.subtract(&pod.weight);
        }
    }

    /// Takes over the pods of an earlier state of the node.
    pub fn inherit(&mut self, earlier: &mut Self) {
        self.pods = std::mem::take(&mut earlier.pods);
        self.requested = std::mem::take(&mut earlier.requested);
        self.weight = std::mem::take(&mut earlier.weight);
    }
}
