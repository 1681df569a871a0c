//! Rules of ResourceSlices.

use serde_json::Value;

use super::{DRIVER, EFFECTS, LABEL, POOL, binding_conditions, map, node_selector, qualified, set, slice_of};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;
use crate::tree::{entries, flag, get, items, text};
use crate::validation::names;
use crate::validation::rules::{IMMUTABLE, full, immutable, invalid_each, not_supported};
use crate::validation::shape::{Row, Rule, check};

/// Rules of a ResourceSlice.
pub fn slice(object: &Value, errors: &mut Errors) {
    spec(&object["spec"], None, errors);
}

/// Rules of a ResourceSlice that replaces another.
pub fn slice_update(new: &Value, old: &Value, errors: &mut Errors) {
    spec(&new["spec"], Some(&old["spec"]), errors);
}

fn spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    const POOL_ROWS: &[Row] = &[
        ("name", POOL),
        (
            "resourceSliceCount",
            Rule::By(|at, errors| {
                crate::validation::rules::positive(errors, at.path, at.value.as_i64().unwrap_or(0));
            }),
        ),
        ("generation", Rule::Between(0, i64::MAX, "must be greater than or equal to zero")),
    ];
    let path = &Path::ROOT.child("spec");
    check(spec, &[("driver", DRIVER), ("pool", Rule::In(POOL_ROWS))], path, errors);
    if let Some(old) = old {
        let pool = path.child("pool");
        immutable(errors, &pool.child("name"), spec["pool"].get("name"), old["pool"].get("name"));
        immutable(errors, &path.child("driver"), spec.get("driver"), old.get("driver"));
        // (An empty name is another than none.)
        let node = |spec: &Value| get(spec, "nodeName").cloned().unwrap_or_default();
        if node(spec) != node(old) {
            errors.push(Error::invalid(&path.child("nodeName"), node(spec), IMMUTABLE));
        }
    }
    where_reachable(spec, path, errors);
    if get(spec, "sharedCounters").is_some() && get(spec, "devices").is_some() {
        errors.push(Error::invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let devices = items(spec, "devices");
    let advanced =
        |device: &Value| !items(device, "taints").is_empty() || !items(device, "consumesCounters").is_empty();
    let max = if devices.iter().any(advanced) { 64 } else { 128 };
    let each = flag(spec, "perDeviceNodeSelection");
    let name = |one: &Value| Value::from(text(one, "name"));
    set(devices, max, &path.child("devices"), errors, name, |device, path, errors| {
        let before = old.and_then(|old| {
            items(old, "devices").iter().find(|before| text(before, "name") == text(device, "name"))
        });
        self::device(device, before, each, path, errors);
    });
    let counters = items(spec, "sharedCounters");
    set(counters, 8, &path.child("sharedCounters"), errors, name, |one, path, errors| {
        counter_set(one, "name", path, errors);
    });
}

/// A set of counters, by its name in `field`.
fn counter_set(object: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    match text(object, field) {
        "" => errors.push(Error::required(&path.child(field), "")),
        name => invalid_each(errors, &path.child(field), name, names::dns_label(name)),
    }
    let path = path.child("counters");
    let count = entries(object, "counters").count();
    if count == 0 {
        errors.push(Error::required(&path, ""));
    } else if count > 32 {
        errors.push(Error::too_many(&path, count, 32));
    } else {
        let key = |name: &str, path: &Path<'_>, errors: &mut Errors| {
            invalid_each(errors, path, name, names::dns_label(name));
        };
        map(object, "counters", &path, errors, key, |_, _, _| {});
    }
}

/// On which nodes the slice's devices are.
fn where_reachable(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut given = Vec::new();
    if let Some(name) = get(spec, "nodeName").and_then(Value::as_str) {
        let path = path.child("nodeName");
        if name.is_empty() {
            errors.push(Error::invalid(&path, name, "must be either unset or set to a non-empty string"));
        } else {
            given.push("`nodeName`");
            invalid_each(errors, &path, name, names::dns_subdomain(name));
        }
    }
    if let Some(selector) = get(spec, "nodeSelector") {
        given.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        node_selector(selector, &path, errors);
        if items(selector, "nodeSelectorTerms").len() != 1 {
            let shown = selector.get("nodeSelectorTerms").cloned().unwrap_or_default();
            let detail = "must have exactly one node selector term";
            errors.push(Error::invalid(&path.child("nodeSelectorTerms"), shown, detail));
        }
    }
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match get(spec, field).and_then(Value::as_bool) {
            Some(true) => given.push(shown),
            Some(false) => {
                let detail = "must be either unset or set to true";
                errors.push(Error::invalid(&path.child(field), false, detail));
            }
            None => {}
        }
    }
    let detail =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => errors.push(Error::required(path, detail)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            errors.push(Error::invalid(path, shown, &format!("{detail}, but multiple fields are set")));
        }
    }
}

