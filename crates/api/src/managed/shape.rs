//! How the parts of an object merge: as a whole, member by member, or item by item.
//! One reading of the schema for everything here: comparing, merging, removing, and
//! telling which fields there are.
//!
//! Built-in and custom kinds differ in one thing: what a custom kind leaves untyped
//! (`x-kubernetes-preserve-unknown-fields`) is looked into, its maps member by member;
//! a built-in RawExtension is one field.

use serde_json::{Map, Value};

use crate::schema::{Field, ListType, Object, Schema, Ty, TypeId};

/// A type and the facts of the field that holds it.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    pub ty: &'s Ty,
    pub field: Option<&'s Field>,
    /// Whether untyped values are looked into.
    pub deduce: bool,
}

/// How a value merges.
pub(super) enum Form<'s> {
    /// As a whole.
    Leaf,
    /// Member by member.
    Map(Members<'s>),
    /// Item by item, each found by its keys or its value.
    List(Items<'s>),
}

/// The members of a struct or map.
#[derive(Clone, Copy)]
pub(super) struct Members<'s> {
    object: Option<&'s Object>,
    values: Place<'s>,
}

/// The items of an associative list.
#[derive(Clone, Copy)]
pub(super) struct Items<'s> {
    /// Holds the list type and its keys.
    pub list: &'s Field,
    /// Every item's place.
    pub place: Place<'s>,
}

impl<'s> Place<'s> {
    /// The place of a whole object.
    pub fn root(root: &'s Ty, schema: &Schema, id: TypeId) -> Self {
        Self { ty: root, field: None, deduce: schema.object(id).loose }
    }

    /// The place of an item or value within.
    fn inner(self, ty: &'s Ty) -> Self {
        Self { ty, field: None, ..self }
    }

    /// How a value here merges. What is untyped says it by the value; null and absent
    /// take whatever form the other side has.
    pub fn form(self, schema: &'s Schema, value: Option<&Value>) -> Form<'s> {
        match self.ty {
            Ty::List(item) => match self.field {
                Some(list) if list.list != ListType::Atomic => {
                    Form::List(Items { list, place: self.inner(item) })
                }
                _ => Form::Leaf,
            },
            Ty::Any if !matches!(value, None | Some(Value::Object(_) | Value::Null)) => Form::Leaf,
            _ if self.is_atomic(schema) => Form::Leaf,
            _ => self.members(schema).map_or(Form::Leaf, Form::Map),
        }
    }

    /// Whether a map or struct here merges as a whole.
    fn is_atomic(self, schema: &Schema) -> bool {
        let granular = self.field.is_some_and(|field| field.granular);
        let atomic = self.field.is_some_and(|field| field.atomic);
        atomic || (!granular && matches!(self.ty, Ty::Object(id) if schema.object(*id).atomic))
    }

    /// What a map or struct here consists of, however it merges; `None` for scalars,
    /// lists, and what is not looked into.
    pub fn members(self, schema: &'s Schema) -> Option<Members<'s>> {
        match self.ty {
            Ty::Object(id) => {
                let object = schema.object(*id);
                let deduce = object.loose || object.preserve_unknown;
                let values = Place { ty: &Ty::Any, field: None, deduce };
                Some(Members { object: Some(object), values })
            }
            Ty::Map(value) => Some(Members { object: None, values: self.inner(value) }),
            Ty::Any if self.deduce => Some(Members { object: None, values: self.inner(&Ty::Any) }),
            _ => None,
        }
    }
}

impl<'s> Members<'s> {
    /// The place of a member.
    pub fn place(&self, key: &str) -> Place<'s> {
        match self.object.and_then(|object| object.field(key)) {
            Some(field) => Place { ty: &field.ty, field: Some(field), ..self.values },
            None => self.values,
        }
    }

    /// Whether the schema names the member: a field of a struct, not a key of a map.
    pub fn declares(&self, key: &str) -> bool {
        self.object.is_some_and(|object| object.field(key).is_some())
    }

    /// Whether there may be a member of that name at all.
    pub fn allows(&self, key: &str) -> bool {
        self.object.is_none_or(|object| object.preserve_unknown || object.field(key).is_some())
    }
}

/// The members of a map; `None` for anything else, null included.
pub(super) fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The items of a list; none for anything else, null included.
pub(super) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
