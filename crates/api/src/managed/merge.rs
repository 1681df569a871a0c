//! Merging an applied configuration into an object, and taking fields out of one.
//! Only what the configuration or the set names is walked.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::path;
use super::set::{self, Set};
use super::shape::{Form, Items, Place};
use crate::schema::{Schema, Ty, TypeId};

/// Merges `applied` into an object of the type `root`.
pub(super) fn merge(schema: &Schema, root: TypeId, object: Value, applied: &Value) -> Value {
    let ty = Ty::Object(root);
    let merger = Merger { schema };
    merger.merge(Place::root(&ty, schema, root), Some(object), applied).unwrap_or(Value::Null)
}

/// Takes the members of `fields` out of an object of the type `root`, each with all that
/// is below it.
pub(super) fn remove(schema: &Schema, root: TypeId, object: &mut Value, fields: &Set) {
    let ty = Ty::Object(root);
    take_out(schema, Place::root(&ty, schema, root), object, fields);
}

struct Merger<'s> {
    schema: &'s Schema,
}

impl Merger<'_> {
    /// The applied value wins where a value is a whole; an empty map or list, or null,
    /// takes nothing from one that has members. `None` when nothing is left.
    fn merge(&self, place: Place<'_>, old: Option<Value>, applied: &Value) -> Option<Value> {
        let Some(old) = old else { return Some(applied.clone()) };
        match place.form(self.schema, Some(applied)) {
            Form::Leaf => Some(applied.clone()),
            Form::Map(members) => {
                let mut out = match old {
                    Value::Object(old) => old,
                    _ => Map::new(),
                };
                let none = Map::new();
                let applied_members = applied.as_object().unwrap_or(&none);
                if out.is_empty() && applied_members.is_empty() {
                    return Some(applied.clone());
                }
                for (key, value) in applied_members {
                    let merged = self.merge(members.place(key), out.remove(key), value);
                    if let Some(merged) = merged {
                        out.insert(key.clone(), merged);
                    }
                }
                (!out.is_empty()).then_some(Value::Object(out))
            }
            Form::List(list) => {
                let old = match old {
                    Value::Array(old) => old,
                    _ => Vec::new(),
                };
                let applied_items = applied.as_array().map_or(&[][..], Vec::as_slice);
                if old.is_empty() && applied_items.is_empty() {
                    return Some(applied.clone());
                }
                let out = self.lists(&list, old, applied_items);
                (!out.is_empty()).then_some(Value::Array(out))
            }
        }
    }

    /// Items keep the order of the applied list; those that it does not name stay where
    /// they were among the others as far as that goes.
    fn lists(&self, list: &Items<'_>, old: Vec<Value>, applied: &[Value]) -> Vec<Value> {
        let element = |item: &Value| path::item(self.schema, list, item).ok();
        let (old, mut items): (Vec<String>, Vec<Value>) =
            old.into_iter().filter_map(|item| Some((element(&item)?, item))).unzip();
        let new: Vec<(String, &Value)> =
            applied.iter().filter_map(|item| Some((element(item)?, item))).collect();
        let new_names: HashSet<&str> = new.iter().map(|(name, _)| &**name).collect();
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, name) in old.iter().enumerate() {
            places.entry(name).or_default().push(at);
        }
        let mut shared = new.iter().map(|(name, _)| &**name).filter(|name| places.contains_key(name));
        let mut next_shared = shared.next();
        // What is there twice is not merged but replaced.
        let before = |name: &str, items: &mut [Value]| match places.get(name).map(Vec::as_slice) {
            Some([at]) => Some(std::mem::take(&mut items[*at])),
            Some(_) => Some(Value::Null),
            None => None,
        };
        let mut merged: HashSet<&str> = HashSet::new();
        let mut out = Vec::with_capacity(old.len().max(new.len()));
        let (mut l, mut r) = (0, 0);
        while l < old.len() || r < new.len() {
            if let (Some(name), Some((new_name, item))) = (old.get(l), new.get(r)) {
                if name == new_name {
                    merged.insert(name);
                    out.extend(self.merge(list.place, before(name, &mut items), item));
                    (l, r) = (l + 1, r + 1);
                    next_shared = shared.next();
                    continue;
                }
                if new_names.contains(&**name) && next_shared.is_some_and(|next| next != name) {
                    // Shared, but not the one whose turn it is.
                    l += 1;
                    continue;
                }
            }
            if let Some(name) = old.get(l) {
                if !new_names.contains(&**name) {
                    out.push(std::mem::take(&mut items[l]));
                    l += 1;
                    continue;
                }
                if merged.contains(&**name) {
                    l += 1;
                }
            }
            if let Some((name, item)) = new.get(r) {
                merged.insert(name);
                out.extend(self.merge(list.place, before(name, &mut items), item));
                r += 1;
                if next_shared == Some(&**name) {
                    next_shared = shared.next();
                }
            }
        }
        out
    }
}

/// What was a map or list and has lost all members is null: absent, for a built-in kind.
fn take_out(schema: &Schema, place: Place<'_>, value: &mut Value, fields: &Set) {
    let form = place.form(schema, Some(value));
    match (form, &mut *value) {
        (Form::Map(members), Value::Object(map)) => {
            for (element, node) in set::children(fields) {
                let Some(key) = element.strip_prefix("f:") else { continue };
                if set::is_member(node) {
                    map.remove(key);
                } else if let Some(inner) = map.get_mut(key) {
                    take_out(schema, members.place(key), inner, node);
                }
            }
            if map.is_empty() {
                *value = Value::Null;
            }
        }
        (Form::List(list), Value::Array(items)) => {
            items.retain_mut(|item| {
                let Ok(element) = path::item(schema, &list, item) else { return true };
                let Some(node) = fields.get(&element).and_then(Value::as_object) else { return true };
                if set::is_member(node) {
                    return false;
                }
                take_out(schema, list.place, item, node);
                true
            });
            if items.is_empty() {
                *value = Value::Null;
            }
        }
        (Form::Leaf, Value::Object(_) | Value::Array(_)) => *value = Value::Null,
        _ => {}
    }
}
