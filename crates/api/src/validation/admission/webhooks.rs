//! Rules of webhook configurations.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{FAILURE, MATCH, REINVOCATION, match_conditions, rule};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, items, text, texts};
use crate::validation::names;
use crate::validation::rules::{full, invalid_each, not_supported};
use crate::validation::shape::{Row, Rule, check};

const QUIET: [&str; 2] = ["None", "NoneOnDryRun"];
const EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// What older objects may go on with.
struct Allowed {
    effects: bool,
    reviews: bool,
    same_names: bool,
    conditions: bool,
}

/// Rules of a new ValidatingWebhookConfiguration.
pub fn validating(object: &Value, errors: &mut Errors) {
    hooks(object, false, &NEW, errors);
}

/// Rules of a new MutatingWebhookConfiguration.
pub fn mutating(object: &Value, errors: &mut Errors) {
    hooks(object, true, &NEW, errors);
}

/// Rules of a ValidatingWebhookConfiguration that replaces another.
pub fn validating_update(new: &Value, old: &Value, errors: &mut Errors) {
    hooks(new, false, &allowed(new, old), errors);
}

/// Rules of a MutatingWebhookConfiguration that replaces another.
pub fn mutating_update(new: &Value, old: &Value, errors: &mut Errors) {
    hooks(new, true, &allowed(new, old), errors);
}

const NEW: Allowed = Allowed { effects: false, reviews: false, same_names: false, conditions: false };

fn allowed(new: &Value, old: &Value) -> Allowed {
    let (new, old) = (items(new, "webhooks"), items(old, "webhooks"));
    let quiet = |hook: &Value| QUIET.contains(&text(hook, "sideEffects"));
    let reviewed = |hook: &Value| texts(hook, "admissionReviewVersions").any(|one| REVIEWS.contains(&one));
    let names: BTreeSet<&str> = old.iter().map(|hook| text(hook, "name")).collect();
    let conditions = |hooks: &[Value]| -> Vec<Value> {
        hooks.iter().map(|hook| hook.get("matchConditions").cloned().unwrap_or_default()).collect()
    };
    Allowed {
        effects: !old.iter().all(quiet),
        reviews: !old.iter().all(reviewed),
        same_names: names.len() != old.len(),
        conditions: new.len() == old.len() && conditions(new) == conditions(old),
    }
}

fn hooks(object: &Value, mutating: bool, allowed: &Allowed, errors: &mut Errors) {
    let path = Path::ROOT.child("webhooks");
    let mut names = BTreeSet::new();
    for (at, one) in items(object, "webhooks").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        hook(one, mutating, allowed, &path, errors);
        reviews(one, allowed, &path.child("admissionReviewVersions"), errors);
        let name = text(one, "name");
        if !name.is_empty() && !names.insert(name) && !allowed.same_names {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
    }
}

fn reviews(hook: &Value, allowed: &Allowed, path: &Path<'_>, errors: &mut Errors) {
    let versions: Vec<&str> = texts(hook, "admissionReviewVersions").collect();
    if versions.is_empty() {
        errors.push(Error::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = BTreeSet::new();
    for (at, version) in versions.iter().enumerate() {
        if full(errors) {
            break;
        }
        if !seen.insert(version) {
            errors.push(Error::invalid(&path.index(at), *version, "duplicate version"));
            continue;
        }
        invalid_each(errors, &path.index(at), *version, names::dns1035_label(version));
    }
    if !allowed.reviews && !versions.iter().any(|version| REVIEWS.contains(version)) {
        let shown = hook["admissionReviewVersions"].clone();
        errors.push(Error::invalid(path, shown, "must include at least one of v1, v1beta1"));
    }
}

fn hook(hook: &Value, mutating: bool, allowed: &Allowed, path: &Path<'_>, errors: &mut Errors) {
    const RULES: &[Row] = &[("", Rule::By(|at, errors| rule(at.value, at.path, errors)))];
    const HEAD: &[Row] = &[
        ("name", Rule::By(|at, errors| full_name(at.value.as_str().unwrap_or_default(), at.path, errors))),
        ("rules", Rule::Each(RULES)),
        ("failurePolicy", Rule::OneOf(FAILURE)),
        ("matchPolicy", Rule::OneOf(MATCH)),
    ];
    const MIDDLE: &[Row] = &[
        ("timeoutSeconds", Rule::Between(1, 30, "the timeout value must be between 1 and 30 seconds")),
        ("namespaceSelector", Rule::Selector),
        ("objectSelector", Rule::Selector),
    ];
    check(hook, HEAD, path, errors);
    let effects: &[&str] = if allowed.effects { &EFFECTS } else { &QUIET };
    let own = path.child("sideEffects");
    match get(hook, "sideEffects").and_then(Value::as_str) {
        None => errors.push(Error::required(&own, &format!("must specify one of {}", effects.join(", ")))),
        Some(effect) if !effects.contains(&effect) => errors.push(not_supported(&own, effect, effects)),
        Some(_) => {}
    }
    check(hook, MIDDLE, path, errors);
    if mutating {
        check(hook, &[("reinvocationPolicy", Rule::OneOf(REINVOCATION))], path, errors);
    }
    let client = &hook["clientConfig"];
    let own = path.child("clientConfig");
    match (get(client, "url").and_then(Value::as_str), get(client, "service")) {
        (Some(address), None) => url(address, &own.child("url"), errors),
        (None, Some(named)) => service(named, &own.child("service"), errors),
        _ => errors.push(Error::required(&own, "exactly one of url or service is required")),
    }
    if !allowed.conditions {
        match_conditions(hook, path, errors);
    }
}

/// A name of three labels or more.
fn full_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = names::dns_subdomain(name);
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !wrong.is_empty() {
        errors.push(Error::invalid(path, name, &wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(path, name, detail));
    }
}

/// `https://host[/path]`.
fn url(address: &str, path: &Path<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let scheme_like = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if scheme_like(scheme) => (scheme.to_lowercase(), rest),
        Some(("", _)) => {
            let detail = format!(
                "url must be a valid URL: parse {}: missing protocol scheme{FORM}",
                crate::go::quoted(address)
            );
            errors.push(Error::required(path, &detail));
            return;
        }
        _ => (String::new(), rest),
    };
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or_default());
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Error::invalid(path, scheme, &detail));
    }
    if host.is_empty() {
        errors.push(Error::invalid(path, host, &format!("host must be specified{FORM}")));
    }
    for (part, detail) in [
        (user.unwrap_or_default(), "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            errors.push(Error::invalid(path, part, detail));
        }
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    // (Upstream asks for them in the other's place.)
    for (field, asked) in [("name", "namespace"), ("namespace", "name")] {
        if text(service, asked).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    let port = int(service, "port").unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, &detail));
    }
    let Some(target) = get(service, "path").and_then(Value::as_str) else { return };
    let path = path.child("path");
    let mut refuse = |detail: &str| errors.push(Error::invalid(&path, target, detail));
    match target {
        "" | "/" => return,
        "//" => return refuse("segment[0] may not be empty"),
        _ => {}
    }
    if !target.starts_with('/') {
        refuse("must start with a '/'");
    }
    // The first byte is taken for the slash.
    let rest = String::from_utf8_lossy(&target.as_bytes()[1..]);
    let rest = rest.strip_suffix('/').unwrap_or(&rest);
    for (at, step) in rest.split('/').enumerate().take(100) {
        if step.is_empty() {
            refuse(&format!("segment[{at}] may not be empty"));
            continue;
        }
        for message in names::dns_subdomain(step) {
            refuse(&format!("segment[{at}]: {message}"));
        }
    }
}
