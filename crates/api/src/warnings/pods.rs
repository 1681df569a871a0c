//! Warnings about Pods and templates of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{NODE_LABELS, Warnings, addresses, claim_spec, fractional, label_key, node_term};
use crate::field::Path;
use crate::go::quoted;
use crate::tree::{at, entries, get, int, items, text, texts};

/// Warnings about a Pod.
pub(super) fn pod(pod: &Value, all: &mut Warnings) {
    spec(&pod["spec"], &pod["metadata"], &Path::ROOT, false, all);
}

/// Warnings about a template at a path.
pub(super) fn template(template: &Value, path: &Path<'_>, all: &mut Warnings) {
    if template.is_object() {
        spec(&template["spec"], &template["metadata"], path, true, all);
    }
}

fn spec(spec: &Value, meta: &Value, root: &Path<'_>, template: bool, all: &mut Warnings) {
    let path = &root.child("spec");
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some((_, message)) = NODE_LABELS.iter().find(|(label, _)| *label == key) {
            all.push(format!("{}: {message}", path.child("nodeSelector").key(key)));
        }
    }
    node_affinity(spec, path, all);
    for (index, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let list = path.child("topologySpreadConstraints");
        let path = list.index(index);
        label_key(text(constraint, "topologyKey"), &path.child("topologyKey"), all);
        null_selector(constraint, &path, all);
    }
    annotations(meta, root, all);
    volumes(spec, path, all);
    overlaps(spec, all);
    duplicates(spec, "hostAliases", "ip", path, all);
    duplicates(spec, "imagePullSecrets", "name", path, all);
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            let list = path.child("imagePullSecrets");
            all.push(format!("{}: invalid empty name \"\"", list.index(index).child("name")));
        }
    }
    for name in ["memory", "ephemeral-storage"] {
        fractional(&spec["overhead"][name], &path.child("overhead").key(name), all);
    }
    seccomp(&spec["securityContext"], meta, "seccomp.security.alpha.kubernetes.io/pod", root, all);
    visit(spec, path, &mut |container, path| one_container(container, spec, meta, root, template, path, all));
    ports(spec, path, all);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|grace| grace < 0) {
        let path = path.child("terminationGracePeriodSeconds");
        all.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    pod_affinity(spec, path, all);
    for (index, server) in texts(&spec["dnsConfig"], "nameservers").enumerate() {
        let config = path.child("dnsConfig");
        addresses::address(server, &config.child("nameservers").index(index), all);
    }
    for (index, alias) in items(spec, "hostAliases").iter().enumerate() {
        addresses::address(text(alias, "ip"), &path.child("hostAliases").index(index).child("ip"), all);
    }
}

