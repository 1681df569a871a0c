//! Rules of volumes, mounts and devices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::env::{FILE_FIELDS, field_reference, resource_reference};
use super::{Mode, Spec};
use crate::field::{Error, Errors, Path};
use crate::go::quoted;
use crate::quantity::Quantity;
use crate::tree::{flag, get, int, items, text};
use crate::validation::meta::template_metadata;
use crate::validation::names;
use crate::validation::rules::{full, invalid_each, not_supported, one_of};
use crate::validation::shape::check;
use crate::validation::sources;
use crate::validation::volumes::claim_spec;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Sources in the order in which upstream looks at them.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// `spec.volumes`; returns those without errors, by name, for the mounts.
pub fn validate<'a>(
    spec: &'a Value,
    mode: Mode<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) -> BTreeMap<&'a str, &'a Value> {
    let mut valid = BTreeMap::new();
    for (at, volume) in items(spec, "volumes").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let mut own = Errors::new();
        source(volume, mode, &path, &mut own);
        let name = text(volume, "name");
        match name {
            "" => own.push(Error::required(&path.child("name"), "")),
            name => invalid_each(&mut own, &path.child("name"), name, names::dns_label(name)),
        }
        if valid.contains_key(name) {
            own.push(Error::duplicate(&path.child("name"), name));
        }
        if own.is_empty() {
            valid.insert(name, volume);
        }
        errors.extend(own);
    }
    valid
}

