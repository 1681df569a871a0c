//! CertificateSigningRequests: who asks is written down by the server, a request never
//! changes, approval and certificate have subresources of their own.
//! (After `registry/certificates` and `apis/certificates/validation`.)

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::Value;
use carrack_api::field::{Error, Errors, Path};
use carrack_api::validation::names;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::call::Call;
use crate::auth::node::references::{items, text};
use crate::clock::rfc3339;
use crate::seams::Strategy;

const LEGACY: &str = "kubernetes.io/legacy-unknown";
const SUBDOMAIN: usize = 253;
const LABEL: usize = 63;
/// A certificate lives at least so long.
const LEAST_SECONDS: i64 = 600;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The strategy.
pub(crate) struct SigningRequests;

impl Strategy for SigningRequests {
    fn prepare_create(&self, call: &Call, request: &mut Value) {
        let user = &call.user;
        let spec = &mut request["spec"];
        if let Some(spec) = spec.as_object_mut() {
            ["username", "uid", "groups", "extra"].iter().for_each(|field| _ = spec.remove(*field));
        }
        let mut set = |field: &str, value: Value| spec[field] = value;
        if !user.name.is_empty() {
            set("username", (*user.name).into());
        }
        if !user.uid.is_empty() {
            set("uid", (*user.uid).into());
        }
        if !user.groups.is_empty() {
            set("groups", json!(&*user.groups));
        }
        if !user.extra.is_empty() {
            set("extra", json!(&*user.extra));
        }
        request["status"] = json!({});
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) {
        new["spec"] = old["spec"].clone();
        match &*call.subresource {
            "approval" => {
                stamp(call, new, old);
                let conditions = new["status"].get("conditions").cloned();
                new["status"] = old["status"].clone();
                set_conditions(new, conditions);
            }
            "status" => {
                ["Approved", "Denied"].iter().for_each(|kind| keep(new, old, kind));
                stamp(call, new, old);
            }
            _ => new["status"] = old["status"].clone(),
        }
    }

    fn validate(&self, call: &Call, request: &Value, old: Option<&Value>) -> Errors {
        let mut errors = Vec::new();
        check_spec(request, old, &mut errors);
        let status = Path::ROOT.child("status");
        check_conditions(request, old, &status.child("conditions"), &mut errors);
        let certificate = |object: &Value| text(object, "/status/certificate").unwrap_or_default().to_owned();
        let (new, before) = (certificate(request), old.map(&certificate));
        let path = status.child("certificate");
        let known = before.as_ref().is_some_and(|before| *before == new || chain(before).is_err());
        if let Err(detail) = if known { Ok(()) } else { chain(&new) } {
            errors.push(Error::invalid(&path, "<certificate data>", &detail));
        }
        if let Some(old) = old {
            check_changes(call, request, old, &mut errors);
            let before = before.unwrap_or_default();
            if new != before && &*call.subresource != "status" {
                errors.push(Error::forbidden(&path, "updates may not set certificate content"));
            } else if new != before && !before.is_empty() {
                errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
            }
        }
        errors
    }
}

fn set_conditions(request: &mut Value, conditions: Option<Value>) {
    if !request["status"].is_object() {
        request["status"] = json!({});
    }
    if let Some(status) = request["status"].as_object_mut() {
        match conditions {
            Some(conditions) => status.insert("conditions".into(), conditions),
            None => status.remove("conditions"),
        };
    }
}

/// Conditions of a type stay as they are, if none is added or removed.
fn keep(new: &mut Value, old: &Value, kind: &str) {
    let before: Vec<&Value> =
        items(old, "/status/conditions").filter(|condition| condition["type"] == kind).collect();
    let Some(conditions) = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else {
        return;
    };
    let mut own: Vec<&mut Value> =
        conditions.iter_mut().filter(|condition| condition["type"] == kind).collect();
    if own.len() == before.len() {
        own.iter_mut().zip(before).for_each(|(new, old)| **new = old.clone());
    }
}

