//! The fields of a Service that hang together: clusterIP and clusterIPs, ipFamilies and
//! ipFamilyPolicy, node ports across updates. Pure.
//!
//! Follows upstream's `registry/core/service`: `normalizeClusterIPs`,
//! `patchAllocatedValues`, `initIPFamilyFields`, `dropTypeDependentFields`.

use carrack_api::Value;
use carrack_api::field::{Error, Errors, Path};
use serde_json::json;

use crate::auth::node::references::{items, text};

/// `IPv4` or `IPv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl Family {
    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    fn of(address: &str) -> Self {
        if address.contains(':') { Self::V6 } else { Self::V4 }
    }

    fn read(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.name() == name)
    }
}

/// The families of a Service, those unknown left out.
pub(super) fn families(service: &Value) -> Vec<Family> {
    items(service, "/spec/ipFamilies").filter_map(|family| Family::read(family.as_str()?)).collect()
}

/// The cluster IPs of a Service, `None` and empty ones included.
pub(super) fn cluster_ips(service: &Value) -> Vec<String> {
    items(service, "/spec/clusterIPs").filter_map(|ip| ip.as_str().map(str::to_owned)).collect()
}

pub(super) fn kind_of(service: &Value) -> &str {
    text(service, "/spec/type").unwrap_or("ClusterIP")
}

pub(super) fn is_headless(service: &Value) -> bool {
    text(service, "/spec/clusterIP") == Some("None")
}

fn has_selector(service: &Value) -> bool {
    service.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty())
}

fn policy(service: &Value) -> &str {
    text(service, "/spec/ipFamilyPolicy").unwrap_or_default()
}

fn remove(service: &mut Value, field: &str) {
    if let Some(spec) = service["spec"].as_object_mut() {
        spec.remove(field);
    }
}

fn same(a: &Value, b: &Value, field: &str) -> bool {
    let get = |service: &Value| {
        let value = service["spec"].get(field).cloned().unwrap_or(Value::Null);
        let empty = value == json!([]) || value == json!("") || value == json!(0);
        if empty { Value::Null } else { value }
    };
    get(a) == get(b)
}

fn same_cluster_ips(a: &Value, b: &Value) -> bool {
    same(a, b, "clusterIP") && same(a, b, "clusterIPs")
}

