//! Rules as data: rows of a field and what holds of it, in upstream's order, which is
//! the order of the causes in an answer. See `docs/decisions/validation.md`.
//!
//! A rule sees a decoded, defaulted tree. An absent field is null; rules of values say
//! nothing about it, unless they demand it.

use serde_json::Value;

use super::names::Messages;
use super::rules::{self, full, invalid_each};
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;

/// A field, and what holds of it. An empty name is the object itself.
pub type Row = (&'static str, Rule);

/// Where a rule of its own looks.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The field's value; null when absent.
    pub value: &'a Value,
    /// The object that has the field.
    pub parent: &'a Value,
    /// The field's path.
    pub path: &'a Path<'a>,
}

/// What holds of a field.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Zero or more.
    NonNegative,
    /// Within bounds: low, high and the sentence.
    Between(i64, i64, &'static str),
    /// A quantity of zero or more.
    NonNegativeQuantity,
    /// A text, list or map that is not empty; the sentence may be empty.
    Required(&'static str),
    /// A text that fits, if it is not empty.
    Is(fn(&str) -> Messages),
    /// A text that is not empty and fits.
    Needs(fn(&str) -> Messages),
    /// One of these, if it is there.
    OneOf(&'static [&'static str]),
    /// One of these; empty is none of them.
    Must(&'static [&'static str]),
    /// One of these; empty is missing.
    RequiredOneOf(&'static [&'static str]),
    /// A label selector, if it is there.
    Selector,
    /// An object, if it is there.
    In(&'static [Row]),
    /// A list's items.
    Each(&'static [Row]),
    /// What no other row says.
    By(fn(&At<'_>, &mut Errors)),
}

/// Holds an object to rows.
pub fn check(object: &Value, rows: &[Row], path: &Path<'_>, errors: &mut Errors) {
    for (field, rule) in rows {
        if field.is_empty() {
            rule.hold(&At { value: object, parent: object, path }, errors);
        } else {
            let value = object.get(field).unwrap_or(&Value::Null);
            rule.hold(&At { value, parent: object, path: &path.child(field) }, errors);
        }
    }
}

// === impl Rule ===

impl Rule {
    fn hold(&self, at: &At<'_>, errors: &mut Errors) {
        let (value, path) = (at.value, at.path);
        let text = value.as_str().unwrap_or_default();
        match self {
            Self::NonNegative => rules::non_negative(errors, path, value.as_i64().unwrap_or(0)),
            Self::Between(low, high, detail) => {
                if let Some(number) = value.as_i64().filter(|number| !(*low..=*high).contains(number)) {
                    errors.push(Error::invalid(path, number, detail));
                }
            }
            Self::NonNegativeQuantity => non_negative_quantity(value, path, errors),
            Self::Required(detail) => {
                if empty(value) {
                    errors.push(Error::required(path, detail));
                }
            }
            Self::Is(fits) if !text.is_empty() => invalid_each(errors, path, text, fits(text)),
            Self::Is(_) => {}
            Self::Needs(_) if text.is_empty() => errors.push(Error::required(path, "")),
            Self::Needs(fits) => invalid_each(errors, path, text, fits(text)),
            Self::OneOf(_) if value.is_null() => {}
            Self::RequiredOneOf(_) if text.is_empty() => errors.push(Error::required(path, "")),
            Self::OneOf(all) | Self::Must(all) | Self::RequiredOneOf(all) => {
                if !all.contains(&text) {
                    errors.push(rules::not_supported(path, text, all));
                }
            }
            Self::Selector => {
                let selector = Some(value).filter(|selector| selector.is_object());
                rules::label_selector(errors, selector, path);
            }
            Self::In(rows) => {
                if value.is_object() {
                    check(value, rows, path, errors);
                }
            }
            Self::Each(rows) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    if full(errors) {
                        break;
                    }
                    check(item, rows, &path.index(index), errors);
                }
            }
            Self::By(rule) => rule(at, errors),
        }
    }
}

/// A quantity must not be negative.
pub fn non_negative_quantity(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = value.as_str().and_then(|text| Quantity::parse(text).ok());
    if quantity.is_some_and(|quantity| quantity.sign() < 0) {
        errors.push(Error::invalid(path, value.clone(), rules::NEGATIVE));
    }
}

/// Whether a text, list or map has nothing in it, or is absent.
pub fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::names;
    use serde_json::json;

    #[test]
    fn rows_speak_in_their_order() {
        const ITEM: &[Row] =
            &[("kind", Rule::Needs(names::path_segment)), ("mode", Rule::OneOf(&["B", "A"]))];
        const ROWS: &[Row] = &[
            ("count", Rule::NonNegative),
            ("items", Rule::Each(ITEM)),
            ("type", Rule::RequiredOneOf(&["X"])),
            ("none", Rule::In(ITEM)),
            ("", Rule::By(|at, errors| errors.push(Error::forbidden(at.path, "always")))),
        ];
        let object =
            json!({"count": -1, "items": [{"kind": "a/b"}, {"kind": "a", "mode": ""}], "none": null});
        let mut errors = Errors::new();
        check(&object, ROWS, &Path::ROOT.child("spec"), &mut errors);
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "spec.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.items[0].kind: Invalid value: \"a/b\": may not contain '/'",
                "spec.items[1].mode: Unsupported value: \"\": supported values: \"B\", \"A\"",
                "spec.type: Required value",
                "spec: Forbidden: always",
            ]
        );
    }
}
