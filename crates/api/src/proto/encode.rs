//! Trees to messages. Trees come from records or from the house itself, so what does
//! not fit the schema is a fault of ours and an error, not a guess.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::either::Either;
use super::wire::{put_bytes, put_message, put_number, put_varint};
use crate::decode::Error;
use crate::schema::{Field, Object, Schema, Ty, TypeId};
use crate::time;

/// Encodes a tree as a message of the type `root`, without envelope.
pub fn encode(schema: &Schema, root: TypeId, value: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    Encoder { schema }.object(schema.object(root), value, &mut out)?;
    Ok(out)
}

struct Encoder<'s> {
    schema: &'s Schema,
}

fn unfit(field: &Field, value: &Value) -> Error {
    let what = crate::decode::describe(value);
    Error::Unfit(format!("cannot encode the field {} from a JSON {what}", field.name))
}

impl Encoder<'_> {
    fn object(&self, object: &Object, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
        let Some(map) = value.as_object() else { return Ok(()) };
        self.fields(object, &[], map, out)
    }

    /// Writes the fields of a message, or of the one embedded at `path` in it.
    fn fields(
        &self,
        object: &Object,
        path: &[u32],
        map: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut embedded: Vec<u32> = Vec::new();
        for (name, value) in map {
            let Some(field) = object.field(name) else { continue };
            if *field.embedded == *path {
                if field.number != 0 && !value.is_null() {
                    match (Either::of(object, field), &field.ty, value) {
                        (Some(either), Ty::Map(_), Value::Object(entries)) => {
                            entries.iter().try_for_each(|(key, value)| {
                                put_message(out, field.number, |out| {
                                    put_bytes(out, 1, key.as_bytes());
                                    self.either(object, (field, either), 2, value, out)
                                })
                            })?;
                        }
                        (Some(either), ..) => {
                            self.either(object, (field, either), field.number, value, out)?;
                        }
                        (None, ..) => self.field(field, value, out)?,
                    }
                }
            } else if let Some(next) = field.embedded.strip_prefix(path).and_then(|rest| rest.first())
                && !embedded.contains(next)
            {
                embedded.push(*next);
            }
        }
        for number in embedded {
            let inner = [path, &[number]].concat();
            put_message(out, number, |out| self.fields(object, &inner, map, out))?;
        }
        Ok(())
    }

    /// One of two forms: a schema (of the type that has the field) or the other one.
    fn either(
        &self,
        object: &Object,
        (field, either): (&Field, Either),
        number: u32,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        put_message(out, number, |out| match (either, value) {
            (_, Value::Object(_)) => {
                // Go sets both: whatever has a schema is allowed.
                if either == Either::Bool {
                    put_number(out, either.other(), 1);
                }
                put_message(out, either.schema(), |out| self.object(object, value, out))
            }
            (Either::Schemas, Value::Array(items)) => items
                .iter()
                .try_for_each(|item| put_message(out, either.other(), |out| self.object(object, item, out))),
            (Either::Names, Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).for_each(|name| {
                    put_bytes(out, either.other(), name.as_bytes());
                });
                Ok(())
            }
            (Either::Bool, Value::Bool(flag)) => {
                put_number(out, either.other(), u64::from(*flag));
                Ok(())
            }
            (_, Value::Null) => Ok(()),
            _ => Err(unfit(field, value)),
        })
    }

    fn field(&self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
        match (&field.ty, value) {
            (Ty::List(ty), Value::Array(items)) if field.is_wrapped_list() => {
                put_message(out, field.number, |out| {
                    items.iter().try_for_each(|item| self.value(field, 1, ty, item, out))
                })
            }
            (Ty::List(ty), Value::Array(items)) => {
                items.iter().try_for_each(|item| self.value(field, field.number, ty, item, out))
            }
            (Ty::Map(ty), Value::Object(entries)) => entries.iter().try_for_each(|(key, value)| {
                put_message(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    match (&**ty, value) {
                        (Ty::List(ty), Value::Array(items)) => put_message(out, 2, |out| {
                            items.iter().try_for_each(|item| self.value(field, 1, ty, item, out))
                        }),
                        (ty, value) => self.value(field, 2, ty, value, out),
                    }
                })
            }),
            (ty, value) => self.value(field, field.number, ty, value, out),
        }
    }

    fn value(
        &self,
        field: &Field,
        number: u32,
        ty: &Ty,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match (ty, value) {
            (Ty::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
            (Ty::Bytes, Value::String(text)) => {
                let bytes = STANDARD.decode(text).map_err(|_| unfit(field, value))?;
                put_bytes(out, number, &bytes);
            }
            (Ty::Int32 | Ty::Int64, Value::Number(amount)) => {
                // Negative numbers are extended to 64 bits, as protobuf asks.
                put_number(out, number, amount.as_i64().ok_or_else(|| unfit(field, value))? as u64);
            }
            (Ty::Bool, Value::Bool(flag)) => put_number(out, number, u64::from(*flag)),
            (Ty::Float, Value::Number(amount)) => {
                put_varint(out, u64::from(number) << 3 | 1);
                out.extend_from_slice(&amount.as_f64().unwrap_or_default().to_le_bytes());
            }
            (Ty::Object(id), Value::Object(_)) => {
                put_message(out, number, |out| self.object(self.schema.object(*id), value, out))?;
            }
            (Ty::Quantity, Value::String(text)) => {
                message(out, number, |out| put_bytes(out, 1, text.as_bytes()))
            }
            (Ty::IntOrString, _) => int_or_string(field, number, value, out)?,
            (Ty::Time | Ty::MicroTime, Value::String(text)) => {
                let (seconds, nanos) = time::to_unix(text).ok_or_else(|| unfit(field, value))?;
                let nanos = if *ty == Ty::MicroTime { nanos / 1000 * 1000 } else { 0 };
                message(out, number, |out| {
                    put_number(out, 1, seconds as u64);
                    put_number(out, 2, nanos.into());
                });
            }
            // A zero time among items or values.
            (Ty::Time | Ty::MicroTime | Ty::Object(_), Value::Null) => message(out, number, |_| {}),
            (Ty::Any, value) => {
                let json = serde_json::to_vec(value).expect("a JSON tree always encodes");
                message(out, number, |out| put_bytes(out, 1, &json));
            }
            _ => return Err(unfit(field, value)),
        }
        Ok(())
    }
}

fn message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message(out, number, |out| {
        write(out);
        Ok::<(), std::convert::Infallible>(())
    });
}

fn int_or_string(field: &Field, number: u32, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    let (kind, amount, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        Value::Number(amount) => (0, amount.as_i64().ok_or_else(|| unfit(field, value))?, ""),
        _ => return Err(unfit(field, value)),
    };
    message(out, number, |out| {
        put_number(out, 1, kind);
        put_number(out, 2, amount as u64);
        put_bytes(out, 3, text.as_bytes());
    });
    Ok(())
}