/// Brings clusterIP and clusterIPs together, for clients that know only the former.
pub(super) fn normalize(service: &mut Value, old: Option<&Value>) {
    let ip = text(service, "/spec/clusterIP").unwrap_or_default().to_owned();
    let Some(old) = old else {
        return carrack_api::prepare::cluster_ips(&mut service["spec"]);
    };
    let old_ip = text(old, "/spec/clusterIP").unwrap_or_default();
    if cluster_ips(service).is_empty() && !cluster_ips(old).is_empty() && ip == old_ip {
        service["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
    }
    if ip != old_ip && same(service, old, "clusterIPs") {
        if !old_ip.is_empty() && ip.is_empty() {
            remove(service, "clusterIPs");
        } else {
            service["spec"]["clusterIPs"] = json!([ip]);
        }
    }
}

/// Whether the type has cluster IPs.
pub(super) fn needs_cluster_ip(service: &Value) -> bool {
    kind_of(service) != "ExternalName"
}

/// Whether new node ports are to be allocated.
pub(super) fn allocates_node_ports(service: &Value) -> bool {
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Whether the type may have node ports.
pub(super) fn may_have_node_ports(service: &Value) -> bool {
    matches!(kind_of(service), "NodePort" | "LoadBalancer")
}

/// Whether the Service needs a port for health checks.
pub(super) fn needs_health_port(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == Some("Local")
}

/// A port's node port; 0 when it has none.
pub(super) fn node_port(port: &Value) -> i64 {
    port["nodePort"].as_i64().unwrap_or(0)
}

/// Keeps what was allocated, for clients that send again what they once created.
pub(super) fn patch_allocated(service: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(service) {
        if text(service, "/spec/clusterIP").is_none()
            && let Some(ip) = text(old, "/spec/clusterIP")
        {
            service["spec"]["clusterIP"] = ip.into();
        }
        if cluster_ips(service).is_empty() && !cluster_ips(old).is_empty() {
            service["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        }
    }
    if allocates_node_ports(old) && allocates_node_ports(service) {
        let ports = |service: &Value| -> Vec<i64> { items(service, "/spec/ports").map(node_port).collect() };
        let (new_ports, old_ports) = (ports(service), ports(old));
        let used = |port: i64| new_ports.contains(&port) && old_ports.contains(&port);
        let before = |name: &Value| {
            let named = items(old, "/spec/ports").filter(|port| port["name"] == *name).last();
            named.map(node_port).filter(|port| *port != 0 && !used(*port))
        };
        for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if node_port(port) == 0
                && let Some(before) = before(&port["name"])
            {
                port["nodePort"] = before.into();
            }
        }
    }
    if needs_health_port(old) && needs_health_port(service) && same_or_unset(service, "healthCheckNodePort") {
        let port = old["spec"].get("healthCheckNodePort").cloned();
        if let Some(port) = port {
            service["spec"]["healthCheckNodePort"] = port;
        }
    }
}

fn same_or_unset(service: &Value, field: &str) -> bool {
    service["spec"][field].as_i64().unwrap_or(0) == 0
}

/// Drops what another type left behind and the client did not also try to change.
pub(super) fn drop_left_behind(service: &mut Value, old: &Value) {
    if !needs_cluster_ip(service) {
        remove(service, "internalTrafficPolicy");
    }
    if needs_cluster_ip(old) && !needs_cluster_ip(service) {
        if same_cluster_ips(service, old) {
            remove(service, "clusterIP");
            remove(service, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(service, old, field) {
                remove(service, field);
            }
        }
    }
    if may_have_node_ports(old) && !may_have_node_ports(service) {
        let ports = |service: &Value| -> std::collections::BTreeSet<i64> {
            items(service, "/spec/ports").map(node_port).filter(|port| *port != 0).collect()
        };
        if ports(service) == ports(old) {
            for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
                port.as_object_mut().map(|port| port.remove("nodePort"));
            }
        }
    }
    let drops = [
        (needs_health_port(old) && !needs_health_port(service), "healthCheckNodePort"),
        (is_balanced(old) && !is_balanced(service), "allocateLoadBalancerNodePorts"),
        (is_balanced(old) && !is_balanced(service), "loadBalancerClass"),
        (is_external(old) && !is_external(service), "externalTrafficPolicy"),
    ];
    for (gone, field) in drops {
        if gone && same(service, old, field) {
            remove(service, field);
        }
    }
    if !is_balanced(service) && service.pointer("/status/loadBalancer").is_some() {
        service["status"]["loadBalancer"] = json!({});
    }
}

fn is_balanced(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer"
}

/// Whether it is reached from outside: through node ports, a balancer, external IPs.
fn is_external(service: &Value) -> bool {
    may_have_node_ports(service)
        || kind_of(service) == "ClusterIP" && items(service, "/spec/externalIPs").next().is_some()
}

/// Fills in ipFamilyPolicy and ipFamilies from what is given and what the cluster has
/// (its families, the default first); says what does not fit.
pub(super) fn settle_families(service: &mut Value, old: Option<&Value>, cluster: &[Family]) -> Errors {
    let mut errors = Vec::new();
    if !needs_cluster_ip(service) || old.is_some_and(|old| prefers_dual_as_before(service, old)) {
        return errors;
    }
    // What is no family stays as it is, for validation to name.
    let known = |family: &Value| family.as_str().is_some_and(|name| Family::read(name).is_some());
    if !items(service, "/spec/ipFamilies").all(known) {
        return errors;
    }
    if service["spec"].get("ipFamilyPolicy").is_none_or(Value::is_null) {
        let before = old.map(policy).filter(|policy| !policy.is_empty());
        let own =
            if is_headless(service) && !has_selector(service) { "RequireDualStack" } else { "SingleStack" };
        service["spec"]["ipFamilyPolicy"] = before.unwrap_or(own).into();
    }
    if let Some(old) = old {
        settle_update(service, old, &mut errors);
    }
    let (spec, given) = (Path::ROOT.child("spec"), policy(service).to_owned());
    let ips = cluster_ips(service);
    let mut families = families(service);
    let policy_path = spec.child("ipFamilyPolicy");
    if given == "SingleStack" {
        for (count, what) in [(ips.len(), "cluster IPs"), (families.len(), "IP families")] {
            if count == 2 {
                let detail = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.push(Error::invalid(&policy_path, given.as_str(), &detail));
            }
        }
    }
    for (at, ip) in ips.iter().enumerate().skip(families.len()).take_while(|(_, ip)| *ip != "None") {
        let family = Family::of(ip);
        if cluster.contains(&family) {
            families.push(family);
        } else {
            let detail = format!("{} is not configured on this cluster", family.name());
            errors.push(Error::invalid(&spec.child("clusterIPs").index(at), json!(ips), &detail));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    let single = given == "SingleStack";
    let free = is_headless(service) && !has_selector(service);
    if !free {
        if given == "RequireDualStack" && cluster.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(Error::invalid(&policy_path, given.as_str(), detail));
        }
        for (at, family) in families.iter().enumerate().filter(|(_, family)| !cluster.contains(family)) {
            let path = spec.child("ipFamilies");
            errors.push(Error::invalid(&path.index(at), family.name(), "not configured on this cluster"));
        }
        if !errors.is_empty() {
            return errors;
        }
    }
    if families.is_empty() {
        families.extend(cluster.first());
    }
    if !single && families.len() == 1 && (free || cluster.len() == 2) {
        families.push(families[0].other());
    }
    service["spec"]["ipFamilies"] = families.iter().map(|family| family.name()).collect();
    errors
}

/// Releasing the second family must be said in words: with the policy SingleStack.
fn settle_update(service: &mut Value, old: &Value, errors: &mut Errors) {
    let single = policy(service) == "SingleStack";
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let count = |service: &Value| items(service, &format!("/spec/{field}")).count();
        let (new, before) = (count(service), count(old));
        if single && same(service, old, field) && new > 1 {
            if let Some(list) = service["spec"][field].as_array_mut() {
                list.truncate(1);
            }
        } else if !single && new == 1 && before == 2 && service["spec"][field][0] == old["spec"][field][0] {
            let spec = Path::ROOT.child("spec");
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(Error::invalid(&spec.child("ipFamilyPolicy"), policy(service), &detail));
        }
    }
}

/// A Service that takes what there is stays as it is when the cluster changes.
fn prefers_dual_as_before(service: &Value, old: &Value) -> bool {
    policy(service) == "PreferDualStack"
        && matches!(policy(old), "" | "PreferDualStack")
        && kind_of(service) == kind_of(old)
        && same_cluster_ips(service, old)
        && same(service, old, "ipFamilies")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &[Family], service: Value, old: Option<Value>, expect: Result<Value, &str>) {
        let mut service = json!({ "spec": service });
        let old = old.map(|old| json!({ "spec": old }));
        normalize(&mut service, old.as_ref());
        let errors = settle_families(&mut service, old.as_ref(), cluster);
        let found = match &errors[..] {
            [] => Ok(json!([service["spec"]["ipFamilyPolicy"], service["spec"]["ipFamilies"]])),
            [first, ..] => Err(first.to_string()),
        };
        assert_eq!(found, expect.map_err(str::to_owned), "{service} {old:?}");
    }

    #[test]
    fn settles_families_as_upstream_does() {
        let (v4, dual) = (&[Family::V4][..], &[Family::V4, Family::V6][..]);
        check(v4, json!({}), None, Ok(json!(["SingleStack", ["IPv4"]])));
        check(dual, json!({}), None, Ok(json!(["SingleStack", ["IPv4"]])));
        check(&[Family::V6], json!({}), None, Ok(json!(["SingleStack", ["IPv6"]])));
        check(dual, json!({"clusterIP": "fd00::1"}), None, Ok(json!(["SingleStack", ["IPv6"]])));
        let prefer = json!({"ipFamilyPolicy": "PreferDualStack"});
        check(v4, prefer.clone(), None, Ok(json!(["PreferDualStack", ["IPv4"]])));
        check(dual, prefer, None, Ok(json!(["PreferDualStack", ["IPv4", "IPv6"]])));
        let require = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]});
        check(dual, require.clone(), None, Ok(json!(["RequireDualStack", ["IPv6", "IPv4"]])));
        let refusal = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured \
                       for dual-stack services";
        check(v4, require, None, Err(refusal));
        let refusal = "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
        check(v4, json!({"ipFamilies": ["IPv6"]}), None, Err(refusal));
        let refusal =
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster";
        check(v4, json!({"clusterIP": "fd00::1"}), None, Err(refusal));
        check(v4, json!({"clusterIP": "None"}), None, Ok(json!(["RequireDualStack", ["IPv4", "IPv6"]])));
        let headless = json!({"clusterIP": "None", "selector": {"a": "b"}});
        check(v4, headless, None, Ok(json!(["SingleStack", ["IPv4"]])));
        check(v4, json!({"type": "ExternalName"}), None, Ok(json!([null, null])));
    }

    #[test]
    fn gives_back_the_second_family_only_when_told() {
        let dual = [Family::V4, Family::V6];
        let old = json!({
            "type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
        });
        let mut single = old.clone();
        single["ipFamilyPolicy"] = "SingleStack".into();
        check(&dual, single, Some(old.clone()), Ok(json!(["SingleStack", ["IPv4"]])));
        let mut reduced = old.clone();
        reduced["clusterIPs"] = json!(["10.96.0.5"]);
        let refusal = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release \
                       the secondary cluster IP";
        check(&dual, reduced, Some(old), Err(refusal));
    }

    #[test]
    fn keeps_what_was_allocated() {
        let old = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30100}, {"name": "b", "port": 81, "nodePort": 30101}],
        }});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [
            {"name": "b", "port": 81}, {"name": "a", "port": 80}, {"name": "c", "port": 82}]}});
        patch_allocated(&mut new, &old);
        normalize(&mut new, Some(&old));
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.5"]));
        let ports: Vec<i64> = items(&new, "/spec/ports").map(node_port).collect();
        assert_eq!(ports, [30101, 30100, 0]);
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        drop_left_behind(&mut new, &old);
        assert_eq!(items(&new, "/spec/ports").map(node_port).sum::<i64>(), 0);
        new["spec"]["type"] = "ExternalName".into();
        drop_left_behind(&mut new, &old);
        assert_eq!(new["spec"].get("clusterIPs"), None);
    }
}
