//! Rules of `admissionregistration.k8s.io`: webhooks and policies.

mod policies;
mod webhooks;

use std::collections::BTreeSet;

use serde_json::Value;

use super::expressions::{self, Seen};
use super::names;
use super::rules::{full, invalid_each, not_supported};
use super::shape::{Row, Rule, check};
use crate::cel::Type;
use crate::field::{Error, Errors, Path};
use crate::tree::{get, items, text, texts};

pub(super) use policies::{
    binding, mutating, mutating_binding, mutating_update, validating, validating_status, validating_update,
};
pub(super) use webhooks::{mutating as mutating_hooks, mutating_update as mutating_hooks_update};
pub(super) use webhooks::{validating as validating_hooks, validating_update as validating_hooks_update};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const FAILURE: &[&str] = &["Fail", "Ignore"];
const MATCH: &[&str] = &["Equivalent", "Exact"];
const REINVOCATION: &[&str] = &["IfNeeded", "Never"];
const CONDITIONS_MAX: usize = 64;

/// `*` stands by itself.
fn alone(rule: &Value, list: &str, words: &str, path: &Path<'_>, errors: &mut Errors) {
    if items(rule, list).len() > 1 && texts(rule, list).any(|one| one == "*") {
        let detail = format!("if '*' is present, must not specify other {words}");
        errors.push(Error::invalid(&path.child(list), rule[list].clone(), &detail));
    }
}

/// What requests a hook or policy is about.
fn rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SCOPE: &[Row] = &[("scope", Rule::OneOf(&["*", "Cluster", "Namespaced"]))];
    let required = |list: &str, errors: &mut Errors| {
        if items(rule, list).is_empty() {
            errors.push(Error::required(&path.child(list), ""));
        }
    };
    required("operations", errors);
    alone(rule, "operations", "operations", path, errors);
    for (at, operation) in texts(rule, "operations").enumerate() {
        if !OPERATIONS.contains(&operation) && !full(errors) {
            errors.push(not_supported(&path.child("operations").index(at), operation, &OPERATIONS));
        }
    }
    required("apiGroups", errors);
    alone(rule, "apiGroups", "API groups", path, errors);
    required("apiVersions", errors);
    alone(rule, "apiVersions", "API versions", path, errors);
    for (at, version) in texts(rule, "apiVersions").enumerate() {
        if version.is_empty() && !full(errors) {
            errors.push(Error::required(&path.child("apiVersions").index(at), ""));
        }
    }
    required("resources", errors);
    resources(rule, &path.child("resources"), errors);
    check(rule, SCOPE, path, errors);
}

fn resources(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (mut of_resource, mut of_subresource) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut any, mut plain) = (false, false, false);
    for (at, resource) in texts(rule, "resources").enumerate() {
        if full(errors) {
            return;
        }
        if resource.is_empty() {
            errors.push(Error::required(&path.index(at), ""));
            continue;
        }
        everything |= resource == "*/*";
        any |= resource == "*";
        let Some((parent, sub)) = resource.split_once('/') else {
            // (The last one counts.)
            plain = resource != "*";
            continue;
        };
        let mut covered = |by: String| {
            let detail = format!("if '{by}' is present, must not specify {resource}");
            errors.push(Error::invalid(&path.index(at), resource, &detail));
        };
        if of_resource.contains(parent) {
            covered(format!("{parent}/*"));
        }
        if of_subresource.contains(sub) {
            covered(format!("*/{sub}"));
        }
        if sub == "*" {
            of_resource.insert(parent);
        }
        if parent == "*" {
            of_subresource.insert(sub);
        }
    }
    let mut refuse = |detail: &str| errors.push(Error::invalid(path, rule["resources"].clone(), detail));
    if items(rule, "resources").len() > 1 && everything {
        refuse("if '*/*' is present, must not specify other resources");
    }
    if any && plain {
        refuse("if '*' is present, must not specify other resources without subresources");
    }
}

/// `matchConditions`, which may speak of parameters where there are any.
fn match_conditions(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known = Seen { params: get(object, "paramKind").is_some(), ..Seen::CONDITION };
    let path = path.child("matchConditions");
    let all = items(object, "matchConditions");
    if all.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(&path, all.len(), CONDITIONS_MAX));
    }
    let mut seen = BTreeSet::new();
    for (at, condition) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let expression = text(condition, "expression").trim();
        if expression.is_empty() {
            errors.push(Error::required(&path.child("expression"), ""));
        } else {
            expressions::admission(expression, &known, &[Type::Bool], &path.child("expression"), errors);
        }
        let name = text(condition, "name");
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            invalid_each(errors, &path.child("name"), name, names::qualified_name(name));
            if !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
        }
    }
}

/// Whether the conditions and parameters of a policy are what they were.
fn same_conditions(new: &Value, old: &Value) -> bool {
    ["paramKind", "matchConditions"].iter().all(|field| get(new, field) == get(old, field))
}
