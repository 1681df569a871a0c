//! Lists that are sets or maps: no member twice.
//!
//! (After upstream's `schema/listtype`.)

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::props::Props;
use crate::field::{Error, Errors, Kind, Path};
use crate::schema::ListType;

/// Members that stand twice in lists of an object.
pub fn validate(object: &Value, props: &Props, path: &Path<'_>, errors: &mut Errors) {
    match object {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(inner) = props.properties.get(name.as_str()) {
                    validate(value, inner, &path.child(name), errors);
                } else if let Some(inner) = props.additional_schema() {
                    validate(value, inner, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            match props.list() {
                ListType::Set => duplicates(items.iter().collect(), path, errors),
                ListType::Map => keys(items, props, path, errors),
                ListType::Atomic => {}
            }
            let Some(inner) = &props.items else { return };
            for (at, item) in items.iter().enumerate() {
                validate(item, inner, &path.index(at), errors);
            }
        }
        _ => {}
    }
}

/// Reports the second of each group of equal values.
fn duplicates(values: Vec<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(values.len());
    for (at, value) in values.into_iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(duplicate(&path.index(at), value));
        }
    }
}

fn duplicate(path: &Path<'_>, value: &Value) -> Error {
    let message = Error::invalid(path, value.clone(), "").message;
    let message = message.replacen("Invalid value", "Duplicate value", 1);
    Error { kind: Kind::Duplicate, path: path.to_string(), message }
}

fn keys(items: &[Value], props: &Props, path: &Path<'_>, errors: &mut Errors) {
    for (at, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let detail = "must be an object for an array of list-type map";
            errors.push(Error::invalid(&path.index(at), item.clone(), detail));
            return;
        }
    }
    let key = |item: &Value| -> Value {
        let known = |name: &str| Some((name.to_owned(), item.get(name)?.clone()));
        Value::Object(props.list_keys.iter().filter_map(|name| known(name)).collect::<Map<_, _>>())
    };
    let all: Vec<Value> = items.iter().map(key).collect();
    duplicates(all.iter().collect(), path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_stands_twice() {
        let check = |schema: Value, value: Value, expect: &[&str]| {
            let mut errors = Errors::new();
            validate(
                &json!({ "l": value }),
                &Props::read(&json!({"properties": {"l": schema}})),
                &Path::ROOT,
                &mut errors,
            );
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expect, "{value}");
        };
        let set = json!({"x-kubernetes-list-type": "set"});
        check(set.clone(), json!(["a", "b", "a", "a"]), &["l[2]: Duplicate value: \"a\""]);
        check(set, json!([{"a": 1}, {"a": 1}, 2]), &["l[1]: Duplicate value: {\"a\":1}"]);
        let map = |keys: Value| json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys});
        check(
            map(json!(["k"])),
            json!([{"k": "x", "v": 1}, {"k": "x", "v": 2}]),
            &["l[1]: Duplicate value: {\"k\":\"x\"}"],
        );
        check(map(json!(["k"])), json!([{}, {}]), &["l[1]: Duplicate value: {}"]);
        check(
            map(json!(["k"])),
            json!(["x"]),
            &["l[0]: Invalid value: \"x\": must be an object for an array of list-type map"],
        );
        check(map(json!(["a", "b"])), json!([{"a": 1}, {"a": 1, "b": 2}]), &[]);
    }
}
