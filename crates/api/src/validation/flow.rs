//! Rules of FlowSchemas and PriorityLevelConfigurations.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::names;
use super::rules::{full, invalid_each, invalid_json, not_supported};
use super::shape::{Row, Rule, check};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{flag, get, int, items, same, text, texts};

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash by which requests are dealt to queues.
const HASH_BITS: i64 = 60;

/// Rules of a FlowSchema.
pub fn schema(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let name = text(&object["metadata"], "name");
    let precedence = int(spec, "matchingPrecedence").unwrap_or(0);
    let mut refuse = |detail: &str| {
        errors.push(Error::invalid(&path.child("matchingPrecedence"), precedence, detail));
    };
    if precedence <= 0 {
        refuse("must be a positive value");
    }
    if precedence > MAX_PRECEDENCE {
        refuse("must not be greater than 10000");
    }
    if precedence == 1 && name != "exempt" {
        refuse("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if let Some(method) = get(spec, "distinguisherMethod") {
        let (ty, all) = (text(method, "type"), ["ByNamespace", "ByUser"]);
        if !all.contains(&ty) {
            let path = path.child("distinguisherMethod");
            let mut error = not_supported(&path.child("type"), ty, &all);
            let shown = Value::from(ty).to_string();
            error.message = error.message.replacen(&shown, &format!("{{\"Type\":{shown}}}"), 1);
            errors.push(error);
        }
    }
    let level = path.child("priorityLevelConfiguration");
    match text(&spec["priorityLevelConfiguration"], "name") {
        "" => errors.push(Error::required(&level.child("name"), "must reference a priority level")),
        name => invalid_each(errors, &level.child("name"), name, names::dns_subdomain(name)),
    }
    check(spec, &[("rules", Rule::Each(SCHEMA_RULE))], &path, errors);
    let fixed = match name {
        "exempt" => Some(fixed_schema("exempt", 1, None, &["system:masters"])),
        "catch-all" => {
            let groups = ["system:unauthenticated", "system:authenticated"];
            Some(fixed_schema("catch-all", 10_000, Some("ByUser"), &groups))
        }
        _ => None,
    };
    if fixed.is_some_and(|fixed| !same(Some(spec), Some(&fixed))) {
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.push(invalid_json(&path, &internal::json("flowcontrol.FlowSchemaSpec", spec), &detail));
    }
    conditions(object, errors);
}

/// A FlowSchema that every server has, and that cannot be otherwise.
fn fixed_schema(level: &str, precedence: i64, distinguisher: Option<&str>, groups: &[&str]) -> Value {
    let subjects: Vec<Value> =
        groups.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect();
    let all = ["*"];
    json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "distinguisherMethod": distinguisher.map(|ty| json!({"type": ty})),
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": all, "apiGroups": all, "resources": all, "namespaces": all, "clusterScope": true,
            }],
            "nonResourceRules": [{"verbs": all, "nonResourceURLs": all}],
        }],
    })
}

const SCHEMA_RULE: &[Row] = &[
    ("subjects", Rule::Required("subjects must contain at least one value")),
    ("subjects", Rule::Each(&[("", Rule::By(|at, errors| subject(at.value, at.path, errors)))])),
    (
        "",
        Rule::By(|at, errors| {
            if ["resourceRules", "nonResourceRules"].iter().all(|list| items(at.value, list).is_empty()) {
                let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
                errors.push(Error::required(at.path, detail));
            }
        }),
    ),
    ("resourceRules", Rule::Each(&[("", Rule::By(|at, errors| resource_rule(at.value, at.path, errors)))])),
    ("nonResourceRules", Rule::Each(&[("", Rule::By(|at, errors| url_rule(at.value, at.path, errors)))])),
];

const KINDS: [(&str, &str); 3] = [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];

