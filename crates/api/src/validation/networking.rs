//! Rules of NetworkPolicies, Ingresses and IngressClasses.

use serde_json::Value;

use super::names;
use super::net;
use super::rules::{full, immutable_text, invalid_each, not_supported};
use super::shape::{Row, Rule, check};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, items, text, text_at, texts};

/// Rules of a NetworkPolicy, new or in the place of another.
pub fn policy(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    const SELECTOR: &[Row] = &[("podSelector", Rule::Selector)];
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let known = old.map(|old| networks(&old["spec"])).unwrap_or_default();
    check(spec, SELECTOR, &path, errors);
    for (direction, side) in DIRECTIONS {
        let path = path.child(direction);
        for (at, rule) in items(spec, direction).iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = path.index(at);
            for (at, port) in items(rule, "ports").iter().enumerate() {
                policy_port(port, &path.child("ports").index(at), errors);
            }
            for (at, one) in items(rule, side).iter().enumerate() {
                peer(one, &known, &path.child(side).index(at), errors);
            }
        }
    }
    let types: Vec<&str> = texts(spec, "policyTypes").collect();
    let path = path.child("policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.push(Error::invalid(&path, spec["policyTypes"].clone(), detail));
        return;
    }
    for (at, ty) in types.iter().enumerate() {
        if !["Ingress", "Egress"].contains(ty) {
            errors.push(not_supported(&path.index(at), ty, &["Ingress", "Egress"]));
        }
    }
}

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// Networks of an older object, which stay as they are, however they are written.
fn networks(spec: &Value) -> Vec<&str> {
    let rules = DIRECTIONS
        .iter()
        .flat_map(|(direction, side)| items(spec, direction).iter().flat_map(|rule| items(rule, side)));
    let blocks = rules.filter_map(|peer| get(peer, "ipBlock"));
    blocks.flat_map(|block| std::iter::once(text(block, "cidr")).chain(texts(block, "except"))).collect()
}

fn policy_port(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    const PROTOCOL: &[Row] = &[("protocol", Rule::OneOf(&["TCP", "UDP", "SCTP"]))];
    check(port, PROTOCOL, path, errors);
    let (port_path, end_path) = (path.child("port"), path.child("endPort"));
    let end = int(port, "endPort");
    match (get(port, "port"), end) {
        (Some(Value::String(name)), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(Error::invalid(&end_path, end, detail));
            }
            invalid_each(errors, &port_path, name.as_str(), names::port_name(name));
        }
        (Some(number), end) => {
            let number = number.as_i64().unwrap_or(0);
            invalid_each(errors, &port_path, number, names::port_number(number));
            if let Some(end) = end {
                if end < number {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(Error::invalid(&end_path, number, detail));
                }
                invalid_each(errors, &end_path, end, names::port_number(end));
            }
        }
        (None, Some(end)) => {
            let detail = "may not be specified when `port` is not specified";
            errors.push(Error::invalid(&end_path, end, detail));
        }
        (None, None) => {}
    }
}

