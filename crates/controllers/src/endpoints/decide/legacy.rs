//! The same endpoints in the shape of the older Endpoints kind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{EndpointPort, HEADLESS, Service, TargetRef, View};
use super::{addresses, hostname, ports, stands_behind, target};
use crate::common::Meta;
use crate::common::meta::nullable;

/// Label: who keeps the object.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "endpoint-controller";
/// Annotation of an object that holds only a part.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object.
const MAX_ADDRESSES: usize = 1000;

/// An Endpoints object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// `metadata`.
    pub metadata: Meta,
    /// Addresses by set of ports.
    #[serde(deserialize_with = "nullable")]
    pub subsets: Vec<Subset>,
}

/// Addresses with the same ports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ready_addresses: Vec<Address>,
    /// Ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// An address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    /// In text.
    pub ip: String,
    /// Host name in the DNS.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Name, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Number.
    pub port: i32,
    /// Protocol.
    pub protocol: String,
    /// Protocol of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// The object to write, `None` when the one that is there will do.
pub fn decide(view: &View, current: Option<&Endpoints>) -> Option<Endpoints> {
    let service = &view.service;
    let (subsets, truncated) = subsets(view);
    let mut metadata = current.map(|current| current.metadata.clone()).unwrap_or_default();
    metadata.name = service.metadata.name.clone();
    metadata.namespace = service.metadata.namespace.clone();
    metadata.labels = service.metadata.labels.clone();
    metadata.labels.remove(HEADLESS);
    if service.headless() {
        metadata.labels.insert(HEADLESS.into(), String::new());
    }
    metadata.labels.insert(MANAGED_BY.into(), MANAGER.into());
    metadata.annotations.remove(OVER_CAPACITY);
    if truncated {
        metadata.annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    }
    let wanted = Endpoints { metadata, subsets };
    (current != Some(&wanted)).then_some(wanted)
}

fn subsets(view: &View) -> (Vec<Subset>, bool) {
    let service = &view.service;
    let publish = service.spec.publish_not_ready_addresses;
    let families = service.families();
    let family = families.first().copied().unwrap_or("IPv4");
    let mut by_ports: BTreeMap<Vec<Port>, Subset> = BTreeMap::new();
    let pods = view.pods.iter().map(|backend| &*backend.pod);
    for pod in pods.filter(|pod| stands_behind(pod, publish)) {
        let Some(ip) = addresses(pod, family).into_iter().next() else { continue };
        let Some(ports) = ports_of(service, &ports(service, pod)) else { continue };
        let address = Address {
            ip,
            hostname: hostname(service, pod).unwrap_or_default(),
            node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone()),
            target_ref: Some(target(pod)),
        };
        let subset = by_ports.entry(ports).or_default();
        if publish || pod.ready() {
            subset.addresses.push(address);
        } else {
            subset.not_ready_addresses.push(address);
        }
    }
    let mut room = MAX_ADDRESSES;
    let mut truncated = false;
    let mut cut = |list: &mut Vec<Address>| {
        list.sort_by_key(|address| (address.ip.parse::<IpAddr>().ok(), address.hostname.clone()));
        truncated |= list.len() > room;
        list.truncate(room);
        room -= list.len();
    };
    by_ports.values_mut().for_each(|subset| cut(&mut subset.addresses));
    by_ports.values_mut().for_each(|subset| cut(&mut subset.not_ready_addresses));
    let with_ports = |(ports, subset): (Vec<Port>, Subset)| Subset { ports, ..subset };
    let filled = |subset: &Subset| !(subset.addresses.is_empty() && subset.not_ready_addresses.is_empty());
    (by_ports.into_iter().map(with_ports).filter(filled).collect(), truncated)
}

/// `None` when a Service with ports finds none of them on the pod.
fn ports_of(service: &Service, ports: &[EndpointPort]) -> Option<Vec<Port>> {
    if ports.is_empty() && !(service.spec.ports.is_empty() && service.headless()) {
        return None;
    }
    let port = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_default(),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = ports.iter().map(port).collect();
    ports.sort();
    Some(ports)
}
