//! Rules of the smaller kinds of the core group, Events and Leases.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::names;
use super::net::legacy_cidr;
use super::pods;
use super::rules::{IMMUTABLE, full, immutable, immutable_text, invalid_each, invalid_json};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, flag, get, int, int_at, items, same, text, text_at, texts};

/// Bytes of a ConfigMap's or Secret's values.
const MAX_DATA_BYTES: usize = 1 << 20;
const SEALED: &str = "field is immutable when `immutable` is set";

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

/// Rules of a ConfigMap.
pub fn config_map(map: &Value, errors: &mut Errors) {
    let mut size = 0;
    for list in ["data", "binaryData"] {
        let path = Path::ROOT.child(list);
        for (key, value) in entries(map, list) {
            if full(errors) {
                break;
            }
            let path = path.key(key);
            invalid_each(errors, &path, key, names::config_map_key(key));
            if list == "data" && get(&map["binaryData"], key).is_some() {
                errors.push(Error::invalid(&path, key, "duplicate of key present in binaryData"));
            }
            size += if list == "data" { value.as_str().map_or(0, str::len) } else { decoded(value).len() };
        }
    }
    if size > MAX_DATA_BYTES {
        // (Upstream's path is an empty key.)
        errors.push(Error::too_long(&Path::ROOT.key(""), MAX_DATA_BYTES));
    }
}

/// Rules of an update of a ConfigMap or Secret that was sealed.
pub fn sealed(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errors.push(Error::forbidden(&Path::ROOT.child("immutable"), SEALED));
    }
    for field in fields.iter().filter(|field| !same(new.get(**field), old.get(**field))) {
        errors.push(Error::forbidden(&Path::ROOT.child(field), SEALED));
    }
}

/// Rules of a Secret.
pub fn secret(secret: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("data");
    let mut size = 0;
    for (key, value) in entries(secret, "data") {
        if full(errors) {
            break;
        }
        invalid_each(errors, &path.key(key), key, names::config_map_key(key));
        size += decoded(value).len();
    }
    if size > MAX_DATA_BYTES {
        errors.push(Error::too_long(&path, MAX_DATA_BYTES));
    }
    let data = |key: &str| get(&secret["data"], key);
    let mut needs = |key: &str| {
        if data(key).is_none() {
            errors.push(Error::required(&path.key(key), ""));
        }
    };
    match text(secret, "type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if text(&secret["metadata"]["annotations"], key).is_empty() {
                let meta = Path::ROOT.child("metadata");
                errors.push(Error::required(&meta.child("annotations").key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => json_of(".dockercfg", data(".dockercfg"), &path, errors),
        "kubernetes.io/dockerconfigjson" => {
            json_of(".dockerconfigjson", data(".dockerconfigjson"), &path, errors);
        }
        "kubernetes.io/basic-auth" if data("username").is_none() && data("password").is_none() => {
            needs("username");
            needs("password");
        }
        "kubernetes.io/ssh-auth" if data("ssh-privatekey").is_none_or(|key| decoded(key).is_empty()) => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            needs("tls.crt");
            needs("tls.key");
        }
        _ => {}
    }
}

fn json_of(key: &str, value: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let Some(value) = value else { return errors.push(Error::required(&path.key(key), "")) };
    let bytes = decoded(value);
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        let detail = if bytes.is_empty() || error.is_eof() {
            "unexpected end of JSON input".to_owned()
        } else {
            error.to_string()
        };
        errors.push(Error::invalid(&path.key(key), "<secret contents redacted>", &detail));
    }
}

/// Rules of an update of a Secret, beyond those of a new one.
pub fn secret_update(new: &Value, old: &Value, errors: &mut Errors) {
    immutable(errors, &Path::ROOT.child("type"), new.get("type"), old.get("type"));
    sealed(new, old, &["data"], errors);
}

/// Rules of a Node, at creation and after.
pub fn node(node: &Value, errors: &mut Errors) {
    let meta = Path::ROOT.child("metadata");
    // (Upstream puts them under metadata.)
    taints(&node["spec"], &meta.child("taints"), errors);
    node_status(&node["status"], errors);
    let spec = Path::ROOT.child("spec");
    let path = spec.child("podCIDRs");
    let all: Vec<&str> = texts(&node["spec"], "podCIDRs").collect();
    for (at, network) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        legacy_cidr(errors, &path.index(at), network);
    }
    let sixes = all.iter().filter(|network| network.contains(':')).count();
    if all.len() > 2 || (all.len() == 2 && sixes != 1) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(Error::invalid(&path, node["spec"]["podCIDRs"].clone(), detail));
    }
}

