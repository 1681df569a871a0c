//! What an update of a Job may change: how many pods at once, and whether at all; and
//! where its pods run and what they get, as long as it is suspended.

use serde_json::Value;

use super::spec_and_selector;
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{flag, get, int, items, same, text};
use crate::validation::rules::{IMMUTABLE, immutable, invalid_json};

/// Rules of a Job that replaces another.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("spec");
    let (spec, before) = (&new["spec"], &old["spec"]);
    spec_and_selector(spec, errors);
    completions(spec, before, &path.child("completions"), errors);
    let fixed = |field: &str, errors: &mut Errors| {
        immutable(errors, &path.child(field), spec.get(field), before.get(field));
    };
    fixed("selector", errors);
    template(spec, old, &path, errors);
    let shown = |field: &str, ty: &str, errors: &mut Errors| {
        if !same(spec.get(field), before.get(field)) {
            let json = internal::json(ty, spec.get(field).unwrap_or(&Value::Null));
            errors.push(invalid_json(&path.child(field), &json, IMMUTABLE));
        }
    };
    fixed("completionMode", errors);
    shown("podFailurePolicy", "*batch.PodFailurePolicy", errors);
    fixed("backoffLimitPerIndex", errors);
    // (One that is empty is not an absent one.)
    if get(spec, "managedBy") != get(before, "managedBy") {
        let value = get(spec, "managedBy").cloned().unwrap_or_default();
        errors.push(Error::invalid(&path.child("managedBy"), value, IMMUTABLE));
    }
    shown("successPolicy", "*batch.SuccessPolicy", errors);
}

fn completions(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (now, then) = (get(spec, "completions"), get(before, "completions"));
    if now == then {
        return;
    }
    if text(spec, "completionMode") != "Indexed" {
        errors.push(Error::invalid(path, now.cloned().unwrap_or_default(), IMMUTABLE));
    } else if let Some(now) = now
        && int(spec, "completions") != int(spec, "parallelism")
    {
        errors.push(Error::invalid(
            path,
            now.clone(),
            "can only be modified in tandem with spec.parallelism",
        ));
    }
}

/// Whether the pods of a suspended Job are gone, so that others may come of a new template.
fn at_rest(old: &Value) -> bool {
    let status = &old["status"];
    let suspended = items(status, "conditions")
        .iter()
        .any(|one| text(one, "type") == "Suspended" && text(one, "status") == "True");
    flag(&old["spec"], "suspend")
        && (get(status, "startTime").is_none() || suspended)
        && int(status, "active").unwrap_or(0) == 0
}

fn template(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let template = &spec["template"];
    let mut before = old["spec"]["template"].clone();
    let at_rest = at_rest(old);
    if at_rest {
        allow_scheduling(&mut before, template);
    }
    let path = path.child("template");
    if !(flag(&old["spec"], "suspend") && at_rest) {
        if !same(Some(template), Some(&before)) {
            errors.push(invalid_json(&path, &internal::json("core.PodTemplateSpec", template), IMMUTABLE));
        }
        return;
    }
    for list in ["containers", "initContainers"] {
        let new = items(&template["spec"], list);
        let Some(old) = before["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        if new.len() != old.len() {
            continue;
        }
        for (new, old) in new.iter().zip(old).filter(|(new, old)| new["name"] == old["name"]) {
            old["resources"] = new["resources"].clone();
        }
    }
    if !same(template.get("spec"), before.get("spec")) {
        let json = internal::json("core.PodSpec", &template["spec"]);
        errors.push(invalid_json(&path.child("spec"), &json, IMMUTABLE));
    }
}

/// Takes over what of a template says where pods run.
fn allow_scheduling(before: &mut Value, template: &Value) {
    let put = |object: &mut Value, field: &str, from: &Value| {
        let Some(fields) = object.as_object_mut() else { return };
        match get(from, field) {
            Some(value) => fields.insert(field.into(), value.clone()),
            None => fields.remove(field),
        };
    };
    let spec = &template["spec"];
    if get(&before["spec"], "affinity").is_some() || get(spec, "affinity").is_some() {
        let affinity = crate::tree::object_mut(&mut before["spec"], "affinity");
        put(affinity, "nodeAffinity", &spec["affinity"]);
    }
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        put(&mut before["spec"], field, spec);
    }
    for field in ["annotations", "labels"] {
        if get(&template["metadata"], field).is_some() || get(&before["metadata"], field).is_some() {
            put(crate::tree::object_mut(before, "metadata"), field, &template["metadata"]);
        }
    }
}
