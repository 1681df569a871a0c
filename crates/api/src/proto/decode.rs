//! Messages to trees.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::either::Either;
use super::wire::{Item, Reader};
use crate::decode::{Error, MAX_COLLECTIONS, TOO_MANY, complete, settle, zero};
use crate::schema::{Field, Object, Schema, Ty, TypeId};
use crate::{quantity, time};

/// Levels of nested messages.
const MAX_DEPTH: usize = 128;

/// Decodes a message (the envelope's `raw`) as the type `root`, in the same
/// canonical form as [`crate::decode::json`]. apiVersion and kind are the caller's to add.
pub fn decode(schema: &Schema, root: TypeId, raw: &[u8]) -> Result<Value, Error> {
    Decoder { schema, collections: Cell::new(0) }.object(schema.object(root), raw, 0)
}

struct Decoder<'s> {
    schema: &'s Schema,
    /// Messages read: an empty one takes two bytes and hundreds in memory.
    collections: Cell<usize>,
}

fn wrong(field: &Field, item: Item<'_>) -> Error {
    let kind = match item {
        Item::Varint(_) => 0,
        Item::Fixed64(_) => 1,
        Item::Bytes(_) => 2,
        Item::Fixed32(_) => 5,
    };
    Error::Unfit(format!("proto: wrong wireType = {kind} for field {}", field.name))
}