fn declared_features(status: &Value, path: &Path<'_>, errors: &mut Errors) {
    const LONGEST: usize = 253;
    let segment = |segment: &str, starts: fn(&u8) -> bool| {
        segment.as_bytes().first().is_some_and(starts)
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let mut last: Option<&str> = None;
    for (at, feature) in texts(status, "declaredFeatures").enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        match last {
            Some(last) if last == feature => errors.push(Error::duplicate(&path, feature)),
            Some(last) if last > feature => {
                errors.push(Error::invalid(&path, feature, "list must be sorted alphabetically"));
            }
            _ => {}
        }
        last = Some(feature);
        let mut segments = feature.split('/');
        let wrong = if feature.len() > LONGEST {
            "must be no more than 253 characters"
        } else if !segments.next().is_some_and(|first| segment(first, u8::is_ascii_uppercase))
            || !segments.all(|more| segment(more, u8::is_ascii_alphabetic))
        {
            "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
        } else {
            continue;
        };
        errors.push(Error::invalid(&path, feature, &format!("invalid feature name {feature:?}: {wrong}")));
    }
}

fn taints(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, taint) in items(spec, "taints").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&path.child("value"), value, &wrong.join(";")));
        }
        if effect.is_empty() {
            errors.push(Error::required(&path.child("effect"), ""));
        } else {
            pods::taint_effect(effect, &path.child("effect"), errors);
        }
        if !seen.insert((key, effect)) {
            let mut error = Error::duplicate(&path, "");
            let time = taint.get("timeAdded").cloned().unwrap_or_default();
            error.message = format!(
                "Duplicate value: {{\"Key\":{key:?},\"Value\":{value:?},\"Effect\":{effect:?},\"TimeAdded\":{time}}}: taints must be unique by key and effect pair"
            );
            errors.push(error);
        }
    }
}

/// Rules of an update of a Node, beyond those that always hold.
pub fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    // (What is said of a new Node too is said twice of one that changes.)
    node_status(&new["status"], errors);
    let path = Path::ROOT.child("spec");
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let status = Path::ROOT.child("status");
    for (at, address) in items(&new["status"], "addresses").iter().enumerate() {
        if full(errors) {
            break;
        }
        if seen.insert(address.to_string(), ()).is_some() {
            let mut error = Error::duplicate(&status.child("addresses").index(at), "");
            error.message = format!(
                "Duplicate value: {{\"Type\":{:?},\"Address\":{:?}}}",
                text(address, "type"),
                text(address, "address")
            );
            errors.push(error);
        }
    }
    let (now, then) = (items(&new["spec"], "podCIDRs"), items(&old["spec"], "podCIDRs"));
    let changes = match now.len() == then.len() {
        true => now.iter().zip(then).filter(|(now, then)| now != then).count(),
        false => usize::from(!then.is_empty()),
    };
    for _ in 0..changes {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("podCIDRs"), detail));
    }
    let provider = |node: &Value| text(&node["spec"], "providerID").to_owned();
    if !provider(old).is_empty() && provider(old) != provider(new) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("providerID"), detail));
    }
    taints(&new["spec"], &Path::ROOT.child("metadata").child("taints"), errors);
    if text(&new["spec"], "externalID") != text(&old["spec"], "externalID") {
        errors.push(Error::forbidden(&path.child("externalID"), "may not be updated"));
    }
}

/// Amounts and features that a Node says it has.
fn node_status(status: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("status");
    for list in ["capacity", "allocatable"] {
        pods::quantities(&status[list], &path.child(list), errors);
    }
    declared_features(status, &path.child("declaredFeatures"), errors);
}

/// Rules of a new Namespace.
pub fn namespace(namespace: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("finalizers");
    for finalizer in texts(&namespace["spec"], "finalizers") {
        if full(errors) {
            break;
        }
        invalid_each(errors, &path, finalizer, names::qualified_name(finalizer));
        super::meta::qualified_finalizer(finalizer, &path, errors);
    }
}

/// Rules of a Namespace's status that replaces another.
pub fn namespace_status(new: &Value, errors: &mut Errors) {
    let deleting = crate::tree::at(new, &["metadata", "deletionTimestamp"]).is_some();
    let (wanted, state) = if deleting { ("Terminating", "not ") } else { ("Active", "") };
    let phase = text_at(new, &["status", "phase"]);
    if phase != wanted {
        let status = Path::ROOT.child("status");
        let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {state}empty");
        errors.push(Error::invalid(&status.child("Phase"), phase, &detail));
    }
}

/// Rules of a Lease.
pub fn lease(lease: &Value, errors: &mut Errors) {
    let (spec, path) = (&lease["spec"], Path::ROOT.child("spec"));
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        let path = path.child("leaseDurationSeconds");
        errors.push(Error::invalid(&path, seconds, "must be greater than 0"));
    }
    if let Some(count) = int(spec, "leaseTransitions").filter(|count| *count < 0) {
        let path = path.child("leaseTransitions");
        errors.push(Error::invalid(&path, count, "must be greater than or equal to 0"));
    }
    if !text(spec, "preferredHolder").is_empty() && text(spec, "strategy").is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
}

