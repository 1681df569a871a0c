//! Rules of ResourceClaims, templates of them, and DeviceClasses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    DRIVER, EXPRESSION_MAX, LABEL, LIST_MAX, PARAMETERS_MAX, TOLERATION, qualified, raw, set, slice_of,
};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, items, same_field, text};
use crate::validation::expressions;
use crate::validation::names;
use crate::validation::rules::{IMMUTABLE, invalid_each, invalid_json, not_supported};
use crate::validation::shape::{Row, Rule, check};

/// Names of requests, with those of their alternatives.
pub(super) type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Rules of a ResourceClaim.
pub fn claim(object: &Value, errors: &mut Errors) {
    claim_spec(&object["spec"], &Path::ROOT.child("spec"), errors);
}

/// Rules of a ResourceClaim that replaces another.
pub fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    same_spec("resource.ResourceClaimSpec", new, old, errors);
}

/// Rules of a ResourceClaimTemplate that replaces another.
pub fn template_update(new: &Value, old: &Value, errors: &mut Errors) {
    same_spec("resource.ResourceClaimTemplateSpec", new, old, errors);
}

/// The spec may not change.
fn same_spec(ty: &str, new: &Value, old: &Value, errors: &mut Errors) {
    if !same_field(new, old, "spec") {
        let shown = internal::json(ty, &new["spec"]);
        errors.push(invalid_json(&Path::ROOT.child("spec"), &shown, IMMUTABLE));
    }
}

/// Rules of a ResourceClaimTemplate.
pub fn template(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let meta = path.child("metadata");
    crate::validation::meta::template_metadata(&spec["metadata"], &meta, errors);
    claim_spec(&spec["spec"], &path.child("spec"), errors);
}

/// Rules of a DeviceClass.
pub fn class(object: &Value, errors: &mut Errors) {
    const ROWS: &[Row] = &[
        ("selectors", SELECTORS),
        (
            "config",
            Rule::By(|at, errors| {
                slice_of(list(at.value), LIST_MAX, at.path, errors, configuration);
            }),
        ),
    ];
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    check(spec, ROWS, &path, errors);
    if let Some(name) = get(spec, "extendedResourceName").and_then(Value::as_str) {
        let quota = format!("requests.{name}");
        let native = !name.contains('/') || name.contains("kubernetes.io/");
        if native || name.starts_with("requests.") || !names::qualified_name(&quota).is_empty() {
            let detail = "must be a valid extended resource name";
            errors.push(Error::invalid(&path.child("extendedResourceName"), name, detail));
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Names of a claim's requests.
pub(super) fn requests(devices: &Value) -> Requests<'_> {
    let of = |request| {
        let others = items(request, "firstAvailable").iter().map(|one| text(one, "name")).collect();
        (text(request, "name"), others)
    };
    items(devices, "requests").iter().map(of).collect()
}

/// The name of a request, or of it and an alternative.
pub(super) fn request_name(name: &str, known: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    let found = match parts[..] {
        [one] => known.contains_key(one),
        [one, other] => known.get(one).is_some_and(|others| others.contains(other)),
        _ => false,
    };
    if parts.len() <= 2 {
        for part in parts {
            invalid_each(errors, path, part, names::dns_label(part));
        }
    }
    if !found {
        let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        errors.push(Error::invalid(path, name, detail));
    }
}

/// `requests` of a constraint or configuration.
pub(super) fn request_names(object: &Value, known: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    set(
        items(object, "requests"),
        LIST_MAX,
        &path.child("requests"),
        errors,
        Value::clone,
        |one, path, errors| {
            request_name(one.as_str().unwrap_or_default(), known, path, errors);
        },
    );
}

fn claim_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let known = requests(devices);
    let name = |one: &Value| Value::from(text(one, "name"));
    set(items(devices, "requests"), LIST_MAX, &path.child("requests"), errors, name, request);
    slice_of(items(devices, "constraints"), 32, &path.child("constraints"), errors, |one, path, errors| {
        request_names(one, &known, path, errors);
        let field =
            ["matchAttribute", "distinctAttribute"].into_iter().find(|field| get(one, field).is_some());
        let Some(field) = field else {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(Error::required(path, detail));
            return;
        };
        let (name, path) = (text(one, field), path.child(field));
        qualified(name, &path, errors);
        if !name.contains('/') {
            let detail = "a fully qualified name must be a domain and a name separated by a slash";
            errors.push(Error::invalid(&path, name, detail));
        }
    });
    slice_of(items(devices, "config"), LIST_MAX, &path.child("config"), errors, |one, path, errors| {
        request_names(one, &known, path, errors);
        configuration(one, path, errors);
    });
}

/// What a driver is told.
pub(super) fn configuration(config: &Value, path: &Path<'_>, errors: &mut Errors) {
    const OPAQUE: &[Row] = &[
        ("driver", DRIVER),
        ("parameters", Rule::By(|at, errors| raw(at.value, PARAMETERS_MAX, at.path, errors))),
    ];
    if get(config, "opaque").is_none() {
        errors.push(Error::required(&path.child("opaque"), ""));
    }
    check(config, &[("opaque", Rule::In(OPAQUE))], path, errors);
}

const SELECTORS: Rule = Rule::By(|at, errors| {
    slice_of(list(at.value), LIST_MAX, at.path, errors, |one, path, errors| {
        let path = path.child("cel");
        match get(one, "cel") {
            None => errors.push(Error::required(&path, "")),
            Some(cel) if text(cel, "expression").len() > EXPRESSION_MAX => {
                errors.push(Error::too_long(&path.child("expression"), EXPRESSION_MAX));
            }
            Some(cel) => expressions::device(text(cel, "expression"), &path.child("expression"), errors),
        }
    });
});

const WANTED: &[Row] = &[
    ("deviceClassName", Rule::Needs(names::dns_subdomain)),
    ("selectors", SELECTORS),
    (
        "",
        Rule::By(|at, errors| {
            let count = int(at.value, "count").unwrap_or(0);
            match text(at.value, "allocationMode") {
                "All" if count != 0 => {
                    let detail = "must not be specified when allocationMode is 'All'";
                    errors.push(Error::invalid(&at.path.child("count"), count, detail));
                }
                "ExactCount" if count <= 0 => {
                    errors.push(Error::invalid(&at.path.child("count"), count, "must be greater than zero"));
                }
                "All" | "ExactCount" => {}
                other => {
                    errors.push(not_supported(
                        &at.path.child("allocationMode"),
                        other,
                        &["All", "ExactCount"],
                    ));
                }
            }
        }),
    ),
    ("tolerations", Rule::Each(TOLERATION)),
];

fn request(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    check(request, &[("name", LABEL)], path, errors);
    let (exactly, others) = (get(request, "exactly"), items(request, "firstAvailable"));
    match (exactly, others) {
        (None, []) => {
            errors.push(Error::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (Some(exactly), []) => check(exactly, WANTED, &path.child("exactly"), errors),
        (None, others) => {
            let name = |one: &Value| Value::from(text(one, "name"));
            set(others, 8, &path.child("firstAvailable"), errors, name, |one, path, errors| {
                check(one, &[("name", LABEL)], path, errors);
                check(one, WANTED, path, errors);
            });
        }
        _ => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(Error::invalid(path, Value::Null, detail));
        }
    }
}
