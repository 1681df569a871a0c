//! The arena of a custom kind's types, out of its schema: what server-side apply,
//! managed fields and protobuf-free decoding walk, the same as for built-in kinds.
//!
//! Types are named by their place below the kind (`com.example.v1.Boat.spec`). Metadata
//! is the built-in type, copied in. List and map types are those of the schema.

use super::props::{Additional, Props};
use crate::schema::{Field, Object, Schema, Ty, TypeId};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The arena and the kind's own type.
pub(super) fn build(props: &Props, group: &str, version: &str, kind: &str) -> (Schema, TypeId) {
    let mut schema = Schema::default();
    let meta = import(&mut schema, &crate::facts::schema(), OBJECT_META);
    let name = model_name(group, version, kind);
    let mut builder = Builder { schema, meta };
    let mut object = builder.object(props, &name, true);
    object.group_version_kinds = [(group.into(), version.into(), kind.into())].into();
    let root = builder.schema.add(object);
    (builder.schema, root)
}

/// `com.example.v1.Boat`: the name of a kind's definition in OpenAPI.
pub(super) fn model_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

struct Builder {
    schema: Schema,
    meta: Option<TypeId>,
}

impl Builder {
    fn object(&mut self, props: &Props, name: &str, is_root: bool) -> Object {
        let mut fields: Vec<Field> = Vec::new();
        let types = is_root || props.embedded;
        for (field, props) in &props.properties {
            if types && matches!(&**field, "apiVersion" | "kind" | "metadata") {
                continue;
            }
            fields.push(self.field(field, props, &format!("{name}.{field}")));
        }
        if types {
            fields.extend(["apiVersion", "kind"].map(|field| Field::new(field, Ty::String)));
            fields.extend(self.meta.map(|meta| Field::new("metadata", Ty::Object(meta))));
        }
        Object {
            name: name.into(),
            fields: fields.into(),
            preserve_unknown: props.preserves(),
            loose: true,
            atomic: props.map_type.as_deref() == Some("atomic"),
            ..Object::default()
        }
    }

    fn field(&mut self, field: &str, props: &Props, name: &str) -> Field {
        let ty = self.ty(props, name);
        let is_map = matches!(ty, Ty::Map(_) | Ty::Any);
        Field {
            list: props.list(),
            list_keys: props.list_keys.clone(),
            default: props.default.as_ref().map(|value| value.to_string().into()).unwrap_or_default(),
            atomic: is_map && props.map_type.as_deref() == Some("atomic"),
            required: props.required.iter().any(|required| &**required == field),
            ..Field::new(field, ty)
        }
    }

    fn ty(&mut self, props: &Props, name: &str) -> Ty {
        if props.int_or_string {
            return Ty::IntOrString;
        }
        match &*props.ty {
            "string" => Ty::String,
            "integer" => Ty::Int64,
            "number" => Ty::Float,
            "boolean" => Ty::Bool,
            "array" => match &props.items {
                Some(items) => Ty::List(Box::new(self.ty(items, &format!("{name}.items")))),
                None => Ty::Any,
            },
            "object" if props.embedded || !props.properties.is_empty() => self.named(props, name),
            "object" => match &props.additional {
                Some(Additional::Schema(schema)) => {
                    Ty::Map(Box::new(self.ty(schema, &format!("{name}.values"))))
                }
                Some(Additional::Any(true)) => Ty::Map(Box::new(Ty::Any)),
                _ if props.preserves() => Ty::Any,
                _ => self.named(props, name),
            },
            _ => Ty::Any,
        }
    }

    fn named(&mut self, props: &Props, name: &str) -> Ty {
        let object = self.object(props, name, false);
        Ty::Object(self.schema.add(object))
    }
}

/// Copies a type and all that it refers to.
fn import(into: &mut Schema, from: &Schema, name: &str) -> Option<TypeId> {
    if let Some(known) = into.find(name) {
        return Some(known);
    }
    let mut object = from.object(from.find(name)?).clone();
    let id = into.declare(name);
    for field in &mut object.fields {
        retarget(&mut field.ty, into, from)?;
    }
    into.define(id, object);
    Some(id)
}

fn retarget(ty: &mut Ty, into: &mut Schema, from: &Schema) -> Option<()> {
    match ty {
        Ty::List(inner) | Ty::Map(inner) => retarget(inner, into, from),
        Ty::Object(id) => {
            let name = from.object(*id).name.clone();
            *id = import(into, from, &name)?;
            Some(())
        }
        _ => Some(()),
    }
}
