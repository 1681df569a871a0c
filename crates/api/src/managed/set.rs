//! Sets of fields in the form of `fieldsV1`: a tree of path elements (`f:name`,
//! `k:{…}`, `v:…`). `{}` is a member; a member with children has a `.` too.

use serde_json::{Map, Value};

/// A set, or the part of one below a path element.
pub(super) type Set = Map<String, Value>;

const SELF: &str = ".";

/// Whether the path that leads to a node is itself a member.
fn is_member(node: &Set) -> bool {
    node.is_empty() || node.contains_key(SELF)
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

/// Removes the members of `minus` from `set`.
pub(super) fn subtract(set: &mut Set, minus: &Set) {
    for (element, minus) in minus {
        let (Some(Value::Object(mine)), Some(minus)) = (set.get_mut(element), minus.as_object()) else {
            continue;
        };
        if element == SELF {
            continue;
        }
        let member = is_member(mine) && !is_member(minus);
        mine.remove(SELF);
        subtract(mine, minus);
        match node(std::mem::take(mine), member) {
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
