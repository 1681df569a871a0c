//! Services and EndpointSlices, cut down to what rules and names need. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use carrack_api::{Record, Value};
use carrack_network::plan::{
    EndpointInput, EndpointPort, Protocol, ServiceInput, ServicePort, ServiceType, ServiceWithEndpoints,
    SessionAffinity, TrafficPolicy,
};

use crate::spec::ServiceEnv;

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name of its Service.
    pub service: (String, String),
    /// Its endpoints.
    pub endpoints: Vec<EndpointInput>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

fn protocol(value: &Value) -> Option<Protocol> {
    Protocol::parse(value.as_str().unwrap_or("TCP"))
}

fn addresses(value: &Value) -> Vec<IpAddr> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn policy(value: &Value) -> TrafficPolicy {
    if value == "Local" { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// A Service; `None` when it cannot be read.
pub fn service(record: &Record) -> Option<ServiceInput> {
    let object: Value = serde_json::from_slice(&record.to_json()).ok()?;
    Some(service_of(&object, record.key.namespace(), record.key.name()))
}

fn service_of(object: &Value, namespace: &str, name: &str) -> ServiceInput {
    let spec = &object["spec"];
    let headless = spec["clusterIP"] == "None";
    let service_type = match spec["type"].as_str() {
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        _ => ServiceType::ClusterIp,
    };
    let mut cluster_ips = addresses(&spec["clusterIPs"]);
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec["clusterIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|value| {
        Some(ServicePort {
            name: text(&value["name"]).unwrap_or_default(),
            protocol: protocol(&value["protocol"])?,
            port: port(&value["port"])?,
            node_port: port(&value["nodePort"]),
            app_protocol: text(&value["appProtocol"]),
        })
    });
    let timeout = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_u64();
    ServiceInput {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        cluster_ips: if headless { Vec::new() } else { cluster_ips },
        headless,
        service_type,
        external_name: text(&spec["externalName"]),
        ports: ports.collect(),
        external_ips: addresses(&spec["externalIPs"]),
        session_affinity: if spec["sessionAffinity"] == "ClientIP" {
            SessionAffinity::ClientIp {
                timeout_seconds: timeout.and_then(|t| u32::try_from(t).ok()).unwrap_or(10_800),
            }
        } else {
            SessionAffinity::None
        },
        internal_traffic_policy: policy(&spec["internalTrafficPolicy"]),
        external_traffic_policy: policy(&spec["externalTrafficPolicy"]),
        publish_not_ready: spec["publishNotReadyAddresses"] == true,
    }
}

/// An EndpointSlice; `None` when it belongs to no Service or holds host names.
pub fn slice(record: &Record) -> Option<Slice> {
    let service = record.header().label("kubernetes.io/service-name")?.to_owned();
    let object: Value = serde_json::from_slice(&record.to_json()).ok()?;
    if object["addressType"] == "FQDN" {
        return None;
    }
    Some(Slice { service: (record.key.namespace().to_owned(), service), endpoints: endpoints(&object) })
}

fn endpoints(object: &Value) -> Vec<EndpointInput> {
    let ports: Arc<[EndpointPort]> = object["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| {
            Some(EndpointPort {
                name: text(&value["name"]).unwrap_or_default(),
                protocol: protocol(&value["protocol"])?,
                port: port(&value["port"])?,
            })
        })
        .collect();
    let all = object["endpoints"].as_array().into_iter().flatten();
    all.filter_map(|value| {
        let conditions = &value["conditions"];
        let ready = conditions["ready"].as_bool().unwrap_or(true);
        let target = &value["targetRef"];
        Some(EndpointInput {
            ip: value["addresses"][0].as_str()?.parse().ok()?,
            ports: ports.clone(),
            ready,
            serving: conditions["serving"].as_bool().unwrap_or(ready),
            terminating: conditions["terminating"].as_bool().unwrap_or(false),
            node_name: text(&value["nodeName"]),
            hostname: text(&value["hostname"]),
            target_pod: text(&target["name"]).filter(|_| target["kind"] == "Pod"),
        })
    })
    .collect()
}

/// What of a Service appears in environments; `None` for one without an address.
pub fn service_env(entry: &ServiceWithEndpoints) -> Option<ServiceEnv> {
    let service = &entry.service;
    let cluster_ip = service.cluster_ips.first()?.to_string();
    let ports = service.ports.iter();
    let ports = ports.map(|p| (p.name.clone(), p.port, p.protocol.name().to_uppercase())).collect();
    Some(ServiceEnv { name: service.name.clone(), cluster_ip, ports })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_and_slices() {
        let service = service_of(
            &json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
                "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}}),
            "default",
            "web",
        );
        assert_eq!(service.service_type, ServiceType::NodePort);
        assert_eq!(service.session_affinity, SessionAffinity::ClientIp { timeout_seconds: 10_800 });
        assert_eq!((service.ports[0].port, service.ports[0].node_port), (80, Some(30080)));
        let headless = service_of(&json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}), "a", "b");
        assert!(headless.headless && headless.cluster_ips.is_empty());
        let endpoints =
            endpoints(&json!({"ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": [
            {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true},
                "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-1"}},
            {"addresses": ["10.42.0.4"], "conditions": {}}]}));
        assert_eq!((endpoints[0].ready, endpoints[0].serving, endpoints[0].terminating), (false, true, true));
        assert_eq!(endpoints[0].target_pod.as_deref(), Some("web-1"));
        assert!(endpoints[1].ready && endpoints[1].serving && !endpoints[1].terminating);
    }
}
