//! Rules of `storage.k8s.io`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::rules::{
    IMMUTABLE, full, immutable, immutable_text, invalid_each, invalid_json, label_selector, not_supported,
};
use super::shape::{Row, Rule, check, non_negative_quantity};
use super::volumes;
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, get, int, items, same, text, texts};

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 << 10;

/// The name of whatever provisions, in a field.
const PROVISIONER: Rule = Rule::By(|at, errors| {
    let name = at.value.as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(Error::required(at.path, ""));
    } else {
        let lower = name.to_lowercase();
        invalid_each(errors, at.path, lower.as_str(), names::qualified_name(&lower));
    }
});

fn parameters(object: &Value, may_lack: bool, errors: &mut Errors) {
    let path = Path::ROOT.child("parameters");
    let all: Vec<(&str, &Value)> = entries(object, "parameters").collect();
    if all.len() > MAX_PARAMETERS {
        errors.push(Error::too_long(&path, MAX_PARAMETERS));
        return;
    }
    let mut size = 0;
    for (key, value) in &all {
        if key.is_empty() {
            errors.push(Error::invalid(&path, *key, "field can not be empty."));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_PARAMETER_BYTES {
        errors.push(Error::too_long(&path, MAX_PARAMETER_BYTES));
    }
    if !may_lack && all.is_empty() {
        errors.push(Error::required(&path, "must contain at least one key/value pair"));
    }
}

/// Rules of a StorageClass.
pub fn class(object: &Value, errors: &mut Errors) {
    const ROWS: &[Row] = &[
        ("provisioner", PROVISIONER),
        ("", Rule::By(|at, errors| parameters(at.value, true, errors))),
        (
            "reclaimPolicy",
            Rule::By(|at, errors| {
                let (policy, all) = (at.value.as_str().unwrap_or_default(), ["Delete", "Retain"]);
                if !policy.is_empty() && !all.contains(&policy) {
                    errors.push(not_supported(at.path, policy, &all));
                }
            }),
        ),
        (
            "volumeBindingMode",
            Rule::By(|at, errors| match at.value.as_str() {
                None => errors.push(Error::required(at.path, "")),
                Some("Immediate" | "WaitForFirstConsumer") => {}
                Some(other) => {
                    errors.push(not_supported(at.path, other, &["Immediate", "WaitForFirstConsumer"]));
                }
            }),
        ),
        ("allowedTopologies", Rule::By(|at, errors| topologies(at.value, at.path, errors))),
    ];
    check(object, ROWS, &Path::ROOT, errors);
}

fn topologies(terms: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<Vec<(&str, BTreeSet<&str>)>> = Vec::new();
    for (at, term) in terms.as_array().into_iter().flatten().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let list = path.child("matchLabelExpressions");
        let mut expressions: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for (at, requirement) in items(term, "matchLabelExpressions").iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = list.index(at);
            let mut values = BTreeSet::new();
            if items(requirement, "values").is_empty() {
                errors.push(Error::required(&path.child("values"), ""));
            }
            for (at, value) in texts(requirement, "values").enumerate() {
                if !values.insert(value) && !full(errors) {
                    errors.push(Error::duplicate(&path.child("values").index(at), value));
                }
            }
            let key = text(requirement, "key");
            invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
            match expressions.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => {
                    errors.push(Error::duplicate(&path.child("key"), key));
                    *known = values;
                }
                None => expressions.push((key, values)),
            }
        }
        expressions.sort();
        // (An empty term equals the empty places that upstream begins with.)
        let same = seen.iter().filter(|known| **known == expressions).count()
            + if expressions.is_empty() { terms.as_array().map_or(0, Vec::len) } else { 0 };
        for _ in 0..same {
            if !full(errors) {
                errors.push(Error::duplicate(&list, ""));
            }
        }
        seen.push(expressions);
    }
}

/// Rules of a StorageClass that replaces another.
pub fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |field: &str, errors: &mut Errors| {
        immutable(errors, &Path::ROOT.child(field), new.get(field), old.get(field));
    };
    fixed("parameters", errors);
    immutable_text(errors, &Path::ROOT.child("provisioner"), new, old, "provisioner");
    fixed("reclaimPolicy", errors);
    fixed("volumeBindingMode", errors);
}

/// Rules of a VolumeAttributesClass.
pub fn attributes(object: &Value, errors: &mut Errors) {
    check(object, &[("driverName", PROVISIONER)], &Path::ROOT, errors);
    parameters(object, false, errors);
}

