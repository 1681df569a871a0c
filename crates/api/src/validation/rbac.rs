//! Rules of roles and their bindings.

use serde_json::Value;

use super::names;
use super::rules::{full, invalid_each, label_selector, not_supported};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, items, same, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of a new object, and of one that replaces another.
pub fn create(kind: &str, object: &Value, errors: &mut Errors) {
    let namespaced = ["Role", "RoleBinding"].contains(&kind);
    match kind {
        "Role" | "ClusterRole" => role(object, namespaced, errors),
        _ => binding(object, namespaced, errors),
    }
}

/// Rules of an update, beyond those of a new object.
pub fn update(kind: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let binding = ["RoleBinding", "ClusterRoleBinding"].contains(&kind);
    if binding && !same(new.get("roleRef"), old.get("roleRef")) {
        let role = &new["roleRef"];
        let mut error = Error::invalid(&Path::ROOT.child("roleRef"), "", "");
        let json = |field: &str| Value::from(text(role, field)).to_string();
        error.message = format!(
            "Invalid value: {{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}: cannot change roleRef",
            json("apiGroup"),
            json("kind"),
            json("name")
        );
        errors.push(error);
    }
}

fn role(role: &Value, namespaced: bool, errors: &mut Errors) {
    let rules = Path::ROOT.child("rules");
    for (at, rule) in items(role, "rules").iter().enumerate() {
        if full(errors) {
            break;
        }
        policy_rule(rule, namespaced, &rules.index(at), errors);
    }
    let Some(aggregation) = get(role, "aggregationRule") else { return };
    let path = Path::ROOT.child("aggregationRule");
    let path = path.child("clusterRoleSelectors");
    let selectors = items(aggregation, "clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path, detail));
    }
    for (at, selector) in selectors.iter().enumerate() {
        if full(errors) {
            break;
        }
        let before = errors.len();
        label_selector(errors, Some(selector), &path.index(at));
        if errors.len() > before {
            // It is read once more, as a selector, which it is none then.
            errors.push(Error::invalid(&path.index(at), Value::Null, "invalid label selector."));
        }
    }
}

fn policy_rule(rule: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let none = |field: &str| items(rule, field).is_empty();
    if none("verbs") {
        errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    if !none("nonResourceURLs") {
        let path = path.child("nonResourceURLs");
        let urls = || rule["nonResourceURLs"].clone();
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(Error::invalid(&path, urls(), detail));
        }
        if !none("apiGroups") || !none("resources") || !none("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(&path, urls(), detail));
        }
        return;
    }
    for (field, what) in [("apiGroups", "api group"), ("resources", "resource")] {
        if none(field) {
            let detail = format!("resource rules must supply at least one {what}");
            errors.push(Error::required(&path.child(field), &detail));
        }
    }
}

fn binding(binding: &Value, namespaced: bool, errors: &mut Errors) {
    let (role, path) = (&binding["roleRef"], Path::ROOT.child("roleRef"));
    let group = text(role, "apiGroup");
    if group != GROUP {
        errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = text(role, "kind");
    if !kinds.contains(&kind) {
        errors.push(not_supported(&path.child("kind"), kind, kinds));
    }
    match text(role, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => invalid_each(errors, &path.child("name"), name, names::path_segment(name)),
    }
    let subjects = Path::ROOT.child("subjects");
    for (at, subject) in items(binding, "subjects").iter().enumerate() {
        if full(errors) {
            break;
        }
        self::subject(subject, namespaced, &subjects.index(at), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                invalid_each(errors, &path.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            errors.push(not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]));
        }
    }
}
