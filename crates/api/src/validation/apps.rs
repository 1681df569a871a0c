//! Rules of Deployments, ReplicaSets, DaemonSets, StatefulSets and ControllerRevisions.

use serde_json::Value;

use super::names;
use super::pods;
use super::rules::{
    IMMUTABLE, empty_selector, immutable, invalid_each, invalid_json, invalid_struct, label_selector,
    non_negative, not_supported,
};
use super::shape::{Row, Rule, check};
use super::volumes;
use crate::field::{Error, Errors, Path};
use crate::selector::Labels;
use crate::tree::{get, int, items, same, text};

/// The selector of a Deployment, ReplicaSet or DaemonSet may not change.
pub fn same_selector(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (new["spec"].get("selector"), old["spec"].get("selector"));
    immutable(errors, &Path::ROOT.child("spec").child("selector"), new, old);
}

fn selector_and_template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selector = get(spec, "selector");
    let selector_path = path.child("selector");
    match selector {
        None => errors.push(Error::required(&selector_path, "")),
        Some(value) => {
            label_selector(errors, selector, &selector_path);
            if empty_selector(selector) {
                errors.push(invalid_struct(
                    &selector_path,
                    value,
                    "empty selector is invalid for deployment",
                ));
            }
        }
    }
    let template = &spec["template"];
    let labels = &template["metadata"]["labels"];
    // An absent selector matches nothing, an empty one everything.
    match selector.map(Labels::from_value) {
        Some(Err(_)) => {
            let value = selector.unwrap_or(&Value::Null);
            errors.push(invalid_struct(&selector_path, value, "invalid label selector"));
            return;
        }
        Some(Ok(selector)) if selector.matches_value(labels) => {}
        Some(Ok(_)) | None => {
            let template = path.child("template");
            let path = template.child("metadata");
            let detail = "`selector` does not match template `labels`";
            errors.push(Error::invalid(&path.child("labels"), labels.clone(), detail));
        }
    }
    self::template(template, "ReplicaSet", &path.child("template"), errors);
}

fn template(template: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    pods::template(template, path, errors);
    long_lived(&template["spec"], kind, path, errors);
}

/// Pods of these kinds run for ever.
pub fn long_lived(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("spec");
    let restart = text(spec, "restartPolicy");
    if restart != "Always" {
        errors.push(Error::not_supported(&path.child("restartPolicy"), restart, &["Always"]));
    }
    if get(spec, "activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path.child("activeDeadlineSeconds"), &detail));
    }
}

/// Rules of a Deployment.
pub fn deployment(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], &Path::ROOT.child("spec"));
    let count = |field: &str| int(spec, field);
    non_negative(errors, &path.child("replicas"), count("replicas").unwrap_or(0));
    selector_and_template(spec, path, errors);
    strategy(&spec["strategy"], &path.child("strategy"), errors);
    let ready = count("minReadySeconds").unwrap_or(0);
    non_negative(errors, &path.child("minReadySeconds"), ready);
    non_negative(errors, &path.child("revisionHistoryLimit"), count("revisionHistoryLimit").unwrap_or(0));
    if let Some(deadline) = count("progressDeadlineSeconds") {
        let path = path.child("progressDeadlineSeconds");
        non_negative(errors, &path, deadline);
        if deadline <= ready {
            errors.push(Error::invalid(&path, deadline, "must be greater than minReadySeconds"));
        }
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = get(strategy, "rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Error::forbidden(&path.child("rollingUpdate"), detail));
        }
        ("RollingUpdate", None) => {
            let detail = "this should be defaulted and never be nil";
            errors.push(Error::required(&path.child("rollingUpdate"), detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            int_or_percent(unavailable, &path.child("maxUnavailable"), errors);
            int_or_percent(surge, &path.child("maxSurge"), errors);
            if amount(unavailable) == 0 && amount(surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(Error::invalid(&path.child("maxUnavailable"), unavailable.clone(), detail));
            }
            at_most_all(unavailable, &path.child("maxUnavailable"), errors);
        }
        _ => {
            let mut error = Error::not_supported(path, "", &["Recreate", "RollingUpdate"]);
            // As Go shows the struct.
            let rolling = rolling.cloned().unwrap_or_default();
            error.message = format!(
                "Unsupported value: {{\"Type\":{:?},\"RollingUpdate\":{rolling}}}: supported values: \"Recreate\", \"RollingUpdate\"",
                text(strategy, "type")
            );
            errors.push(error);
        }
    }
}

/// A count or a percentage.
pub fn int_or_percent(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(percent) => invalid_each(errors, path, percent.as_str(), names::percent(percent)),
        number => non_negative(errors, path, number.as_i64().unwrap_or(0)),
    }
}

