//! Rows of services and what is around them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Row;
use super::format::{NONE, UNSET, first_three, labels, or, selector_or_none};
use crate::tree::{get, int, items, items_at, text, text_at, texts};

/// The cells of a kind of these groups; `None` when it has no columns of its own.
pub fn cells(kind: &str, row: &Row<'_>) -> Option<Vec<Value>> {
    let spec = &row.object["spec"];
    Some(match kind {
        "EndpointSlice" => endpoint_slice(row),
        "Ingress" => ingress(row),
        "IngressClass" => ingress_class(row),
        "NetworkPolicy" => {
            vec![row.name(), selector_or_none(&spec["podSelector"]).into(), row.age()]
        }
        "ServiceCIDR" => {
            vec![row.name(), texts(spec, "cidrs").collect::<Vec<_>>().join(",").into(), row.age()]
        }
        // (One cell more than there are columns, as upstream has it.)
        "IPAddress" => vec![row.name(), parent(spec).into(), row.age()],
        _ => return None,
    })
}

fn parent(spec: &Value) -> String {
    let Some(parent) = get(spec, "parentRef") else { return NONE.to_owned() };
    let group = text(parent, "group");
    let dot = if group.is_empty() { "" } else { "." };
    let mut out = format!("{}{dot}{group}", text(parent, "resource")).to_lowercase();
    for part in [text(parent, "namespace"), text(parent, "name")] {
        if !part.is_empty() {
            out.push('/');
            out.push_str(part);
        }
    }
    out
}

/// The cells of a Service.
pub fn service(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let ports: Vec<String> = items(spec, "ports").iter().map(port).collect();
    vec![
        row.name(),
        text(spec, "type").into(),
        texts(spec, "clusterIPs").next().unwrap_or(NONE).into(),
        external_ip(row.object).into(),
        or(&ports.join(","), NONE).into(),
        row.age(),
        labels(spec, "selector").into(),
    ]
}

fn port(port: &Value) -> String {
    let number = int(port, "port").unwrap_or(0);
    let protocol = or(text(port, "protocol"), "TCP");
    match int(port, "nodePort").unwrap_or(0) {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external_ip(service: &Value) -> String {
    let spec = &service["spec"];
    let external: Vec<&str> = texts(spec, "externalIPs").collect();
    match text(spec, "type") {
        "ClusterIP" | "NodePort" => or(&external.join(","), NONE).to_owned(),
        "LoadBalancer" => {
            let balancer = load_balancer(service);
            let all: Vec<&str> = balancer.iter().map(String::as_str).chain(external).collect();
            or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn load_balancer(object: &Value) -> BTreeSet<String> {
    let ingress = items_at(object, &["status", "loadBalancer", "ingress"]);
    let address = |entry: &Value| or(text(entry, "ip"), text(entry, "hostname")).to_owned();
    ingress.iter().map(address).filter(|address| !address.is_empty()).collect()
}

fn ingress(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let rules = items(spec, "rules");
    let hosts: Vec<&str> =
        rules.iter().map(|rule| text(rule, "host")).filter(|host| !host.is_empty()).collect();
    let shown = hosts.iter().take(3).copied().collect::<Vec<_>>().join(",");
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        n if n >= 3 && rules.len() > 3 => format!("{shown} + {} more...", rules.len() - 3),
        _ => shown,
    };
    let address: Vec<String> = load_balancer(row.object).into_iter().collect();
    let ports = if items(spec, "tls").is_empty() { "80" } else { "80, 443" };
    vec![
        row.name(),
        get(spec, "ingressClassName").and_then(Value::as_str).unwrap_or(NONE).into(),
        hosts.into(),
        address.join(",").into(),
        ports.into(),
        row.age(),
    ]
}

fn ingress_class(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let mut name = text_at(row.object, &["metadata", "name"]).to_owned();
    let annotations = &row.object["metadata"]["annotations"];
    if text(annotations, "ingressclass.kubernetes.io/is-default-class") == "true" {
        name.push_str(" (default)");
    }
    let parameters = get(spec, "parameters").map_or_else(
        || NONE.to_owned(),
        |parameters| {
            let group = get(parameters, "apiGroup").and_then(Value::as_str);
            let group = group.map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", text(parameters, "kind"), text(parameters, "name"))
        },
    );
    vec![name.into(), text(spec, "controller").into(), parameters.into(), row.age()]
}

/// The cells of Endpoints.
pub fn endpoints(row: &Row<'_>) -> Vec<Value> {
    let subsets = items(row.object, "subsets");
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || items(subset, "addresses").iter().map(|address| text(address, "ip"));
        let ports = items(subset, "ports");
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            all.extend(ips().map(|ip| host_port(ip, int(port, "port").unwrap_or(0))));
        }
    }
    let text = if subsets.is_empty() { NONE.to_owned() } else { first_three(&all, all.len()) };
    vec![row.name(), text.into(), row.age()]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(row: &Row<'_>) -> Vec<Value> {
    let port = |port: &Value| match int(port, "port") {
        Some(number) => number.to_string(),
        None => get(port, "name").and_then(Value::as_str).unwrap_or("*").to_owned(),
    };
    let ports: Vec<String> = items(row.object, "ports").iter().map(port).collect();
    let addresses: Vec<String> = items(row.object, "endpoints")
        .iter()
        .flat_map(|endpoint| texts(endpoint, "addresses"))
        .map(str::to_owned)
        .collect();
    vec![
        row.name(),
        text(row.object, "addressType").into(),
        or(&first_three(&ports, ports.len()), UNSET).into(),
        or(&first_three(&addresses, addresses.len()), UNSET).into(),
        row.age(),
    ]
}
