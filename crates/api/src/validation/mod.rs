//! Rules beyond structure, with upstream's wording and paths: `pkg/apis/*/validation`
//! and apimachinery's `ValidateObjectMeta`. They see trees that were decoded and
//! defaulted, so types are already right; every rule is pure.

pub mod meta;
pub mod names;
pub mod net;
mod rules;

use serde_json::Value;

use crate::Kind;
use crate::field::Errors;

/// Rules for a new object.
pub fn validate_create(kind: &Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::create(kind, object, &mut errors);
    errors
}

/// Rules for an update of everything but status: `new` replaces `old`.
pub fn validate_update(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::update(kind, new, old, &mut errors);
    errors
}

/// Rules for an update of the status subresource.
pub fn validate_status_update(kind: &Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::update(kind, new, old, &mut errors);
    errors
}

#[cfg(test)]
mod tests;
