//! What differs between two objects, as sets of fields: structured-merge-diff's
//! comparison, by the schema. Subtrees that are equal are not entered.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::set::{Set, node};
use crate::schema::{Field, ListType, Object, Schema, Ty, TypeId};

/// Fields of metadata that nobody manages.
const UNMANAGED: [&str; 9] = [
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The outcome.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Added or modified.
    pub changed: Set,
    /// Removed.
    pub removed: Set,
}

/// Compares two objects of the type `root`, leaving out what no manager owns and
/// what a write to `subresource` cannot change.
pub(super) fn objects(
    schema: &Schema,
    root: TypeId,
    old: &Value,
    new: &Value,
    subresource: &str,
) -> Difference {
    let mut difference = Difference::default();
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return difference };
    let (comparer, object) = (Comparer { schema }, schema.object(root));
    for key in keys(old, new) {
        let reset = match subresource {
            "" => "status",
            "status" => "spec",
            _ => "",
        };
        if key == "apiVersion" || key == "kind" || key == reset {
            continue;
        }
        if key == "metadata" {
            comparer.metadata(object.field(key), old.get(key), new.get(key), subresource, &mut difference);
        } else {
            comparer.member(key, place(Some(object), key), old.get(key), new.get(key), &mut difference);
        }
    }
    difference
}

/// A type and the facts of the field that holds it.
#[derive(Clone, Copy)]
struct Place<'s> {
    ty: &'s Ty,
    field: Option<&'s Field>,
    /// Whether untyped values are looked into: those of custom kinds are, a built-in
    /// kind's RawExtension is one field.
    deduce: bool,
}

/// The place of a field of an object type.
fn place<'s>(object: Option<&'s Object>, key: &str) -> Place<'s> {
    let field = object.and_then(|object| object.field(key));
    let deduce = object.is_none_or(|object| object.loose || object.preserve_unknown);
    Place { ty: field.map_or(&Ty::Any, |field| &field.ty), field, deduce }
}

impl<'s> Place<'s> {
    /// The place of an item or value within.
    fn inner(self, ty: &'s Ty) -> Self {
        Self { ty, field: None, ..self }
    }
}

/// The keys of both maps, once each.
fn keys<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    new.keys().chain(gone).map(String::as_str)
}

struct Comparer<'s> {
    schema: &'s Schema,
}

