//! Rules of PersistentVolumes and the claims to them.

use serde_json::Value;

use super::names::{self, Messages};
use super::pods;
use super::rules::{IMMUTABLE, full, immutable, invalid_each, not_supported};
use super::shape::{Row, Rule, check};
use super::sources;
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;
use crate::tree::{entries, get, items, same, text, text_at, texts};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// Sources in upstream's order: field, its name in a refusal of a second source, its
/// name in the path of its own errors.
const SOURCES: [(&str, &str, &str); 22] = [
    ("hostPath", "hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("nfs", "nfs", "nfs"),
    ("rbd", "rbd", "rbd"),
    ("quobyte", "quobyte", "quobyte"),
    ("cephfs", "cephFS", "cephfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("cinder", "cinder", "cinder"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("local", "local", "local"),
    ("storageos", "storageos", "storageos"),
    ("csi", "csi", "csi"),
];

/// Sources that take mount options.
const MOUNTABLE: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// Rules of a PersistentVolume.
pub fn volume(object: &Value, errors: &mut Errors) {
    volume_spec(&object["spec"], text(&object["metadata"], "name"), false, &Path::ROOT.child("spec"), errors);
}

/// Mount options in an annotation, for sources that take them.
pub fn mount_options(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    if get(&object["metadata"]["annotations"], MOUNT_OPTIONS).is_some()
        && !MOUNTABLE.iter().any(|source| get(spec, source).is_some())
    {
        let path = Path::ROOT.child("metadata");
        let path = path.child("annotations");
        let detail = "may not specify mount options for this volume type";
        errors.push(Error::forbidden(&path.child(MOUNT_OPTIONS), detail));
    }
}

/// A volume's spec; `inline` stands in a VolumeAttachment.
pub fn volume_spec(spec: &Value, name: &str, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    const NOT_INLINE: &str = "may not be specified in the context of inline volumes";
    let has = |field: &str| get(spec, field).is_some();
    if inline {
        for field in ["claimRef", "capacity"] {
            if has(field) {
                errors.push(Error::forbidden(&path.child(field), NOT_INLINE));
            }
        }
        if !has("csi") {
            let detail = "has to be specified in the context of inline volumes";
            errors.push(Error::required(&path.child("csi"), detail));
        }
    }
    if items(spec, "accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), ""));
    }
    access_modes(spec, path, errors);
    if !inline {
        capacity(spec, &path.child("capacity"), errors);
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let policy_path = path.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        if inline {
            if policy != "Retain" {
                let detail = "may only be Retain in the context of inline volumes";
                errors.push(Error::forbidden(&policy_path, detail));
            }
        } else if !["Delete", "Recycle", "Retain"].contains(&policy) {
            errors.push(not_supported(&policy_path, policy, &["Delete", "Recycle", "Retain"]));
        }
    }
    if let Some(affinity) = get(spec, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        match get(affinity, "required") {
            _ if inline => errors.push(Error::forbidden(&path, NOT_INLINE)),
            None => {
                let detail = "must specify required node constraints";
                errors.push(Error::required(&path.child("required"), detail));
            }
            Some(required) => pods::node_selector(required, &path.child("required"), errors),
        }
    }
    volume_source(spec, name, path, errors);
    let host = text_at(spec, &["hostPath", "path"]);
    if policy == "Recycle" && host.starts_with('/') && cleaned_root(host) {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&policy_path, detail));
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        let path = path.child("storageClassName");
        if inline {
            errors.push(Error::forbidden(&path, NOT_INLINE));
        } else {
            invalid_each(errors, &path, class, names::dns_subdomain(class));
        }
    }
    if let Some(mode) = get(spec, "volumeMode").and_then(Value::as_str) {
        let path = path.child("volumeMode");
        if inline {
            if mode != "Filesystem" {
                let detail =
                    "may not specify volumeMode other than Filesystem in the context of inline volumes";
                errors.push(Error::forbidden(&path, detail));
            }
        } else if !VOLUME_MODES.contains(&mode) {
            errors.push(not_supported(&path, mode, VOLUME_MODES));
        }
    }
    if let Some(class) = get(spec, "volumeAttributesClassName").and_then(Value::as_str).filter(|_| !inline) {
        let own = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(Error::required(&own, "an empty string is disallowed"));
        } else {
            invalid_each(errors, &own, class, names::dns_subdomain(class));
        }
        if !has("csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(Error::required(&path.child("csi"), detail));
        }
    }
}

/// Whether a path is the root, written in whatever way.
fn cleaned_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    depth == 0
}

