//! The EndpointSlice controller and, for old clients, the Endpoints controller:
//! they say which pods stand behind a Service.
//!
//! Two controllers with identities of their own over one view of a Service and its
//! pods. [`decide`] knows what an endpoint is and how the two
//! kinds hold them.

pub mod decide;
mod legacy_controller;
mod slices_controller;

use std::sync::Arc;

use carrack_api::{Key, Record, Value};
use carrack_client::resource::{NODES, PODS, SERVICES};
use carrack_client::{Cache, Informers, WorkQueue};

use crate::common::Pod;
use crate::shell::{self, Shared};
use decide::{Service, View};

/// Index of pods by namespace and label.
const BY_LABEL: &str = "label";
/// Index of Services by namespace and the first label of their selector.
const BY_SELECTOR: &str = "selector";

/// Starts the EndpointSlice controller.
pub(crate) fn start_slices(shared: &Shared) {
    slices_controller::start(shared);
}

/// Starts the Endpoints controller.
pub(crate) fn start_legacy(shared: &Shared) {
    legacy_controller::start(shared);
}

/// The caches of a Service and its pods.
pub(crate) struct Caches {
    services: Arc<Cache>,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
}

impl Caches {
    fn new(informers: &Informers) -> Self {
        let services = informers.cache(&SERVICES);
        let pods = informers.cache(&PODS);
        services.add_index(BY_SELECTOR, selector_entry);
        pods.add_index(BY_LABEL, label_entries);
        Self { services, pods, nodes: informers.cache(&NODES) }
    }

    /// Wakes Services when they change, and when a pod behind them does.
    fn wake(&self, queue: &Arc<WorkQueue<Key>>) {
        shell::enqueue_changes(&self.services, queue);
        let (services, queue) = (self.services.clone(), queue.clone());
        self.pods.add_handler(Box::new(move |old, new| {
            // Most changes leave the labels, and so the Services, as they are.
            let moved = |old: &&Arc<Record>| new.is_none_or(|new| new.header().labels != old.header().labels);
            for pod in [old.filter(moved), new].into_iter().flatten() {
                for entry in label_entries(pod) {
                    for service in services.indexed(BY_SELECTOR, &entry) {
                        if selects(&service, pod) {
                            queue.add(service.key.clone());
                        }
                    }
                }
            }
        }));
    }

    fn all(&self) -> Vec<Arc<Cache>> {
        vec![self.services.clone(), self.pods.clone(), self.nodes.clone()]
    }

    /// The Service of a key with its pods; `None` if it has no endpoints of its own.
    fn view(&self, record: &Record) -> Option<View> {
        let service: Service = shell::read(record)?;
        if service.spec.kind == "ExternalName" {
            return None;
        }
        let selector = service.spec.selector.as_ref()?;
        let namespace = record.key.namespace();
        // An empty selector selects everything.
        let candidates = match selector.first_key_value() {
            Some((key, value)) => self.pods.indexed(BY_LABEL, &entry(namespace, key, value)),
            None => self.pods.in_namespace(namespace),
        };
        let matching = candidates
            .iter()
            .filter(|pod| selector.iter().all(|(key, value)| pod.header().label(key) == Some(value)));
        let pods: Vec<Pod> = matching.filter_map(|pod| Pod::of_set(pod)).collect();
        let zone = |pod: &Pod| {
            let node = self.nodes.find("", &pod.spec.node_name)?;
            let zone = node.header().label("topology.kubernetes.io/zone").unwrap_or_default();
            Some((pod.spec.node_name.clone(), zone.to_owned()))
        };
        let zones = pods.iter().filter_map(zone).collect();
        Some(View { service, pods, zones })
    }
}

fn entry(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

fn label_entries(pod: &Record) -> Vec<String> {
    pod.header().labels.iter().map(|(key, value)| entry(pod.key.namespace(), key, value)).collect()
}

fn selector_entry(service: &Record) -> Vec<String> {
    let object = service.decode_lean();
    let first = object["spec"]["selector"].as_object().and_then(|selector| selector.iter().next());
    first
        .and_then(|(key, value)| Some(vec![entry(service.key.namespace(), key, value.as_str()?)]))
        .unwrap_or_default()
}

fn selects(service: &Record, pod: &Record) -> bool {
    let object = service.decode_lean();
    let selector = object["spec"]["selector"].as_object();
    let holds = |(key, value): (&String, &Value)| pod.header().label(key) == value.as_str();
    selector.is_some_and(|selector| selector.iter().all(holds))
}
