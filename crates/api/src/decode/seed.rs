//! The decoder proper: a serde seed of a schema and a type, which a JSON text or a
//! tree feeds. No intermediate tree; a wrong type is noted (the first one counts)
//! and decoding goes on, as upstream does.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::empties::Empties;
use super::path::{Step, go_type};
use super::presence::{complete, settle, zero};
use crate::go::quoted;
use crate::schema::{Field, Object, Schema, Ty, TypeId};

/// Strictness findings kept; more say nothing new.
pub(crate) const MAX_FINDINGS: usize = 100;
/// Objects and lists that a body may hold.
pub(crate) const MAX_COLLECTIONS: usize = 50_000;
pub(crate) const TOO_MANY: &str = "the body holds more than 50000 objects and lists";

/// What one decoding shares.
pub(super) struct Context<'s> {
    schema: &'s Schema,
    pub strict: RefCell<Vec<String>>,
    pub error: Cell<Option<String>>,
    pub empties: RefCell<Empties>,
    collections: Cell<usize>,
}

impl<'s> Context<'s> {
    pub fn new(schema: &'s Schema) -> Self {
        Self {
            schema,
            strict: RefCell::default(),
            error: Cell::default(),
            empties: RefCell::default(),
            collections: Cell::new(0),
        }
    }

    /// The seed of a whole object.
    pub fn root(&self, root: TypeId) -> Root<'_, 's> {
        Root { context: self, ty: Ty::Object(root), loose: self.schema.object(root).loose }
    }

    /// The seed of any JSON.
    pub fn untyped(&self) -> Root<'_, 's> {
        Root { context: self, ty: Ty::Any, loose: true }
    }

    /// Notes a finding, once. Its path is worked out only while there is room.
    fn found(&self, what: &str, path: impl FnOnce() -> String) {
        let mut strict = self.strict.borrow_mut();
        if strict.len() >= MAX_FINDINGS {
            return;
        }
        let text = format!("{what} {}", quoted(&path()));
        if !strict.contains(&text) {
            strict.push(text);
        }
    }

    /// Counts a collection: an empty one takes two bytes of a body and hundreds in
    /// memory.
    fn collection<E: de::Error>(&self) -> Result<(), E> {
        self.collections.set(self.collections.get() + 1);
        if self.collections.get() > MAX_COLLECTIONS {
            return self.stop(TOO_MANY.to_owned());
        }
        Ok(())
    }

    /// Notes an error after which decoding goes on; the first one stays.
    fn refuse(&self, reason: impl FnOnce() -> String) {
        let reason = self.error.take().unwrap_or_else(reason);
        self.error.set(Some(reason));
    }

    /// Stops with an error that outranks those noted.
    fn stop<E: de::Error, T>(&self, reason: String) -> Result<T, E> {
        self.error.set(Some(reason));
        Err(E::custom("refused"))
    }
}

/// What is wrong with a text that should be base64.
pub(crate) fn base64_error(text: &str) -> Option<String> {
    let error = STANDARD.decode(text.as_bytes()).err()?;
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) => at,
        base64::DecodeError::InvalidLastSymbol(at, _) => at,
        _ => text.len() / 4 * 4,
    };
    Some(format!("illegal base64 data at input byte {at}"))
}

pub(super) struct Root<'a, 's> {
    context: &'a Context<'s>,
    ty: Ty,
    loose: bool,
}

impl<'de> DeserializeSeed<'de> for Root<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let seed = Seed { context: self.context, ty: &self.ty, go: "", step: &Step::Root, loose: self.loose };
        seed.deserialize(deserializer)
    }
}

/// Decodes one value of a type. Null and refused values give `None`.
#[derive(Clone, Copy)]
struct Seed<'a, 's> {
    context: &'a Context<'s>,
    ty: &'a Ty,
    /// Go's name of the type where it is a named one.
    go: &'a str,
    step: &'a Step<'a>,
    /// Whether values of other types are kept (custom kinds).
    loose: bool,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'s> Seed<'_, 's> {
    /// A value of the wrong type: kept in custom kinds, refused otherwise.
    fn wrong(&self, what: &str, value: impl FnOnce() -> Value) -> Option<Value> {
        if self.loose {
            return Some(value());
        }
        let ty =
            || if self.go.is_empty() { go_type(self.context.schema, self.ty) } else { self.go.to_owned() };
        self.context.refuse(|| self.step.mismatch(what, &ty()));
        None
    }

