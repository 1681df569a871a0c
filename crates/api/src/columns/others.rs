//! Rows of the remaining groups: access, storage, admission, scheduling, devices.

use serde_json::{Value, json};

use super::Row;
use super::format::{NONE, UNSET, human_duration, or};
use crate::tree::{at, flag, get, int, int_at, items, items_at, text, text_at, texts};

/// The cells of a kind; `None` when it has no columns of its own.
pub fn cells(kind: &str, row: &Row<'_>) -> Option<Vec<Value>> {
    let (object, spec) = (row.object, &row.object["spec"]);
    let count = |object: &Value, field: &str| items(object, field).len().into();
    Some(match kind {
        "RoleBinding" | "ClusterRoleBinding" => role_binding(row),
        "Lease" => vec![row.name(), text(spec, "holderIdentity").into(), row.age()],
        "APIService" => api_service(row),
        "CertificateSigningRequest" => signing_request(row),
        "PriorityClass" => vec![
            row.name(),
            int(object, "value").unwrap_or(0).into(),
            flag(object, "globalDefault").into(),
            row.age(),
            text(object, "preemptionPolicy").into(),
        ],
        "RuntimeClass" => vec![row.name(), text(object, "handler").into(), row.age()],
        "StorageClass" => storage_class(row),
        "VolumeAttributesClass" => vec![row.name(), text(object, "driverName").into(), row.age()],
        "VolumeAttachment" => vec![
            row.name(),
            text(spec, "attacher").into(),
            text_at(spec, &["source", "persistentVolumeName"]).into(),
            text(spec, "nodeName").into(),
            flag(&object["status"], "attached").into(),
            row.age(),
        ],
        "CSINode" => vec![row.name(), count(spec, "drivers"), row.age()],
        "CSIDriver" => csi_driver(row),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            vec![row.name(), count(object, "webhooks"), row.age()]
        }
        "ValidatingAdmissionPolicy" => {
            vec![row.name(), count(spec, "validations"), param_kind(spec), row.age()]
        }
        "MutatingAdmissionPolicy" => vec![row.name(), count(spec, "mutations"), param_kind(spec), row.age()],
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            vec![row.name(), text(spec, "policyName").into(), param_ref(spec).into(), row.age()]
        }
        "DeviceClass" | "ResourceClaimTemplate" => vec![row.name(), row.age()],
        "ResourceClaim" => vec![row.name(), claim_state(object).into(), row.age()],
        "ResourceSlice" => vec![
            row.name(),
            text(spec, "nodeName").into(),
            text(spec, "driver").into(),
            text_at(spec, &["pool", "name"]).into(),
            row.age(),
        ],
        "FlowSchema" => flow_schema(row),
        "PriorityLevelConfiguration" => priority_level(row),
        _ => return None,
    })
}

fn role_binding(row: &Row<'_>) -> Vec<Value> {
    let role = &row.object["roleRef"];
    let subjects = |kind: &str| {
        let name = |subject: &Value| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        };
        let of_kind = items(row.object, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
        of_kind.map(name).collect::<Vec<_>>().join(", ").into()
    };
    vec![
        row.name(),
        format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
        row.age(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn api_service(row: &Row<'_>) -> Vec<Value> {
    let service = at(row.object, &["spec", "service"]);
    let service = service
        .map_or_else(|| "Local".to_owned(), |s| format!("{}/{}", text(s, "namespace"), text(s, "name")));
    let conditions = items_at(row.object, &["status", "conditions"]);
    let available = conditions.iter().find(|condition| text(condition, "type") == "Available");
    let available = match available.map(|c| (text(c, "status"), text(c, "reason"))) {
        None => "Unknown".to_owned(),
        Some((status, reason)) if status == "True" || reason.is_empty() => status.to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
    };
    vec![row.name(), service.into(), available.into(), row.age()]
}

fn signing_request(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let has = |ty: &str| items(status, "conditions").iter().any(|condition| text(condition, "type") == ty);
    let mut state = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(status, "certificate").is_empty() {
        state.push_str(",Issued");
    }
    let duration = int(spec, "expirationSeconds").map(|s| human_duration(i128::from(s) * 1_000_000_000));
    vec![
        row.name(),
        row.age(),
        or(text(spec, "signerName"), NONE).into(),
        text(spec, "username").into(),
        duration.unwrap_or_else(|| NONE.to_owned()).into(),
        state.into(),
    ]
}

fn storage_class(row: &Row<'_>) -> Vec<Value> {
    let class = row.object;
    let annotations = &class["metadata"]["annotations"];
    let default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let mut name = text_at(class, &["metadata", "name"]).to_owned();
    if default.iter().any(|key| text(annotations, key) == "true") {
        name.push_str(" (default)");
    }
    vec![
        name.into(),
        text(class, "provisioner").into(),
        or(text(class, "reclaimPolicy"), "Delete").into(),
        or(text(class, "volumeBindingMode"), "Immediate").into(),
        flag(class, "allowVolumeExpansion").into(),
        row.age(),
    ]
}

fn csi_driver(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let modes = texts(spec, "volumeLifecycleModes").collect::<Vec<_>>().join(",");
    let tokens = get(spec, "tokenRequests").map(|_| {
        let audiences = items(spec, "tokenRequests").iter().map(|request| text(request, "audience"));
        audiences.collect::<Vec<_>>().join(",")
    });
    vec![
        row.name(),
        get(spec, "attachRequired").and_then(Value::as_bool).unwrap_or(true).into(),
        flag(spec, "podInfoOnMount").into(),
        flag(spec, "storageCapacity").into(),
        tokens.unwrap_or_else(|| UNSET.to_owned()).into(),
        flag(spec, "requiresRepublish").into(),
        or(&modes, NONE).into(),
        row.age(),
    ]
}

fn param_kind(spec: &Value) -> Value {
    match get(spec, "paramKind") {
        Some(kind) => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
        None => UNSET.into(),
    }
}

fn param_ref(spec: &Value) -> String {
    let Some(param) = get(spec, "paramRef") else { return UNSET.to_owned() };
    match (text(param, "namespace"), text(param, "name")) {
        (_, "") => get(param, "selector").map_or_else(|| UNSET.to_owned(), super::format::selector),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

fn claim_state(claim: &Value) -> String {
    let deleted = at(claim, &["metadata", "deletionTimestamp"]).is_some();
    let allocated = at(claim, &["status", "allocation"]).is_some();
    let reserved = allocated && !items_at(claim, &["status", "reservedFor"]).is_empty();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    states.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn flow_schema(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let conditions = items_at(row.object, &["status", "conditions"]);
    let dangling = conditions.iter().find(|condition| text(condition, "type") == "Dangling");
    vec![
        row.name(),
        text_at(spec, &["priorityLevelConfiguration", "name"]).into(),
        int(spec, "matchingPrecedence").unwrap_or(0).into(),
        or(text_at(spec, &["distinguisherMethod", "type"]), NONE).into(),
        row.age(),
        dangling.map_or("?", |condition| text(condition, "status")).into(),
    ]
}

fn priority_level(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let number = |path: &[&str]| int_at(spec, path).map_or(json!(NONE), Value::from);
    let queuing = |field| number(&["limited", "limitResponse", "queuing", field]);
    vec![
        row.name(),
        text(spec, "type").into(),
        number(&["limited", "nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        row.age(),
    ]
}
