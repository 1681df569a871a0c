//! Rules of CertificateSigningRequests and APIServices.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::names;
use super::rules::{full, invalid_each, not_supported};
use crate::field::{Error, Errors, Path};
use crate::tree::{flag, get, int, items, text, texts};

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

/// Which part of a request an update is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Object,
    Status,
    Approval,
}

/// Rules of a new request.
pub fn create(object: &Value, errors: &mut Errors) {
    request(object, None, errors);
}

/// Rules of a request that replaces another.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    change(new, old, Part::Object, errors);
}

/// Rules of a request's status that replaces another.
pub fn status(new: &Value, old: &Value, errors: &mut Errors) {
    change(new, old, Part::Status, errors);
}

/// Rules of a request's approval.
pub fn approval(new: &Value, old: &Value, errors: &mut Errors) {
    change(new, old, Part::Approval, errors);
}

fn conditions<'a>(object: &'a Value, ty: &str) -> Vec<&'a Value> {
    items(&object["status"], "conditions").iter().filter(|one| text(one, "type") == ty).collect()
}

fn request(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let pem = STANDARD.decode(text(spec, "request")).unwrap_or_default();
    if blocks(&pem).first().is_none_or(|block| block.label != "CERTIFICATE REQUEST") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        let shown = spec.get("request").cloned().unwrap_or_default();
        errors.push(Error::invalid(&path.child("request"), shown, detail));
    }
    usages(spec, old.map(|old| &old["spec"]), &path.child("usages"), errors);
    let signer = text(spec, "signerName");
    let legacy = |spec: &Value| text(spec, "signerName") == "kubernetes.io/legacy-unknown";
    if legacy(spec) && !old.is_some_and(|old| legacy(&old["spec"])) {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&path.child("signerName"), signer, detail));
    } else {
        signer_name(signer, &path.child("signerName"), errors);
    }
    if let Some(seconds) = int(spec, "expirationSeconds").filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    let path = Path::ROOT.child("status");
    all_conditions(object, old, &path.child("conditions"), errors);
    let certificate = text(&object["status"], "certificate");
    let kept = old.is_some_and(|old| text(&old["status"], "certificate") == certificate);
    if let Err(detail) =
        check_certificate(certificate).or_else(|error| if kept { Ok(()) } else { Err(error) })
    {
        errors.push(Error::invalid(&path.child("certificate"), "<certificate data>", &detail));
    }
}

fn usages(spec: &Value, before: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let all: Vec<&str> = texts(spec, "usages").collect();
    if all.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let known = |usage: &&str| USAGES.contains(usage);
    let twice = |spec: &Value| {
        let mut seen = BTreeSet::new();
        !texts(spec, "usages").all(|usage| seen.insert(usage.to_owned()))
    };
    if before.is_none_or(|before| texts(before, "usages").all(|usage| known(&usage))) {
        for (at, usage) in all.iter().enumerate().filter(|(_, usage)| !known(usage)) {
            if full(errors) {
                break;
            }
            errors.push(not_supported(&path.index(at), usage, &USAGES));
        }
    }
    if !before.is_some_and(twice) {
        let mut seen = BTreeSet::new();
        for (at, usage) in all.iter().enumerate() {
            if !seen.insert(usage) && !full(errors) {
                errors.push(Error::duplicate(&path.index(at), *usage));
            }
        }
    }
}

/// `example.com/signer-name`.
fn signer_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let [domain, own] = name.split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, name, detail));
        return;
    };
    if domain.len() > 253 {
        errors.push(Error::too_long(path, 253));
    }
    let labels = |part: &str, check: fn(&str) -> names::Messages, errors: &mut Errors| {
        let first = part.split('.').map(|label| (label, check(label))).find(|(_, wrong)| !wrong.is_empty());
        let Some((label, wrong)) = first else { return };
        let label = crate::go::quoted(label);
        let wrong = wrong.into_iter().map(|message| format!("validating label {label}: {message}"));
        invalid_each(errors, path, part, wrong.collect());
    };
    labels(domain, names::dns_label, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, detail));
    }
    labels(own, names::dns_subdomain, errors);
    if own.len() > 253 + 63 + 1 {
        errors.push(Error::too_long(path, 253 + 63 + 1));
    }
}

fn all_conditions(object: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let before = |holds: fn(&Value) -> bool| old.is_some_and(holds);
    let any_empty = before(|old| !conditions(old, "").is_empty());
    let any_twice = before(|old| {
        let mut seen = BTreeSet::new();
        !items(&old["status"], "conditions").iter().all(|one| seen.insert(text(one, "type").to_owned()))
    });
    let both = before(|old| ["Approved", "Denied"].iter().all(|ty| !conditions(old, ty).is_empty()));
    let mut seen = BTreeSet::new();
    for (at, condition) in items(&object["status"], "conditions").iter().enumerate() {
        if full(errors) {
            break;
        }
        let own = path.index(at);
        let (ty, state) = (text(condition, "type"), text(condition, "status"));
        if ty.is_empty() && !any_empty {
            errors.push(Error::required(&own.child("type"), ""));
        }
        let states: &[&str] = match ty {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        if state.is_empty() {
            errors.push(Error::required(&own.child("status"), ""));
        } else if !states.contains(&state) {
            errors.push(not_supported(&own.child("status"), state, states));
        }
        let opposite = match ty {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "-",
        };
        if seen.contains(opposite) && !both {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(path, ty, detail));
        }
        if !seen.insert(ty) && !any_twice {
            errors.push(Error::duplicate(&own.child("type"), ty));
        }
    }
}

