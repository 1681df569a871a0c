//! Services and endpoints → frontends. Pure.
//!
//! Follows kube-proxy (`pkg/proxy/topology.go`, `CategorizeEndpoints`): ready endpoints
//! serve; if there is none, those that are terminating but still serving do; with a
//! policy of Local only those on this node count, and insiders are exempt from the
//! external policy.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rules::{self, Family};
use super::ruleset::{Frontend, WhenEmpty};
use super::{
    Endpoint, EndpointInput, FrontendKey, HostPort, NodeInput, Protocol, Ruleset, ServiceInput, ServicePort,
    ServiceType, ServiceWithEndpoints, SessionAffinity, TrafficPolicy, View,
};

/// Notes kept in a ruleset; the rest is only counted.
const MAX_NOTES: usize = 32;

/// The ruleset for a node. Where two claim one frontend, the first in the order given
/// keeps it (give Services in the order of their names: then nodes agree).
pub fn plan<'a>(
    services: impl IntoIterator<Item = &'a ServiceWithEndpoints>,
    host_ports: &[HostPort],
    node: &NodeInput,
) -> Ruleset {
    let mut planner = Planner {
        node,
        local: node.local_service_ips.iter().copied().collect(),
        ruleset: Ruleset { fixed: rules::fixed(node), ..Ruleset::default() },
    };
    for entry in services {
        planner.service(&entry.service, &entry.endpoints);
    }
    for host_port in host_ports {
        planner.host_port(host_port);
    }
    planner.ruleset
}

/// What localhost shall reach through [`crate::forward`]: for each node port, the endpoints
/// that insiders would get, of both families (a forwarder can bridge them).
pub fn local_ports<'a>(
    services: impl IntoIterator<Item = &'a ServiceWithEndpoints>,
    node: &NodeInput,
) -> BTreeMap<(Protocol, u16), Vec<Endpoint>> {
    let mut ports = BTreeMap::new();
    for entry in services {
        for port in &entry.service.ports {
            let Some(node_port) = port.node_port else {
                continue;
            };
            let both = Family::BOTH.iter().flat_map(|family| {
                let candidates = Candidates::new(&entry.endpoints, port, *family, &node.name);
                candidates.choose(TrafficPolicy::Cluster).0
            });
            ports.entry((port.protocol, node_port)).or_insert_with(|| both.collect());
        }
    }
    ports
}

struct Planner<'a> {
    node: &'a NodeInput,
    local: BTreeSet<IpAddr>,
    ruleset: Ruleset,
}

impl Planner<'_> {
    fn service(&mut self, service: &ServiceInput, endpoints: &[EndpointInput]) {
        if service.headless || service.service_type == ServiceType::ExternalName {
            return;
        }
        let owner: Arc<str> = format!("{}/{}", service.namespace, service.name).into();
        let affinity = service.session_affinity != SessionAffinity::None;
        for port in &service.ports {
            for family in Family::BOTH {
                let serves = |ip: &&IpAddr| Family::of(**ip) == family;
                if !service.cluster_ips.iter().any(|ip| serves(&ip)) {
                    continue;
                }
                let candidates = Candidates::new(endpoints, port, family, &self.node.name);
                let way = Way { owner: &owner, affinity, candidates, service, port };
                for ip in service.cluster_ips.iter().filter(serves) {
                    self.cluster_ip(&way, *ip);
                }
                for ip in service.external_ips.iter().filter(serves) {
                    if self.may_be_external(*ip, &owner) {
                        self.external(&way, *ip, port.port);
                    }
                }
                if let Some(node_port) = port.node_port {
                    for ip in self.node.addresses.iter().filter(serves) {
                        if !ip.is_loopback() {
                            self.external(&way, *ip, node_port);
                        }
                    }
                }
            }
        }
    }

    fn cluster_ip(&mut self, way: &Way<'_>, ip: IpAddr) {
        if self.local.contains(&ip) {
            return; // This node answers itself.
        }
        let frontend = way.frontend(way.service.internal_traffic_policy);
        self.claim(ip, way.port.protocol, way.port.port, View::Any, frontend);
    }

    fn external(&mut self, way: &Way<'_>, ip: IpAddr, port: u16) {
        let policy = way.service.external_traffic_policy;
        let protocol = way.port.protocol;
        let frontend = way.frontend(policy);
        let elsewhere = self.elsewhere(&frontend);
        if !self.claim(ip, protocol, port, View::Any, frontend) {
            return;
        }
        self.ruleset.remote.extend(elsewhere.into_iter().map(|to| (to, protocol)));
        if policy == TrafficPolicy::Local {
            let inside = way.frontend(TrafficPolicy::Cluster);
            self.claim(ip, protocol, port, View::Internal, inside);
        }
    }

    fn elsewhere(&self, frontend: &Frontend) -> Vec<Endpoint> {
        let here = |ip: IpAddr| self.node.pod_cidrs.iter().any(|cidr| cidr.contains(ip));
        frontend.endpoints.iter().filter(|to| !here(to.ip)).copied().collect()
    }

    /// An external IP must not take over traffic to the node, its neighbours on the link,
    /// pods or other Services (CVE-2020-8554 and its kin).
    fn may_be_external(&mut self, ip: IpAddr, owner: &Arc<str>) -> bool {
        let special = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let of_the_cluster = (self.node.cluster_cidrs.iter())
            .chain(&self.node.pod_cidrs)
            .chain(&self.node.service_cidrs)
            .any(|cidr| cidr.contains(ip));
        let refused = special
            || of_the_cluster
            || ip.is_loopback()
            || ip.is_unspecified()
            || ip.is_multicast()
            || self.local.contains(&ip);
        if refused {
            self.note(format!("service {owner}: external IP {ip} is not one it may have; ignored"));
        }
        !refused
    }

    fn host_port(&mut self, host_port: &HostPort) {
        let frontend = Frontend {
            owner: format!("pod {}", host_port.pod_ip).into(),
            endpoints: vec![Endpoint { ip: host_port.pod_ip, port: host_port.container_port }],
            when_empty: WhenEmpty::Reject,
            affinity: false,
        };
        for ip in self.node.addresses.clone() {
            let asked = host_port.host_ip.is_none_or(|want| want.is_unspecified() || want == ip);
            if asked && !ip.is_loopback() && ip.is_ipv4() == host_port.pod_ip.is_ipv4() {
                let (protocol, port) = (host_port.protocol, host_port.host_port);
                self.claim(ip, protocol, port, View::Any, frontend.clone());
            }
        }
    }

    /// Adds a frontend unless someone has it; says whether it was added.
    fn claim(
        &mut self,
        ip: IpAddr,
        protocol: Protocol,
        port: u16,
        view: View,
        mut frontend: Frontend,
    ) -> bool {
        let key = FrontendKey { ip, protocol, port, view };
        if let Some(first) = self.ruleset.frontends.get(&key) {
            let (first, second) = (&first.owner, &frontend.owner);
            let what = format!("{ip} port {port}/{}", protocol.name());
            self.note(format!("{what} belongs to {first}; {second} wants it too and does not get it"));
            return false;
        }
        if frontend.endpoints.len() > Ruleset::MAX_ENDPOINTS {
            let (count, most) = (frontend.endpoints.len(), Ruleset::MAX_ENDPOINTS);
            self.note(format!("{} has {count} endpoints; only {most} are used", frontend.owner));
            frontend.endpoints.truncate(Ruleset::MAX_ENDPOINTS);
        }
        for to in &frontend.endpoints {
            if self.node.pod_cidrs.iter().any(|cidr| cidr.contains(to.ip)) {
                self.ruleset.hairpin.insert(to.ip);
            }
        }
        self.ruleset.frontends.insert(key, Arc::new(frontend));
        true
    }

    fn note(&mut self, note: String) {
        if self.ruleset.notes.len() < MAX_NOTES {
            self.ruleset.notes.push(note);
        }
    }
}

