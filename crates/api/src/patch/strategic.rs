//! Strategic merge: maps merge, lists merge by key where the schema says so, and
//! directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`,
//! `$setElementOrder/…`) steer. Follows apimachinery's `strategicpatch`.

use serde_json::{Map, Value};

use super::{Error, lists, show};
use crate::schema::{Field, Schema, Ty, TypeId};

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE: &str = "$deleteFromPrimitiveList";
const ORDER: &str = "$setElementOrder";

pub(super) type Fields = Map<String, Value>;

/// Applies a patch to an object.
pub(super) fn apply(schema: &Schema, root: TypeId, original: Fields, patch: Fields) -> Result<Fields, Error> {
    Merger { schema }.map(Some(&Ty::Object(root)), original, patch)
}

pub(super) struct Merger<'s> {
    schema: &'s Schema,
}

/// What is known of a field: its type, and how it merges.
struct Facts<'s> {
    ty: Option<&'s Ty>,
    field: Option<&'s Field>,
}

impl Facts<'_> {
    fn merges(&self) -> bool {
        self.field.is_some_and(|field| field.patch_merge)
    }

    fn key(&self) -> &str {
        self.field.map_or("", |field| &field.merge_key)
    }

    /// The type of the items of a list.
    fn item(&self) -> Option<&Ty> {
        match self.ty {
            Some(Ty::List(item)) => Some(item),
            _ => None,
        }
    }
}

impl<'s> Merger<'s> {
    /// Merges one map into another. `ty` is what both are of, if known.
    pub fn map(&self, ty: Option<&Ty>, mut original: Fields, mut patch: Fields) -> Result<Fields, Error> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Fields::new()),
                _ => Err(unknown_directive(directive, patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.order_lists(ty, &mut original, &mut patch)?;
        for (key, value) in patch {
            let (key, deletes) = match key.strip_prefix(DELETE) {
                Some(rest) => (strip_slash(rest, "invalid patch format of primitive list")?.to_owned(), true),
                None => (key, false),
            };
            self.field(ty, &mut original, key, value, deletes)?;
        }
        Ok(original)
    }

    fn field(
        &self,
        ty: Option<&Ty>,
        original: &mut Fields,
        key: String,
        patch: Value,
        deletes: bool,
    ) -> Result<(), Error> {
        if patch.is_null() {
            original.remove(&key);
            return Ok(());
        }
        let Some(slot) = original.get_mut(&key) else {
            if !deletes && let Some(value) = without_directives(without_nulls(patch)) {
                original.insert(key, value);
            }
            return Ok(());
        };
        match (slot.take(), patch) {
            (Value::Object(old), Value::Object(patch)) => {
                let facts = self.facts(ty, &key)?;
                let replaces = facts.field.is_some_and(|field| field.patch_replace);
                *slot = Value::Object(if replaces { patch } else { self.map(facts.ty, old, patch)? });
            }
            (Value::Array(old), Value::Array(patch)) => {
                let facts = self.facts(ty, &key)?;
                *slot = Value::Array(if facts.merges() || deletes {
                    lists::merge(self, facts.item(), facts.key(), old, patch, deletes)?.items
                } else {
                    patch
                });
            }
            (old, patch) => match without_directives(without_nulls(patch)) {
                _ if deletes => *slot = old,
                Some(value) => *slot = value,
                None => drop(original.remove(&key)),
            },
        }
        Ok(())
    }

    /// Takes the `$setElementOrder` directives and their lists out of the patch.
    fn order_lists(&self, ty: Option<&Ty>, original: &mut Fields, patch: &mut Fields) -> Result<(), Error> {
        let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
        for directive in keys {
            let order = patch.remove(&directive).unwrap_or_default();
            let key = strip_slash(&directive[ORDER.len()..], "invalid patch format of setElementOrder list")?;
            let Value::Array(order) = order else { return Err(unfit_type("[]interface {}", &order)) };
            let list = |map: &mut Fields| match map.remove(key) {
                None => Ok(None),
                Some(Value::Array(items)) => Ok(Some(items)),
                Some(other) => Err(unfit_type("[]interface {}", &other)),
            };
            let (old, new) = (list(original)?, list(patch)?);
            let facts = self.facts(ty, key)?;
            lists::check_order(new.as_deref().unwrap_or_default(), &order, facts.key())?;
            let mut server = old.clone().unwrap_or_default();
            let merged = match (old, new) {
                (None, None) => continue,
                (Some(old), None) => old,
                (None, Some(new)) => match without_directives(Value::Array(new)) {
                    Some(Value::Array(items)) => items,
                    _ => continue,
                },
                (Some(old), Some(new)) if facts.merges() => {
                    let merged = lists::merge(self, facts.item(), facts.key(), old, new, false)?;
                    server = merged.server;
                    merged.items
                }
                (Some(_), Some(new)) => new,
            };
            let ordered = lists::order(merged, &order, &server, facts.key())?;
            original.insert(key.to_owned(), Value::Array(ordered));
        }
        Ok(())
    }

    fn facts<'a>(&'a self, ty: Option<&'a Ty>, key: &str) -> Result<Facts<'a>, Error> {
        match ty {
            Some(Ty::Object(id)) => {
                let object = self.schema.object(*id);
                let field = object.field(key).ok_or_else(|| {
                    let name = object.name.rsplit('.').next().unwrap_or_default();
                    Error::Unfit(format!(
                        "unable to find api field in struct {name} for the json field {key:?}"
                    ))
                })?;
                Ok(Facts { ty: Some(&field.ty), field: Some(field) })
            }
            Some(Ty::Map(value)) => Ok(Facts { ty: Some(value), field: None }),
            _ => Ok(Facts { ty: None, field: None }),
        }
    }
}

fn strip_slash<'a>(rest: &'a str, reason: &str) -> Result<&'a str, Error> {
    rest.strip_prefix('/').ok_or_else(|| Error::Bad(reason.to_owned()))
}

pub(super) fn unknown_directive(directive: Value, mut patch: Fields) -> Error {
    let word = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    patch.insert(DIRECTIVE.into(), directive);
    Error::Unfit(format!("unknown patch type: {word} in map: {}", show::go_map(&patch)))
}

pub(super) fn unfit_type(expected: &str, actual: &Value) -> Error {
    let actual = match actual {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    Error::Unfit(format!("expected a {expected}, but received a {actual}"))
}

/// Obeys `$retainKeys`: what it does not name goes.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN) else { return Ok(()) };
    let bad = || Error::Bad("invalid patch format of retainKeys".to_owned());
    let Value::Array(keys) = keys else { return Err(bad()) };
    let kept = |key: &str| keys.iter().any(|kept| kept == key);
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null() && !key.starts_with(DELETE) && !key.starts_with(ORDER) && !kept(key)
    });
    if stray {
        return Err(bad());
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// A new value without its nulls.
fn without_nulls(mut value: Value) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|_, value| !value.is_null());
                map.values_mut().for_each(prune);
            }
            Value::Array(items) => items.iter_mut().for_each(prune),
            _ => {}
        }
    }
    prune(&mut value);
    value
}

/// A new value without maps that are directives; `None` when it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return None;
            }
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}
