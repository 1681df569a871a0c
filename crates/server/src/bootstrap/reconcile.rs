//! What to do about one object of the cluster's own. Pure.
//!
//! Roles and bindings follow upstream's `reconciliation`: what is missing is added,
//! what someone added stays, and `autoupdate: "false"` keeps the object as it is. For
//! the rest, the fields that are ours are put back, and others are left alone.

use carrack_api::Value;
use serde_json::json;

use super::objects::SINCE;
use crate::auth::node::references::items;
use crate::auth::rbac::{Rule, rules};
use crate::flow::builtin::{self, AUTO_UPDATE_SPEC};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// It is as it should be.
    Nothing,
    /// It is not there.
    Create,
    /// It should be this.
    Update(Value),
    /// Its status should be this.
    Status(Value),
    /// It can only be made anew: a binding's role does not change.
    Replace,
}

/// Compares an object with what it should be.
pub(super) fn step(current: Option<&Value>, wanted: &Value) -> Step {
    let Some(current) = current else { return Step::Create };
    if current.pointer("/metadata/deletionTimestamp").is_some() {
        return Step::Nothing;
    }
    let annotation = |name: &str| current.pointer("/metadata/annotations").and_then(|a| a.get(name));
    if annotation(AUTO_UPDATE).is_some_and(|value| value == "false") {
        return Step::Nothing;
    }
    if wanted["metadata"]["annotations"].get(AUTO_UPDATE_SPEC).is_some() && !builtin::is_mandatory(wanted) {
        // Without the annotation it is the user's once they have changed it.
        let ours = annotation(AUTO_UPDATE_SPEC)
            .map_or(current["metadata"]["generation"] == 1, |value| value == "true");
        if !ours {
            return Step::Nothing;
        }
    }
    if wanted.get("roleRef").is_some_and(|role| current.get("roleRef") != Some(role)) {
        return Step::Replace;
    }
    let mut merged = current.clone();
    merge_map(&mut merged, wanted, "labels");
    merge_map(&mut merged, wanted, "annotations");
    if wanted.get("rules").or(wanted.get("aggregationRule")).is_some() {
        add_rules(&mut merged, wanted);
    } else if wanted.get("roleRef").is_some() {
        add_missing(&mut merged, wanted, "subjects");
    } else {
        put_back(&mut merged, wanted);
    }
    if merged != *current {
        return Step::Update(merged);
    }
    let conditions = |object: &Value| items(object, "/status/conditions").next().is_some();
    match wanted.get("status") {
        Some(status) if !conditions(current) => Step::Status(status.clone()),
        _ => Step::Nothing,
    }
}

/// Adds the labels or annotations that are missing or differ.
fn merge_map(object: &mut Value, wanted: &Value, field: &str) {
    for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
        if object["metadata"][field].get(key) != Some(value) {
            object["metadata"][field][key] = value.clone();
        }
    }
}

fn add_rules(object: &mut Value, wanted: &Value) {
    // An aggregated role's rules are gathered; only what it gathers counts.
    if let Some(selectors) = wanted.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array)
    {
        if !object["aggregationRule"].is_object() {
            object["aggregationRule"] = json!({});
        }
        let own = &mut object["aggregationRule"]["clusterRoleSelectors"];
        let mut all = own.as_array().cloned().unwrap_or_default();
        let missing: Vec<&Value> = selectors.iter().filter(|selector| !all.contains(selector)).collect();
        if !missing.is_empty() {
            all.extend(missing.into_iter().cloned());
            *own = all.into();
        }
        return;
    }
    let held = Rule::read_all(object);
    let missing: Vec<Value> = Rule::read_all(wanted)
        .into_iter()
        .filter(|rule| rules::missing(&held, std::slice::from_ref(rule)).is_some())
        .map(|rule| rule.to_value())
        .collect();
    if missing.is_empty() {
        return;
    }
    match object.get_mut("rules").and_then(Value::as_array_mut) {
        Some(rules) => rules.extend(missing),
        None => object["rules"] = missing.into(),
    }
}

