//! What upstream's strategies write into an object before its rules are asked: what a
//! kind owes to every object, what a user may not say, what two fields say alike.
//! (`PrepareForCreate` and `PrepareForUpdate` of `pkg/registry/*/*/strategy.go`.)
//!
//! Runs after admission; that status and spec are kept apart, uid, times and
//! generation, is the registry's part for all kinds. What needs other objects (addresses)
//! or chance is the server's. Dropping what a default server does not know is decoding's.

pub mod pods;

use serde_json::{Map, Value, json};

use crate::Kind;
use crate::tree::{default, get, items, items_mut, object_mut, same, text};

/// On whose behalf, and when.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// RFC 3339.
    pub now: &'a str,
    /// The subresource that is written; empty for the object itself.
    pub subresource: &'a str,
    /// The user, in the fields in which a CertificateSigningRequest names one:
    /// `username`, `uid`, `groups`, `extra`.
    pub user: &'a Map<String, Value>,
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Prepares a new object, which has its uid and an empty status.
pub fn create(kind: &Kind, request: &Request<'_>, object: &mut Value) {
    if kind.custom {
        return;
    }
    match &*kind.resource {
        "daemonsets.apps" => {
            let generation = template_generation(object).max(1);
            set_template_generation(object, generation);
        }
        "endpointslices.discovery.k8s.io" => topology(object, None),
        "jobs.batch" => job_selector(object),
        // A name that was made up came after the defaults.
        "namespaces" => {
            let name = text(&object["metadata"], "name").to_owned();
            default(
                object_mut(object_mut(object, "metadata"), "labels"),
                "kubernetes.io/metadata.name",
                name,
            );
        }
        "limitranges" if text(&object["metadata"], "name").is_empty() => {
            // Upstream makes one up of the same sort.
            object["metadata"]["name"] = object["metadata"]["uid"].clone();
        }
        "persistentvolumes" => {
            let status = object_mut(object, "status");
            status["phase"] = "Pending".into();
            status["lastPhaseTransitionTime"] = request.now.into();
        }
        "persistentvolumeclaims" => {
            data_sources(&mut object["spec"], None);
            object_mut(object, "status")["phase"] = "Pending".into();
        }
        "nodes" => node_config(object, None),
        "serviceaccounts" => secret_names(object),
        "services" => cluster_ips(&mut object["spec"]),
        "certificatesigningrequests.certificates.k8s.io" => {
            let spec = object_mut(object, "spec");
            for field in ["username", "uid", "groups", "extra"] {
                match request.user.get(field) {
                    Some(value) => spec[field] = value.clone(),
                    None => drop(spec.as_object_mut().and_then(|spec| spec.remove(field))),
                }
            }
        }
        _ => {}
    }
}

/// Fills in the list that says what the older, single field says. No default: whoever
/// creates the Service has not written the list and does not own it.
pub fn cluster_ips(spec: &mut Value) {
    let address = text(spec, "clusterIP").to_owned();
    if !address.is_empty() && items(spec, "clusterIPs").is_empty() {
        spec["clusterIPs"] = json!([address]);
    }
}

/// Fills in what upstream's defaults add when an object is read back, which its rules do
/// not see: a Job without labels has its template's, of which the server has made some.
pub fn read_back(kind: &Kind, object: &mut Value) {
    if &*kind.resource != "jobs.batch" {
        return;
    }
    let own = get(&object["metadata"], "labels").and_then(Value::as_object);
    if own.is_none_or(Map::is_empty)
        && let Some(labels) = get(&object["spec"]["template"]["metadata"], "labels").cloned()
    {
        object["metadata"]["labels"] = labels;
    }
}

