//! Rules of the older sources of volumes, which Pods and PersistentVolumes share.

use super::names;
use super::rules::{invalid_each, not_supported};
use super::shape::{At, Row, Rule};
use crate::field::{Error, Errors};
use crate::tree::{entries, flag, get, items, text};

const NAMED: Rule = Rule::In(&[("name", Rule::Required(""))]);
const NAMED_IN_NAMESPACE: Rule = Rule::In(&[("name", Rule::Required("")), ("namespace", Rule::Required(""))]);
const PARTITION: Rule = Rule::Between(0, 255, "must be between 1 and 255, inclusive");
const HOST_PORT: &str = "must be a host:port pair or multiple pairs separated by commas";

/// Rules of a source in a Pod (`in_pod`) or a PersistentVolume, if there are any here.
pub fn rows(kind: &str, in_pod: bool) -> Option<&'static [Row]> {
    Some(match kind {
        "gcePersistentDisk" => &[("pdName", Rule::Required("")), ("partition", PARTITION)],
        "awsElasticBlockStore" => &[("volumeID", Rule::Required("")), ("partition", PARTITION)],
        "glusterfs" if in_pod => &[("endpoints", Rule::Required("")), ("path", Rule::Required(""))],
        "glusterfs" => &[
            ("endpoints", Rule::Required("")),
            ("path", Rule::Required("")),
            ("endpointsNamespace", Rule::By(endpoints_namespace)),
        ],
        "flocker" => &[("", Rule::By(flocker))],
        "rbd" => &[("monitors", Rule::Required("")), ("image", Rule::Required(""))],
        "quobyte" => &[("", Rule::By(quobyte)), ("volume", Rule::Required(""))],
        "cephfs" => &[("monitors", Rule::Required(""))],
        "iscsi" if in_pod => &[
            ("targetPortal", Rule::Required("")),
            ("iqn", Rule::By(pod_iqn)),
            ("lun", LUN),
            ("", Rule::By(chap)),
            ("initiatorName", Rule::By(pod_initiator)),
        ],
        "iscsi" => &[
            ("iqn", Rule::By(iqn)),
            ("lun", LUN),
            ("", Rule::By(chap)),
            ("secretRef", NAMED),
            ("initiatorName", Rule::By(initiator)),
        ],
        "cinder" if in_pod => &[("volumeID", Rule::Required("")), ("secretRef", NAMED)],
        "cinder" => &[("volumeID", Rule::Required("")), ("secretRef", NAMED_IN_NAMESPACE)],
        "fc" => &[("", Rule::By(fibre_channel))],
        "flexVolume" => &[("driver", Rule::Required("")), ("", Rule::By(flex_options))],
        "azureFile" if in_pod => &[("secretName", Rule::Required("")), ("shareName", Rule::Required(""))],
        "azureFile" => &[
            ("secretName", Rule::Required("")),
            ("shareName", Rule::Required("")),
            (
                "secretNamespace",
                Rule::By(|at, errors| {
                    if at.value.as_str() == Some("") {
                        errors.push(Error::required(at.path, ""));
                    }
                }),
            ),
        ],
        "vsphereVolume" => &[("volumePath", Rule::Required(""))],
        "photonPersistentDisk" => &[("pdID", Rule::Required(""))],
        "portworxVolume" => &[("volumeID", Rule::Required(""))],
        "azureDisk" => &[
            ("diskName", Rule::Required("")),
            ("diskURI", Rule::Required("")),
            ("cachingMode", Rule::OneOf(&["None", "ReadOnly", "ReadWrite"])),
            ("kind", Rule::OneOf(&["Dedicated", "Managed", "Shared"])),
            ("", Rule::By(azure_address)),
        ],
        "scaleIO" => &[
            ("gateway", Rule::Required("")),
            ("system", Rule::Required("")),
            ("volumeName", Rule::Required("")),
        ],
        "storageos" if in_pod => &[
            ("volumeName", Rule::Needs(names::dns_label)),
            ("volumeNamespace", Rule::Is(names::dns_label)),
            ("secretRef", NAMED),
        ],
        "storageos" => &[
            ("volumeName", Rule::Needs(names::dns_label)),
            ("volumeNamespace", Rule::Is(names::dns_label)),
            ("secretRef", NAMED_IN_NAMESPACE),
        ],
        "gitRepo" => &[
            ("repository", Rule::Required("")),
            (
                "directory",
                Rule::By(|at, errors| {
                    super::pods::descending(at.value.as_str().unwrap_or_default(), at.path, errors);
                }),
            ),
        ],
        _ => return None,
    })
}

const LUN: Rule = Rule::Between(0, 255, "must be between 0 and 255, inclusive");

fn endpoints_namespace(at: &At<'_>, errors: &mut Errors) {
    match at.value.as_str() {
        None => {}
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(Error::invalid(at.path, "", detail));
        }
        Some(name) => invalid_each(errors, at.path, name, names::dns_label(name)),
    }
}

