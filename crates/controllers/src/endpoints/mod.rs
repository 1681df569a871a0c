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

use carrack_api::{Key, Record};
use carrack_client::resource::{NODES, PODS, SERVICES};
use carrack_client::{Cache, Informers, WorkQueue};

use crate::common::{Pod, SharedPod};
use crate::shell::{self, Shared};
use decide::{Backend, Service, View};

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
            let left = old.filter(moved);
            let mut behind: Vec<Arc<Record>> = Vec::new();
            for pod in [left, new].into_iter().flatten() {
                let entries = label_entries(pod).into_iter();
                let found = entries.flat_map(|entry| services.indexed(BY_SELECTOR, &entry));
                behind.extend(found.filter(|service| selects(service, pod)));
            }
            if behind.is_empty() || (left.is_none() && old.zip(new).is_some_and(|(old, new)| alike(old, new)))
            {
                return;
            }
            behind.iter().for_each(|service| queue.add(service.key.clone()));
        }));
    }

    fn all(&self) -> Vec<Arc<Cache>> {
        vec![self.services.clone(), self.pods.clone(), self.nodes.clone()]
    }

    /// The Service of a key with its pods; `None` if it has no endpoints of its own.
    fn view(&self, record: &Record, zone: impl Fn(&Pod) -> Option<String>) -> Option<View> {
        let service: Service = shell::read(record)?;
        if service.spec.kind == "ExternalName" {
            return None;
        }
        let selector = service.spec.selector.as_ref()?;
        let namespace = record.key.namespace();
        // An empty selector selects everything.
        let mut rest = selector.iter();
        let candidates = match rest.next() {
            Some((key, value)) => self.pods.indexed(BY_LABEL, &entry(namespace, key, value)),
            None => self.pods.in_namespace(namespace),
        };
        let matching = candidates
            .iter()
            .filter(|pod| rest.clone().all(|(key, value)| pod.header().label(key) == Some(value)));
        let backend = |pod: SharedPod| Backend { zone: zone(&pod), pod };
        let pods = matching.filter_map(|pod| SharedPod::read(pod)).map(backend).collect();
        Some(View { service, pods })
    }

    /// The zone of a pod's node, empty if it has none; `None` if the node is not known.
    fn zone(&self, pod: &Pod) -> Option<String> {
        let node = self.nodes.find("", &pod.spec.node_name)?;
        Some(node.header().label("topology.kubernetes.io/zone").unwrap_or_default().to_owned())
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
    let Ok(service) = service.projection::<Service>() else { return false };
    let holds = |(key, value): (&String, &String)| pod.header().label(key) == Some(value);
    service.spec.selector.as_ref().is_some_and(|selector| selector.iter().all(holds))
}

/// Whether two states of a pod give the same endpoints.
fn alike(old: &Record, new: &Record) -> bool {
    match (SharedPod::read(old), SharedPod::read(new)) {
        (Some(old), Some(new)) => decide::alike(&old, &new),
        _ => false,
    }
}
