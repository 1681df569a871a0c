//! What a new pod says to the scheduler: label keys become part of the selectors beside
//! them, and gates are told in a condition.

use serde_json::{Map, Value, json};

use crate::tree::{items, items_mut, text};

const SOFT: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const HARD: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Prepares a new pod, whose status is set; `now` in RFC 3339.
pub fn create(pod: &mut Value, now: &str) {
    if !items(&pod["spec"], "schedulingGates").is_empty() {
        gated(pod, now);
    }
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(rules) = spec.pointer_mut(&format!("/affinity/{kind}")) else { continue };
        let soft = items_mut(rules, SOFT).iter_mut().filter_map(|one| one.get_mut("podAffinityTerm"));
        soft.for_each(|term| settle(term, &labels));
        items_mut(rules, HARD).iter_mut().for_each(|term| settle(term, &labels));
    }
    items_mut(spec, "topologySpreadConstraints").iter_mut().for_each(|one| settle(one, &labels));
}

/// A selector that is not there selects nothing, and stays so.
fn settle(term: &mut Value, labels: &Value) {
    let keys = |field: &str| -> Vec<String> {
        items(term, field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let named = [("In", keys("matchLabelKeys")), ("NotIn", keys("mismatchLabelKeys"))];
    let Some(selector) = term.get_mut("labelSelector").filter(|selector| selector.is_object()) else {
        return;
    };
    for (operator, keys) in named {
        for key in keys {
            let Some(value) = labels.get(&key).and_then(Value::as_str) else { continue };
            let requirement = json!({"key": key, "operator": operator, "values": [value]});
            append(selector, "matchExpressions", requirement);
        }
    }
}

fn gated(pod: &mut Value, now: &str) {
    let Some(status) = pod.get_mut("status").filter(|status| status.is_object()) else { return };
    if items(status, "conditions").iter().any(|one| text(one, "type") == "PodScheduled") {
        return;
    }
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastProbeTime": null, "lastTransitionTime": now,
    });
    append(status, "conditions", condition);
}

fn append(object: &mut Value, field: &str, item: Value) {
    match object[field].as_array_mut() {
        Some(list) => list.push(item),
        None => object[field] = json!([item]),
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort` (`GetPodQOS`).
pub fn qos(spec: &Value) -> &'static str {
    let containers =
        || ["containers", "initContainers"].into_iter().filter_map(|list| spec[list].as_array()).flatten();
    let amounts = |container: &Value, which: &str| -> Map<String, Value> {
        let all = container["resources"][which].as_object().cloned().unwrap_or_default();
        all.into_iter()
            .filter(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && !is_zero(amount))
            .collect()
    };
    let pod_level = !spec["resources"].is_null();
    let scopes: Vec<&Value> = if pod_level { vec![spec] } else { containers().collect() };
    let (mut any, mut guaranteed) = (false, true);
    for scope in scopes {
        let (requests, limits) = (amounts(scope, "requests"), amounts(scope, "limits"));
        any |= !requests.is_empty() || !limits.is_empty();
        let covered = ["cpu", "memory"].iter().all(|name| limits.contains_key(*name));
        guaranteed &= covered && (requests.is_empty() || requests == limits);
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_zero(amount: &Value) -> bool {
    amount.as_str().is_some_and(|text| text.trim_end_matches(char::is_alphabetic).parse::<f64>() == Ok(0.0))
}

/// Keeps of a resize what it may change: the resources of containers that are the same
/// ones, in the same order, and how they are resized; and those of the pod.
pub fn resize(new: &mut Value, old: &Value) {
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    let alike = |list: &str| items(&new["spec"], list).len() == items(&old["spec"], list).len();
    if !LISTS.iter().all(|list| alike(list)) {
        return; // The rules say what is wrong.
    }
    let asked = std::mem::replace(&mut new["spec"], old["spec"].clone());
    for list in LISTS {
        let (mine, theirs) = (items(&asked, list), items_mut(&mut new["spec"], list));
        if mine.iter().zip(theirs.iter()).any(|(mine, theirs)| text(mine, "name") != text(theirs, "name")) {
            new["spec"][list] = mine.into();
            continue;
        }
        for (mine, theirs) in mine.iter().zip(theirs) {
            for field in ["resources", "resizePolicy"] {
                set(theirs, field, mine.get(field));
            }
        }
    }
    set(&mut new["spec"], "resources", asked.get("resources"));
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        set(&mut new["metadata"], field, old["metadata"].get(field));
    }
}

fn set(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(field.into(), value.clone())),
        None => drop(fields.remove(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_requirements() {
        let term = |selector: Value| {
            json!({"topologyKey": "z", "labelSelector": selector, "matchLabelKeys": ["a", "none"],
                "mismatchLabelKeys": ["b"]})
        };
        let mut pod = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {
                "schedulingGates": [{"name": "g"}],
                "affinity": {"podAntiAffinity": {HARD: [term(json!({})), term(Value::Null)]}},
                "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"c": "3"}}, "matchLabelKeys": ["a"]}],
            },
            "status": {"phase": "Pending"},
        });
        create(&mut pod, "T");
        let terms = &pod["spec"]["affinity"]["podAntiAffinity"][HARD];
        assert_eq!(
            terms[0]["labelSelector"],
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]},
                {"key": "b", "operator": "NotIn", "values": ["2"]}]})
        );
        assert_eq!(terms[1]["labelSelector"], Value::Null);
        let spread = &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"];
        assert_eq!(spread["matchExpressions"][0]["values"], json!(["1"]));
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    }

    #[test]
    fn classes_of_service() {
        let check = |spec: Value, expect: &str| assert_eq!(qos(&spec), expect, "{spec}");
        let all = json!({"cpu": "1", "memory": "1Gi"});
        check(json!({"containers": [{"name": "a"}]}), "BestEffort");
        check(json!({"containers": [{"resources": {"requests": {"cpu": "0"}}}]}), "BestEffort");
        check(json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}), "Burstable");
        check(json!({"containers": [{"resources": {"requests": all, "limits": all}}]}), "Guaranteed");
        check(json!({"containers": [{"resources": {"limits": all}}, {}]}), "Burstable");
        check(json!({"containers": [{}], "resources": {"requests": all, "limits": all}}), "Guaranteed");
    }
}