/// Prepares an object that replaces `old`; status and spec are already kept apart.
pub fn update(kind: &Kind, request: &Request<'_>, new: &mut Value, old: &Value) {
    if kind.custom {
        return;
    }
    match (&*kind.resource, request.subresource) {
        ("daemonsets.apps", "") => {
            let before = template_generation(old);
            let changed = !same(new["spec"].get("template"), old["spec"].get("template"));
            set_template_generation(new, before + i64::from(changed));
        }
        ("endpointslices.discovery.k8s.io", "") => topology(new, Some(old)),
        ("daemonsets.apps", "status") => set_template_generation(new, template_generation(old)),
        ("persistentvolumeclaims", "") => data_sources(&mut new["spec"], Some(&old["spec"])),
        ("persistentvolumes", "status") => phase_transition(new, old, request.now),
        ("serviceaccounts", "") => secret_names(new),
        ("nodes", "" | "status") => node_config(new, Some(old)),
        ("pods", "resize") => pods::resize(new, old),
        (
            "servicecidrs.networking.k8s.io"
            | "volumeattachments.storage.k8s.io"
            | "resourceclaims.resource.k8s.io",
            "status",
        ) => keep_metadata(new, old),
        ("certificatesigningrequests.certificates.k8s.io", "") => {
            new["spec"] = old["spec"].clone();
        }
        ("certificatesigningrequests.certificates.k8s.io", "status") => {
            for condition in ["Approved", "Denied"] {
                keep_conditions(new, old, condition);
            }
            condition_times(new, old, request.now);
        }
        ("certificatesigningrequests.certificates.k8s.io", "approval") => {
            condition_times(new, old, request.now);
            let conditions = new["status"].get("conditions").cloned();
            new["status"] = old["status"].clone();
            match (conditions, new["status"].as_object_mut()) {
                (Some(conditions), Some(status)) => drop(status.insert("conditions".into(), conditions)),
                (None, Some(status)) => drop(status.remove("conditions")),
                _ => {}
            }
        }
        _ => {}
    }
}

/// A status brings no labels and the like with it (`ResetObjectMetaForStatus`).
fn keep_metadata(new: &mut Value, old: &Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        match get(&old["metadata"], field) {
            Some(value) => new["metadata"][field] = value.clone(),
            None => drop(new["metadata"].as_object_mut().and_then(|meta| meta.remove(field))),
        }
    }
}

// === impl DaemonSets ===

/// An old counter that lives on in an annotation.
fn template_generation(object: &Value) -> i64 {
    text(&object["metadata"]["annotations"], TEMPLATE_GENERATION).parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = object_mut(object_mut(object, "metadata"), "annotations");
    annotations[TEMPLATE_GENERATION] = generation.to_string().into();
}

// === impl EndpointSlices ===

/// What older versions said of endpoints in labels is not to be written any more; the node
/// that was said so before is still known.
fn topology(slice: &mut Value, old: Option<&Value>) {
    const FIELD: &str = "deprecatedTopology";
    if old.is_some_and(|old| same(old.get("endpoints"), slice.get("endpoints"))) {
        return;
    }
    let host = |endpoint: &Value| text(&endpoint[FIELD], "kubernetes.io/hostname").to_owned();
    let known: Vec<String> = old.into_iter().flat_map(|old| items(old, "endpoints")).map(host).collect();
    for endpoint in items_mut(slice, "endpoints") {
        let node = host(endpoint);
        let valid = crate::validation::names::dns_subdomain(&node).is_empty();
        if get(endpoint, "nodeName").is_none() && known.contains(&node) && valid {
            endpoint["nodeName"] = node.into();
        }
        endpoint.as_object_mut().map(|fields| fields.remove(FIELD));
    }
}

// === impl Jobs ===

/// A Job finds its pods by its uid, unless its user says how.
fn job_selector(job: &mut Value) {
    if crate::tree::flag(&job["spec"], "manualSelector") {
        return;
    }
    let meta = |field: &str| text(&job["metadata"], field).to_owned();
    let (name, uid) = (meta("name"), meta("uid"));
    let spec = object_mut(job, "spec");
    let template = object_mut(spec, "template");
    let given = template["metadata"].get("labels").cloned();
    let labels = object_mut(object_mut(template, "metadata"), "labels");
    for (label, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        default(labels, label, value.as_str());
    }
    let labels = labels.clone();
    let selector = object_mut(object_mut(spec, "selector"), "matchLabels");
    default(selector, "batch.kubernetes.io/controller-uid", uid.as_str());
    // A Job that took its template's labels for its own has these too.
    if given.is_some() && job["metadata"].get("labels") == given.as_ref() {
        job["metadata"]["labels"] = labels;
    }
}

// === impl PersistentVolumes ===

fn phase_transition(new: &mut Value, old: &Value, now: &str) {
    let field = "lastPhaseTransitionTime";
    let time = |object: &Value| get(&object["status"], field).cloned();
    let (given, before) = (time(new), time(old));
    if text(&new["status"], "phase") == text(&old["status"], "phase") {
        if let (None, Some(before)) = (given, before) {
            object_mut(new, "status")[field] = before;
        }
    } else if given.is_none() || given == before {
        object_mut(new, "status")[field] = now.into();
    }
}

