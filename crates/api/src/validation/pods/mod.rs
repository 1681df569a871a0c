//! Rules of Pods and of pod templates, with upstream's paths and wording.
//!
//! A template is a pod without a name: [`Mode`] tells them apart where rules differ.
//! Feature gates stand as a default kube-apiserver v1.36 has them.

mod containers;
mod env;
mod probes;
pub(super) mod resize;
mod resources;
mod scheduling;
mod security;
mod status;
#[cfg(test)]
mod tests;
pub(super) mod update;
mod volumes;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::names;
use super::rules::{self, full, invalid_each};
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, flag, get, int, items, text, texts};

pub(super) use probes::port as port_number_or_name;
pub(super) use resources::{amount, container_resource_name, known_resource_name, quantities, requirements};
pub(super) use scheduling::{node_selector, taint_effect, tolerations};
pub(super) use status::validate as status_update;
pub(super) use update::{difference, validate as update};
pub(super) use volumes::{descending, no_backsteps};

/// What a spec belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode<'a> {
    /// A Pod of this name.
    Pod(&'a str),
    /// A template.
    Template,
}

/// What rules of containers need to know of the rest of the spec.
pub(super) struct Spec<'a> {
    /// The spec.
    pub spec: &'a Value,
    /// Volumes that are valid, by name.
    pub volumes: BTreeMap<&'a str, &'a Value>,
    /// Names of `resourceClaims`.
    pub claims: BTreeSet<&'a str>,
    /// `terminationGracePeriodSeconds`.
    pub grace: Option<i64>,
    /// Whether the pod runs in the host's user namespace.
    pub host_users: bool,
}

/// Rules of a new Pod beyond its metadata.
pub(super) fn create(pod: &Value, errors: &mut Errors) {
    metadata_and_spec(pod, errors);
    let spec = &pod["spec"];
    let path = Path::ROOT.child("spec");
    if !items(spec, "ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&path.child("nodeName"), detail));
    }
}

/// What holds of a Pod at creation and at every update.
fn metadata_and_spec(pod: &Value, errors: &mut Errors) {
    let meta = &pod["metadata"];
    let path = Path::ROOT.child("metadata");
    annotations(&meta["annotations"], &pod["spec"], &path.child("annotations"), errors);
    let path = Path::ROOT.child("spec");
    spec(&pod["spec"], Mode::Pod(text(meta, "name")), &path, errors);
    tokens_need_an_account(&pod["spec"], &path, errors);
    for list in ["containers", "initContainers"] {
        for (at, container) in items(&pod["spec"], list).iter().enumerate() {
            if full(errors) {
                break;
            }
            let image = text(container, "image");
            if image.trim() != image {
                let detail = "must not have leading or trailing whitespace";
                errors.push(Error::invalid(&path.child(list).index(at).child("image"), image, detail));
            }
        }
    }
}

fn annotations(annotations: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mirror = "kubernetes.io/config.mirror";
    if let Some(value) = get(annotations, mirror).filter(|_| text(spec, "nodeName").is_empty()) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(mirror), value.clone(), detail));
    }
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(value) = get(annotations, cost).and_then(Value::as_str) {
        let plain =
            value == "0" || !value.trim_start_matches('-').starts_with('0') && !value.starts_with('+');
        if !plain || value.parse::<i32>().is_err() {
            errors.push(Error::invalid(&path.key(cost), value, "must be a 32bit integer"));
        }
    }
}

fn tokens_need_an_account(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !text(spec, "serviceAccountName").is_empty() {
        return;
    }
    for (at, volume) in items(spec, "volumes").iter().enumerate() {
        if full(errors) {
            break;
        }
        for (source, projection) in items(&volume["projected"], "sources").iter().enumerate() {
            if full(errors) {
                break;
            }
            if get(projection, "serviceAccountToken").is_some() {
                let volumes = path.child("volumes");
                let volume = volumes.index(at);
                let (projected, detail) =
                    (volume.child("projected"), "must not be specified when serviceAccountName is not set");
                let path = projected.child("sources");
                errors.push(Error::forbidden(&path.index(source).child("serviceAccountToken"), detail));
            }
        }
    }
}

