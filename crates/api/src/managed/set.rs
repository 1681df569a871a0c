//! Sets of fields in the form of `fieldsV1`: a tree of path elements (`f:name`,
//! `k:{…}`, `v:…`). `{}` is a member; a member with children has a `.` too. No node is
//! without a member below it.

use serde_json::{Map, Value};

use super::path;
use super::shape::{Form, Place};
use crate::schema::Schema;

/// A set, or the part of one below a path element.
pub(super) type Set = Map<String, Value>;

const SELF: &str = ".";

/// Levels that a set from outside may have.
const MAX_DEPTH: usize = 128;

/// Whether the path that leads to a node is itself a member.
pub(super) fn is_member(node: &Set) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// Whether something below a node is a member.
pub(super) fn has_children(node: &Set) -> bool {
    node.len() > usize::from(node.contains_key(SELF))
}

/// Makes a node of its children and whether its path is a member; `None` when it is
/// nothing.
pub(super) fn node(mut children: Set, member: bool) -> Option<Value> {
    if children.is_empty() {
        return member.then_some(Value::Object(children));
    }
    if member {
        children.insert(SELF.into(), Value::Object(Set::new()));
    }
    Some(Value::Object(children))
}

/// Puts a node into a set, where there was none.
pub(super) fn put(set: &mut Set, element: String, children: Set, member: bool) {
    if let Some(node) = node(children, member) {
        set.insert(element, node);
    }
}

/// The children of a set, each with its node.
pub(super) fn children(set: &Set) -> impl Iterator<Item = (&str, &Set)> {
    set.iter().filter(|(element, _)| *element != SELF).filter_map(|(e, node)| Some((&**e, node.as_object()?)))
}

/// Removes the members of `minus` from `set`; what is below them stays.
pub(super) fn subtract(set: &mut Set, minus: &Set) {
    each_common(set, minus, &mut |mine, minus| {
        let member = is_member(mine) && !is_member(minus);
        mine.remove(SELF);
        subtract(mine, minus);
        member
    });
}

/// Removes the members of `minus` from `set` with all that is below them.
pub(super) fn subtract_whole(set: &mut Set, minus: &Set) {
    each_common(set, minus, &mut |mine, minus| {
        if is_member(minus) {
            mine.clear();
            return false;
        }
        let member = is_member(mine);
        mine.remove(SELF);
        subtract_whole(mine, minus);
        member
    });
}

/// The members of both sets.
pub(super) fn common(a: &Set, b: &Set) -> Set {
    let mut out = Set::new();
    for (element, mine) in children(a) {
        if let Some(other) = b.get(element).and_then(Value::as_object) {
            put(&mut out, element.to_owned(), common(mine, other), is_member(mine) && is_member(other));
        }
    }
    out
}

/// Whether every member of `set` is one of `other`.
pub(super) fn is_subset(set: &Set, other: &Set) -> bool {
    children(set).all(|(element, mine)| {
        let other = other.get(element).and_then(Value::as_object);
        other.is_some_and(|other| (!is_member(mine) || is_member(other)) && is_subset(mine, other))
    })
}

/// Calls `change` for the nodes of `set` that `other` has too; it gives back whether
/// the node itself stays a member, after its children.
fn each_common(set: &mut Set, other: &Set, change: &mut dyn FnMut(&mut Set, &Set) -> bool) {
    for (element, other) in other {
        let (Some(Value::Object(mine)), Some(other)) = (set.get_mut(element), other.as_object()) else {
            continue;
        };
        if element == SELF {
            continue;
        }
        let member = change(mine, other);
        let mine = std::mem::take(mine);
        match node(mine, member) {
            Some(rest) => drop(set.insert(element.clone(), rest)),
            None => drop(set.remove(element)),
        }
    }
}

/// Adds the members of `plus` to `set`.
pub(super) fn unite(set: &mut Set, plus: Set) {
    for (element, plus) in plus {
        let Value::Object(mut plus) = plus else { continue };
        if element == SELF {
            continue;
        }
        let slot = set.entry(element).or_insert(Value::Null);
        let Value::Object(mine) = slot else {
            *slot = Value::Object(plus);
            continue;
        };
        let member = is_member(mine) || is_member(&plus);
        mine.remove(SELF);
        plus.remove(SELF);
        let mut both = std::mem::take(mine);
        unite(&mut both, plus);
        *slot = node(both, member).unwrap_or_else(|| Value::Object(Set::new()));
    }
}

/// Whether the field at a path of names is a member.
pub(super) fn has(set: &Set, path: &[&str]) -> bool {
    let mut at = set;
    for name in path {
        match at.get(&path::field(name)).and_then(Value::as_object) {
            Some(node) => at = node,
            None => return false,
        }
    }
    is_member(at)
}

/// The set of the one field at a path of names.
pub(super) fn one(path: &[&str]) -> Set {
    let Some((first, rest)) = path.split_first() else { return Set::new() };
    Set::from_iter([(path::field(first), Value::Object(one(rest)))])
}

/// Makes the fields that the schema names members when something below them is. They
/// usually are not, and would be left behind when all below them goes.
pub(super) fn with_named_fields(schema: &Schema, place: Place<'_>, set: &Set) -> Set {
    let mut out = Set::new();
    let form = place.form(schema, None);
    for (element, node) in children(set) {
        let (inner, named) = match (&form, element.strip_prefix("f:")) {
            (Form::Map(members), Some(key)) => (Some(members.place(key)), members.declares(key)),
            (Form::List(items), None) => (Some(items.place), false),
            _ => (None, false),
        };
        let below = match inner {
            Some(inner) => with_named_fields(schema, inner, node),
            None => children(node).map(|(e, n)| (e.to_owned(), Value::Object(n.clone()))).collect(),
        };
        put(&mut out, element.to_owned(), below, named || is_member(node));
    }
    out
}

/// Visits the paths of all members in upstream's order: those of a level first, then
/// level by level what is below each.
pub(super) fn each(set: &Set, visit: &mut dyn FnMut(&[&str])) {
    fn below<'s>(set: &'s Set, path: &mut Vec<&'s str>, visit: &mut dyn FnMut(&[&str])) {
        let mut nodes: Vec<(&str, &Set)> = children(set).collect();
        nodes.sort_by(|a, b| path::compare(a.0, b.0));
        for (element, node) in &nodes {
            if is_member(node) {
                path.push(element);
                visit(path);
                path.pop();
            }
        }
        for (element, node) in nodes {
            path.push(element);
            below(node, path, visit);
            path.pop();
        }
    }
    below(set, &mut Vec::new(), visit);
}

/// Reads a set that came from outside.
///
/// # Errors
/// What cannot be read.
pub(super) fn read(fields: &Set) -> Result<Set, String> {
    fn level(fields: &Set, depth: usize) -> Result<Set, String> {
        if depth > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        let mut out = Set::new();
        for (element, node) in fields {
            if element == SELF {
                continue;
            }
            let Value::Object(node) = node else { return Err(format!("expected an object at {element}")) };
            let Some(element) = path::normal(element)? else { continue };
            let member = is_member(node);
            put(&mut out, element, level(node, depth + 1)?, member);
        }
        Ok(out)
    }
    level(fields, 0)
}
