//! Rules of admission policies and their bindings.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expressions::{self, Seen};
use super::{FAILURE, MATCH, REINVOCATION, match_conditions, rule, same_conditions};
use crate::cel::Type;
use crate::field::{Error, Errors, Path};
use crate::tree::{get, items, text, texts};
use crate::validation::names;
use crate::validation::rules::{conditions, full, invalid_each, not_supported};
use crate::validation::shape::{Row, Rule, check};

const ANNOTATIONS_MAX: usize = 20;
const EXPRESSION_MAX: usize = 5 << 10;
const MUTATING: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// Rules of a new ValidatingAdmissionPolicy.
pub fn validating(object: &Value, errors: &mut Errors) {
    validating_spec(object, false, errors);
}

/// Rules of a ValidatingAdmissionPolicy that replaces another.
pub fn validating_update(new: &Value, old: &Value, errors: &mut Errors) {
    validating_spec(new, same_conditions(&new["spec"], &old["spec"]), errors);
}

fn head(spec: &Value, mutating: bool, same_conditions: bool, path: &Path<'_>, errors: &mut Errors) {
    const POLICY: &[Row] = &[(
        "failurePolicy",
        Rule::By(|at, errors| match at.value.as_str() {
            None => errors.push(Error::required(at.path, "")),
            Some(policy) if !FAILURE.contains(&policy) => {
                errors.push(not_supported(at.path, policy, FAILURE))
            }
            Some(_) => {}
        }),
    )];
    check(spec, POLICY, path, errors);
    if let Some(kind) = get(spec, "paramKind") {
        param_kind(kind, &path.child("paramKind"), errors);
    }
    let own = path.child("matchConstraints");
    match get(spec, "matchConstraints") {
        None => errors.push(Error::required(&own, "")),
        Some(constraints) => {
            match_resources(constraints, &own, errors);
            if items(constraints, "resourceRules").is_empty() {
                errors.push(Error::required(&own.child("resourceRules"), ""));
            }
            if mutating {
                mutating_operations(constraints, &own, errors);
            }
        }
    }
    if !same_conditions {
        match_conditions(spec, path, errors);
    }
    for (at, variable) in items(spec, "variables").iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("variables");
        let path = list.index(at);
        let name = text(variable, "name");
        if name.trim().is_empty() {
            errors.push(Error::required(&path.child("name"), "name is not specified"));
        } else if !identifier(name) {
            errors.push(Error::invalid(&path.child("name"), name, "must be a valid CEL identifier"));
        }
        let (expression, own) = (text(variable, "expression"), path.child("expression"));
        if expression.trim().is_empty() {
            errors.push(Error::required(&own, "expression is not specified"));
        } else {
            expressions::admission(expression, &known(spec), &[], &own, errors);
        }
    }
}

/// What a policy's expressions may refer to.
fn known(spec: &Value) -> Seen {
    Seen { params: get(spec, "paramKind").is_some(), ..Seen::POLICY }
}

fn identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(word) && !RESERVED.contains(&name)
}

fn validating_spec(object: &Value, same_conditions: bool, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    head(spec, false, same_conditions, &path, errors);
    let (validations, annotations) = (items(spec, "validations"), items(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        for list in ["validations", "auditAnnotations"] {
            errors.push(Error::required(&path.child(list), detail));
        }
    }
    for (at, one) in validations.iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("validations");
        validation(one, &known(spec), &list.index(at), errors);
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(Error::invalid(&path, spec["auditAnnotations"].clone(), &detail));
    }
    let name = text(&object["metadata"], "name");
    let mut seen = BTreeSet::new();
    for (at, annotation) in annotations.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let key = text(annotation, "key");
        if name.is_empty() {
            errors.push(Error::invalid(&path.child("key"), key, "requires metadata.name be non-empty"));
        } else {
            let whole = format!("{name}/{key}");
            invalid_each(errors, &path.child("key"), whole.as_str(), names::qualified_name(&whole));
        }
        let expression = text(annotation, "valueExpression").trim();
        let own = path.child("valueExpression");
        if expression.is_empty() {
            errors.push(Error::required(&own, "valueExpression is not specified"));
        } else if expression.len() > EXPRESSION_MAX {
            errors.push(Error::required(&own, &format!("must not exceed {EXPRESSION_MAX} bytes in length")));
        } else {
            let whole = text(annotation, "valueExpression");
            let types = [Type::String, Type::Null];
            expressions::shown(expression, whole, &known(spec), &types, &own, errors);
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(&path.child("key"), key));
        }
    }
}