/// Rules of a volume's source of which a PersistentVolume has the same.
pub(super) fn volume_source(kind: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    volumes::one_source(kind, source, Mode::Template, path, errors);
}

/// Rules of a template's labels and annotations.
pub(super) fn template_metadata(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    let meta = &template["metadata"];
    super::meta::labels(meta, "labels", &path.child("labels"), errors);
    super::meta::annotations(meta, &path.child("annotations"), errors);
    annotations(&meta["annotations"], &template["spec"], &path.child("annotations"), errors);
}

/// Rules of a template of a controller: its labels, annotations and spec.
pub(super) fn template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    template_metadata(template, path, errors);
    let path = path.child("spec");
    spec(&template["spec"], Mode::Template, &path, errors);
    if !items(&template["spec"], "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), detail));
    }
}

/// Rules of a spec.
pub(super) fn spec(spec: &Value, mode: Mode<'_>, path: &Path<'_>, errors: &mut Errors) {
    let grace = int(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = volumes::validate(spec, mode, &path.child("volumes"), errors);
    let claims = resources::claims(spec, &path.child("resourceClaims"), errors);
    let host_users = spec.get("hostUsers").and_then(Value::as_bool).unwrap_or(true);
    let whole = Spec { spec, volumes, claims, grace, host_users };
    containers::containers(&whole, &path.child("containers"), errors);
    containers::init_containers(&whole, &path.child("initContainers"), errors);
    containers::ephemeral_containers(&whole, &path.child("ephemeralContainers"), errors);
    if let Some(resources) = get(spec, "resources") {
        resources::pod(&whole, resources, &path.child("resources"), errors);
    }
    host_ports(spec, mode, path, errors);
    let restart = ["Always", "OnFailure", "Never"];
    ordered(errors, spec, "restartPolicy", path, &restart);
    ordered(errors, spec, "dnsPolicy", path, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    super::meta::labels(spec, "nodeSelector", &path.child("nodeSelector"), errors);
    security::pod(spec, &path.child("securityContext"), errors);
    scheduling::affinity(spec, &path.child("affinity"), errors);
    dns_config(spec, &path.child("dnsConfig"), errors);
    for (at, gate) in items(spec, "readinessGates").iter().enumerate() {
        if full(errors) {
            break;
        }
        let ty = text(gate, "conditionType");
        let gates = path.child("readinessGates");
        invalid_each(errors, &gates.index(at).child("conditionType"), ty, names::qualified_name(ty));
    }
    scheduling::gates(spec, &path.child("schedulingGates"), errors);
    scheduling::topology_spread(spec, &path.child("topologySpreadConstraints"), errors);
    windows::host_processes(spec, path, errors);
    host_users_rules(&whole, path, errors);
    host_name(spec, path, errors);
    plain_names(spec, path, errors);
    scheduling::tolerations(items(spec, "tolerations"), &path.child("tolerations"), errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    last_fields(&whole, path, errors);
    env::file_volumes(spec, path, errors);
}

/// A value that must be one of a few, in upstream's order (which the sentence keeps).
fn ordered(errors: &mut Errors, object: &Value, field: &str, path: &Path<'_>, supported: &[&str]) {
    let value = text(object, field);
    if value.is_empty() {
        errors.push(Error::required(&path.child(field), ""));
    } else if !supported.contains(&value) {
        errors.push(rules::not_supported(&path.child(field), value, supported));
    }
}

fn host_ports(spec: &Value, mode: Mode<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let list = path.child("containers");
    for (at, container) in items(spec, "containers").iter().enumerate() {
        if full(errors) {
            break;
        }
        let at = list.index(at);
        let ports = at.child("ports");
        for (at, port) in items(container, "ports").iter().enumerate() {
            if full(errors) {
                break;
            }
            let host = int(port, "hostPort").unwrap_or(0);
            let own = int(port, "containerPort").unwrap_or(0);
            if (matches!(mode, Mode::Pod(_)) || host != 0) && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&ports.index(at).child("hostPort"), host, detail));
            }
        }
    }
}

fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let config = get(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            return errors.push(Error::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        };
        if items(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.push(Error::required(&path.child("nameservers"), detail));
        }
    }
    let Some(config) = config else { return };
    let servers = items(config, "nameservers");
    if servers.len() > 3 {
        let list = config["nameservers"].clone();
        errors.push(Error::invalid(
            &path.child("nameservers"),
            list,
            "must not have more than 3 nameservers",
        ));
    }
    for (at, server) in texts(config, "nameservers").enumerate() {
        if full(errors) {
            break;
        }
        super::net::legacy_ip(errors, &path.child("nameservers").index(at), server);
    }
    let searches: Vec<&str> = texts(config, "searches").collect();
    if searches.len() > 32 {
        let list = config["searches"].clone();
        errors.push(Error::invalid(&path.child("searches"), list, "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(Error::invalid(&path.child("searches"), config["searches"].clone(), detail));
    }
    for (at, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        if full(errors) {
            break;
        }
        let search = search.strip_suffix('.').unwrap_or(search);
        let wrong = names::dns_subdomain_with_underscore(search);
        invalid_each(errors, &path.child("searches").index(at), search, wrong);
    }
    for (at, option) in items(config, "options").iter().enumerate() {
        if full(errors) {
            break;
        }
        if text(option, "name").is_empty() {
            errors.push(Error::required(&path.child("options").index(at), "must not be empty"));
        }
    }
}

fn host_users_rules(spec: &Spec<'_>, path: &Path<'_>, errors: &mut Errors) {
    if spec.host_users {
        return;
    }
    let detail = "when `hostUsers` is false";
    // (The paths of the latter two are spelt as upstream spells them.)
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec.spec, field) {
            errors.push(Error::forbidden(&path.child(shown), detail));
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in items(spec.spec, list).iter().enumerate() {
            if full(errors) {
                break;
            }
            if !items(container, "volumeDevices").is_empty() {
                let list = path.child(list);
                errors.push(Error::forbidden(&list.index(at).child("volumeDevices"), detail));
            }
        }
    }
}

fn host_name(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(name) = get(spec, "hostnameOverride").and_then(Value::as_str) else { return };
    let path = path.child("hostnameOverride");
    if flag(spec, "setHostnameAsFQDN") {
        errors.push(Error::forbidden(&path, "may not be specified when setHostnameAsFQDN is true"));
    }
    if flag(spec, "hostNetwork") {
        errors.push(Error::forbidden(&path, "may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(Error::too_long(&path, 64));
    }
    invalid_each(errors, &path, name, names::dns_subdomain(name));
}

fn plain_names(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            invalid_each(errors, &path.child(field), name, names::dns_subdomain(name));
        }
    }
    if let Some(seconds) = int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = names::range_error(1, i32::MAX.into());
        errors.push(Error::invalid(&path.child("activeDeadlineSeconds"), seconds, &detail));
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            invalid_each(errors, &path.child(field), name, names::dns_label(name));
        }
    }
}

fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, alias) in items(spec, "hostAliases").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        super::net::legacy_ip(errors, &path.child("ip"), text(alias, "ip"));
        for (at, name) in texts(alias, "hostnames").enumerate() {
            if full(errors) {
                break;
            }
            invalid_each(errors, &path.child("hostnames").index(at), name, names::dns_subdomain(name));
        }
    }
}

fn last_fields(whole: &Spec<'_>, path: &Path<'_>, errors: &mut Errors) {
    let spec = whole.spec;
    for field in ["priorityClassName", "runtimeClassName"] {
        let set = if field == "runtimeClassName" {
            get(spec, field).is_some()
        } else {
            !text(spec, field).is_empty()
        };
        if set {
            let name = text(spec, field);
            invalid_each(errors, &path.child(field), name, names::dns_subdomain(name));
        }
    }
    if get(spec, "preemptionPolicy").is_some() {
        ordered(errors, spec, "preemptionPolicy", path, &["PreemptLowerPriority", "Never"]);
    }
    if entries(spec, "overhead").next().is_some() {
        resources::list(&spec["overhead"], &path.child("overhead").child("limits"), errors);
    }
    if let Some(os) = get(spec, "os") {
        let name = text(os, "name");
        match name {
            "" => errors.push(Error::required(&path.child("os").child("name"), "")),
            "linux" | "windows" => security::operating_system(whole, name, path, errors),
            other => errors.push(Error::not_supported(&path.child("os"), other, &["linux", "windows"])),
        }
    }
}
