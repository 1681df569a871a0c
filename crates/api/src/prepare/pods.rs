//! What a new pod says to the scheduler: label keys become part of the selectors beside
//! them, and gates are told in a condition.

use serde_json::{Value, json};

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
}