fn node_affinity(spec: &Value, path: &Path<'_>, all: &mut Warnings) {
    let Some(affinity) = at(spec, &["affinity", "nodeAffinity"]) else { return };
    let path = path.child("affinity");
    let path = path.child("nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let list = path.child(required);
    let list = list.child("nodeSelectorTerms");
    for (index, term) in items(&affinity[required], "nodeSelectorTerms").iter().enumerate() {
        node_term(term, false, &list.index(index), all);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let list = path.child(preferred);
    for (index, term) in items(affinity, preferred).iter().enumerate() {
        node_term(&term["preference"], true, &list.index(index).child("preference"), all);
    }
}

fn null_selector(term: &Value, path: &Path<'_>, all: &mut Warnings) {
    if get(term, "labelSelector").is_none() {
        let path = path.child("labelSelector");
        all.push(format!("{path}: a null labelSelector results in matching no pod"));
    }
}

fn pod_affinity(spec: &Value, path: &Path<'_>, all: &mut Warnings) {
    let path = path.child("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = at(spec, &["affinity", kind]) else { continue };
        let path = path.child(kind);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in items(affinity, required).iter().enumerate() {
            null_selector(term, &path.child(required).index(index), all);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in items(affinity, preferred).iter().enumerate() {
            let list = path.child(preferred);
            null_selector(&term["podAffinityTerm"], &list.index(index).child("podAffinityTerm"), all);
        }
    }
}

fn annotations(meta: &Value, root: &Path<'_>, all: &mut Warnings) {
    const OLD: [(&str, &str); 3] = [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ];
    for (key, message) in OLD {
        annotation(meta, key, message, root, all);
    }
}

fn annotation(meta: &Value, key: &str, message: &str, root: &Path<'_>, all: &mut Warnings) {
    if get(&meta["annotations"], key).is_some() {
        let meta = root.child("metadata");
        all.push(format!("{}: {message}", meta.child("annotations").key(key)));
    }
}

fn seccomp(context: &Value, meta: &Value, key: &str, root: &Path<'_>, all: &mut Warnings) {
    if get(context, "seccompProfile").is_none() {
        annotation(
            meta,
            key,
            "non-functional in v1.27+; use the \"seccompProfile\" field instead",
            root,
            all,
        );
    }
}

fn volumes(spec: &Value, path: &Path<'_>, all: &mut Warnings) {
    const SOURCES: [(&str, &str, &str); 9] = [
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let list = path.child("volumes");
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        let path = list.index(index);
        for (field, shown, message) in SOURCES {
            if field == "cephfs"
                && let Some(claim) = at(volume, &["ephemeral", "volumeClaimTemplate"])
            {
                let path = path.child("ephemeral");
                claim_spec(&claim["spec"], &path.child("volumeClaimTemplate").child("spec"), all);
            }
            if get(volume, field).is_some() {
                all.push(format!("{}: {message}", path.child(shown)));
            }
        }
    }
}

/// A file of a volume, and where it comes from.
type File = (String, String);

fn shown(file: &File) -> String {
    match &*file.1 {
        "" => quoted(&file.0),
        source => format!("{} ({source})", quoted(&file.0)),
    }
}

/// Files that lie over those that are there already.
fn colliding<'a>(files: &'a [File], file: &File) -> impl Iterator<Item = &'a File> {
    let own = format!("{}/", file.0);
    let path = file.0.clone();
    files.iter().filter(move |other| {
        let other = format!("{}/", other.0);
        !path.is_empty() && other.len() > 1 && (other.starts_with(&own) || own.starts_with(&other))
    })
}

fn paths(list: &Value, source: &str) -> Vec<File> {
    items(list, "items").iter().map(|item| (text(item, "path").to_owned(), source.to_owned())).collect()
}

fn overlaps(spec: &Value, all: &mut Warnings) {
    for volume in items(spec, "volumes") {
        let name = quoted(text(volume, "name"));
        let mut tell = |files: Vec<File>, known: &mut Vec<File>, description: &str| {
            for (path, source) in files.into_iter().take(200) {
                let file = (path.trim_end_matches('/').to_owned(), source);
                for other in colliding(known, &file) {
                    let body = format!("{} with {}", shown(&file), shown(other));
                    all.push(format!("volume {name} ({description}): overlapping paths: {body}"));
                }
                known.push(file);
            }
        };
        if let Some(map) = get(volume, "configMap") {
            let description = format!("ConfigMap {}", quoted(text(map, "name")));
            tell(paths(map, ""), &mut Vec::new(), &description);
        }
        if let Some(secret) = get(volume, "secret") {
            let description = format!("Secret {}", quoted(text(secret, "secretName")));
            tell(paths(secret, ""), &mut Vec::new(), &description);
        }
        if let Some(down) = get(volume, "downwardAPI") {
            tell(paths(down, ""), &mut Vec::new(), "DownwardAPI");
        }
        let mut known = Vec::new();
        let mut nothing = 0;
        for source in items(&volume["projected"], "sources") {
            let files = if let Some(map) = get(source, "configMap") {
                paths(map, &format!("ConfigMap {}", quoted(text(map, "name"))))
            } else if let Some(secret) = get(source, "secret") {
                paths(secret, &format!("Secret {}", quoted(text(secret, "name"))))
            } else if let Some(down) = get(source, "downwardAPI") {
                paths(down, "DownwardAPI")
            } else if let Some(token) = get(source, "serviceAccountToken") {
                vec![(text(token, "path").to_owned(), "ServiceAccountToken".to_owned())]
            } else {
                nothing += usize::from(source.as_object().is_some_and(|source| source.is_empty()));
                continue;
            };
            tell(files, &mut known, "Projected");
        }
        for _ in 0..nothing {
            all.push(format!("volume {name} (Projected) has no sources provided"));
        }
    }
}

fn duplicates(spec: &Value, list: &str, field: &str, path: &Path<'_>, all: &mut Warnings) {
    let mut seen = BTreeSet::new();
    for (index, item) in items(spec, list).iter().enumerate() {
        let value = text(item, field);
        if !seen.insert(value) {
            let list = path.child(list);
            all.push(format!("{}: duplicate {field} {}", list.index(index).child(field), quoted(value)));
        }
    }
}

/// Every container, init containers first, ephemeral ones last.
fn visit<'a>(spec: &'a Value, path: &Path<'_>, see: &mut dyn FnMut(&'a Value, &Path<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let at = path.child(list);
        for (index, container) in items(spec, list).iter().enumerate() {
            see(container, &at.index(index));
        }
    }
}