/// A percentage up to 100.
pub fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.is_string() && amount(value) > 100 {
        errors.push(Error::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

fn amount(value: &Value) -> i64 {
    match value {
        Value::String(percent) => {
            let digits =
                percent.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        }
        number => number.as_i64().unwrap_or(0),
    }
}

/// Rules of a ReplicaSet.
pub fn replica_set(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], &Path::ROOT.child("spec"));
    for field in ["replicas", "minReadySeconds"] {
        non_negative(errors, &path.child(field), int(spec, field).unwrap_or(0));
    }
    // (Upstream says deployment here too.)
    selector_and_template(spec, path, errors);
}

/// Rules of a DaemonSet.
pub fn daemon_set(object: &Value, errors: &mut Errors) {
    const SPEC: &[Row] = &[
        ("selector", Rule::Selector),
        ("", Rule::By(|at, errors| daemon_template(at.value, at.path, errors))),
        ("minReadySeconds", Rule::NonNegative),
        ("updateStrategy", Rule::By(|at, errors| daemon_strategy(at.value, at.path, errors))),
        ("revisionHistoryLimit", Rule::NonNegative),
    ];
    check(&object["spec"], SPEC, &Path::ROOT.child("spec"), errors);
}

fn daemon_template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (selector, template) = (get(spec, "selector"), &spec["template"]);
    let template_path = path.child("template");
    let labels = &template["metadata"]["labels"];
    let matches = match selector.map(Labels::from_value) {
        None => false,
        Some(Ok(selector)) => selector.matches_value(labels),
        Some(Err(_)) => true,
    };
    if !matches {
        errors.push(mismatch(labels, &template_path));
    }
    if let Some(value) = selector.filter(|_| empty_selector(selector)) {
        let detail = "empty selector is invalid for daemonset";
        errors.push(invalid_struct(&path.child("selector"), value, detail));
    }
    self::template(template, "DaemonSet", &template_path, errors);
}

fn mismatch(labels: &Value, template: &Path<'_>) -> Error {
    let path = template.child("metadata");
    Error::invalid(&path.child("labels"), labels.clone(), "`selector` does not match template `labels`")
}

fn daemon_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (unavailable, surge) =
        (&strategy["rollingUpdate"]["maxUnavailable"], &strategy["rollingUpdate"]["maxSurge"]);
    let rolling = get(strategy, "rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(&path.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(_)) => {
            let path = path.child("rollingUpdate");
            let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
            int_or_percent(unavailable, &unavailable_path, errors);
            int_or_percent(surge, &surge_path, errors);
            at_most_all(unavailable, &unavailable_path, errors);
            at_most_all(surge, &surge_path, errors);
            match (amount(unavailable) != 0, amount(surge) != 0) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(Error::invalid(&surge_path, surge.clone(), detail));
                }
                (false, false) => {
                    errors.push(Error::required(&unavailable_path, "cannot be 0 when maxSurge is 0"));
                }
                _ => {}
            }
        }
        (ty, rolling) => {
            let or_zero = |value: &Value| if value.is_null() { Value::from(0) } else { value.clone() };
            let rolling = rolling.map_or("null".to_owned(), |_| {
                format!("{{\"MaxUnavailable\":{},\"MaxSurge\":{}}}", or_zero(unavailable), or_zero(surge))
            });
            let mut error = not_supported(path, ty, &["RollingUpdate", "OnDelete"]);
            error.message = error.message.replacen(
                &Value::from(ty).to_string(),
                &format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", Value::from(ty)),
                1,
            );
            errors.push(error);
        }
    }
}

/// Rules of a StatefulSet.
pub fn stateful_set(object: &Value, errors: &mut Errors) {
    stateful_spec(&object["spec"], Scope::New, errors);
}

/// How much of a StatefulSet's rules applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    New,
    /// Names and claims may not change, so they are not judged again.
    Changed,
    /// As before, but for the pods: they were wrong already.
    ChangedWithoutPods,
}

