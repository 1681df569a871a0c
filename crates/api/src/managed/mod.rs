//! `metadata.managedFields`: who last wrote which field.
//!
//! Follows structured-merge-diff's tracking of updates: what a write changed goes to
//! its manager and is taken from the others. Sets of fields are worked on in the
//! form in which they are stored (`fieldsV1`), so that what a write does not touch
//! costs nothing. Server-side apply itself is not here.

mod compare;
mod entries;
mod set;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::decode;
use crate::schema::{Schema, Ty, TypeId};

/// Update managers kept apart; older ones are merged into [`ANCIENT`].
pub const MAX_UPDATE_MANAGERS: usize = 10;
/// Manager of the fields of merged older managers.
pub const ANCIENT: &str = "ancient-changes";

/// What a write says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Field manager: the `fieldManager` parameter, or the user agent up to `/`.
    pub manager: &'a str,
    /// apiVersion of the request.
    pub api_version: &'a str,
    /// Now, RFC 3339 to the second.
    pub time: &'a str,
    /// Subresource written, or empty.
    pub subresource: &'a str,
}

/// Tracks an update (POST, PUT, or PATCH other than apply): sets
/// `new.metadata.managedFields` from the entries there are and what differs between
/// `old` (`None` on create) and `new`.
///
/// Entries are those of `new` if it brings any (so that a client can edit them), else
/// those of `old`; `[{}]` resets them. An existing object without entries stays
/// without.
pub fn update(schema: &Schema, root: TypeId, write: &Write<'_>, old: Option<&Value>, new: &mut Value) {
    let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let given = meta.remove("managedFields");
    let mut entries = entries(write, old, given.as_ref());
    if entries.is_empty() && old.is_some() {
        return;
    }
    let nothing;
    let before = match old {
        Some(old) => old,
        None => {
            nothing = decode::zero(schema, &Ty::Object(root));
            &nothing
        }
    };
    let difference = compare::objects(schema, root, before, new, write.subresource);
    for entry in &mut entries {
        set::subtract(&mut entry.fields, &difference.changed);
        set::subtract(&mut entry.fields, &difference.removed);
    }
    entries.retain(|entry| !entry.fields.is_empty());
    if !difference.changed.is_empty() {
        entries::add(&mut entries, write, difference.changed);
    }
    entries::cap(&mut entries);
    if entries.is_empty() {
        return;
    }
    entries::sort(&mut entries);
    if let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        let list = entries.into_iter().map(entries::Entry::into_value).collect();
        meta.insert("managedFields".into(), Value::Array(list));
    }
}

/// The entries that the update starts from.
fn entries(write: &Write<'_>, old: Option<&Value>, given: Option<&Value>) -> Vec<entries::Entry> {
    let stored = || {
        let stored = old.and_then(|old| old.get("metadata")?.get("managedFields"));
        stored.and_then(entries::read).unwrap_or_default()
    };
    if !write.subresource.is_empty() {
        return stored();
    }
    match given {
        Some(Value::Array(items)) if items.is_empty() || *items == [Value::Object(Map::new())] => Vec::new(),
        Some(given) => entries::read(given).filter(|entries| !entries.is_empty()).unwrap_or_else(stored),
        None => stored(),
    }
}