fn device(device: &Value, before: Option<&Value>, each: bool, path: &Path<'_>, errors: &mut Errors) {
    check(device, &[("name", LABEL)], path, errors);
    let count = |field: &str| entries(device, field).count();
    let total = count("attributes") + count("capacity");
    if total > 32 {
        let detail = "the total number of attributes and capacities must not exceed 32";
        errors.push(Error::invalid(path, total as i64, detail));
    }
    if count("attributes") > 48 {
        let detail = "the total number of attribute values must not exceed 48";
        errors.push(Error::invalid(path, count("attributes") as i64, detail));
    }
    map(device, "attributes", &path.child("attributes"), errors, qualified, attribute);
    let many = flag(device, "allowMultipleAllocations");
    map(device, "capacity", &path.child("capacity"), errors, qualified, |capacity, path, errors| {
        let path = path.child("requestPolicy");
        match get(capacity, "requestPolicy") {
            None => {}
            Some(policy) if many => request_policy(capacity, policy, &path, errors),
            Some(_) => errors.push(Error::forbidden(&path, "allowMultipleAllocations must be true")),
        }
    });
    if before.is_none_or(|before| !crate::tree::same_field(before, device, "taints")) {
        slice_of(items(device, "taints"), 16, &path.child("taints"), errors, taint);
    }
    let set_name = |one: &Value| Value::from(text(one, "counterSet"));
    let consumed = path.child("consumesCounters");
    set(items(device, "consumesCounters"), 2, &consumed, errors, set_name, |one, path, errors| {
        counter_set(one, "counterSet", path, errors);
    });
    node_of(device, each, path, errors);
    binding_conditions(device, path, errors);
}

fn taint(taint: &Value, path: &Path<'_>, errors: &mut Errors) {
    let key = text(taint, "key");
    invalid_each(errors, &path.child("key"), key, names::qualified_name(key));
    let value = text(taint, "value");
    invalid_each(errors, &path.child("value"), value, names::label_value(value));
    match text(taint, "effect") {
        "" => errors.push(Error::required(&path.child("effect"), "")),
        effect if !EFFECTS.contains(&effect) => {
            errors.push(not_supported(&path.child("effect"), effect, &EFFECTS));
        }
        _ => {}
    }
}

