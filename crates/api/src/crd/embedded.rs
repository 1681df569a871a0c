//! Metadata, apiVersion and kind of custom objects and of the resources embedded in
//! them: read as the typed structs that they are, and validated.
//!
//! (After upstream's `schema/objectmeta`.)

use serde_json::{Map, Value};

use super::props::Props;
use crate::decode;
use crate::facts;
use crate::field::{Error, Errors, Path};
use crate::tree::text;
use crate::validation::{meta, names};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings metadata into canonical form; returns the paths of unknown fields, below
/// `path`.
///
/// # Errors
/// What Go's decoder says of a field of a wrong type.
pub fn metadata(value: &mut Value, path: &str) -> Result<Vec<String>, String> {
    let schema = facts::schema();
    let Some(root) = schema.find(OBJECT_META) else { return Ok(Vec::new()) };
    let decoded = decode::value(&schema, root, std::mem::take(value)).map_err(|error| error.to_string())?;
    *value = decoded.value;
    let unknown = decoded.strict.iter().filter_map(|finding| finding.strip_prefix("unknown field \""));
    Ok(unknown.map(|finding| format!("{path}.{}", finding.trim_end_matches('"'))).collect())
}

/// Reads the metadata of embedded resources; returns the paths of unknown fields,
/// sorted.
///
/// # Errors
/// Metadata, apiVersion or kind of a wrong type.
pub fn coerce(value: &mut Value, props: &Props) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    visit(value, props, "", &mut unknown)?;
    unknown.sort();
    Ok(unknown)
}

fn visit(value: &mut Value, props: &Props, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let child = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            if props.embedded {
                types(fields, &child)?;
                if let Some(meta) = fields.get_mut("metadata") {
                    let shown = meta.clone();
                    let read = metadata(meta, &child("metadata"));
                    unknown.extend(read.map_err(|error| invalid(&child("metadata"), &shown, &error))?);
                }
            }
            for (name, value) in fields {
                if let Some(inner) = props.properties.get(name.as_str()) {
                    visit(value, inner, &child(name), unknown)?;
                } else if let Some(inner) = props.additional_schema() {
                    visit(value, inner, &format!("{path}[{name}]"), unknown)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &props.items else { return Ok(()) };
            for (at, item) in items.iter_mut().enumerate() {
                visit(item, inner, &format!("{path}[{at}]"), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn types(fields: &Map<String, Value>, child: &impl Fn(&str) -> String) -> Result<(), String> {
    for name in ["apiVersion", "kind"] {
        if let Some(wrong) = fields.get(name).filter(|value| !value.is_string()) {
            return Err(invalid(&child(name), wrong, "must be a string"));
        }
    }
    Ok(())
}

fn invalid(path: &str, value: &Value, detail: &str) -> String {
    let root = Path::ROOT;
    let error = Error::invalid(&root.child(path), value.clone(), detail);
    error.to_string()
}

/// A value and its Go type, as `%v is of the type %T` shows scalars.
pub(crate) fn go_value_and_type(value: &Value) -> String {
    let ty = match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    match value {
        Value::String(text) => format!("{text} is of the type {ty}"),
        value => format!("{value} is of the type {ty}"),
    }
}

/// Rules of embedded resources.
pub fn validate(value: &Value, props: &Props, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::Object(fields) => {
            if props.embedded {
                resource(value, fields, path, errors);
            }
            for (name, value) in fields {
                if let Some(inner) = props.properties.get(name.as_str()) {
                    validate(value, inner, &path.child(name), errors);
                } else if let Some(inner) = props.additional_schema() {
                    validate(value, inner, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &props.items else { return };
            for (at, item) in items.iter().enumerate() {
                validate(item, inner, &path.index(at), errors);
            }
        }
        _ => {}
    }
}

fn resource(value: &Value, fields: &Map<String, Value>, path: &Path<'_>, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        if !fields.contains_key(name) {
            errors.push(Error::required(&path.child(name), ""));
        }
    }
    if fields.contains_key("apiVersion") {
        let (api_version, path) = (text(value, "apiVersion"), path.child("apiVersion"));
        if api_version.is_empty() {
            errors.push(Error::invalid(&path, "", "must not be empty"));
        } else if api_version.matches('/').count() > 1 {
            let detail = format!("unexpected GroupVersion string: {api_version}");
            errors.push(Error::invalid(&path, api_version, &detail));
        }
    }
    if fields.contains_key("kind") {
        let (kind, path) = (text(value, "kind"), path.child("kind"));
        let wrong = names::dns1035_label(&kind.to_lowercase());
        if kind.is_empty() {
            errors.push(Error::invalid(&path, "", "must not be empty"));
        } else if !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(Error::invalid(&path, kind, &detail));
        }
    }
    if let Some(found) = fields.get("metadata") {
        meta::embedded(found, &path.child("metadata"), errors);
    }
}