fn source(volume: &Value, mode: Mode<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    for kind in SOURCES {
        let Some(source) = get(volume, kind) else { continue };
        count += 1;
        if count > 1 {
            // (These two are spelt as upstream spells them.)
            let shown = match *kind {
                "downwardAPI" => "downwarAPI",
                "cephfs" => "cephFS",
                kind => kind,
            };
            errors.push(Error::forbidden(&path.child(shown), "may not specify more than 1 volume type"));
            continue;
        }
        one_source(kind, source, mode, &path.child(kind), errors);
        if let (&"ephemeral", Mode::Pod(pod)) = (kind, mode) {
            claim_name(pod, text(volume, "name"), &path.child("name"), errors);
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

/// The name of the claim that is made for a volume of a pod.
fn claim_name(pod: &str, volume: &str, path: &Path<'_>, errors: &mut Errors) {
    if pod.is_empty() || volume.is_empty() {
        return;
    }
    let claim = format!("{pod}-{volume}");
    for wrong in names::dns_subdomain(&claim) {
        errors.push(Error::invalid(path, volume, &format!("PVC name {}: {wrong}", quoted(&claim))));
    }
}

/// Rules of one source.
pub fn one_source(kind: &str, source: &Value, mode: Mode<'_>, path: &Path<'_>, errors: &mut Errors) {
    let required = |errors: &mut Errors, field: &str| {
        if text(source, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    };
    match kind {
        "emptyDir" => {
            let limit = Quantity::parse(text(source, "sizeLimit"));
            if limit.is_ok_and(|limit| limit.sign() < 0) {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(Error::forbidden(&path.child("sizeLimit"), detail));
            }
        }
        "hostPath" => host_path(source, path, errors),
        "secret" | "configMap" => {
            required(errors, if kind == "secret" { "secretName" } else { "name" });
            file_mode(source, "defaultMode", path, errors);
            for (at, item) in items(source, "items").iter().enumerate() {
                if full(errors) {
                    break;
                }
                key_to_path(item, &path.child("items").index(at), errors);
            }
        }
        "downwardAPI" => {
            file_mode(source, "defaultMode", path, errors);
            items(source, "items").iter().for_each(|file| downward_file(file, path, errors));
        }
        "projected" => projected(source, path, errors),
        "persistentVolumeClaim" => required(errors, "claimName"),
        "nfs" => {
            required(errors, "server");
            required(errors, "path");
            if !text(source, "path").starts_with('/') {
                let detail = "must be an absolute path";
                errors.push(Error::invalid(&path.child("path"), text(source, "path"), detail));
            }
        }
        "csi" => {
            let driver = text(source, "driver");
            required(errors, "driver");
            if driver.len() > 63 {
                errors.push(Error::too_long(&path.child("driver"), 63));
            }
            if !driver.is_empty() {
                let lower = driver.to_lowercase();
                invalid_each(errors, &path.child("driver"), driver, names::dns_subdomain(&lower));
            }
        }
        "ephemeral" => ephemeral(source, path, errors),
        "image" => {
            if mode != Mode::Template {
                required(errors, "reference");
            }
            one_of(errors, source, "pullPolicy", path, &["Always", "IfNotPresent", "Never"], true);
        }
        _ => {
            if let Some(rows) = sources::rows(kind, true) {
                check(source, rows, path, errors);
            }
        }
    }
}

/// A claim that is made for the pod.
fn ephemeral(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("volumeClaimTemplate");
    let Some(claim) = get(source, "volumeClaimTemplate") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    template_metadata(&claim["metadata"], &path.child("metadata"), errors);
    claim_spec(&claim["spec"], &path.child("spec"), errors);
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let target = text(source, "path");
    if target.is_empty() {
        return errors.push(Error::required(&path.child("path"), ""));
    }
    no_backsteps(target, &path.child("path"), errors);
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let ty = text(source, "type");
    if !types.contains(&ty) {
        errors.push(not_supported(&path.child("type"), ty, &types));
    }
}

fn file_mode(object: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = int(object, field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(Error::invalid(&path.child(field), mode, FILE_MODE));
    }
}

fn key_to_path(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["key", "path"] {
        if text(item, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    local_path(text(item, "path"), &path.child("path"), errors);
    file_mode(item, "mode", path, errors);
}

fn downward_file(file: &Value, path: &Path<'_>, errors: &mut Errors) {
    if text(file, "path").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    local_path(text(file, "path"), &path.child("path"), errors);
    match (get(file, "fieldRef"), get(file, "resourceFieldRef")) {
        (Some(field), resource) => {
            field_reference(field, FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            resource_reference(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => {
            errors.push(Error::required(path, "one of fieldRef and resourceFieldRef is required"));
        }
    }
    file_mode(file, "mode", path, errors);
}

fn projected(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    file_mode(source, "defaultMode", path, errors);
    let mut paths = BTreeSet::new();
    let sources = path.child("sources");
    for (at, projection) in items(source, "sources").iter().enumerate() {
        if full(errors) {
            break;
        }
        let at = sources.index(at);
        let mut count = 0;
        for kind in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let Some(one) = get(projection, kind) else { continue };
            count += 1;
            let own = at.child(kind);
            match kind {
                "secret" | "configMap" => {
                    if text(one, "name").is_empty() {
                        errors.push(Error::required(&own.child("name"), ""));
                    }
                    for (at, item) in items(one, "items").iter().enumerate() {
                        if full(errors) {
                            break;
                        }
                        key_to_path(item, &own.child("items").index(at), errors);
                    }
                }
                "downwardAPI" => {
                    items(one, "items").iter().for_each(|file| downward_file(file, &own, errors));
                }
                "serviceAccountToken" => token(one, &own, path, errors),
                _ => {}
            }
            for item in items(one, "items") {
                if full(errors) {
                    break;
                }
                let target = text(item, "path");
                if !target.is_empty() && !paths.insert(target) {
                    let shown = if kind == "downwardAPI" { target } else { text(one, "name") };
                    errors.push(Error::invalid(path, shown, "conflicting duplicate paths"));
                }
            }
        }
        if count > 1 {
            errors.push(Error::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
}

fn token(token: &Value, path: &Path<'_>, volume: &Path<'_>, errors: &mut Errors) {
    let seconds = int(token, "expirationSeconds").unwrap_or(0);
    let field = path.child("expirationSeconds");
    if seconds < 600 {
        errors.push(Error::invalid(&field, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(Error::invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    // (Upstream names the volume's path here.)
    match text(token, "path") {
        "" => errors.push(Error::required(&volume.child("path"), "")),
        target => local_path(target, &volume.child("path"), errors),
    }
}

/// A path that does not lead up.
pub fn no_backsteps(target: &str, path: &Path<'_>, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, target, "must not contain '..'"));
    }
}

/// Relative, and never upwards.
pub fn descending(target: &str, path: &Path<'_>, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errors);
}

/// The same, and no name that the kubelet keeps for itself.
fn local_path(target: &str, path: &Path<'_>, errors: &mut Errors) {
    descending(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
}

/// `volumeMounts` of a container.
pub fn mounts(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let devices = items(container, "volumeDevices");
    let of_devices = |field: &str| devices.iter().map(|device| text(device, field)).collect::<BTreeSet<_>>();
    let (device_names, device_paths) = (of_devices("name"), of_devices("devicePath"));
    let mut points = BTreeSet::new();
    for (at, mount) in items(container, "volumeMounts").iter().enumerate() {
        if full(errors) {
            break;
        }
        let list = path;
        let path = path.index(at);
        let (name, point) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        if !spec.volumes.contains_key(name) {
            errors.push(Error::not_found(&path.child("name"), name));
        }
        if point.is_empty() {
            errors.push(Error::required(&path.child("mountPath"), ""));
        }
        if !points.insert(point) {
            errors.push(Error::invalid(&path.child("mountPath"), point, "must be unique"));
        }
        if device_names.contains(name) {
            errors.push(Error::invalid(&path.child("name"), name, "must not already exist in volumeDevices"));
        }
        if device_paths.contains(point) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&path.child("mountPath"), point, detail));
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        descending(sub, &list.child("subPath"), errors);
        if !sub.is_empty() && !expression.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(Error::invalid(&path.child("subPathExpr"), expression, detail));
        }
        descending(expression, &list.child("subPathExpr"), errors);
        propagation(container, mount, list, errors);
    }
}

fn propagation(container: &Value, mount: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mode = text(mount, "mountPropagation");
    if get(mount, "mountPropagation").is_some() {
        let path = path.child("mountPropagation");
        let supported = ["Bidirectional", "HostToContainer", "None"];
        if !supported.contains(&mode) {
            errors.push(Error::not_supported(&path, mode, &supported));
        }
        let privileged = crate::tree::at(container, &["securityContext", "privileged"]);
        if mode == "Bidirectional" && privileged.and_then(Value::as_bool) != Some(true) {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    let path = path.child("recursiveReadOnly");
    match text(mount, "recursiveReadOnly") {
        "Disabled" => {}
        "" if get(mount, "recursiveReadOnly").is_none() => {}
        "Enabled" | "IfPossible" => {
            if !flag(mount, "readOnly") {
                errors.push(Error::forbidden(&path, "may only be specified when readOnly is true"));
            }
            if !["", "None"].contains(&mode) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(&path, detail));
            }
        }
        other => errors.push(Error::not_supported(&path, other, &["Disabled", "Enabled", "IfPossible"])),
    }
}

/// `volumeDevices` of a container.
pub fn devices(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mounts = items(container, "volumeMounts");
    let of_mounts = |field: &str| mounts.iter().map(|mount| text(mount, field)).collect::<BTreeSet<_>>();
    let (mount_names, mount_paths) = (of_mounts("name"), of_mounts("mountPath"));
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (at, device) in items(container, "volumeDevices").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        let (name_path, target_path) = (path.child("name"), path.child("devicePath"));
        let volume = spec.volumes.get(name);
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        }
        if !name.is_empty() && !names.insert(name) {
            errors.push(Error::invalid(&name_path, name, "must be unique"));
        }
        match volume {
            None => errors.push(Error::not_found(&name_path, name)),
            Some(volume) if get(volume, "persistentVolumeClaim").or(get(volume, "ephemeral")).is_none() => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.push(Error::required(&target_path, ""));
        }
        if target.split('/').any(|part| part == "..") {
            errors.push(Error::invalid(&target_path, target, "can not contain backsteps ('..')"));
        } else if !paths.insert(target) {
            errors.push(Error::invalid(&target_path, target, "must be unique"));
        }
        if mount_names.contains(name) {
            errors.push(Error::invalid(&name_path, name, "must not already exist in volumeMounts"));
        }
        if mount_paths.contains(target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&target_path, target, detail));
        }
    }
}
