//! Reading a decoded tree: absent, null and empty are the same, as they are for
//! upstream's typed structs. For defaults, validation and printer columns.

use serde_json::{Map, Value};

/// The field, unless it is absent or null.
pub fn get<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

/// The value at a path of fields.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, field| get(at, field))
}

/// The value at a pointer such as `/spec/containers/0`, whose fields have neither `~` nor
/// `/` in their names. (`Value::pointer`, which unescapes each of them, allocates.)
pub fn pointer<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(value, |at, step| match at {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => at.get(step),
    })
}

/// The text of a field; empty when there is none.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The text at a path of fields; empty when there is none.
pub fn text_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer of a field.
pub fn int(object: &Value, field: &str) -> Option<i64> {
    object.get(field).and_then(Value::as_i64)
}

/// The integer at a path of fields.
pub fn int_at(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// Whether a boolean field is true.
pub fn flag(object: &Value, field: &str) -> bool {
    object.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of a list field; none when it is absent.
pub fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of the list at a path of fields.
pub fn items_at<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a list field.
pub fn texts<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    items(object, field).iter().filter_map(Value::as_str)
}

/// The entries of a map field, sorted by key; none when it is absent.
pub fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
    object.get(field).and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// The field to write into, made an object if it is none yet. `object` must be an object.
pub fn object_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    let value = &mut object[field];
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value
}

/// Items of a list field, to write into.
pub fn items_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut [Value] {
    object.get_mut(field).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Sets a field that is absent or null.
pub fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if get(object, field).is_none() {
        object[field] = value.into();
    }
}

/// Sets a text field that is absent or empty.
pub fn default_text(object: &mut Value, field: &str, value: &str) {
    if text(object, field).is_empty() {
        object[field] = value.into();
    }
}

/// Whether two decoded values are the same when null, absent and `[]` are. An empty object or
/// text that decoding left is one that was pointed to, which is not an absent one.
/// (apimachinery's `Semantic.DeepEqual`, but for quantities and times.)
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|v| !absent(v)), b.filter(|v| !absent(v))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.keys().chain(b.keys()).all(|key| same(a.get(key), b.get(key)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a == b,
    }
}

/// Whether two objects have the same value in a field.
pub fn same_field(a: &Value, b: &Value, field: &str) -> bool {
    same(a.get(field), b.get(field))
}

fn absent(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_the_same_as_no_items() {
        for (a, b, expect) in [
            (json!({"a": null}), json!({}), true),
            (json!({"a": []}), json!({}), true),
            (json!({"a": {}}), json!({}), false),
            (json!({"a": {"b": []}}), json!({"a": {}}), true),
            (json!({"a": ""}), json!({}), false),
            (json!({"a": 0}), json!({}), false),
            (json!({"a": [{"b": null}]}), json!({"a": [{}]}), true),
            (json!({"a": [1]}), json!({"a": [1, 2]}), false),
        ] {
            assert_eq!(same(Some(&a), Some(&b)), expect, "{a} {b}");
        }
    }
}
