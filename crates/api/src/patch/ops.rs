//! JSON Patch as evanphx/json-patch 4 applies it: a missing key of an object reads as
//! null, so `replace` adds it and `test` for null passes; indices may be negative.

use serde_json::{Map, Value};

use super::Error;
use crate::decode;

/// Bytes that copies may add, and levels that a tree may have.
const MAX_COPIED: usize = 3 << 20;
const MAX_DEPTH: usize = 256;
/// Steps of a pointer.
const MAX_STEPS: usize = 128;

const MISSING: &str = "missing value";

type Operation = Map<String, Value>;
type Outcome<T> = Result<T, String>;

/// Reads a patch and its strictness findings.
pub(super) fn read(text: &str) -> Result<(Vec<Operation>, Vec<String>), Error> {
    let bad = |reason: String| Error::Bad(format!("error decoding patch: {reason}"));
    let read = decode::untyped(text.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let items = match read.value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => {
            let what = decode::describe(&other);
            let ty = "[]handlers.jsonPatchOp";
            return Err(bad(format!("json: cannot unmarshal {what} into Go value of type {ty}")));
        }
    };
    let mut strict: Vec<String> = read.strict.iter().map(|finding| format!("json patch {finding}")).collect();
    let mut operations = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let Value::Object(operation) = item else {
            let what = decode::describe(&item);
            let ty = "handlers.jsonPatchOp";
            return Err(bad(format!("json: cannot unmarshal {what} into Go value of type {ty}")));
        };
        for (field, value) in &operation {
            match field.as_str() {
                "value" => {}
                "op" | "path" | "from" if value.is_string() || value.is_null() => {}
                "op" | "path" | "from" => {
                    let what = decode::describe(value);
                    let ty = format!("jsonPatchOp.{field} of type string");
                    return Err(bad(format!("json: cannot unmarshal {what} into Go struct field {ty}")));
                }
                unknown if strict.len() < 100 => {
                    strict.push(format!("json patch unknown field \"[{at}].{unknown}\""));
                }
                _ => {}
            }
        }
        operations.push(operation);
    }
    Ok((operations, strict))
}

/// Applies the operations in turn; the first that fails fails the patch.
pub(super) fn apply(mut object: Value, operations: Vec<Operation>) -> Result<Value, Error> {
    let mut copied = 0;
    for mut operation in operations {
        let text = |field: &str| operation.get(field).and_then(Value::as_str).map(str::to_owned);
        let (path, from) = (text("path"), text("from"));
        let kind = text("op").unwrap_or_else(|| "unknown".to_owned());
        let value = operation.remove("value");
        one(&mut object, &kind, path, from, value, &mut copied).map_err(Error::Unprocessable)?;
    }
    Ok(object)
}