fn access_modes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("accessModes");
    let modes = || texts(spec, "accessModes");
    for mode in modes().filter(|mode| !ACCESS_MODES.contains(mode)) {
        if full(errors) {
            break;
        }
        errors.push(not_supported(&path, mode, &ACCESS_MODES));
    }
    let single = |mode: &str| mode == "ReadWriteOncePod";
    if modes().any(single) && modes().any(|mode| ACCESS_MODES.contains(&mode) && !single(mode)) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(Error::forbidden(&path, detail));
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn positive_quantity(value: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let wrong = quantity(value).is_some_and(|quantity| quantity.sign() <= 0);
    if wrong {
        errors.push(Error::invalid(path, value.clone(), "must be greater than zero"));
    }
    !wrong
}

fn capacity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let amounts: Vec<(&str, &Value)> = entries(spec, "capacity").collect();
    if amounts.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if amounts.len() != 1 || amounts[0].0 != "storage" {
        let mut error = not_supported(path, "", &["storage"]);
        let shown = get(spec, "capacity").map_or("null".to_owned(), Value::to_string);
        error.message = error.message.replacen("\"\"", &shown, 1);
        errors.push(error);
    }
    for (name, amount) in amounts {
        if full(errors) {
            break;
        }
        let path = path.key(name);
        if quantity(amount).is_some_and(|quantity| quantity.sign() < 0) {
            errors.push(Error::invalid(
                &path,
                quantity(amount).map_or(0, |q| q.value()),
                "must be a valid resource quantity",
            ));
        }
        positive_quantity(amount, &path, errors);
    }
}