fn one_container(
    container: &Value,
    spec: &Value,
    meta: &Value,
    root: &Path<'_>,
    template: bool,
    path: &Path<'_>,
    all: &mut Warnings,
) {
    let (name, context) = (text(container, "name"), &container["securityContext"]);
    let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
    seccomp(context, meta, &key, root, all);
    let armored = get(context, "appArmorProfile").or(at(spec, &["securityContext", "appArmorProfile"]));
    if template && armored.is_none() {
        let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
        annotation(
            meta,
            &key,
            "deprecated since v1.30; use the \"appArmorProfile\" field instead",
            root,
            all,
        );
    }
    let resources = path.child("resources");
    for name in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            fractional(&container["resources"][list][name], &resources.child(list).key(name), all);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, variable) in items(container, "env").iter().enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        if get(variable, "valueFrom").is_some() || value == reference || !value.contains(&reference) {
            let path = path.child("env");
            all.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(index),
                quoted(name)
            ));
        }
    }
}

fn ports(spec: &Value, path: &Path<'_>, all: &mut Warnings) {
    let mut known: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    let host = |port: &Value| int(port, "hostPort").unwrap_or(0);
    visit(spec, path, &mut |container, path| {
        for (index, port) in items(container, "ports").iter().enumerate() {
            let own = path.child("ports").index(index).to_string();
            let (ip, number) = (text(port, "hostIP"), int(port, "containerPort").unwrap_or(0));
            let protocol = text(port, "protocol");
            if !ip.is_empty() && host(port) == 0 {
                all.push(format!(
                    "{own}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}",
                    text(port, "name")
                ));
            }
            let others = known.entry((number, protocol)).or_default();
            for (other, before) in others.iter().take(super::MAX_WARNINGS) {
                let other_ip = text(before, "hostIP");
                let what = if ip == other_ip && host(port) == host(before) {
                    "duplicate"
                } else if host(port) == 0 || host(before) == 0 {
                    "overlapping"
                } else if host(port) == host(before) && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                all.push(format!("{own}: {what} port definition with {other}"));
            }
            others.push((own, port));
        }
    });
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    visit(spec, path, &mut |container, path| {
        for (index, port) in items(container, "ports").iter().enumerate() {
            let own = path.child("ports").index(index).to_string();
            let name = text(port, "name");
            if name.is_empty() {
                continue;
            }
            match names.get(name) {
                Some(other) => all.push(format!(
                    "{own}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    quoted(name)
                )),
                None => drop(names.insert(name, own)),
            }
        }
    });
}
