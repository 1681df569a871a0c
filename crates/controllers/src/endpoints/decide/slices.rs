//! Spreads a Service's endpoints over EndpointSlices with as few writes as possible.
//!
//! One group of slices per address family and set of ports; at most
//! [`MAX_ENDPOINTS`] in a slice; a Service without endpoints keeps one empty slice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Backend, EndpointPort, HEADLESS, Service, TargetRef, View};
use super::{addresses, hostname, ports, stands_behind, target};
use crate::common::meta::nullable;
use crate::common::{Meta, Pod};

/// Endpoints in a slice.
pub const MAX_ENDPOINTS: usize = 100;
/// Label: name of the Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label: who keeps the slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "endpointslice-controller.k8s.io";

/// An EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Slice {
    /// `metadata`; without a name it is still to be created.
    pub metadata: Meta,
    /// `IPv4` or `IPv6`.
    pub address_type: String,
    /// Ports of all its endpoints.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<EndpointPort>,
    /// Endpoints.
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Addresses of the slice's family.
    pub addresses: Vec<String>,
    /// Whether traffic should go there.
    pub conditions: Conditions,
    /// Host name in the DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The node's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Conditions of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Serving and not terminating (or published all the same).
    pub ready: Option<bool>,
    /// Its pod is ready.
    pub serving: Option<bool>,
    /// Its pod is being deleted.
    pub terminating: Option<bool>,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Slices to create.
    pub create: Vec<Slice>,
    /// Slices to write, by name.
    pub update: Vec<Slice>,
    /// Slices to delete: name and uid.
    pub delete: Vec<(String, String)>,
    /// A pod was left out because its node is not known (yet): look again.
    pub node_missing: bool,
}

/// Decides. `slices` are those that this controller keeps for the Service and that
/// are not being deleted.
pub fn decide(view: &View, slices: &[Slice]) -> Plan {
    let mut plan = Plan::default();
    let families = view.service.families();
    for slice in slices.iter().filter(|slice| !families.contains(&slice.address_type.as_str())) {
        plan.delete.push((slice.metadata.name.clone(), slice.metadata.uid.clone()));
    }
    for family in families {
        let existing: Vec<&Slice> = slices.iter().filter(|slice| slice.address_type == family).collect();
        let mut part = family_plan(view, family, &existing);
        recycle(&mut part, &existing, &view.service);
        if !view.service.metadata.deleting() {
            plan.create.append(&mut part.create);
        }
        plan.update.append(&mut part.update);
        plan.delete.append(&mut part.delete);
        plan.node_missing |= part.node_missing;
    }
    plan
}

fn family_plan(view: &View, family: &str, existing: &[&Slice]) -> Plan {
    let mut plan = Plan::default();
    let mut desired: BTreeMap<Vec<EndpointPort>, Vec<Endpoint>> = BTreeMap::new();
    for Backend { pod, zone: known } in view.pods.iter().filter(|backend| stands_behind(&backend.pod, true)) {
        let group = desired.entry(port_key(&ports(&view.service, pod))).or_default();
        if known.is_none() && !view.service.spec.publish_not_ready_addresses {
            plan.node_missing = true;
            continue;
        }
        let endpoint = endpoint(&view.service, pod, family, known.as_ref());
        if !endpoint.addresses.is_empty() {
            group.push(endpoint);
        }
    }
    let mut groups: BTreeMap<Vec<EndpointPort>, Vec<&Slice>> = BTreeMap::new();
    for slice in existing {
        if owned_by(slice, &view.service) {
            groups.entry(port_key(&slice.ports)).or_default().push(slice);
        } else {
            plan.delete.push((slice.metadata.name.clone(), slice.metadata.uid.clone()));
        }
    }
    for (ports, endpoints) in desired {
        let slices = groups.remove(&ports).unwrap_or_default();
        fill(&view.service, family, &ports, endpoints, &slices, &mut plan);
    }
    let unwanted = groups.into_values().flatten();
    plan.delete.extend(unwanted.map(|slice| (slice.metadata.name.clone(), slice.metadata.uid.clone())));
    if plan.create.is_empty() && plan.delete.len() == existing.len() {
        let placeholder = new_slice(&view.service, family, &[]);
        let same = |slice: &&&Slice| {
            slice.endpoints.is_empty()
                && slice.ports.is_empty()
                && owned_by(slice, &view.service)
                && slice.metadata.labels == placeholder.metadata.labels
        };
        match existing.iter().find(same) {
            Some(_) if existing.len() == 1 => plan.delete.clear(),
            _ => plan.create.push(placeholder),
        }
    }
    plan
}