fn subject(subject: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = text(subject, "kind");
    let Some((_, field)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        errors.push(not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]));
        return;
    };
    let own = path.child(field);
    match get(subject, field) {
        None => {
            errors.push(Error::required(&own, &format!("{field} is required when subject kind is '{kind}'")))
        }
        Some(named) if kind == "ServiceAccount" => {
            match text(named, "name") {
                "" => errors.push(Error::required(&own.child("name"), "")),
                "*" => {}
                name => invalid_each(errors, &own.child("name"), name, names::dns_subdomain(name)),
            }
            match text(named, "namespace") {
                "" => {
                    let detail = "must specify namespace for service account";
                    errors.push(Error::required(&own.child("namespace"), detail));
                }
                name => invalid_each(errors, &own.child("namespace"), name, names::dns_label(name)),
            }
        }
        Some(named) => check(named, &[("name", Rule::Required(""))], &own, errors),
    }
    // In upstream's order.
    for (other, field) in [KINDS[2], KINDS[0], KINDS[1]] {
        if other != kind && get(subject, field).is_some() {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.push(Error::forbidden(&path.child(field), &detail));
        }
    }
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("verbs");
    let all: Vec<&str> = texts(rule, "verbs").collect();
    if all.is_empty() {
        errors.push(Error::required(&path, "verbs must contain at least one value"));
    } else if all.contains(&"*") {
        alone(rule, "verbs", "verbs", &path, errors);
    } else if !all.iter().all(|verb| VERBS.contains(verb)) {
        let mut error = not_supported(&path, "", &VERBS);
        error.message = error.message.replacen("\"\"", &rule["verbs"].to_string(), 1);
        errors.push(error);
    }
}

/// `*` stands by itself.
fn alone(rule: &Value, list: &str, words: &str, path: &Path<'_>, errors: &mut Errors) {
    if items(rule, list).len() > 1 && texts(rule, list).any(|one| one == "*") {
        let detail = format!("if '*' is present, must not specify other {words}");
        errors.push(Error::invalid(path, rule[list].clone(), &detail));
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    for (list, one, words) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let path = path.child(list);
        if items(rule, list).is_empty() {
            let detail = format!("resource rules must supply at least one {one}");
            errors.push(Error::required(&path, &detail));
        }
        alone(rule, list, words, &path, errors);
    }
    let path = path.child("namespaces");
    if items(rule, "namespaces").is_empty() && !flag(rule, "clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(&path, detail));
    } else if texts(rule, "namespaces").any(|name| name == "*") {
        alone(rule, "namespaces", "namespaces", &path, errors);
    } else {
        for (at, name) in texts(rule, "namespaces").enumerate() {
            if full(errors) {
                break;
            }
            let wrong = names::dns_label(name).into_iter().map(|message| {
                format!("each member of this list must be '*' or a DNS-1123 label; {message}")
            });
            invalid_each(errors, &path.index(at), name, wrong.collect());
        }
    }
}

fn url_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    let list = "nonResourceURLs";
    let path = path.child(list);
    if items(rule, list).is_empty() {
        errors.push(Error::required(&path, "nonResourceURLs must contain at least one value"));
    } else if texts(rule, list).any(|url| url == "*") {
        alone(rule, list, "non-resource URLs", &path, errors);
    } else {
        for (at, url) in texts(rule, list).enumerate() {
            if full(errors) {
                break;
            }
            let stars = url.matches('*').count();
            let detail = match url {
                "/" => continue,
                "" => "must not be empty",
                url if !url.starts_with('/') => "must start with slash",
                url if url.contains(' ') => "must not contain white-space",
                url if url.contains("//") => "must not contain double slash",
                url if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
                    "wildcard can only do suffix matching"
                }
                _ => continue,
            };
            errors.push(Error::invalid(&path.index(at), url, detail));
        }
    }
}

/// Types of conditions, each given and once.
fn conditions(object: &Value, errors: &mut Errors) {
    let status = Path::ROOT.child("status");
    let path = status.child("conditions");
    let mut seen = BTreeSet::new();
    for (at, condition) in items(&object["status"], "conditions").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let ty = text(condition, "type");
        if !seen.insert(ty) {
            errors.push(Error::duplicate(&path.child("type"), ty));
        }
        if ty.is_empty() {
            errors.push(Error::required(&path.child("type"), ""));
        }
    }
}

/// Rules of a status of either kind.
pub fn status(new: &Value, _: &Value, errors: &mut Errors) {
    conditions(new, errors);
}

const PERCENT: &str = "must be between 0 and 100, inclusive";
const WHOLE: &str = "must be a non-negative integer";

