//! Rules of `resource.k8s.io`: claims for devices, classes and slices of them.
//! Expressions are only looked at for their length; whether they compile is not judged.

mod claims;
mod slices;
mod status;

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::pods;
use super::rules::{full, invalid_each, not_supported};
use super::shape::{At, Row, Rule};
use super::volumes::driver_name;
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, text};

pub(super) use claims::{claim, claim_update, class, template, template_update};
pub(super) use slices::{slice, slice_update};
pub(super) use status::claim_status;

const LIST_MAX: usize = 32;
const EXPRESSION_MAX: usize = 10 << 10;
const PARAMETERS_MAX: usize = 10 << 10;

const DRIVER: Rule = Rule::By(|at, errors| driver_name(at.value, at.path, errors));
/// A text that is a label even when it is empty.
const LABEL: Rule = Rule::By(|at, errors| {
    let name = at.value.as_str().unwrap_or_default();
    invalid_each(errors, at.path, name, names::dns_label(name));
});
const POOL: Rule = Rule::By(|at, errors| pool_name(at.value.as_str().unwrap_or_default(), at.path, errors));

/// Items of a list that is not too long, each with its key only once.
fn set<'a>(
    list: &'a [Value],
    max: usize,
    path: &Path<'_>,
    errors: &mut Errors,
    key: impl Fn(&'a Value) -> Value,
    mut item: impl FnMut(&'a Value, &Path<'_>, &mut Errors),
) {
    if list.len() > max {
        errors.push(Error::too_many(path, list.len(), max));
        return;
    }
    for (at, one) in list.iter().enumerate() {
        if full(errors) {
            break;
        }
        item(one, &path.index(at), errors);
    }
    let mut seen = BTreeSet::new();
    for (at, one) in list.iter().enumerate() {
        let key = key(one);
        if !seen.insert(key.to_string()) && !full(errors) {
            errors.push(Error::duplicate(&path.index(at), key));
        }
    }
}

/// As [`set`], for lists that may repeat themselves.
fn slice_of<'a>(
    list: &'a [Value],
    max: usize,
    path: &Path<'_>,
    errors: &mut Errors,
    mut item: impl FnMut(&'a Value, &Path<'_>, &mut Errors),
) {
    if list.len() > max {
        errors.push(Error::too_many(path, list.len(), max));
        return;
    }
    for (at, one) in list.iter().enumerate() {
        if full(errors) {
            break;
        }
        item(one, &path.index(at), errors);
    }
}

fn pool_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > 253 {
        errors.push(Error::too_long(path, 253));
    }
    for part in name.split('/').take(100) {
        invalid_each(errors, path, part, names::dns_subdomain(part));
    }
}

/// `domain/identifier`, or an identifier alone.
fn qualified(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let identifier = |id: &str, errors: &mut Errors| {
        if id.len() > 32 {
            errors.push(Error::too_long(path, 32));
        }
        invalid_each(errors, path, id, names::c_identifier(id));
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(Error::invalid(path, "", "the domain must not be empty"));
            } else {
                driver_name(&domain.into(), path, errors);
            }
            if id.is_empty() {
                errors.push(Error::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(id, errors);
            }
        }
        _ => {}
    }
}

/// A map with qualified or other names for keys; long ones are cut in paths.
fn map(
    object: &Value,
    field: &str,
    path: &Path<'_>,
    errors: &mut Errors,
    key: impl Fn(&str, &Path<'_>, &mut Errors),
    item: impl Fn(&Value, &Path<'_>, &mut Errors),
) {
    for (name, value) in entries(object, field) {
        if full(errors) {
            break;
        }
        key(name, path, errors);
        item(value, &path.key(&shortened(name, 96)), errors);
    }
}

fn shortened(name: &str, max: usize) -> String {
    if name.len() <= max || !name.is_ascii() {
        return name.to_owned();
    }
    let remaining = max - 3;
    format!("{}...{}", &name[..remaining.div_ceil(2)], &name[name.len() - remaining / 2..])
}

/// A JSON object in a field of any content.
fn raw(value: &Value, max: usize, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::Null => errors.push(Error::required(path, "")),
        value if value.to_string().len() > max => errors.push(Error::too_long(path, max)),
        Value::Object(_) => {}
        _ => errors.push(Error::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

const TOLERATION: &[Row] = &[("key", Rule::Is(names::qualified_name)), ("", Rule::By(toleration))];

fn toleration(at: &At<'_>, errors: &mut Errors) {
    let (value, value_path) = (text(at.value, "value"), at.path.child("value"));
    match text(at.value, "operator") {
        "Exists" if !value.is_empty() => {
            errors.push(Error::invalid(&value_path, value, "must be empty for operator `Exists`"));
        }
        "Exists" => {}
        "Equal" => invalid_each(errors, &value_path, value, names::label_value(value)),
        "" => errors.push(Error::required(&at.path.child("operator"), "")),
        other => errors.push(not_supported(&at.path.child("operator"), other, &["Equal", "Exists"])),
    }
    let effect = text(at.value, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(not_supported(&at.path.child("effect"), effect, &EFFECTS));
    }
}

/// Conditions by which a device is bound, or fails to be.
fn binding_conditions(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    use crate::tree::{items, texts};
    let lists = ["bindingConditions", "bindingFailureConditions"];
    for list in lists {
        slice_of(items(object, list), 4, &path.child(list), errors, |one, path, errors| {
            let name = one.as_str().unwrap_or_default();
            invalid_each(errors, path, name, names::qualified_name(name));
        });
    }
    let bound: Vec<&str> = texts(object, lists[0]).collect();
    for list in lists {
        let mut seen = BTreeSet::new();
        for (at, name) in texts(object, list).enumerate() {
            if full(errors) {
                break;
            }
            let list_path = path.child(list);
            let path = list_path.index(at);
            if !seen.insert(name) {
                errors.push(Error::duplicate(&path, name));
            }
            if list == lists[1] && bound.contains(&name) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(Error::invalid(&path, name, detail));
            }
        }
    }
    let empty = |list: &str| items(object, list).is_empty();
    for (list, other) in [(lists[0], lists[1]), (lists[1], lists[0])] {
        if empty(list) && !empty(other) {
            let shown = object.get(list).cloned().unwrap_or_default();
            let detail = format!("{list} are required to use {other}");
            errors.push(Error::invalid(&path.child(list), shown, &detail));
        }
    }
}

fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    pods::node_selector(selector, path, errors);
}