    fn number<E: de::Error>(&self, number: Number) -> Result<Option<Value>, E> {
        let in_range = match self.ty {
            Ty::Any | Ty::Float => true,
            Ty::Int32 => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Ty::IntOrString => match number.as_i64() {
                Some(n) if i32::try_from(n).is_ok() => true,
                _ if self.loose => true,
                _ => return self.context.stop(self.step.mismatch(&format!("number {number}"), "int32")),
            },
            Ty::Int64 => number.is_i64(),
            Ty::Quantity if !self.loose => return self.quantity(&number.to_string()),
            Ty::Time | Ty::MicroTime if !self.loose => return self.no_string("number"),
            _ => return Ok(self.wrong("number", || Value::Number(number))),
        };
        if in_range {
            return Ok(Some(Value::Number(number)));
        }
        let what = format!("number {number}");
        Ok(self.wrong(&what, || Value::Number(number)))
    }

    fn text<E: de::Error>(&self, text: Cow<'_, str>) -> Result<Option<Value>, E> {
        match self.ty {
            Ty::String | Ty::Any | Ty::IntOrString => Ok(Some(Value::String(text.into_owned()))),
            _ if self.loose => Ok(Some(Value::String(text.into_owned()))),
            Ty::Quantity => self.quantity(&text),
            Ty::Time | Ty::MicroTime => {
                let micro = matches!(self.ty, Ty::MicroTime);
                let read = if micro { crate::time::canonical_micro } else { crate::time::canonical };
                match read(&text) {
                    Ok(time) => Ok(time.map(|time| Value::String(time.into_owned()))),
                    Err(error) => self.context.stop(error.to_string()),
                }
            }
            Ty::Bytes => Ok(self.bytes(text)),
            _ => Ok(self.wrong("string", || Value::Null)),
        }
    }

    fn quantity<E: de::Error>(&self, text: &str) -> Result<Option<Value>, E> {
        match crate::quantity::canonical(text) {
            Ok(canonical) => Ok(Some(Value::String(canonical.into_owned()))),
            Err(error) => self.context.stop(error.to_string()),
        }
    }

    fn bytes(&self, text: Cow<'_, str>) -> Option<Value> {
        let lines = text.contains(['\r', '\n']);
        let text = if lines { Cow::Owned(text.replace(['\r', '\n'], "")) } else { text };
        match base64_error(&text) {
            None => Some(Value::String(text.into_owned())),
            Some(reason) => {
                self.context.refuse(|| reason);
                None
            }
        }
    }

    /// Upstream's own decoders of times read a string and know no context to go on in.
    fn no_string<E: de::Error, T>(&self, what: &str) -> Result<T, E> {
        self.context.stop(self.step.mismatch(what, "string"))
    }

