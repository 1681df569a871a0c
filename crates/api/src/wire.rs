//! Records of objects that come over the wire: spliced from the bytes as they came, with
//! only what the header keeps read into a tree.
//!
//! It trusts the sender to have sent an object of the kind; what is not JSON, or lacks a
//! name or a resourceVersion, is no record.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::Key;
use crate::record::{Content, Header, Record};

/// The fields of an object in their order, their values unread.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl<'a> Fields<'a> {
    fn of(json: &'a RawValue) -> Option<Self> {
        serde_json::from_str(json.get()).ok()
    }

    fn get(&self, wanted: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
    }

    /// The fields but some, as bytes of an object without its braces.
    fn write(&self, out: &mut Vec<u8>, except: &[&str], leading_comma: bool) -> Option<()> {
        for (name, value) in self.0.iter().filter(|(name, _)| !except.contains(&&**name)) {
            if leading_comma || !out.is_empty() {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, name).ok()?;
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        Some(())
    }
}

impl Record {
    /// Reads an object as another server sent it, in a list or a watch. `resource` is as in
    /// [`Key::new`], `types` the kind's API version and name, which an item of a list may
    /// lack, `selectable` as for [`Content::encode`]. `None` when it is no object with
    /// metadata, a name and a resourceVersion.
    pub fn from_json<S: AsRef<str>>(
        resource: &str,
        types: (&str, &str),
        json: &RawValue,
        selectable: &[S],
    ) -> Option<Self> {
        let top = Fields::of(json)?;
        let fields = Fields::of(top.get("metadata")?)?;
        let meta = tree(&fields, |name| !matches!(name, "managedFields" | "annotations"))?;
        let text = |field: &str| meta.get(field).and_then(Value::as_str);
        let key = Key::new(resource, text("namespace").unwrap_or_default(), text("name")?);
        let revision = text("resourceVersion")?.parse().ok()?;

        let mut selected = tree(&top, |name| matches!(name, "apiVersion" | "kind"))?;
        selected.entry("apiVersion").or_insert_with(|| types.0.into());
        selected.entry("kind").or_insert_with(|| types.1.into());
        let paths: Vec<Vec<&str>> = selectable.iter().flat_map(|one| paths(one.as_ref())).collect();
        let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        pick(&top, &paths, &mut selected);
        let header = Header::read(&selected, &meta, selectable);

        let mut body = Vec::with_capacity(json.get().len());
        fields.write(&mut body, &["managedFields", "resourceVersion"], false)?;
        let managed_at = u32::try_from(body.len()).ok()?;
        let managed = fields.get("managedFields").map(RawValue::get).filter(|managed| *managed != "null");
        body.extend_from_slice(managed.unwrap_or_default().as_bytes());
        let rest_at = u32::try_from(body.len()).ok()?;
        top.write(&mut body, &["apiVersion", "kind", "metadata"], true)?;
        let content = Content::from_parts(header, body.into(), managed_at, rest_at)?;
        Some(Self { key, revision, content })
    }
}

/// Some of the fields, read.
fn tree(fields: &Fields<'_>, wanted: impl Fn(&str) -> bool) -> Option<Map<String, Value>> {
    let wanted = fields.0.iter().filter(|(name, _)| wanted(name));
    wanted.map(|(name, value)| Some((name.to_string(), serde_json::from_str(value.get()).ok()?))).collect()
}

/// The dotted paths of a selectable field's expression (`a.b|c.d=default`).
fn paths(expression: &str) -> impl Iterator<Item = Vec<&str>> {
    let paths = expression.split_once('=').map_or(expression, |(paths, _)| paths);
    paths.split('|').map(|path| path.split('.').collect())
}

/// Reads what lies at the paths, and nothing beside it.
fn pick(fields: &Fields<'_>, paths: &[&[&str]], out: &mut Map<String, Value>) {
    for (name, value) in &fields.0 {
        let below: Vec<&[&str]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| *first == name)
            .map(|(_, rest)| rest)
            .collect();
        if below.is_empty() {
            continue;
        }
        if below.iter().any(|path| path.is_empty()) {
            out.extend(serde_json::from_str(value.get()).ok().map(|value| (name.to_string(), value)));
        } else if let Some(inner) = Fields::of(value) {
            let mut picked = Map::new();
            pick(&inner, &below, &mut picked);
            out.insert(name.to_string(), picked.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As from the tree of the same object.
    fn check(object: &Value, selectable: &[&str]) {
        let raw = RawValue::from_string(object.to_string()).unwrap();
        let record = Record::from_json("pods", ("v1", "Pod"), &raw, selectable);
        let mut whole = object.clone();
        for (field, value) in [("apiVersion", "v1"), ("kind", "Pod")] {
            if let Some(map) = whole.as_object_mut() {
                map.entry(field).or_insert_with(|| value.into());
            }
        }
        let expect = Record::from_wire("pods", &whole, selectable);
        assert_eq!(record.is_some(), expect.is_some(), "{object}");
        let Some((record, expect)) = record.zip(expect) else { return };
        assert_eq!((&record.key, record.revision), (&expect.key, expect.revision));
        assert_eq!(format!("{:?}", record.header()), format!("{:?}", expect.header()));
        assert_eq!(record.decode(), expect.decode());
        assert_eq!(record.content.managed(), expect.content.managed());
    }

    #[test]
    fn what_is_spliced_is_what_is_read() {
        let meta = json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"b": "2", "a": "1"}, "annotations": {"x": "\"quoted\" \n"}, "finalizers": ["f"],
            "deletionTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "m"}],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o",
                "controller": true}]});
        let fields = ["spec.nodeName", "spec.hostNetwork=false", "status.phase", "a.x|b.y"];
        let whole = json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta,
            "spec": {"nodeName": "n1", "hostNetwork": true, "containers": [{"name": "c"}]},
            "b": {"y": 5}, "status": {"phase": "Running"}});
        check(&whole, &fields);
        check(&whole, &[]);
        check(&json!({"metadata": meta, "spec": {}, "status": null}), &fields);
        check(&json!({"metadata": {"name": "a", "resourceVersion": "7", "managedFields": null}}), &fields);
        for object in [
            json!([]),
            json!({"spec": {}}),
            json!({"metadata": 1}),
            json!({"metadata": {"name": "a"}}),
            json!({"metadata": {"resourceVersion": "1"}}),
            json!({"metadata": {"name": "a", "resourceVersion": "x"}}),
        ] {
            check(&object, &fields);
        }
    }
}
