//! Rules of the core group's types.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Rule, image};
use crate::tree::{default, default_text, entries, flag, get, int, items, items_mut, object_mut, text};

/// Rules by type, without the leading `io.k8s.`.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("api.core.v1.AzureDiskVolumeSource", |disk| default(disk, "readOnly", false)),
    ("api.core.v1.ConfigMapVolumeSource", mode),
    ("api.core.v1.Container", container),
    ("api.core.v1.DownwardAPIVolumeSource", mode),
    ("api.core.v1.Endpoints", endpoints),
    ("api.core.v1.EphemeralContainer", container),
    ("api.core.v1.FileKeySelector", |key| default(key, "optional", false)),
    ("api.core.v1.GRPCAction", |action| default(action, "service", "")),
    ("api.core.v1.HTTPGetAction", http_get),
    ("api.core.v1.HostPathVolumeSource", |source| default(source, "type", "")),
    ("api.core.v1.LimitRangeItem", limit_range_item),
    ("api.core.v1.Namespace", namespace),
    ("api.core.v1.NodeSpec", node_spec),
    ("api.core.v1.NodeStatus", node_status),
    ("api.core.v1.ObjectFieldSelector", |selector| default_text(selector, "apiVersion", "v1")),
    ("api.core.v1.PersistentVolume", persistent_volume),
    ("api.core.v1.PersistentVolumeClaim", |claim| default_text(&mut claim["status"], "phase", "Pending")),
    ("api.core.v1.PersistentVolumeClaimSpec", |spec| default(spec, "volumeMode", "Filesystem")),
    ("api.core.v1.Pod", pod),
    ("api.core.v1.PodSpec", pod_spec),
    ("api.core.v1.PodStatus", pod_status),
    ("api.core.v1.Probe", probe),
    ("api.core.v1.ProjectedVolumeSource", mode),
    ("api.core.v1.ReplicationController", replication_controller),
    ("api.core.v1.Secret", secret),
    ("api.core.v1.SecretVolumeSource", mode),
    ("api.core.v1.Service", service),
    ("api.core.v1.ServiceAccountTokenProjection", |source| default(source, "expirationSeconds", 3600)),
    ("api.core.v1.Volume", volume),
];

fn mode(source: &mut Value) {
    default(source, "defaultMode", 0o644);
}

fn container(container: &mut Value) {
    if text(container, "imagePullPolicy").is_empty() {
        container["imagePullPolicy"] = image::pull_policy(text(container, "image")).into();
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
}

fn http_get(action: &mut Value) {
    default_text(action, "path", "/");
    default_text(action, "scheme", "HTTP");
}

fn probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if int(probe, field).unwrap_or(0) == 0 {
            probe[field] = value.into();
        }
    }
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().into_iter().flatten();
    if sources.filter(|(field, value)| *field != "name" && !value.is_null()).count() == 0 {
        volume["emptyDir"] = json!({});
    }
    if let Some(image) = volume.get_mut("image").filter(|image| image.is_object())
        && text(image, "pullPolicy").is_empty()
    {
        image["pullPolicy"] = image::pull_policy(text(image, "reference")).into();
    }
}

fn endpoints(endpoints: &mut Value) {
    for subset in items_mut(endpoints, "subsets") {
        items_mut(subset, "ports").iter_mut().for_each(|port| default_text(port, "protocol", "TCP"));
    }
}

fn namespace(namespace: &mut Value) {
    default_text(object_mut(namespace, "status"), "phase", "Active");
    let name = text(&namespace["metadata"], "name").to_owned();
    if !name.is_empty() {
        object_mut(&mut namespace["metadata"], "labels")["kubernetes.io/metadata.name"] = name.into();
    }
}

/// `podCIDR` is the first of `podCIDRs`.
fn node_spec(spec: &mut Value) {
    first_of(spec, "podCIDR", "podCIDRs", |cidr| cidr.clone());
}

fn node_status(status: &mut Value) {
    if let Some(capacity) = get(status, "capacity").cloned() {
        default(status, "allocatable", capacity);
    }
}

