//! What `kubectl get` shows of an object: column definitions and cells, as upstream's
//! internal printers make them. Pure: ages are told from a given now.
//!
//! `columns.txt` holds the headings; kinds that it does not list have a name and a
//! creation time. Cells are made kind by kind in the files beside this one.

mod core;
mod format;
mod network;
mod others;
mod pods;
mod workloads;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Kind;
use crate::tree::text_at;

pub use format::human_duration;

/// One column of a Table (`metav1.TableColumnDefinition`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub ty: &'static str,
    /// `name` for the column that names the object, else empty.
    pub format: &'static str,
    /// A sentence about the column; may be empty.
    pub description: &'static str,
    /// 0 is always shown, higher only with `-o wide`.
    pub priority: i32,
}

/// Columns of a kind that has none of its own, custom kinds among them.
const PLAIN: [Column; 2] = [
    Column { name: "Name", ty: "string", format: "name", description: "", priority: 0 },
    Column { name: "Created At", ty: "date", format: "", description: "", priority: 0 },
];

impl Column {
    /// The definition as it stands in a Table.
    pub fn to_value(&self) -> Value {
        json!({"name": self.name, "type": self.ty, "format": self.format,
            "description": self.description, "priority": self.priority})
    }
}

/// The definitions of a version's columns as they stand in a Table.
pub fn definitions(kind: &Kind, version: usize) -> Vec<Value> {
    match kind.facts(version) {
        Some(facts) => {
            let name = Column { description: NAME, ..PLAIN[0] };
            std::iter::once(name.to_value())
                .chain(facts.columns.iter().map(crate::crd::Column::to_value))
                .collect()
        }
        None => table(kind).iter().map(Column::to_value).collect(),
    }
}

/// What upstream's Tables of custom kinds say of a name.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is primarily \
    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

/// The columns of a built-in kind; every version has the same.
fn table(kind: &Kind) -> &'static [Column] {
    static TABLES: LazyLock<HashMap<&str, Vec<Column>>> = LazyLock::new(|| {
        let lines = include_str!("columns.txt").lines().filter(|line| !line.starts_with('#'));
        let table = |line: &'static str| {
            let (resource, columns) = line.split_once(' ')?;
            Some((resource, columns.split('|').map(column).collect()))
        };
        lines.filter_map(table).collect()
    });
    match TABLES.get(&*kind.resource) {
        Some(columns) if !kind.custom => columns,
        _ => &PLAIN,
    }
}

fn column(text: &'static str) -> Column {
    let wide = text.strip_suffix('+');
    let text = wide.unwrap_or(text);
    // (A heading such as `Port(s)` has parentheses of its own.)
    let (text, format) = text.strip_suffix("(name)").map_or((text, ""), |name| (name, "name"));
    let (name, ty) = text.split_once(':').unwrap_or((text, "string"));
    Column { name, ty, format, description: "", priority: wide.is_some().into() }
}

/// The columns of a built-in kind's Scale.
pub fn scale_definitions() -> Vec<Value> {
    ["Name(name)", "Desired:integer", "Available:integer", "Age"].map(|text| column(text).to_value()).into()
}

/// The cells of a Scale.
pub fn scale_cells(scale: &Value, now: Timestamp) -> Vec<Value> {
    let row = Row { object: scale, now };
    let count = |place: &str| scale[place]["replicas"].as_i64().unwrap_or(0).into();
    vec![row.name(), count("spec"), count("status"), row.age()]
}

/// The cells of an object's row, one a column of version `version`. `object` may be of
/// any version (and Events of either group) of a built-in kind: the stored form is what
/// is shown; of a custom kind it is of that version.
pub fn cells(kind: &Kind, version: usize, object: &Value, now: Timestamp) -> Vec<Value> {
    if let Some(facts) = kind.facts(version) {
        return crate::crd::cells(&facts.columns, object, now);
    }
    let object = stored(kind, object);
    let row = Row { object: &object, now };
    let cells = if kind.custom {
        None
    } else {
        match &*kind.group {
            "" if &*kind.kind == "Pod" => Some(pods::pod(&row)),
            "" | "events.k8s.io" => core::cells(&kind.kind, &row),
            "apps" | "batch" | "autoscaling" | "policy" => workloads::cells(&kind.kind, &row),
            "networking.k8s.io" | "discovery.k8s.io" => network::cells(&kind.kind, &row),
            _ => others::cells(&kind.kind, &row),
        }
    };
    cells.unwrap_or_else(|| vec![row.name(), object["metadata"]["creationTimestamp"].clone()])
}

fn stored<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    let version = kind.versions.get(kind.storage).map_or("", |version| &*version.name);
    let version = crate::kind::api_version(&kind.stored_group, version);
    let own = text_at(object, &["apiVersion"]);
    if kind.custom || own.is_empty() || own == version {
        return Cow::Borrowed(object);
    }
    let converted = crate::convert::convert(&kind.kind, &version, object.clone());
    converted.map_or(Cow::Borrowed(object), Cow::Owned)
}

/// An object and the time at which it is shown.
struct Row<'a> {
    object: &'a Value,
    now: Timestamp,
}

impl Row<'_> {
    fn name(&self) -> Value {
        text_at(self.object, &["metadata", "name"]).into()
    }

    fn age(&self) -> Value {
        self.since(&["metadata", "creationTimestamp"]).into()
    }

    /// Time since the timestamp at a path.
    fn since(&self, path: &[&str]) -> String {
        format::since(text_at(self.object, path), self.now)
    }
}

#[cfg(test)]
mod tests;
