//! Rules of probes and life-cycle hooks.

use serde_json::Value;

use super::{Spec, containers};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, items, text};
use crate::validation::names;
use crate::validation::rules::{full, invalid_each, non_negative};

/// Hooks and probes of a container, in upstream's order.
pub fn all(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(lifecycle) = get(container, "lifecycle") {
        let path = path.child("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = get(lifecycle, hook) {
                self::handler(spec, handler, &path.child(hook), errors);
            }
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = get(container, kind) else { continue };
        let path = path.child(kind);
        self::probe(spec, probe, &path, errors);
        let successes = int(probe, "successThreshold").unwrap_or(0);
        if kind != "readinessProbe" && successes != 1 {
            errors.push(Error::invalid(&path.child("successThreshold"), successes, "must be 1"));
        }
        if let Some(grace) = get(probe, "terminationGracePeriodSeconds").filter(|_| kind == "readinessProbe")
        {
            let detail = "must not be set for readinessProbes";
            errors.push(Error::invalid(&path.child("terminationGracePeriodSeconds"), grace.clone(), detail));
        }
    }
}

fn probe(spec: &Spec<'_>, probe: &Value, path: &Path<'_>, errors: &mut Errors) {
    handler(spec, probe, path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        non_negative(errors, &path.child(field), int(probe, field).unwrap_or(0));
    }
    if let Some(grace) = int(probe, "terminationGracePeriodSeconds").filter(|grace| *grace <= 0) {
        let detail = "must be greater than 0";
        errors.push(Error::invalid(&path.child("terminationGracePeriodSeconds"), grace, detail));
    }
}

/// Exactly one handler, and its own rules.
fn handler(spec: &Spec<'_>, handler: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = get(handler, kind) else { continue };
        count += 1;
        let path = path.child(kind);
        match kind {
            _ if count > 1 => {
                errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
            }
            "exec" if items(action, "command").is_empty() => {
                errors.push(Error::required(&path.child("command"), ""));
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" | "grpc" => port(&action["port"], &path.child("port"), errors),
            "sleep" => containers::sleep(spec, handler, &path, errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut Errors) {
    if text(action, "path").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    port(&action["port"], &path.child("port"), errors);
    let scheme = text(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in items(action, "httpHeaders") {
        if full(errors) {
            break;
        }
        let name = text(header, "name");
        invalid_each(errors, &path.child("httpHeaders"), name, names::http_header_name(name));
    }
}

/// A port's number or name.
pub fn port(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    match port {
        Value::String(name) => invalid_each(errors, path, name.as_str(), names::port_name(name)),
        number => {
            let number = number.as_i64().unwrap_or(0);
            invalid_each(errors, path, number, names::port_number(number));
        }
    }
}
