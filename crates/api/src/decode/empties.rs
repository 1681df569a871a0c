//! Empty lists and maps of a body, which decoding drops or a store makes null of. Upstream
//! forgets them only when it encodes, so that what it says of a refused object shows them.

use serde_json::{Map, Value};

use super::path::Step;

/// Empty lists and maps that are remembered of a body.
const MAX_EMPTIES: usize = 100;

/// Where a body had empty lists and maps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Empties(Vec<(String, Kind)>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    List,
    Map,
}

impl Empties {
    /// Remembers a field's value, if it is an empty list or map.
    pub(super) fn note(&mut self, step: &Step<'_>, value: Option<&Value>) {
        let kind = match value {
            Some(Value::Array(items)) if items.is_empty() => Kind::List,
            Some(Value::Object(entries)) if entries.is_empty() => Kind::Map,
            _ => return,
        };
        if self.0.len() < MAX_EMPTIES {
            self.0.push((step.pointer(), kind));
        }
    }

    /// The object with those that it lacks by now, if there are any. Their parents must
    /// be in their places still.
    pub fn put_back(&self, object: &Value) -> Option<Value> {
        let mut restored = None;
        for (pointer, kind) in &self.0 {
            if object.pointer(pointer).is_some_and(|value| !value.is_null()) {
                continue;
            }
            let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
            let object = restored.get_or_insert_with(|| object.clone());
            if let Some(Value::Object(fields)) = object.pointer_mut(parent) {
                let empty = match kind {
                    Kind::List => Value::Array(Vec::new()),
                    Kind::Map => Value::Object(Map::new()),
                };
                fields.insert(field.to_owned(), empty);
            }
        }
        restored
    }
}
