//! Addresses and networks that are written in an odd way, and what else is said of the
//! kinds that have them.

use std::net::IpAddr;

use serde_json::Value;

use super::Warnings;
use crate::field::Path;
use crate::go::quoted;
use crate::tree::{get, items, text, texts};
use crate::validation::net;

/// Warnings about objects of a kind with addresses.
pub(super) fn of(resource: &str, object: &Value, all: &mut Warnings) {
    match resource {
        "services" => service(object, all),
        "endpoints" => endpoints(object, all),
        "endpointslices.discovery.k8s.io" => endpoint_slice(object, all),
        "nodes" => node(object, all),
        _ => policy(object, all),
    }
}

/// An address that is not in its canonical form.
pub(super) fn address(value: &str, path: &Path<'_>, all: &mut Warnings) {
    let Some(sloppy) = net::sloppy_ip(value) else { return };
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(six)) => {
            if let Some(four) = six.to_ipv4_mapped() {
                let (value, four) = (quoted(value), four.to_string());
                all.push(format!("{path}: non-standard IP address {value} is invalid: use {four:?}"));
            } else if six.to_string() != value {
                let (value, six) = (quoted(value), six.to_string());
                all.push(format!(
                    "{path}: IPv6 address {value} should be in RFC 5952 canonical format ({six:?})"
                ));
            }
        }
        Ok(IpAddr::V4(_)) => {}
        Err(_) => {
            let (value, sloppy) = (quoted(value), sloppy.to_string());
            all.push(format!("{path}: non-standard IP address {value} is invalid: use {sloppy:?}"));
        }
    }
}

fn network(value: &str, path: &Path<'_>, all: &mut Warnings) {
    let Some((head, length)) = value.split_once('/') else { return };
    let (Some(ip), Ok(length)) = (net::sloppy_ip(head), length.parse::<u8>()) else { return };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if length > most {
        return;
    }
    let before = all.len();
    let base = net::masked(ip, length);
    let (shown, whole) = (quoted(value), format!("{base}/{length}"));
    if base != ip {
        let single = format!("{ip}/{most}");
        all.push(format!(
            "{path}: CIDR value {shown} is ambiguous in this context (should be {whole:?} or {single:?}?)"
        ));
    }
    let mapped = matches!(ip, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
    if head.parse::<IpAddr>().is_err() || mapped {
        all.push(format!("{path}: non-standard CIDR value {shown} is invalid: use {whole:?}"));
    }
    if all.len() == before && ip.is_ipv6() && format!("{ip}/{length}") != value {
        let canonical = format!("{ip}/{length}");
        all.push(format!(
            "{path}: IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({canonical:?})"
        ));
    }
}

fn service(service: &Value, all: &mut Warnings) {
    let spec = &service["spec"];
    let path = Path::ROOT.child("spec");
    let hints = "service.kubernetes.io/topology-aware-hints";
    if get(&service["metadata"]["annotations"], hints).is_some() {
        all.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if !matches!(text(spec, "clusterIP"), "" | "None") {
        for (at, ip) in texts(spec, "clusterIPs").enumerate() {
            address(ip, &path.child("clusterIPs").index(at), all);
        }
    }
    let ty = text(spec, "type");
    let headless = ty == "ClusterIP" && text(spec, "clusterIP") == "None";
    let external = !items(spec, "externalIPs").is_empty();
    let balancer = text(spec, "loadBalancerIP");
    if headless {
        if !balancer.is_empty() {
            all.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if external {
            all.push("spec.externalIPs is ignored for headless services".into());
        }
        if text(spec, "sessionAffinity") != "None" {
            all.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    for (at, ip) in texts(spec, "externalIPs").enumerate() {
        address(ip, &path.child("externalIPs").index(at), all);
    }
    if external && !headless && ty != "ExternalName" {
        all.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    if !balancer.is_empty() {
        address(balancer, &path.child("loadBalancerIP"), all);
    }
    for (at, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
        network(range.trim(), &path.child("loadBalancerSourceRanges").index(at), all);
    }
    if external && ty == "ExternalName" {
        all.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if ty != "ExternalName" && !text(spec, "externalName").is_empty() {
        all.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        all.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

fn endpoint_slice(slice: &Value, all: &mut Warnings) {
    let managed = text(&slice["metadata"]["labels"], "endpointslice.kubernetes.io/managed-by");
    if ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"].contains(&managed) {
        return;
    }
    let path = Path::ROOT.child("endpoints");
    for (at, endpoint) in items(slice, "endpoints").iter().enumerate() {
        let path = path.index(at);
        for (at, ip) in texts(endpoint, "addresses").enumerate() {
            address(ip, &path.child("addresses").index(at), all);
        }
    }
}

fn endpoints(endpoints: &Value, all: &mut Warnings) {
    let managed = text(&endpoints["metadata"]["labels"], "endpoints.kubernetes.io/managed-by");
    if managed == "endpoint-controller" {
        return;
    }
    let path = Path::ROOT.child("subsets");
    for (at, subset) in items(endpoints, "subsets").iter().enumerate() {
        let path = path.index(at);
        for list in ["addresses", "notReadyAddresses"] {
            for (at, one) in items(subset, list).iter().enumerate() {
                address(text(one, "ip"), &path.child(list).index(at).child("ip"), all);
            }
        }
    }
}

fn node(node: &Value, all: &mut Warnings) {
    let spec = &node["spec"];
    if get(spec, "configSource").is_some() {
        all.push("spec.configSource: the feature is removed".into());
    }
    if !text(spec, "externalID").is_empty() {
        all.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    let path = Path::ROOT.child("spec");
    for (at, range) in texts(spec, "podCIDRs").enumerate() {
        network(range, &path.child("podCIDRs").index(at), all);
    }
}

fn policy(policy: &Value, all: &mut Warnings) {
    let path = Path::ROOT.child("spec");
    for (direction, side) in [("ingress", "from"), ("egress", "to")] {
        let path = path.child(direction);
        for (at, rule) in items(&policy["spec"], direction).iter().enumerate() {
            let path = path.index(at);
            for (at, peer) in items(rule, side).iter().enumerate() {
                let list = path.child(side);
                let peer_path = list.index(at);
                let block = peer_path.child("ipBlock");
                network(text(&peer["ipBlock"], "cidr"), &block.child("cidr"), all);
                for (at, except) in texts(&peer["ipBlock"], "except").enumerate() {
                    network(except, &block.child("except").index(at), all);
                }
            }
        }
    }
}
