//! What differs between two objects, as sets of fields: structured-merge-diff's
//! comparison, by the schema. Subtrees that are equal are not entered.

use serde_json::{Map, Value};

use super::path;
use super::reset::Filter;
use super::set::{self, Set};
use super::shape::{Form, Items, Members, Place, items, members};
use crate::schema::{Schema, Ty, TypeId};

/// The outcome.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Difference {
    /// Added or modified.
    pub changed: Set,
    /// Removed.
    pub removed: Set,
}

/// Compares two objects of the type `root`, but for what `filter` leaves out.
pub(super) fn objects(schema: &Schema, root: TypeId, old: &Value, new: &Value, filter: Filter) -> Difference {
    let mut difference = Difference::default();
    let ty = Ty::Object(root);
    let place = Place::root(&ty, schema, root);
    if let (Form::Map(fields), Some(old), Some(new)) =
        (place.form(schema, None), members(Some(old)), members(Some(new)))
    {
        let comparer = Comparer { schema };
        for key in keys(old, new).filter(|key| !filter.leaves_out(key)) {
            comparer.member(key, fields.place(key), old.get(key), new.get(key), &mut difference);
        }
    }
    filter.apply(&mut difference.changed);
    filter.apply(&mut difference.removed);
    difference
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
    /// Compares a field and notes the outcome below `f:key`.
    fn member(
        &self,
        key: &str,
        place: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) {
        self.element(|| path::field(key), place, old, new, out);
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
        if let Some(node) = set::node(inner.changed, changed) {
            out.changed.insert(name(), node);
        }
        if let Some(node) = set::node(inner.removed, new.is_none()) {
            out.removed.insert(name(), node);
        }
    }

    /// Compares what is inside; false when the value is compared as a whole. An untyped
    /// value may have been a map and be a leaf now, or the other way round.
    fn children(
        &self,
        place: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) -> bool {
        if is_empty(old) && is_empty(new) {
            return false;
        }
        let form = |value: Option<&Value>| place.form(self.schema, value);
        match (form(old), form(new)) {
            (Form::Map(fields), Form::Map(_)) => self.maps(fields, old, new, out),
            (Form::List(list), Form::List(_)) => self.lists(&list, old, new, out),
            (Form::Map(fields), Form::Leaf) => {
                self.maps(fields, old, None, out);
                false
            }
            (Form::Leaf, Form::Map(fields)) => {
                self.maps(fields, None, new, out);
                false
            }
            _ => false,
        }
    }

    /// False when there are no members on either side.
    fn maps(
        &self,
        fields: Members<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) -> bool {
        let none = Map::new();
        let (old, new) = (members(old).unwrap_or(&none), members(new).unwrap_or(&none));
        for key in keys(old, new) {
            self.member(key, fields.place(key), old.get(key), new.get(key), out);
        }
        !old.is_empty() || !new.is_empty()
    }

    /// False when there are no items on either side.
    fn lists(
        &self,
        list: &Items<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
    ) -> bool {
        let (old, new) = (items(old), items(new));
        let (before, after) = (self.index(list, old), self.index(list, new));
        for run in after.chunk_by(|a, b| a.0 == b.0) {
            let name = &run[0].0;
            let mut compare = |old, new| self.element(|| name.clone(), list.place, old, new, out);
            match (find(&before, name), run) {
                ([], [(_, new)]) => compare(None, Some(*new)),
                ([(_, old)], [(_, new)]) => compare(Some(*old), Some(*new)),
                // What came twice is one field, and now another.
                (_, [(_, new)]) => {
                    compare(None, Some(*new));
                    mark(&mut out.removed, name);
                }
                ([], _) => mark(&mut out.changed, name),
                ([(_, old)], _) => {
                    compare(Some(*old), None);
                    mark(&mut out.changed, name);
                }
                (old, new) if old != new => mark(&mut out.changed, name),
                _ => {}
            }
        }
        for run in before.chunk_by(|a, b| a.0 == b.0) {
            let name = &run[0].0;
            match run {
                _ if !find(&after, name).is_empty() => {}
                [(_, old)] => self.element(|| name.clone(), list.place, Some(*old), None, out),
                _ => mark(&mut out.removed, name),
            }
        }
        !old.is_empty() || !new.is_empty()
    }

    /// The items by their path elements, sorted; items of the same are neighbours.
    fn index<'v>(&self, list: &Items<'_>, items: &'v [Value]) -> Index<'v> {
        // What has no path was refused when it was written, or will be.
        let element = |value: &'v Value| Some((path::item(self.schema, list, value).ok()?, value));
        let mut index: Index<'v> = items.iter().filter_map(element).collect();
        index.sort_by(|a, b| a.0.cmp(&b.0));
        index
    }
}

/// Items by path element.
type Index<'v> = Vec<(String, &'v Value)>;

/// The items of a path element.
fn find<'i, 'v>(index: &'i [(String, &'v Value)], name: &str) -> &'i [(String, &'v Value)] {
    let start = index.partition_point(|(known, _)| known.as_str() < name);
    let count = index[start..].iter().take_while(|(known, _)| known == name).count();
    &index[start..start + count]
}

/// Makes a path element a member, whatever is below it.
fn mark(set: &mut Set, name: &str) {
    set::unite(set, Set::from_iter([(name.to_owned(), Value::Object(Set::new()))]));
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}
