//! Rules of Services.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::net::{endpoint_ip, legacy_cidr, legacy_ip};
use super::pods::port_number_or_name;
use super::rules::{IMMUTABLE, full, invalid_each, not_supported, one_of};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, int_at, items, text, texts};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

fn headless(service: &Value) -> bool {
    let ips = items(&service["spec"], "clusterIPs");
    ips.len() == 1 && ips[0] == "None"
}

fn balanced(service: &Value) -> bool {
    text(&service["spec"], "type") == "LoadBalancer"
}

fn needs_health_check(service: &Value) -> bool {
    balanced(service) && text(&service["spec"], "externalTrafficPolicy") == "Local"
}

/// Rules of a new Service, and of one that replaces another.
pub fn create(service: &Value, errors: &mut Errors) {
    let spec = &service["spec"];
    let path = Path::ROOT.child("spec");
    let ty = text(spec, "type");
    let headless = headless(service);
    if items(spec, "ports").is_empty() && !headless && ty != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    match ty {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {ty} services");
            errors.push(Error::invalid(&path.child("clusterIPs").index(0), "None", &detail));
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    ports(spec, &path.child("ports"), errors);
    super::meta::labels(spec, "selector", &path.child("selector"), errors);
    affinity(spec, &path, errors);
    if ty != "ExternalName" {
        cluster_ips(service, &path, errors);
    }
    for (at, ip) in texts(spec, "externalIPs").enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("externalIPs");
        let path = list.index(at);
        let before = errors.len();
        legacy_ip(errors, &path, ip);
        if errors.len() == before {
            endpoint_ip(errors, &path, ip);
        }
    }
    one_of(errors, spec, "type", &path, &TYPES, true);
    unique_ports(spec, ty, &path.child("ports"), errors);
    balancer(service, &path, errors);
    traffic(service, &path, errors);
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let detail = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies"] {
        if !items(spec, field).is_empty() {
            errors.push(Error::forbidden(&path.child(field), detail));
        }
    }
    if get(spec, "ipFamilyPolicy").is_some() {
        errors.push(Error::forbidden(&path.child("ipFamilyPolicy"), detail));
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(Error::required(&path.child("externalName"), "")),
        name => invalid_each(errors, &path.child("externalName"), name, names::dns_subdomain(name)),
    }
}

