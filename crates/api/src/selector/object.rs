//! `metav1.LabelSelector`: reading and validating the object form.

use serde_json::Value;

use super::{Error, Operator, Requirement};
use crate::field::{self, Errors, Path};
use crate::validation::names;

pub(super) fn requirements(selector: &Value) -> Result<Vec<Requirement>, Error> {
    let mut requirements = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        requirements.push(Requirement::equals(key, value.as_str().unwrap_or_default()).checked()?);
    }
    for expression in expressions(selector) {
        let word = text(expression, "operator");
        let operator = operator(word)
            .ok_or_else(|| Error(format!("{word:?} is not a valid label selector operator")))?;
        let mut values: Vec<Box<str>> = values(expression).map(Into::into).collect();
        values.sort();
        let requirement =
            Requirement { key: text(expression, "key").into(), operator, values: values.into() };
        requirements.push(requirement.checked()?);
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(requirements)
}

fn expressions(selector: &Value) -> impl Iterator<Item = &Value> {
    selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn values(expression: &Value) -> impl Iterator<Item = &str> {
    let values = expression.get("values").and_then(Value::as_array);
    values.into_iter().flatten().map(|value| value.as_str().unwrap_or_default())
}

fn operator(word: &str) -> Option<Operator> {
    Some(match word {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    })
}

/// Validates a `metav1.LabelSelector` at `path`, as upstream's
/// `ValidateLabelSelector` does.
pub fn validate(selector: &Value, path: &Path<'_>) -> Errors {
    let mut errors = Errors::new();
    let labels = path.child("matchLabels");
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        errors.extend(
            names::qualified_name(key).iter().map(|m| field::Error::invalid(&labels, key.as_str(), m)),
        );
        errors.extend(names::label_value(value).iter().map(|m| field::Error::invalid(&labels, value, m)));
    }
    let list = path.child("matchExpressions");
    for (at, expression) in expressions(selector).enumerate() {
        validate_expression(expression, &list.index(at), &mut errors);
    }
    errors
}

fn validate_expression(expression: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values_path = path.child("values");
    let count = values(expression).count();
    let word = text(expression, "operator");
    match operator(word) {
        Some(Operator::In | Operator::NotIn) if count == 0 => {
            let rule = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(field::Error::required(&values_path, rule));
        }
        Some(Operator::Exists | Operator::DoesNotExist) if count > 0 => {
            let rule = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(field::Error::forbidden(&values_path, rule));
        }
        Some(_) => {}
        None => {
            let rule = "not a valid selector operator";
            errors.push(field::Error::invalid(&path.child("operator"), word, rule));
        }
    }
    let key = text(expression, "key");
    let key_path = path.child("key");
    errors.extend(names::qualified_name(key).iter().map(|m| field::Error::invalid(&key_path, key, m)));
    for (at, value) in values(expression).enumerate() {
        let value_path = values_path.index(at);
        errors.extend(names::label_value(value).iter().map(|m| field::Error::invalid(&value_path, value, m)));
    }
}
