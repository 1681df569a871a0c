//! Decisions over stored roles and bindings.

use std::collections::BTreeMap;

use carrack_api::Value;
use serde_json::json;

use super::*;
use crate::auth::testing::{delete, put, store};

async fn role(store: &Arc<dyn Store>, namespace: &str, name: &str, extra: Value) {
    let mut object = json!({"metadata": {"name": name, "uid": name}});
    for (field, value) in extra.as_object().unwrap() {
        match field.as_str() {
            "labels" => object["metadata"]["labels"] = value.clone(),
            field => object[field] = value.clone(),
        }
    }
    let resource = if namespace.is_empty() { index::CLUSTER_ROLES } else { index::ROLES };
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    put(store, resource, &object).await;
}

async fn bind(store: &Arc<dyn Store>, namespace: &str, name: &str, role: &str, subject: Value) {
    let (kind, role) = role.split_once('/').unwrap();
    let resource = if namespace.is_empty() { index::CLUSTER_ROLE_BINDINGS } else { index::ROLE_BINDINGS };
    let mut object = json!({
        "metadata": {"name": name, "uid": name},
        "roleRef": {"kind": kind, "name": role}, "subjects": [subject],
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    put(store, resource, &object).await;
}

fn reads(resource: &str) -> Value {
    json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}])
}

fn ask(rbac: &Rbac, user: &str, namespace: &str, resource: &str) -> Decision {
    let user = User::new(user, ["devs", "system:authenticated"]);
    rbac.decide(&user, &Attributes::resource("get", "", resource, namespace, "x"))
}

fn allowed(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(_))
}

#[tokio::test]
async fn decides_by_bindings_as_they_are_now() {
    let store = store();
    let rbac = Rbac::new(store.clone());
    assert_eq!(ask(&rbac, "ann", "a", "pods"), Decision::NoOpinion(String::new()));
    role(&store, "a", "pods", json!({"rules": reads("pods")})).await;
    bind(&store, "a", "ann", "Role/pods", json!({"kind": "User", "name": "ann"})).await;
    let reason = r#"RBAC: allowed by RoleBinding "ann/a" of Role "pods" to User "ann""#;
    assert_eq!(ask(&rbac, "ann", "a", "pods"), Decision::Allow(reason.into()));
    for (user, namespace, resource) in
        [("ann", "b", "pods"), ("ann", "", "pods"), ("bob", "a", "pods"), ("ann", "a", "secrets")]
    {
        assert!(!allowed(&ask(&rbac, user, namespace, resource)), "{user} {namespace} {resource}");
    }
    // A cluster role counts where it is bound; by a cluster role binding everywhere.
    role(&store, "", "secrets", json!({"rules": reads("secrets")})).await;
    bind(&store, "b", "devs", "ClusterRole/secrets", json!({"kind": "Group", "name": "devs"})).await;
    assert!(allowed(&ask(&rbac, "bob", "b", "secrets")) && !allowed(&ask(&rbac, "bob", "a", "secrets")));
    bind(&store, "", "devs", "ClusterRole/secrets", json!({"kind": "Group", "name": "devs"})).await;
    let reason = r#"RBAC: allowed by ClusterRoleBinding "devs" of ClusterRole "secrets" to Group "devs""#;
    assert_eq!(ask(&rbac, "bob", "a", "secrets"), Decision::Allow(reason.into()));
    // Revoked at once.
    delete(&store, index::CLUSTER_ROLE_BINDINGS, "", "devs").await;
    assert!(!allowed(&ask(&rbac, "bob", "a", "secrets")));
    delete(&store, index::ROLES, "a", "pods").await;
    let reason = r#"RBAC: role.rbac.authorization.k8s.io "pods" not found"#;
    assert_eq!(ask(&rbac, "ann", "a", "pods"), Decision::NoOpinion(reason.into()));
}

