//! CertificateSigningRequests: who asks is written down by the server, a request never
//! changes, approval and certificate have subresources of their own.
//! (After `registry/certificates`. What a request may say stands with the other rules;
//! here only what takes a look into X.509.)

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::Value;
use carrack_api::field::{Error, Errors, Path};
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::call::Call;
use crate::auth::node::references::{items, text};
use crate::clock::rfc3339;
use crate::seams::Strategy;

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

    fn validate(&self, _: &Call, request: &Value, old: Option<&Value>) -> Errors {
        let mut errors = Vec::new();
        let (spec, status) = (Path::ROOT.child("spec"), Path::ROOT.child("status"));
        let encoded = text(request, "/spec/request").unwrap_or_default();
        if let Some(Err(detail)) = old.is_none().then(|| check_request(encoded)) {
            errors.push(Error::invalid(&spec.child("request"), encoded, &detail));
        }
        let certificate = |object: &Value| text(object, "/status/certificate").unwrap_or_default().to_owned();
        let (new, before) = (certificate(request), old.map(&certificate).unwrap_or_default());
        if let Some(Err(detail)) = (new != before).then(|| check_chain(&new)) {
            errors.push(Error::invalid(&status.child("certificate"), "<certificate data>", &detail));
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

/// Whether a request is well formed and signed with the key that it names. (That it is
/// a request at all, validation has found.)
fn check_request(encoded: &str) -> Result<(), String> {
    let Ok(der) = request_der(encoded) else { return Ok(()) };
    let (_, request) = X509CertificationRequest::from_der(&der)
        .map_err(|error| format!("x509: malformed certificate request: {error}"))?;
    request.verify_signature().map_err(|_| "x509: the signature does not verify".to_owned())
}

/// Whether all certificates of a chain (base64 of PEM) are well formed.
fn check_chain(encoded: &str) -> Result<(), String> {
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    for block in Pem::iter_from_buffer(&pem).map_while(Result::ok).filter(|b| b.label == "CERTIFICATE") {
        X509Certificate::from_der(&block.contents)
            .map_err(|error| format!("x509: malformed certificate: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_own_their_keys() {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let encode = |pem: String| STANDARD.encode(pem);
        assert_eq!(check_request(&encode(request.pem().unwrap())), Ok(()));
        let mut der = request.der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        let block = |label: &str, der: &[u8]| {
            encode(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)))
        };
        check_request(&block("CERTIFICATE REQUEST", &der)).unwrap_err();
        check_request(&block("CERTIFICATE REQUEST", &[1, 2])).unwrap_err();
        check_chain(&block("CERTIFICATE", &[1, 2])).unwrap_err();
        assert_eq!(check_chain(""), Ok(()));
    }
}
