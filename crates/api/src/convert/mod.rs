//! Conversion between the versions and groups in which the same objects are served.

use serde_json::Value;

/// An object cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("converting ({from}.{kind}) to ({to}.{kind}): unknown conversion")]
pub struct Error {
    /// The kind.
    pub kind: String,
    /// apiVersion it has.
    pub from: String,
    /// apiVersion asked for.
    pub to: String,
}

/// Converts an object of `kind` to the apiVersion `to` (`events.k8s.io/v1`), from
/// the one it says it has. The same version gives the object back as it is.
pub fn convert(kind: &str, to: &str, object: Value) -> Result<Value, Error> {
    let from = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    if from == to {
        return Ok(object);
    }
    Err(Error { kind: kind.into(), from, to: to.into() })
}