fn flocker(at: &At<'_>, errors: &mut Errors) {
    let (name, id) = (text(at.value, "datasetName"), text(at.value, "datasetUUID"));
    if name.is_empty() && id.is_empty() {
        errors.push(Error::required(at.path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !id.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(at.path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(Error::invalid(&at.path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn quobyte(at: &At<'_>, errors: &mut Errors) {
    let registry = text(at.value, "registry");
    if registry.is_empty() {
        errors.push(Error::required(&at.path.child("registry"), HOST_PORT));
    } else if text(at.value, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&at.path.child("tenant"), detail));
    } else {
        let wrong = registry.split(',').filter(|pair| !host_port(pair)).take(100);
        let path = at.path.child("registry");
        errors.extend(wrong.map(|_| Error::invalid(&path, registry, HOST_PORT)));
    }
}

/// `host:port`, with an IPv6 host in brackets.
fn host_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(host, port)| {
            !host.contains(['[', ']'])
                && port.strip_prefix(':').is_some_and(|port| !port.contains([':', '[', ']']))
        }),
        None => pair.matches(':').count() == 1 && !pair.contains(['[', ']']),
    }
}

/// Whether a name begins as iSCSI's do, and whether it is one.
fn iscsi_name(name: &str) -> (bool, bool) {
    let alnum = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    // One character of any kind follows these two.
    let rest = |name: &str| {
        let mut rest = name[3..].chars();
        rest.next();
        rest.as_str().to_owned()
    };
    if name.starts_with("eui") {
        (true, alnum(&rest(name), 16))
    } else if name.starts_with("naa") {
        (true, alnum(&rest(name), 32))
    } else if let Some(rest) = name.strip_prefix("iqn") {
        (true, qualified(rest))
    } else {
        (false, false)
    }
}

/// `.yyyy-mm.authority:name`.
fn qualified(rest: &str) -> bool {
    let digits = |text: Option<&str>| text.is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let dated = rest.starts_with('.') && digits(rest.get(1..5)) && digits(rest.get(6..8));
    let Some(rest) = rest.get(9..).filter(|_| dated && &rest[5..6] == "-" && &rest[8..9] == ".") else {
        return false;
    };
    let authority = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    rest.split_once(':').is_some_and(|(head, name)| {
        !head.is_empty()
            && head.bytes().all(authority)
            && !name.is_empty()
            && !name.contains(|c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace())
    })
}

fn iqn_or(at: &At<'_>, unknown: &str, errors: &mut Errors) {
    let name = at.value.as_str().unwrap_or_default();
    match iscsi_name(name) {
        _ if name.is_empty() => errors.push(Error::required(at.path, "")),
        (false, _) => errors.push(Error::invalid(at.path, name, unknown)),
        (true, false) => errors.push(Error::invalid(at.path, name, "must be valid format")),
        (true, true) => {}
    }
}

fn pod_iqn(at: &At<'_>, errors: &mut Errors) {
    iqn_or(at, "must be valid format starting with iqn, eui, or naa", errors);
}

fn iqn(at: &At<'_>, errors: &mut Errors) {
    iqn_or(at, "must be valid format", errors);
}

fn initiator_or(at: &At<'_>, unknown: &str, errors: &mut Errors) {
    let Some(name) = at.value.as_str() else { return };
    // (Upstream's path is in lower case.)
    let path = at.path.to_string().to_lowercase();
    let detail = match iscsi_name(name) {
        (true, true) => return,
        (true, false) => "must be valid format",
        (false, _) => unknown,
    };
    let mut error = Error::invalid(at.path, name, detail);
    error.path = format!("{}initiatorname", &error.path[..path.len() - "initiatorname".len()]);
    errors.push(error);
}

fn pod_initiator(at: &At<'_>, errors: &mut Errors) {
    initiator_or(at, "must be valid format starting with iqn, eui, or naa", errors);
}

fn initiator(at: &At<'_>, errors: &mut Errors) {
    initiator_or(at, "must be valid format", errors);
}

fn chap(at: &At<'_>, errors: &mut Errors) {
    let asked = flag(at.value, "chapAuthDiscovery") || flag(at.value, "chapAuthSession");
    if asked && get(at.value, "secretRef").is_none() {
        errors.push(Error::required(&at.path.child("secretRef"), ""));
    }
}

fn fibre_channel(at: &At<'_>, errors: &mut Errors) {
    let (targets, ids) = (items(at.value, "targetWWNs"), items(at.value, "wwids"));
    let path = at.path.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        errors.push(Error::required(&path, "must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&path, at.value["targetWWNs"].clone(), detail));
    }
    if !targets.is_empty() {
        let path = at.path.child("lun");
        match crate::tree::int(at.value, "lun") {
            None => errors.push(Error::required(&path, "lun is required if targetWWNs is specified")),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.push(Error::invalid(&path, lun, &names::range_error(0, 255)));
            }
            Some(_) => {}
        }
    }
}

fn flex_options(at: &At<'_>, errors: &mut Errors) {
    let path = at.path.child("options");
    for (key, _) in entries(at.value, "options") {
        if super::rules::full(errors) {
            break;
        }
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&path.key(key), key, detail));
        }
    }
}

fn azure_address(at: &At<'_>, errors: &mut Errors) {
    let Some(kind) = get(at.value, "kind").and_then(serde_json::Value::as_str) else { return };
    let (address, path) = (text(at.value, "diskURI"), at.path.child("diskURI"));
    let (prefix, form) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !address.starts_with(prefix) {
        errors.push(not_supported(&path, address, &[form]));
    }
}
