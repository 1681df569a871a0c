//! Absent, null, zero and empty: what a field leaves behind after upstream's round
//! trip through Go. See [`Presence`].

use serde_json::{Map, Value};

use crate::schema::{Field, Object, Presence, Schema, Ty, TypeId};

/// Go's zero value of a type, as it is encoded.
pub(crate) fn zero(schema: &Schema, ty: &Ty) -> Value {
    match ty {
        Ty::String => Value::String(String::new()),
        Ty::Int32 | Ty::Int64 | Ty::IntOrString | Ty::Float => 0.into(),
        Ty::Bool => false.into(),
        Ty::Quantity => "0".into(),
        Ty::Bytes | Ty::Time | Ty::MicroTime | Ty::Any | Ty::List(_) | Ty::Map(_) => Value::Null,
        Ty::Object(id) => {
            let mut fields = Map::new();
            complete(schema, schema.object(*id), &mut fields);
            Value::Object(fields)
        }
    }
}

/// Adds the fields that are always there.
pub(crate) fn complete(schema: &Schema, object: &Object, fields: &mut Map<String, Value>) {
    for field in object.always() {
        if !fields.contains_key(&*field.name) {
            fields.insert((*field.name).into(), absent(schema, field));
        }
    }
}

fn absent(schema: &Schema, field: &Field) -> Value {
    if field.presence == Presence::Nullable { Value::Null } else { zero(schema, &field.ty) }
}

/// What stays of a decoded value in its field; `None` when the field vanishes (and
/// [`complete`] decides whether a zero takes its place).
pub(crate) fn settle(field: &Field, value: Option<Value>) -> Option<Value> {
    let value = value?;
    match field.presence {
        Presence::Given | Presence::Always => Some(value),
        Presence::NonZero => {
            let zero = if let Ty::Object(_) = field.ty { is_zero(&value) } else { is_empty(&value) };
            (!zero).then_some(value)
        }
        // (An empty collection stays one until it is stored: see [`forget_empty`].)
        Presence::Nullable => (field.ty != Ty::Bytes || !is_empty(&value)).then_some(value),
    }
}

/// Makes null of the empty collections that a round trip through Go's protobuf does not tell
/// from absent ones. Whoever wrote an empty one owns it nevertheless, so this comes after
/// ownership is noted and before anything is stored.
pub fn forget_empty(schema: &Schema, root: TypeId, object: &mut Value) {
    if has_empty(object) {
        forget_in(schema, &Ty::Object(root), object);
    }
}

fn has_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().any(has_empty),
        Value::Object(fields) => fields.is_empty() || fields.values().any(has_empty),
        _ => false,
    }
}

fn forget_in(schema: &Schema, ty: &Ty, value: &mut Value) {
    match (ty, value) {
        (Ty::Object(id), Value::Object(fields)) => {
            let object = schema.object(*id);
            for (name, value) in fields {
                let Some(field) = object.field(name) else { continue };
                let collection = matches!(field.ty, Ty::List(_) | Ty::Map(_));
                if collection && field.presence == Presence::Nullable && is_empty(value) {
                    *value = Value::Null;
                } else {
                    forget_in(schema, &field.ty, value);
                }
            }
        }
        (Ty::List(ty), Value::Array(items)) => items.iter_mut().for_each(|item| forget_in(schema, ty, item)),
        (Ty::Map(ty), Value::Object(entries)) => {
            entries.values_mut().for_each(|value| forget_in(schema, ty, value));
        }
        _ => {}
    }
}

/// Whether Go's `omitempty` takes a value for empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Whether Go's `omitzero` takes a struct for zero.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(is_zero),
        other => is_empty(other),
    }
}