/// Rules of an Event in the core group's form, old or new; `new_api`, when it came through
/// `events.k8s.io`, only gives one field another name.
pub fn any_event(event: &Value, new_api: bool, errors: &mut Errors) {
    let namespace = text_at(event, &["metadata", "namespace"]);
    let about = text_at(event, &["involvedObject", "namespace"]);
    let root = |field: &'static str| Path::ROOT.child(field);
    let involved = root("involvedObject");
    let mismatch = || Error::invalid(&involved.child("namespace"), about, "does not match event.namespace");
    if get(event, "eventTime").is_none() {
        let fits = if about.is_empty() { ["", "default"].contains(&namespace) } else { about == namespace };
        if !fits {
            errors.push(mismatch());
        }
    } else {
        if about.is_empty() && !["default", "kube-system"].contains(&namespace) {
            errors.push(mismatch());
        }
        let controller = text(event, "reportingComponent");
        let path = root(if new_api { "reportingController" } else { "reportingComponent" });
        if controller.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        invalid_each(errors, &path, controller, names::qualified_name(controller));
        for field in ["reportingInstance", "action", "reason", "message"] {
            let (value, limit) = (text(event, field), if field == "message" { 1024 } else { 128 });
            if value.is_empty() && field != "message" {
                errors.push(Error::required(&root(field), ""));
            }
            if value.len() > limit {
                errors.push(Error::invalid(
                    &root(field),
                    "",
                    &format!("can have at most {limit} characters"),
                ));
            }
        }
    }
    invalid_each(errors, &root("namespace"), namespace, names::dns_subdomain(namespace));
}

/// What newer rules ask of a new Event besides.
pub fn new_event(event: &Value, errors: &mut Errors) {
    series(event, errors);
    if get(event, "eventTime").is_none() {
        errors.push(Error::required(&Path::ROOT.child("eventTime"), ""));
    }
    let ty = text(event, "type");
    if !["Normal", "Warning"].contains(&ty) {
        errors.push(Error::invalid(&Path::ROOT.child("type"), "", &format!("has invalid value: {ty}")));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let set = match field {
            "count" => int(event, field).unwrap_or(0) != 0,
            "source" => ["component", "host"].iter().any(|part| !text(&event[field], part).is_empty()),
            _ => get(event, field).is_some(),
        };
        if set {
            errors.push(Error::invalid(&Path::ROOT.child(field), "", "needs to be unset"));
        }
    }
}

fn series(event: &Value, errors: &mut Errors) {
    if let Some(series) = get(event, "series") {
        if int_at(series, &["count"]).unwrap_or(0) < 2 {
            let path = Path::ROOT.child("series.count");
            errors.push(Error::invalid(&path, "", "should be at least 2"));
        }
        if get(series, "lastObservedTime").is_none() {
            errors.push(Error::required(&Path::ROOT.child("series.lastObservedTime"), ""));
        }
    }
}

/// A field that is a text, and empty when it is absent.
const TEXT: &str = "text";

/// Rules of an update of an Event.
pub fn event_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.get("series"), old.get("series")) {
        series(new, errors);
    }
    // (Upstream asks for the reason twice.)
    for (field, shown, ty) in [
        ("involvedObject", "involvedObject", "core.ObjectReference"),
        ("reason", "reason", TEXT),
        ("message", "message", TEXT),
        ("source", "source", "core.EventSource"),
        ("firstTimestamp", "firstTimestamp", ""),
        ("lastTimestamp", "lastTimestamp", ""),
        ("count", "count", ""),
        ("reason", "reason", TEXT),
        ("type", "type", TEXT),
        ("eventTime", "eventTime", ""),
        ("action", "action", TEXT),
        ("related", "related", "*core.ObjectReference"),
        ("reportingComponent", "reportingController", TEXT),
        ("reportingInstance", "reportingInstance", TEXT),
    ] {
        let path = Path::ROOT.child(shown);
        match ty {
            TEXT => immutable_text(errors, &path, new, old, field),
            "" => immutable(errors, &path, new.get(field), old.get(field)),
            _ if same(new.get(field), old.get(field)) => {}
            "core.EventSource" => {
                let part = |name: &str| Value::from(text(&new[field], name)).to_string();
                let json = format!("{{\"Component\":{},\"Host\":{}}}", part("component"), part("host"));
                errors.push(invalid_json(&path, &json, IMMUTABLE));
            }
            ty => errors.push(invalid_json(&path, &internal::json(ty, &new[field]), IMMUTABLE)),
        }
    }
}