fn volume_source(spec: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    for (field, refused, own) in SOURCES {
        let Some(source) = get(spec, field) else { continue };
        if count > 0 && field != "flexVolume" {
            errors.push(Error::forbidden(&path.child(refused), "may not specify more than 1 volume type"));
            continue;
        }
        count += 1;
        let own = path.child(own);
        match field {
            "csi" => check(source, CSI, &own, errors),
            "local" => {
                match text(source, "path") {
                    "" => errors.push(Error::required(&own.child("path"), "")),
                    path => pods::no_backsteps(path, &own.child("path"), errors),
                }
                if get(spec, "nodeAffinity").is_none() {
                    let detail = "Local volume requires node affinity";
                    errors.push(Error::required(&path.child("nodeAffinity"), detail));
                }
            }
            "iscsi" => {
                let portal = text(source, "targetPortal");
                if portal.is_empty() {
                    errors.push(Error::required(&own.child("targetPortal"), ""));
                }
                if get(source, "initiatorName").is_some() && name.len() + 1 + portal.len() > 64 {
                    let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
                    errors.push(Error::invalid(&own.child("targetportal"), portal, detail));
                }
                check(source, sources::rows(field, false).unwrap_or_default(), &own, errors);
            }
            _ => match sources::rows(field, false) {
                Some(rows) => check(source, rows, &own, errors),
                None => pods::volume_source(field, source, &own, errors),
            },
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

const SECRET: &[Row] =
    &[("name", Rule::Needs(names::dns_subdomain)), ("namespace", Rule::Needs(names::dns_label))];

const CSI: &[Row] = &[
    ("driver", Rule::By(|at, errors| driver_name(at.value, at.path, errors))),
    ("volumeHandle", Rule::Required("")),
    ("controllerPublishSecretRef", Rule::In(SECRET)),
    ("controllerExpandSecretRef", Rule::In(SECRET)),
    ("nodePublishSecretRef", Rule::In(SECRET)),
    ("nodeExpandSecretRef", Rule::In(SECRET)),
];

/// The name of a CSI driver.
pub fn driver_name(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = value.as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    invalid_each(errors, path, name, names::dns_subdomain(&name.to_lowercase()));
}

/// Rules of a PersistentVolume that replaces another.
pub fn volume_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let source = |spec: &Value| {
        let sources =
            SOURCES.iter().filter_map(|(field, ..)| Some(((*field).to_owned(), get(spec, field)?.clone())));
        Value::Object(sources.collect())
    };
    let (mut now, then) = (source(spec), source(before));
    let expand = "controllerExpandSecretRef";
    if get(&then["csi"], expand).is_none()
        && then["csi"].is_object()
        && let Some(csi) = now.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove(expand);
    }
    let path = Path::ROOT.child("spec");
    if !same(Some(&now), Some(&then)) {
        let detail = format!(
            "spec.persistentvolumesource is immutable after creation\n{}",
            pods::difference("core.PersistentVolumeSource", &then, &now)
        );
        errors.push(Error::forbidden(&path.child("persistentvolumesource"), &detail));
    }
    immutable(errors, &Path::ROOT.child("volumeMode"), spec.get("volumeMode"), before.get("volumeMode"));
    if let Some(affinity) = get(before, "nodeAffinity")
        && !same(Some(&with_stable_keys(&spec["nodeAffinity"], affinity)), Some(affinity))
    {
        let path = Path::ROOT.child("nodeAffinity");
        let json = internal::json("*core.VolumeNodeAffinity", &spec["nodeAffinity"]);
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(super::rules::invalid_json(&path, &json, detail));
    }
    let class = "volumeAttributesClassName";
    if get(before, class).is_some() && get(spec, class).is_none() {
        errors.push(Error::forbidden(&path.child(class), "update from non-nil value to nil is forbidden"));
    }
}

/// Labels of nodes that were beta, and what they are called since.
const STABLE_KEYS: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// An affinity with the keys that `old` has, wherever they only got their stable names.
fn with_stable_keys(affinity: &Value, old: &Value) -> Value {
    let mut out = affinity.clone();
    let terms = |affinity: &Value| items(&affinity["required"], "nodeSelectorTerms").to_vec();
    for (at, before) in terms(old).iter().enumerate() {
        for field in ["matchExpressions", "matchFields"] {
            for (index, before) in items(before, field).iter().enumerate() {
                let place = format!("/required/nodeSelectorTerms/{at}/{field}/{index}/key");
                if let Some(key) = out.pointer_mut(&place)
                    && STABLE_KEYS.contains(&(text(before, "key"), key.as_str().unwrap_or_default()))
                {
                    *key = before["key"].clone();
                }
            }
        }
    }
    out
}

/// Rules of a claim.
pub fn claim(object: &Value, errors: &mut Errors) {
    claim_spec(&object["spec"], &Path::ROOT.child("spec"), errors);
}

/// Rules of a claim's spec, by itself or in a template.
pub fn claim_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const HEAD: &[Row] = &[
        ("accessModes", Rule::Required("at least 1 access mode is required")),
        ("selector", Rule::Selector),
    ];
    const REST: &[Row] =
        &[("storageClassName", Rule::Is(names::dns_subdomain)), ("volumeMode", Rule::OneOf(VOLUME_MODES))];
    check(spec, HEAD, path, errors);
    access_modes(spec, path, errors);
    let resources = path.child("resources");
    let storage = resources.key("storage");
    match get(&spec["resources"]["requests"], "storage") {
        None => errors.push(Error::required(&storage, "")),
        Some(amount) => {
            positive_quantity(amount, &storage, errors);
        }
    }
    check(spec, REST, path, errors);
    let (source, reference) = (get(spec, "dataSource"), get(spec, "dataSourceRef"));
    if let Some(source) = source {
        data_source(source, &path.child("dataSource"), errors);
    }
    if let Some(reference) = reference {
        let path = path.child("dataSourceRef");
        data_source(reference, &path, errors);
        let namespace = text(reference, "namespace");
        if !namespace.is_empty() {
            invalid_each(errors, &path.child("namespace"), namespace, names::dns_label(namespace));
        }
    }
    if let (Some(source), Some(reference)) = (source, reference) {
        // (Upstream shows the path as the value: a struct without visible fields.)
        let differs =
            ["apiGroup", "kind", "name"].iter().any(|field| get(source, field) != get(reference, field));
        let detail = match text(reference, "namespace") {
            "" if differs => "must match dataSourceRef",
            "" => "",
            _ => "may not be specified when dataSourceRef.namespace is specified",
        };
        if !detail.is_empty() {
            errors.push(super::rules::invalid_json(path, "{}", detail));
        }
    }
    check(spec, &[("volumeAttributesClassName", Rule::Is(names::dns_subdomain))], path, errors);
}

fn data_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    check(source, &[("name", Rule::Required("")), ("kind", Rule::Required(""))], path, errors);
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(Error::invalid(path, kind, detail));
        }
    } else {
        invalid_each(errors, &path.child("apiGroup"), group, names::dns_subdomain(group));
    }
}

