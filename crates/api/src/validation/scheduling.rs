//! Rules of PriorityClasses and RuntimeClasses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::pods;
use super::rules::{immutable, immutable_text};
use super::shape::{Row, Rule, check};
use crate::field::{Error, Errors, Path};
use crate::tree::{flag, int, items, text};

const HIGHEST_USER: i64 = 1_000_000_000;
/// Classes that the server itself makes: name and value.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Rules of a new PriorityClass.
pub fn create(class: &Value, errors: &mut Errors) {
    let (name, value) = (text(&class["metadata"], "name"), int(class, "value").unwrap_or(0));
    if name.starts_with("system-") {
        if let Err(error) = system_class(name, value, flag(class, "globalDefault")) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
            );
            errors.push(Error::forbidden(&Path::ROOT.child("metadata").child("name"), &detail));
        }
    } else if value > HIGHEST_USER {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER}");
        errors.push(Error::forbidden(&Path::ROOT.child("value"), &detail));
    }
    const POLICY: &[Row] = &[("preemptionPolicy", Rule::RequiredOneOf(&["PreemptLowerPriority", "Never"]))];
    check(class, POLICY, &Path::ROOT, errors);
}

/// Why a PriorityClass must stay, if so.
pub fn delete(name: &str) -> Option<&'static str> {
    let is_system = SYSTEM.iter().any(|(known, _)| *known == name);
    is_system.then_some("this is a system priority class and cannot be deleted")
}

fn system_class(name: &str, value: i64, global: bool) -> Result<(), String> {
    let Some((_, expected)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *expected {
        return Err(format!("value of {name} PriorityClass must be {expected}"));
    }
    if global {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

/// Rules of a PriorityClass that replaces another.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    if int(new, "value").unwrap_or(0) != int(old, "value").unwrap_or(0) {
        errors.push(Error::forbidden(&Path::ROOT.child("value"), "may not be changed in an update."));
    }
    let path = Path::ROOT.child("preemptionPolicy");
    immutable(errors, &path, new.get("preemptionPolicy"), old.get("preemptionPolicy"));
}

/// Rules of a RuntimeClass.
pub fn runtime_class(class: &Value, errors: &mut Errors) {
    const ROWS: &[Row] = &[
        ("handler", Rule::Needs(names::dns_label)),
        (
            "overhead",
            Rule::By(|at, errors| {
                if let Some(fixed) = at.value.get("podFixed") {
                    pods::requirements(&serde_json::json!({"limits": fixed}), at.path, errors);
                }
            }),
        ),
        (
            "scheduling",
            Rule::In(&[
                (
                    "",
                    Rule::By(|at, errors| {
                        super::meta::labels(at.value, "nodeSelector", &at.path.child("nodeSelector"), errors);
                    }),
                ),
                ("tolerations", Rule::By(|at, errors| tolerations(at.parent, at.path, errors))),
            ]),
        ),
    ];
    check(class, ROWS, &Path::ROOT, errors);
}

fn tolerations(scheduling: &Value, path: &Path<'_>, errors: &mut Errors) {
    let all = items(scheduling, "tolerations");
    pods::tolerations(all, path, errors);
    let mut seen = BTreeSet::new();
    for (at, toleration) in all.iter().enumerate() {
        let field = |name: &str| text(toleration, name);
        if !seen.insert((field("key"), field("operator"), field("value"), field("effect"))) {
            let json = format!(
                "{{\"Key\":{},\"Operator\":{},\"Value\":{},\"Effect\":{},\"TolerationSeconds\":{}}}",
                Value::from(field("key")),
                Value::from(field("operator")),
                Value::from(field("value")),
                Value::from(field("effect")),
                toleration.get("tolerationSeconds").unwrap_or(&Value::Null),
            );
            let mut error = Error::duplicate(&path.index(at), "");
            error.message = format!("Duplicate value: {json}");
            errors.push(error);
        }
    }
}

/// Rules of a RuntimeClass that replaces another.
pub fn runtime_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    immutable_text(errors, &Path::ROOT.child("handler"), new, old, "handler");
}
