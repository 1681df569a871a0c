//! Reads the types of upstream's OpenAPI v3 documents, descriptions left out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// An object type: its fields by JSON name, as schema snippets.
#[derive(Debug, Clone)]
pub struct Type {
    pub schema: Value,
}

/// Types by definition name, such as `io.k8s.api.core.v1.Pod`.
pub type Types = BTreeMap<String, Type>;

/// Adds the component schemas of one document.
pub fn read(path: &Path, types: &mut Types) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let document: Value = serde_json::from_str(&text)?;
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        types.insert(name.clone(), Type { schema: schema.clone() });
    }
    Ok(())
}

/// The definition that a schema refers to, directly or through the `allOf` in which
/// v3 wraps references that have a default.
pub fn reference(schema: &Value) -> Option<&str> {
    let reference = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    reference.as_str()?.rsplit('/').next()
}

/// The strings of a list, such as `x-kubernetes-list-map-keys`.
pub fn strings<'a>(schema: &'a Value, field: &str) -> Vec<&'a str> {
    schema.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The text of a field, empty when there is none.
pub fn text<'a>(schema: &'a Value, field: &str) -> &'a str {
    schema.get(field).and_then(Value::as_str).unwrap_or_default()
}
