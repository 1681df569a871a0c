//! Migration from client-side apply: kubectl owns what its annotation says that it
//! applied, as long as that is what the object holds.

use serde_json::Value;

use super::conflict::Conflict;
use super::types::Types;
use super::{check, compare, fields, set};

/// Where kubectl keeps what it last applied.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the object's annotation says.
pub(super) fn of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The conflicts that are with others than kubectl's former self. `None` when the
/// annotation says nothing.
pub(super) fn not_allowed(
    types: &Types<'_>,
    live: &Value,
    conflicts: Vec<Conflict>,
) -> Option<Vec<Conflict>> {
    let last: Value = serde_json::from_str(of(live)?).ok()?;
    let text = |field: &str| last.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != types.api_version || text("kind") != types.kind_name {
        return None;
    }
    let fits = |object| check::findings(types.schema, types.root, object, false).is_empty();
    if !fits(&last) || !fits(live) {
        return None;
    }
    let mut owned = fields::of(types.schema, types.root, &last);
    let difference = compare::objects(types.schema, types.root, &last, live, super::reset::Filter::NONE);
    set::subtract(&mut owned, &difference.changed);
    set::subtract(&mut owned, &difference.removed);
    let is_owned = |conflict: &Conflict| {
        let mut at = &owned;
        for element in &conflict.elements {
            match at.get(element).and_then(Value::as_object) {
                Some(node) => at = node,
                None => return false,
            }
        }
        set::is_member(at)
    };
    Some(conflicts.into_iter().filter(|conflict| !is_owned(conflict)).collect())
}

/// What the annotation is to say after an apply by kubectl.
pub(super) fn build(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(annotations) = config["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
        if annotations.is_empty() {
            config["metadata"].as_object_mut().map(|meta| meta.remove("annotations"));
        }
    }
    let mut text = super::path::go_json(&config);
    text.push('\n');
    text
}

/// Writes what an apply by kubectl leaves as its annotation ([`super::Applied::last_applied`]) into
/// an object's annotations, unless they grow too large.
pub fn set_last_applied(object: &mut Value, text: String) {
    /// As validation has it.
    const MAX_SIZE: usize = 256 * 1024;
    let Some(annotations) = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut) else {
        return;
    };
    annotations.insert(ANNOTATION.into(), text.into());
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_SIZE {
        annotations.remove(ANNOTATION);
    }
}
