//! Rules of Endpoints, EndpointSlices, IPAddresses and ServiceCIDRs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::names;
use super::net::{cidr, endpoint_ip, ip_messages, legacy_ip, legacy_ip_messages, parse_cidr};
use super::rules::{IMMUTABLE, full, immutable, invalid_each, invalid_json, one_of};
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, get, int, items, same, text, texts};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Rules of Endpoints.
pub fn endpoints(endpoints: &Value, errors: &mut Errors) {
    let list = Path::ROOT.child("subsets");
    for (at, subset) in items(endpoints, "subsets").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = list.index(at);
        let kinds = ["addresses", "notReadyAddresses"];
        if kinds.iter().all(|kind| items(subset, kind).is_empty()) {
            errors.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for kind in kinds {
            let list = path.child(kind);
            for (at, address) in items(subset, kind).iter().enumerate() {
                if full(errors) {
                    break;
                }
                self::address(address, &list.index(at), errors);
            }
        }
        let ports = items(subset, "ports");
        let list = path.child("ports");
        for (at, port) in ports.iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = list.index(at);
            let name = text(port, "name");
            if !name.is_empty() {
                invalid_each(errors, &path.child("name"), name, names::dns_label(name));
            } else if ports.len() > 1 {
                errors.push(Error::required(&path.child("name"), ""));
            }
            let number = int(port, "port").unwrap_or(0);
            invalid_each(errors, &path.child("port"), number, names::port_number(number));
            protocols(port, &path, errors);
        }
    }
}

fn protocols(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    one_of(errors, port, "protocol", path, &PROTOCOLS, true);
    if get(port, "appProtocol").is_some() {
        let protocol = text(port, "appProtocol");
        invalid_each(errors, &path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn address(address: &Value, path: &Path<'_>, errors: &mut Errors) {
    let ip = text(address, "ip");
    legacy_ip(errors, &path.child("ip"), ip);
    let host = text(address, "hostname");
    if !host.is_empty() {
        invalid_each(errors, &path.child("hostname"), host, names::dns_label(host));
    }
    if get(address, "nodeName").is_some() {
        let node = text(address, "nodeName");
        invalid_each(errors, &path.child("nodeName"), node, names::dns_subdomain(node));
    }
    endpoint_ip(errors, &path.child("ip"), ip);
}

/// Rules of an EndpointSlice.
pub fn endpoint_slice(slice: &Value, old: Option<&Value>, errors: &mut Errors) {
    let family = text(slice, "addressType");
    one_of(errors, slice, "addressType", &Path::ROOT, &["FQDN", "IPv4", "IPv6"], true);
    let path = Path::ROOT.child("ports");
    let ports = items(slice, "ports");
    if ports.len() > 20_000 {
        errors.push(Error::too_many(&path, ports.len(), 20_000));
    } else {
        let mut seen = BTreeSet::new();
        for (at, port) in ports.iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = path.index(at);
            let name = text(port, "name");
            if !name.is_empty() {
                invalid_each(errors, &path.child("name"), name, names::dns_label(name));
            }
            if !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            protocols(port, &path, errors);
        }
    }
    if old.is_some_and(|old| same(old.get("endpoints"), slice.get("endpoints"))) {
        return;
    }
    let path = Path::ROOT.child("endpoints");
    let all = items(slice, "endpoints");
    if all.len() > 1000 {
        return errors.push(Error::too_many(&path, all.len(), 1000));
    }
    for (at, endpoint) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        self::endpoint(endpoint, family, &path.index(at), errors);
    }
}

fn endpoint(endpoint: &Value, family: &str, path: &Path<'_>, errors: &mut Errors) {
    let addresses = path.child("addresses");
    let count = items(endpoint, "addresses").len();
    match count {
        0 => errors.push(Error::required(&addresses, "must contain at least 1 address")),
        1..=100 => {}
        _ => errors.push(Error::too_many(&addresses, count, 100)),
    }
    for (at, address) in texts(endpoint, "addresses").enumerate() {
        if full(errors) {
            break;
        }
        let item = addresses.index(at);
        let wrong = match family {
            "IPv4" => legacy_ip_messages(address),
            "IPv6" => ip_messages(address),
            _ => {
                if family == "FQDN" {
                    domain(address, &item, errors);
                }
                continue;
            }
        };
        if !wrong.is_empty() {
            invalid_each(errors, &item, address, wrong);
            continue;
        }
        let six = address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        if six != (family == "IPv6") {
            errors.push(Error::invalid(&addresses, address, &format!("must be an {family} address")));
        }
        endpoint_ip(errors, &item, address);
    }
    if get(endpoint, "nodeName").is_some() {
        let node = text(endpoint, "nodeName");
        invalid_each(errors, &path.child("nodeName"), node, names::dns_subdomain(node));
    }
    super::meta::labels(endpoint, "deprecatedTopology", &path.child("deprecatedTopology"), errors);
    let topology = entries(endpoint, "deprecatedTopology").count();
    if topology > 16 {
        errors.push(Error::too_many(&path.child("deprecatedTopology"), topology, 16));
    }
    if get(endpoint, "hostname").is_some() {
        let host = text(endpoint, "hostname");
        invalid_each(errors, &path.child("hostname"), host, names::dns_label(host));
    }
    hints(endpoint, &path.child("hints"), errors);
}

fn hints(endpoint: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["forZones", "forNodes"] {
        let path = path.child(field);
        let all = items(&endpoint["hints"], field);
        if all.len() > 8 {
            errors.push(Error::too_many(&path, all.len(), 8));
            return;
        }
        let mut seen = BTreeSet::new();
        for (at, hint) in all.iter().enumerate() {
            if full(errors) {
                break;
            }
            let name = text(hint, "name");
            let item = path.index(at);
            let path = item.child("name");
            if seen.insert(name) {
                let wrong =
                    if field == "forZones" { names::label_value(name) } else { names::dns_subdomain(name) };
                invalid_each(errors, &path, name, wrong);
            } else {
                errors.push(Error::duplicate(&path, name));
            }
        }
    }
}

fn domain(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return errors.push(Error::required(path, ""));
    }
    let wrong = names::dns_subdomain(name);
    if !wrong.is_empty() {
        return errors.push(Error::invalid(path, name, &wrong.join(",")));
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, name, detail));
    }
}

