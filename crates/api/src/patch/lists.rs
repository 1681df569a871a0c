//! Lists in strategic merges: items found by their merge key, scalars by value, and
//! the order that patch and server agree on.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::strategic::{DIRECTIVE, Fields, Merger, unfit_type, unknown_directive};
use super::{Error, show};
use crate::schema::Ty;

/// A merged list, and what orders it when `$setElementOrder` leaves something open.
pub(super) struct Merged {
    pub items: Vec<Value>,
    /// The original list; where items were deleted, new ones have taken their room at
    /// its end. (Upstream reuses the list's memory and then reads the order from it.)
    pub server: Vec<Value>,
}

/// Merges a patch's list into the original one.
pub(super) fn merge(
    merger: &Merger<'_>,
    item: Option<&Ty>,
    key: &str,
    original: Vec<Value>,
    patch: Vec<Value>,
    deletes: bool,
) -> Result<Merged, Error> {
    if original.is_empty() && patch.is_empty() {
        return Ok(Merged { items: Vec::new(), server: original });
    }
    if !all_maps(&original, &patch)? {
        if deletes {
            let gone: HashSet<&Value> = patch.iter().collect();
            let items = original.iter().filter(|value| !gone.contains(value)).cloned().collect();
            return Ok(Merged { items, server: original });
        }
        let mut seen = HashSet::new();
        let both = original.iter().chain(&patch).filter(|value| seen.insert(*value)).cloned().collect();
        return Ok(Merged { items: order(both, &patch, &original, "")?, server: original });
    }
    if key.is_empty() {
        return Err(Error::Unfit("cannot merge lists without merge key for struct".into()));
    }
    let room = original.len();
    let (original, patch) = special_items(original, patch, key)?;
    let (server, patch_order) = (original.clone(), patch.clone());
    let mut merged = original;
    let mut places = HashMap::new();
    for (at, value) in merged.iter().enumerate() {
        if let Some(name) = value.get(key) {
            places.entry(name.clone()).or_insert(at);
        }
    }
    for value in patch {
        let name = key_of(&value, key)?.clone();
        match (places.get(&name), value) {
            (Some(at), Value::Object(value)) => {
                let Value::Object(old) = merged[*at].take() else { continue };
                merged[*at] = Value::Object(merger.map(item, old, value)?);
            }
            (_, value) => {
                places.insert(name, merged.len());
                merged.push(value);
            }
        }
    }
    let reused = merged.iter().take(room).cloned().collect();
    Ok(Merged { items: order(merged, &patch_order, &server, key)?, server: reused })
}

/// Whether the items are maps; all must be of one type.
fn all_maps(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut kinds = original.iter().chain(patch).map(|value| match value {
        Value::Array(_) => Err(Error::Unprocessable("lists of lists are not supported".into())),
        value => Ok(value.is_object()),
    });
    let first = kinds.next().transpose()?.unwrap_or_default();
    for kind in kinds {
        if kind? != first {
            let list = |items: &[Value]| show::go_map(&Fields::from_iter([(String::new(), items.into())]));
            let shown = format!("{} {}", list(original), list(patch));
            return Err(Error::Unfit(format!("list element types are not identical: {shown}")));
        }
    }
    Ok(first)
}

fn key_of<'a>(value: &'a Value, key: &str) -> Result<&'a Value, Error> {
    let map = value.as_object().ok_or_else(|| unfit_type("map[string]interface {}", value))?;
    map.get(key).ok_or_else(|| no_key(map, key))
}

fn no_key(map: &Fields, key: &str) -> Error {
    Error::Unfit(format!("map: {} does not contain declared merge key: {key}", show::go_map(map)))
}

/// Obeys the items that carry `$patch`: returns the original without what they
/// delete, and the patch without them.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for value in patch {
        let Value::Object(mut map) = value else { continue };
        let Some(directive) = map.remove(DIRECTIVE) else {
            plain.push(Value::Object(map));
            continue;
        };
        match directive.as_str() {
            Some("delete") => match map.remove(key) {
                Some(name) => drop(gone.insert(name)),
                None => {
                    map.insert(DIRECTIVE.into(), directive);
                    return Err(no_key(&map, key));
                }
            },
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Unfit("merging lists cannot yet be specified in the patch".into()));
            }
            _ => return Err(unknown_directive(directive, map)),
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    original.retain(|value| !value.get(key).is_some_and(|name| gone.contains(name)));
    Ok((original, plain))
}

/// What identifies an item: itself, or its merge key's value.
fn name<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() { Some(value) } else { value.get(key) }
}

fn places<'a>(items: &'a [Value], key: &str) -> HashMap<&'a Value, usize> {
    let mut places = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(name) = name(item, key) {
            places.entry(name).or_insert(at);
        }
    }
    places
}

/// Brings merged items into order: those that the patch names in the order of
/// `by`, the others in the server's, interleaved as the server had them.
pub(super) fn order(
    merged: Vec<Value>,
    by: &[Value],
    server: &[Value],
    key: &str,
) -> Result<Vec<Value>, Error> {
    if !key.is_empty() {
        for item in merged.iter().chain(by) {
            key_of(item, key)?;
        }
    }
    let (patch_places, server_places) = (places(by, key), places(server, key));
    let find = |places: &HashMap<&Value, usize>, item: &Value| {
        name(item, key).and_then(|name| places.get(name)).copied()
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| find(&patch_places, item).is_some());
    named.sort_by_key(|item| find(&patch_places, item));
    others.sort_by_key(|item| find(&server_places, item));
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let server_first = match (others.peek(), named.peek()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => {
                let places = (find(&server_places, other), find(&server_places, named));
                matches!(places, (Some(other), Some(named)) if other < named)
            }
        };
        let next = if server_first { others.next() } else { named.next() };
        ordered.extend(next);
    }
    Ok(ordered)
}

/// Checks that the items of a patch's list are all named by `$setElementOrder`, in
/// its order.
pub(super) fn check_order(patch: &[Value], by: &[Value], key: &str) -> Result<(), Error> {
    if patch.is_empty() || by.is_empty() {
        return Ok(());
    }
    let mut order = by.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = if key.is_empty() { item } else { key_of(item, key)? };
        let found = order.by_ref().any(|by| name(by, key) == Some(wanted));
        if !found {
            let list = |items: &[Value]| {
                let shown = show::go_map(&Fields::from_iter([(String::new(), items.into())]));
                shown.trim_start_matches("map[:").trim_end_matches(']').to_owned() + "]"
            };
            return Err(Error::Unfit(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                list(patch),
                list(by)
            )));
        }
    }
    Ok(())
}
