//! When a Job's pods fail it, and when they are enough.

use std::collections::BTreeSet;

use serde_json::Value;

use super::indexes;
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, items, text};
use crate::validation::names;
use crate::validation::rules::{
    full, invalid_each, invalid_json, invalid_omitted, non_negative, not_supported,
};

const RULES_MAX: usize = 20;
const CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const INDEXES_MAX: usize = 64 << 10;

/// `spec.podFailurePolicy`.
pub fn failure(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(policy) = get(spec, "podFailurePolicy") else { return };
    let path = path.child("rules");
    let rules = items(policy, "rules");
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(&path, rules.len(), RULES_MAX));
    }
    let pod = &spec["template"]["spec"];
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(pod, list))
        .map(|container| text(container, "name"))
        .collect();
    for (at, rule) in rules.iter().enumerate() {
        if full(errors) {
            break;
        }
        failure_rule(spec, rule, &containers, &path.index(at), errors);
    }
}

/// One of a few; the sentence about an absent one lists them as Go shows a list.
fn one_of(object: &Value, field: &str, all: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let value = text(object, field);
    let path = path.child(field);
    if value.is_empty() {
        let all: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
        errors.push(Error::required(&path, &format!("valid values: [{}]", all.join(" "))));
    } else if !all.contains(&value) {
        errors.push(not_supported(&path, value, all));
    }
}

fn failure_rule(
    spec: &Value,
    rule: &Value,
    containers: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if text(rule, "action") == "FailIndex" {
        if get(spec, "backoffLimitPerIndex").is_none() {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(Error::invalid(&path.child("action"), "FailIndex", detail));
        }
    } else {
        one_of(rule, "action", &["Count", "FailIndex", "FailJob", "Ignore"], path, errors);
    }
    let codes = get(rule, "onExitCodes");
    if let Some(codes) = codes {
        exit_codes(codes, containers, &path.child("onExitCodes"), errors);
    }
    let conditions = items(rule, "onPodConditions");
    if conditions.len() > PATTERNS_MAX {
        errors.push(Error::too_many(&path.child("onPodConditions"), conditions.len(), PATTERNS_MAX));
    }
    for (at, pattern) in conditions.iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("onPodConditions");
        let path = list.index(at);
        let ty = text(pattern, "type");
        invalid_each(errors, &path.child("type"), ty, names::qualified_name(ty));
        one_of(pattern, "status", &["False", "True", "Unknown"], &path, errors);
    }
    match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => {
            let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.push(invalid_omitted(path, detail));
        }
        (false, false) => {
            let detail = "specifying one of OnExitCodes and OnPodConditions is required";
            errors.push(invalid_omitted(path, detail));
        }
        _ => {}
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    one_of(codes, "operator", &["In", "NotIn"], path, errors);
    if let Some(name) = get(codes, "containerName").and_then(Value::as_str)
        && !containers.contains(name)
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, detail));
    }
    let values = items(codes, "values");
    let path = path.child("values");
    let shown = || codes.get("values").cloned().unwrap_or_default();
    if values.is_empty() {
        errors.push(Error::invalid(&path, shown(), "at least one value is required"));
    } else if values.len() > CODES_MAX {
        errors.push(Error::too_many(&path, values.len(), CODES_MAX));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (at, code) in numbers.iter().enumerate() {
        if full(errors) {
            break;
        }
        if *code == 0 && text(codes, "operator") == "In" {
            errors.push(Error::invalid(&path.index(at), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(Error::duplicate(&path.index(at), *code));
        }
    }
    if !numbers.is_sorted() {
        errors.push(Error::invalid(&path, shown(), "must be ordered"));
    }
}

/// `spec.successPolicy`.
pub fn success(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(policy) = get(spec, "successPolicy") else { return };
    if text(spec, "completionMode") != "Indexed" {
        errors.push(invalid_json(
            path,
            &internal::json("batch.SuccessPolicy", policy),
            "requires indexed completion mode",
        ));
        return;
    }
    let path = path.child("rules");
    let rules = items(policy, "rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&path, detail));
    }
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(&path, rules.len(), RULES_MAX));
    }
    for (at, rule) in rules.iter().enumerate() {
        if full(errors) {
            break;
        }
        success_rule(spec, rule, &path.index(at), errors);
    }
}

fn success_rule(spec: &Value, rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let indexes = get(rule, "succeededIndexes").and_then(Value::as_str);
    let count = int(rule, "succeededCount");
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, detail));
    }
    let completions = int(spec, "completions").unwrap_or(0);
    let mut total = 0;
    if let Some(indexes) = indexes {
        let path = path.child("succeededIndexes");
        if indexes.len() > INDEXES_MAX {
            errors.push(Error::too_long(&path, INDEXES_MAX));
        }
        match indexes::total(indexes, completions) {
            Ok(number) => total = number,
            Err(error) => {
                let detail = format!("error parsing succeededIndexes: {error}");
                errors.push(Error::invalid(&path, indexes, &detail));
            }
        }
    }
    if let Some(count) = count {
        let path = path.child("succeededCount");
        non_negative(errors, &path, count);
        if count > completions {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(Error::invalid(&path, count, &detail));
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(&path, count, &detail));
        }
    }
}
