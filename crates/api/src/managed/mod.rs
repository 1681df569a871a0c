//! `metadata.managedFields`: who owns which field, and server-side apply.
//!
//! Follows structured-merge-diff and apimachinery's `managedfields`: what an update
//! changed goes to its manager and is taken from the others; what is applied is claimed,
//! and conflicts with managers that hold other values. Sets of fields are worked on in
//! the form in which they are stored (`fieldsV1`), so that what a write does not touch
//! costs nothing. Applied configurations stay undecoded trees until they are merged, as
//! upstream has it: ownership is about what was written.

mod apply;
mod check;
mod compare;
mod config;
mod conflict;
mod entries;
mod fields;
mod last_applied;
mod memo;
mod merge;
mod path;
mod reconcile;
mod reset;
mod scale;
mod set;
mod shape;
mod types;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::decode;
use crate::schema::Ty;

pub use apply::{Applied, apply, without_managed};
pub use config::{Config, NoConfig};
pub use entries::same_but_times;
pub use last_applied::set_last_applied;
pub use memo::Memo;
pub use scale::{ReplicasPaths, scale_to_parent, scale_to_subresource};
pub use types::Types;

use entries::Entry;

/// Update managers kept apart; older ones are merged into [`ANCIENT`].
pub const MAX_UPDATE_MANAGERS: usize = 10;
/// Manager of the fields of merged older managers.
pub const ANCIENT: &str = "ancient-changes";
/// Manager of the fields that an object without entries has when it is first applied to.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";

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
/// those of `old`; `[]` and `[{}]` reset them. An existing object without entries stays
/// without.
pub fn update(types: &Types<'_>, write: &Write<'_>, old: Option<&Value>, new: &mut Value) {
    let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let given = meta.remove("managedFields");
    let entries = starting_entries(types, write, old, given.as_ref());
    if entries.is_empty() && old.is_some() {
        return;
    }
    let entries = track(types, write, old, new, entries);
    if let (Some(list), Some(meta)) =
        (entries::into_list(entries), new.get_mut("metadata").and_then(Value::as_object_mut))
    {
        meta.insert("managedFields".into(), list);
    }
}

/// The entries after an update.
fn track(
    types: &Types<'_>,
    write: &Write<'_>,
    old: Option<&Value>,
    new: &Value,
    mut entries: Vec<Entry>,
) -> Vec<Entry> {
    let nothing;
    let before = match old {
        Some(old) => old,
        None => {
            nothing = decode::zero(types.schema, &Ty::Object(types.root));
            &nothing
        }
    };
    reconcile::entries(types, &mut entries);
    let mut differences = apply::Differences::new(types, before, new);
    apply::take(&mut differences, &mut entries);
    let mut changed = differences.into_changed();
    strip(&mut changed);
    if !changed.is_empty() {
        entries::add(&mut entries, Entry::new(write, false, changed));
    }
    entries.retain(|entry| !entry.fields.is_empty());
    entries::cap(&mut entries);
    entries
}

/// The entries that an update starts from.
fn starting_entries(
    types: &Types<'_>,
    write: &Write<'_>,
    old: Option<&Value>,
    given: Option<&Value>,
) -> Vec<Entry> {
    let stored = || entries::stored(old);
    if !write.subresource.is_empty() {
        return stored();
    }
    match given {
        Some(Value::Array(items)) if items.is_empty() || *items == [Value::Object(Map::new())] => Vec::new(),
        Some(given) if old.and_then(|old| old.get("metadata")?.get("managedFields")) != Some(given) => {
            let mut given = entries::given(given).unwrap_or_default();
            reconcile::all(types, &mut given);
            if given.is_empty() { stored() } else { given }
        }
        _ => stored(),
    }
}

/// Removes what nobody manages: what names the object and what only the server writes.
fn strip(fields: &mut set::Set) {
    const UNMANAGED: [&str; 9] = [
        "f:clusterName",
        "f:creationTimestamp",
        "f:generation",
        "f:managedFields",
        "f:name",
        "f:namespace",
        "f:resourceVersion",
        "f:selfLink",
        "f:uid",
    ];
    fields.remove("f:apiVersion");
    fields.remove("f:kind");
    let Some(Value::Object(meta)) = fields.get_mut("f:metadata") else { return };
    for field in UNMANAGED {
        // Should one have members below it, they stay, as upstream has it: none does.
        meta.remove(field);
    }
    meta.remove(".");
    if meta.is_empty() {
        fields.remove("f:metadata");
    }
}