/// Puts endpoints of one set of ports into slices: what stays stays where it is, then
/// slices that change anyway are filled, then one other, then new ones.
fn fill(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    mut desired: Vec<Endpoint>,
    existing: &[&Slice],
    plan: &mut Plan,
) {
    let labels = labels(service);
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for slice in existing {
        let mut kept = Vec::new();
        for endpoint in &slice.endpoints {
            if let Some(at) = desired.iter().position(|wanted| same_endpoint(wanted, endpoint)) {
                kept.push(desired.swap_remove(at));
            }
        }
        if kept.is_empty() && !slice.endpoints.is_empty() {
            plan.delete.push((slice.metadata.name.clone(), slice.metadata.uid.clone()));
        } else if kept != slice.endpoints || user_labels(&slice.metadata.labels) != user_labels(&labels) {
            let mut slice = Slice { endpoints: kept, ..(*slice).clone() };
            slice.metadata.labels = labels.clone();
            changed.push(slice);
        } else {
            unchanged.push((*slice).clone());
        }
    }
    desired.sort_by(|a, b| b.addresses.cmp(&a.addresses));
    changed.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
    for slice in &mut changed {
        top_up(slice, &mut desired);
    }
    if !desired.is_empty() && desired.len() < MAX_ENDPOINTS {
        let room = |slice: &Slice| MAX_ENDPOINTS.checked_sub(slice.endpoints.len() + desired.len());
        let fits = |(at, slice): (usize, &Slice)| Some((room(slice)?, at));
        if let Some((_, at)) = unchanged.iter().enumerate().filter_map(fits).min() {
            let mut slice = unchanged.swap_remove(at);
            top_up(&mut slice, &mut desired);
            changed.push(slice);
        }
    }
    while !desired.is_empty() {
        let mut slice = new_slice(service, family, ports);
        top_up(&mut slice, &mut desired);
        plan.create.push(slice);
    }
    plan.update.append(&mut changed);
}

fn top_up(slice: &mut Slice, desired: &mut Vec<Endpoint>) {
    while slice.endpoints.len() < MAX_ENDPOINTS {
        let Some(endpoint) = desired.pop() else { return };
        slice.endpoints.push(endpoint);
    }
}

/// Writes new content into slices that would be deleted, instead of creating others.
fn recycle(plan: &mut Plan, existing: &[&Slice], service: &Service) {
    let mut at = 0;
    while at < plan.delete.len() && !plan.create.is_empty() {
        let old = existing.iter().find(|slice| slice.metadata.name == plan.delete[at].0);
        match old.filter(|slice| owned_by(slice, service)) {
            Some(old) => {
                let new = plan.create.pop().unwrap_or_default();
                let metadata = Meta { labels: new.metadata.labels, ..old.metadata.clone() };
                plan.update.push(Slice { metadata, ..new });
                plan.delete.remove(at);
            }
            None => at += 1,
        }
    }
}

fn endpoint(service: &Service, pod: &Pod, family: &str, zone: Option<&String>) -> Endpoint {
    let (serving, terminating) = (pod.ready(), pod.metadata.deleting());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    Endpoint {
        addresses: addresses(pod, family),
        conditions: Conditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) },
        hostname: hostname(service, pod),
        target_ref: Some(target(pod)),
        node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone()),
        zone: zone.filter(|zone| !zone.is_empty()).cloned(),
    }
}

/// Whether both stand for the same pod at the same address.
fn same_endpoint(a: &Endpoint, b: &Endpoint) -> bool {
    a.addresses == b.addresses && a.hostname == b.hostname && a.target_ref == b.target_ref
}

fn new_slice(service: &Service, family: &str, ports: &[EndpointPort]) -> Slice {
    Slice {
        metadata: Meta {
            namespace: service.metadata.namespace.clone(),
            labels: labels(service),
            owner_references: vec![service.metadata.controller_ref("v1", "Service")],
            ..Meta::default()
        },
        address_type: family.into(),
        ports: ports.to_vec(),
        endpoints: Vec::new(),
    }
}

/// The Service's labels and those that say whose slice it is.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = user_labels(&service.metadata.labels);
    if service.headless() {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn user_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let reserved = |key: &str| [SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&key);
    labels.iter().filter(|(key, _)| !reserved(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn owned_by(slice: &Slice, service: &Service) -> bool {
    let owners = &slice.metadata.owner_references;
    owners.iter().any(|owner| owner.uid == service.metadata.uid && owner.kind == "Service")
}

fn port_key(ports: &[EndpointPort]) -> Vec<EndpointPort> {
    let mut ports = ports.to_vec();
    ports.sort();
    ports
}