fn peer(peer: &Value, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    const SELECTORS: &[Row] = &[("podSelector", Rule::Selector), ("namespaceSelector", Rule::Selector)];
    check(peer, SELECTORS, path, errors);
    let block = get(peer, "ipBlock");
    if let Some(block) = block {
        ip_block(block, known, &path.child("ipBlock"), errors);
    }
    let named = ["podSelector", "namespaceSelector"].iter().any(|field| get(peer, field).is_some());
    if block.is_none() && !named {
        errors.push(Error::required(path, "must specify a peer"));
    } else if block.is_some() && named {
        errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn ip_block(block: &Value, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let cidr = text(block, "cidr");
    let cidr_path = path.child("cidr");
    if cidr.is_empty() {
        errors.push(Error::required(&cidr_path, ""));
        return;
    }
    if !known.contains(&cidr) {
        net::legacy_cidr(errors, &cidr_path, cidr);
    }
    let Some((network, length)) = net::parse_cidr(cidr) else { return };
    for (at, except) in texts(block, "except").enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("except");
        let path = list.index(at);
        if !known.contains(&except) {
            net::legacy_cidr(errors, &path, except);
        }
        let Some((inner, inner_length)) = net::parse_cidr(except) else { continue };
        let within = network.is_ipv4() == inner.is_ipv4()
            && net::masked(inner, length) == net::masked(network, length)
            && net::masked(net::masked(inner, inner_length), length) == net::masked(network, length);
        if !within || length >= inner_length {
            errors.push(Error::invalid(&path, except, "must be a strict subset of `cidr`"));
        }
    }
}

/// Rules of a new Ingress.
pub fn ingress(object: &Value, errors: &mut Errors) {
    ingress_spec(object, None, errors);
    let class = get(&object["spec"], "ingressClassName").and_then(Value::as_str);
    let annotation = "kubernetes.io/ingress.class";
    let annotated = get(&object["metadata"]["annotations"], annotation).and_then(Value::as_str);
    if let (Some(class), Some(annotated)) = (class, annotated)
        && class != annotated
    {
        let path = Path::ROOT.child("annotations");
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(Error::invalid(&path.child(annotation), annotated, detail));
    }
}

/// Rules of an Ingress that replaces another.
pub fn ingress_update(new: &Value, old: &Value, errors: &mut Errors) {
    ingress_spec(new, Some(old), errors);
}

fn ingress_spec(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], &Path::ROOT.child("spec"));
    let rules = items(spec, "rules");
    let default = get(spec, "defaultBackend");
    if rules.is_empty() && default.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        let shown = spec.get("rules").cloned().unwrap_or_default();
        errors.push(Error::invalid(path, shown, detail));
    }
    if let Some(backend) = default {
        self::backend(backend, &path.child("defaultBackend"), errors);
    }
    let broken = |rule: &Value| {
        let mut wrong = Errors::new();
        paths(rule, &Path::ROOT, &mut wrong);
        text(rule, "host").contains('*') && !wrong.is_empty()
    };
    let any_wildcard = old.is_some_and(|old| items(&old["spec"], "rules").iter().any(broken));
    for (at, rule) in rules.iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("rules");
        ingress_rule(rule, any_wildcard, &list.index(at), errors);
    }
    let wrong = |tls: &Value| {
        let name = text(tls, "secretName");
        !name.is_empty() && !names::dns_subdomain(name).is_empty()
    };
    let any_secret = old.is_some_and(|old| items(&old["spec"], "tls").iter().any(wrong));
    for (at, tls) in items(spec, "tls").iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("tls");
        let path = list.index(at);
        for (at, host) in texts(tls, "hosts").enumerate() {
            invalid_each(errors, &path.child("hosts").index(at), host, host_name(host));
        }
        let name = text(tls, "secretName");
        if !name.is_empty() && !any_secret {
            invalid_each(errors, &path.child("secretName"), name, names::dns_subdomain(name));
        }
    }
    if let Some(class) = get(spec, "ingressClassName").and_then(Value::as_str) {
        invalid_each(errors, &path.child("ingressClassName"), class, names::dns_subdomain(class));
    }
}

fn host_name(host: &str) -> names::Messages {
    if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns_subdomain(host) }
}

fn ingress_rule(rule: &Value, any_wildcard: bool, path: &Path<'_>, errors: &mut Errors) {
    let host = text(rule, "host");
    if !host.is_empty() {
        let path = path.child("host");
        if is_address(host) {
            errors.push(Error::invalid(&path, host, "must be a DNS name, not an IP address"));
        }
        invalid_each(errors, &path, host, host_name(host));
    }
    if !(host.contains('*') && any_wildcard) {
        paths(rule, path, errors);
    }
}

fn is_address(host: &str) -> bool {
    net::sloppy_ip(host).is_some()
}

fn paths(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(http) = get(rule, "http") else { return };
    let path = path.child("http");
    let path = path.child("paths");
    let all = items(http, "paths");
    if all.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    for (at, one) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        http_path(one, &path.index(at), errors);
    }
}