/// Rules of a VolumeAttributesClass that replaces another.
pub fn attributes_update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["driverName", "parameters"] {
        if new.get(field) != old.get(field) {
            errors.push(Error::forbidden(
                &Path::ROOT.child(field),
                &format!("updates to {field} are forbidden."),
            ));
        }
    }
}

/// Rules of a VolumeAttachment.
pub fn attachment(object: &Value, errors: &mut Errors) {
    const SPEC: &[Row] = &[
        ("attacher", Rule::By(|at, errors| volumes::driver_name(at.value, at.path, errors))),
        ("source", Rule::By(|at, errors| attached(at.value, at.path, errors))),
        (
            "nodeName",
            Rule::By(|at, errors| {
                let name = at.value.as_str().unwrap_or_default();
                invalid_each(errors, at.path, name, names::dns_subdomain(name));
            }),
        ),
    ];
    const FAILURE: &[Row] = &[
        (
            "message",
            Rule::By(|at, errors| {
                if at.value.as_str().unwrap_or_default().len() > 1024 {
                    // (Upstream names another limit.)
                    errors.push(Error::too_long(at.path, MAX_PARAMETER_BYTES));
                }
            }),
        ),
        ("errorCode", Rule::Between(0, i64::MAX, "must be between 0 and 2147483647, inclusive")),
    ];
    const STATUS: &[Row] = &[
        (
            "attachmentMetadata",
            Rule::By(|at, errors| {
                let all = at.value.as_object().into_iter().flatten();
                let size: usize =
                    all.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
                if size > MAX_PARAMETER_BYTES {
                    errors.push(Error::too_long(at.path, MAX_PARAMETER_BYTES));
                }
            }),
        ),
        ("attachError", Rule::In(FAILURE)),
        ("detachError", Rule::In(FAILURE)),
    ];
    check(object, &[("spec", Rule::In(SPEC)), ("status", Rule::In(STATUS))], &Path::ROOT, errors);
    if let Some(name) = get(&object["spec"]["source"], "persistentVolumeName").and_then(Value::as_str) {
        let path = Path::ROOT.child("spec.source.persistentVolumeName");
        invalid_each(errors, &path, name, names::dns_subdomain(name));
    }
}

fn attached(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (get(source, "inlineVolumeSpec"), get(source, "persistentVolumeName")) {
        (None, None) => errors.push(Error::required(path, detail)),
        (Some(_), Some(_)) => errors.push(Error::forbidden(path, detail)),
        (None, Some(name)) => {
            if name.as_str() == Some("") {
                let detail = "must specify non empty persistentVolumeName";
                errors.push(Error::required(&path.child("persistentVolumeName"), detail));
            }
        }
        (Some(spec), None) => volumes::volume_spec(spec, "", true, &path.child("inlineVolumeSpec"), errors),
    }
}

/// Rules of a VolumeAttachment that replaces another.
pub fn attachment_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.get("spec"), old.get("spec")) {
        let json = internal::json("storage.VolumeAttachmentSpec", &new["spec"]);
        errors.push(invalid_json(&Path::ROOT.child("spec"), &json, IMMUTABLE));
    }
}

/// Rules of a CSIDriver.
pub fn driver(object: &Value, errors: &mut Errors) {
    const GIVEN: Rule = Rule::By(|at, errors| {
        if at.value.is_null() {
            errors.push(Error::required(at.path, ""));
        }
    });
    const SPEC: &[Row] = &[
        (
            "",
            Rule::By(|at, errors| {
                // (Upstream's name of the path.)
                if get(at.value, "attachRequired").is_none() {
                    errors.push(Error::required(&at.path.child("attachedRequired"), ""));
                }
            }),
        ),
        ("podInfoOnMount", GIVEN),
        ("storageCapacity", GIVEN),
        ("fsGroupPolicy", Rule::OneOf(&["File", "None", "ReadWriteOnceWithFSType"])),
        ("tokenRequests", Rule::By(|at, errors| token_requests(at.value, at.path, errors))),
        (
            "volumeLifecycleModes",
            Rule::By(|at, errors| {
                for mode in at.value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if !["Persistent", "Ephemeral"].contains(&mode) && !full(errors) {
                        errors.push(not_supported(at.path, mode, &["Persistent", "Ephemeral"]));
                    }
                }
            }),
        ),
        ("seLinuxMount", GIVEN),
        (
            "nodeAllocatableUpdatePeriodSeconds",
            Rule::Between(10, i64::MAX, "must be greater than or equal to 10 seconds"),
        ),
        (
            "serviceAccountTokenInSecrets",
            Rule::By(|at, errors| {
                if !at.value.is_null() && items(at.parent, "tokenRequests").is_empty() {
                    let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
                    errors.push(Error::invalid(at.path, at.value.clone(), detail));
                }
            }),
        ),
    ];
    check(&object["spec"], SPEC, &Path::ROOT.child("spec"), errors);
}

