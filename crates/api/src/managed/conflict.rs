//! Conflicts of an apply with other managers, and how they are told.

use serde_json::json;

use super::entries::Entry;
use super::path;
use super::set::{self, Set};
use crate::status::Status;

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conflict {
    /// The manager as people know it: `"kubectl" using apps/v1 at 2026-01-01T00:00:00Z`.
    pub manager: String,
    /// Its elements, for looking it up in a set.
    pub elements: Vec<String>,
}

/// Adds a conflict for each of a manager's fields.
pub(super) fn of(entry: &Entry, fields: &Set, out: &mut Vec<Conflict>) {
    let manager = manager(entry);
    set::each(fields, &mut |path| {
        let elements = path.iter().map(|element| (*element).to_owned()).collect();
        out.push(Conflict { manager: manager.clone(), elements });
    });
}

/// How messages name a manager. They know no times.
fn manager(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if !entry.apply {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}

/// 409 with a cause for each field.
pub(super) fn status(conflicts: &[Conflict]) -> Status {
    let path = |conflict: &Conflict| {
        let mut text = String::new();
        conflict.elements.iter().for_each(|element| path::show(&mut text, element));
        text
    };
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, path(one)),
        many => {
            let mut lines: Vec<String> = Vec::new();
            for (at, conflict) in many.iter().enumerate() {
                if at == 0 || many[at - 1].manager != conflict.manager {
                    lines.push(format!("conflicts with {}:", conflict.manager));
                }
                lines.push(format!("- {}", path(conflict)));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let causes: Vec<_> = conflicts
        .iter()
        .map(|conflict| {
            json!({"reason": "FieldManagerConflict", "field": path(conflict),
                "message": format!("conflict with {}", conflict.manager)})
        })
        .collect();
    let mut status = Status::other(409, "Conflict", message);
    status.details = json!({ "causes": causes });
    status
}
