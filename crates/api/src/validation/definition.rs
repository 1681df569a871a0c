//! Rules of CustomResourceDefinitions.

use serde_json::Value;

use crate::field::Errors;

/// Rules for a new definition.
pub fn create(_definition: &Value, _errors: &mut Errors) {}