/// `dataSource` and `dataSourceRef` say the same; the older one only of claims and
/// snapshots.
fn data_sources(spec: &mut Value, old: Option<&Value>) {
    let (source, reference) = ("dataSource", "dataSourceRef");
    let used = |field: &str| old.is_some_and(|old| get(old, field).is_some());
    let Some(fields) = spec.as_object_mut() else { return };
    let crosses = fields.get(reference).is_some_and(|reference| !text(reference, "namespace").is_empty());
    if crosses && !used(reference) {
        fields.remove(reference);
    }
    let known = |value: &Value| {
        matches!(
            (text(value, "apiGroup"), text(value, "kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    let plain = !fields.get(reference).is_some_and(Value::is_object);
    let given = fields.get(source).filter(|value| value.is_object());
    if plain && !used(source) && !used(reference) && given.is_some_and(|value| !known(value)) {
        fields.remove(source);
    }
    let of = |fields: &Map<String, Value>, field: &str| fields.get(field).filter(|v| v.is_object()).cloned();
    match (of(fields, source), of(fields, reference)) {
        (Some(value), None) => drop(fields.insert(reference.into(), value)),
        (None, Some(mut value)) if text(&value, "namespace").is_empty() => {
            value.as_object_mut().map(|value| value.remove("namespace"));
            fields.insert(source.into(), value);
        }
        _ => {}
    }
}

// === impl ServiceAccounts ===

/// Configuration of kubelets from the API is gone; only what has it may keep it.
fn node_config(node: &mut Value, old: Option<&Value>) {
    for (part, field) in [("spec", "configSource"), ("status", "config")] {
        let held = old.is_some_and(|old| old[part].get(field).is_some());
        if let Some(part) = node.get_mut(part).and_then(Value::as_object_mut).filter(|_| !held) {
            part.remove(field);
        }
    }
}

fn secret_names(account: &mut Value) {
    for secret in items_mut(account, "secrets") {
        let name = text(secret, "name");
        *secret = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
    }
}

// === impl CertificateSigningRequests ===

/// Conditions that only approval writes stay as they were, one by one.
fn keep_conditions(new: &mut Value, old: &Value, ty: &str) {
    let of_type = |condition: &&Value| text(condition, "type") == ty;
    let before: Vec<&Value> = items(&old["status"], "conditions").iter().filter(of_type).collect();
    if items(&new["status"], "conditions").iter().filter(of_type).count() != before.len() {
        return;
    }
    let now = items_mut(&mut new["status"], "conditions").iter_mut().filter(|one| text(one, "type") == ty);
    for (condition, before) in now.zip(before) {
        *condition = before.clone();
    }
}

fn condition_times(new: &mut Value, old: &Value, now: &str) {
    for condition in items_mut(&mut new["status"], "conditions") {
        default(condition, "lastUpdateTime", now);
        if get(condition, "lastTransitionTime").is_some() {
            continue;
        }
        let alike = |before: &&Value| {
            ["type", "status"].iter().all(|field| text(before, field) == text(condition, field))
                && get(before, "lastTransitionTime").is_some()
        };
        let before = items(&old["status"], "conditions").iter().find(alike);
        let time = before.map_or_else(|| now.into(), |before| before["lastTransitionTime"].clone());
        condition["lastTransitionTime"] = time;
    }
}

/// What decoding adds that is kept elsewhere: the counter of a DaemonSet's templates.
pub(crate) fn decoded_daemon_set(object: &mut Value) {
    let annotations = object_mut(object_mut(object, "metadata"), "annotations");
    default(annotations, TEMPLATE_GENERATION, "0");
}

/// Whether upstream's internal type of a kind has a field of what is served as an annotation.
pub fn has_hidden_annotation(kind: &Kind) -> bool {
    &*kind.resource == "daemonsets.apps"
}

/// Takes the annotation out of metadata that is shown by itself, which upstream makes of the
/// internal type.
pub fn hide_annotation(meta: &mut Value) {
    let Some(fields) = meta.as_object_mut() else { return };
    let left = fields.get_mut("annotations").and_then(Value::as_object_mut).map(|annotations| {
        annotations.remove(TEMPLATE_GENERATION);
        annotations.len()
    });
    if left == Some(0) {
        fields.remove("annotations");
    }
}

/// Fills in what serving an object adds to one of which nothing is known but its kind: the
/// object of a bookmark.
pub fn served_empty(kind: &Kind, object: &mut Value) {
    match &*kind.resource {
        "daemonsets.apps" => decoded_daemon_set(object),
        // Internally a number, which is always there.
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" => {
            default(object_mut(object, "spec"), "replicas", 0);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn created(resource: (&str, &str, &str), object: Value) -> Value {
        let kinds = kinds::builtin();
        let (kind, _) = kinds.resource(resource.0, resource.1, resource.2).unwrap();
        let user = json!({"username": "jane", "groups": ["system:authenticated"]});
        let request = Request { now: "T", subresource: "", user: user.as_object().unwrap() };
        let mut object = object;
        create(kind, &request, &mut object);
        object
    }

    #[test]
    fn nodes_lose_what_configured_kubelets() {
        let node = json!({"spec": {"podCIDR": "10.9.1.0/24", "configSource": {}}, "status": {"config": {}}});
        let bare = json!({"spec": {"podCIDR": "10.9.1.0/24"}, "status": {}});
        assert_eq!(created(("", "v1", "nodes"), node.clone()), bare);
        for (old, expect) in [(&bare, &bare), (&node, &node)] {
            let mut new = node.clone();
            node_config(&mut new, Some(old));
            assert_eq!(&new, expect);
        }
    }

    #[test]
    fn a_counter_is_no_annotation_of_metadata_by_itself() {
        for (given, expect) in [
            (json!({"name": "d", "annotations": {TEMPLATE_GENERATION: "1"}}), json!({"name": "d"})),
            (
                json!({"annotations": {TEMPLATE_GENERATION: "1", "a": "b"}}),
                json!({"annotations": {"a": "b"}}),
            ),
            (json!({"name": "d"}), json!({"name": "d"})),
        ] {
            let mut meta = given.clone();
            hide_annotation(&mut meta);
            assert_eq!(meta, expect, "{given}");
        }
    }

    #[test]
    fn endpoints_keep_of_old_labels_but_the_node_that_was_known() {
        let slice = |node: Value, name: &str| {
            json!({"metadata": {}, "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": node,
                "deprecatedTopology": {"kubernetes.io/hostname": name}}]})
        };
        let at = |slice: Value| slice["endpoints"][0].clone();
        let new = at(created(("discovery.k8s.io", "v1", "endpointslices"), slice(Value::Null, "a")));
        assert_eq!(new, json!({"addresses": ["10.0.0.1"], "nodeName": null}));
        let old = slice(Value::Null, "a");
        for (node, name, expect) in [(json!("c"), "a", json!("c")), (Value::Null, "b", Value::Null)] {
            let mut new = slice(node, name);
            topology(&mut new, Some(&old));
            assert_eq!(at(new), json!({"addresses": ["10.0.0.1"], "nodeName": expect}), "{name}");
        }
        let mut more = old.clone();
        more["endpoints"][0]["addresses"] = json!(["10.0.0.2"]);
        topology(&mut more, Some(&old));
        assert_eq!(at(more), json!({"addresses": ["10.0.0.2"], "nodeName": "a"}));
    }

    #[test]
    fn new_objects_get_what_they_need() {
        let job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": false}});
        let job = created(("batch", "v1", "jobs"), job);
        assert_eq!(
            job["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        let service = json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.7"}});
        assert_eq!(created(("", "v1", "services"), service)["spec"]["clusterIPs"], json!(["10.96.0.7"]));
        assert_eq!(job["metadata"].get("labels"), None);
        let mut read = job.clone();
        let kinds = kinds::builtin();
        read_back(kinds.resource("batch", "v1", "jobs").unwrap().0, &mut read);
        assert_eq!(read["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]);
        let claim = |spec: Value| {
            created(("", "v1", "persistentvolumeclaims"), json!({"metadata": {}, "spec": spec}))["spec"]
                .clone()
        };
        let source = json!({"kind": "PersistentVolumeClaim", "name": "c"});
        assert_eq!(claim(json!({"dataSource": source}))["dataSourceRef"], source);
        assert_eq!(claim(json!({"dataSource": {"kind": "Other", "name": "c"}})), json!({}));
        assert_eq!(claim(json!({"dataSourceRef": source}))["dataSource"], source);
        let request = json!({"metadata": {}, "spec": {"username": "root", "extra": {}}});
        let request = created(("certificates.k8s.io", "v1", "certificatesigningrequests"), request);
        assert_eq!(request["spec"], json!({"username": "jane", "groups": ["system:authenticated"]}));
    }
}
