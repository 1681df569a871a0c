//! Who creates an object owns what is in it; which fields those are follows from the
//! object's outline: its fields, the keys by which its lists tell their items apart, and
//! which values are empty. What is made from one template has one outline, so sets are
//! remembered by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::shape::{Form, Items, Place};
use super::{Types, Write, entries, track};
use crate::field::{Errors, Path};
use crate::schema::{ListType, Schema, Ty};
use crate::validation::meta::field_manager;

/// Outlines that are remembered at most; one more, and all are forgotten.
const MOST: usize = 256;
/// Bytes of an outline that is worth remembering at most.
const LONGEST: usize = 8 << 10;

/// Sets of fields, as JSON, by outline.
type Known = HashMap<Box<[u8]>, Arc<[u8]>>;

/// Sets of fields of new objects by outline.
#[derive(Default)]
pub struct Memo(Mutex<Known>);

impl Memo {
    /// The list `metadata.managedFields` of a new object as JSON; empty when there is none.
    /// As [`update`](super::update), but that the object is left alone. `None` when that has
    /// to be asked: for a custom kind, for entries that the object brings, and for a
    /// manager whose name will be refused.
    pub fn created(&self, types: &Types<'_>, write: &Write<'_>, object: &Value) -> Option<Vec<u8>> {
        let brings = object.get("metadata")?.get("managedFields").is_some_and(|given| !given.is_null());
        if types.custom || brings || !is_fit(write.manager) {
            return None;
        }
        let outline = Outline::of(types, write, object);
        let fields = match self.known(&outline) {
            Some(fields) => fields,
            None => {
                let entry = track(types, write, None, object, Vec::new()).pop();
                let fields = entry.map_or_else(Vec::new, |entry| {
                    serde_json::to_vec(&entry.fields).expect("a JSON tree always encodes")
                });
                self.remember(outline, fields.into())
            }
        };
        Some(if fields.is_empty() { Vec::new() } else { entries::list_of_one(write, &fields) })
    }

    fn known(&self, outline: &[u8]) -> Option<Arc<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(outline).cloned()
    }

    fn remember(&self, outline: Vec<u8>, fields: Arc<[u8]>) -> Arc<[u8]> {
        if outline.len() <= LONGEST {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(outline.into(), fields.clone());
        }
        fields
    }
}

fn is_fit(manager: &str) -> bool {
    let mut errors = Errors::new();
    field_manager(manager, &Path::ROOT, &mut errors);
    errors.is_empty()
}

/// Everything about an object that decides which fields it has.
struct Outline<'s> {
    schema: &'s Schema,
    out: Vec<u8>,
}

