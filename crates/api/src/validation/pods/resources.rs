//! Rules of requests, limits and claims.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Spec;
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;
use crate::quota::pods::of_containers;
use crate::tree::{entries, get, items, text};
use crate::validation::names;
use crate::validation::rules::{NEGATIVE, full, invalid_each, invalid_json};

/// Resources of a container that need no domain.
const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resources of anything that need no domain.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn extended(name: &str) -> bool {
    let quota = format!("requests.{name}");
    !native(name) && !name.starts_with("requests.") && names::qualified_name(&quota).is_empty()
}

fn may_overcommit(name: &str) -> bool {
    native(name) && !huge(name)
}

/// The name of something that can be counted.
pub fn known_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        invalid_each(errors, path, name, wrong);
    } else if !name.contains('/') && !STANDARD.contains(&name) && !huge(name) {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(Error::invalid(path, name, detail));
    }
}

/// The name of something that containers use.
pub fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    known_resource_name(name, path, errors);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !huge(name) {
            errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !native(name) && !extended(name) {
        errors.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// An amount of something: not negative, and whole where it cannot be parted.
pub fn amount(name: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(quantity) = quantity(value) else { return };
    if quantity.sign() < 0 {
        errors.push(Error::invalid(path, value.clone(), NEGATIVE));
    }
    if (WHOLE.contains(&name) || extended(name)) && quantity.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, value.clone(), "must be an integer"));
    }
}

/// Quantities of a list whose names need no check (`status.capacity` of a Node).
pub fn quantities(list: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (name, value) in entries_of(list) {
        if full(errors) {
            break;
        }
        amount(name, value, &path.child(name), errors);
    }
}

fn entries_of(list: &Value) -> impl Iterator<Item = (&str, &Value)> {
    list.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// Names and quantities of a list.
pub fn list(list: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (name, value) in entries_of(list) {
        if full(errors) {
            break;
        }
        let path = path.key(name);
        container_resource_name(name, &path, errors);
        amount(name, value, &path, errors);
    }
}

/// `resources` of a container.
pub fn container(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let resources = &container["resources"];
    requirements(resources, path, errors);
    used_claims(spec, resources, path, errors);
}

/// Claims of the pod that a container, or the pod itself, uses.
fn used_claims(spec: &Spec<'_>, resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let claims = path.child("claims");
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (at, claim) in items(resources, "claims").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = claims.index(at);
        let name = text(claim, "name");
        let request = text(claim, "request");
        let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        if !request.is_empty() {
            invalid_each(errors, &path.child("request"), request, names::dns_label(request));
        }
        let of_claim = format!("{name}/");
        let requested = seen.range(of_claim.clone()..).next().is_some_and(|key| key.starts_with(&of_claim));
        let covered = seen.contains(name) || (request.is_empty() && requested);
        if covered || !seen.insert(key.clone()) {
            errors.push(Error::duplicate(&path, if covered { name } else { &key }));
        }
        if !spec.claims.contains(name) {
            let mut error = Error::not_found(&path, name);
            let known: Vec<&str> = spec.claims.iter().copied().collect();
            let known = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            error.message.push_str(&format!(": must be one of the names in pod.spec.resourceClaims{known}"));
            errors.push(error);
        }
    }
}

/// Requests and limits of a container, or of something like one.
pub fn requirements(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    amounts(resources, container_resource_name, path, errors);
}

