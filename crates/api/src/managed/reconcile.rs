//! Entries meet a schema that has changed since they were written: what was granular
//! and is atomic now becomes one field. (What was atomic and is granular now is left as
//! it is.) Built-in kinds do not change, so only entries that a client brings are looked
//! at, and those of custom kinds.

use serde_json::Value;

use super::entries::Entry;
use super::set::{self, Set};
use super::shape::{Form, Place};
use super::types::Types;
use crate::schema::{Schema, Ty};

/// Before a write, where the schema may have changed.
pub(super) fn entries(types: &Types<'_>, entries: &mut [Entry]) {
    if types.custom {
        all(types, entries);
    }
}

/// Whatever the kind.
pub(super) fn all(types: &Types<'_>, entries: &mut [Entry]) {
    for entry in entries {
        let Some((schema, root)) = types.shape(&entry.api_version) else { continue };
        let ty = Ty::Object(root);
        below(schema, Place::root(&ty, schema, root), &mut entry.fields);
    }
}

fn below(schema: &Schema, place: Place<'_>, fields: &mut Set) {
    for (element, node) in fields.iter_mut() {
        let Value::Object(node) = node else { continue };
        let inner = match (place.form(schema, None), element.strip_prefix("f:")) {
            (Form::Map(members), Some(key)) if members.allows(key) => members.place(key),
            (Form::List(list), None) => list.place,
            _ => continue,
        };
        let map_or_list = matches!(inner.ty, Ty::Object(_) | Ty::Map(_) | Ty::List(_));
        match inner.form(schema, None) {
            Form::Leaf if map_or_list => {
                if set::has_children(node) {
                    node.clear();
                }
            }
            _ => below(schema, inner, node),
        }
    }
}