fn stateful_spec(spec: &Value, scope: Scope, errors: &mut Errors) {
    const RETENTION: &[Row] = &[
        ("whenDeleted", Rule::Must(&["Retain", "Delete"])),
        ("whenScaled", Rule::Must(&["Retain", "Delete"])),
    ];
    const HEAD: &[Row] = &[
        (
            "podManagementPolicy",
            Rule::By(|at, errors| match at.value.as_str().unwrap_or_default() {
                "" => errors.push(Error::required(at.path, "")),
                "OrderedReady" | "Parallel" => {}
                other => errors.push(Error::invalid(at.path, other, "must be 'OrderedReady' or 'Parallel'")),
            }),
        ),
        ("updateStrategy", Rule::By(|at, errors| stateful_strategy(at.value, at.path, errors))),
        ("persistentVolumeClaimRetentionPolicy", Rule::In(RETENTION)),
    ];
    const CLAIM: &[Row] = &[("spec", Rule::By(|at, errors| volumes::claim_spec(at.value, at.path, errors)))];
    const NEW: &[Row] = &[("volumeClaimTemplates", Rule::Each(CLAIM))];
    const COUNTS: &[Row] = &[
        ("replicas", Rule::NonNegative),
        ("minReadySeconds", Rule::NonNegative),
        ("ordinals", Rule::In(&[("start", Rule::NonNegative)])),
    ];
    const NAME: &[Row] = &[("serviceName", Rule::Is(names::dns_label))];
    let path = Path::ROOT.child("spec");
    check(spec, HEAD, &path, errors);
    if scope == Scope::New {
        check(spec, NEW, &path, errors);
    }
    check(spec, COUNTS, &path, errors);
    if scope == Scope::New {
        check(spec, NAME, &path, errors);
    }
    stateful_template(spec, scope, &path, errors);
}

fn stateful_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = get(strategy, "rollingUpdate");
    let partition = rolling.map_or(0, |rolling| int(rolling, "partition").unwrap_or(0));
    let shown = |rolling: &Value| {
        let unavailable = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        format!("{{\"Partition\":{partition},\"MaxUnavailable\":{unavailable}}}")
    };
    match text(strategy, "type") {
        "" => errors.push(Error::required(path, "")),
        "OnDelete" => {
            if let Some(rolling) = rolling {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(invalid_json(&path.child("rollingUpdate"), &shown(rolling), detail));
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = rolling else { return };
            let path = path.child("rollingUpdate");
            non_negative(errors, &path.child("partition"), partition);
            if let Some(unavailable) = get(rolling, "maxUnavailable") {
                let path = path.child("maxUnavailable");
                int_or_percent(unavailable, &path, errors);
                if amount(unavailable) == 0 {
                    errors.push(Error::invalid(&path, unavailable.clone(), "cannot be 0"));
                }
                at_most_all(unavailable, &path, errors);
            }
        }
        other => {
            let rolling = rolling.map_or("null".to_owned(), shown);
            let json = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", Value::from(other));
            errors.push(invalid_json(path, &json, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

fn stateful_template(spec: &Value, scope: Scope, path: &Path<'_>, errors: &mut Errors) {
    let selector = get(spec, "selector");
    let selector_path = path.child("selector");
    match selector {
        None => errors.push(Error::required(&selector_path, "")),
        Some(value) => {
            label_selector(errors, selector, &selector_path);
            if empty_selector(selector) {
                let detail = "empty selector is invalid for statefulset";
                errors.push(invalid_struct(&selector_path, value, detail));
            }
        }
    }
    let template_path = path.child("template");
    let template = &spec["template"];
    let labels = &template["metadata"]["labels"];
    match selector.map(Labels::from_value) {
        Some(Err(_)) => {
            errors.push(invalid_struct(&selector_path, selector.unwrap_or(&Value::Null), ""));
        }
        parsed => {
            let matches = match parsed {
                // An absent selector matches nothing; upstream does not take it for an empty one.
                None => false,
                Some(Ok(selector)) => selector.is_everything() || selector.matches_value(labels),
                Some(Err(_)) => true,
            };
            if !matches {
                errors.push(mismatch(labels, &template_path));
            }
            if scope != Scope::ChangedWithoutPods {
                pods::template(&identified(spec), &template_path, errors);
            }
            pods::template_metadata(template, &template_path, errors);
        }
    }
    long_lived(&template["spec"], "StatefulSet", &template_path, errors);
}

/// The template as the pods will have it: with names of their own and claims for volumes.
fn identified(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let claims = items(spec, "volumeClaimTemplates");
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else { return template };
    pod.remove("hostname");
    pod.remove("subdomain");
    if !claims.is_empty() {
        let names: Vec<&str> = claims.iter().map(|claim| text(&claim["metadata"], "name")).collect();
        let source =
            |name: &&str| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        let mut volumes: Vec<Value> = Vec::new();
        for name in &names {
            let volume = source(name);
            if !volumes.contains(&volume) {
                volumes.push(volume);
            }
        }
        let own = items(&spec["template"]["spec"], "volumes");
        volumes.extend(own.iter().filter(|volume| !names.contains(&text(volume, "name"))).cloned());
        pod.insert("volumes".into(), volumes.into());
    }
    template
}

/// Rules of a StatefulSet that replaces another.
pub fn stateful_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let mut before = Errors::new();
    stateful_spec(old, Scope::Changed, &mut before);
    let scope = if before.is_empty() { Scope::Changed } else { Scope::ChangedWithoutPods };
    stateful_spec(new, scope, errors);
    let may_change = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|field, _| !may_change.contains(&field.as_str()));
        }
        spec
    };
    if !same(Some(&fixed(new)), Some(&fixed(old))) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&Path::ROOT.child("spec"), detail));
    }
}