/// A Service's port in one family.
struct Way<'a> {
    owner: &'a Arc<str>,
    affinity: bool,
    candidates: Candidates,
    service: &'a ServiceInput,
    port: &'a ServicePort,
}

impl Way<'_> {
    fn frontend(&self, policy: TrafficPolicy) -> Frontend {
        let (endpoints, when_empty) = self.candidates.choose(policy);
        Frontend { owner: Arc::clone(self.owner), endpoints, when_empty, affinity: self.affinity }
    }
}

/// A Service port's endpoints in one family, sorted into what may serve and what may help out.
struct Candidates {
    ready: BTreeMap<Endpoint, bool>,
    terminating: BTreeMap<Endpoint, bool>,
}

impl Candidates {
    fn new(endpoints: &[EndpointInput], port: &ServicePort, family: Family, node: &str) -> Self {
        let mut candidates = Self { ready: BTreeMap::new(), terminating: BTreeMap::new() };
        for endpoint in endpoints.iter().filter(|to| usable(to.ip, family)) {
            let is_local = endpoint.node_name.as_deref() == Some(node);
            let into = match (endpoint.ready, endpoint.serving && endpoint.terminating) {
                (true, _) => &mut candidates.ready,
                (false, true) => &mut candidates.terminating,
                (false, false) => continue,
            };
            let matches = |p: &&super::EndpointPort| p.name == port.name && p.protocol == port.protocol;
            for target in endpoint.ports.iter().filter(matches) {
                into.insert(Endpoint { ip: endpoint.ip, port: target.port }, is_local);
            }
        }
        candidates
    }

    fn choose(&self, policy: TrafficPolicy) -> (Vec<Endpoint>, WhenEmpty) {
        let all = |from: &BTreeMap<Endpoint, bool>| from.keys().copied().collect::<Vec<_>>();
        let local = |from: &BTreeMap<Endpoint, bool>| {
            from.iter().filter(|(_, local)| **local).map(|(to, _)| *to).collect::<Vec<_>>()
        };
        let or = |first: Vec<_>, second: Vec<_>| if first.is_empty() { second } else { first };
        match policy {
            TrafficPolicy::Cluster => (or(all(&self.ready), all(&self.terminating)), WhenEmpty::Reject),
            TrafficPolicy::Local => {
                let nowhere = self.ready.is_empty() && self.terminating.is_empty();
                let when_empty = if nowhere { WhenEmpty::Reject } else { WhenEmpty::Drop };
                (or(local(&self.ready), local(&self.terminating)), when_empty)
            }
        }
    }
}

/// The API refuses endpoints like these; rules must not depend on that (CVE-2021-25740's kin).
fn usable(ip: IpAddr, family: Family) -> bool {
    Family::of(ip) == family && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}
