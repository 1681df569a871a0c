//! Where CustomResourceDefinitions differ from other kinds: what is stored says which
//! versions ever were, and deleting one waits for its objects.

use std::collections::BTreeSet;

use carrack_api::Value;
use carrack_api::crd::{Props, known_format, names};
use serde_json::json;

use crate::clock::rfc3339;
use crate::registry::Call;
use crate::seams::{Removal, Strategy};

/// The strategy of definitions.
pub(crate) struct Definitions;

impl Strategy for Definitions {
    fn prepare_create(&self, call: &Call, definition: &mut Value) {
        note_formats(call, definition, None);
        definition["status"] =
            json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": null});
        keep_stored_version(definition);
        note_rules(call, definition);
    }

    fn prepare_update(&self, call: &Call, definition: &mut Value, old: &Value) {
        if call.subresource.is_empty() {
            note_formats(call, definition, Some(old));
            keep_stored_version(definition);
            note_rules(call, definition);
        }
    }

    fn removal(&self, call: &Call, definition: &mut Value, _asked: Option<i64>) -> Removal {
        if definition["metadata"].get("deletionTimestamp").is_some() {
            return Removal::Now;
        }
        names::hold(definition, &rfc3339(call.now));
        Removal::Held
    }
}

/// The storage version is among those in which objects may be stored.
fn keep_stored_version(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let storage = versions.into_iter().find(|version| version["storage"] == true);
    let Some(name) = storage.map(|version| version["name"].clone()) else { return };
    let stored = &mut definition["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(stored) if stored.contains(&name) => {}
        Some(stored) => stored.push(name),
        None => *stored = json!([name]),
    }
}

/// The schemas of all versions.
fn schemas(definition: &Value) -> impl Iterator<Item = Props> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    versions.map(|version| Props::read(&version["schema"]["openAPIV3Schema"]))
}

/// Rules in CEL are kept, and the user is told that they do not hold yet.
fn note_rules(call: &Call, definition: &Value) {
    if schemas(definition).any(|schema| schema.any(|node| !node.rules.is_empty())) {
        call.warnings.add("x-kubernetes-validations are stored and not evaluated yet");
    }
}

/// Formats that nothing checks, unless they stood there before.
fn note_formats(call: &Call, definition: &Value, old: Option<&Value>) {
    let unknown = |definition: &Value| {
        let mut formats = BTreeSet::new();
        schemas(definition).for_each(|schema| {
            schema.walk(&mut |node| {
                if !node.format.is_empty() && !known_format(&node.ty, &node.format) {
                    formats.insert(node.format.clone());
                }
            });
        });
        formats
    };
    let before = old.map(unknown).unwrap_or_default();
    for format in unknown(definition).difference(&before) {
        call.warnings.add(format!("unrecognized format {format:?}"));
    }
}