fn http_path(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(ty) = get(item, "pathType").and_then(Value::as_str) else {
        errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    let (value, value_path) = (text(item, "path"), path.child("path"));
    let invalid = |errors: &mut Errors, detail: &str| {
        errors.push(Error::invalid(&value_path, value, detail));
    };
    match ty {
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                invalid(errors, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(sequence) {
                    invalid(errors, &format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if value.ends_with(suffix) {
                    invalid(errors, &format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                invalid(errors, "must be an absolute path");
            }
        }
        other => {
            let all = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(not_supported(&path.child("pathType"), other, &all));
        }
    }
    backend(&item["backend"], &path.child("backend"), errors);
}

const REFERENCE: &[Row] = &[
    (
        "apiGroup",
        Rule::By(|at, errors| {
            if let Some(group) = at.value.as_str() {
                invalid_each(errors, at.path, group, names::dns_subdomain(group));
            }
        }),
    ),
    ("kind", Rule::Needs(names::path_segment)),
    ("name", Rule::Needs(names::path_segment)),
];

fn backend(backend: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (resource, service) = (get(backend, "resource"), get(backend, "service"));
    match (resource, service) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(path, "", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => check(resource, REFERENCE, &path.child("resource"), errors),
        (None, Some(service)) => {
            let own = path.child("service");
            match text(service, "name") {
                "" => errors.push(Error::required(&own.child("name"), "")),
                name => invalid_each(errors, &own.child("name"), name, names::dns_label(name)),
            }
            let (name, number) =
                (text_at(service, &["port", "name"]), int(&service["port"], "number").unwrap_or(0));
            let port = own.child("port");
            match (name, number) {
                ("", 0) => errors.push(Error::required(path, "port name or number is required")),
                ("", number) => {
                    invalid_each(errors, &port.child("number"), number, names::port_number(number));
                }
                (name, 0) => invalid_each(errors, &port.child("name"), name, names::port_name(name)),
                _ => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
            }
        }
        (None, None) => {
            errors.push(Error::invalid(path, "", "resource or service backend is required"));
        }
    }
}

/// Rules of an Ingress's status that replaces another.
pub fn ingress_status(new: &Value, old: &Value, errors: &mut Errors) {
    let ingress = |object| {
        items(crate::tree::at(object, &["status", "loadBalancer"]).unwrap_or(&Value::Null), "ingress")
    };
    let known: Vec<&str> = ingress(old).iter().map(|point| text(point, "ip")).collect();
    let status = Path::ROOT.child("status");
    let balancer = status.child("loadBalancer");
    let list = balancer.child("ingress");
    for (at, point) in ingress(new).iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = list.index(at);
        let (ip, host) = (text(point, "ip"), text(point, "hostname"));
        if !ip.is_empty() && !known.contains(&ip) {
            net::legacy_ip(errors, &path.child("ip"), ip);
        }
        if !host.is_empty() {
            invalid_each(errors, &path.child("hostname"), host, names::dns_subdomain(host));
            if is_address(host) {
                let detail = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&path.child("hostname"), host, detail));
            }
        }
    }
}

/// Rules of an IngressClass.
pub fn class(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        errors.push(Error::too_long(&path.child("controller"), 250));
    }
    names::domain_prefixed_path(controller, &path.child("controller"), errors);
    let Some(parameters) = get(spec, "parameters") else { return };
    let path = path.child("parameters");
    check(parameters, REFERENCE, &path, errors);
    let namespace = get(parameters, "namespace").and_then(Value::as_str);
    let namespace_path = path.child("namespace");
    match (get(parameters, "scope").and_then(Value::as_str), namespace) {
        (None, _) => errors.push(Error::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(Error::required(&namespace_path, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(name)) => {
            invalid_each(errors, &namespace_path, name, names::dns_label(name));
        }
        (Some("Cluster"), Some(_)) => {
            errors.push(Error::forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => {
            errors.push(not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
}

/// Rules of an IngressClass that replaces another.
pub fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("spec");
    immutable_text(errors, &path.child("controller"), &new["spec"], &old["spec"], "controller");
}
