//! Rows of the core group but Pods, and of Events of either group.

use serde_json::Value;

use super::Row;
use super::format::{NONE, UNKNOWN, UNSET, containers, labels, or, plain};
use super::{network, workloads};
use crate::tree::{at, entries, flag, get, int, int_at, items_at, text, text_at, texts};

/// The cells of a kind of the core group; `None` when it has no columns of its own.
pub fn cells(kind: &str, row: &Row<'_>) -> Option<Vec<Value>> {
    let object = row.object;
    Some(match kind {
        "ConfigMap" => {
            let count = entries(object, "data").count() + entries(object, "binaryData").count();
            vec![row.name(), count.into(), row.age()]
        }
        "Secret" => {
            let count = entries(object, "data").count();
            vec![row.name(), text(object, "type").into(), count.into(), row.age()]
        }
        "ServiceAccount" => vec![row.name(), row.age()],
        "Namespace" => vec![row.name(), text_at(object, &["status", "phase"]).into(), row.age()],
        "Service" => network::service(row),
        "Endpoints" => network::endpoints(row),
        "Event" => event(row),
        "Node" => node(row),
        "PersistentVolume" => volume(row),
        "PersistentVolumeClaim" => claim(row),
        "PodTemplate" => {
            let [names, images] = containers(&object["template"]);
            vec![row.name(), names, images, labels(&object["template"]["metadata"], "labels").into()]
        }
        "ReplicationController" => workloads::replication_controller(row),
        "ResourceQuota" => quota(row),
        "ComponentStatus" => component(row),
        _ => return None,
    })
}

fn event(row: &Row<'_>) -> Vec<Value> {
    let event = row.object;
    let when = |field: &str| get(event, field).map(|_| row.since(&[field]));
    let first = when("firstTimestamp").or_else(|| when("eventTime")).unwrap_or_else(|| UNKNOWN.to_owned());
    let mut last = when("lastTimestamp").unwrap_or_else(|| first.clone());
    let mut count = int(event, "count").unwrap_or(0).max(1);
    if get(event, "series").is_some() {
        last = row.since(&["series", "lastObservedTime"]);
        count = int_at(event, &["series", "count"]).unwrap_or(0);
    }
    let about = &event["involvedObject"];
    let kind = text(about, "kind").to_lowercase();
    let object = match text(about, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = or(text_at(event, &["source", "component"]), text(event, "reportingComponent"));
    let source = match or(text_at(event, &["source", "host"]), text(event, "reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    };
    vec![
        last.into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        object.into(),
        text(about, "fieldPath").into(),
        source.into(),
        text(event, "message").trim().into(),
        first.into(),
        count.into(),
        row.name(),
    ]
}

fn node(row: &Row<'_>) -> Vec<Value> {
    let (status, info) = (&row.object["status"], &row.object["status"]["nodeInfo"]);
    let ready = items_at(status, &["conditions"]).iter().rev().find(|c| text(c, "type") == "Ready");
    let mut state = match ready.map(|condition| text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(&row.object["spec"], "unschedulable") {
        state.push_str(",SchedulingDisabled");
    }
    let address = |ty: &str| {
        let all = items_at(status, &["addresses"]);
        all.iter().find(|a| text(a, "type") == ty).map_or(NONE, |a| text(a, "address"))
    };
    let mut kernel = or(text(info, "kernelVersion"), UNKNOWN).to_owned();
    if !text(info, "architecture").is_empty() {
        kernel = format!("{kernel} ({})", text(info, "architecture"));
    }
    vec![
        row.name(),
        state.into(),
        or(&roles(row.object), NONE).into(),
        row.age(),
        text(info, "kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or(text(info, "osImage"), UNKNOWN).into(),
        kernel.into(),
        or(text(info, "containerRuntimeVersion"), UNKNOWN).into(),
    ]
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = entries(&node["metadata"], "labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            None if key == "kubernetes.io/role" => value.as_str(),
            role => role,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn access_modes(object: &Value) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| texts(object, "accessModes").any(|each| each == mode);
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn storage_class(object: &Value) -> &str {
    let annotations = &object["metadata"]["annotations"];
    let beta = get(annotations, "volume.beta.kubernetes.io/storage-class").and_then(Value::as_str);
    beta.unwrap_or_else(|| text_at(object, &["spec", "storageClassName"]))
}

fn phase(object: &Value) -> &str {
    let deleting = at(object, &["metadata", "deletionTimestamp"]).is_some();
    if deleting { "Terminating" } else { text_at(object, &["status", "phase"]) }
}

fn storage(list: &Value) -> String {
    get(list, "storage").map_or_else(|| "0".to_owned(), plain)
}

fn volume(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let claim = get(spec, "claimRef").map(|c| format!("{}/{}", text(c, "namespace"), text(c, "name")));
    vec![
        row.name(),
        storage(&spec["capacity"]).into(),
        access_modes(spec).into(),
        text(spec, "persistentVolumeReclaimPolicy").into(),
        phase(row.object).into(),
        claim.unwrap_or_default().into(),
        storage_class(row.object).into(),
        or(text(spec, "volumeAttributesClassName"), UNSET).into(),
        text_at(row.object, &["status", "reason"]).into(),
        row.age(),
        or(text(spec, "volumeMode"), UNSET).into(),
    ]
}

fn claim(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let bound = !text(spec, "volumeName").is_empty();
    let (modes, capacity) =
        if bound { (access_modes(status), storage(&status["capacity"])) } else { Default::default() };
    vec![
        row.name(),
        phase(row.object).into(),
        text(spec, "volumeName").into(),
        capacity.into(),
        modes.into(),
        storage_class(row.object).into(),
        or(text(spec, "volumeAttributesClassName"), UNSET).into(),
        row.age(),
        or(text(spec, "volumeMode"), UNSET).into(),
    ]
}

fn quota(row: &Row<'_>) -> Vec<Value> {
    let status = &row.object["status"];
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in entries(status, "hard") {
        let used = get(&status["used"], resource).map_or_else(|| "0".to_owned(), plain);
        let list = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
        list.push(format!("{resource}: {used}/{}", plain(hard)));
    }
    vec![row.name(), requests.join(", ").into(), limits.join(", ").into(), row.age()]
}

fn component(row: &Row<'_>) -> Vec<Value> {
    let condition = items_at(row.object, &["conditions"]).iter().find(|c| text(c, "type") == "Healthy");
    let state = match condition.map(|condition| text(condition, "status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let field = |name: &str| condition.map_or("", |condition| text(condition, name)).into();
    vec![row.name(), state.into(), field("message"), field("error")]
}