fn add_missing(object: &mut Value, wanted: &Value, field: &str) {
    let mut all = object[field].as_array().cloned().unwrap_or_default();
    let before = all.len();
    for item in wanted[field].as_array().into_iter().flatten() {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    if all.len() != before {
        object[field] = all.into();
    }
}

/// Sets every field of ours that differs. What the wanted object leaves out (defaults,
/// allocated values, someone's own fields) stays; lists of plain objects compare only
/// by the fields that are ours.
fn put_back(object: &mut Value, wanted: &Value) {
    // Values of a class and ranges of a cluster never change once made.
    let fields = ["spec", "subsets", "endpoints", "ports", "data"];
    for field in fields {
        if let Some(wanted) = wanted.get(field) {
            let settled = match field {
                "spec" => wanted.get("cidrs").is_some(),
                // A date stays what it was at first.
                _ => wanted.get(SINCE).is_some() && is_date(&object[field][SINCE]),
            };
            if settled {
                continue;
            }
            merge(&mut object[field], wanted);
        } else if field == "subsets" && wanted["metadata"]["labels"].get(SKIP_MIRROR).is_some() {
            object.as_object_mut().map(|object| object.remove("subsets"));
        }
    }
}

const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

fn is_date(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok())
}

fn merge(current: &mut Value, wanted: &Value) {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            for (key, value) in wanted {
                match current.get_mut(key) {
                    Some(current) => merge(current, value),
                    None => _ = current.insert(key.clone(), value.clone()),
                }
            }
        }
        (Value::Array(current), Value::Array(wanted)) if current.len() == wanted.len() => {
            current.iter_mut().zip(wanted).for_each(|(current, wanted)| merge(current, wanted));
        }
        (current, wanted) if current != wanted => *current = wanted.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(rules: Value) -> Value {
        json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": rules})
    }

    fn get(resource: &str) -> Value {
        json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
    }

    #[test]
    fn adds_to_roles_what_they_lack() {
        let wanted = role(json!([get("pods"), get("nodes")]));
        assert_eq!(step(None, &wanted), Step::Create);
        assert_eq!(step(Some(&wanted), &wanted), Step::Nothing);
        let more = role(json!([get("pods"), get("nodes"), get("secrets")]));
        assert_eq!(step(Some(&more), &wanted), Step::Nothing);
        let all = role(json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
        assert_eq!(step(Some(&all), &wanted), Step::Nothing);
        let less = role(json!([get("secrets"), get("pods")]));
        let expect = role(json!([get("secrets"), get("pods"), get("nodes")]));
        assert_eq!(step(Some(&less), &wanted), Step::Update(expect));
        let mut kept = less.clone();
        kept["metadata"]["annotations"] = json!({AUTO_UPDATE: "false"});
        assert_eq!(step(Some(&kept), &wanted), Step::Nothing);
    }

    #[test]
    fn adds_subjects_and_replaces_roles() {
        let binding = |role: &str, subjects: Value| json!({"metadata": {}, "roleRef": {"name": role}, "subjects": subjects});
        let (ann, bob) = (json!({"name": "ann"}), json!({"name": "bob"}));
        let wanted = binding("r", json!([ann]));
        let step = |current: Value| super::step(Some(&current), &wanted);
        assert_eq!(step(binding("r", json!([bob, ann]))), Step::Nothing);
        assert_eq!(step(binding("r", json!([bob]))), Step::Update(binding("r", json!([bob, ann]))));
        assert_eq!(step(binding("s", json!([ann]))), Step::Replace);
    }

    #[test]
    fn keeps_the_first_date() {
        let since = |date: &str| json!({"metadata": {}, "data": {SINCE: date}});
        let wanted = since("2026-02-03");
        assert_eq!(step(Some(&since("2026-01-02")), &wanted), Step::Nothing);
        for other in ["", "soon", "2026-13-01", "20260102"] {
            assert_eq!(step(Some(&since(other)), &wanted), Step::Update(wanted.clone()), "{other}");
        }
    }

    #[test]
    fn puts_back_what_is_ours() {
        let wanted = json!({"metadata": {}, "spec": {"ports": [{"port": 443, "targetPort": 6443}]}});
        let current = json!({
            "metadata": {"uid": "u"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443, "targetPort": 6444, "protocol": "TCP"}]},
        });
        let mut expect = current.clone();
        expect["spec"]["ports"][0]["targetPort"] = 6443.into();
        assert_eq!(step(Some(&current), &wanted), Step::Update(expect.clone()));
        assert_eq!(step(Some(&expect), &wanted), Step::Nothing);
    }
}
