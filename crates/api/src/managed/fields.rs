//! The fields that an object has, as a set: what an applied configuration claims.

use std::collections::HashMap;

use serde_json::Value;

use super::path;
use super::set::{self, Set};
use super::shape::{Form, Place};
use crate::schema::{Schema, Ty, TypeId};

/// The fields of an object of the type `root`.
pub(super) fn of(schema: &Schema, root: TypeId, object: &Value) -> Set {
    let ty = Ty::Object(root);
    below(schema, Place::root(&ty, schema, root), object).0
}

/// The fields below a value, and whether it is one itself.
fn below(schema: &Schema, place: Place<'_>, value: &Value) -> (Set, bool) {
    let mut out = Set::new();
    match (place.form(schema, Some(value)), value) {
        (Form::Leaf, _) => return (out, true),
        (Form::Map(members), Value::Object(map)) => {
            for (key, value) in map {
                let (children, leaf) = below(schema, members.place(key), value);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                let member = leaf || empty || !members.declares(key);
                set::put(&mut out, path::field(key), children, member);
            }
        }
        (Form::List(list), Value::Array(items)) => {
            let element = |item| path::item(schema, &list, item).ok();
            let elements: Vec<Option<String>> = items.iter().map(element).collect();
            let mut times: HashMap<&str, u32> = HashMap::new();
            for element in elements.iter().flatten() {
                *times.entry(element).or_default() += 1;
            }
            let twice: Vec<bool> =
                elements.iter().map(|e| e.as_deref().is_some_and(|e| times[e] > 1)).collect();
            for ((element, item), twice) in elements.into_iter().zip(items).zip(twice) {
                let Some(element) = element else { continue };
                let children = if twice { Set::new() } else { below(schema, list.place, item).0 };
                set::put(&mut out, element, children, true);
            }
        }
        _ => {}
    }
    (out, false)
}
