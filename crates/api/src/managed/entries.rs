//! The entries of `metadata.managedFields`: reading, adding to, capping, ordering.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::set::{self, Set};
use super::{ANCIENT, MAX_UPDATE_MANAGERS, Write};

/// One manager's fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    manager: String,
    apply: bool,
    api_version: String,
    subresource: String,
    time: String,
    pub fields: Set,
}

impl Entry {
    pub fn into_value(self) -> Value {
        let mut entry = Map::new();
        entry.insert("apiVersion".into(), self.api_version.into());
        entry.insert("fieldsType".into(), "FieldsV1".into());
        entry.insert("fieldsV1".into(), Value::Object(self.fields));
        entry.insert("manager".into(), self.manager.into());
        entry.insert("operation".into(), if self.apply { "Apply" } else { "Update" }.into());
        if !self.subresource.is_empty() {
            entry.insert("subresource".into(), self.subresource.into());
        }
        if !self.time.is_empty() {
            entry.insert("time".into(), self.time.into());
        }
        Value::Object(entry)
    }

    /// Whether two entries are of one manager: an applier is whatever its version.
    fn is_of(&self, other: &Self) -> bool {
        self.apply == other.apply
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.apply || self.api_version == other.api_version)
    }
}

/// Reads a list of entries; `None` when one is malformed, which discards them all,
/// as upstream does.
pub(super) fn read(list: &Value) -> Option<Vec<Entry>> {
    list.as_array()?.iter().map(read_one).collect()
}

fn read_one(entry: &Value) -> Option<Entry> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let apply = match entry.get("operation")?.as_str()? {
        "Apply" => true,
        "Update" => false,
        _ => return None,
    };
    if entry.get("fieldsType")?.as_str()? != "FieldsV1" || text("apiVersion").is_empty() {
        return None;
    }
    Some(Entry {
        manager: text("manager"),
        apply,
        api_version: text("apiVersion"),
        subresource: text("subresource"),
        time: text("time"),
        fields: entry.get("fieldsV1").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
}

/// Gives a write's manager the fields that it changed.
pub(super) fn add(entries: &mut Vec<Entry>, write: &Write<'_>, fields: Set) {
    let mut entry = Entry {
        manager: if write.manager.is_empty() { "unknown" } else { write.manager }.to_owned(),
        apply: false,
        api_version: write.api_version.to_owned(),
        subresource: write.subresource.to_owned(),
        time: write.time.to_owned(),
        fields,
    };
    match entries.iter_mut().find(|known| known.is_of(&entry)) {
        Some(known) => {
            set::unite(&mut known.fields, std::mem::take(&mut entry.fields));
            known.time = entry.time;
        }
        None => entries.push(entry),
    }
}

/// Merges the oldest update managers of each version into one until there are few
/// enough. As upstream counts, the first of a version only makes room once a
/// second one joins it.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters = entries.iter().filter(|entry| !entry.apply).count();
    if updaters <= MAX_UPDATE_MANAGERS {
        return;
    }
    let (mut oldest, mut kept): (Vec<Entry>, Vec<Entry>) = entries.drain(..).partition(|entry| !entry.apply);
    oldest.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut buckets: HashMap<String, usize> = HashMap::new();
    for mut entry in oldest {
        match buckets.get(&entry.api_version) {
            Some(at) if updaters > MAX_UPDATE_MANAGERS => {
                let bucket = &mut kept[*at];
                set::unite(&mut bucket.fields, std::mem::take(&mut entry.fields));
                bucket.manager = ANCIENT.to_owned();
                bucket.subresource.clear();
                bucket.time = entry.time;
                updaters -= 1;
            }
            _ => {
                buckets.entry(entry.api_version.clone()).or_insert(kept.len());
                kept.push(entry);
            }
        }
    }
    *entries = kept;
}

/// Brings entries into upstream's order.
pub(super) fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| {
        let key = |e: &Entry| !e.apply;
        (key(a), &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            key(b),
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
}
