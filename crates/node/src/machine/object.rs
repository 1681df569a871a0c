//! What the Node object of this machine looks like. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_runtime::ImageStatus;
use serde_json::{Value, json};

use super::facts::{Facts, Pressure};

/// Images listed in the status, the largest first (kubelet's `nodeStatusMaxImages`).
const MAX_IMAGES: usize = 50;
/// Names of one image.
const MAX_NAMES: usize = 5;

/// What is decided about the node.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Labels besides the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// CIDRs of its pods.
    pub pod_cidrs: Vec<String>,
    /// Port of the endpoint.
    pub port: u16,
    /// Pods that it takes.
    pub max_pods: u32,
    /// As `kubelet --version` would say.
    pub version: String,
    /// File system that counts as the node's.
    pub data_dir: PathBuf,
}

/// The object to register.
pub fn node(config: &NodeConfig, facts: &Facts) -> Value {
    let mut labels: BTreeMap<&str, &str> =
        config.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for prefix in ["kubernetes.io/os", "beta.kubernetes.io/os"] {
        labels.insert(prefix, "linux");
    }
    for prefix in ["kubernetes.io/arch", "beta.kubernetes.io/arch"] {
        labels.insert(prefix, facts.architecture);
    }
    labels.insert("kubernetes.io/hostname", &config.name);
    let mut spec = json!({});
    if let Some(first) = config.pod_cidrs.first() {
        spec = json!({"podCIDR": first, "podCIDRs": config.pod_cidrs});
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": config.name, "labels": labels},
        "spec": spec,
    })
}

/// The status, without times: it is compared with the last one.
pub fn status(
    config: &NodeConfig,
    facts: &Facts,
    runtime: &str,
    images: &[ImageStatus],
    pressure: Pressure,
) -> Value {
    let kib = |bytes: u64| format!("{}Ki", bytes / 1024);
    let capacity = json!({
        "cpu": facts.cpus.to_string(), "memory": kib(facts.memory), "pods": config.max_pods.to_string(),
        "ephemeral-storage": kib(facts.storage),
    });
    let mut allocatable = capacity.clone();
    // As kubelet's default hard eviction thresholds take off.
    allocatable["memory"] = kib(facts.memory.saturating_sub(100 << 20)).into();
    allocatable["ephemeral-storage"] = (facts.storage / 10 * 9).to_string().into();
    let mut addresses: Vec<Value> =
        config.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()})).collect();
    addresses.push(json!({"type": "Hostname", "address": config.name}));
    json!({
        "addresses": addresses,
        "capacity": capacity,
        "allocatable": allocatable,
        "conditions": conditions(pressure),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "architecture": facts.architecture, "operatingSystem": "linux", "osImage": facts.os_image,
            "kernelVersion": facts.kernel, "machineID": facts.machine_id, "systemUUID": facts.system_uuid,
            "bootID": facts.boot_id, "containerRuntimeVersion": runtime,
            "kubeletVersion": config.version, "kubeProxyVersion": "",
        },
        "images": image_list(images),
    })
}

fn conditions(pressure: Pressure) -> Vec<Value> {
    let one = |kind: &str, bad: bool, no: (&str, &str), yes: (&str, &str)| {
        let (reason, message) = if bad { yes } else { no };
        json!({"type": kind, "status": if bad { "True" } else { "False" }, "reason": reason, "message": message})
    };
    vec![
        one(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ),
        one(
            "DiskPressure",
            pressure.disk,
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ),
        one(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ),
        json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "kubelet is posting ready status"}),
    ]
}

fn image_list(images: &[ImageStatus]) -> Vec<Value> {
    let mut images: Vec<_> = images.iter().collect();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let entry = |image: &&ImageStatus| {
        let names: Vec<_> = image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES).collect();
        json!({"names": names, "sizeBytes": image.size})
    };
    images.iter().take(MAX_IMAGES).map(entry).collect()
}

/// Gives conditions their times: a transition keeps its time unless it is one.
pub fn stamp(status: &mut Value, bare: &Value, before: &Value, now: &str) {
    let state = |status: &Value, kind: &Value| -> Option<Value> {
        let all = status["conditions"].as_array()?;
        all.iter().find(|c| c["type"] == *kind).map(|c| c["status"].clone())
    };
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let kind = condition["type"].clone();
        condition["lastHeartbeatTime"] = now.into();
        if state(bare, &kind) != state(before, &kind) {
            condition["lastTransitionTime"] = now.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NodeConfig {
        NodeConfig {
            name: "n1".into(),
            addresses: vec!["192.168.1.5".parse().expect("an address")],
            pod_cidrs: vec!["10.42.0.0/16".into()],
            port: 10250,
            max_pods: 110,
            version: "v1.36.3".into(),
            ..NodeConfig::default()
        }
    }

    #[test]
    fn looks_like_a_node() {
        let facts =
            Facts { cpus: 2, memory: 8 << 30, storage: 100 << 30, architecture: "amd64", ..Facts::default() };
        let image = ImageStatus {
            id: "sha256:1".into(),
            repo_tags: vec!["a:1".into()],
            size: 5,
            ..Default::default()
        };
        let node = node(&config(), &facts);
        let status = status(&config(), &facts, "carrack://0.1.0", &[image], Pressure::default());
        insta::assert_json_snapshot!(json!({"node": node, "status": status}));
    }

    #[test]
    fn transition_times_change_with_the_state_only() {
        let of = |memory| {
            let pressure = Pressure { memory, ..Pressure::default() };
            status(&config(), &Facts::default(), "", &[], pressure)
        };
        let (before, bare) = (of(false), of(true));
        let mut stamped = bare.clone();
        stamp(&mut stamped, &bare, &before, "T");
        assert_eq!(stamped["conditions"][0]["lastTransitionTime"], "T");
        assert_eq!(stamped["conditions"][1]["lastTransitionTime"], Value::Null);
        assert_eq!(stamped["conditions"][1]["lastHeartbeatTime"], "T");
    }
}
