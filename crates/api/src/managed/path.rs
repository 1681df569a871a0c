//! Elements of paths to fields, as `fieldsV1` writes them: `f:name` of a struct or map,
//! `k:{"name":"x"}` and `v:"x"` of an associative list, `i:0` of another list. Their
//! order and their form for people (`.name`, `[name="x"]`, `[="x"]`, `[0]`) are those
//! of structured-merge-diff.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::shape::Items;
use crate::schema::{ListType, Presence, Schema, Ty};

/// `f:key`.
pub(super) fn field(key: &str) -> String {
    ["f:", key].concat()
}

/// The element of an item of an associative list; a missing key has its default.
///
/// # Errors
/// Says why the item has none.
pub(super) fn item(schema: &Schema, items: &Items<'_>, value: &Value) -> Result<String, String> {
    if items.list.list == ListType::Set || items.list.list_keys.is_empty() {
        return match value {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            scalar => {
                let mut element = String::from("v:");
                write_json(&mut element, scalar);
                Ok(element)
            }
        };
    }
    let keyed = match value {
        Value::Object(keyed) => keyed,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let keys = &items.list.list_keys;
    let mut element = String::with_capacity(48);
    element.push_str("k:{");
    let mut write = |name: &str| {
        let default = default(schema, items.place.ty, name);
        let known = keyed.get(name);
        if known.is_none() && default.is_empty() {
            // An item without the key is another one than any item with it.
            return;
        }
        element.push_str(if element.len() > 3 { ",\"" } else { "\"" });
        element.push_str(name);
        element.push_str("\":");
        match known {
            Some(key) => write_json(&mut element, key),
            None => element.push_str(default),
        }
    };
    if keys.is_sorted() {
        keys.iter().for_each(|name| write(name));
    } else {
        let mut names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        names.sort_unstable();
        names.into_iter().for_each(write);
    }
    if element.len() == 3 {
        let names: Vec<String> = keys.iter().map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
             default values for any key fields)",
            names.join(" ")
        ));
    }
    element.push('}');
    Ok(element)
}

/// The published default of a key as JSON; a value that Go cannot leave out has its zero
/// value for one.
fn default<'s>(schema: &'s Schema, item: &Ty, name: &str) -> &'s str {
    let Ty::Object(id) = item else { return "" };
    let Some(field) = schema.object(*id).field(name) else { return "" };
    match &field.ty {
        _ if !field.default.is_empty() => &field.default,
        Ty::String if field.presence == Presence::Always || is_reference(schema, *id) => "\"\"",
        Ty::Int32 | Ty::Int64 if field.presence == Presence::Always => "0",
        _ => "",
    }
}

/// Whether a type publishes that its name is empty by default.
fn is_reference(schema: &Schema, id: crate::schema::TypeId) -> bool {
    &*schema.object(id).name == "io.k8s.api.core.v1.LocalObjectReference"
}

/// JSON as Go writes it: keys sorted, `<`, `>` and `&` escaped.
pub(super) fn go_json(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value);
    out
}

fn write_json(out: &mut String, value: &Value) {
    let start = out.len();
    // A String takes whatever is written to it.
    let _ = write!(out, "{value}");
    if out[start..].contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        let text = out.split_off(start);
        for letter in text.chars() {
            match letter {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(letter));
                }
                letter => out.push(letter),
            }
        }
    }
}

/// An element that came from outside in the form in which it is compared. `Ok(None)`
/// is one of a sort that is not known, which is left out.
///
/// # Errors
/// What cannot be read.
pub(super) fn normal(element: &str) -> Result<Option<String>, String> {
    let Some((sort, rest)) = element.split_at_checked(2) else {
        return Err("key must be 2 characters long:".into());
    };
    if !sort.ends_with(':') {
        return Err(format!("missing colon: {element}"));
    }
    let json = || serde_json::from_str::<Value>(rest).map_err(|error| error.to_string());
    Ok(match sort {
        "f:" => Some(element.to_owned()),
        "v:" | "k:" => {
            let value = json()?;
            if sort == "k:" && !value.is_object() {
                return Err(format!("expected keys: {element}"));
            }
            let mut out = sort.to_owned();
            write_json(&mut out, &value);
            Some(out)
        }
        "i:" => Some(format!("i:{}", rest.parse::<i64>().map_err(|error| error.to_string())?)),
        _ => None,
    })
}

/// The order of structured-merge-diff: fields, keys, values, indexes; numbers as numbers.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let rank = |element: &str| match element.as_bytes().first() {
        Some(b'f') => 0,
        Some(b'k') => 1,
        Some(b'v') => 2,
        _ => 3,
    };
    rank(a).cmp(&rank(b)).then_with(|| {
        if rank(a) == 0 {
            return a.cmp(b);
        }
        let read = |element: &str| serde_json::from_str::<Value>(&element[2..]).unwrap_or_default();
        match (read(a), read(b)) {
            (Value::Object(a), Value::Object(b)) => keys(&a, &b),
            (a, b) => values(&a, &b),
        }
    })
}

fn keys(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    for ((a_name, a), (b_name, b)) in a.iter().zip(b) {
        let order = a_name.cmp(b_name).then_with(|| values(a, b));
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn values(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Appends an element as people read it.
pub(super) fn show(out: &mut String, element: &str) {
    let (sort, rest) = element.split_at_checked(2).unwrap_or((element, ""));
    let read = || serde_json::from_str::<Value>(rest).unwrap_or_default();
    // A String takes whatever is written to it.
    let _ = match sort {
        "f:" => write!(out, ".{rest}"),
        "k:" => {
            out.push('[');
            for (at, (name, value)) in read().as_object().into_iter().flatten().enumerate() {
                let _ = write!(out, "{}{name}=", if at > 0 { "," } else { "" });
                show_value(out, value);
            }
            out.write_str("]")
        }
        "v:" => {
            out.push_str("[=");
            show_value(out, &read());
            out.write_str("]")
        }
        _ => write!(out, "[{rest}]"),
    };
}

fn show_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => {
            let _ = write!(out, "{text:?}");
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                show_value(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let _ = write!(out, "{name}=");
                show_value(out, value);
            }
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}
