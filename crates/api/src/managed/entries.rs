//! The entries of `metadata.managedFields`: reading, adding to, capping, ordering.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::set::{self, Set};
use super::{ANCIENT, MAX_UPDATE_MANAGERS, Write};

/// One manager's fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entry {
    pub manager: String,
    pub apply: bool,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
    pub fields: Set,
}

impl Entry {
    /// An entry of the manager of a write.
    pub fn new(write: &Write<'_>, apply: bool, fields: Set) -> Self {
        Self {
            manager: if write.manager.is_empty() { "unknown" } else { write.manager }.to_owned(),
            apply,
            api_version: write.api_version.to_owned(),
            subresource: write.subresource.to_owned(),
            time: write.time.to_owned(),
            fields,
        }
    }

    pub fn into_value(self) -> Value {
        let mut entry = Map::new();
        entry.insert("apiVersion".into(), self.api_version.into());
        entry.insert("fieldsType".into(), "FieldsV1".into());
        entry.insert("fieldsV1".into(), Value::Object(self.fields));
        if !self.manager.is_empty() {
            entry.insert("manager".into(), self.manager.into());
        }
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
    pub fn is_of(&self, other: &Self) -> bool {
        self.apply == other.apply
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.apply || self.api_version == other.api_version)
    }

    /// What upstream calls the manager, and sorts by.
    pub fn identifier(&self) -> String {
        let mut text = String::from("{");
        let mut field = |name: &str, value: &str| {
            if !value.is_empty() {
                let comma = if text.len() > 1 { "," } else { "" };
                text.push_str(&format!("{comma}{}:{}", json!(name), json!(value)));
            }
        };
        field("manager", &self.manager);
        field("operation", if self.apply { "Apply" } else { "Update" });
        field("apiVersion", if self.apply { "" } else { &self.api_version });
        field("subresource", &self.subresource);
        text.push('}');
        text
    }
}

/// Reads the entries that are stored; none when they are malformed.
pub(super) fn stored(object: Option<&Value>) -> Vec<Entry> {
    let list = object.and_then(|object| object.get("metadata")?.get("managedFields"));
    list.and_then(|list| read(list, |fields| Some(fields.clone()))).unwrap_or_default()
}

/// Reads entries that a client brought; `None` when one is malformed, which discards
/// them all.
pub(super) fn given(list: &Value) -> Option<Vec<Entry>> {
    read(list, |fields| set::read(fields).ok())
}

/// The last of several entries of one manager counts.
fn read(list: &Value, set: impl Fn(&Set) -> Option<Set>) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in list.as_array()? {
        let mut read = head(entry)?;
        match entry.get("fieldsV1") {
            None | Some(Value::Null) => {}
            Some(fields) => read.fields = set(fields.as_object()?)?,
        }
        match entries.iter_mut().find(|known| known.is_of(&read)) {
            Some(known) => *known = read,
            None => entries.push(read),
        }
    }
    Some(entries)
}

/// An entry but for its fields.
fn head(entry: &Value) -> Option<Entry> {
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
        fields: Set::new(),
    })
}

/// Gives a manager the fields that it changed.
pub(super) fn add(entries: &mut Vec<Entry>, mut entry: Entry) {
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
    oldest.sort_by_cached_key(|entry| (entry.time.clone(), entry.identifier()));
    let mut oldest: Vec<Option<Entry>> = oldest.into_iter().map(Some).collect();
    let is_bucket = |entry: &Entry, version: &str| {
        entry.manager == ANCIENT && entry.subresource.is_empty() && entry.api_version == version
    };
    let mut first: HashMap<String, usize> = HashMap::new();
    for at in 0..oldest.len() {
        if updaters <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(entry) = oldest[at].take() else { continue };
        let Some(first) = first.get(&entry.api_version).copied() else {
            first.insert(entry.api_version.clone(), at);
            oldest[at] = Some(entry);
            continue;
        };
        let version = &entry.api_version;
        let known = oldest.iter().position(|e| e.as_ref().is_some_and(|e| is_bucket(e, version)));
        let Some(bucket) = &mut oldest[known.unwrap_or(first)] else { continue };
        set::unite(&mut bucket.fields, entry.fields);
        bucket.manager = ANCIENT.to_owned();
        bucket.subresource.clear();
        bucket.time = entry.time;
        updaters -= 1;
    }
    kept.extend(oldest.into_iter().flatten());
    *entries = kept;
}

/// The list as it is stored, in upstream's order; `None` when there is nothing to store.
pub(super) fn into_list(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|entry| !entry.fields.is_empty());
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
    (!entries.is_empty()).then(|| entries.into_iter().map(Entry::into_value).collect())
}

/// The list, as JSON, with the one entry of a write that is no apply; `fields` is its set.
pub(super) fn list_of_one(write: &Write<'_>, fields: &[u8]) -> Vec<u8> {
    let entry = Entry::new(write, false, Set::new()).into_value();
    let text = entry.to_string();
    let (before, after) = text.split_once("\"fieldsV1\":{}").expect("every entry has fields");
    [b"[", before.as_bytes(), b"\"fieldsV1\":", fields, after.as_bytes(), b"]"].concat()
}

/// Whether two lists of entries differ in nothing but times.
pub fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return a == b };
    let rest = |entry: &Value| -> Vec<(String, Value)> {
        let fields = entry.as_object().into_iter().flatten().filter(|(name, _)| *name != "time");
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| rest(a) == rest(b))
}
