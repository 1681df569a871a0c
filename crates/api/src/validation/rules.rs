//! Small rules that many kinds share, with their sentences.

use serde_json::Value;

use super::names::{self, Messages};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, items, text, texts};

/// For a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";
/// For a negative number.
pub const NEGATIVE: &str = "must be greater than or equal to 0";
/// For a number that is not positive.
pub const NOT_POSITIVE: &str = "must be greater than zero";

/// Errors after which lists are not looked at further: nobody reads more, and an answer
/// must not be a hundred times as long as what was sent.
const MAX_ERRORS: usize = 200;

/// Bytes of a text that an error shows.
const MAX_SHOWN_BYTES: usize = 8 << 10;

/// Whether there are errors enough.
pub fn full(errors: &Errors) -> bool {
    errors.len() >= MAX_ERRORS
}

/// One `Invalid` error a sentence.
pub fn invalid_each(errors: &mut Errors, path: &Path<'_>, value: impl Into<Value>, messages: Messages) {
    if messages.is_empty() {
        return;
    }
    let value = shortened(value.into());
    errors.extend(messages.iter().map(|message| Error::invalid(path, value.clone(), message)));
}

/// A text of megabytes is not said again in full, once a sentence.
fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_SHOWN_BYTES => {
            let cut = (0..=MAX_SHOWN_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            format!("{}…", &text[..cut]).into()
        }
        value => value,
    }
}

/// Zero or more.
pub fn non_negative(errors: &mut Errors, path: &Path<'_>, value: i64) {
    if value < 0 {
        errors.push(Error::invalid(path, value, NEGATIVE));
    }
}

/// One or more.
pub fn positive(errors: &mut Errors, path: &Path<'_>, value: i64) {
    if value <= 0 {
        errors.push(Error::invalid(path, value, NOT_POSITIVE));
    }
}

/// The text of `field` must be one of `supported`; empty is `Required` when `required`,
/// else fine.
pub fn one_of(
    errors: &mut Errors,
    object: &Value,
    field: &str,
    path: &Path<'_>,
    supported: &[&str],
    required: bool,
) {
    let value = text(object, field);
    match value {
        "" if required => errors.push(Error::required(&path.child(field), "")),
        "" => {}
        _ if supported.contains(&value) => {}
        _ => errors.push(Error::not_supported(&path.child(field), value, supported)),
    }
}

/// A field may not change. Structs are shown as JSON.
pub fn immutable(errors: &mut Errors, path: &Path<'_>, new: Option<&Value>, old: Option<&Value>) {
    if !crate::tree::same(new, old) {
        errors.push(invalid_struct(path, new.unwrap_or(&Value::Null), IMMUTABLE));
    }
}

/// As [`immutable`], for a text that is empty rather than absent.
pub fn immutable_text(errors: &mut Errors, path: &Path<'_>, new: &Value, old: &Value, field: &str) {
    if text(new, field) != text(old, field) {
        errors.push(Error::invalid(path, text(new, field), IMMUTABLE));
    }
}