/// The older, single field and the newer list say the same; older clients know the single
/// one only, so it wins.
fn first_of(object: &mut Value, one: &str, many: &str, item: fn(&Value) -> Value) {
    let first = items(object, many).first();
    let first = first.map(|first| if first.is_object() { first["ip"].clone() } else { first.clone() });
    match (get(object, one).filter(|single| *single != "").cloned(), first) {
        (Some(single), first) if first.as_ref() != Some(&single) => object[many] = json!([item(&single)]),
        (None, Some(first)) => object[one] = first,
        _ => {}
    }
}

fn pod_status(status: &mut Value) {
    first_of(status, "podIP", "podIPs", |ip| json!({ "ip": ip }));
}

fn persistent_volume(volume: &mut Value) {
    default_text(&mut volume["status"], "phase", "Pending");
    default_text(&mut volume["spec"], "persistentVolumeReclaimPolicy", "Retain");
    default(&mut volume["spec"], "volumeMode", "Filesystem");
}

/// Requests default to limits.
fn requests(container: &mut Value) {
    let resources = &mut container["resources"];
    let limits: Vec<(String, Value)> =
        entries(resources, "limits").map(|(name, value)| (name.to_owned(), value.clone())).collect();
    if limits.is_empty() {
        return;
    }
    let requests = object_mut(resources, "requests");
    for (name, value) in limits {
        default(requests, &name, value);
    }
}

fn pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let host_network = flag(spec, "hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            requests(container);
            for port in items_mut(container, "ports").iter_mut().filter(|_| host_network) {
                if int(port, "hostPort").unwrap_or(0) == 0 {
                    port["hostPort"] = port["containerPort"].clone();
                }
            }
        }
    }
    default(spec, "enableServiceLinks", true);
    // A pod by itself always has some; templates say what they like.
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
}

fn pod_spec(spec: &mut Value) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "schedulerName", "default-scheduler");
    // The older field follows the newer one.
    let account = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !account.is_empty() {
        spec["serviceAccountName"] = account.as_str().into();
        spec["serviceAccount"] = account.into();
    }
}

fn replication_controller(controller: &mut Value) {
    let Some(labels) = get(&controller["spec"]["template"]["metadata"], "labels").cloned() else { return };
    if entries(&controller["spec"], "selector").next().is_none() {
        controller["spec"]["selector"] = labels.clone();
    }
    if entries(&controller["metadata"], "labels").next().is_none() {
        controller["metadata"]["labels"] = labels;
    }
}

/// `stringData` is written only; it is kept as data.
fn secret(secret: &mut Value) {
    default_text(secret, "type", "Opaque");
    let strings = secret.as_object_mut().and_then(|fields| fields.remove("stringData"));
    for (key, value) in strings.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        object_mut(secret, "data")[key] = encoded.into();
    }
}

fn service(service: &mut Value) {
    let spec = &mut service["spec"];
    default_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.as_object_mut().map(|fields| fields.remove("sessionAffinityConfig"));
        }
        "ClientIP"
            if crate::tree::int_at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"])
                .is_none() =>
        {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        default_text(port, "protocol", "TCP");
        if matches!(get(port, "targetPort"), None | Some(Value::String(_)) if text(port, "targetPort").is_empty())
            || int(port, "targetPort") == Some(0)
        {
            port["targetPort"] = port["port"].clone();
        }
    }
    let ty = text(spec, "type").to_owned();
    let external = ["NodePort", "LoadBalancer"].contains(&&*ty)
        || (ty == "ClusterIP" && !items(spec, "externalIPs").is_empty());
    if external {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&&*ty) {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if ty == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
        let balancer = &mut service["status"]["loadBalancer"];
        for entry in items_mut(balancer, "ingress") {
            if !text(entry, "ip").is_empty() {
                default(entry, "ipMode", "VIP");
            }
        }
    }
}

fn limit_range_item(item: &mut Value) {
    if text(item, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let source: Vec<(String, Value)> =
            entries(item, from).map(|(name, value)| (name.to_owned(), value.clone())).collect();
        for (name, value) in source {
            default(object_mut(item, to), &name, value);
        }
    }
}
