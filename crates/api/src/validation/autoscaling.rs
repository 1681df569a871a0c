//! Rules of HorizontalPodAutoscalers, in the form of version 2, in which they are stored.

use serde_json::Value;

use super::names;
use super::rules::{invalid_each, non_negative, not_supported};
use super::shape::{Row, Rule, check};
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;
use crate::tree::{get, int, items, text};

const PERIOD_MAX: i64 = 1800;
const WINDOW_MAX: i64 = 3600;
/// The rules of one type of source.
type Check = fn(&Value, &Path<'_>, &Allowed, &mut Errors);
/// Sources in the order in which upstream looks at them.
const SOURCES: [(&str, &str, Check); 5] = [
    ("Object", "object", object_source),
    ("External", "external", external_source),
    ("Pods", "pods", pods_source),
    ("Resource", "resource", resource_source),
    ("ContainerResource", "containerResource", container_source),
];
const SOURCE_TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// What an older object allows.
struct Allowed {
    zero: bool,
    target_version: bool,
    metric_version: bool,
}

/// Rules of a new autoscaler.
pub fn create(object: &Value, errors: &mut Errors) {
    let allowed = Allowed { zero: false, target_version: false, metric_version: false };
    spec(&object["spec"], &allowed, errors);
}

/// Rules of an autoscaler that replaces another.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let same_target =
        |field: &str| text(&new["scaleTargetRef"], field) == text(&old["scaleTargetRef"], field);
    let wrong = |metric: &Value| {
        let reference = &metric["object"]["describedObject"];
        text(metric, "type") == "Object" && reference.is_object() && api_version(reference, true).is_err()
    };
    let allowed = Allowed {
        zero: int(old, "minReplicas") == Some(0),
        target_version: same_target("apiVersion") && same_target("kind"),
        metric_version: items(old, "metrics").iter().any(wrong),
    };
    spec(new, &allowed, errors);
}

fn spec(spec: &Value, allowed: &Allowed, errors: &mut Errors) {
    let path = &Path::ROOT.child("spec");
    let least = if allowed.zero { 0 } else { 1 };
    let (min, max) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    if let Some(min) = min.filter(|min| *min < least) {
        let detail = format!("must be greater than or equal to {least}");
        errors.push(Error::invalid(&path.child("minReplicas"), min, &detail));
    }
    let max_path = path.child("maxReplicas");
    if max == 0 {
        errors.push(Error::required(&max_path, "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(Error::invalid(&max_path, max, "must be greater than or equal to 1"));
    }
    if min.is_some_and(|min| max < min) {
        errors.push(Error::invalid(&max_path, max, "must be greater than or equal to `minReplicas`"));
    }
    let target = &spec["scaleTargetRef"];
    let any_group = text(target, "kind") == "ReplicationController";
    reference(target, any_group, allowed.target_version, &path.child("scaleTargetRef"), errors);
    metrics(spec, allowed, &path.child("metrics"), errors);
    check(spec, &[("behavior", Rule::In(BEHAVIOR))], path, errors);
}

/// A reference to an object of some version.
fn reference(reference: &Value, any_group: bool, any_version: bool, path: &Path<'_>, errors: &mut Errors) {
    const NAMED: &[Row] =
        &[("kind", Rule::Needs(names::path_segment)), ("name", Rule::Needs(names::path_segment))];
    check(reference, NAMED, path, errors);
    if any_version {
        return;
    }
    if let Err(detail) = api_version(reference, any_group) {
        errors.push(Error::invalid(&path.child("apiVersion"), text(reference, "apiVersion"), &detail));
    }
}

fn api_version(reference: &Value, any_group: bool) -> Result<(), String> {
    let version = text(reference, "apiVersion");
    let group = match version.matches('/').count() {
        0 => "",
        1 => version.split('/').next().unwrap_or_default(),
        _ => return Err(format!("unexpected GroupVersion string: {version}")),
    };
    if group.is_empty() && !any_group {
        return Err("apiVersion must specify API group".into());
    }
    Ok(())
}

fn metrics(spec: &Value, allowed: &Allowed, path: &Path<'_>, errors: &mut Errors) {
    let all = items(spec, "metrics");
    for (at, one) in all.iter().enumerate() {
        if super::rules::full(errors) {
            break;
        }
        metric(one, allowed, &path.index(at), errors);
    }
    let wakes = all.iter().any(|metric| ["Object", "External"].contains(&text(metric, "type")));
    if int(spec, "minReplicas") == Some(0) && !wakes {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(path, detail));
    }
}

fn metric(metric: &Value, allowed: &Allowed, path: &Path<'_>, errors: &mut Errors) {
    let ty = text(metric, "type");
    let ty_path = path.child("type");
    if ty.is_empty() {
        errors.push(Error::required(&ty_path, "must specify a metric source type"));
    }
    if !SOURCE_TYPES.contains(&ty) {
        errors.push(not_supported(&ty_path, ty, &SOURCE_TYPES));
    }
    let mut present: Vec<&str> = Vec::new();
    for (_, field, rules) in SOURCES {
        let Some(source) = get(metric, field) else { continue };
        present.push(field);
        if present.len() == 1 {
            rules(source, &path.child(field), allowed, errors);
        }
    }
    let expected = SOURCES.iter().find(|(name, ..)| *name == ty).map(|(_, field, _)| *field);
    match expected {
        Some(field) if get(metric, field).is_none() => {
            let detail = "must populate information for the given metric source";
            errors.push(Error::required(&path.child(field), detail));
        }
        Some(_) => {}
        None => errors.push(not_supported(&ty_path, ty, &SOURCE_TYPES)),
    }
    if present.len() != 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            errors.push(Error::forbidden(&path.child(field), "must populate the given metric source only"));
        }
    }
}