fn token_requests(requests: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut audiences = BTreeSet::new();
    for (at, request) in requests.as_array().into_iter().flatten().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let audience = text(request, "audience");
        if !audiences.insert(audience) {
            errors.push(Error::duplicate(&path.child("audience"), audience));
            continue;
        }
        let Some(seconds) = int(request, "expirationSeconds") else { continue };
        let path = path.child("expirationSeconds");
        if seconds < 600 {
            errors.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > 1 << 32 {
            errors.push(Error::invalid(
                &path,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            ));
        }
    }
}

/// Rules of a CSIDriver that replaces another.
pub fn driver_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("spec");
    for (field, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        immutable(errors, &path.child(shown), new["spec"].get(field), old["spec"].get(field));
    }
}

/// Rules of a CSINode.
pub fn node(object: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("drivers");
    let mut names = BTreeSet::new();
    for (at, driver) in items(&object["spec"], "drivers").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        node_driver(driver, &path, errors);
        let name = text(driver, "name");
        if !names.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        let mut keys = BTreeSet::new();
        for key in texts(driver, "topologyKeys") {
            if full(errors) {
                break;
            }
            if key.is_empty() {
                errors.push(Error::required(&path, ""));
            }
            if !keys.insert(key) {
                errors.push(Error::duplicate(&path, key));
            }
            invalid_each(errors, &path, key, names::qualified_name(key));
        }
    }
}

fn node_driver(driver: &Value, path: &Path<'_>, errors: &mut Errors) {
    const ROWS: &[Row] = &[
        ("name", Rule::By(|at, errors| volumes::driver_name(at.value, at.path, errors))),
        (
            "nodeID",
            Rule::By(|at, errors| {
                let id = at.value.as_str().unwrap_or_default();
                if id.is_empty() {
                    errors.push(Error::required(at.path, ""));
                }
                if id.len() > 256 {
                    errors.push(Error::invalid(at.path, id, "must be 256 characters or less"));
                }
            }),
        ),
        ("allocatable", Rule::In(&[("count", Rule::NonNegative)])),
    ];
    check(driver, ROWS, path, errors);
}

/// Rules of a CSINode that replaces another.
pub fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::ROOT.child("spec");
    let path = spec.child("drivers");
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        driver.as_object_mut().map(|fields| fields.remove("allocatable"));
        driver
    };
    for before in items(&old["spec"], "drivers") {
        for now in items(&new["spec"], "drivers").iter().filter(|now| now["name"] == before["name"]) {
            if !same(Some(&fixed(now)), Some(&fixed(before))) {
                let json = format!(
                    "{{\"Name\":{},\"NodeID\":{},\"TopologyKeys\":{},\"Allocatable\":null}}",
                    Value::from(text(now, "name")),
                    Value::from(text(now, "nodeID")),
                    now.get("topologyKeys").unwrap_or(&Value::Null)
                );
                errors.push(invalid_json(&path, &json, IMMUTABLE));
            }
        }
    }
}

/// Rules of a CSIStorageCapacity.
pub fn capacity(object: &Value, errors: &mut Errors) {
    label_selector(errors, get(object, "nodeTopology"), &Path::ROOT.child("nodeTopology"));
    let class = text(object, "storageClassName");
    invalid_each(errors, &Path::ROOT.child("storageClassName"), class, names::dns_subdomain(class));
    non_negative_quantity(&object["capacity"], &Path::ROOT.child("capacity"), errors);
}

/// Rules of a CSIStorageCapacity that replaces another.
pub fn capacity_update(new: &Value, old: &Value, errors: &mut Errors) {
    let field = "nodeTopology";
    immutable(errors, &Path::ROOT.child(field), new.get(field), old.get(field));
    let field = "storageClassName";
    immutable_text(errors, &Path::ROOT.child(field), new, old, field);
}