fn one(
    root: &mut Value,
    kind: &str,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
    copied: &mut usize,
) -> Outcome<()> {
    let path_of = |field: &str, text: Option<String>| {
        text.ok_or_else(|| format!("{kind} operation failed to decode {field}: {MISSING}"))
    };
    match kind {
        "add" => {
            let path = path_of("path", path)?;
            let missing = format!("add operation does not apply: doc is missing path: {path:?}: {MISSING}");
            let (target, key) = find(root, &path).ok_or(missing)?;
            let value = value.unwrap_or(Value::Null);
            add(target, &key, value).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = path_of("path", path)?;
            let missing =
                format!("remove operation does not apply: doc is missing path: {path:?}: {MISSING}");
            let (target, key) = find(root, &path).ok_or(missing)?;
            remove(target, &key).map(drop).map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "replace" => replace(root, &path_of("path", path)?, value.unwrap_or(Value::Null)),
        "move" => {
            let from = path_of("from", from)?;
            let missing =
                format!("move operation does not apply: doc is missing from path: {from}: {MISSING}");
            let (target, key) = find(root, &from).ok_or(missing)?;
            let moved = remove(target, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path = path_of("path", path)?;
            let missing =
                format!("move operation does not apply: doc is missing destination path: {path}: {MISSING}");
            let (target, key) = find(root, &path).ok_or(missing)?;
            check_depth(&moved)?;
            add(target, &key, moved).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "test" => test(root, &path_of("path", path)?, value.unwrap_or(Value::Null)),
        "copy" => copy(root, &path_of("from", from)?, &path_of("path", path)?, copied),
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn replace(root: &mut Value, path: &str, value: Value) -> Outcome<()> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array: %!w(<nil>)".into());
        }
        *root = value;
        return Ok(());
    }
    let missing =
        |what: &str| format!("replace operation does not apply: doc is missing {what}: {path}: {MISSING}");
    let (target, key) = find(root, path).ok_or_else(|| missing("path"))?;
    match target {
        Value::Object(map) => drop(map.insert(key, value)),
        Value::Array(items) => {
            let at = index(&key, items.len()).map_err(|_| missing("key"))?;
            items[at] = value;
        }
        _ => return Err(missing("path")),
    }
    Ok(())
}

fn test(root: &mut Value, path: &str, value: Value) -> Outcome<()> {
    let failed = || format!("testing value {path} failed: test failed");
    if path.is_empty() {
        return if *root == value { Ok(()) } else { Err(failed()) };
    }
    let missing = || format!("test operation does not apply: is missing path: {path}: {MISSING}");
    let (target, key) = find(root, path).ok_or_else(missing)?;
    let found = get(target, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
    if same(found, &value) { Ok(()) } else { Err(failed()) }
}

/// Equality by the texts of numbers: 1 and 1.0 differ, as upstream has it.
fn same(left: &Value, right: &Value) -> bool {
    left == right
}

fn copy(root: &mut Value, from: &str, path: &str, copied: &mut usize) -> Outcome<()> {
    let missing = |what: &str, path: &str| {
        format!("copy operation does not apply: doc is missing {what} path: {path}: {MISSING}")
    };
    let (source, key) = find(root, from).ok_or_else(|| missing("from", from))?;
    let value = get(source, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?.clone();
    *copied += value.to_string().len();
    if *copied > MAX_COPIED {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
        ));
    }
    check_depth(&value)?;
    let (target, key) = find(root, path).ok_or_else(|| missing("destination", path))?;
    add(target, &key, value).map_err(|e| format!("error while adding value during copy: {e}"))
}

/// The container that a pointer's last step leads into, and that step.
fn find<'a>(root: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut steps = path.split('/').skip(1);
    let mut last = steps.next()?;
    let mut target = root;
    for (count, step) in steps.enumerate() {
        let key = unescape(last);
        last = step;
        target = match target {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(items) => {
                let at = index(&key, items.len()).ok()?;
                &mut items[at]
            }
            _ => return None,
        };
        if count >= MAX_STEPS {
            return None;
        }
    }
    (target.is_object() || target.is_array()).then(|| (target, unescape(last)))
}

fn unescape(step: &str) -> String {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~") } else { step.to_owned() }
}

/// An index into a list of `length` items; negative ones count from its end.
fn index(key: &str, length: usize) -> Outcome<usize> {
    let number: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let at = if number < 0 { number + length as i64 } else { number };
    if at < 0 || at >= length as i64 {
        return Err(format!("Unable to access invalid index: {number}: invalid index referenced"));
    }
    Ok(at as usize)
}

fn get<'a>(target: &'a Value, key: &str) -> Outcome<&'a Value> {
    match target {
        Value::Array(items) => Ok(&items[index(key, items.len())?]),
        target => Ok(target.get(key).unwrap_or(&Value::Null)),
    }
}

fn add(target: &mut Value, key: &str, value: Value) -> Outcome<()> {
    match target {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            if key.parse::<i64>().is_err() {
                let reason = format!("strconv.Atoi: parsing {key:?}: invalid syntax");
                return Err(format!("value was not a proper array index: '{key}': {reason}"));
            }
            let at = index(key, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => return Err(MISSING.to_owned()),
    }
    Ok(())
}

fn remove(target: &mut Value, key: &str) -> Outcome<Value> {
    match target {
        Value::Object(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
        }
        Value::Array(items) => {
            let at = index(key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err(MISSING.to_owned()),
    }
}

/// Moving and copying could nest without end.
fn check_depth(value: &Value) -> Outcome<()> {
    fn fits(value: &Value, left: usize) -> bool {
        left > 0
            && match value {
                Value::Array(items) => items.iter().all(|item| fits(item, left - 1)),
                Value::Object(map) => map.values().all(|value| fits(value, left - 1)),
                _ => true,
            }
    }
    if fits(value, MAX_DEPTH) { Ok(()) } else { Err("exceeded max depth".to_owned()) }
}