const EXEMPT: &[Row] = &[
    ("nominalConcurrencyShares", Rule::Between(0, i64::MAX, WHOLE)),
    ("lendablePercent", Rule::Between(0, 100, PERCENT)),
];
const LIMITED: &[Row] = &[
    ("nominalConcurrencyShares", Rule::Between(0, i64::MAX, WHOLE)),
    ("limitResponse", Rule::By(|at, errors| limit_response(at.value, at.path, errors))),
    ("lendablePercent", Rule::Between(0, 100, PERCENT)),
    ("borrowingLimitPercent", Rule::Between(0, i64::MAX, "if specified, must be a non-negative integer")),
];

/// Rules of a PriorityLevelConfiguration.
pub fn level(object: &Value, errors: &mut Errors) {
    let annotation = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
    if get(&object["metadata"]["annotations"], annotation).is_some() {
        let path = Path::ROOT.child("metadata");
        let detail = format!("annotation '{annotation}' is forbidden");
        errors.push(Error::forbidden(&path.child("annotations"), &detail));
    }
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let (name, ty) = (text(&object["metadata"], "name"), text(spec, "type"));
    if (name == "exempt") != (ty == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(Error::invalid(&path.child("type"), ty, detail));
    }
    let has = |field: &str| get(spec, field).is_some();
    match ty {
        "Exempt" => {
            if has("limited") {
                let detail = "must be nil if the type is not Limited";
                errors.push(Error::forbidden(&path.child("limited"), detail));
            }
            check(spec, &[("exempt", Rule::In(EXEMPT))], &path, errors);
        }
        "Limited" => {
            if has("exempt") {
                errors.push(Error::forbidden(&path.child("exempt"), "must be nil if the type is Limited"));
            }
            if !has("limited") {
                let detail = "must not be empty when type is Limited";
                errors.push(Error::required(&path.child("limited"), detail));
            }
            check(spec, &[("limited", Rule::In(LIMITED))], &path, errors);
        }
        "" => errors.push(Error::required(&path.child("type"), "")),
        other => errors.push(not_supported(&path.child("type"), other, &["Exempt", "Limited"])),
    }
    let (wanted, seen, but) = match name {
        "exempt" => {
            let mut seen = spec.clone();
            seen.as_object_mut().map(|spec| spec.remove("exempt"));
            (json!({"type": "Exempt"}), seen, " except the 'spec.exempt' field")
        }
        "catch-all" => {
            let limited = json!({
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            });
            (json!({"type": "Limited", "limited": limited}), spec.clone(), "")
        }
        _ => return conditions(object, errors),
    };
    if !same(Some(&wanted), Some(&seen)) {
        let detail = format!("spec of '{name}'{but} must equal the fixed value");
        let json = internal::json("flowcontrol.PriorityLevelConfigurationSpec", spec);
        errors.push(invalid_json(&path, &json, &detail));
    }
    conditions(object, errors);
}

fn limit_response(response: &Value, path: &Path<'_>, errors: &mut Errors) {
    let queuing = get(response, "queuing");
    let own = path.child("queuing");
    match (text(response, "type"), queuing) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(Error::forbidden(&own, detail));
        }
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(Error::required(&own, detail));
        }
        ("Queue", Some(queuing)) => self::queuing(queuing, &own, errors),
        ("", _) => errors.push(Error::required(&path.child("type"), "")),
        (other, _) => errors.push(not_supported(&path.child("type"), other, &["Queue", "Reject"])),
    }
}

fn queuing(queuing: &Value, path: &Path<'_>, errors: &mut Errors) {
    let count = |field: &str| int(queuing, field).unwrap_or(0);
    let (length, queues, hand) = (count("queueLengthLimit"), count("queues"), count("handSize"));
    if length <= 0 {
        errors.push(Error::invalid(&path.child("queueLengthLimit"), length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(Error::invalid(&path.child("queues"), queues, "must be positive"));
    } else if queues > MAX_QUEUES {
        let detail = format!("must not be greater than {MAX_QUEUES}");
        errors.push(Error::invalid(&path.child("queues"), queues, &detail));
    }
    let path = path.child("handSize");
    if hand <= 0 {
        errors.push(Error::invalid(&path, hand, "must be positive"));
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(Error::invalid(&path, hand, &detail));
    } else if ((queues as f64).log2() * hand as f64).ceil() as i64 > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(Error::invalid(&path, hand, &detail));
    }
}