#[tokio::test]
async fn binds_service_accounts() {
    let store = store();
    let rbac = Rbac::new(store.clone());
    role(&store, "", "r", json!({"rules": reads("pods")})).await;
    bind(&store, "a", "own", "ClusterRole/r", json!({"kind": "ServiceAccount", "name": "s"})).await;
    bind(
        &store,
        "a",
        "far",
        "ClusterRole/r",
        json!({"kind": "ServiceAccount", "name": "t", "namespace": "b"}),
    )
    .await;
    bind(&store, "", "nowhere", "ClusterRole/r", json!({"kind": "ServiceAccount", "name": "u"})).await;
    for (user, namespace, expect) in [
        ("system:serviceaccount:a:s", "a", true),
        ("system:serviceaccount:b:s", "a", false),
        ("system:serviceaccount:b:t", "a", true),
        ("system:serviceaccount:b:t", "b", false),
        ("system:serviceaccount:a:u", "a", false),
        ("system:serviceaccount::u", "a", false),
    ] {
        assert_eq!(allowed(&ask(&rbac, user, namespace, "pods")), expect, "{user} {namespace}");
    }
}

#[tokio::test]
async fn aggregates_what_is_labelled() {
    let store = store();
    let rbac = Rbac::new(store.clone());
    let gathers = |label: &str| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    // Stored rules of an aggregated role do not count; gathering may be nested or circular.
    role(&store, "", "outer", json!({"aggregationRule": gathers("outer"), "rules": reads("nodes")})).await;
    role(&store, "", "inner", json!({"aggregationRule": gathers("inner"), "labels": {"outer": "true"}}))
        .await;
    bind(&store, "", "ann", "ClusterRole/outer", json!({"kind": "User", "name": "ann"})).await;
    assert!(!allowed(&ask(&rbac, "ann", "", "nodes")));
    role(&store, "", "part", json!({"rules": reads("pods"), "labels": {"inner": "true"}})).await;
    assert!(allowed(&ask(&rbac, "ann", "a", "pods")));
    role(&store, "", "part", json!({"rules": reads("pods"), "labels": {"inner": "false"}})).await;
    assert!(!allowed(&ask(&rbac, "ann", "a", "pods")));
}

/// What a kube-apiserver v1.36.3 had made by itself, as it answered. Its controllers did
/// not run, so that aggregated roles are empty there.
const UPSTREAM: &str = include_str!("upstream_v1_36_3.json");

/// An object's rights and whom they are given to, whatever the order.
fn normal(object: &Value) -> Value {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(sorted).collect();
                items.sort_by_key(ToString::to_string);
                items.into()
            }
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), sorted(value))).collect()
            }
            plain => plain.clone(),
        }
    }
    let aggregated = object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    let rules = if aggregated { Value::Null } else { object["rules"].clone() };
    let rules = if rules == json!([]) { Value::Null } else { rules };
    sorted(&json!({
        "aggregationRule": object["aggregationRule"], "rules": rules, "roleRef": object["roleRef"],
        "subjects": object["subjects"],
    }))
}

#[test]
fn default_roles_are_upstreams() {
    let name = |kind: &str, meta: &Value| {
        format!(
            "{kind} {}/{}",
            meta["namespace"].as_str().unwrap_or_default(),
            meta["name"].as_str().unwrap()
        )
    };
    let upstream: Vec<Value> = serde_json::from_str(UPSTREAM).unwrap();
    let theirs: BTreeMap<String, (Value, Value)> = upstream
        .iter()
        .map(|o| (name(o["kind"].as_str().unwrap(), o), (normal(o), o["labels"].clone())))
        .collect();
    let kind = |resource: &str| match resource.split('.').next() {
        Some("clusterroles") => "ClusterRole",
        Some("clusterrolebindings") => "ClusterRoleBinding",
        Some("roles") => "Role",
        _ => "RoleBinding",
    };
    let ours: BTreeMap<String, (Value, Value)> = policy::objects()
        .iter()
        .map(|(resource, o)| {
            (name(kind(resource), &o["metadata"]), (normal(o), o["metadata"]["labels"].clone()))
        })
        .collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, theirs) in &theirs {
        assert_eq!(&ours[name], theirs, "{name}");
    }
}