fn object_source(source: &Value, path: &Path<'_>, allowed: &Allowed, errors: &mut Errors) {
    let object = &source["describedObject"];
    reference(object, true, allowed.metric_version, &path.child("describedObject"), errors);
    identifier_and_target(source, path, errors);
    let target = &source["target"];
    if get(target, "value").is_none() && get(target, "averageValue").is_none() {
        let detail = "must set either a target value or averageValue";
        errors.push(Error::required(&path.child("target").child("averageValue"), detail));
    }
}

fn external_source(source: &Value, path: &Path<'_>, _: &Allowed, errors: &mut Errors) {
    identifier_and_target(source, path, errors);
    let target = &source["target"];
    let path = path.child("target");
    match (get(target, "value").is_some(), get(target, "averageValue").is_some()) {
        (false, false) => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(Error::required(&path.child("averageValue"), detail));
        }
        (true, true) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(Error::forbidden(&path.child("value"), detail));
        }
        _ => {}
    }
}

fn pods_source(source: &Value, path: &Path<'_>, _: &Allowed, errors: &mut Errors) {
    identifier_and_target(source, path, errors);
    if get(&source["target"], "averageValue").is_none() {
        let detail = "must specify a positive target averageValue";
        errors.push(Error::required(&path.child("target").child("averageValue"), detail));
    }
}

fn container_source(source: &Value, path: &Path<'_>, _: &Allowed, errors: &mut Errors) {
    match text(source, "name") {
        "" => errors.push(Error::required(&path.child("name"), "must specify a resource name")),
        name => super::pods::container_resource_name(name, &path.child("name"), errors),
    }
    match text(source, "container") {
        "" => errors.push(Error::required(&path.child("container"), "must specify a container")),
        name => invalid_each(errors, &path.child("container"), name, names::dns_label(name)),
    }
    usage(source, path, errors);
}

fn resource_source(source: &Value, path: &Path<'_>, _: &Allowed, errors: &mut Errors) {
    if text(source, "name").is_empty() {
        errors.push(Error::required(&path.child("name"), "must specify a resource name"));
    }
    usage(source, path, errors);
}

/// The target of a resource's use.
fn usage(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let target = &source["target"];
    let path = path.child("target");
    self::target(target, &path, errors);
    match (get(target, "averageUtilization").is_some(), get(target, "averageValue").is_some()) {
        (false, false) => {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(Error::required(&path.child("averageUtilization"), detail));
        }
        (true, true) => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(Error::forbidden(&path.child("averageValue"), detail));
        }
        _ => {}
    }
}

fn identifier_and_target(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = text(&source["metric"], "name");
    let metric = path.child("metric");
    match name {
        "" => errors.push(Error::required(&metric.child("name"), "must specify a metric name")),
        name => invalid_each(errors, &metric.child("name"), name, names::path_segment(name)),
    }
    target(&source["target"], &path.child("target"), errors);
}

fn target(target: &Value, path: &Path<'_>, errors: &mut Errors) {
    let ty = text(target, "type");
    if ty.is_empty() {
        errors.push(Error::required(&path.child("type"), "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&ty) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&path.child("type"), ty, detail));
    }
    for field in ["value", "averageValue"] {
        let amount = get(target, field);
        let quantity = amount.and_then(Value::as_str).and_then(|text| Quantity::parse(text).ok());
        if let Some(amount) = amount.filter(|_| quantity.is_some_and(|quantity| quantity.sign() != 1)) {
            errors.push(Error::invalid(&path.child(field), amount.clone(), "must be positive"));
        }
    }
    if let Some(percent) = int(target, "averageUtilization").filter(|percent| *percent < 1) {
        errors.push(Error::invalid(&path.child("averageUtilization"), percent, "must be greater than 0"));
    }
}

const BEHAVIOR: &[Row] = &[("scaleUp", Rule::In(SCALING)), ("scaleDown", Rule::In(SCALING))];

const SCALING: &[Row] = &[
    (
        "stabilizationWindowSeconds",
        Rule::By(|at, errors| {
            let Some(window) = at.value.as_i64() else { return };
            if window < 0 {
                errors.push(Error::invalid(at.path, window, "must be greater than or equal to zero"));
            }
            if window > WINDOW_MAX {
                errors.push(Error::invalid(at.path, window, "must be less than or equal to 3600"));
            }
        }),
    ),
    ("selectPolicy", Rule::OneOf(&["Disabled", "Max", "Min"])),
    ("policies", Rule::Required("must specify at least one Policy")),
    ("policies", Rule::Each(POLICY)),
    ("tolerance", Rule::NonNegativeQuantity),
];

const POLICY: &[Row] = &[
    ("type", Rule::Must(&["Percent", "Pods"])),
    ("value", Rule::By(|at, errors| super::rules::positive(errors, at.path, at.value.as_i64().unwrap_or(0)))),
    (
        "periodSeconds",
        Rule::By(|at, errors| {
            let period = at.value.as_i64().unwrap_or(0);
            super::rules::positive(errors, at.path, period);
            if period > PERIOD_MAX {
                errors.push(Error::invalid(at.path, period, "must be less than or equal to 1800"));
            }
        }),
    ),
];

/// Rules of a status that replaces another.
pub fn status(new: &Value, _: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        non_negative(errors, &path.child(field), int(&new["status"], field).unwrap_or(0));
    }
}
