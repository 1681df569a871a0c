//! What an endpoint is: a pod's address, its ports as a Service names them, and
//! whether traffic should go there.
//!
//! Follows `k8s.io/endpointslice`. Pure.

pub mod legacy;
pub mod slices;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::meta::nullable;
use crate::common::{Meta, Pod, SharedPod};

/// Label that headless Services leave on their endpoints.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// What is decided on.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The Service.
    pub service: Service,
    /// Pods that its selector matches.
    pub pods: Vec<Backend>,
}

/// A pod behind a Service.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The pod.
    pub pod: SharedPod,
    /// Zone of its node, or nothing; `None` when the node is not known, or nobody asks.
    pub zone: Option<String>,
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: Spec,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Labels of its pods; without one, someone else keeps its endpoints.
    pub selector: Option<BTreeMap<String, String>>,
    /// Address, `None` when headless.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// `IPv4`, `IPv6`.
    #[serde(deserialize_with = "nullable")]
    pub ip_families: Vec<String>,
    /// Ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
    /// Whether pods count that are not ready.
    pub publish_not_ready_addresses: bool,
}

/// A port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Name, or empty.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number or name of the pod's port.
    pub target_port: Value,
    /// Number of the Service's port.
    pub port: i32,
    /// Protocol of the application.
    pub app_protocol: Option<String>,
}

/// A port of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    /// Name, or empty.
    pub name: Option<String>,
    /// Number.
    pub port: Option<i32>,
    /// Protocol.
    pub protocol: Option<String>,
    /// Protocol of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// The object behind an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Service {
    /// Whether it has no address of its own.
    pub fn headless(&self) -> bool {
        matches!(self.spec.cluster_ip.as_str(), "" | "None")
    }

    /// `IPv4`, `IPv6`: which kinds of address its endpoints have.
    pub fn families(&self) -> Vec<&str> {
        if !self.spec.ip_families.is_empty() {
            return self.spec.ip_families.iter().map(String::as_str).collect();
        }
        match self.spec.cluster_ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => vec!["IPv4"],
            Ok(IpAddr::V6(_)) => vec!["IPv6"],
            Err(_) => vec!["IPv4", "IPv6"],
        }
    }
}

/// Whether a pod has an address to stand behind a Service.
pub fn stands_behind(pod: &Pod, terminating_too: bool) -> bool {
    !pod.terminal() && !pod.status.pod_ips.is_empty() && (terminating_too || !pod.metadata.deleting())
}

/// Whether two states of a pod with the same labels give the same endpoints.
pub fn alike(a: &Pod, b: &Pod) -> bool {
    a.metadata.uid == b.metadata.uid
        && a.metadata.deleting() == b.metadata.deleting()
        && a.terminal() == b.terminal()
        && a.ready() == b.ready()
        && a.status.pod_ips == b.status.pod_ips
        && a.spec == b.spec
}

/// A pod's addresses of one family, in their usual form.
pub fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let parsed = pod.status.pod_ips.iter().filter_map(|address| address.ip.parse::<IpAddr>().ok());
    parsed.filter(|ip| ip.is_ipv6() == (family == "IPv6")).map(|ip| ip.to_string()).collect()
}

/// A Service's ports on a pod; a named port that the pod lacks is left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let port = |port: &Port| {
        Some(EndpointPort {
            name: Some(port.name.clone()),
            port: Some(find_port(pod, port)?),
            protocol: Some(port.protocol.clone()),
            app_protocol: port.app_protocol.clone(),
        })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

fn find_port(pod: &Pod, port: &Port) -> Option<i32> {
    let Some(name) = port.target_port.as_str() else {
        let number = port.target_port.as_i64().and_then(|number| i32::try_from(number).ok());
        return Some(number.filter(|number| *number != 0).unwrap_or(port.port));
    };
    let sidecars = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    let protocol = |text: &str| if text.is_empty() { "TCP" } else { text }.to_owned();
    let found =
        ports.into_iter().find(|p| p.name == name && protocol(&p.protocol) == protocol(&port.protocol));
    found.map(|port| port.container_port)
}

/// The pod's host name, if this Service gives it one in the DNS.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    named.then(|| pod.spec.hostname.clone())
}

/// A reference to a pod.
pub fn target(pod: &Pod) -> TargetRef {
    let meta = &pod.metadata;
    TargetRef {
        kind: "Pod".into(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
    }
}