/// Requests and limits of things that have names such as these.
fn amounts(resources: &Value, named: fn(&str, &Path<'_>, &mut Errors), path: &Path<'_>, errors: &mut Errors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for (name, value) in entries(resources, "limits") {
        if full(errors) {
            break;
        }
        let path = limits.key(name);
        named(name, &path, errors);
        amount(name, value, &path, errors);
        huge_pages(name, value, &path, errors);
    }
    for (name, value) in entries(resources, "requests") {
        if full(errors) {
            break;
        }
        let path = requests.key(name);
        named(name, &path, errors);
        amount(name, value, &path, errors);
        let limit = get(&resources["limits"], name);
        match (quantity(value), limit.and_then(quantity)) {
            (Some(request), Some(most)) => {
                let limit = limit.and_then(Value::as_str).unwrap_or_default();
                let excess = request.minus(most).sign();
                if excess != 0 && !may_overcommit(name) {
                    let detail = format!("must be equal to {name} limit of {limit}");
                    errors.push(Error::invalid(&requests, value.clone(), &detail));
                } else if excess > 0 {
                    let detail = format!("must be less than or equal to {name} limit of {limit}");
                    errors.push(Error::invalid(&requests, value.clone(), &detail));
                }
            }
            (Some(_), None) if !may_overcommit(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(Error::required(&limits, detail));
            }
            _ => {}
        }
        huge_pages(name, value, &path, errors);
    }
    let names = || entries(resources, "limits").chain(entries(resources, "requests")).map(|(name, _)| name);
    if names().any(huge) && !names().any(|name| ["cpu", "memory"].contains(&name)) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// The name of something that pods share out among their containers.
fn pod_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    known_resource_name(name, path, errors);
    if errors.len() == before && !["cpu", "memory"].contains(&name) && !huge(name) {
        errors.push(Error::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Huge pages come in wholes of their size.
fn huge_pages(name: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let size = name.strip_prefix("hugepages-").map(Quantity::parse);
    if let (Some(Ok(size)), Some(amount)) = (size, quantity(value))
        && (size.sign() <= 0 || size.milli_value() % 1000 != 0 || amount.value() % size.value() != 0)
    {
        let amount = value.as_str().unwrap_or_default();
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.push(Error::invalid(path, amount, &detail));
    }
}

/// `spec.resources`.
pub fn pod(spec: &Spec<'_>, resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    if text(&spec.spec["os"], "name") == "windows" {
        return errors.push(Error::forbidden(path, "may not be set for a windows pod"));
    }
    if !items(resources, "claims").is_empty() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(Error::forbidden(&path.child("claims"), detail));
    }
    amounts(resources, pod_resource_name, path, errors);
    used_claims(spec, resources, path, errors);
    containers_fit(spec.spec, resources, path, errors);
}

/// What containers request together is there for the pod, and none has a higher limit.
fn containers_fit(spec: &Value, resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let of_pod = |list: &str, name: &str| get(&resources[list], name).and_then(quantity);
    let (requests, limits) = of_containers(spec);
    for (list, sums) in [("requests", requests), ("limits", limits)] {
        let path = path.child(list);
        for (name, sum) in sums.iter().filter(|(name, _)| list == "requests" || huge(name)) {
            let Some(own) = of_pod(list, name).filter(|own| sum.minus(*own).sign() > 0) else { continue };
            let detail = format!("must be greater than or equal to aggregate container {list} of {sum}");
            errors.push(Error::invalid(&path.key(name), own.to_string(), &detail));
        }
    }
    // (The path is upstream's.)
    let path = path.child("containers");
    for (at, container) in items(spec, "containers").iter().enumerate() {
        for (name, value) in entries(&container["resources"], "limits") {
            if full(errors) {
                break;
            }
            let (Some(limit), Some(most)) = (quantity(value), of_pod("limits", name)) else { continue };
            if limit.minus(most).sign() > 0 {
                let detail = format!("must be less than or equal to pod limits of {most}");
                let path = path.index(at);
                errors.push(Error::invalid(&path.key(name).child("limits"), value.clone(), &detail));
            }
        }
    }
}

/// `spec.resourceClaims`; returns their names.
pub fn claims<'a>(spec: &'a Value, path: &Path<'_>, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (at, claim) in items(spec, "resourceClaims").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let name = text(claim, "name");
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else if !seen.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            invalid_each(errors, &path.child("name"), name, names::dns_label(name));
        }
        let references = ["resourceClaimName", "resourceClaimTemplateName"];
        let shown = |field: &str| claim.get(field).cloned().unwrap_or_default();
        let json = format!(
            "{{\"Name\":{name:?},\"ResourceClaimName\":{},\"ResourceClaimTemplateName\":{}}}",
            shown(references[0]),
            shown(references[1])
        );
        match references.iter().filter(|field| get(claim, field).is_some()).count() {
            0 => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(invalid_json(&path, &json, detail));
            }
            1 => {}
            _ => {
                let detail =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(invalid_json(&path, &json, detail));
            }
        }
        for field in references.iter().filter(|field| get(claim, field).is_some()) {
            let name = text(claim, field);
            invalid_each(errors, &path.child(field), name, names::dns_subdomain(name));
        }
    }
    seen
}
