//! Rules beyond structure, with upstream's wording and paths: `pkg/apis/*/validation`
//! and apimachinery's `ValidateObjectMeta`. They see trees that were decoded and
//! defaulted, so types are already right; every rule is pure.
//!
//! Kinds with full semantics have all of their rules here; of the others those of
//! metadata, and whatever a later version of the table adds.

mod apps;
mod core;
pub mod meta;
pub mod names;
pub mod net;
mod network;
mod pods;
mod rbac;
mod rules;
mod services;

use std::borrow::Cow;

use serde_json::Value;

use crate::Kind;
use crate::field::Errors;

/// Rules for a new object.
pub fn validate_create(kind: &Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    if (&*kind.group, &*kind.kind) == ("", "Event") {
        // Older Events have rules of their own for metadata, which are next to none.
        core::event(object, false, &mut errors);
        if !errors.is_empty() {
            return errors;
        }
    }
    meta::create(kind, object, &mut errors);
    match (&*kind.group, &*kind.kind) {
        _ if kind.custom => {}
        ("", "Pod") => pods::create(object, &mut errors),
        ("", "PodTemplate") => {
            let path = crate::field::Path::ROOT;
            pods::template(&object["template"], &path.child("template"), &mut errors);
        }
        ("events.k8s.io", "Event") => core::event(&stored_event(object), true, &mut errors),
        _ => always(kind, object, None, &mut errors),
    }
    errors
}

/// Rules for an update of everything but status: `new` replaces `old`.
pub fn validate_update(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::update(kind, new, old, &mut errors);
    if kind.custom {
        return errors;
    }
    match (&*kind.group, &*kind.kind) {
        ("", "Pod") => pods::update(new, old, &mut errors),
        ("", "Event") => core::event_update(new, old, false, &mut errors),
        ("events.k8s.io", "Event") => {
            core::event_update(&stored_event(new), &stored_event(old), true, &mut errors);
        }
        ("", "Secret") => core::secret_update(new, old, &mut errors),
        ("", "ConfigMap") => core::sealed(new, old, &["data", "binaryData"], &mut errors),
        ("", "Service") => services::update(new, old, &mut errors),
        ("", "Node") => core::node_update(new, old, &mut errors),
        ("networking.k8s.io", "IPAddress") => network::ip_address_update(new, old, &mut errors),
        ("networking.k8s.io", "ServiceCIDR") => network::service_cidr_update(new, old, &mut errors),
        _ => {}
    }
    let own = ["Pod", "Event", "IPAddress", "ServiceCIDR"];
    if !own.contains(&&*kind.kind) {
        always(kind, new, Some(old), &mut errors);
    }
    match (&*kind.group, &*kind.kind) {
        ("apps", name) => apps::update(name, new, old, &mut errors),
        ("rbac.authorization.k8s.io", name) => rbac::update(name, new, old, &mut errors),
        ("discovery.k8s.io", _) => network::endpoint_slice_update(new, old, &mut errors),
        _ => {}
    }
    errors
}

/// Rules for an update of the status subresource.
pub fn validate_status_update(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::update(kind, new, old, &mut errors);
    match (&*kind.group, &*kind.kind) {
        _ if kind.custom => {}
        ("", "Pod") => pods::status_update(new, old, &mut errors),
        ("", "Service") => services::status(new, &mut errors),
        ("", "Namespace") => core::namespace_status(new, &mut errors),
        ("", "Node") => {
            core::node_update(new, old, &mut errors);
            core::node(new, false, &mut errors);
        }
        ("apps", name) => apps::status(name, new, old, &mut errors),
        _ => {}
    }
    errors
}

/// Rules that hold at creation and at every update alike.
fn always(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    match (&*kind.group, &*kind.kind) {
        ("", "ConfigMap") => core::config_map(object, errors),
        ("", "Secret") => core::secret(object, errors),
        ("", "Service") => services::create(object, errors),
        ("", "Endpoints") => {
            let same = old.is_some_and(|old| crate::tree::same_field(object, old, "subsets"));
            if !same {
                network::endpoints(object, errors);
            }
        }
        ("", "Node") => core::node(object, old.is_none(), errors),
        ("coordination.k8s.io", "Lease") => core::lease(object, errors),
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice(object, old, errors),
        ("networking.k8s.io", "IPAddress") => network::ip_address(object, errors),
        ("networking.k8s.io", "ServiceCIDR") => network::service_cidr(object, errors),
        ("apps", name) => apps::create(name, object, errors),
        ("rbac.authorization.k8s.io", name) => rbac::create(name, object, errors),
        _ => {}
    }
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
