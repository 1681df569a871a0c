//! Rules of a ResourceClaim's status: what is allocated stays allocated.

use std::collections::BTreeSet;

use serde_json::Value;

use super::claims::{configuration, request_name, request_names, requests};
use super::{DRIVER, LABEL, LIST_MAX, POOL, binding_conditions, node_selector, raw, set, slice_of};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{get, items, same_field, text};
use crate::validation::net;
use crate::validation::rules::{IMMUTABLE, conditions, invalid_json};
use crate::validation::shape::{Row, Rule, check};

const RESERVED_MAX: usize = 256;

/// A device that is allocated: driver, pool, name and share.
fn device_id(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| text(device, field))
}

/// Rules of a status that replaces another.
pub fn claim_status(new: &Value, old: &Value, errors: &mut Errors) {
    const USER: &[Row] =
        &[("resource", Rule::Required("")), ("name", Rule::Required("")), ("uid", Rule::Required(""))];
    let (status, before, path) = (&new["status"], &old["status"], &Path::ROOT.child("status"));
    let reserved = items(status, "reservedFor");
    let uid = |one: &Value| Value::from(text(one, "uid"));
    set(reserved, RESERVED_MAX, &path.child("reservedFor"), errors, uid, |one, path, errors| {
        check(one, USER, path, errors);
    });
    let allocation = get(status, "allocation");
    let results = allocation.map_or(&[][..], |allocation| items(&allocation["devices"], "results"));
    let allocated: BTreeSet<[&str; 4]> = results.iter().map(device_id).collect();
    let id = |one: &Value| Value::from(shown(one));
    set(items(status, "devices"), usize::MAX, &path.child("devices"), errors, id, |one, path, errors| {
        device(one, &allocated, path, errors);
    });
    if !reserved.is_empty() {
        let path = path.child("reservedFor");
        let known = items(before, "reservedFor");
        if allocation.is_none() {
            let detail = "may not be specified when `allocated` is not set";
            errors.push(Error::forbidden(&path, detail));
        } else if get(&new["metadata"], "deletionTimestamp").is_some()
            && reserved.iter().any(|one| !known.contains(one))
        {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    let Some(allocation) = allocation else { return };
    let path = path.child("allocation");
    if get(before, "allocation").is_some() {
        if !same_field(status, before, "allocation") {
            let json = internal::json("resource.AllocationResult", allocation);
            errors.push(invalid_json(&path, &json, IMMUTABLE));
        }
        return;
    }
    self::allocation(allocation, &new["spec"]["devices"], &path, errors);
}

fn shown(device: &Value) -> String {
    let [driver, pool, name, share] = device_id(device);
    if share.is_empty() {
        format!("{driver}/{pool}/{name}")
    } else {
        format!("{driver}/{pool}/{name}/{share}")
    }
}

/// A UUID in lower case.
const UID: Rule = Rule::By(|at, errors| {
    let Some(uid) = at.value.as_str() else { return };
    let shape = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let whole = uid.len() == 36 && uid.bytes().enumerate().all(shape);
    if !whole {
        let detail = format!("error validating uid: invalid UUID length: {}", uid.len());
        errors.push(Error::invalid(at.path, uid, &detail));
    } else if uid.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        errors.push(Error::invalid(at.path, uid, detail));
    }
});

const DEVICE: &[Row] = &[("driver", DRIVER), ("pool", POOL), ("device", LABEL)];

fn device(device: &Value, allocated: &BTreeSet<[&str; 4]>, path: &Path<'_>, errors: &mut Errors) {
    const NETWORK: &[Row] = &[
        ("interfaceName", Rule::By(|at, errors| too_long(at.value, 256, at.path, errors))),
        ("hardwareAddress", Rule::By(|at, errors| too_long(at.value, 128, at.path, errors))),
        (
            "ips",
            Rule::By(|at, errors| {
                let all = at.value.as_array().map_or(&[][..], Vec::as_slice);
                set(all, 16, at.path, errors, Value::clone, |one, path, errors| {
                    interface_address(one.as_str().unwrap_or_default(), path, errors);
                });
            }),
        ),
    ];
    check(device, DEVICE, path, errors);
    check(device, &[("shareID", UID)], path, errors);
    if !allocated.contains(&device_id(device)) {
        let [driver, pool, name, share] = device_id(device).map(|part| Value::from(part).to_string());
        let json = format!("{{\"Driver\":{driver},\"Pool\":{pool},\"Device\":{name},\"ShareID\":{share}}}");
        errors.push(invalid_json(path, &json, "must be an allocated device in the claim"));
    }
    let count = items(device, "conditions").len();
    if count > 8 {
        errors.push(Error::too_many(&path.child("conditions"), count, 8));
    }
    conditions(device, &path.child("conditions"), errors);
    if let Some(data) = get(device, "data") {
        raw(data, 10 << 10, &path.child("data"), errors);
    }
    check(device, &[("networkData", Rule::In(NETWORK))], path, errors);
}

fn too_long(value: &Value, max: usize, path: &Path<'_>, errors: &mut Errors) {
    if value.as_str().unwrap_or_default().len() > max {
        errors.push(Error::too_long(path, max));
    }
}

fn interface_address(value: &str, path: &Path<'_>, errors: &mut Errors) {
    let parsed = value.split_once('/').and_then(|(ip, length)| {
        let ip = net::sloppy_ip(ip)?;
        let most: u8 = if ip.is_ipv4() { 32 } else { 128 };
        Some((ip, length.parse::<u8>().ok().filter(|length| *length <= most)?))
    });
    let Some((ip, length)) = parsed else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.push(Error::invalid(path, value, detail));
        return;
    };
    let canonical = format!("{ip}/{length}");
    if canonical != value {
        errors.push(Error::invalid(path, value, &format!("must be in canonical form ({canonical:?})")));
    }
}

fn allocation(allocation: &Value, claim: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known = requests(claim);
    let (devices, own) = (&allocation["devices"], path.child("devices"));
    slice_of(items(devices, "results"), LIST_MAX, &own.child("results"), errors, |one, path, errors| {
        request_name(text(one, "request"), &known, &path.child("request"), errors);
        check(one, DEVICE, path, errors);
        binding_conditions(one, path, errors);
        check(one, &[("shareID", UID)], path, errors);
    });
    slice_of(items(devices, "config"), 64, &own.child("config"), errors, |one, path, errors| {
        check(one, &[("source", Rule::RequiredOneOf(&["FromClaim", "FromClass"]))], path, errors);
        request_names(one, &known, path, errors);
        configuration(one, path, errors);
    });
    if let Some(selector) = get(allocation, "nodeSelector") {
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
}
