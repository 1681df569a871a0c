//! Expressions where they are stored: what each may refer to, what it must be, and how it
//! is said that it does not compile.

use serde_json::Value;

use super::rules::full;
use crate::cel::{Environment, Type, compile};
use crate::field::{Error, Errors, Kind, Path, go_json};
use crate::tree::{get, text};

/// What an expression of admission sees besides the request and its objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The parameters of a policy.
    pub params: bool,
    /// Whoever may ask what is allowed.
    pub authorizer: bool,
    /// The variables of a policy.
    pub variables: bool,
    /// The type of the patch that it makes.
    pub patch: Option<&'static str>,
}

impl Seen {
    /// What conditions see, which come before everything else.
    pub const CONDITION: Self = Self { params: false, authorizer: true, variables: false, patch: None };
    /// What the parts of a policy see.
    pub const POLICY: Self = Self { variables: true, ..Self::CONDITION };
}

/// An expression of admission, which must be of one of the types if there are any.
pub(super) fn admission(source: &str, seen: &Seen, types: &[Type], path: &Path<'_>, errors: &mut Errors) {
    shown(source, source, seen, types, path, errors);
}

/// As [`admission`], with the value that errors show.
pub(super) fn shown(
    source: &str,
    value: &str,
    seen: &Seen,
    types: &[Type],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if full(errors) {
        return;
    }
    let mut variables = vec!["object", "oldObject", "namespaceObject", "request"];
    let more = [(seen.params, "params"), (seen.authorizer, "authorizer"), (seen.variables, "variables")];
    variables.extend(more.iter().filter(|(there, _)| *there).map(|(_, name)| *name));
    let made: &[&str] = if seen.patch.is_some() { &["JSONPatch", "Object"] } else { &[] };
    let wanted = match (types, seen.patch) {
        ([], None) => String::new(),
        ([], Some("JSONPatch")) => "list(JSONPatch)".into(),
        ([], Some(_)) => "Object".into(),
        ([one], _) => one.name().into(),
        (many, _) => {
            let names: Vec<&str> = many.iter().map(|one| one.name()).collect();
            format!("one of [{}]", names.join(" "))
        }
    };
    match compile(source, &Environment { variables: &variables, types: made }) {
        Err(issues) => errors.push(Error::invalid(path, value, &format!("compilation failed: {issues}"))),
        Ok(found) if found == Type::Any || wanted.is_empty() || types.contains(&found) => {}
        Ok(found) => {
            let detail = format!("must evaluate to {wanted} but got {}", found.name());
            errors.push(Error::invalid(path, value, &detail));
        }
    }
}

/// What picks devices.
pub(super) fn device(source: &str, path: &Path<'_>, errors: &mut Errors) {
    if full(errors) {
        return;
    }
    match compile(source, &Environment { variables: &["device"], types: &[] }) {
        Err(issues) => errors.push(Error::invalid(path, source, &format!("compilation failed: {issues}"))),
        Ok(Type::Any | Type::Bool) => {}
        Ok(found) => {
            let detail = format!("must evaluate to bool or the unknown type, not {}", found.name());
            errors.push(Error::invalid(path, source, &detail));
        }
    }
}

/// The rules of a schema, which stand at `path`.
pub(super) fn rules(rules: &[Value], path: &Path<'_>, errors: &mut Errors) {
    const ENVIRONMENT: Environment<'_> = Environment { variables: &["self", "oldSelf"], types: &[] };
    let list = path.child("x-kubernetes-validations");
    for (at, rule) in rules.iter().enumerate() {
        if full(errors) {
            return;
        }
        let path = list.index(at);
        let mut refuse = |field: &str, detail: &str| {
            let message = format!("Invalid value: {}: {detail}", shown_rule(rule));
            errors.push(Error { kind: Kind::Invalid, path: path.child(field).to_string(), message });
        };
        match compile(text(rule, "rule"), &ENVIRONMENT) {
            Err(issues) => {
                refuse("rule", &format!("compilation failed: {issues}"));
                continue;
            }
            Ok(Type::Any | Type::Bool) => {}
            Ok(_) => {
                refuse("rule", "cel expression must evaluate to a bool");
                continue;
            }
        }
        let message = text(rule, "messageExpression");
        if message.is_empty() {
            continue;
        }
        match compile(message, &ENVIRONMENT) {
            Err(issues) => {
                refuse("messageExpression", &format!("messageExpression compilation failed: {issues}"))
            }
            Ok(Type::Any | Type::String) => {}
            Ok(_) => refuse("messageExpression", "messageExpression must evaluate to a string"),
        }
    }
}

/// A rule as upstream's own form of it is shown, whose fields have an order.
pub(super) fn shown_rule(rule: &Value) -> String {
    let string = |field: &str| Value::from(text(rule, field));
    let other = |field: &str| get(rule, field).cloned().unwrap_or_default();
    let fields = [
        ("Rule", string("rule")),
        ("Message", string("message")),
        ("MessageExpression", string("messageExpression")),
        ("Reason", other("reason")),
        ("FieldPath", string("fieldPath")),
        ("OptionalOldSelf", other("optionalOldSelf")),
    ];
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("\"{name}\":{}", go_json(value))).collect();
    format!("{{{}}}", fields.join(","))
}
