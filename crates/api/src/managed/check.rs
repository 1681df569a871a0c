//! Whether an applied configuration fits the schema: every field declared, every value
//! of its type, no item of an associative list without its keys or twice. Findings are
//! worded as structured-merge-diff words them, Go's way of printing values included.

use std::collections::HashSet;

use serde_json::Value;

use super::path;
use super::shape::{Form, Place};
use crate::schema::{Schema, Ty, TypeId};

/// Findings that are worked out; more say nothing new.
const MAX_FINDINGS: usize = 100;

/// What is wrong with an applied object of the type `root`; empty when nothing is.
pub(super) fn findings(schema: &Schema, root: TypeId, object: &Value, duplicates: bool) -> Vec<String> {
    let ty = Ty::Object(root);
    let mut checker = Checker { schema, duplicates, path: Vec::new(), findings: Vec::new() };
    checker.value(Place::root(&ty, schema, root), object);
    checker.findings
}

/// One finding, or a list of them below a heading.
pub(super) fn told(findings: &[String]) -> String {
    match findings {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

struct Checker<'s> {
    schema: &'s Schema,
    /// Whether items may come twice.
    duplicates: bool,
    path: Vec<String>,
    findings: Vec<String>,
}

impl Checker<'_> {
    fn found(&mut self, what: &str) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        let mut text = String::new();
        self.path.iter().for_each(|element| path::show(&mut text, element));
        text.push_str(if text.is_empty() { "" } else { ": " });
        self.findings.push(text + what);
    }

    fn within(&mut self, element: String, place: Place<'_>, value: &Value) {
        self.path.push(element);
        self.value(place, value);
        self.path.pop();
    }

    fn value(&mut self, place: Place<'_>, value: &Value) {
        if value.is_null() {
            return;
        }
        match place.ty {
            Ty::Object(_) | Ty::Map(_) => self.map(place, value),
            Ty::List(item) => self.list(place, item, value),
            scalar => {
                if let Some(wrong) = misfit(scalar, place.deduce, value) {
                    self.found(&wrong);
                }
            }
        }
    }

    fn map(&mut self, place: Place<'_>, value: &Value) {
        let Value::Object(map) = value else {
            return self.found(&format!("expected map, got &{{{}}}", plain(value)));
        };
        let Some(members) = place.members(self.schema) else { return };
        for (key, value) in map {
            if members.allows(key) {
                self.within(path::field(key), members.place(key), value);
            } else {
                self.path.push(path::field(key));
                self.found("field not declared in schema");
                self.path.pop();
                return;
            }
        }
    }

    fn list(&mut self, place: Place<'_>, item: &Ty, value: &Value) {
        let Value::Array(items) = value else {
            return self.found(&format!("expected list, got &{{{}}}", plain(value)));
        };
        let Form::List(list) = place.form(self.schema, Some(value)) else {
            let inner = Place { ty: item, field: None, ..place };
            for (at, value) in items.iter().enumerate() {
                self.within(format!("i:{at}"), inner, value);
            }
            return;
        };
        let mut seen = HashSet::new();
        for (at, value) in items.iter().enumerate() {
            let element = match path::item(self.schema, &list, value) {
                Ok(element) => element,
                Err(why) => return self.found(&format!("element {at}: {why}")),
            };
            if !self.duplicates && !seen.insert(element.clone()) {
                let mut text = String::from("duplicate entries for key ");
                path::show(&mut text, &element);
                self.found(&text);
            }
            self.within(element, list.place, value);
        }
    }
}

/// Why a value is none of a scalar's type.
fn misfit(ty: &Ty, deduce: bool, value: &Value) -> Option<String> {
    match ty {
        Ty::String | Ty::Bytes if !value.is_string() => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", syntax(value)))
        }
        Ty::Int32 | Ty::Int64 | Ty::Float if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", type_name(value)))
        }
        Ty::Bool if !value.is_boolean() => Some(format!("expected boolean, got &{{{}}}", plain(value))),
        Ty::Quantity | Ty::IntOrString | Ty::Time | Ty::MicroTime
            if !deduce && (value.is_object() || value.is_array()) =>
        {
            Some(format!("expected any scalar, got &{{{}}}", plain(value)))
        }
        _ => None,
    }
}

/// Go's `%v`.
fn plain(value: &Value) -> String {
    crate::patch::go_text(value)
}

/// Go's `%T` of a decoded value.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%#v` of a decoded value, to a depth that a person still reads.
fn syntax(value: &Value) -> String {
    fn write(out: &mut String, value: &Value, depth: usize) {
        let typed = matches!(value, Value::Array(_) | Value::Object(_));
        if typed {
            out.push_str(type_name(value));
        }
        match value {
            Value::Null => out.push_str("interface {}(nil)"),
            Value::Array(items) => {
                out.push('{');
                for (at, item) in items.iter().enumerate().take_while(|_| depth < 8) {
                    out.push_str(if at > 0 { ", " } else { "" });
                    write(out, item, depth + 1);
                }
                out.push('}');
            }
            Value::Object(map) => {
                out.push('{');
                for (at, (key, value)) in map.iter().enumerate().take_while(|_| depth < 8) {
                    out.push_str(if at > 0 { ", " } else { "" });
                    out.push_str(&format!("{key:?}:"));
                    write(out, value, depth + 1);
                }
                out.push('}');
            }
            Value::String(text) => out.push_str(&format!("{text:?}")),
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}
