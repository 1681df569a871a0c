//! Rules of PodDisruptionBudgets.

use serde_json::Value;

use super::apps::{at_most_all, int_or_percent};
use super::rules::{conditions, invalid_json};
use super::shape::{Row, Rule, check};
use crate::facts::internal;
use crate::field::{Errors, Path};
use crate::tree::get;

/// Rules of a budget, new or changed.
pub fn create(object: &Value, errors: &mut Errors) {
    const REST: &[Row] = &[
        ("minAvailable", Rule::By(|at, errors| amount(at.value, at.path, errors))),
        ("maxUnavailable", Rule::By(|at, errors| amount(at.value, at.path, errors))),
        ("selector", Rule::Selector),
        ("unhealthyPodEvictionPolicy", Rule::OneOf(&["AlwaysAllow", "IfHealthyBudget"])),
    ];
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    if get(spec, "minAvailable").is_some() && get(spec, "maxUnavailable").is_some() {
        let json = internal::json("policy.PodDisruptionBudgetSpec", spec);
        errors.push(invalid_json(&path, &json, "minAvailable and maxUnavailable cannot be both set"));
    }
    check(spec, REST, &path, errors);
}

fn amount(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !value.is_null() {
        int_or_percent(value, path, errors);
        at_most_all(value, path, errors);
    }
}

/// Rules of a status that replaces another.
pub fn status(new: &Value, _: &Value, errors: &mut Errors) {
    const COUNTS: &[Row] = &[
        ("disruptionsAllowed", Rule::NonNegative),
        ("currentHealthy", Rule::NonNegative),
        ("desiredHealthy", Rule::NonNegative),
        ("expectedPods", Rule::NonNegative),
    ];
    let path = Path::ROOT.child("status");
    conditions(&new["status"], &path.child("conditions"), errors);
    check(&new["status"], COUNTS, &path, errors);
}
