//! The shape of kinds: an arena of types that decoding, patching, protobuf,
//! OpenAPI and `explain` walk.
//!
//! Built-in kinds share one arena, read at start from the checked-in table of
//! facts; every custom kind brings an arena of its own. A [`Ty`] is copied freely
//! and refers into the arena it came from.

use std::collections::HashMap;

/// Index of a named object type in its [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// Group, version and kind.
pub type GroupVersionKind = (Box<str>, Box<str>, Box<str>);

/// An arena of object types.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    types: Vec<Object>,
    by_name: HashMap<Box<str>, TypeId>,
}

/// An object type: named fields, each with its facts.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// OpenAPI definition name, such as `io.k8s.api.core.v1.PodSpec`; for custom
    /// kinds a dotted path below the kind.
    pub name: Box<str>,
    /// Fields sorted by JSON name.
    pub fields: Box<[Field]>,
    /// Whether unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Custom kinds: values of wrong types and nulls are kept for validation to
    /// judge, where built-in kinds refuse them while decoding.
    pub loose: bool,
    /// `x-kubernetes-map-type: atomic`: server-side apply and strategic merge
    /// replace the object as a whole.
    pub atomic: bool,
    /// The kinds that this type is the body of; nearly always none or one.
    pub group_version_kinds: Box<[GroupVersionKind]>,
    /// Look-ups into `fields`; [`Schema`] fills them in.
    pub index: Index,
}

/// Positions in [`Object::fields`], so that the hot paths need not scan them.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Protobuf numbers of the message's own fields with their positions, sorted.
    numbers: Box<[(u32, u16)]>,
    /// Positions of the fields that are always there ([`Presence::Always`] and
    /// [`Presence::Nullable`]).
    always: Box<[u16]>,
    names: Names,
}

/// A hash table of names: positions in [`Object::fields`], [`FREE`] where there is none.
#[derive(Debug, Clone, Default)]
struct Names(Box<[u16]>);

/// A slot without a position.
const FREE: u16 = u16::MAX;

/// One field of an object type. Build one with [`Field::new`] or `..Field::default()`.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// JSON name.
    pub name: Box<str>,
    /// Protobuf field number; 0 when the type has no protobuf form.
    pub number: u32,
    /// Go's inlined structs are messages in protobuf: the numbers of the embedded
    /// messages, outermost first, that hold this field (`Volume.volumeSource` = 2);
    /// empty, as nearly always, when the field is the message's own.
    pub embedded: Box<[u32]>,
    /// The field's place in Go's struct, counted from 1; 0 when protobuf's numbers are in
    /// Go's order, which they nearly always are.
    pub place: u32,
    /// What the field holds.
    pub ty: Ty,
    /// Whether OpenAPI lists the field as required.
    pub required: bool,
    /// What becomes of the field when it is absent, null, zero or empty, which is
    /// what Go's type and JSON tag of the field say.
    pub presence: Presence,
    /// Go's name of a named scalar type, such as `v1.Protocol`, of a list of such, or of a
    /// map by such, for error messages; empty when it follows from `ty`.
    pub go_type: Box<str>,
    /// Names of the Go structs that hold the field and are inlined, outermost first with
    /// dots between (`VolumeSource`), for error messages; nearly always empty.
    pub inlined: Box<str>,
    /// Lists: how they merge.
    pub list: ListType,
    /// Keys of a `map` list (server-side apply), such as `["containerPort", "protocol"]`.
    pub list_keys: Box<[Box<str>]>,
    /// `x-kubernetes-map-type: atomic` on a map: server-side apply replaces it as a whole.
    pub atomic: bool,
    /// `x-kubernetes-map-type: granular` on a field whose type is atomic: here it is not.
    pub granular: bool,
    /// Strategic merge: `patchMergeKey`, empty when there is none.
    pub merge_key: Box<str>,
    /// Strategic merge: whether `patchStrategy` has `merge`.
    pub patch_merge: bool,
    /// Strategic merge: whether `patchStrategy` is `replace`.
    pub patch_replace: bool,
    /// Strategic merge: whether `patchStrategy` has `retainKeys`.
    pub retain_keys: bool,
    /// Allowed values, when the field is an enumeration.
    pub allowed: Box<[Box<str>]>,
    /// The default that OpenAPI publishes, as JSON text; empty when there is none
    /// (zero values are not told apart from none).
    pub default: Box<str>,
}

/// What a field, list item or map value holds.
///
/// In protobuf a map cannot hold lists: `Map(List(T))` has messages as values whose
/// field 1 is the list (`authentication.v1.ExtraValue`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ty {
    /// A string.
    String,
    /// A string that holds bytes in base64.
    Bytes,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating-point number.
    Float,
    /// A boolean.
    Bool,
    /// `resource.Quantity`: a string in canonical form; numbers are accepted.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`: RFC 3339 to the second, or null.
    Time,
    /// `metav1.MicroTime`: RFC 3339 to the microsecond, or null.
    MicroTime,
    /// Any JSON (RawExtension, FieldsV1, JSON): kept as it is. In protobuf a message
    /// whose field 1 holds the JSON text.
    #[default]
    Any,
    /// An object of the same arena.
    Object(TypeId),
    /// A list of items.
    List(Box<Ty>),
    /// A map from strings to values.
    Map(Box<Ty>),
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// Replaced as a whole (the default).
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Items identified by their keys.
    Map,
}

/// What is stored for a field that is absent, null, zero or empty: the trace that
/// a round trip through upstream's Go structs leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// Stays as it was given; null means absent. A Go pointer with `omitempty`, and
    /// every field of a custom kind (whose nulls are kept).
    #[default]
    Given,
    /// Vanishes when zero or empty: a value, list or map with `omitempty`, a struct
    /// with `omitzero`.
    NonZero,
    /// Always there, with its zero value if need be (`0`, `""`, `{}`, null for a
    /// time): a value without `omitempty`, or any struct without `omitzero`.
    Always,
    /// Always there, null if not given or empty: a pointer, list or map without
    /// `omitempty`. (A pointer that was given stays as it is.)
    Nullable,
}

