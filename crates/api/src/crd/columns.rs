//! Printer columns of custom kinds: what `kubectl get` shows, by JSONPath.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::columns::human_duration;
use crate::jsonpath::Path;
use crate::tree::{int, text};

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Heading.
    pub name: Box<str>,
    /// `integer`, `number`, `string`, `boolean`, `date`.
    pub ty: Box<str>,
    /// Format; may be empty.
    pub format: Box<str>,
    /// A sentence about it.
    pub description: Box<str>,
    /// 0 is always shown, higher only with `-o wide`.
    pub priority: i64,
    path: Path,
}

impl Column {
    /// The definition as it stands in a Table.
    pub fn to_value(&self) -> Value {
        json!({"name": &*self.name, "type": &*self.ty, "format": &*self.format,
            "description": &*self.description, "priority": self.priority})
    }
}

/// The columns of a version, up to the first whose path cannot be read; a creation time
/// when it has none.
pub(super) fn read(columns: &[Value]) -> Box<[Column]> {
    if columns.is_empty() {
        let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "CreationTimestamp is a timestamp representing the server time when this object was \
            created. It is not guaranteed to be set in happens-before order across separate operations. \
            Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by \
            the system. Read-only. Null for lists. More info: \
            https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"});
        return column(&age).into_iter().collect();
    }
    columns.iter().map_while(column).collect()
}

fn column(column: &Value) -> Option<Column> {
    let path = text(column, "jsonPath");
    let description = match text(column, "description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        own => own.to_owned(),
    };
    Some(Column {
        name: text(column, "name").into(),
        ty: text(column, "type").into(),
        format: text(column, "format").into(),
        description: description.into(),
        priority: int(column, "priority").unwrap_or(0),
        path: Path::parse(path).ok()?,
    })
}

/// The cells of an object, the name first.
pub fn cells(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    std::iter::once(name).chain(columns.iter().map(|column| cell(column, object, now))).collect()
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let Some(value) = column.path.find(object).first().copied() else { return Value::Null };
    match (&*column.ty, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => "<nil>".into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().map_or(Value::Null, |float| (float as i64).into()),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(then) => human_duration(now.as_nanosecond() - then.as_nanosecond()).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