/// Rules of an update of an EndpointSlice, beyond those of a new one.
pub fn endpoint_slice_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("addressType");
    immutable(errors, &path, new.get("addressType"), old.get("addressType"));
}

/// Rules of a new IPAddress.
pub fn ip_address(address: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("parentRef");
    let Some(parent) = get(&address["spec"], "parentRef") else {
        return errors.push(Error::required(&path, ""));
    };
    let group = text(parent, "group");
    if !group.is_empty() {
        invalid_each(errors, &path.child("group"), group, names::dns_subdomain(group));
    }
    for field in ["resource", "name", "namespace"] {
        match text(parent, field) {
            "" if field == "namespace" => {}
            "" => errors.push(Error::required(&path.child(field), "")),
            value => invalid_each(errors, &path.child(field), value, names::path_segment(value)),
        }
    }
}

/// Rules of an update of an IPAddress.
pub fn ip_address_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let parent = &new["spec"]["parentRef"];
    if !same(Some(parent), old["spec"].get("parentRef")) {
        // As Go shows the struct.
        let field = |name: &str| Value::from(text(parent, name));
        let json = match parent {
            Value::Null => "null".to_owned(),
            _ => format!(
                "{{\"Group\":{},\"Resource\":{},\"Namespace\":{},\"Name\":{}}}",
                field("group"),
                field("resource"),
                field("namespace"),
                field("name")
            ),
        };
        errors.push(invalid_json(&spec.child("parentRef"), &json, IMMUTABLE));
    }
}

/// Rules of a new ServiceCIDR.
pub fn service_cidr(object: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("cidrs");
    let all: Vec<&str> = texts(&object["spec"], "cidrs").collect();
    match all.len() {
        0 => return errors.push(Error::required(&path, "at least one CIDR required")),
        1 | 2 => {}
        _ => {
            // As Go shows the struct.
            let json = serde_json::json!({"CIDRs": all}).to_string();
            return errors.push(invalid_json(&path, &json, "may only hold up to 2 values"));
        }
    }
    for (at, network) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        cidr(errors, &path.index(at), network);
    }
    let is_v4 = |cidr: &str| Some(parse_cidr(cidr)?.0.is_ipv4());
    if let [one, other] = all[..]
        && is_v4(one).is_some()
        && is_v4(one) == is_v4(other)
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Error::invalid(&path, object["spec"]["cidrs"].clone(), detail));
    }
}

/// Rules of an update of a ServiceCIDR.
pub fn service_cidr_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("cidrs");
    let (now, then) = (items(&new["spec"], "cidrs"), items(&old["spec"], "cidrs"));
    if now.len() != then.len() && (then.len(), now.len()) != (1, 2) {
        return errors.push(Error::invalid(&path, new["spec"]["cidrs"].clone(), IMMUTABLE));
    }
    for (at, (now, _)) in now.iter().zip(then).enumerate().filter(|(_, (now, then))| now != then) {
        if full(errors) {
            break;
        }
        errors.push(Error::invalid(&path.index(at), now.clone(), IMMUTABLE));
    }
    if now.len() != then.len() {
        service_cidr(new, errors);
    }
}
