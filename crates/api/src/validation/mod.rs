//! Rules beyond structure, with upstream's wording and paths: `pkg/apis/*/validation`
//! and apimachinery's `ValidateObjectMeta`. They see trees that were decoded and
//! defaulted, so types are already right.

use serde_json::Value;

use crate::Kind;
use crate::field::Errors;

/// Rules for a new object.
pub fn validate_create(_kind: &Kind, _object: &Value) -> Errors {
    Errors::new()
}

/// Rules for an update of everything but status: `new` replaces `old`.
pub fn validate_update(_kind: &Kind, _new: &Value, _old: &Value) -> Errors {
    Errors::new()
}

/// Rules for an update of the status subresource.
pub fn validate_status_update(_kind: &Kind, _new: &Value, _old: &Value) -> Errors {
    Errors::new()
}
