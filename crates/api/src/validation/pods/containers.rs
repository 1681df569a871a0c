//! Rules of containers: regular, init and ephemeral.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Spec, env, probes, resources, security, volumes};
use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, int_at, items, text};
use crate::validation::names;
use crate::validation::rules::{full, invalid_each, not_supported, one_of};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];

/// `spec.containers`.
pub fn containers(spec: &Spec<'_>, path: &Path<'_>, errors: &mut Errors) {
    let all = items(spec.spec, "containers");
    if all.is_empty() {
        return errors.push(Error::required(path, ""));
    }
    let mut names = BTreeSet::new();
    for (at, container) in all.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        common(spec, container, &path, errors);
        let name = text(container, "name");
        if !names.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        probes::all(spec, container, &path, errors);
        restart_policy(container, &path, errors);
    }
    unique_host_ports(all, path, errors);
}

/// `spec.initContainers`.
pub fn init_containers(spec: &Spec<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut names: BTreeSet<&str> = items(spec.spec, "containers").iter().map(|c| text(c, "name")).collect();
    for (at, container) in items(spec.spec, "initContainers").iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path;
        let path = path.index(at);
        common(spec, container, &path, errors);
        init_restart_policy(container, &path, errors);
        let name = text(container, "name");
        if !name.is_empty() && !names.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        unique_host_ports(std::slice::from_ref(container), list, errors);
        let sidecar = text(container, "restartPolicy") == "Always";
        if sidecar {
            probes::all(spec, container, &path, errors);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if get(container, field).is_some() {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.push(Error::forbidden(&path.child(field), detail));
                }
            }
            let policies = path.child("resizePolicy");
            for (at, policy) in items(container, "resizePolicy").iter().enumerate() {
                if full(errors) {
                    break;
                }
                if text(policy, "restartPolicy") == "RestartContainer" {
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    let path = policies.index(at);
                    errors.push(Error::invalid(&path.child("restartPolicy"), "RestartContainer", detail));
                }
            }
        }
    }
}

/// `spec.ephemeralContainers`.
pub fn ephemeral_containers(spec: &Spec<'_>, path: &Path<'_>, errors: &mut Errors) {
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(spec.spec, list))
        .map(|container| text(container, "name"))
        .collect();
    let mut names = others.clone();
    for (at, container) in items(spec.spec, "ephemeralContainers").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        common(spec, container, &path, errors);
        let image = text(container, "image");
        if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            errors.push(Error::invalid(&path.child("image"), image, detail));
        }
        let name = text(container, "name");
        if !names.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        let detail = "cannot be set for an Ephemeral Container";
        // (In the order of Go's struct.)
        let forbidden = [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ];
        for field in forbidden {
            // A pointer to nothing is set, a struct of nothing is not.
            let set = match (field, get(container, field)) {
                ("resources", Some(Value::Object(fields))) => fields.values().any(|value| !value.is_null()),
                (_, value) => value.is_some(),
            };
            if set {
                errors.push(Error::forbidden(&path.child(field), detail));
            }
        }
        for (at, mount) in items(container, "volumeMounts").iter().enumerate() {
            if full(errors) {
                break;
            }
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let mounts = path.child("volumeMounts");
                    errors.push(Error::forbidden(&mounts.index(at).child(field), detail));
                }
            }
        }
    }
}

fn common(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    match text(container, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => invalid_each(errors, &path.child("name"), name, names::dns_label(name)),
    }
    if text(container, "image").is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    super::ordered(errors, container, "terminationMessagePolicy", path, &["File", "FallbackToLogsOnError"]);
    ports(container, &path.child("ports"), errors);
    env::variables(container, &path.child("env"), errors);
    env::sources(container, &path.child("envFrom"), errors);
    volumes::mounts(spec, container, &path.child("volumeMounts"), errors);
    volumes::devices(spec, container, &path.child("volumeDevices"), errors);
    one_of(errors, container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"], true);
    resources::container(spec, container, &path.child("resources"), errors);
    resize_policy(spec, container, &path.child("resizePolicy"), errors);
    security::container(spec, container, &path.child("securityContext"), errors);
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, port) in items(container, "ports").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            invalid_each(errors, &path.child("name"), name, wrong);
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            number => {
                invalid_each(errors, &path.child("containerPort"), number, names::port_number(number));
            }
        }
        let host = int(port, "hostPort").unwrap_or(0);
        if host != 0 {
            invalid_each(errors, &path.child("hostPort"), host, names::port_number(host));
        }
        one_of(errors, port, "protocol", &path, &PROTOCOLS, true);
    }
}

fn unique_host_ports(containers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let path = path.child("ports");
        for (at, port) in items(container, "ports").iter().enumerate() {
            if full(errors) {
                break;
            }
            let host = int(port, "hostPort").unwrap_or(0);
            let key = format!("{}/{}/{host}", text(port, "protocol"), text(port, "hostIP"));
            if host != 0 && !seen.insert(key.clone()) {
                errors.push(Error::duplicate(&path.index(at).child("hostPort"), key));
            }
        }
    }
}

/// Rules of restarts are looked at only beside a policy.
fn init_restart_policy(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    if get(container, "restartPolicy").is_some() {
        return restart_policy(container, path, errors);
    }
    if !items(container, "restartPolicyRules").is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(Error::required(&path.child("restartPolicy"), detail));
    }
}

fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules = items(container, "restartPolicyRules");
    match get(container, "restartPolicy").and_then(Value::as_str) {
        None if rules.is_empty() => return,
        None => {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.push(Error::required(&path.child("restartPolicy"), detail));
        }
        Some(policy) if !RESTART_POLICIES.contains(&policy) => {
            errors.push(Error::not_supported(&path.child("restartPolicy"), policy, &RESTART_POLICIES));
        }
        Some(_) => {}
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(Error::too_many(&path, rules.len(), 20));
    }
    for (at, rule) in rules.iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let (action, actions) = (text(rule, "action"), ["Restart", "RestartAllContainers"]);
        if !actions.contains(&action) {
            errors.push(Error::not_supported(&path.child("action"), action, &actions));
        }
        let Some(codes) = get(rule, "exitCodes") else {
            errors.push(Error::required(&path.child("exitCodes"), "must be specified"));
            continue;
        };
        let path = path.child("exitCodes");
        let operator = text(codes, "operator");
        if !["In", "NotIn"].contains(&operator) {
            errors.push(Error::not_supported(&path.child("operator"), operator, &["In", "NotIn"]));
        }
        let count = items(codes, "values").len();
        if count > 255 {
            errors.push(Error::too_many(&path.child("values"), count, 255));
        }
    }
}

fn resize_policy(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeMap::new();
    for (at, policy) in items(container, "resizePolicy").iter().enumerate() {
        if full(errors) {
            break;
        }
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if seen.insert(resource, ()).is_some() {
            errors.push(Error::duplicate(&path.index(at), resource));
        }
        let supported = [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])];
        for (value, supported) in supported {
            match value {
                "" => errors.push(Error::required(path, "")),
                _ if supported.contains(&value) => {}
                _ => errors.push(not_supported(path, value, &supported)),
            }
        }
        if text(spec.spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, detail));
        }
    }
}

/// Seconds of a sleep hook, which must fit into the grace period.
pub fn sleep(spec: &Spec<'_>, handler: &Value, path: &Path<'_>, errors: &mut Errors) {
    let seconds = int_at(handler, &["sleep", "seconds"]).unwrap_or(0);
    if let Some(grace) = spec.grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(Error::invalid(path, seconds, &detail));
    }
}