    fn child<'b>(&self, ty: &'b Ty, step: &'b Step<'b>) -> Seed<'b, 's>
    where
        Self: 'b,
    {
        // The items of a list of a named type have that name.
        let go = if matches!(step, Step::Index { .. }) { self.go.strip_prefix("[]") } else { None };
        Seed { context: self.context, ty, go: go.unwrap_or_default(), step, loose: self.loose }
    }

    fn items<'de, A: SeqAccess<'de>>(&self, ty: &Ty, mut seq: A) -> Result<Value, A::Error> {
        self.context.collection()?;
        let mut items = Vec::new();
        loop {
            let step = Step::Index { parent: self.step, index: items.len() };
            let Some(item) = seq.next_element_seed(self.child(ty, &step))? else { break };
            items.push(item.unwrap_or_else(|| self.nothing(ty)));
        }
        Ok(Value::Array(items))
    }

    fn entries<'de, A: MapAccess<'de>>(&self, ty: &Ty, mut map: A) -> Result<Value, A::Error> {
        self.context.collection()?;
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let step = Step::Key { parent: self.step, key: &key };
            let entry = map.next_value_seed(self.child(ty, &step))?;
            let entry = entry.unwrap_or_else(|| self.nothing(ty));
            // Within RawExtension and the like upstream looks for no duplicates.
            let look = self.loose || !matches!(self.ty, Ty::Any);
            if look && entries.contains_key(&key) {
                self.context.found("duplicate field", || step.path());
            }
            entries.insert(key, entry);
        }
        Ok(Value::Object(entries))
    }

    /// A null among a list's items or a map's values.
    fn nothing(&self, ty: &Ty) -> Value {
        match ty {
            _ if self.loose => Value::Null,
            Ty::Bytes => Value::String(String::new()),
            ty => zero(self.context.schema, ty),
        }
    }

    fn fields<'de, A: MapAccess<'de>>(&self, object: &Object, mut map: A) -> Result<Value, A::Error> {
        self.context.collection()?;
        let mut fields = Map::new();
        let mut seen = Seen::default();
        while let Some(key) = map.next_key_seed(Name(object))? {
            let at = match key {
                Key::Known(at) => at,
                Key::Unknown(name) if object.preserve_unknown => {
                    let step = Step::Key { parent: self.step, key: &name };
                    let value = map.next_value_seed(Seed { loose: true, ..self.child(&Ty::Any, &step) })?;
                    if fields.insert(name.clone(), value.unwrap_or(Value::Null)).is_some() {
                        self.context.found("duplicate field", || step.path());
                    }
                    continue;
                }
                Key::Unknown(name) => {
                    self.context.found("unknown field", || self.step.path_to(&name));
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let field = &object.fields[at];
            if seen.insert(at) {
                self.context.found("duplicate field", || self.step.path_to(&field.name));
            }
            let step = self.step_to(object, field);
            let value = map.next_value_seed(self.field(object, field, &step))?;
            if matches!(field.ty, Ty::List(_) | Ty::Map(_)) {
                self.context.empties.borrow_mut().note(&step, value.as_ref());
            }
            match settle(field, value) {
                Some(value) => drop(fields.insert((*field.name).into(), value)),
                None => drop(fields.remove(&*field.name)),
            }
        }
        complete(self.context.schema, object, &mut fields);
        Ok(Value::Object(fields))
    }

    fn step_to<'b>(&'b self, object: &'b Object, field: &'b Field) -> Step<'b> {
        Step::Field { parent: self.step, object, name: &field.name }
    }

    fn field<'b>(&self, object: &Object, field: &'b Field, step: &'b Step<'b>) -> Seed<'b, 's>
    where
        Self: 'b,
    {
        Seed { context: self.context, ty: &field.ty, go: &field.go_type, step, loose: object.loose }
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(self.loose.then_some(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
        match self.ty {
            Ty::Bool | Ty::Any => Ok(Some(Value::Bool(flag))),
            Ty::Quantity if !self.loose => self.quantity(if flag { "true" } else { "false" }),
            Ty::Time | Ty::MicroTime if !self.loose => self.no_string("bool"),
            Ty::IntOrString if !self.loose => self.context.stop(self.step.mismatch("bool", "int32")),
            _ => Ok(self.wrong("bool", || Value::Bool(flag))),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.number(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.number(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        match Number::from_f64(number) {
            Some(number) => self.number(number),
            None => self.context.stop(self.step.mismatch(&format!("number {number}"), "float64")),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.text(Cow::Borrowed(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        self.text(Cow::Owned(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        match self.ty {
            Ty::List(item) => self.items(item, seq).map(Some),
            Ty::Any => self.items(&Ty::Any, seq).map(Some),
            _ if self.loose => Seed { ty: &Ty::Any, ..self }.items(&Ty::Any, seq).map(Some),
            Ty::Quantity => self.quantity("[]"),
            Ty::Time | Ty::MicroTime => self.no_string("array"),
            Ty::IntOrString => self.context.stop(self.step.mismatch("array", "int32")),
            _ => {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(self.wrong("array", || Value::Null))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        match self.ty {
            Ty::Object(id) => self.fields(self.context.schema.object(*id), map).map(Some),
            Ty::Map(value) => self.entries(value, map).map(Some),
            Ty::Any => self.entries(&Ty::Any, map).map(Some),
            _ if self.loose => Seed { ty: &Ty::Any, ..self }.entries(&Ty::Any, map).map(Some),
            Ty::Quantity => self.quantity("{}"),
            Ty::Time | Ty::MicroTime => self.no_string("object"),
            Ty::IntOrString => self.context.stop(self.step.mismatch("object", "int32")),
            _ => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(self.wrong("object", || Value::Null))
            }
        }
    }
}

/// Looks a key up among an object's fields without copying it.
struct Name<'a>(&'a Object);

enum Key {
    Known(usize),
    Unknown(String),
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
        let found = self.0.fields.binary_search_by(|field| (*field.name).cmp(name));
        Ok(found.map_or_else(|_| Key::Unknown(name.to_owned()), Key::Known))
    }
}

/// Which fields were there already.
#[derive(Default)]
struct Seen {
    first: u128,
    more: Vec<usize>,
}

impl Seen {
    /// Whether it was in before.
    fn insert(&mut self, at: usize) -> bool {
        if at >= 128 {
            let known = self.more.contains(&at);
            self.more.push(at);
            return known;
        }
        let known = self.first & (1 << at) != 0;
        self.first |= 1 << at;
        known
    }
}
