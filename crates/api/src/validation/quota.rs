//! Rules of LimitRanges, ResourceQuotas and ReplicationControllers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::apps;
use super::names;
use super::pods;
use super::rules::{IMMUTABLE, full, invalid_each, invalid_json, non_negative};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::quantity::{Format, Quantity};
use crate::selector::Labels;
use crate::tree::{entries, get, int, items, text, texts};

/// Names that a quota may limit without a domain.
const QUOTA: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
    "requests.hugepages-",
];
const COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn quota_name(name: &str) -> bool {
    QUOTA[..19].contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// Rules of a LimitRange.
pub fn limit_range(object: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("limits");
    let mut types = BTreeSet::new();
    for (at, limit) in items(&object["spec"], "limits").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let ty = text(limit, "type");
        let wrong = names::qualified_name(ty);
        if !wrong.is_empty() {
            invalid_each(errors, &path.child("type"), ty, wrong);
        } else if !ty.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&ty) {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(Error::invalid(&path.child("type"), ty, detail));
        }
        if !types.insert(ty) {
            errors.push(Error::duplicate(&path.child("type"), ty));
        }
        limit_item(limit, ty, &path, errors);
    }
}

fn limit_item(limit: &Value, ty: &str, path: &Path<'_>, errors: &mut Errors) {
    let check_names = |list: &str, errors: &mut Errors| {
        let path = path.child(list);
        for (name, _) in entries(limit, list) {
            if full(errors) {
                break;
            }
            if ["Pod", "Container"].contains(&ty) {
                pods::container_resource_name(name, &path.key(name), errors);
            } else {
                pods::known_resource_name(name, &path.key(name), errors);
            }
        }
    };
    check_names("max", errors);
    check_names("min", errors);
    for list in ["default", "defaultRequest"] {
        if ty != "Pod" {
            check_names(list, errors);
        } else if entries(limit, list).next().is_some() {
            errors.push(Error::forbidden(&path.child(list), "may not be specified when `type` is 'Pod'"));
        }
    }
    let storage = |list: &str| get(&limit[list], "storage").is_some();
    if ty == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), detail));
    }
    check_names("maxLimitRequestRatio", errors);
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let judged = |list: &&str| ty != "Pod" || !list.starts_with("default");
    let keys: BTreeSet<&str> = lists
        .iter()
        .filter(|list| judged(list))
        .flat_map(|list| entries(limit, list))
        .map(|(name, _)| name)
        .collect();
    for key in keys {
        if full(errors) {
            break;
        }
        limits_agree(limit, ty, key, path, errors);
    }
}

/// An amount, and how it is written.
type Amount<'a> = Option<(Quantity, &'a Value)>;

fn limits_agree(limit: &Value, ty: &str, key: &str, path: &Path<'_>, errors: &mut Errors) {
    let amount = |list: &str| -> Amount<'_> {
        let value = get(&limit[list], key).filter(|_| ty != "Pod" || !list.starts_with("default"))?;
        Some((quantity(value)?, value))
    };
    let (min, max) = (amount("min"), amount("max"));
    let (default, request) = (amount("default"), amount("defaultRequest"));
    let ratio = amount("maxLimitRequestRatio");
    let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // `more` must not exceed `most`; the field named is refused with the value shown.
    let mut within =
        |more: &Amount<'_>, most: &Amount<'_>, list: &str, value: &Amount<'_>, words: [&str; 2]| {
            if let (Some((a, a_shown)), Some((b, b_shown)), Some((_, value))) = (more, most, value)
                && a.minus(*b).sign() > 0
            {
                let detail = format!(
                    "{} value {} is greater than {} value {}",
                    words[0],
                    shown(a_shown),
                    words[1],
                    shown(b_shown)
                );
                errors.push(Error::invalid(&path.child(list).key(key), (*value).clone(), &detail));
            }
        };
    within(&min, &max, "min", &min, ["min", "max"]);
    within(&min, &request, "defaultRequest", &request, ["min", "default request"]);
    within(&request, &max, "defaultRequest", &request, ["default request", "max"]);
    within(&request, &default, "defaultRequest", &request, ["default request", "default limit"]);
    within(&min, &default, "default", &min, ["min", "default"]);
    within(&default, &max, "default", &max, ["default", "max"]);
    if let Some((amount, value)) = ratio {
        let list = path.child("maxLimitRequestRatio");
        let path = list.key(key);
        if amount.minus(Quantity::new(1, Format::DecimalSi)).sign() < 0 {
            let detail = format!("ratio {} is less than 1", shown(value));
            errors.push(Error::invalid(&path, value.clone(), &detail));
        }
        if let (Some((min, _)), Some((max, _))) = (min, max) {
            let most = max.milli_value() as f64 / min.milli_value() as f64;
            if amount.milli_value() as f64 / 1000.0 > most {
                let detail = format!("ratio {} is greater than max/min = {most:.6}", shown(value));
                errors.push(Error::invalid(&path, value.clone(), &detail));
            }
        }
    }
    let native = !key.contains('/') || key.contains("kubernetes.io/");
    let overcommits = native && !key.starts_with("hugepages-");
    if let (false, Some((a, a_shown)), Some((b, b_shown))) = (overcommits, default, request)
        && a.minus(b).sign() != 0
    {
        let detail = format!(
            "default value {} must equal to defaultRequest value {} in {key}",
            shown(a_shown),
            shown(b_shown)
        );
        errors.push(Error::invalid(&path.child("defaultRequest").key(key), b_shown.clone(), &detail));
    }
}

