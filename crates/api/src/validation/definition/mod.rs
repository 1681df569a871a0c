//! Rules of CustomResourceDefinitions.
//!
//! Upstream looks at a form of its own in which what all versions have in common stands
//! once, beside them; so errors about the only schema say `spec.validation`, and only
//! schemas that differ are named by their version. The order of errors is that form's.

mod defaults;
mod fields;
mod internal;
mod schema;
mod spec;
mod structural;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::names;
use crate::crd::{condition, names as accepted};
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, flag, get, items, same_field, text, text_at, texts};

/// Rules of a new definition, metadata aside.
pub fn create(definition: &Value, errors: &mut Errors) {
    spec::check(definition, errors);
    status(definition, definition, errors);
    stored_versions(definition, errors);
    approval(definition, None, errors);
    preserve(definition, errors);
}

/// Rules of a definition that replaces `old`.
pub fn update(definition: &Value, old: &Value, errors: &mut Errors) {
    spec::check(definition, errors);
    immutable(definition, old, errors);
    status(definition, old, errors);
    stored_versions(definition, errors);
    approval(definition, Some(old), errors);
    preserve(definition, errors);
}

/// Rules of a status.
pub fn status(definition: &Value, _old: &Value, errors: &mut Errors) {
    let root = Path::ROOT;
    let status = root.child("status");
    spec::names(&definition["status"]["acceptedNames"], &status.child("acceptedNames"), errors);
}

/// What a definition's name has to be; of a prefix the `masked` form is looked at, which
/// does not end in a dash.
pub fn name(definition: &Value, name: &str, masked: &str) -> Vec<String> {
    let spec = &definition["spec"];
    let wanted = format!("{}.{}", text_at(spec, &["names", "plural"]), text(spec, "group"));
    let mut wrong = names::dns_subdomain(masked);
    if name != wanted {
        wrong.push("must be spec.names.plural+\".\"+spec.group".to_owned());
    }
    wrong
}

fn immutable(new: &Value, old: &Value, errors: &mut Errors) {
    let root = Path::ROOT;
    let spec = root.child("spec");
    let path = spec.child("names");
    let (new, old_spec) = (&new["spec"], &old["spec"]);
    let established = condition(old, "Established").is_some_and(|found| text(found, "status") == "True");
    let mut field = |new: &Value, old: &Value, name: &str, path: &Path<'_>| {
        if !same_field(new, old, name) {
            errors.push(Error::invalid(&path.child(name), text(new, name), super::rules::IMMUTABLE));
        }
    };
    if established {
        field(new, old_spec, "scope", &spec);
        field(&new["names"], &old_spec["names"], "kind", &path);
    }
    field(new, old_spec, "group", &spec);
    field(&new["names"], &old_spec["names"], "plural", &path);
}

fn stored_versions(definition: &Value, errors: &mut Errors) {
    let root = Path::ROOT;
    let status = root.child("status");
    let path = status.child("storedVersions");
    let stored: Vec<&str> = texts(&definition["status"], "storedVersions").collect();
    let shown = || definition["status"]["storedVersions"].clone();
    if stored.is_empty() {
        errors.push(Error::invalid(&path, shown(), "must have at least one stored version"));
        return;
    }
    let versions = items(&definition["spec"], "versions");
    for version in versions.iter().filter(|version| flag(version, "storage")) {
        let name = text(version, "name");
        if !stored.contains(&name) {
            errors.push(Error::invalid(&path, shown(), &format!("must have the storage version {name}")));
        }
    }
    for (at, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| text(version, "name") == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(at), *name, &detail));
        }
    }
}

fn approval(definition: &Value, old: Option<&Value>, errors: &mut Errors) {
    if !accepted::is_protected(text(&definition["spec"], "group")) {
        return;
    }
    let (_, reason, message) = accepted::approval_state(definition);
    if old.is_some_and(|old| accepted::approval_state(old).1 == reason) {
        return;
    }
    let root = Path::ROOT;
    let meta = root.child("metadata");
    let annotations = meta.child("annotations");
    let path = annotations.key(accepted::APPROVED);
    match reason {
        "MissingAnnotation" => errors.push(Error::required(&path, &message)),
        "InvalidAnnotation" => {
            let value = entries(&definition["metadata"], "annotations")
                .find(|(name, _)| *name == accepted::APPROVED)
                .map_or(Value::Null, |(_, value)| value.clone());
            errors.push(Error::invalid(&path, value, &message));
        }
        _ => {}
    }
}

fn preserve(definition: &Value, errors: &mut Errors) {
    if get(&definition["spec"], "preserveUnknownFields") == Some(&Value::Bool(true)) {
        let root = Path::ROOT;
        let spec = root.child("spec");
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.push(Error::invalid(&spec.child("preserveUnknownFields"), true, detail));
    }
}