impl Comparer<'_> {
    /// Compares what managers own of metadata.
    fn metadata(
        &self,
        field: Option<&Field>,
        old: Option<&Value>,
        new: Option<&Value>,
        subresource: &str,
        out: &mut Difference,
    ) {
        let object = field.and_then(|field| match field.ty {
            Ty::Object(id) => Some(self.schema.object(id)),
            _ => None,
        });
        let mut inner = Difference::default();
        maps(old, new, |key, old, new| {
            let reset = subresource == "status" && matches!(key, "deletionTimestamp" | "ownerReferences");
            if !reset && !UNMANAGED.contains(&key) {
                self.member(key, place(object, key), old, new, &mut inner);
            }
        });
        for (inner, out) in [(inner.changed, &mut out.changed), (inner.removed, &mut out.removed)] {
            if let Some(node) = node(inner, false) {
                out.insert("f:metadata".into(), node);
            }
        }
    }

    /// Compares a field and notes the outcome below `f:key`.
    fn member(
        &self,
        key: &str,
        place: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) {
        self.element(|| ["f:", key].concat(), place, old, new, out);
    }

    fn element(
        &self,
        name: impl Fn() -> String,
        place: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) {
        if old == new {
            return;
        }
        let mut inner = Difference::default();
        let leaf = !self.children(place, old, new, &mut inner);
        let changed = old.is_none() || (leaf && new.is_some());
        if let Some(node) = node(inner.changed, changed) {
            out.changed.insert(name(), node);
        }
        if let Some(node) = node(inner.removed, new.is_none()) {
            out.removed.insert(name(), node);
        }
    }

    /// Compares what is inside; false when the value is compared as a whole.
    fn children(
        &self,
        place: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) -> bool {
        if place.field.is_some_and(|field| field.atomic) || (is_empty(old) && is_empty(new)) {
            return false;
        }
        match place.ty {
            Ty::Object(id)
                if !self.schema.object(*id).atomic || place.field.is_some_and(|field| field.granular) =>
            {
                let object = self.schema.object(*id);
                maps(old, new, |key, old, new| {
                    self.member(key, self::place(Some(object), key), old, new, out)
                })
            }
            Ty::Map(value) => {
                maps(old, new, |key, old, new| self.member(key, place.inner(value), old, new, out))
            }
            Ty::Any if place.deduce => {
                maps(old, new, |key, old, new| self.member(key, place.inner(&Ty::Any), old, new, out))
            }
            Ty::List(item) => match place.field {
                Some(field) if field.list != ListType::Atomic => {
                    self.lists(place.inner(item), field, old, new, out)
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn lists(
        &self,
        item: Place<'_>,
        field: &Field,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) -> bool {
        let (old, new) = (self.index(field, item.ty, old), self.index(field, item.ty, new));
        for run in new.chunk_by(|a, b| a.0 == b.0) {
            let name = &run[0].0;
            match (find(&old, name), run) {
                (before @ ([] | [_]), [(_, value)]) => {
                    let before = before.first().map(|(_, value)| *value);
                    self.element(|| name.clone(), item, before, Some(value), out);
                }
                // Duplicates are compared as a whole.
                (before, run) if before != run => {
                    out.changed.insert(name.clone(), Value::Object(Set::new()));
                }
                _ => {}
            }
        }
        for run in old.chunk_by(|a, b| a.0 == b.0) {
            let (name, value) = &run[0];
            if find(&new, name).is_empty() {
                self.element(|| name.clone(), item, Some(value), None, out);
            }
        }
        true
    }

    /// The items of an associative list by their path elements, sorted.
    fn index<'v>(&self, field: &Field, item: &Ty, list: Option<&'v Value>) -> Index<'v> {
        let items = list.and_then(Value::as_array).into_iter().flatten();
        let mut index: Index<'v> =
            items.map(|value| (self.path_element(field, item, value), value)).collect();
        index.sort_by(|a, b| a.0.cmp(&b.0));
        index
    }

    /// `v:"x"` in a set, `k:{"name":"x"}` in a map; a missing key has its default.
    fn path_element(&self, field: &Field, item: &Ty, value: &Value) -> String {
        if field.list == ListType::Set {
            return format!("v:{value}");
        }
        let mut element = String::with_capacity(48);
        element.push_str("k:{");
        let mut names: Vec<&str> = field.list_keys.iter().map(|key| &**key).collect();
        names.sort_unstable();
        for (at, name) in names.into_iter().enumerate() {
            element.push_str(if at > 0 { ",\"" } else { "\"" });
            element.push_str(name);
            element.push_str("\":");
            match value.get(name) {
                Some(key) => {
                    // A String takes whatever is written to it.
                    let _ = write!(element, "{key}");
                }
                None => element.push_str(self.default(item, name)),
            }
        }
        element.push('}');
        element
    }

    fn default(&self, item: &Ty, name: &str) -> &str {
        let Ty::Object(id) = item else { return "null" };
        let default = self.schema.object(*id).field(name).map_or("", |field| &field.default);
        if default.is_empty() { "null" } else { default }
    }
}

/// Items by path element, sorted; duplicates are neighbours.
type Index<'v> = Vec<(String, &'v Value)>;

/// The items of a path element.
fn find<'i, 'v>(index: &'i [(String, &'v Value)], name: &str) -> &'i [(String, &'v Value)] {
    let start = index.partition_point(|(known, _)| known.as_str() < name);
    let count = index[start..].iter().take_while(|(known, _)| known == name).count();
    &index[start..start + count]
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Visits the entries of two maps; false when a side is something else.
fn maps<'v>(
    old: Option<&'v Value>,
    new: Option<&'v Value>,
    mut visit: impl FnMut(&str, Option<&'v Value>, Option<&'v Value>),
) -> bool {
    let map = |value: Option<&'v Value>| match value {
        None | Some(Value::Null) => Some(None),
        Some(Value::Object(map)) => Some(Some(map)),
        Some(_) => None,
    };
    let (Some(old), Some(new)) = (map(old), map(new)) else { return false };
    for (key, value) in new.into_iter().flatten() {
        visit(key, old.and_then(|old| old.get(key)), Some(value));
    }
    for (key, value) in old.into_iter().flatten() {
        if !new.is_some_and(|new| new.contains_key(key)) {
            visit(key, Some(value), None);
        }
    }
    true
}