/// Rules of a ResourceQuota.
pub fn resource_quota(object: &Value, errors: &mut Errors) {
    quota_spec(object, errors);
    let path = Path::ROOT.child("status");
    for list in ["hard", "used"] {
        amounts(&object["status"][list], &path.child(list), errors);
    }
}

fn quota_spec(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    amounts(&spec["hard"], &path.child("hard"), errors);
    scopes(spec, &path.child("scopes"), errors);
    scope_selector(spec, &path.child("scopeSelector"), errors);
}

fn amounts(list: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (name, amount) in list.as_object().into_iter().flatten() {
        if full(errors) {
            break;
        }
        let path = path.key(name);
        pods::known_resource_name(name, &path, errors);
        if !name.contains('/') && !quota_name(name) {
            errors.push(Error::invalid(&path, name.as_str(), "must be a standard resource for quota"));
        }
        pods::amount(name, amount, &path, errors);
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

fn scope_fits(scope: &str, name: &str) -> bool {
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || COMPUTE.contains(&name),
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        _ => true,
    }
}

/// Limits that a scope does not fit, one error each.
fn unfit<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a str> {
    let limits = entries(spec, "hard").map(|(name, _)| name);
    limits.filter(move |name| quota_name(name) && !scope_fits(scope, name))
}

fn conflicting(scopes: &BTreeSet<&str>) -> usize {
    let pairs = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
    pairs.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))).count()
}

fn scopes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let all: BTreeSet<&str> = texts(spec, "scopes").collect();
    let mut refuse = |detail: &str| {
        if !full(errors) {
            errors.push(Error::invalid(path, spec["scopes"].clone(), detail));
        }
    };
    for scope in texts(spec, "scopes") {
        if !SCOPES.contains(&scope) {
            refuse("unsupported scope");
        }
        unfit(spec, scope).for_each(|_| refuse("unsupported scope applied to resource"));
    }
    (0..conflicting(&all)).for_each(|_| refuse("conflicting scopes"));
}

fn scope_selector(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(selector) = get(spec, "scopeSelector") else { return };
    let path = path.child("matchExpressions");
    let mut all = BTreeSet::new();
    for requirement in items(selector, "matchExpressions") {
        if full(errors) {
            break;
        }
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        let values = items(requirement, "values");
        if !SCOPES.contains(&scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in unfit(spec, scope) {
            let json = internal::json("core.ScopeSelector", selector);
            errors.push(invalid_json(&path, &json, "unsupported scope applied to resource"));
        }
        let whole = SCOPES.contains(&scope) && !["PriorityClass", "VolumeAttributesClass"].contains(&scope);
        if whole && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&path.child("operator"), operator, detail));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&path.child("values"), values.to_vec(), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
            }
        }
        all.insert(scope);
    }
    for _ in 0..conflicting(&all) {
        let scopes = spec.get("scopes").cloned().unwrap_or_default();
        errors.push(Error::invalid(&path, scopes, "conflicting scopes"));
    }
}

/// Rules of a ResourceQuota that replaces another.
pub fn resource_quota_update(new: &Value, old: &Value, errors: &mut Errors) {
    quota_spec(new, errors);
    let scopes = |object| -> BTreeSet<String> { texts(object, "scopes").map(str::to_owned).collect() };
    if scopes(&new["spec"]) != scopes(&old["spec"]) {
        let path = Path::ROOT.child("spec");
        let value = new["spec"].get("scopes").cloned().unwrap_or_default();
        errors.push(Error::invalid(&path.child("scopes"), value, IMMUTABLE));
    }
}

/// Rules of a ResourceQuota's status that replaces another.
pub fn resource_quota_status(new: &Value, _: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("status");
    for list in ["hard", "used"] {
        amounts(&new["status"][list], &path.child(list), errors);
    }
}

/// Rules of a ReplicationController.
pub fn replication_controller(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], &Path::ROOT.child("spec"));
    let ready = int(spec, "minReadySeconds").unwrap_or(0);
    non_negative(errors, &path.child("minReadySeconds"), ready);
    let selector = &spec["selector"];
    let empty = entries(spec, "selector").next().is_none();
    if empty {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    match int(spec, "replicas") {
        None => errors.push(Error::required(&path.child("replicas"), "")),
        Some(replicas) => non_negative(errors, &path.child("replicas"), replicas),
    }
    let path = path.child("template");
    let Some(template) = get(spec, "template") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    let labels = &template["metadata"]["labels"];
    if !empty && !Labels::from_map(selector).matches_value(labels) {
        let at = path.child("metadata");
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&at.child("labels"), labels.clone(), detail));
    }
    pods::template(template, &path, errors);
    apps::long_lived(&template["spec"], "ReplicationController", &path, errors);
}