fn ports(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let all = items(spec, "ports");
    let mut seen = BTreeSet::new();
    for (at, port) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let name = text(port, "name");
        if !name.is_empty() {
            invalid_each(errors, &path.child("name"), name, names::dns_label(name));
            if !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
        } else if all.len() > 1 {
            errors.push(Error::required(&path.child("name"), ""));
        }
        let number = int(port, "port").unwrap_or(0);
        invalid_each(errors, &path.child("port"), number, names::port_number(number));
        one_of(errors, port, "protocol", &path, &["SCTP", "TCP", "UDP"], true);
        port_number_or_name(&port["targetPort"], &path.child("targetPort"), errors);
        if get(port, "appProtocol").is_some() {
            let protocol = text(port, "appProtocol");
            invalid_each(errors, &path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

fn unique_ports(spec: &Value, ty: &str, path: &Path<'_>, errors: &mut Errors) {
    let all = || items(spec, "ports").iter().enumerate();
    let node_port = |port: &Value| int(port, "nodePort").unwrap_or(0);
    if ty == "ClusterIP" {
        for (at, _) in all().filter(|(_, port)| node_port(port) != 0) {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(Error::forbidden(&path.index(at).child("nodePort"), detail));
        }
    }
    let mut seen = BTreeSet::new();
    for (at, port) in all().filter(|(_, port)| node_port(port) != 0) {
        if !seen.insert((text(port, "protocol"), node_port(port))) {
            errors.push(Error::duplicate(&path.index(at).child("nodePort"), node_port(port)));
        }
    }
    let mut seen = BTreeSet::new();
    for (at, port) in all() {
        let (protocol, number) = (text(port, "protocol"), int(port, "port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            let mut error = Error::duplicate(&path.index(at), "");
            // As Go shows the struct that it looks for.
            error.message = format!(
                "Duplicate value: {{\"Name\":\"\",\"Protocol\":{protocol:?},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
            );
            errors.push(error);
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    one_of(errors, spec, "sessionAffinity", path, &["ClientIP", "None"], true);
    let config = path.child("sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let seconds = int_at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
            let client = config.child("clientIP");
            let path = client.child("timeoutSeconds");
            match seconds {
                None => errors.push(Error::required(&config, "when session affinity type is ClientIP")),
                Some(seconds) if !(1..=86400).contains(&seconds) => {
                    errors.push(Error::invalid(&path, seconds, "must be greater than 0 and less than 86400"));
                }
                Some(_) => {}
            }
        }
        "None" if get(spec, "sessionAffinityConfig").is_some() => {
            errors.push(Error::forbidden(&config, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn cluster_ips(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let spec = &service["spec"];
    let (one, all) = (text(spec, "clusterIP"), texts(spec, "clusterIPs").collect::<Vec<_>>());
    let ips = path.child("clusterIPs");
    let list = || spec["clusterIPs"].clone();
    match (one, all.first()) {
        ("", Some(_)) => {
            errors.push(Error::invalid(&ips, list(), "must be empty when `clusterIP` is not specified"));
        }
        (one, None) if !one.is_empty() => errors.push(Error::required(&ips, "")),
        (one, Some(first)) if one != *first => {
            errors.push(Error::invalid(&ips, list(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    let families: Vec<&str> = texts(spec, "ipFamilies").collect();
    for (at, family) in families.iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("ipFamilies");
        if !["IPv4", "IPv6"].contains(family) {
            errors.push(Error::not_supported(&list.index(at), *family, &["IPv4", "IPv6"]));
        }
        if !seen.insert(family) {
            errors.push(Error::duplicate(&list.index(at), *family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = get(spec, "ipFamilyPolicy").and_then(Value::as_str);
    if let Some(policy) = policy.filter(|policy| !policies.contains(policy)) {
        errors.push(Error::not_supported(&path.child("ipFamilyPolicy"), policy, &policies));
    }
    let before = errors.len();
    for (at, ip) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        if at == 0 && *ip == "None" {
            if all.len() > 1 {
                errors.push(Error::invalid(&ips, list(), "'None' must be the first and only value"));
            }
        } else {
            legacy_ip(errors, &ips.index(at), ip);
        }
    }
    let wrong = errors.len() > before;
    if all.len() > 2 {
        errors.push(Error::invalid(&ips, list(), "may only hold up to 2 values"));
    }
    if wrong {
        return;
    }
    let six = |ip: &str| ip.contains(':');
    if all.len() > 1 && all.iter().filter(|ip| six(ip)).count() != 1 {
        errors.push(Error::invalid(&ips, list(), "may specify no more than one IP for each IP family"));
    }
    if !headless(service) {
        for (at, (ip, family)) in all.iter().zip(&families).enumerate() {
            if full(errors) {
                break;
            }
            if six(ip) != (*family == "IPv6") {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
                errors.push(Error::invalid(&ips.index(at), *ip, &detail));
            }
        }
    }
}

fn balancer(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let spec = &service["spec"];
    let ranges: Vec<&str> = texts(spec, "loadBalancerSourceRanges").collect();
    if !ranges.is_empty() {
        // (Spelt as upstream spells it.)
        let path = path.child("LoadBalancerSourceRanges");
        if !balanced(service) {
            errors.push(Error::forbidden(&path, ONLY_BALANCED));
        }
        for (at, range) in ranges.iter().enumerate() {
            if full(errors) {
                break;
            }
            legacy_cidr(errors, &path.index(at), range.trim());
        }
    }
    if !balanced(service) {
        let field = "allocateLoadBalancerNodePorts";
        if get(spec, field).is_some() {
            errors.push(Error::forbidden(&path.child(field), ONLY_BALANCED));
        }
    }
    load_balancer_class(service, path, errors);
}

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

fn load_balancer_class(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(class) = get(&service["spec"], "loadBalancerClass").and_then(Value::as_str) else { return };
    let path = path.child("loadBalancerClass");
    if balanced(service) {
        invalid_each(errors, &path, class, names::qualified_name(class));
    } else {
        errors.push(Error::forbidden(&path, ONLY_BALANCED));
    }
}

fn traffic(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let spec = &service["spec"];
    let ty = text(spec, "type");
    let external = ["NodePort", "LoadBalancer"].contains(&ty)
        || (ty == "ClusterIP" && !items(spec, "externalIPs").is_empty());
    let policy = text(spec, "externalTrafficPolicy");
    if external {
        one_of(errors, spec, "externalTrafficPolicy", path, &["Cluster", "Local"], true);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(Error::invalid(&path.child("externalTrafficPolicy"), policy, detail));
    }
    let port = int(spec, "healthCheckNodePort").unwrap_or(0);
    if port != 0 && !needs_health_check(service) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(Error::invalid(&path.child("healthCheckNodePort"), port, detail));
    } else if port != 0 {
        invalid_each(errors, &path.child("healthCheckNodePort"), port, names::port_number(port));
    }
    let required = ["NodePort", "LoadBalancer", "ClusterIP"].contains(&ty);
    match get(spec, "internalTrafficPolicy").and_then(Value::as_str) {
        // What is given and empty is none of them.
        Some("") if required => {
            errors.push(Error::not_supported(
                &path.child("internalTrafficPolicy"),
                "",
                &["Cluster", "Local"],
            ));
        }
        _ => one_of(errors, spec, "internalTrafficPolicy", path, &["Cluster", "Local"], required),
    }
    let distribution = text(spec, "trafficDistribution");
    let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if get(spec, "trafficDistribution").is_some() && !supported.contains(&distribution) {
        errors.push(not_supported(&path.child("trafficDistribution"), distribution, &supported));
    }
}

/// Rules of an update, before those of a new Service.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("spec");
    let external = |service: &Value| text(&service["spec"], "type") == "ExternalName";
    if !external(new) && !external(old) {
        if !(headless(new) && headless(old)) {
            kept(new, old, "clusterIPs", "clusterIP", &path, errors);
        }
        if !headless(new) && !headless(old) {
            kept(new, old, "ipFamilies", "ipFamily", &path, errors);
        }
    }
    let class = |service: &Value| get(&service["spec"], "loadBalancerClass").cloned();
    if balanced(new) && balanced(old) && class(new) != class(old) {
        let value = class(new).unwrap_or_default();
        errors.push(Error::invalid(&path.child("loadBalancerClass"), value, "may not change once set"));
    }
    // (Upstream's rules of a new Service say it again.)
    load_balancer_class(new, &path, errors);
    let port = |service: &Value| int(&service["spec"], "healthCheckNodePort");
    if needs_health_check(new) && needs_health_check(old) && port(new) != port(old) {
        errors.push(Error::forbidden(&path.child("healthCheckNodePort"), IMMUTABLE));
    }
}

/// The primary value of a list stays; a second one may come and go.
fn kept(new: &Value, old: &Value, field: &str, one: &str, path: &Path<'_>, errors: &mut Errors) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let (now, then) = (items(spec, field), items(before, field));
    let list = path.child(field);
    let value = || spec.get(field).cloned().unwrap_or_default();
    if now.len() == then.len() {
        for (at, _) in now.iter().zip(then).enumerate().filter(|(_, (now, then))| now != then) {
            if full(errors) {
                break;
            }
            let at = if field == "ipFamilies" { 0 } else { at };
            errors.push(Error::invalid(&list.index(at), value(), "may not change once set"));
        }
        return;
    }
    if now.is_empty() {
        let detail = format!("primary {one} can not be unset");
        errors.push(Error::invalid(&list.index(0), value(), &detail));
    } else if !then.is_empty() && now[0] != then[0] {
        errors.push(Error::invalid(&list.index(0), value(), "may not change once set"));
    }
    let single = text(spec, "ipFamilyPolicy") == "SingleStack";
    if now.len() == 1 && then.len() > 1 && !single {
        let policy = spec.get("ipFamilyPolicy").cloned().unwrap_or_default();
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy, &detail));
    }
}

/// Rules of a status that replaces another.
pub fn status(service: &Value, errors: &mut Errors) {
    let status = Path::ROOT.child("status");
    let balancer = status.child("loadBalancer");
    let path = balancer.child("ingress");
    let ingress = items(&service["status"]["loadBalancer"], "ingress");
    if !balanced(service) && !ingress.is_empty() {
        errors.push(Error::forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    for (at, entry) in ingress.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
        if !ip.is_empty() {
            legacy_ip(errors, &path.child("ip"), ip);
        }
        let mode = path.child("ipMode");
        match (get(entry, "ipMode").and_then(Value::as_str), ip) {
            (None, "") | (Some("Proxy" | "VIP"), _) if ip.is_empty() == get(entry, "ipMode").is_none() => {}
            (None, _) => errors.push(Error::required(&mode, "must be specified when `ip` is set")),
            (Some(_), "") => {
                errors.push(Error::forbidden(&mode, "may not be specified when `ip` is not set"));
            }
            (Some(other), _) => errors.push(Error::not_supported(&mode, other, &["Proxy", "VIP"])),
        }
        if !host.is_empty() {
            invalid_each(errors, &path.child("hostname"), host, names::dns_subdomain(host));
            if host.parse::<std::net::IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&path.child("hostname"), host, detail));
            }
        }
    }
}