/// Rules of a claim that replaces another.
pub fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let (mut now, mut then) = (spec.clone(), before.clone());
    let put = |object: &mut Value, field: &str, value: Option<&Value>| {
        let Some(fields) = object.as_object_mut() else { return };
        match value {
            Some(value) => fields.insert(field.into(), value.clone()),
            None => fields.remove(field),
        };
    };
    if text(before, "volumeName").is_empty() {
        put(&mut then, "volumeName", get(spec, "volumeName"));
    }
    let annotation = |object: &Value| get(&object["metadata"]["annotations"], CLASS_ANNOTATION).cloned();
    let (class, class_before) = (get(spec, "storageClassName"), get(before, "storageClassName"));
    let (note, note_before) = (annotation(new), annotation(old));
    let upgraded = note_before.is_some()
        && class_before.is_none()
        && class == note_before.as_ref()
        && (note.is_none() || note == note_before);
    if upgraded {
        put(&mut now, "storageClassName", None);
    } else {
        if note != note_before {
            let path = Path::ROOT.child("metadata");
            let path = path.child("annotations");
            let value = note.clone().unwrap_or_else(|| "".into());
            errors.push(Error::invalid(&path.child(CLASS_ANNOTATION), value, IMMUTABLE));
        }
        let set = class.is_some() && class_before.is_none();
        if set && note_before.is_none_or(|note| Some(&note) == class) {
            put(&mut now, "storageClassName", class_before);
        }
    }
    let bound = text(&new["status"], "phase") == "Bound";
    let storage = |spec: &Value| get(&spec["resources"]["requests"], "storage").cloned();
    if bound && get(&spec["resources"], "requests").is_some() {
        put(&mut now["resources"]["requests"], "storage", storage(before).as_ref());
    }
    let attributes = "volumeAttributesClassName";
    if bound {
        put(&mut now, attributes, get(before, attributes));
    }
    let path = Path::ROOT.child("spec");
    if !same(Some(&now), Some(&then)) {
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            pods::difference("core.PersistentVolumeClaimSpec", &then, &now)
        );
        errors.push(Error::forbidden(&path, &detail));
    }
    let amount = |value: Option<Value>| value.as_ref().and_then(quantity).unwrap_or(Quantity::ZERO);
    let size = amount(storage(spec));
    let shrunk = size.minus(amount(storage(before))).sign() < 0;
    let capacity = amount(get(&old["status"]["capacity"], "storage").cloned());
    if shrunk && size.minus(capacity).sign() <= 0 {
        let path = path.child("resources");
        let path = path.child("requests");
        let detail = "field can not be less than status.capacity";
        errors.push(Error::forbidden(&path.child("storage"), detail));
    }
    immutable(errors, &Path::ROOT.child("volumeMode"), spec.get("volumeMode"), before.get("volumeMode"));
    if get(before, attributes) != get(spec, attributes)
        && get(&old["status"], "currentVolumeAttributesClassName").is_some()
    {
        let to = match get(spec, attributes).and_then(Value::as_str) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let detail =
            format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(Error::forbidden(&path.child(attributes), &detail));
    }
}

/// Rules of a claim's status that replaces another.
pub fn claim_status(new: &Value, _: &Value, errors: &mut Errors) {
    const RESIZING: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    if items(&new["spec"], "accessModes").is_empty() {
        errors.push(Error::required(&Path::ROOT.child("Spec").child("accessModes"), ""));
    }
    let (status, path) = (&new["status"], Path::ROOT.child("status"));
    for (name, amount) in entries(status, "capacity") {
        let path = path.child("capacity");
        negative(amount, &path.key(name), errors);
    }
    let states = path.child("allocatedResourceStatuses");
    for (name, state) in entries(status, "allocatedResourceStatuses") {
        if full(errors) {
            break;
        }
        resource_key(name, &states, errors);
        if !RESIZING.contains(&state.as_str().unwrap_or_default()) {
            let mut sorted = RESIZING;
            sorted.sort_unstable();
            errors.push(not_supported(&states, name, &sorted));
        }
    }
    let allocated = path.child("allocatedResources");
    for (name, amount) in entries(status, "allocatedResources") {
        if full(errors) {
            break;
        }
        if resource_key(name, &allocated, errors) && negative(amount, &allocated.key(name), errors) {
            super::shape::non_negative_quantity(amount, &allocated.key(name), errors);
        }
    }
}

fn negative(amount: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let wrong = quantity(amount).filter(|quantity| quantity.sign() < 0);
    if let Some(quantity) = &wrong {
        errors.push(Error::invalid(path, quantity.value(), "must be a valid resource quantity"));
    }
    wrong.is_none()
}

fn resource_key(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let wrong: Messages = names::qualified_name(name);
    if !wrong.is_empty() {
        invalid_each(errors, path, name, wrong);
        return false;
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native && name != "storage" {
        errors.push(not_supported(path, name, &["storage"]));
        return false;
    }
    true
}