fn validation(validation: &Value, known: &Seen, path: &Path<'_>, errors: &mut Errors) {
    const REASON: &[Row] = &[("reason", Rule::OneOf(&["Forbidden", "Invalid", "RequestEntityTooLarge"]))];
    let (expression, own) = (text(validation, "expression"), path.child("expression"));
    if expression.trim().is_empty() {
        errors.push(Error::required(&own, "expression is not specified"));
    } else {
        expressions::admission(expression, known, &[Type::Bool], &own, errors);
    }
    for field in ["messageExpression", "message"] {
        let value = text(validation, field);
        if !value.is_empty() && value.trim().is_empty() {
            errors.push(Error::invalid(&path.child(field), value, "must be non-empty if specified"));
        } else if field == "messageExpression" && !value.is_empty() {
            let known = Seen { authorizer: false, ..*known };
            expressions::admission(value, &known, &[Type::String], &path.child(field), errors);
        } else if field == "message" && value.trim().contains(['\n', '\r']) {
            errors.push(Error::invalid(&path.child(field), value, "must not contain line breaks"));
        }
    }
    check(validation, REASON, path, errors);
}

fn param_kind(kind: &Value, path: &Path<'_>, errors: &mut Errors) {
    let version = text(kind, "apiVersion");
    let own = path.child("apiVersion");
    let parts: Vec<&str> = version.split('/').collect();
    let (group, version_part) = match parts[..] {
        [""] | ["", ""] => ("", ""),
        [version] => ("", version),
        [group, version] => (group, version),
        _ => ("", "-"),
    };
    if version.is_empty() {
        errors.push(Error::required(&own, ""));
    } else if parts.len() > 2 {
        errors.push(Error::invalid(&own, version, &format!("unexpected GroupVersion string: {version}")));
    } else {
        let wrong = names::dns_subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            errors.push(Error::invalid(&own, group, &wrong.join(",")));
        }
        let wrong = names::dns1035_label(version_part);
        if version_part.is_empty() {
            errors.push(Error::invalid(&own, version, "version must be specified"));
        } else if !wrong.is_empty() {
            errors.push(Error::invalid(&own, version_part, &wrong.join(",")));
        }
    }
    let name = text(kind, "kind");
    let wrong = names::dns1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.push(Error::required(&path.child("kind"), ""));
    } else if !wrong.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(Error::invalid(&path.child("kind"), name, &detail));
    }
}

fn match_resources(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    const GIVEN: Rule = Rule::By(|at, errors| {
        if at.value.is_null() {
            errors.push(Error::required(at.path, ""));
        }
    });
    const NAMED: &[Row] = &[("", Rule::By(|at, errors| named_rule(at.value, at.path, errors)))];
    const ROWS: &[Row] = &[
        ("matchPolicy", GIVEN),
        ("matchPolicy", Rule::OneOf(MATCH)),
        ("namespaceSelector", GIVEN),
        ("namespaceSelector", Rule::Selector),
        ("objectSelector", GIVEN),
        ("objectSelector", Rule::Selector),
        ("resourceRules", Rule::Each(NAMED)),
        ("excludeResourceRules", Rule::Each(NAMED)),
    ];
    check(resources, ROWS, path, errors);
}

fn named_rule(named: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, name) in texts(named, "resourceNames").enumerate() {
        if full(errors) {
            break;
        }
        let list = path.child("resourceNames");
        let path = list.index(at);
        invalid_each(errors, &path, name, names::path_segment(name));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path, name));
        }
    }
    rule(named, path, errors);
}

fn mutating_operations(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("resourceRules");
    let operations = items(resources, "resourceRules").iter().flat_map(|rule| texts(rule, "operations"));
    for operation in operations.filter(|operation| !MUTATING.contains(operation)) {
        if full(errors) {
            break;
        }
        errors.push(not_supported(&path.child("operations"), operation, &MUTATING));
    }
}

/// Rules of a ValidatingAdmissionPolicy's status that replaces another.
pub fn validating_status(new: &Value, _: &Value, errors: &mut Errors) {
    const WARNING: &[Row] = &[
        ("warning", Rule::Required("")),
        (
            "fieldRef",
            Rule::By(|at, errors| {
                if at.value.as_str().unwrap_or_default().trim().is_empty() {
                    errors.push(Error::required(at.path, ""));
                }
            }),
        ),
    ];
    const CHECKING: &[Row] = &[("expressionWarnings", Rule::Each(WARNING))];
    let path = Path::ROOT.child("status");
    check(&new["status"], &[("typeChecking", Rule::In(CHECKING))], &path, errors);
    conditions(&new["status"], &path.child("conditions"), errors);
}

