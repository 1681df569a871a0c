//! What a user should know of an object although it is accepted: deprecated fields and
//! labels, values that do not do what they seem to (`WarningsOnCreate` and
//! `WarningsOnUpdate` of upstream's strategies). Pure; sent as `Warning` headers.

mod addresses;
mod pods;

use serde_json::Value;

use crate::Kind;
use crate::field::Path;
use crate::quantity::Quantity;
use crate::tree::{entries, get, int, int_at, items, same_field, text, texts};
use crate::validation::names;

/// Warnings at most, for one object.
const MAX_WARNINGS: usize = 100;

/// Labels of nodes that have others for a name now.
const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Sentences, in upstream's order.
type Warnings = Vec<String>;

/// Warnings about a new object (`old` is absent) or one that replaces another.
pub fn of(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = Warnings::new();
    if kind.custom {
        return all;
    }
    let spec = Path::ROOT.child("spec");
    let template = |all: &mut Warnings| {
        if changed(kind, new, old) {
            pods::template(&new["spec"]["template"], &spec.child("template"), all);
        }
    };
    match &*kind.resource {
        "pods" => {
            if old.is_none() {
                host_name(new, "the Pod's hostname", &mut all);
            }
            pods::pod(new, &mut all);
        }
        "podtemplates" => pods::template(&new["template"], &Path::ROOT.child("template"), &mut all),
        "replicationcontrollers" | "deployments.apps" | "replicasets.apps" => {
            if old.is_none() {
                host_name(new, "Pod names and hostnames", &mut all);
            }
            template(&mut all);
        }
        "daemonsets.apps" => template(&mut all),
        "statefulsets.apps" => {
            template(&mut all);
            let list = spec.child("volumeClaimTemplates");
            for (at, claim) in items(&new["spec"], "volumeClaimTemplates").iter().enumerate() {
                let path = list.index(at);
                let path = if old.is_some() { path.child("Spec") } else { path };
                claim_spec(&claim["spec"], &path, &mut all);
            }
            if int(&new["spec"], "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
                all.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
            }
        }
        "jobs.batch" => {
            if old.is_none() {
                host_name(new, "Pod names and hostnames", &mut all);
            }
            if changed(kind, new, old) {
                job(&new["spec"], &spec, &mut all);
            }
        }
        "cronjobs.batch" => {
            if old.is_none() {
                host_name(new, "Pod names and hostnames", &mut all);
            }
            if changed(kind, new, old) {
                job(&new["spec"]["jobTemplate"]["spec"], &spec.child("jobTemplate").child("spec"), &mut all);
            }
            if old.is_some() && text(&new["spec"], "schedule").contains("TZ") {
                all.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
            }
        }
        "persistentvolumeclaims" => {
            annotation(new, CLASS, CLASS_MESSAGE, &mut all);
            claim_spec(&new["spec"], &spec, &mut all);
        }
        "persistentvolumes" => volume(new, &mut all),
        "serviceaccounts" => {
            let key = "kubernetes.io/enforce-mountable-secrets";
            let had = old.is_some_and(|old| get(&old["metadata"]["annotations"], key).is_some());
            if !had {
                let message =
                    "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
                annotation(new, key, message, &mut all);
            }
        }
        "storageclasses.storage.k8s.io" => storage_class(new, &mut all),
        "csistoragecapacities.storage.k8s.io" => {
            let path = Path::ROOT.child("nodeTopology");
            let path = path.child("matchExpressions");
            for (at, one) in items(&new["nodeTopology"], "matchExpressions").iter().enumerate() {
                label_key(text(one, "key"), &path.index(at).child("key"), &mut all);
            }
        }
        "csidrivers.storage.k8s.io" => {
            let asked = |driver: &Value| !items(&driver["spec"], "tokenRequests").is_empty();
            let untouched = old.is_some_and(|old| same_field(&new["spec"], &old["spec"], "tokenRequests"));
            if asked(new) && !untouched && get(&new["spec"], "serviceAccountTokenInSecrets").is_none() {
                all.push("spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".into());
            }
        }
        "runtimeclasses.node.k8s.io" => {
            for (key, _) in entries(&new["scheduling"], "nodeSelector") {
                if let Some((_, message)) = NODE_LABELS.iter().find(|(label, _)| *label == key) {
                    all.push(format!("scheduling.nodeSelector: {message}"));
                }
            }
        }
        "ingresses.networking.k8s.io" => {
            let key = "kubernetes.io/ingress.class";
            let annotated = get(&new["metadata"]["annotations"], key).is_some();
            if old.is_none() && annotated && get(&new["spec"], "ingressClassName").is_none() {
                all.push(format!(
                    "annotation {key:?} is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        }
        "endpointslices.discovery.k8s.io" => {
            if old.is_none() && text(new, "addressType") == "FQDN" {
                all.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
            }
            addresses::of(&kind.resource, new, &mut all);
        }
        "services" | "endpoints" | "nodes" | "networkpolicies.networking.k8s.io" => {
            addresses::of(&kind.resource, new, &mut all);
        }
        _ => {}
    }
    all.truncate(MAX_WARNINGS);
    all
}

/// Whether what a controller runs by is new or changed.
fn changed(kind: &Kind, new: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else { return true };
    let annotated = &*kind.resource == "deployments.apps"
        && !same_field(&new["metadata"], &old["metadata"], "annotations");
    let field = if &*kind.resource == "daemonsets.apps" { "template" } else { "" };
    match field {
        "" => !same_field(new, old, "spec") || annotated,
        field => !same_field(&new["spec"], &old["spec"], field),
    }
}

/// A name that pods will have for a host name.
fn host_name(object: &Value, used: &str, all: &mut Warnings) {
    let wrong = names::dns_label(text(&object["metadata"], "name"));
    if !wrong.is_empty() {
        all.push(format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

fn annotation(object: &Value, key: &str, message: &str, all: &mut Warnings) {
    if get(&object["metadata"]["annotations"], key).is_some() {
        all.push(format!("metadata.annotations[{key}]: {message}"));
    }
}

/// The key of an expression over labels of nodes.
fn label_key(key: &str, path: &Path<'_>, all: &mut Warnings) {
    if let Some((_, message)) = NODE_LABELS.iter().find(|(label, _)| *label == key) {
        all.push(format!("{path}: {key} is {message}"));
    }
}

/// A term over labels of nodes; preferences may hold values that no label has.
fn node_term(term: &Value, preferred: bool, path: &Path<'_>, all: &mut Warnings) {
    let list = path.child("matchExpressions");
    for (at, expression) in items(term, "matchExpressions").iter().enumerate() {
        let path = list.index(at);
        label_key(text(expression, "key"), &path.child("key"), all);
        for (at, value) in texts(expression, "values").enumerate().filter(|_| preferred) {
            if all.len() > MAX_WARNINGS {
                return;
            }
            for message in names::label_value(value) {
                all.push(format!("{}: {value} is invalid, {message}", path.child("values").index(at)));
            }
        }
    }
}

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const CLASS_MESSAGE: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";

/// Bytes come whole.
fn fractional(amount: &Value, path: &Path<'_>, all: &mut Warnings) {
    let Some(text) = amount.as_str() else { return };
    if Quantity::parse(text).is_ok_and(|quantity| quantity.milli_value() % 1000 != 0) {
        all.push(format!("{path}: fractional byte value {text:?} is invalid, must be an integer"));
    }
}

fn claim_spec(spec: &Value, path: &Path<'_>, all: &mut Warnings) {
    let resources = path.child("resources");
    for list in ["requests", "limits"] {
        fractional(&spec["resources"][list]["storage"], &resources.child(list).key("storage"), all);
    }
}

fn volume(volume: &Value, all: &mut Warnings) {
    const SOURCES: [(&str, &str, &str); 6] = [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    annotation(volume, CLASS, CLASS_MESSAGE, all);
    let mount = "volume.beta.kubernetes.io/mount-options";
    annotation(volume, mount, "deprecated since v1.31; use \"mountOptions\" attribute instead", all);
    let spec = &volume["spec"];
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        all.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    let path = Path::ROOT.child("spec");
    let affinity = path.child("nodeAffinity");
    let required = affinity.child("required");
    let terms = required.child("nodeSelectorTerms");
    for (at, term) in items(&spec["nodeAffinity"]["required"], "nodeSelectorTerms").iter().enumerate() {
        node_term(term, false, &terms.index(at), all);
    }
    for (field, shown, message) in SOURCES {
        if get(spec, field).is_some() {
            all.push(format!("{}: {message}", path.child(shown)));
        }
    }
}

fn storage_class(class: &Value, all: &mut Warnings) {
    let path = Path::ROOT.child("allowedTopologies");
    for (at, term) in items(class, "allowedTopologies").iter().enumerate() {
        let term_path = path.index(at);
        let list = term_path.child("matchLabelExpressions");
        for (at, expression) in items(term, "matchLabelExpressions").iter().enumerate() {
            let key = text(expression, "key");
            if let Some((_, message)) = NODE_LABELS.iter().find(|(label, _)| *label == key) {
                all.push(format!("{}: {message}", list.index(at).child("key")));
            }
        }
    }
}

fn job(spec: &Value, path: &Path<'_>, all: &mut Warnings) {
    let count = |field: &str| int_at(spec, &[field]).unwrap_or(0);
    if text(spec, "completionMode") == "Indexed"
        && count("completions") > 100_000
        && count("parallelism") > 10_000
    {
        all.push(format!("{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    pods::template(&spec["template"], &path.child("template"), all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn check(resource: (&str, &str, &str), object: Value, expect: &[&str]) {
        let kinds = kinds::builtin();
        let (kind, _) = kinds.resource(resource.0, resource.1, resource.2).unwrap();
        assert_eq!(of(kind, &object, None), expect, "{object}");
    }

    #[test]
    fn what_is_odd_is_said() {
        let pod = ("", "v1", "pods");
        let port = json!({"containerPort": 80, "protocol": "TCP", "name": "a"});
        check(
            pod,
            json!({"metadata": {"name": "p"}, "spec": {
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "containers": [{"name": "c", "ports": [port, port], "env": [{"name": "A"}, {"name": "A"}]}],
                "volumes": [{"name": "v", "rbd": {}}],
            }}),
            &[
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[1]: duplicate port name \"a\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
            ],
        );
        check(
            ("", "v1", "services"),
            json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "externalName": "x"}}),
            &[
                "spec.SessionAffinity is ignored for headless services",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ],
        );
        check(
            ("discovery.k8s.io", "v1", "endpointslices"),
            json!({"addressType": "FQDN", "endpoints": [{"addresses": ["010.0.0.1"]}]}),
            &[
                "spec.addressType: FQDN endpoints are deprecated",
                "endpoints[0].addresses[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
            ],
        );
        check(
            pod,
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}],
                "volumes": [{"name": "v", "projected": {"sources": [{}]}}]}}),
            &["volume \"v\" (Projected) has no sources provided"],
        );
        check(
            ("", "v1", "nodes"),
            json!({"spec": {"podCIDRs": ["10.0.0.1/24"]}}),
            &[
                "spec.podCIDRs[0]: CIDR value \"10.0.0.1/24\" is ambiguous in this context (should be \"10.0.0.0/24\" or \"10.0.0.1/32\"?)",
            ],
        );
    }
}
