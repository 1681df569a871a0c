//! A patched object as upstream's errors quote it: what the patch touched is a Go map,
//! sorted by key; what it did not touch is as Go encoded the object, in the order of the
//! struct's fields.

use std::collections::BTreeSet;

use serde_json::Value;

use super::unstructured::in_gos_order;
use crate::schema::{Schema, Ty, TypeId};

/// The objects and lists that a patch went through, and the values that it brought, by
/// JSON pointers.
#[derive(Default)]
pub(super) struct Touched {
    through: BTreeSet<String>,
    brought: BTreeSet<String>,
}

impl Touched {
    /// What a merge patch touches.
    pub fn by_merge(patch: &Value) -> Self {
        let mut touched = Self::default();
        touched.merged(patch, String::new());
        touched
    }

    fn merged(&mut self, patch: &Value, pointer: String) {
        let Value::Object(fields) = patch else {
            self.brought.insert(pointer);
            return;
        };
        for (name, value) in fields {
            self.merged(value, below(&pointer, name));
        }
        self.through.insert(pointer);
    }

    /// What the operations of a JSON patch touch.
    pub fn by_operations(operations: &Value) -> Self {
        let mut touched = Self::default();
        touched.through.insert(String::new());
        for operation in operations.as_array().into_iter().flatten() {
            for field in ["from", "path"] {
                let Some(pointer) = operation[field].as_str() else { continue };
                for (at, _) in pointer.match_indices('/') {
                    touched.through.insert(pointer[..at].to_owned());
                }
                if field == "path" && operation["op"] != "test" {
                    touched.brought.insert(pointer.to_owned());
                }
            }
        }
        touched
    }
}

/// The JSON of an object of the type `root` that a patch touched.
pub(super) fn json(schema: &Schema, root: TypeId, value: &Value, touched: &Touched) -> String {
    let mut out = String::new();
    Writer { schema, touched }.write(Some(&Ty::Object(root)), value, "", &mut out);
    // (Go's encoder escapes what HTML would read.)
    out.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

struct Writer<'a> {
    schema: &'a Schema,
    touched: &'a Touched,
}

impl Writer<'_> {
    fn write(&self, ty: Option<&Ty>, value: &Value, pointer: &str, out: &mut String) {
        let brought = self.touched.brought.contains(pointer);
        match value {
            Value::Object(fields) if !brought => {
                let mut names: Vec<&String> = fields.keys().collect();
                if let Some(Ty::Object(id)) = ty.filter(|_| !self.touched.through.contains(pointer)) {
                    let order = in_gos_order(self.schema.object(*id));
                    let place = |name: &str| order.iter().position(|field| *field.name == *name);
                    names.sort_by_key(|name| place(name).unwrap_or(order.len()));
                }
                out.push('{');
                for (at, name) in names.into_iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push(':');
                    self.write(self.field(ty, name), &fields[name], &below(pointer, name), out);
                }
                out.push('}');
            }
            Value::Array(items) if !brought => {
                let item = match ty {
                    Some(Ty::List(item)) => Some(&**item),
                    _ => None,
                };
                out.push('[');
                for (at, value) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    self.write(item, value, &format!("{pointer}/{at}"), out);
                }
                out.push(']');
            }
            value => out.push_str(&value.to_string()),
        }
    }

    fn field<'a>(&'a self, ty: Option<&'a Ty>, name: &str) -> Option<&'a Ty> {
        match ty? {
            Ty::Object(id) => self.schema.object(*id).field(name).map(|field| &field.ty),
            Ty::Map(value) => Some(value),
            _ => None,
        }
    }
}