fn node_of(device: &Value, each: bool, path: &Path<'_>, errors: &mut Errors) {
    let has = |field: &str| get(device, field).is_some();
    if !each {
        if ["nodeName", "nodeSelector", "allNodes"].into_iter().any(has) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(Error::invalid(path, Value::Null, detail));
        }
        return;
    }
    let mut given = Vec::new();
    if let Some(name) = get(device, "nodeName").and_then(Value::as_str) {
        if name.is_empty() {
            errors.push(Error::invalid(&path.child("nodeName"), name, "must not be empty"));
        } else {
            given.push("`nodeName`");
            invalid_each(errors, &path.child("nodeName"), name, names::dns_subdomain(name));
        }
    }
    if let Some(selector) = get(device, "nodeSelector") {
        given.push("`nodeSelector`");
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
    match get(device, "allNodes").and_then(Value::as_bool) {
        Some(true) => given.push("`allNodes`"),
        Some(false) => {
            let detail = "must be either unset or set to true";
            errors.push(Error::invalid(&path.child("allNodes"), false, detail));
        }
        None => {}
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match given.len() {
        0 => errors.push(Error::required(path, detail)),
        1 => {}
        _ => errors.push(Error::invalid(path, format!("{{{}}}", given.join(", ")), detail)),
    }
}

fn attribute(attribute: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(value) = get(attribute, "string").and_then(Value::as_str)
        && value.len() > 64
    {
        errors.push(Error::too_long(&path.child("string"), 64));
    }
    if let Some(version) = get(attribute, "version").and_then(Value::as_str) {
        let path = path.child("version");
        if !semantic_version(version) {
            let detail = "must be a string compatible with semver.org spec 2.0.0";
            errors.push(Error::invalid(&path, version, detail));
        }
        if version.len() > 64 {
            errors.push(Error::too_long(&path, 64));
        }
    }
    let fields = ["int", "bool", "string", "version"];
    let detail = "exactly one value must be specified";
    match fields.iter().filter(|field| get(attribute, field).is_some()).count() {
        1 => {}
        0 => errors.push(Error::invalid(path, "", detail)),
        _ => {
            let json = internal::json("resource.DeviceAttribute", attribute);
            errors.push(crate::validation::rules::invalid_json(path, &json, detail));
        }
    }
}

/// semver.org, 2.0.0.
fn semantic_version(version: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (rest, build) = version.split_once('+').map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let core: Vec<&str> = core.split('.').collect();
    core.len() == 3
        && core.into_iter().all(number)
        && pre
            .is_none_or(|pre| pre.split('.').all(|part| if digits(part) { number(part) } else { word(part) }))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// How much of a capacity one claim may ask for.
fn request_policy(capacity: &Value, policy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let parse = |value: &Value| Quantity::parse(value.as_str()?).ok();
    let Some(most) = parse(&capacity["value"]) else { return };
    let most_text = text(capacity, "value");
    let (values, range) = (items(policy, "validValues"), get(policy, "validRange"));
    let default = get(policy, "default").and_then(|value| Some((parse(value)?, value.as_str()?)));
    let above = |a: Quantity, b: Quantity| a.minus(b).sign() > 0;
    if !values.is_empty() && range.is_some() {
        let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        errors.push(Error::forbidden(path, detail));
        return;
    }
    let needs = |words: &str, errors: &mut Errors| {
        if default.is_none() {
            errors
                .push(Error::required(&path.child("default"), &format!("required when {words} is defined")));
        }
        default
    };
    if !values.is_empty() {
        let Some((default, default_text)) = needs("validValues", errors) else { return };
        let path = path.child("validValues");
        for (at, pair) in values.windows(2).enumerate() {
            let (Some(a), Some(b)) = (parse(&pair[0]), parse(&pair[1])) else { continue };
            if above(a, b) && !full(errors) {
                let detail = "values must be sorted in ascending order";
                errors.push(Error::invalid(&path.index(at + 1), pair[1].clone(), detail));
            }
        }
        let mut found = values.len() > 10;
        let key =
            |value: &Value| Value::from(parse(value).map_or(0, |quantity| quantity.value()).to_string());
        set(values, 10, &path, errors, key, |option, path, errors| {
            let Some(quantity) = parse(option) else { return };
            if above(quantity, most) {
                let detail = format!("option is larger than capacity value: {most_text}");
                errors.push(Error::invalid(path, option.clone(), &detail));
            }
            found |= quantity.minus(default).sign() == 0;
        });
        if !found || values.len() > 10 {
            let detail = "default value is not valid according to the requestPolicy";
            errors.push(Error::invalid(&path, default_text, detail));
        }
    } else if let Some(range) = range {
        let Some(default) = needs("validRange", errors) else { return };
        request_range(range, default, (most, most_text), &path.child("validRange"), errors);
    }
}

fn request_range(
    range: &Value,
    default: (Quantity, &str),
    most: (Quantity, &str),
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let amount = |field: &str| {
        let shown = get(range, field)?.as_str()?;
        Some((Quantity::parse(shown).ok()?, shown))
    };
    let Some(min) = amount("min") else {
        errors.push(Error::required(&path.child("min"), "required when validRange is defined"));
        return;
    };
    let above = |a: Quantity, b: Quantity| a.minus(b).sign() > 0;
    let mut refuse = |field: &str, value: &str, detail: String| {
        errors.push(Error::invalid(&path.child(field), value, &detail));
    };
    if above(min.0, most.0) {
        refuse("min", min.1, format!("min is larger than capacity value: {}", most.1));
    }
    if above(min.0, default.0) {
        refuse("min", default.1, format!("default is less than min: {}", min.1));
    }
    let max = amount("max");
    if let Some(max) = max {
        if above(min.0, max.0) {
            refuse("max", min.1, format!("min is larger than max: {}", max.1));
        }
        if above(max.0, most.0) {
            refuse("max", max.1, format!("max is larger than capacity value: {}", most.1));
        }
        if above(default.0, max.0) {
            refuse("max", default.1, format!("default is more than max: {}", max.1));
        }
    }
    let Some(step) = amount("step") else { return };
    let first = min.0.plus(step.0);
    if above(first, most.0) {
        refuse("step", step.1, format!("one step {first} is larger than capacity value: {}", most.1));
    }
    for value in std::iter::once(default).chain(max) {
        let (step_value, gap) = (step.0.value(), value.0.value().saturating_sub(min.0.value()));
        if step_value != 0 && gap % step_value != 0 {
            let detail = format!("value is not a multiple of a given step ({}) from ({})", step.1, min.1);
            refuse("step", value.1, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semantic_versions() {
        for (version, valid) in [
            ("1.2.3", true),
            ("1.2.3-rc.1+build.5", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-01", false),
            ("1.2.3-", false),
            ("v1.2.3", false),
        ] {
            assert_eq!(semantic_version(version), valid, "{version}");
        }
    }
}