impl Outline<'_> {
    fn of(types: &Types<'_>, write: &Write<'_>, object: &Value) -> Vec<u8> {
        let mut outline = Outline { schema: types.schema, out: Vec::with_capacity(2 << 10) };
        outline.out.extend_from_slice(&types.root.0.to_le_bytes());
        outline.text(write.subresource);
        let ty = Ty::Object(types.root);
        outline.value(Place::root(&ty, types.schema, types.root), object);
        outline.out
    }

    fn value(&mut self, place: Place<'_>, value: &Value) {
        match (place.form(self.schema, Some(value)), value) {
            (Form::Map(members), Value::Object(map)) => {
                self.out.push(b'{');
                for (key, value) in map {
                    self.text(key);
                    self.value(members.place(key), value);
                }
                self.out.push(b'}');
            }
            (Form::List(list), Value::Array(items)) => {
                self.out.push(b'[');
                for item in items {
                    self.keys(&list, item);
                    self.value(list.place, item);
                }
                self.out.push(b']');
            }
            (_, value) => self.whole(value),
        }
    }

    /// What tells an item apart from its neighbours.
    fn keys(&mut self, list: &Items<'_>, item: &Value) {
        if list.list.list == ListType::Set || list.list.list_keys.is_empty() {
            return self.exactly(Some(item));
        }
        list.list.list_keys.iter().for_each(|key| self.exactly(item.get(&**key)));
    }

    fn exactly(&mut self, value: Option<&Value>) {
        match value {
            None => self.out.push(b'-'),
            Some(Value::String(text)) => {
                self.out.push(b'"');
                self.text(text);
            }
            Some(value) => {
                serde_json::to_writer(&mut self.out, value).expect("writing to memory cannot fail");
                self.out.push(b',');
            }
        }
    }

    /// A value that is one field: what matters is whether it is what Go's zero value of
    /// the kind has there, which has no items anywhere.
    fn whole(&mut self, value: &Value) {
        let tag = match value {
            Value::Null => b'0',
            Value::Bool(set) => b'1' + u8::from(*set),
            Value::Number(number) => b'3' + u8::from(number.as_f64() != Some(0.0)),
            Value::String(text) => b'5' + u8::from(!text.is_empty()),
            Value::Array(items) => b'7' + u8::from(!items.is_empty()),
            Value::Object(map) => {
                self.out.push(b'<');
                for (key, value) in map {
                    self.text(key);
                    self.whole(value);
                }
                b'>'
            }
        };
        self.out.push(tag);
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, defaults, kinds};
    use serde_json::json;

    const WRITE: Write<'static> =
        Write { manager: "kubectl", api_version: "v1", time: "2026-01-01T00:00:00Z", subresource: "" };

    fn both(memo: &Memo, resource: &str, object: &Value) -> (Option<Vec<u8>>, Value) {
        let kinds = kinds::builtin();
        let kind = kinds.stored(resource).unwrap();
        let mut object = decode::object_value(kind, 0, object.clone()).unwrap().value;
        defaults::default_object(kind, 0, &mut object);
        let types = Types::of(kind, 0, WRITE.api_version, "");
        let remembered = memo.created(&types, &WRITE, &object);
        super::super::update(&types, &WRITE, None, &mut object);
        (remembered, object["metadata"]["managedFields"].take())
    }

    #[test]
    fn remembers_what_would_be_worked_out() {
        let pod = |change: Value| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {
                "containers": [{"name": "a", "image": "a", "ports": [{"containerPort": 80}],
                    "env": [{"name": "A", "value": ""}], "command": ["a"]}]}});
            json_patch::merge(&mut pod, &change);
            ("pods", pod)
        };
        let containers = |containers: Value| pod(json!({"spec": {"containers": containers}}));
        let objects = [
            pod(json!({})),
            pod(json!({"metadata": {"name": "another"}})),
            pod(json!({"metadata": {"labels": {"a": "1"}}})),
            pod(json!({"metadata": {"labels": {"a": ""}}})),
            pod(json!({"metadata": {"labels": {}}})),
            pod(json!({"metadata": {"labels": {"b": "1"}, "finalizers": ["x.y/a", "x.y/b"]}})),
            pod(json!({"metadata": {"labels": {"b": "1"}, "finalizers": ["x.y/b"]}})),
            pod(json!({"spec": {"nodeSelector": {"a": "b"}, "hostNetwork": false}})),
            pod(json!({"spec": {"nodeSelector": {}, "hostNetwork": true, "securityContext": {}}})),
            pod(json!({"spec": {"tolerations": [{"key": "a"}], "hostname": ""}, "status": {"phase": "x"}})),
            containers(json!([{"name": "b"}])),
            containers(json!([{"name": "b"}, {"name": "b"}])),
            containers(json!([{"name": "b", "ports": [{"containerPort": 80, "protocol": "UDP"}]}])),
            containers(json!([{"name": "b", "ports": [{"containerPort": 81, "protocol": "UDP"}]}])),
            containers(json!([{"name": "b", "env": []}, {"name": "a", "args": []}])),
            ("configmaps", json!({"metadata": {"name": "a"}, "data": {"a": "b"}})),
            ("secrets", json!({"metadata": {"name": "a"}, "data": {"a": "Yg=="}})),
            ("events", json!({"metadata": {"name": "a"}, "involvedObject": {}, "count": 0})),
            ("events", json!({"metadata": {"name": "a"}, "involvedObject": {"name": "a"}, "count": 1})),
        ];
        let memo = Memo::default();
        for _ in 0..2 {
            for (resource, object) in &objects {
                let (remembered, worked_out) = both(&memo, resource, object);
                let remembered = remembered.expect("is a case for it");
                let read: Value = serde_json::from_slice(&remembered).unwrap_or_default();
                assert_eq!(read, worked_out, "{resource} {object}");
            }
        }
        assert_eq!(memo.0.lock().unwrap().len(), objects.len() - 2, "another name, and labels that are none");
    }

    #[test]
    fn leaves_what_it_cannot_know() {
        let memo = Memo::default();
        let brings = json!({"metadata": {"name": "a", "managedFields": [{"manager": "a"}]}});
        assert_eq!(both(&memo, "configmaps", &brings).0, None);
        let kinds = kinds::builtin();
        let types = Types::of(kinds.stored("configmaps").unwrap(), 0, "v1", "");
        let refused = Write { manager: "a\nb", ..WRITE };
        assert_eq!(memo.created(&types, &refused, &json!({"metadata": {"name": "a"}})), None);
        for at in 0..2 * MOST {
            let map = json!({"metadata": {"name": "a"}, "data": {at.to_string(): "b"}});
            assert!(memo.created(&types, &WRITE, &map).is_some());
        }
        assert!(memo.0.lock().unwrap().len() <= MOST);
    }
}
