//! The environment of a container. Pure.
//!
//! kubelet's order: `envFrom`, then `env` (each value may refer to earlier ones and
//! to services), then the services' variables that nothing has set.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use super::expand::expand;
use super::fields;
use super::{ConfigError, Objects, PodFacts};

/// A Service, as far as its environment variables go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEnv {
    /// Its name.
    pub name: String,
    /// Its first cluster address.
    pub cluster_ip: String,
    /// Name (may be empty), port, protocol.
    pub ports: Vec<(String, u16, String)>,
}

/// The whole environment, in order.
pub fn environment(
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
    objects: &Objects,
    services: &[ServiceEnv],
) -> Result<Vec<(String, String)>, ConfigError> {
    let service_env = service_variables(services);
    let mut all: Vec<(String, String)> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    let mut put = |all: &mut Vec<(String, String)>, name: String, value: String| match index.get(&name) {
        Some(at) => all[*at].1 = value,
        None => {
            index.insert(name.clone(), all.len());
            all.push((name, value));
        }
    };
    for (name, value) in env_from(container, objects)? {
        put(&mut all, name, value);
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => match from_source(pod, container, facts, objects, source)? {
                Some(value) => value,
                None => continue,
            },
            None => {
                let lookup = |name: &str| {
                    let own = all.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
                    own.or_else(|| service_env.get(name).map(String::as_str))
                };
                expand(variable.value.as_deref().unwrap_or_default(), lookup)
            }
        };
        put(&mut all, variable.name.clone(), value);
    }
    for (name, value) in service_env {
        if all.iter().all(|(known, _)| *known != name) {
            all.push((name, value));
        }
    }
    Ok(all)
}

fn env_from(container: &Container, objects: &Objects) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all = Vec::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(map) = objects.config_map(&reference.name, optional)? {
                let data = map.data.iter().flatten();
                all.extend(data.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
            }
        }
        if let Some(reference) = &source.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(secret) = objects.secret(&reference.name, optional)? {
                for (key, value) in secret.data.iter().flatten() {
                    let value = String::from_utf8_lossy(&value.0).into_owned();
                    all.push((format!("{prefix}{key}"), value));
                }
            }
        }
    }
    Ok(all)
}

fn from_source(
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
    objects: &Objects,
    source: &EnvVarSource,
) -> Result<Option<String>, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.field_ref {
        return fields::field(pod, facts, &reference.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fields::resource(pod, facts, Some(container), selector).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let (name, key) = (&selector.name, &selector.key);
        let optional = selector.optional.unwrap_or(false);
        let Some(map) = objects.config_map(name, optional)? else { return Ok(None) };
        return match map.data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => {
                Err(ConfigError::config(format!("couldn't find key {key} in ConfigMap {namespace}/{name}")))
            }
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let (name, key) = (&selector.name, &selector.key);
        let optional = selector.optional.unwrap_or(false);
        let Some(secret) = objects.secret(name, optional)? else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(ConfigError::config(format!("couldn't find key {key} in Secret {namespace}/{name}"))),
        };
    }
    Ok(None)
}

/// The variables of services (docker links and `*_SERVICE_HOST`), sorted by name.
pub fn service_variables(services: &[ServiceEnv]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for service in services {
        let name = service.name.replace('-', "_").to_uppercase();
        let ip = &service.cluster_ip;
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        all.insert(format!("{name}_SERVICE_HOST"), ip.clone());
        for (at, (port_name, port, protocol)) in service.ports.iter().enumerate() {
            let url = format!("{}://{host}:{port}", protocol.to_lowercase());
            if at == 0 {
                all.insert(format!("{name}_SERVICE_PORT"), port.to_string());
                all.insert(format!("{name}_PORT"), url.clone());
            }
            if !port_name.is_empty() {
                let port_name = port_name.replace('-', "_").to_uppercase();
                all.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.to_string());
            }
            let prefix = format!("{name}_PORT_{port}_{}", protocol.to_uppercase());
            all.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            all.insert(format!("{prefix}_PORT"), port.to_string());
            all.insert(format!("{prefix}_ADDR"), ip.clone());
            all.insert(prefix, url);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects() -> Objects {
        let map = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).expect("a map");
        let secret = serde_json::from_value(json!({"data": {"pass": "cDRzcw=="}})).expect("a secret");
        Objects {
            config_maps: [("m".to_owned(), Some(map)), ("gone".to_owned(), None)].into(),
            secrets: [("s".to_owned(), Some(secret))].into(),
        }
    }

    fn check(container: serde_json::Value, expect: &[(&str, &str)]) {
        let container: Container = serde_json::from_value(container).expect("a container");
        let service = ServiceEnv {
            name: "redis-main".into(),
            cluster_ip: "10.96.0.7".into(),
            ports: vec![("r".into(), 6379, "TCP".into())],
        };
        let got = environment(&Pod::default(), &container, &PodFacts::default(), &objects(), &[service]);
        let got = got.expect("known");
        let got: Vec<(&str, &str)> = got
            .iter()
            .filter(|(name, _)| !name.starts_with("REDIS"))
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn sources_in_order() {
        check(
            json!({"name": "c",
                "envFrom": [{"prefix": "M_", "configMapRef": {"name": "m"}},
                    {"configMapRef": {"name": "gone", "optional": true}}],
                "env": [
                    {"name": "X", "value": "$(M_a)-$(REDIS_MAIN_SERVICE_PORT)-$(NONE)"},
                    {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pass"}}},
                    {"name": "M_b", "value": "over"},
                    {"name": "Q", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "z", "optional": true}}}]}),
            &[("M_a", "1"), ("M_b", "over"), ("X", "1-6379-$(NONE)"), ("P", "p4ss")],
        );
    }

    #[test]
    fn missing_objects_are_named() {
        let container = |env| -> Container {
            serde_json::from_value(json!({"name": "c", "env": [{"name": "X", "valueFrom": env}]}))
                .expect("one")
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "ns"}})).expect("a pod");
        let cases = [
            (json!({"configMapKeyRef": {"name": "gone", "key": "k"}}), "configmap \"gone\" not found"),
            (json!({"secretKeyRef": {"name": "s", "key": "k"}}), "couldn't find key k in Secret ns/s"),
        ];
        for (env, expect) in cases {
            let got = environment(&pod, &container(env), &PodFacts::default(), &objects(), &[]);
            assert_eq!(got.expect_err("missing").message, expect);
        }
    }

    #[test]
    fn service_links() {
        let service = ServiceEnv {
            name: "kubernetes".into(),
            cluster_ip: "10.96.0.1".into(),
            ports: vec![("https".into(), 443, "TCP".into())],
        };
        insta::assert_json_snapshot!(service_variables(&[service]));
    }
}
