//! The objects themselves, as upstream's controlplane controllers make them. Pure.

use std::net::IpAddr;

use carrack_api::Value;
use jiff::Timestamp;
use serde_json::json;

use super::BootstrapConfig;
use crate::clock::rfc3339;

type Objects = Vec<(&'static str, Value)>;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The name under which nodes know the server.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// Says since when the use of tokens that do not expire is noted in their Secrets.
const TOKEN_TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// The date there.
pub(super) const SINCE: &str = "since";

/// What the server may do on nodes, and no more than that.
pub(super) fn kubelet_client() -> (&'static str, Value) {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": KUBELET_CLIENT},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": KUBELET_CLIENT}],
    });
    ("clusterrolebindings.rbac.authorization.k8s.io", binding)
}

/// What lies in no namespace.
pub(super) fn cluster(config: &BootstrapConfig, now: Timestamp) -> Objects {
    let mut objects: Objects =
        NAMESPACES.iter().map(|name| ("namespaces", json!({"metadata": {"name": name}}))).collect();
    for (name, value, description) in [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if \
             necessary.",
        ),
    ] {
        let class = json!({
            "metadata": {"name": name}, "value": value, "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        objects.push(("priorityclasses.scheduling.k8s.io", class));
    }
    let cidrs: Vec<String> = config.ranges.addresses.iter().map(ToString::to_string).collect();
    let ready = json!({
        "type": "Ready", "status": "True", "lastTransitionTime": rfc3339(now),
        "message": "Kubernetes default Service CIDR is ready",
    });
    let range = json!({
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}, "status": {"conditions": [ready]},
    });
    objects.push(("servicecidrs.networking.k8s.io", range));
    objects
}

/// What lies in those namespaces.
pub(super) fn in_namespaces(config: &BootstrapConfig, now: Timestamp) -> Objects {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let ip = config.ranges.kubernetes().first().map(ToString::to_string).unwrap_or_default();
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port}],
        },
    });
    let family = config.ranges.addresses.first().map(|range| range.first().is_ipv4());
    let addresses: Vec<&IpAddr> =
        config.advertise.iter().filter(|address| Some(address.is_ipv4()) == family).collect();
    let ports = json!([{"name": "https", "port": config.port, "protocol": "TCP"}]);
    let ips: Vec<Value> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    let mut endpoints = json!({
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
    });
    if !ips.is_empty() {
        endpoints["subsets"] = json!([{"addresses": ips, "ports": ports}]);
    }
    let each = |address: &&IpAddr| json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
    let slice = json!({
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if family == Some(false) { "IPv6" } else { "IPv4" },
        "endpoints": addresses.iter().map(each).collect::<Vec<_>>(),
        "ports": ports,
    });
    let mut objects: Objects =
        vec![("services", service), ("endpoints", endpoints), ("endpointslices.discovery.k8s.io", slice)];
    let tracking = json!({
        "metadata": {"name": TOKEN_TRACKING, "namespace": "kube-system"},
        "data": {SINCE: now.strftime("%Y-%m-%d").to_string()},
    });
    objects.push(("configmaps", tracking));
    if !config.client_ca.is_empty() {
        let name = json!({"name": "extension-apiserver-authentication", "namespace": "kube-system"});
        let data = json!({"client-ca-file": config.client_ca});
        objects.push(("configmaps", json!({"metadata": name, "data": data})));
    }
    objects
}