fn change(new: &Value, old: &Value, part: Part, errors: &mut Errors) {
    request(new, Some(old), errors);
    let status = Path::ROOT.child("status");
    let path = status.child("conditions");
    for ty in ["Approved", "Denied", "Failed"] {
        if conditions(new, ty).len() < conditions(old, ty).len() {
            errors
                .push(Error::forbidden(&path, &format!("updates may not remove a condition of type {ty:?}")));
        }
    }
    if part != Part::Approval {
        for ty in ["Approved", "Denied"] {
            let (now, before) = (conditions(new, ty), conditions(old, ty));
            if now.len() > before.len() {
                errors.push(Error::forbidden(
                    &path,
                    &format!("updates may not add a condition of type {ty:?}"),
                ));
            } else if now.len() == before.len() && now != before {
                let detail = format!("updates may not modify a condition of type {ty:?}\n");
                errors.push(Error::forbidden(&path, &detail));
            }
        }
    }
    let certificate = |object: &Value| text(&object["status"], "certificate").to_owned();
    if certificate(new) != certificate(old) {
        let path = status.child("certificate");
        if part != Part::Status {
            errors.push(Error::forbidden(&path, "updates may not set certificate content"));
        } else if !certificate(old).is_empty() {
            errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
        }
    }
}

/// A block of PEM.
struct Block {
    label: String,
    headers: bool,
}

/// The blocks of a text; other lines are passed over.
fn blocks(pem: &[u8]) -> Vec<Block> {
    let pem = String::from_utf8_lossy(pem);
    let mut blocks = Vec::new();
    let mut rest = &*pem;
    while let Some(begin) = rest.find("-----BEGIN ") {
        rest = &rest[begin + "-----BEGIN ".len()..];
        let Some((label, body)) = rest.split_once("-----") else { break };
        let Some(end) = body.find(&format!("-----END {label}-----")) else { continue };
        let headers = body[..end].contains(':');
        let data: String = body[..end].chars().filter(|c| !c.is_ascii_whitespace()).collect();
        if headers || STANDARD.decode(data).is_ok() {
            blocks.push(Block { label: label.to_owned(), headers });
        }
        rest = &body[end..];
    }
    blocks
}

fn check_certificate(certificate: &str) -> Result<(), String> {
    if certificate.is_empty() {
        return Ok(());
    }
    let blocks = blocks(&STANDARD.decode(certificate).unwrap_or_default());
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {}",
                crate::go::quoted(&block.label)
            ));
        }
        if block.headers {
            return Err("no PEM block headers are permitted".into());
        }
    }
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}

/// Rules of an APIService.
pub fn api_service(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::ROOT.child("spec"));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    if group.is_empty() {
        if version != "v1" {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            errors.push(Error::required(&path.child("group"), detail));
        }
    } else {
        invalid_each(errors, &path.child("group"), group, names::dns_subdomain(group));
    }
    invalid_each(errors, &path.child("version"), version, names::dns1035_label(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let value = int(spec, field).unwrap_or(0);
        if !(1..=most).contains(&value) {
            let detail = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&path.child(field), value, &detail));
        }
    }
    let bundle = STANDARD.decode(text(spec, "caBundle")).unwrap_or_default();
    let insecure = flag(spec, "insecureSkipTLSVerify");
    let insecure_path = path.child("insecureSkipTLSVerify");
    let Some(service) = get(spec, "service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len());
            let detail = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(&path.child("caBundle"), shown, detail));
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Error::invalid(&insecure_path, true, detail));
        }
        return;
    };
    let own = path.child("service");
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            errors.push(Error::required(&own.child(field), ""));
        }
    }
    let port = int(service, "port").unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(Error::invalid(&own.child("port"), port, &detail));
    }
    if insecure && !bundle.is_empty() {
        errors.push(Error::invalid(&insecure_path, true, "may not be true if caBundle is present"));
    }
}

/// Rules of an APIService's status that replaces another.
pub fn api_service_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Path::ROOT.child("status");
    let path = status.child("conditions");
    for (at, condition) in items(&new["status"], "conditions").iter().enumerate() {
        let (state, all) = (text(condition, "status"), ["True", "False", "Unknown"]);
        if !all.contains(&state) && !full(errors) {
            errors.push(not_supported(&path.index(at).child("status"), state, &all));
        }
    }
}
