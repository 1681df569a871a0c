//! Rules of Deployments, ReplicaSets, DaemonSets and StatefulSets.

use serde_json::Value;

use super::names;
use super::pods;
use super::rules::{empty_selector, immutable, invalid_each, invalid_struct, label_selector, non_negative};
use crate::field::{Error, Errors, Path};
use crate::selector::Labels;
use crate::tree::{get, int, same, text};

/// Rules of a new object.
pub fn create(kind: &str, object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let path = Path::ROOT.child("spec");
    match kind {
        "Deployment" => deployment(spec, &path, errors),
        "ReplicaSet" => replica_set(spec, &path, errors),
        "StatefulSet" | "DaemonSet" => other(kind, spec, &path, errors),
        _ => {}
    }
}

/// Rules of an update, beyond those of a new object.
pub fn update(kind: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            let (new, old) = (new["spec"].get("selector"), old["spec"].get("selector"));
            immutable(errors, &spec.child("selector"), new, old);
        }
        "StatefulSet" => stateful_set_update(&new["spec"], &old["spec"], &spec, errors),
        "ControllerRevision" if !same(new.get("data"), old.get("data")) => {
            immutable(errors, &Path::ROOT.child("data"), new.get("data"), old.get("data"));
        }
        _ => {}
    }
}

fn stateful_set_update(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let may_change = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(fields) = spec.as_object_mut() {
            may_change.iter().for_each(|field| {
                fields.remove(*field);
            });
        }
        spec
    };
    if !same(Some(&fixed(new)), Some(&fixed(old))) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(path, detail));
    }
}

fn selector_and_template(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let selector = get(spec, "selector");
    let selector_path = path.child("selector");
    match selector {
        None => errors.push(Error::required(&selector_path, "")),
        Some(value) => {
            label_selector(errors, selector, &selector_path);
            if empty_selector(selector) {
                let detail = format!("empty selector is invalid for {kind}");
                errors.push(invalid_struct(&selector_path, value, &detail));
            }
        }
    }
    let template = &spec["template"];
    let labels = &template["metadata"]["labels"];
    // An absent selector matches nothing, an empty one everything.
    match selector.map(Labels::from_value) {
        Some(Err(_)) => {
            let value = selector.unwrap_or(&Value::Null);
            errors.push(invalid_struct(&selector_path, value, "invalid label selector"));
            return;
        }
        Some(Ok(selector)) if selector.matches_value(labels) => {}
        Some(Ok(_)) | None => {
            let template = path.child("template");
            let path = template.child("metadata");
            let detail = "`selector` does not match template `labels`";
            errors.push(Error::invalid(&path.child("labels"), labels.clone(), detail));
        }
    }
    self::template(template, kind, &path.child("template"), errors);
}

fn template(template: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    pods::template(template, path, errors);
    let spec = &template["spec"];
    let path = path.child("spec");
    let restart = text(spec, "restartPolicy");
    if restart != "Always" {
        errors.push(Error::not_supported(&path.child("restartPolicy"), restart, &["Always"]));
    }
    if get(spec, "activeDeadlineSeconds").is_some() {
        let shown = if kind == "deployment" { "ReplicaSet" } else { kind };
        let detail = format!("activeDeadlineSeconds in {shown} is not Supported");
        errors.push(Error::forbidden(&path.child("activeDeadlineSeconds"), &detail));
    }
}

fn deployment(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let count = |field: &str| int(spec, field);
    non_negative(errors, &path.child("replicas"), count("replicas").unwrap_or(0));
    selector_and_template(spec, "deployment", path, errors);
    strategy(&spec["strategy"], &path.child("strategy"), errors);
    let ready = count("minReadySeconds").unwrap_or(0);
    non_negative(errors, &path.child("minReadySeconds"), ready);
    non_negative(errors, &path.child("revisionHistoryLimit"), count("revisionHistoryLimit").unwrap_or(0));
    if let Some(deadline) = count("progressDeadlineSeconds") {
        let path = path.child("progressDeadlineSeconds");
        non_negative(errors, &path, deadline);
        if deadline <= ready {
            errors.push(Error::invalid(&path, deadline, "must be greater than minReadySeconds"));
        }
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = get(strategy, "rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Error::forbidden(&path.child("rollingUpdate"), detail));
        }
        ("RollingUpdate", None) => {
            let detail = "this should be defaulted and never be nil";
            errors.push(Error::required(&path.child("rollingUpdate"), detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            int_or_percent(unavailable, &path.child("maxUnavailable"), errors);
            int_or_percent(surge, &path.child("maxSurge"), errors);
            if amount(unavailable) == 0 && amount(surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(Error::invalid(&path.child("maxUnavailable"), unavailable.clone(), detail));
            }
            at_most_all(unavailable, &path.child("maxUnavailable"), errors);
        }
        _ => {
            let mut error = Error::not_supported(path, "", &["Recreate", "RollingUpdate"]);
            // As Go shows the struct.
            let rolling = rolling.cloned().unwrap_or_default();
            error.message = format!(
                "Unsupported value: {{\"Type\":{:?},\"RollingUpdate\":{rolling}}}: supported values: \"Recreate\", \"RollingUpdate\"",
                text(strategy, "type")
            );
            errors.push(error);
        }
    }
}

/// A count or a percentage.
pub fn int_or_percent(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(percent) => invalid_each(errors, path, percent.as_str(), names::percent(percent)),
        number => non_negative(errors, path, number.as_i64().unwrap_or(0)),
    }
}

/// A percentage up to 100.
pub fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.is_string() && amount(value) > 100 {
        errors.push(Error::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

fn amount(value: &Value) -> i64 {
    match value {
        Value::String(percent) => percent.trim_end_matches('%').parse().unwrap_or(0),
        number => number.as_i64().unwrap_or(0),
    }
}

fn replica_set(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["replicas", "minReadySeconds"] {
        non_negative(errors, &path.child(field), int(spec, field).unwrap_or(0));
    }
    // (Upstream says deployment here too.)
    selector_and_template(spec, "deployment", path, errors);
}

fn other(kind: &str, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        non_negative(errors, &path.child(field), int(spec, field).unwrap_or(0));
    }
    let shown = if kind == "StatefulSet" { "statefulset" } else { "daemonset" };
    selector_and_template(spec, shown, path, errors);
    let path = path.child("updateStrategy");
    let ty = text(&spec["updateStrategy"], "type");
    match ty {
        "" => errors.push(Error::required(&path.child("type"), "")),
        "OnDelete" | "RollingUpdate" => {}
        other => {
            errors.push(Error::invalid(&path.child("type"), other, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

/// Rules of a status that replaces another.
pub fn status(kind: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (&new["status"], Path::ROOT.child("status"));
    let fields: &[&str] = match kind {
        "Deployment" => &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        "ReplicaSet" => &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        _ => return,
    };
    let count = |field: &str| int(status, field).unwrap_or(0);
    for field in fields {
        non_negative(errors, &path.child(field), count(field));
    }
    let first = if kind == "Deployment" { "updatedReplicas" } else { "fullyLabeledReplicas" };
    for field in [first, "readyReplicas", "availableReplicas"] {
        if count(field) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(Error::invalid(&path.child(field), count(field), detail));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.push(Error::invalid(&path.child("availableReplicas"), count("availableReplicas"), detail));
    }
    let before = int(&old["status"], "collisionCount").unwrap_or(0);
    if kind == "Deployment" && count("collisionCount") < before {
        let path = path.child("collisionCount");
        errors.push(Error::invalid(&path, count("collisionCount"), "cannot be decremented"));
    }
}
