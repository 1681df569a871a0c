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
        let value = at(object, path);
        if let Some(wrong) = value.filter(|value| !value.is_string()) {
            errors.push(Error::invalid(&Path::ROOT.child(path), "", &accessor(path, wrong, "string")));
        }
    }
}

fn replicas(object: &Value, path: &str, errors: &mut Errors) {
    let Some(value) = at(object, path) else { return };
    let root = Path::ROOT;
    let place = root.child(path);
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