/// Rules of a ValidatingAdmissionPolicyBinding.
pub fn binding(object: &Value, errors: &mut Errors) {
    bound(object, errors);
    let spec = Path::ROOT.child("spec");
    let path = spec.child("validationActions");
    let mut seen = BTreeSet::new();
    for (at, action) in texts(&object["spec"], "validationActions").enumerate() {
        if full(errors) {
            break;
        }
        if !["Audit", "Deny", "Warn"].contains(&action) {
            errors.push(not_supported(&path.index(at), action, &["Audit", "Deny", "Warn"]));
        }
        if !seen.insert(action) {
            errors.push(Error::duplicate(&path.index(at), action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(Error::invalid(&path, object["spec"]["validationActions"].clone(), detail));
    }
    if seen.is_empty() {
        errors.push(Error::required(&path, "at least one validation action is required"));
    }
}

/// Rules of a MutatingAdmissionPolicyBinding.
pub fn mutating_binding(object: &Value, errors: &mut Errors) {
    bound(object, errors);
    let path = Path::ROOT.child("spec");
    mutating_operations(&object["spec"]["matchResources"], &path.child("matchResources"), errors);
}

fn bound(object: &Value, errors: &mut Errors) {
    const ROWS: &[Row] = &[
        ("policyName", Rule::Needs(names::dns_subdomain)),
        ("paramRef", Rule::By(|at, errors| param_ref(at.value, at.path, errors))),
        (
            "matchResources",
            Rule::By(|at, errors| {
                if at.value.is_object() {
                    match_resources(at.value, at.path, errors);
                }
            }),
        ),
    ];
    check(&object["spec"], ROWS, &Path::ROOT.child("spec"), errors);
}

fn param_ref(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    const BOTH: &str = "name and selector are mutually exclusive";
    if !reference.is_object() {
        return;
    }
    let (name, selector) = (text(reference, "name"), get(reference, "selector"));
    if !name.is_empty() {
        invalid_each(errors, &path.child("name"), name, names::path_segment(name));
        if selector.is_some() {
            errors.push(Error::forbidden(&path.child("name"), BOTH));
        }
    }
    if selector.is_some() {
        check(reference, &[("selector", Rule::Selector)], path, errors);
        if !name.is_empty() {
            errors.push(Error::forbidden(&path.child("selector"), BOTH));
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.push(Error::required(path, "one of name or selector must be specified"));
    }
    check(reference, &[("parameterNotFoundAction", Rule::RequiredOneOf(&["Deny", "Allow"]))], path, errors);
}

/// Rules of a new MutatingAdmissionPolicy.
pub fn mutating(object: &Value, errors: &mut Errors) {
    mutating_spec(object, false, errors);
}

/// Rules of a MutatingAdmissionPolicy that replaces another.
pub fn mutating_update(new: &Value, old: &Value, errors: &mut Errors) {
    mutating_spec(new, same_conditions(&new["spec"], &old["spec"]), errors);
}

fn mutating_spec(object: &Value, same_conditions: bool, errors: &mut Errors) {
    const SOME: Rule = Rule::Required("mutations must contain at least one item");
    const REST: &[Row] = &[("reinvocationPolicy", Rule::RequiredOneOf(REINVOCATION))];
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    head(spec, true, same_conditions, &path, errors);
    check(spec, &[("mutations", SOME)], &path, errors);
    let list = path.child("mutations");
    for (at, one) in items(spec, "mutations").iter().enumerate() {
        if full(errors) {
            break;
        }
        mutation(one, &known(spec), &list.index(at), errors);
    }
    check(spec, REST, &path, errors);
}

fn mutation(mutation: &Value, known: &Seen, path: &Path<'_>, errors: &mut Errors) {
    let kinds = [("JSONPatch", "jsonPatch"), ("ApplyConfiguration", "applyConfiguration")];
    let ty = text(mutation, "patchType");
    if ty.is_empty() {
        errors.push(Error::required(&path.child("patchType"), ""));
        return;
    }
    let Some((made, own)) = kinds.iter().find(|(name, _)| *name == ty) else {
        errors.push(not_supported(&path.child("patchType"), ty, &["ApplyConfiguration", "JSONPatch"]));
        return;
    };
    let own_path = path.child(own);
    match get(mutation, own) {
        None => {
            let detail = format!("must be specified when patchType is {ty}");
            errors.push(Error::required(&own_path, &detail));
        }
        Some(patch) if text(patch, "expression").trim().is_empty() => {
            errors.push(Error::required(&own_path.child("expression"), ""));
        }
        Some(patch) => {
            let expression = text(patch, "expression").trim();
            let known = Seen { patch: Some(*made), ..*known };
            expressions::admission(expression, &known, &[], &own_path.child("expression"), errors);
        }
    }
    let others = kinds.iter().filter(|(name, field)| *name != ty && get(mutation, field).is_some());
    for (_, field) in others {
        let detail = format!("must not be specified when patchType is {ty}");
        errors.push(Error::invalid(&path.child(field), format!("{{{field}}}"), &detail));
    }
}
