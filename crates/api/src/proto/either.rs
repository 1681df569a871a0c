//! The three messages of apiextensions that stand for one of two JSON forms: a schema
//! or a list of schemas, a schema or a boolean, a schema or a list of names.
//!
//! In JSON (and in the table of facts) their fields hold anything; only protobuf has to
//! tell which of the two it is.

use serde_json::Value;

use crate::schema::{Field, Object};

/// What may stand in place of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Either {
    /// A list of schemas (`JSONSchemaPropsOrArray`).
    Schemas,
    /// A boolean (`JSONSchemaPropsOrBool`).
    Bool,
    /// A list of names (`JSONSchemaPropsOrStringArray`).
    Names,
}

/// The type that has such fields.
const HOLDER: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

impl Either {
    /// What a field holds, if it is one of two.
    pub(super) fn of(object: &Object, field: &Field) -> Option<Self> {
        if *object.name != *HOLDER {
            return None;
        }
        match &*field.name {
            "items" => Some(Self::Schemas),
            "additionalItems" | "additionalProperties" => Some(Self::Bool),
            "dependencies" => Some(Self::Names),
            _ => None,
        }
    }

    /// Number of the field that holds the schema.
    pub(super) fn schema(self) -> u32 {
        if self == Self::Bool { 2 } else { 1 }
    }

    /// Number of the field that holds the other form.
    pub(super) fn other(self) -> u32 {
        if self == Self::Bool { 1 } else { 2 }
    }

    /// What a message says that had neither.
    pub(super) fn nothing(self) -> Value {
        if self == Self::Bool { false.into() } else { Value::Null }
    }
}
