//! Rules of objects of custom kinds: metadata, then their schema, the numbers of their
//! scale subresource, embedded resources, and lists that are sets or maps.

use serde_json::Value;

use super::meta;
use crate::Kind;
use crate::crd::{Facts, Scale, check, embedded, lists};
use crate::field::{Error, Errors, Path};

/// Rules for a new object of version `version`.
pub fn create(kind: &Kind, version: usize, object: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::create(kind, object, &mut errors);
    let Some(facts) = kind.facts(version) else { return errors };
    check::create(object, &facts.schema, &Path::ROOT, &mut errors);
    scale(object, facts, true, &mut errors);
    embedded::validate(object, &facts.schema, &Path::ROOT, &mut errors);
    lists::validate(object, &facts.schema, &Path::ROOT, &mut errors);
    errors
}

/// Rules for an object that replaces `old`, both of version `version`.
pub fn update(kind: &Kind, version: usize, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    meta::changes(new, old, &mut errors);
    let Some(facts) = kind.facts(version) else { return errors };
    check::update(new, Some(old), &facts.schema, &Path::ROOT, &mut errors);
    scale(new, facts, true, &mut errors);
    embedded::validate(new, &facts.schema, &Path::ROOT, &mut errors);
    errors.extend(new_duplicates(new, old, facts));
    errors
}

/// Rules for an update of the status subresource.
pub fn status_update(kind: &Kind, version: usize, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::replaced(kind, new, old, &mut errors);
    meta::changes(new, old, &mut errors);
    let Some(facts) = kind.facts(version) else { return errors };
    if let (Some(status), Some(schema)) = (new.get("status"), facts.schema.properties.get("status")) {
        let root = Path::ROOT;
        check::update(status, old.get("status"), schema, &root.child("status"), &mut errors);
    }
    scale(new, facts, false, &mut errors);
    errors.extend(new_duplicates(new, old, facts));
    errors
}

/// What stands twice in lists, unless something did so before.
fn new_duplicates(new: &Value, old: &Value, facts: &Facts) -> Errors {
    let mut errors = Errors::new();
    lists::validate(new, &facts.schema, &Path::ROOT, &mut errors);
    if !errors.is_empty() {
        let mut before = Errors::new();
        lists::validate(old, &facts.schema, &Path::ROOT, &mut before);
        if !before.is_empty() {
            errors.clear();
        }
    }
    errors
}

/// The numbers that the scale subresource shows.
fn scale(object: &Value, facts: &Facts, spec: bool, errors: &mut Errors) {
    let Some(scale) = &facts.scale else { return };
    if spec {
        replicas(object, &scale.spec_path, errors);
    }
    replicas(object, &scale.status_path, errors);
    if let Some(path) = &scale.selector_path {
        let wrong = match nested(object, path) {
            Ok(value) => {
                value.filter(|value| !value.is_string()).map(|wrong| accessor(path, wrong, "string"))
            }
            Err(reason) => Some(reason),
        };
        errors.extend(wrong.map(|reason| Error::invalid(&Path::ROOT.child(path), "", &reason)));
    }
}

/// The value at a simple path.
///
/// # Errors
/// Something on the way has no fields.
fn nested<'a>(object: &'a Value, path: &str) -> Result<Option<&'a Value>, String> {
    let (mut value, mut walked) = (object, String::new());
    for field in Scale::fields(path) {
        walked.push('.');
        walked.push_str(field);
        match value {
            Value::Null => return Ok(None),
            Value::Object(fields) => match fields.get(field) {
                Some(inner) => value = inner,
                None => return Ok(None),
            },
            other => return Err(accessor(&walked, other, "map[string]interface{}")),
        }
    }
    Ok(Some(value))
}

/// What a writer of finalizers should know: those that `old` does not have and that
/// name no domain.
pub fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let of = |object: &Value| -> std::collections::BTreeSet<String> {
        crate::tree::texts(&object["metadata"], "finalizers").map(str::to_owned).collect()
    };
    let before = old.map(of).unwrap_or_default();
    let mut warnings = Vec::new();
    for name in of(new).difference(&before).filter(|name| !name.contains('/')) {
        if ["kubernetes", "orphan", "foregroundDeletion"].contains(&name.as_str()) {
            continue;
        }
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        warnings.push(format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental \
             conflicts with other finalizer writers"
        ));
    }
    warnings
}

fn replicas(object: &Value, path: &str, errors: &mut Errors) {
    let root = Path::ROOT;
    let place = root.child(path);
    let value = match nested(object, path) {
        Ok(Some(value)) => value,
        Ok(None) => return,
        Err(reason) => return errors.push(Error::invalid(&place, 0, &reason)),
    };
    match value.as_i64() {
        None => errors.push(Error::invalid(&place, 0, &accessor(path, value, "int64"))),
        Some(count) if count < 0 => {
            errors.push(Error::invalid(&place, count, "should be a non-negative integer"));
        }
        Some(count) if count > i64::from(i32::MAX) => {
            let detail = format!("should be less than or equal to {}", i32::MAX);
            errors.push(Error::invalid(&place, count, &detail));
        }
        Some(_) => {}
    }
}

/// The value at a simple path such as `.spec.replicas`.
pub fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    Scale::fields(path).try_fold(object, |value, field| value.get(field))
}

/// What apimachinery says of a nested value of a wrong type.
pub fn accessor(path: &str, value: &Value, expected: &str) -> String {
    let path = path.trim_start_matches('.');
    format!(".{path} accessor error: {}, expected {expected}", embedded::go_value_and_type(value))
}
