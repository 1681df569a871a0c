//! What `kubectl get` shows of an object: column definitions and cells, as upstream's
//! internal printers make them. Pure: ages are told from a given now.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Kind;

/// One column of a Table (`metav1.TableColumnDefinition`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub ty: &'static str,
    /// `name` for the column that names the object, else empty.
    pub format: &'static str,
    /// A sentence about the column.
    pub description: &'static str,
    /// 0 is always shown, higher only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// The definition as it stands in a Table.
    pub fn to_value(&self) -> Value {
        json!({"name": self.name, "type": self.ty, "format": self.format,
            "description": self.description, "priority": self.priority})
    }
}

/// The columns of a kind's version.
pub fn table(_kind: &Kind, _version: usize) -> &'static [Column] {
    &[
        Column {
            name: "Name",
            ty: "string",
            format: "name",
            description: "Name of the object.",
            priority: 0,
        },
        Column {
            name: "Created At",
            ty: "date",
            format: "",
            description: "When the object was created.",
            priority: 0,
        },
    ]
}

/// The cells of an object's row, one a column. `object` is of the kind's preferred form.
pub fn cells(_kind: &Kind, object: &Value, _now: Timestamp) -> Vec<Value> {
    let meta = &object["metadata"];
    vec![meta["name"].clone(), meta["creationTimestamp"].clone()]
}
