//! Rules of where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::field::{Error, Errors, Path};
use crate::tree::{entries, get, int, items, text, texts};
use crate::validation::names;
use crate::validation::rules::{full, invalid_each, label_selector, not_supported, positive};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `spec.affinity`.
pub fn affinity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(affinity) = get(spec, "affinity") else { return };
    if let Some(node) = get(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = get(node, REQUIRED) {
            node_selector(selector, &path.child(REQUIRED), errors);
        }
        let preferred = path.child(PREFERRED);
        for (at, term) in items(node, PREFERRED).iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = preferred.index(at);
            weight(term, &path, errors);
            node_selector_term(&term["preference"], false, &path.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(kind);
        let required = path.child(REQUIRED);
        for (at, term) in items(&affinity[kind], REQUIRED).iter().enumerate() {
            if full(errors) {
                break;
            }
            pod_affinity_term(term, &required.index(at), errors);
        }
        let preferred = path.child(PREFERRED);
        for (at, term) in items(&affinity[kind], PREFERRED).iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = preferred.index(at);
            weight(term, &path, errors);
            pod_affinity_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// `core.NodeSelector`.
pub fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    let terms = items(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(Error::required(&path, "must have at least one node selector term"));
    }
    for (at, term) in terms.iter().enumerate() {
        if full(errors) {
            break;
        }
        node_selector_term(term, true, &path.index(at), errors);
    }
}

fn node_selector_term(term: &Value, check_values: bool, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (at, requirement) in items(term, "matchExpressions").iter().enumerate() {
        if full(errors) {
            break;
        }
        node_requirement(requirement, check_values, &list.index(at), errors);
    }
    let list = path.child("matchFields");
    for (at, requirement) in items(term, "matchFields").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = list.index(at);
        let operator = text(requirement, "operator");
        match operator {
            "In" | "NotIn" if items(requirement, "values").len() != 1 => {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(Error::required(&path.child("values"), detail));
            }
            "In" | "NotIn" => {}
            _ => {
                let detail = "not a valid selector operator";
                errors.push(Error::invalid(&path.child("operator"), operator, detail));
            }
        }
        let key = text(requirement, "key");
        if key != "metadata.name" {
            errors.push(Error::invalid(&path.child("key"), key, "not a valid field selector key"));
            continue;
        }
        for (at, value) in texts(requirement, "values").enumerate() {
            if full(errors) {
                break;
            }
            invalid_each(errors, &path.child("values").index(at), value, names::dns_subdomain(value));
        }
    }
}

fn node_requirement(requirement: &Value, check_values: bool, path: &Path<'_>, errors: &mut Errors) {
    let count = items(requirement, "values").len();
    let values = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if count == 0 => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&values, detail));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&values, detail));
        }
        "Gt" | "Lt" if count != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&values, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
    let key = text(requirement, "key");
    invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
    for (at, value) in texts(requirement, "values").enumerate().filter(|_| check_values) {
        if full(errors) {
            break;
        }
        invalid_each(errors, &values.index(at), value, names::label_value(value));
    }
}

fn pod_affinity_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    label_selector(errors, get(term, "labelSelector"), &path.child("labelSelector"));
    label_selector(errors, get(term, "namespaceSelector"), &path.child("namespaceSelector"));
    for namespace in texts(term, "namespaces") {
        if full(errors) {
            break;
        }
        invalid_each(errors, &path.child("namespace"), namespace, names::dns_label(namespace));
    }
    label_keys(term, path, errors);
    let topology = text(term, "topologyKey");
    if topology.is_empty() {
        errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    }
    invalid_each(errors, &path.child("topologyKey"), topology, names::qualified_name(topology));
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside a label selector.
fn label_keys(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let path = path.child(field);
        if !items(term, field).is_empty() && get(term, "labelSelector").is_none() {
            errors.push(Error::forbidden(&path, "must not be specified when labelSelector is not set"));
        }
        for (at, key) in texts(term, field).enumerate() {
            if full(errors) {
                break;
            }
            invalid_each(errors, &path.index(at), key, names::qualified_name(key));
        }
    }
    let selector = &term["labelSelector"];
    let mut known: BTreeSet<&str> = entries(selector, "matchLabels").map(|(key, _)| key).collect();
    let places: BTreeMap<&str, usize> =
        texts(term, "matchLabelKeys").enumerate().map(|(at, key)| (key, at)).collect();
    let mismatched: BTreeSet<&str> = texts(term, "mismatchLabelKeys").collect();
    for expression in items(selector, "matchExpressions") {
        if full(errors) {
            break;
        }
        let key = text(expression, "key");
        if let Some(&at) = places.get(key)
            && known.contains(key)
        {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&path.index(at), key, detail));
        }
        known.insert(key);
    }
    for (at, key) in texts(term, "matchLabelKeys").enumerate() {
        if full(errors) {
            break;
        }
        if mismatched.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(Error::invalid(&path.child("matchLabelKeys").index(at), key, detail));
        }
    }
}

/// `spec.tolerations`.
pub fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (at, toleration) in tolerations.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        let operator_path = path.child("operator");
        if !key.is_empty() {
            invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator_path, operator, detail));
        }
        if int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(Error::invalid(&operator_path, value, &wrong.join(";")));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator_path, value, detail));
            }
            "Lt" | "Gt" => {
                let supported = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(not_supported(&operator_path, operator, &supported));
            }
            other => errors.push(not_supported(&operator_path, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errors);
        }
    }
}

/// The effect of a taint.
pub fn taint_effect(effect: &str, path: &Path<'_>, errors: &mut Errors) {
    let supported = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !supported.contains(&effect) {
        errors.push(not_supported(path, effect, &supported));
    }
}

/// `spec.schedulingGates`.
pub fn gates(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, gate) in items(spec, "schedulingGates").iter().enumerate() {
        if full(errors) {
            break;
        }
        let name = text(gate, "name");
        invalid_each(errors, &path.index(at), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path.index(at), name));
        }
    }
}

/// `spec.topologySpreadConstraints`.
pub fn topology_spread(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let all = items(spec, "topologySpreadConstraints");
    let pair = |constraint| (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
    let last: BTreeMap<_, usize> =
        all.iter().enumerate().map(|(at, constraint)| (pair(constraint), at)).collect();
    for (at, constraint) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        positive(errors, &path.child("maxSkew"), int(constraint, "maxSkew").unwrap_or(0));
        let (topology, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if topology.is_empty() {
            errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.push(Error::not_supported(&path.child("whenUnsatisfiable"), action, &actions));
        }
        if last[&(topology, action)] > at {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, format!("{{{topology}, {action}}}")));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let path = path.child("minDomains");
            positive(errors, &path, domains);
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(Error::invalid(&path, domains, &detail));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if get(constraint, field).is_some() && !["Honor", "Ignore"].contains(&text(constraint, field)) {
                let value = text(constraint, field);
                errors.push(Error::not_supported(&path.child(field), value, &["Honor", "Ignore"]));
            }
        }
        label_keys(constraint, &path, errors);
        label_selector(errors, get(constraint, "labelSelector"), &path.child("labelSelector"));
    }
}
