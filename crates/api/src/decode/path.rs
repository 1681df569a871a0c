//! Where decoding is, and how upstream words that: paths of strictness findings
//! and of type errors are built only when there is one.

use serde_json::Value;

use crate::schema::{Object, Schema, Ty};

/// One step from the root; steps live on the stack of the decoder.
pub(super) enum Step<'a> {
    Root,
    /// A field of an object type.
    Field {
        parent: &'a Step<'a>,
        object: &'a Object,
        name: &'a str,
    },
    /// An entry of a map.
    Key {
        parent: &'a Step<'a>,
        key: &'a str,
    },
    /// An item of a list.
    Index {
        parent: &'a Step<'a>,
        index: usize,
    },
}

impl Step<'_> {
    /// `spec.containers[0].image`.
    pub fn path(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// The path of something below, such as an unknown field.
    pub fn path_to(&self, name: &str) -> String {
        let mut out = self.path();
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(name);
        out
    }

    /// `/spec/containers/0/image` (RFC 6901).
    pub fn pointer(&self) -> String {
        match self {
            Step::Root => String::new(),
            Step::Field { parent, name, .. } | Step::Key { parent, key: name } => {
                format!("{}/{}", parent.pointer(), name.replace('~', "~0").replace('/', "~1"))
            }
            Step::Index { parent, index } => format!("{}/{index}", parent.pointer()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Step::Root => {}
            Step::Field { parent, name, .. } | Step::Key { parent, key: name } => {
                parent.write(out);
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index { parent, index } => {
                parent.write(out);
                out.push_str(&format!("[{index}]"));
            }
        }
    }

    /// Go's struct and the path of struct fields: `("DeploymentSpec", "spec.replicas")`.
    fn go(&self) -> Option<(&str, String)> {
        match self {
            Step::Root => None,
            Step::Key { parent, .. } | Step::Index { parent, .. } => parent.go(),
            Step::Field { parent, object, name } => {
                let mut path = parent.go().map(|(_, path)| path + ".").unwrap_or_default();
                if let Some(field) = object.field(name).filter(|field| !field.inlined.is_empty()) {
                    path.push_str(&field.inlined);
                    path.push('.');
                }
                Some((last(&object.name), path + name))
            }
        }
    }

    /// `json: cannot unmarshal string into Go struct field S.a.b of type int32`.
    pub fn mismatch(&self, what: &str, ty: &str) -> String {
        match self.go() {
            Some((object, path)) => {
                format!("json: cannot unmarshal {what} into Go struct field {object}.{path} of type {ty}")
            }
            None => format!("json: cannot unmarshal {what} into Go value of type {ty}"),
        }
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Go's name of a type: `int32`, `[]v1.Container`, `map[string]string`.
pub(super) fn go_type(schema: &Schema, ty: &Ty) -> String {
    match ty {
        Ty::String | Ty::Time | Ty::MicroTime | Ty::Quantity => "string".into(),
        Ty::Bytes => "[]uint8".into(),
        Ty::Int32 | Ty::IntOrString => "int32".into(),
        Ty::Int64 => "int64".into(),
        Ty::Float => "float64".into(),
        Ty::Bool => "bool".into(),
        Ty::Any => "interface {}".into(),
        Ty::Object(id) => {
            let name = &schema.object(*id).name;
            let package = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
            name[package..].into()
        }
        Ty::List(item) => format!("[]{}", go_type(schema, item)),
        Ty::Map(value) => format!("map[string]{}", go_type(schema, value)),
    }
}

/// What a value is in Go's words.
pub(crate) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
