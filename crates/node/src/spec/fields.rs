//! Values of `fieldRef` and `resourceFieldRef`, for environment and downwardAPI
//! volumes. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::resources::milli;
use super::{ConfigError, PodFacts};

/// The value of a field of the pod.
pub fn field(pod: &Pod, facts: &PodFacts, path: &str) -> Result<String, ConfigError> {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(unsupported(path)),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let ips = |ips: &[std::net::IpAddr]| -> Vec<String> { ips.iter().map(ToString::to_string).collect() };
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => text(&spec.and_then(|s| s.node_name.clone())),
        "spec.serviceAccountName" => text(&spec.and_then(|s| s.service_account_name.clone())),
        "status.hostIP" => ips(&facts.host_ips).into_iter().next().unwrap_or_default(),
        "status.hostIPs" => ips(&facts.host_ips).join(","),
        "status.podIP" => ips(&facts.pod_ips).into_iter().next().unwrap_or_default(),
        "status.podIPs" => ips(&facts.pod_ips).join(","),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> ConfigError {
    ConfigError::config(format!("unsupported fieldPath: {path}"))
}

/// `metadata.labels['a']` → (`metadata.labels`, `a`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, sorted, values quoted as Go's `%q`.
pub fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (key, value) in map.into_iter().flatten() {
        let _ = writeln!(out, "{key}={}", quote(value));
    }
    out
}

/// Go's `%q`, for text.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a container's resource, divided and rounded up.
pub fn resource(
    pod: &Pod,
    facts: &PodFacts,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, ConfigError> {
    let container = match &selector.container_name {
        Some(name) if !name.is_empty() => {
            let spec = pod.spec.as_ref();
            let mut all =
                spec.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
            all.find(|c| c.name == *name)
                .ok_or_else(|| ConfigError::config(format!("container {name} not found")))?
        }
        _ => own.ok_or_else(|| ConfigError::config("containerName is required"))?,
    };
    let (kind, name) = selector
        .resource
        .split_once('.')
        .filter(|(kind, _)| matches!(*kind, "limits" | "requests"))
        .ok_or_else(|| {
            ConfigError::config(format!("unsupported container resource : {}", selector.resource))
        })?;
    let resources = container.resources.as_ref();
    let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|l| l.get(name)).and_then(milli);
    let request = resources.and_then(|r| r.requests.as_ref()).and_then(|l| l.get(name)).and_then(milli);
    // A missing limit is what the node can give.
    let node = match name {
        "cpu" => i128::from(facts.node_cpus) * 1000,
        "memory" => i128::from(facts.node_memory) * 1000,
        "ephemeral-storage" => i128::from(facts.node_storage) * 1000,
        _ => 0,
    };
    let milli_value = if kind == "limits" { limit.unwrap_or(node) } else { request.or(limit).unwrap_or(0) };
    let divisor = selector.divisor.as_ref().filter(|d| d.0 != "0");
    let divisor = milli(divisor.unwrap_or(&Quantity("1".into()))).filter(|d| *d > 0).unwrap_or(1000);
    Ok((milli_value / divisor + i128::from(milli_value % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u",
                "labels": {"b": "2", "a": "one \"quoted\"\nline"}},
            "spec": {"nodeName": "n1", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn fields_of_the_pod() {
        let facts = PodFacts {
            pod_ips: vec!["10.42.0.5".parse().expect("an address"), "fd00::5".parse().expect("an address")],
            ..PodFacts::default()
        };
        let cases = [
            ("metadata.name", "web"),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("metadata.labels", "a=\"one \\\"quoted\\\"\\nline\"\nb=\"2\"\n"),
            ("spec.nodeName", "n1"),
            ("status.podIP", "10.42.0.5"),
            ("status.podIPs", "10.42.0.5,fd00::5"),
        ];
        for (path, expect) in cases {
            assert_eq!(field(&pod(), &facts, path).as_deref(), Ok(expect), "{path}");
        }
        assert!(field(&pod(), &facts, "spec.containers").is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let (pod, facts) = (pod(), PodFacts { node_memory: 1 << 30, node_cpus: 2, ..PodFacts::default() });
        let select = |resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                container_name: Some("c".into()),
                resource: resource.into(),
                divisor: Some(Quantity(divisor.into())),
            };
            resource_of(&pod, &facts, &selector)
        };
        fn resource_of(pod: &Pod, facts: &PodFacts, selector: &ResourceFieldSelector) -> String {
            resource(pod, facts, None, selector).expect("known")
        }
        assert_eq!(select("limits.cpu", "0"), "1");
        assert_eq!(select("limits.cpu", "1m"), "250");
        assert_eq!(select("requests.memory", "1Mi"), "64");
        assert_eq!(select("limits.ephemeral-storage", "1"), "0");
    }
}