/// A label selector (`metav1.LabelSelector`); absent is fine.
pub fn label_selector(errors: &mut Errors, selector: Option<&Value>, path: &Path<'_>) {
    let Some(selector) = selector else { return };
    super::meta::labels(selector, "matchLabels", &path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (at, requirement) in items(selector, "matchExpressions").iter().enumerate() {
        if full(errors) {
            break;
        }
        selector_requirement(errors, requirement, &list.index(at));
    }
}

fn selector_requirement(errors: &mut Errors, requirement: &Value, path: &Path<'_>) {
    let values = items(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path.child("values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
    let key = text(requirement, "key");
    invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
    for (at, value) in texts(requirement, "values").enumerate() {
        if full(errors) {
            break;
        }
        invalid_each(errors, &path.child("values").index(at), value, names::label_value(value));
    }
}

/// Whether a label selector selects nothing in particular: absent or without terms.
pub fn empty_selector(selector: Option<&Value>) -> bool {
    selector.is_none_or(|selector| {
        items(selector, "matchExpressions").is_empty()
            && get(selector, "matchLabels").and_then(Value::as_object).is_none_or(|labels| labels.is_empty())
    })
}

/// `Unsupported value` with the supported ones in the order given, where upstream
/// does not sort them.
pub fn not_supported(path: &Path<'_>, value: &str, supported: &[&str]) -> Error {
    let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
    let mut error = Error::not_supported(path, value, &[""; 0]);
    error.message = format!("{}: supported values: {}", error.message, names.join(", "));
    error
}

/// Fields of small structs that are shown in errors, in the order of their Go types.
const STRUCT_ORDER: [&str; 11] = [
    "apiVersion",
    "kind",
    "name",
    "uid",
    "controller",
    "blockOwnerDeletion",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
];

/// `Invalid value` that shows a struct: JSON with the fields in Go's order.
pub fn invalid_struct(path: &Path<'_>, value: &Value, detail: &str) -> Error {
    if !value.is_object() && !value.is_array() {
        return Error::invalid(path, value.clone(), detail);
    }
    invalid_json(path, &struct_json(value), detail)
}

/// `Invalid value` that shows JSON text as it is.
pub fn invalid_json(path: &Path<'_>, json: &str, detail: &str) -> Error {
    let mut error = Error::invalid(path, "", detail);
    let colon = if detail.is_empty() { "" } else { ": " };
    error.message = format!("Invalid value: {json}{colon}{detail}");
    error
}

/// JSON with the fields of small structs in Go's order, but for those that are empty.
pub fn struct_json(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(struct_json).collect::<Vec<_>>().join(","))
        }
        Value::Object(fields) => {
            let place = |name: &str| STRUCT_ORDER.iter().position(|known| *known == name).unwrap_or(99);
            let mut fields: Vec<(&String, &Value)> =
                fields.iter().filter(|(_, value)| !empty_collection(value)).collect();
            fields.sort_by_key(|(name, _)| place(name));
            let field = |(name, value): (&String, &Value)| {
                // Labels are a map: sorted by key, as they are.
                let json = if name == "matchLabels" { value.to_string() } else { struct_json(value) };
                format!("{name:?}:{json}")
            };
            format!("{{{}}}", fields.into_iter().map(field).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

/// Whether a value is a list or map without anything in it.
pub fn empty_collection(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// `Invalid value` that shows no value.
pub fn invalid_omitted(path: &Path<'_>, detail: &str) -> Error {
    let mut error = Error::invalid(path, "", detail);
    error.message = format!("Invalid value: {detail}");
    error
}

/// `metav1.Condition`s.
pub fn conditions(status: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (at, condition) in items(status, "conditions").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let ty = text(condition, "type");
        if !seen.insert(ty) {
            errors.push(Error::duplicate(&path.child("type"), ty));
        }
        invalid_each(errors, &path.child("type"), ty, names::qualified_name(ty));
        let (state, all) = (text(condition, "status"), ["False", "True", "Unknown"]);
        if !all.contains(&state) {
            errors.push(not_supported(&path.child("status"), state, &all));
        }
        let generation = crate::tree::int(condition, "observedGeneration").unwrap_or(0);
        if generation < 0 {
            let detail = "must be greater than or equal to zero";
            errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
        }
        if get(condition, "lastTransitionTime").is_none() {
            errors.push(Error::required(&path.child("lastTransitionTime"), ""));
        }
        reason(text(condition, "reason"), &path.child("reason"), errors);
        if text(condition, "message").len() > 32 << 10 {
            errors.push(Error::too_long(&path.child("message"), 32 << 10));
        }
    }
}

fn reason(reason: &str, path: &Path<'_>, errors: &mut Errors) {
    if reason.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    let ends = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = reason.as_bytes();
    let fits =
        bytes[0].is_ascii_alphabetic() && ends(bytes[bytes.len() - 1]) && bytes.iter().all(|b| inner(*b));
    if !fits {
        let rule = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
        let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
        let detail = names::regex_error(rule, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples);
        errors.push(Error::invalid(path, reason, &detail));
    }
    if reason.len() > 1024 {
        errors.push(Error::too_long(path, 1024));
    }
}