/// Gives conditions the times that they lack.
fn stamp(call: &Call, new: &mut Value, old: &Value) {
    let now = Value::from(rfc3339(call.now));
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = |old: &&Value| {
                old["type"] == condition["type"]
                    && old["status"] == condition["status"]
                    && !old["lastTransitionTime"].is_null()
            };
            let before = items(old, "/status/conditions").find(same);
            let at = before.map_or(&now, |before| &before["lastTransitionTime"]).clone();
            condition["lastTransitionTime"] = at;
        }
    }
}

/// The DER of the one PEM block of a request.
pub(crate) fn request_der(encoded: &str) -> Result<Vec<u8>, String> {
    const WANTED: &str = "PEM block type must be CERTIFICATE REQUEST";
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    match Pem::iter_from_buffer(&pem).next() {
        Some(Ok(block)) if block.label == "CERTIFICATE REQUEST" => Ok(block.contents),
        _ => Err(WANTED.to_owned()),
    }
}

fn check_request(encoded: &str) -> Result<(), String> {
    let der = request_der(encoded)?;
    let (_, request) = X509CertificationRequest::from_der(&der)
        .map_err(|error| format!("x509: malformed certificate request: {error}"))?;
    request.verify_signature().map_err(|_| "x509: the signature does not verify".to_owned())
}

/// Whether a text (base64 of PEM) is a chain of certificates; nothing is.
fn chain(encoded: &str) -> Result<(), String> {
    if encoded.is_empty() {
        return Ok(());
    }
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    let mut any = false;
    for block in Pem::iter_from_buffer(&pem) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        any = true;
        X509Certificate::from_der(&block.contents)
            .map_err(|error| format!("x509: malformed certificate: {error}"))?;
    }
    if any { Ok(()) } else { Err("must contain at least one CERTIFICATE PEM block".to_owned()) }
}

fn check_spec(request: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let encoded = text(request, "/spec/request").unwrap_or_default();
    if let Err(detail) = check_request(encoded) {
        errors.push(Error::invalid(&spec.child("request"), encoded, &detail));
    }
    let usages: Vec<&str> = items(request, "/spec/usages").filter_map(Value::as_str).collect();
    let path = spec.child("usages");
    if usages.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    // What is stored was let in once; the spec never changes.
    if old.is_none() {
        for (i, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
            errors.push(Error::not_supported(&path.index(i), *usage, &USAGES));
        }
        let mut seen = BTreeSet::new();
        for (i, usage) in usages.iter().enumerate().filter(|(_, usage)| !seen.insert(**usage)) {
            errors.push(Error::duplicate(&path.index(i), *usage));
        }
    }
    let signer = text(request, "/spec/signerName").unwrap_or_default();
    let path = spec.child("signerName");
    if old.is_none() && signer == LEGACY {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&path, signer, detail));
    } else {
        check_signer(signer, &path, errors);
    }
    if let Some(seconds) =
        request["spec"]["expirationSeconds"].as_i64().filter(|seconds| *seconds < LEAST_SECONDS)
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&spec.child("expirationSeconds"), seconds, detail));
    }
}

/// `example.com/signer-name`.
fn check_signer(signer: &str, path: &Path<'_>, errors: &mut Errors) {
    if signer.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, name] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, signer, detail));
        return;
    };
    if domain.len() > SUBDOMAIN {
        errors.push(Error::too_long(path, SUBDOMAIN));
    }
    check_labels(
        domain,
        |label| names::dns_label(label).iter().map(ToString::to_string).collect(),
        path,
        errors,
    );
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, detail));
    }
    check_labels(
        name,
        |label| names::dns_subdomain(label).iter().map(ToString::to_string).collect(),
        path,
        errors,
    );
    let most = 2 * SUBDOMAIN + LABEL + 2;
    if signer.len() > most {
        errors.push(Error::too_long(path, most));
    }
}

/// Holds every label of a segment to a rule; the first that breaks it is enough.
fn check_labels(segment: &str, rule: fn(&str) -> Vec<String>, path: &Path<'_>, errors: &mut Errors) {
    let wrong =
        segment.split('.').map(|label| (label, rule(label))).find(|(_, messages)| !messages.is_empty());
    let (label, messages) = wrong.unwrap_or_default();
    errors.extend(
        messages.iter().map(|m| Error::invalid(path, segment, &format!("validating label {label:?}: {m}"))),
    );
}

