//! Rules beyond structure, with upstream's wording and paths: `pkg/apis/*/validation`
//! and apimachinery's `ValidateObjectMeta`. They see trees that were decoded and
//! defaulted, so types are already right; every rule is pure.
//!
//! Which rules a kind has, and in which order an update runs them, stands in
//! [`table`]; most rules are rows ([`shape`]). Errors come in upstream's order, with
//! what upstream says twice said twice.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod core;
pub mod custom;
pub mod definition;
mod devices;
mod expressions;
mod flow;
pub mod meta;
pub mod names;
pub mod net;
mod network;
mod networking;
mod pods;
mod policy;
mod quota;
mod rbac;
mod rules;
mod scheduling;
mod services;
mod shape;
mod sources;
mod storage;
mod table;
mod volumes;

use std::borrow::Cow;

use serde_json::Value;

use crate::Kind;
use crate::field::Errors;
pub(crate) use rules::empty_collection;
use table::Step;

/// Rules for a new object.
pub fn validate_create(kind: &Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    match (&*kind.group, &*kind.kind) {
        ("", "Event") => {
            // Older Events have rules of their own for metadata, which are next to none.
            core::any_event(object, false, &mut errors);
            if !errors.is_empty() {
                return errors;
            }
        }
        // Newer ones are held to the old rules first.
        ("events.k8s.io", "Event") => core::any_event(&stored_event(object), true, &mut errors),
        _ => {}
    }
    let rules = table::of(kind);
    if rules.is_none_or(|rules| !rules.late_metadata) {
        meta::create(kind, object, &mut errors);
    }
    if let Some(rules) = rules {
        (rules.create)(object, &mut errors);
        if rules.late_metadata && errors.is_empty() {
            meta::create(kind, object, &mut errors);
        }
    }
    if errors.is_empty() {
        meta::segments(&object["metadata"], &mut errors);
    }
    errors
}

/// Rules for an update of everything but status: `new` replaces `old`.
pub fn validate_update(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    let Some(rules) = table::of(kind) else { return errors };
    for step in rules.update {
        match step {
            Step::Metadata => meta::create(kind, new, &mut errors),
            Step::Changed => meta::update(kind, new, old, &mut errors),
            Step::Create => (rules.create)(new, &mut errors),
            Step::Own(rule) => rule(new, old, &mut errors),
        }
    }
    errors
}

/// Why an object of a name cannot be deleted, if so. (A collection with it can: upstream
/// looks at single deletions only.)
pub fn validate_delete(kind: &Kind, name: &str) -> Option<&'static str> {
    match &*kind.resource {
        "priorityclasses.scheduling.k8s.io" => scheduling::delete(name),
        _ => None,
    }
}

/// Rules for an approval of a certificate request.
pub fn validate_approval(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    meta::create(kind, new, &mut errors);
    certificates::approval(new, old, &mut errors);
    meta::update(kind, new, old, &mut errors);
    errors
}

/// Rules for an update of the status subresource.
pub fn validate_status_update(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    if let Some(rules) = table::of(kind) {
        if rules.status_metadata {
            meta::update(kind, new, old, &mut errors);
        }
        (rules.status)(new, old, &mut errors);
    }
    errors
}

/// Rules for an update of a pod's ephemeral containers.
pub fn validate_ephemeral_containers(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    meta::update(kind, new, old, &mut errors);
    pods::update::ephemeral_containers(new, old, &mut errors);
    errors
}

/// Rules for a change of a pod's resources.
pub fn validate_resize(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    meta::update(kind, new, old, &mut errors);
    pods::resize::validate(new, old, &mut errors);
    errors
}

/// An Event of `events.k8s.io` in the core group's form, in which the rules see it.
fn stored_event(event: &Value) -> Cow<'_, Value> {
    if event.get("regarding").is_none() && event.get("note").is_none() {
        return Cow::Borrowed(event);
    }
    match crate::convert::convert("Event", "v1", event.clone()) {
        Ok(converted) => Cow::Owned(converted),
        Err(_) => Cow::Borrowed(event),
    }
}

#[cfg(test)]
mod tests;