impl Schema {
    /// Adds a type (fields are sorted here) and returns its id. A second type of
    /// the same name replaces the first under that name.
    pub fn add(&mut self, mut object: Object) -> TypeId {
        object.arrange();
        let id = TypeId(self.types.len() as u32);
        self.by_name.insert(object.name.clone(), id);
        self.types.push(object);
        id
    }

    /// Reserves an id for a type whose fields refer to types not yet added.
    pub fn declare(&mut self, name: &str) -> TypeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        self.add(Object { name: name.into(), ..Object::default() })
    }

    /// Fills in a declared type.
    pub fn define(&mut self, id: TypeId, mut object: Object) {
        object.arrange();
        self.types[id.0 as usize] = object;
    }

    /// The type behind an id of this arena.
    pub fn object(&self, id: TypeId) -> &Object {
        &self.types[id.0 as usize]
    }

    /// The type of a definition name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// All types, in the order in which they were added.
    pub fn objects(&self) -> impl Iterator<Item = (TypeId, &Object)> {
        self.types.iter().enumerate().map(|(at, object)| (TypeId(at as u32), object))
    }
}

impl Field {
    /// A field with no facts but its name and type.
    pub fn new(name: &str, ty: Ty) -> Self {
        Self { name: name.into(), ty, ..Self::default() }
    }
}

impl Field {
    /// Whether the list is a message of its own in protobuf, with the items as its field 1.
    pub fn is_wrapped_list(&self) -> bool {
        &*self.go_type == "v1.Verbs"
    }
}

impl Object {
    /// Sorts the fields and indexes them.
    fn arrange(&mut self) {
        self.fields.sort_by(|a, b| a.name.cmp(&b.name));
        let positions = || self.fields.iter().zip(0u16..);
        let own = positions().filter(|(field, _)| field.number != 0 && field.embedded.is_empty());
        let mut numbers: Vec<(u32, u16)> = own.map(|(field, at)| (field.number, at)).collect();
        numbers.sort_unstable();
        let kept = |field: &Field| matches!(field.presence, Presence::Always | Presence::Nullable);
        let always = positions().filter(|(field, _)| kept(field)).map(|(_, at)| at).collect();
        self.index = Index { numbers: numbers.into(), always, names: Names::of(&self.fields) };
    }

    /// The fields that are there even when they were not given.
    pub fn always(&self) -> impl Iterator<Item = &Field> {
        self.index.always.iter().map(|at| &self.fields[usize::from(*at)])
    }

    /// The field of a JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.index.names.find(name).map(|at| &self.fields[at]).find(|field| *field.name == *name)
    }

    /// The message's own field of a protobuf number (embedded messages have numbers
    /// of their own, see [`Field::embedded`]).
    pub fn field_by_number(&self, number: u32) -> Option<&Field> {
        self.field_embedded(&[], number)
    }

    /// The field of a number inside the embedded message at the path `embedded`.
    pub fn field_embedded(&self, embedded: &[u32], number: u32) -> Option<&Field> {
        if embedded.is_empty() {
            let at = self.index.numbers.binary_search_by_key(&number, |(number, _)| *number).ok()?;
            return Some(&self.fields[usize::from(self.index.numbers[at].1)]);
        }
        self.fields.iter().find(|field| field.number == number && *field.embedded == *embedded)
    }

    /// Whether the path of numbers is that of an embedded message.
    pub fn embeds(&self, path: &[u32]) -> bool {
        !path.is_empty() && self.fields.iter().any(|field| field.embedded.starts_with(path))
    }
}

// === impl Names ===

impl Names {
    fn of(fields: &[Field]) -> Self {
        let mut slots = vec![FREE; (fields.len() * 2).next_power_of_two()];
        for (field, at) in fields.iter().zip(0u16..) {
            let mask = slots.len() - 1;
            let mut slot = mixed(&field.name) & mask;
            while slots[slot] != FREE {
                slot = (slot + 1) & mask;
            }
            slots[slot] = at;
        }
        Self(slots.into())
    }

    /// Positions of fields that may have the name, the likeliest first.
    fn find(&self, name: &str) -> impl Iterator<Item = usize> {
        let mask = self.0.len().wrapping_sub(1);
        let start = mixed(name);
        let slots = (0..self.0.len()).map(move |step| self.0[start.wrapping_add(step) & mask]);
        slots.take_while(|at| *at != FREE).map(usize::from)
    }
}

/// Names of one object differ in their length or in one of their ends, nearly always.
fn mixed(name: &str) -> usize {
    let bytes = name.as_bytes();
    let ends = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
    };
    let mixed = (ends ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_nothing_else() {
        let schema = crate::facts::schema();
        let mut steps = (0, 0);
        for (_, object) in schema.objects() {
            for field in &object.fields {
                let found = object.field(&field.name).map(|found| &found.name);
                assert_eq!(found, Some(&field.name), "{}", object.name);
                assert!(
                    object.field(&format!("{}x", field.name)).is_none_or(|other| other.name.ends_with('x'))
                );
                let tried = object.index.names.find(&field.name);
                let tried = tried.take_while(|at| object.fields[*at].name != field.name).count();
                steps = (steps.0 + 1, steps.1 + tried);
            }
            assert!(object.field("").is_none() && object.field("noSuchField").is_none(), "{}", object.name);
        }
        assert!(steps.1 < steps.0, "{steps:?}: names collide too often");
        assert!(Object::default().field("a").is_none());
    }
}