fn of_type<'a>(request: &'a Value, kind: &str) -> Vec<&'a Value> {
    items(request, "/status/conditions").filter(|condition| condition["type"] == kind).collect()
}

fn check_conditions(request: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let kind = |condition: &Value| condition["type"].as_str().unwrap_or_default().to_owned();
    let both = |object: &Value| ["Approved", "Denied"].iter().all(|kind| !of_type(object, kind).is_empty());
    let kinds = |object: &Value| items(object, "/status/conditions").map(kind).collect::<Vec<_>>();
    let had = |flaw: &dyn Fn(&Value) -> bool| old.is_some_and(flaw);
    let (mut decided, mut seen) = (None, BTreeSet::new());
    for (i, condition) in items(request, "/status/conditions").enumerate() {
        let (at, kind) = (path.index(i), kind(condition));
        if kind.is_empty() && !had(&|old| kinds(old).iter().any(String::is_empty)) {
            errors.push(Error::required(&at.child("type"), ""));
        }
        let decisive = matches!(&*kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if decisive { &["True"] } else { &["False", "True", "Unknown"] };
        match condition["status"].as_str().unwrap_or_default() {
            "" => errors.push(Error::required(&at.child("status"), "")),
            status if !allowed.contains(&status) => {
                errors.push(Error::not_supported(&at.child("status"), status, allowed));
            }
            _ => {}
        }
        if matches!(&*kind, "Approved" | "Denied") {
            let other = decided.replace(kind.clone()).is_some_and(|before| before != kind);
            if other && !had(&both) {
                let detail = "Approved and Denied conditions are mutually exclusive";
                errors.push(Error::invalid(path, &*kind, detail));
            }
        }
        let repeated = |old: &Value| {
            let all = kinds(old);
            all.iter().collect::<BTreeSet<_>>().len() != all.len()
        };
        if !seen.insert(kind.clone()) && !had(&repeated) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
    }
}

/// Decisions are not taken back, and are made through `approval` only.
fn check_changes(call: &Call, new: &Value, old: &Value, errors: &mut Errors) {
    let status = Path::ROOT.child("status");
    let path = status.child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(Error::forbidden(&path, &detail));
        }
    }
    if &*call.subresource == "approval" {
        return;
    }
    for kind in ["Approved", "Denied"] {
        let (now, before) = (of_type(new, kind), of_type(old, kind));
        let verb = match now.len().cmp(&before.len()) {
            std::cmp::Ordering::Less => continue,
            std::cmp::Ordering::Greater => "add",
            std::cmp::Ordering::Equal if now != before => "modify",
            std::cmp::Ordering::Equal => continue,
        };
        errors.push(Error::forbidden(&path, &format!("updates may not {verb} a condition of type {kind:?}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers_are_named_by_domain() {
        let check = |signer: &str, expect: &[&str]| {
            let mut errors = Vec::new();
            check_signer(signer, &Path::ROOT.child("s"), &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expect.len(), "{signer}: {found:?}");
            found.iter().zip(expect).for_each(|(found, expect)| assert!(found.contains(expect), "{found}"));
        };
        check("example.com/a.b", &[]);
        check("", &["Required value"]);
        check("example.com", &["must be a fully qualified domain and path"]);
        check("example/a", &["should be a domain with at least two segments"]);
        check("exa_mple.com/A", &["validating label \"exa_mple\"", "validating label \"A\""]);
    }

    #[test]
    fn conditions_decide_once() {
        let request = |conditions: Value| json!({"status": {"conditions": conditions}});
        let approved = json!({"type": "Approved", "status": "True"});
        let denied = json!({"type": "Denied", "status": "True"});
        let check = |new: Value, old: Option<&Value>, expect: &[&str]| {
            let mut errors = Vec::new();
            check_conditions(&new, old, &Path::ROOT.child("c"), &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, expect);
        };
        check(request(json!([approved])), None, &[]);
        let both = request(json!([approved, denied]));
        check(
            both.clone(),
            None,
            &[r#"c: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#],
        );
        check(both.clone(), Some(&both), &[]);
        check(
            request(json!([{"type": "Failed", "status": "False"}])),
            None,
            &[r#"c[0].status: Unsupported value: "False": supported values: "True""#],
        );
    }
}
