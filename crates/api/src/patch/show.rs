//! Trees as Go's `%v` prints them, which upstream's patch errors quote.

use serde_json::{Map, Value};

/// `map[a:1 b:[x y]]`, cut after some kilobytes.
pub(super) fn go_map(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_map(&mut out, map);
    out
}

/// A value, likewise.
pub(crate) fn go_text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

const LIMIT: usize = 8 << 10;

fn write_map(out: &mut String, map: &Map<String, Value>) {
    out.push_str("map[");
    for (at, (key, value)) in map.iter().enumerate() {
        if out.len() > LIMIT {
            break;
        }
        out.push_str(if at > 0 { " " } else { "" });
        out.push_str(key);
        out.push(':');
        write(out, value);
    }
    out.push(']');
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Object(map) => write_map(out, map),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if out.len() > LIMIT {
                    break;
                }
                out.push_str(if at > 0 { " " } else { "" });
                write(out, item);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