impl Decoder<'_> {
    fn object(&self, object: &Object, message: &[u8], depth: usize) -> Result<Value, Error> {
        let mut fields = Map::new();
        self.fields(object, &[], message, &mut fields, depth)?;
        complete(self.schema, object, &mut fields);
        Ok(Value::Object(fields))
    }

    /// Reads the fields of a message, or of one embedded at `path` in the object's.
    fn fields(
        &self,
        object: &Object,
        path: &[u32],
        message: &[u8],
        fields: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Unfit("exceeded max depth".into()));
        }
        self.collections.set(self.collections.get() + 1);
        if self.collections.get() > MAX_COLLECTIONS {
            return Err(Error::Unfit(TOO_MANY.to_owned()));
        }
        let mut reader = Reader::new(message);
        while let Some((number, item)) = reader.next()? {
            if let Some(field) = object.field_embedded(path, number) {
                match Either::of(object, field) {
                    Some(either) => self.either_field(object, (field, either), item, fields, depth)?,
                    None => self.field(field, item, fields, depth)?,
                }
            } else if let Item::Bytes(message) = item {
                let inner = [path, &[number]].concat();
                if object.embeds(&inner) {
                    self.fields(object, &inner, message, fields, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn field(
        &self,
        field: &Field,
        item: Item<'_>,
        fields: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        match &field.ty {
            Ty::List(ty) => {
                let list = fields.entry(&*field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = list else { return Err(wrong(field, item)) };
                match item {
                    Item::Bytes(message) if field.is_wrapped_list() => {
                        self.wrapped(field, ty, message, items, depth)
                    }
                    item => self.items(field, ty, item, items, depth),
                }
            }
            Ty::Map(ty) => {
                let map = fields.entry(&*field.name).or_insert_with(|| Value::Object(Map::new()));
                let (Value::Object(entries), Item::Bytes(entry)) = (map, item) else {
                    return Err(wrong(field, item));
                };
                let (key, value) = self.entry(field, ty, entry, depth)?;
                entries.insert(key, value);
                Ok(())
            }
            ty => {
                let value = self.value(field, ty, item, depth)?;
                match settle(field, Some(value).filter(|value| !value.is_null())) {
                    Some(value) => drop(fields.insert((*field.name).into(), value)),
                    None => drop(fields.remove(&*field.name)),
                }
                Ok(())
            }
        }
    }

    /// A field, or a map's entry, that holds one of two forms.
    fn either_field(
        &self,
        object: &Object,
        (field, either): (&Field, Either),
        item: Item<'_>,
        fields: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        let Item::Bytes(message) = item else { return Err(wrong(field, item)) };
        if !matches!(field.ty, Ty::Map(_)) {
            fields.insert((*field.name).into(), self.either(object, (field, either), message, depth)?);
            return Ok(());
        }
        let (mut key, mut value) = (String::new(), either.nothing());
        let mut reader = Reader::new(message);
        while let Some(part) = reader.next()? {
            match part {
                (1, Item::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                (2, Item::Bytes(message)) => value = self.either(object, (field, either), message, depth)?,
                _ => {}
            }
        }
        let map = fields.entry(&*field.name).or_insert_with(|| Value::Object(Map::new()));
        map.as_object_mut().map(|entries| entries.insert(key, value));
        Ok(())
    }

    /// A schema (of the type that has the field) or the other form.
    fn either(
        &self,
        object: &Object,
        (field, either): (&Field, Either),
        message: &[u8],
        depth: usize,
    ) -> Result<Value, Error> {
        let (mut schema, mut bool, mut list) = (None, None, Vec::new());
        let mut reader = Reader::new(message);
        while let Some((number, item)) = reader.next()? {
            match (either, item) {
                (_, Item::Bytes(message)) if number == either.schema() => {
                    schema = Some(self.object(object, message, depth + 1)?);
                }
                (Either::Schemas, Item::Bytes(message)) if number == either.other() => {
                    list.push(self.object(object, message, depth + 1)?);
                }
                (Either::Names, Item::Bytes(text)) if number == either.other() => {
                    list.push(String::from_utf8_lossy(text).into_owned().into());
                }
                (Either::Bool, Item::Varint(flag)) if number == either.other() => {
                    bool = Some(Value::Bool(flag != 0));
                }
                (_, item) if number == either.schema() => return Err(wrong(field, item)),
                _ => {}
            }
        }
        let other = if list.is_empty() { bool } else { Some(Value::Array(list)) };
        Ok(schema.or(other).unwrap_or_else(|| either.nothing()))
    }

    /// The items of a list that is a message around them.
    fn wrapped(
        &self,
        field: &Field,
        ty: &Ty,
        message: &[u8],
        items: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), Error> {
        let mut reader = Reader::new(message);
        while let Some((number, item)) = reader.next()? {
            if number == 1 {
                self.items(field, ty, item, items, depth)?;
            }
        }
        Ok(())
    }

    /// One item of a repeated field, or several packed numbers.
    fn items(
        &self,
        field: &Field,
        ty: &Ty,
        item: Item<'_>,
        items: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), Error> {
        if let (Ty::Int32 | Ty::Int64 | Ty::Bool, Item::Bytes(packed)) = (ty, item) {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                let number = reader.varint()?;
                items.push(self.value(field, ty, Item::Varint(number), depth)?);
            }
            return Ok(());
        }
        items.push(self.value(field, ty, item, depth)?);
        Ok(())
    }

    fn entry(&self, field: &Field, ty: &Ty, entry: &[u8], depth: usize) -> Result<(String, Value), Error> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(entry);
        while let Some((number, item)) = reader.next()? {
            match (number, item, ty) {
                (1, Item::Bytes(text), _) => key = String::from_utf8_lossy(text).into_owned(),
                // A map cannot hold lists: the value is a message around one.
                (2, Item::Bytes(message), Ty::List(ty)) => {
                    let mut items = Vec::new();
                    self.wrapped(field, ty, message, &mut items, depth)?;
                    value = Some(Value::Array(items));
                }
                (2, item, ty) => value = Some(self.value(field, ty, item, depth)?),
                _ => {}
            }
        }
        let nothing = || match ty {
            Ty::Bytes => Value::String(String::new()),
            ty => zero(self.schema, ty),
        };
        Ok((key, value.unwrap_or_else(nothing)))
    }

    fn value(&self, field: &Field, ty: &Ty, item: Item<'_>, depth: usize) -> Result<Value, Error> {
        Ok(match (ty, item) {
            (Ty::String, Item::Bytes(text)) => String::from_utf8_lossy(text).into_owned().into(),
            (Ty::Bytes, Item::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Ty::Int32, Item::Varint(number)) => (number as i32).into(),
            (Ty::Int64, Item::Varint(number)) => (number as i64).into(),
            (Ty::Bool, Item::Varint(number)) => (number != 0).into(),
            (Ty::Float, Item::Fixed64(bits)) => f64::from_bits(bits).into(),
            (Ty::Float, Item::Fixed32(bits)) => f64::from(f32::from_bits(bits)).into(),
            (Ty::Object(id), Item::Bytes(message)) => {
                self.object(self.schema.object(*id), message, depth + 1)?
            }
            (Ty::Quantity, Item::Bytes(message)) => quantity_value(message)?,
            (Ty::IntOrString, Item::Bytes(message)) => int_or_string(message)?,
            (Ty::Time | Ty::MicroTime, Item::Bytes(message)) => time_value(ty, message)?,
            (Ty::Any, Item::Bytes(message)) => any(message)?,
            _ => return Err(wrong(field, item)),
        })
    }
}

fn quantity_value(message: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(message);
    let mut value = Value::from("0");
    while let Some((number, item)) = reader.next()? {
        if let (1, Item::Bytes(text)) = (number, item) {
            let text = String::from_utf8_lossy(text);
            let canonical = quantity::canonical(&text).map_err(|e| Error::Unfit(e.to_string()))?;
            value = canonical.into_owned().into();
        }
    }
    Ok(value)
}

fn int_or_string(message: &[u8]) -> Result<Value, Error> {
    let (mut is_string, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            (1, Item::Varint(kind)) => is_string = kind != 0,
            (2, Item::Varint(value)) => number = value as i32,
            (3, Item::Bytes(bytes)) => text = String::from_utf8_lossy(bytes).into_owned(),
            _ => {}
        }
    }
    Ok(if is_string { text.into() } else { number.into() })
}

fn time_value(ty: &Ty, message: &[u8]) -> Result<Value, Error> {
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            (1, Item::Varint(value)) => seconds = value as i64,
            (2, Item::Varint(value)) => nanos = (value as i32).clamp(0, 999_999_999) as u32,
            _ => {}
        }
    }
    Ok(match ty {
        _ if time::is_zero(seconds) => Value::Null,
        Ty::MicroTime => time::micro_from_unix(seconds, nanos).into(),
        _ => time::from_unix(seconds).into(),
    })
}

/// RawExtension, FieldsV1 and JSON: a message whose field 1 is JSON.
fn any(message: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        if let (1, Item::Bytes(json)) = field {
            if json.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(json)
                .map_err(|e| Error::Unfit(format!("raw JSON in a message: {e}")));
        }
    }
    Ok(Value::Null)
}
