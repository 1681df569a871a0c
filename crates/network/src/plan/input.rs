//! What the plan is made from: plain values that crate `node` fills from Services,
//! EndpointSlices and its own Node.
//!
//! Values that the API may leave out (`ready: null`, `sessionAffinity: ""`) are
//! already defaulted here; see each field.

use core::net::IpAddr;
use std::sync::Arc;

use super::Prefix;

/// A transport protocol that a Service may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// As nft writes it, and as a label of an SRV name (`_tcp` without the underscore).
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// From the API's `TCP`, `UDP`, `SCTP`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceType {
    /// Reachable by its cluster IPs.
    #[default]
    ClusterIp,
    /// Also by a port on every node.
    NodePort,
    /// Also by load balancer addresses, which are not given here yet.
    LoadBalancer,
    /// Only a DNS alias: no rules, a CNAME to `external_name`.
    ExternalName,
}

/// `spec.internalTrafficPolicy` or `spec.externalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Only endpoints on this node.
    Local,
}

/// `spec.sessionAffinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionAffinity {
    /// Each connection picks anew.
    #[default]
    None,
    /// Connections of one client address go to one endpoint, for as long as it is there (see
    /// docs/decisions/rules.md for how this differs from upstream).
    ClientIp {
        /// Not needed by the rules: nothing is remembered that could expire.
        /// `sessionAffinityConfig.clientIP.timeoutSeconds`; 1..=86400, 10800 by default.
        timeout_seconds: u32,
    },
}

/// One of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty when the Service has one port without a name. Endpoint ports are matched by it.
    pub name: String,
    /// Default TCP.
    pub protocol: Protocol,
    /// On the cluster IP.
    pub port: u16,
    /// On every node, if the Service has one.
    pub node_port: Option<u16>,
    /// Only passed on.
    pub app_protocol: Option<String>,
}

/// A Service, as far as the network cares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceInput {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.clusterIPs`; empty when headless (`None`) or ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.clusterIP` is `None`.
    pub headless: bool,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.externalName`, for [`ServiceType::ExternalName`].
    pub external_name: Option<String>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`. Loopback, link-local and infrastructure addresses are ignored.
    pub external_ips: Vec<IpAddr>,
    /// `spec.sessionAffinity`.
    pub session_affinity: SessionAffinity,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.publishNotReadyAddresses`: DNS of a headless Service names endpoints that are not ready.
    pub publish_not_ready: bool,
}

/// One of an EndpointSlice's `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// Null is the empty string.
    pub name: String,
    /// Default TCP.
    pub protocol: Protocol,
    /// A slice's port without a number (all ports) is left out by the caller.
    pub port: u16,
}

/// One endpoint: one address of one of a Service's EndpointSlices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointInput {
    /// `addresses[0]` (the others have no meaning upstream either).
    pub ip: IpAddr,
    /// The ports of its slice, shared by all endpoints of that slice.
    pub ports: Arc<[EndpointPort]>,
    /// `conditions.ready`, null is true.
    pub ready: bool,
    /// `conditions.serving`, null is as `ready`.
    pub serving: bool,
    /// `conditions.terminating`, null is false.
    pub terminating: bool,
    /// `nodeName`.
    pub node_name: Option<String>,
    /// `hostname`: gives it a name of its own under a headless Service.
    pub hostname: Option<String>,
    /// Name of the pod in `targetRef`, if it is one.
    pub target_pod: Option<String>,
}

/// A `hostPort` of a running pod on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `hostIP`; `None` or unspecified is every address of the node.
    pub host_ip: Option<IpAddr>,
    /// `hostPort`.
    pub host_port: u16,
    /// `protocol`.
    pub protocol: Protocol,
    /// The pod's address.
    pub pod_ip: IpAddr,
    /// `containerPort`.
    pub container_port: u16,
}

/// What the plan must know of this node and its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInput {
    /// Name of this node: decides which endpoints are local.
    pub name: String,
    /// Addresses on which node ports answer. Loopback ones are ignored (see [`crate::forward`]).
    pub addresses: Vec<IpAddr>,
    /// The CIDRs from which this node's pods get their addresses, at most one a family.
    pub pod_cidrs: Vec<Prefix>,
    /// The CIDRs of all nodes' pods; traffic to them is never masqueraded.
    pub cluster_cidrs: Vec<Prefix>,
    /// The Service CIDRs. What no Service claims in them is refused.
    pub service_cidrs: Vec<Prefix>,
    /// Addresses within the Service CIDRs that this node itself answers on (the DNS address):
    /// no Service's rules apply to them.
    pub local_service_ips: Vec<IpAddr>,
}

/// A Service together with the endpoints of all its EndpointSlices (of every family).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceWithEndpoints {
    /// The Service.
    pub service: ServiceInput,
    /// In any order; duplicates are dropped.
    pub endpoints: Vec<EndpointInput>,
}
