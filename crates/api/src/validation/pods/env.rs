//! Rules of environment variables and of the downward API.

use serde_json::Value;

use crate::field::{Error, Errors, Path};
use crate::tree::{get, items, text};
use crate::validation::names;
use crate::validation::rules::{full, invalid_each};

/// Fields of a pod that a variable may show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may show.
pub const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields of a pod that the downward API knows.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env` of a container.
pub fn variables(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, variable) in items(container, "env").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        match text(variable, "name") {
            "" => errors.push(Error::required(&path.child("name"), "")),
            name => invalid_each(errors, &path.child("name"), name, names::env_var_name(name)),
        }
        if let Some(source) = get(variable, "valueFrom") {
            value_from(variable, source, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let Some(reference) = get(source, kind) else { continue };
        count += 1;
        let path = path.child(kind);
        match kind {
            "fieldRef" => field_reference(reference, ENV_FIELDS, &path, errors),
            "resourceFieldRef" => resource_reference(reference, false, &path, errors),
            "fileKeyRef" => file_key(reference, &path, errors),
            _ => key_reference(reference, &path, errors),
        }
    }
    let detail = match count {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !text(variable, "value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Error::invalid(path, "", detail));
}

/// A field of the pod, maybe with a subscript: `metadata.labels['app']`.
pub fn field_reference(reference: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let (version, field) = (text(reference, "apiVersion"), text(reference, "fieldPath"));
    if version.is_empty() {
        return errors.push(Error::required(&path.child("apiVersion"), ""));
    }
    if field.is_empty() {
        return errors.push(Error::required(&path.child("fieldPath"), ""));
    }
    let unconvertible = |reason: String| {
        let detail = format!("error converting fieldPath: {reason}");
        Error::invalid(&path.child("fieldPath"), field, &detail)
    };
    if version != "v1" {
        return errors.push(unconvertible(format!("unsupported pod version: {version}")));
    }
    let subscripted = field.strip_suffix("']").and_then(|head| head.split_once("['"));
    if let Some((list, key)) = subscripted {
        match list {
            "metadata.annotations" => {
                let key = key.to_lowercase();
                invalid_each(errors, path, key.as_str(), names::qualified_name(&key));
            }
            "metadata.labels" => invalid_each(errors, path, key, names::qualified_name(key)),
            _ => errors.push(unconvertible(format!("field label does not support subscript: {field}"))),
        }
        return;
    }
    let converted = if field == "spec.host" { "spec.nodeName" } else { field };
    if !KNOWN_FIELDS.contains(&converted) {
        errors.push(unconvertible(format!("field label not supported: {field}")));
    } else if !allowed.contains(&converted) {
        errors.push(Error::not_supported(&path.child("fieldPath"), converted, allowed));
    }
}

/// A request or limit of a container.
pub fn resource_reference(reference: &Value, in_volume: bool, path: &Path<'_>, errors: &mut Errors) {
    let resource = text(reference, "resource");
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && text(reference, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, RESOURCES));
    }
    divisor(resource, text(reference, "divisor"), path, errors);
}

fn divisor(resource: &str, divisor: &str, path: &Path<'_>, errors: &mut Errors) {
    let sizes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (named, allowed) = match resource.split_once('.') {
        Some((_, "cpu")) => ("cpu", &["1m", "1"][..]),
        Some((_, "memory")) => ("memory", &sizes[..]),
        Some((_, "ephemeral-storage")) => ("local ephemeral storage", &sizes[..]),
        Some((_, other)) if other.starts_with("hugepages-") => ("hugepages", &sizes[..]),
        _ => return,
    };
    if !["", "0"].contains(&divisor) && !allowed.contains(&divisor) {
        let values = if named == "cpu" { "1m and 1".to_owned() } else { sizes.join(", ") };
        let detail = format!("only divisor's values {values} are supported with the {named} resource");
        errors.push(Error::invalid(&path.child("divisor"), resource, &detail));
    }
}

/// A key of a ConfigMap or Secret.
fn key_reference(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = text(reference, "name");
    invalid_each(errors, &path.child("name"), name, names::dns_subdomain(name));
    match text(reference, "key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => invalid_each(errors, &path.child("key"), key, names::config_map_key(key)),
    }
}

fn file_key(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["key", "volumeName", "path"] {
        let (path, value) = (path.child(field), text(reference, field));
        match field {
            _ if value.is_empty() => errors.push(Error::required(&path, "")),
            "key" => invalid_each(errors, &path, value, names::env_var_name(value)),
            "volumeName" => invalid_each(errors, &path, value, names::dns_label(value)),
            _ => super::no_backsteps(value, &path, errors),
        }
    }
}

/// The volumes that variables read files of: empty ones of this very pod.
pub fn file_volumes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_path = path.child(list);
        for (at, container) in items(spec, list).iter().enumerate() {
            let path = list_path.index(at);
            let path = path.child("env");
            for (at, variable) in items(container, "env").iter().enumerate() {
                if full(errors) {
                    return;
                }
                let Some(reference) = get(&variable["valueFrom"], "fileKeyRef") else { continue };
                let path = path.index(at);
                let path = path.child("valueFrom");
                let path = path.child("fileKeyRef");
                let (path, name) = (path.child("volumeName"), text(reference, "volumeName"));
                let volumes = items(spec, "volumes").iter();
                match volumes.rev().find(|volume| text(volume, "name") == name) {
                    None => errors.push(Error::not_found(&path, name)),
                    Some(volume) if get(volume, "emptyDir").is_none() => {
                        let detail = "referenced volume must be of type emptyDir";
                        errors.push(Error::invalid(&path, name, detail));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// `envFrom` of a container.
pub fn sources(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path;
    for (at, source) in items(container, "envFrom").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            invalid_each(errors, &path.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let Some(reference) = get(source, kind) else { continue };
            count += 1;
            let path = path.child(kind);
            match text(reference, "name") {
                "" => errors.push(Error::required(&path.child("name"), "")),
                name => {
                    let masked = names::mask_trailing_dash(name);
                    invalid_each(errors, &path.child("name"), name, names::dns_subdomain(&masked));
                }
            }
        }
        // (Upstream names the list, not the item.)
        match count {
            0 => errors.push(Error::invalid(list, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => {
                errors.push(Error::invalid(list, "", "may not have more than one field specified at a time"))
            }
        }
    }
}
