//! What upstream's converter makes of a tree that a strategic merge gave: it walks Go's
//! types by reflection (apimachinery's `runtime/converter.go`), so what it says of a value
//! of a wrong type is not what a decoder of JSON says, and some numbers it converts.

use serde_json::Value;

use crate::decode;
use crate::schema::{Field, Object, Schema, Ty, TypeId};

/// Converts a tree into what the type `root` can hold, or says what it cannot.
pub(super) fn convert(schema: &Schema, root: TypeId, value: &mut Value) -> Result<(), String> {
    let ty = Ty::Object(root);
    // The order only says which of several errors is told, and there is hardly ever one.
    let any_order = Converter { schema, in_order: false }.value(&ty, "", value);
    any_order.or_else(|_| Converter { schema, in_order: true }.value(&ty, "", value))
}

/// Fields in the order in which Go declares them, which mostly protobuf's numbers tell.
pub(super) fn in_gos_order(object: &Object) -> Vec<&Field> {
    let mut fields: Vec<&Field> = object.fields.iter().collect();
    // (`kind` comes before `apiVersion`; both are without a number.)
    let place = |field: &Field| {
        let mut path: Vec<u32> = field.embedded.to_vec();
        path.push(field.number);
        (field.place, path, &*field.name == "apiVersion")
    };
    fields.sort_by_key(|field| place(field));
    fields
}

struct Converter<'s> {
    schema: &'s Schema,
    /// Whether fields are looked at in the order of Go's types.
    in_order: bool,
}

impl Converter<'_> {
    fn value(&self, ty: &Ty, go: &str, value: &mut Value) -> Result<(), String> {
        let found = kind(value);
        match (ty, &mut *value) {
            (_, Value::Null) | (Ty::Any, _) => Ok(()),
            (Ty::Object(id), Value::Object(fields)) if !self.in_order => {
                let object = self.schema.object(*id);
                fields.iter_mut().try_for_each(|(name, value)| match object.field(name) {
                    Some(field) => self.value(&field.ty, &field.go_type, value),
                    None => Ok(()),
                })
            }
            (Ty::Object(id), Value::Object(fields)) => {
                for field in in_gos_order(self.schema.object(*id)) {
                    if let Some(value) = fields.get_mut(&*field.name) {
                        self.value(&field.ty, &field.go_type, value)?;
                    }
                }
                Ok(())
            }
            (Ty::Object(_), _) => Err(format!("cannot restore struct from: {found}")),
            (Ty::List(item), Value::Array(items)) => {
                let go = go.strip_prefix("[]").unwrap_or_default();
                items.iter_mut().try_for_each(|value| self.value(item, go, value))
            }
            (Ty::List(_), _) => Err(format!("cannot restore slice from {found}")),
            (Ty::Map(item), Value::Object(entries)) => {
                entries.values_mut().try_for_each(|value| self.value(item, "", value))
            }
            (Ty::Map(_), _) => Err(format!("cannot restore map from {found}")),
            (Ty::Bytes, Value::String(text)) => match decode::base64_error(text) {
                Some(reason) => Err(format!("error decoding from json: {reason}")),
                None => Ok(()),
            },
            (Ty::Bytes, Value::Array(_)) => Ok(()),
            (Ty::Bytes, _) => Err(format!("cannot restore slice from {found}")),
            (Ty::Time | Ty::MicroTime, value) if !value.is_string() => Err(unfit(value, "string")),
            (Ty::IntOrString, Value::String(_)) => Ok(()),
            (Ty::IntOrString, value) => match value.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(()),
                _ => Err(unfit(value, "int32")),
            },
            (Ty::Quantity | Ty::Time | Ty::MicroTime, _) => Ok(()),
            (Ty::Int32 | Ty::Int64, value) => integer(ty, go, value),
            (Ty::Float, Value::Number(_)) | (Ty::Bool, Value::Bool(_)) | (Ty::String, Value::String(_)) => {
                Ok(())
            }
            // Go would make a character of an integer, which JSON does not mean.
            (Ty::String, Value::Number(number)) if number.is_i64() => {
                Err(format!("cannot convert int64 to {}", if go.is_empty() { "string" } else { go }))
            }
            (ty, _) => Err(format!("unrecognized type: {}", scalar(ty))),
        }
    }
}

/// An integer; numbers beyond its range lose their upper half, as Go converts them.
fn integer(ty: &Ty, go: &str, value: &mut Value) -> Result<(), String> {
    let number = match (value.as_i64(), value.as_f64().filter(|_| value.is_number())) {
        (Some(number), _) => number,
        (None, Some(number)) if number.trunc() == number => {
            let in_range = (i64::MIN as f64..i64::MAX as f64).contains(&number);
            if in_range { number as i64 } else { i64::MIN }
        }
        (None, Some(_)) => {
            let to = if go.is_empty() { scalar(ty) } else { go };
            return Err(format!("cannot convert float64 to {to}"));
        }
        (None, None) => return Err(format!("unrecognized type: {}", scalar(ty))),
    };
    *value = match ty {
        Ty::Int32 => (number as i32).into(),
        _ => number.into(),
    };
    Ok(())
}

/// Go's kind of a scalar.
fn scalar(ty: &Ty) -> &'static str {
    match ty {
        Ty::Int32 => "int32",
        Ty::Int64 => "int64",
        Ty::Float => "float64",
        Ty::Bool => "bool",
        _ => "string",
    }
}

/// Go's kind of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

/// What types with a decoder of their own say.
fn unfit(value: &Value, ty: &str) -> String {
    let what = match (value, ty) {
        (Value::Number(number), "int32") => format!("number {number}"),
        _ => decode::describe(value).to_owned(),
    };
    format!("json: cannot unmarshal {what} into Go value of type {ty}")
}