/// Rules of a ControllerRevision.
pub fn revision(object: &Value, errors: &mut Errors) {
    non_negative(errors, &Path::ROOT.child("revision"), int(object, "revision").unwrap_or(0));
    let detail = match &object["data"] {
        Value::Null => "data is mandatory",
        Value::Object(_) => return,
        _ => "data must be a valid JSON object",
    };
    errors.push(Error::required(&Path::ROOT.child("data"), detail));
}

/// Rules of a ControllerRevision that replaces another.
pub fn revision_update(new: &Value, old: &Value, errors: &mut Errors) {
    non_negative(errors, &Path::ROOT.child("revision"), int(new, "revision").unwrap_or(0));
    if new.get("data") != old.get("data") {
        let data = new.get("data").cloned().unwrap_or_default();
        errors.push(invalid_json(&Path::ROOT.child("data"), &data.to_string(), IMMUTABLE));
    }
}

/// Rules of a status that replaces another.
pub fn status(kind: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (&new["status"], Path::ROOT.child("status"));
    let counts = &STATUS.iter().find(|(name, _)| *name == kind).expect("every kind of the group").1;
    let count = |field: &str| int(status, field).unwrap_or(0);
    for field in counts.counted {
        non_negative(errors, &path.child(field), count(field));
    }
    for field in counts.within {
        if count(field) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(Error::invalid(&path.child(field), count(field), detail));
        }
    }
    if !counts.ready.is_empty() && count("availableReplicas") > count("readyReplicas") {
        let detail = format!("cannot be greater than {}", counts.ready);
        errors.push(Error::invalid(&path.child("availableReplicas"), count("availableReplicas"), &detail));
    }
    let before = int(&old["status"], "collisionCount");
    let fewer = before.is_some_and(|before| int(status, "collisionCount").is_none_or(|now| now < before));
    if fewer && counts.counted.contains(&"collisionCount") {
        let path = path.child("collisionCount");
        errors.push(Error::invalid(&path, count("collisionCount"), "cannot be decremented"));
    }
}

/// What a kind's status counts.
struct Counts {
    /// Never negative.
    counted: &'static [&'static str],
    /// At most as many as replicas.
    within: &'static [&'static str],
    /// What available replicas are at most, in the kind's words.
    ready: &'static str,
}

const STATUS: [(&str, Counts); 5] = [
    (
        "Deployment",
        Counts {
            counted: &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            within: &["updatedReplicas", "readyReplicas", "availableReplicas"],
            ready: "readyReplicas",
        },
    ),
    (
        "ReplicaSet",
        Counts {
            counted: &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ],
            within: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
            ready: "readyReplicas",
        },
    ),
    (
        "ReplicationController",
        Counts {
            counted: &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
            ],
            within: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
            ready: "readyReplicas",
        },
    ),
    (
        "StatefulSet",
        Counts {
            counted: &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ],
            within: &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
            ready: "status.readyReplicas",
        },
    ),
    (
        "DaemonSet",
        Counts {
            counted: &[
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ],
            within: &[],
            ready: "",
        },
    ),
];
