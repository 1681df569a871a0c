//! `node-confinement`: what a node may ask for.

use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{delete, put, store};

async fn cluster() -> (Arc<dyn Store>, NodeAuthorizer) {
    let store = store();
    put(&store, "pods", &pod("p1", "n1")).await;
    let volume = json!({
        "metadata": {"name": "pv1", "uid": "v"},
        "spec": {
            "claimRef": {"namespace": "a", "name": "claim"},
            "csi": {"nodePublishSecretRef": {"namespace": "b", "name": "csi"},
                    "controllerPublishSecretRef": {"namespace": "b", "name": "controller"}},
        },
    });
    put(&store, "persistentvolumes", &volume).await;
    let authorizer = NodeAuthorizer::new(store.clone());
    (store, authorizer)
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"namespace": "a", "name": name, "uid": name},
        "spec": {
            "nodeName": node, "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "cm-from"}}]}],
            "containers": [{"env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "cm-key", "key": "k"}}},
            ]}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "mounted"}},
                {"name": "c", "configMap": {"name": "cm-mounted"}},
                {"name": "p", "projected": {"sources": [
                    {"secret": {"name": "projected"}}, {"configMap": {"name": "cm-projected"}}]}},
                {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
            ],
        },
    })
}

/// `verb group/resource namespace/name [field selector]`, asked by node `n1` or `n2`.
fn ask(authorizer: &NodeAuthorizer, node: &str, request: &str) -> bool {
    let words: Vec<&str> = request.split(' ').collect();
    let (group, resource) = words[1].split_once(':').unwrap_or(("", words[1]));
    let (namespace, name) = words[2].split_once('/').unwrap();
    let mut attributes = Attributes::resource(words[0], group, resource, namespace, name);
    attributes.field_selector = words.get(3).copied().unwrap_or_default().into();
    let user = User::new(&format!("system:node:{node}"), ["system:nodes", "system:authenticated"]);
    matches!(authorizer.decide(&user, &attributes), Decision::Allow(_))
}

#[tokio::test]
async fn reads_what_its_pods_need() {
    let (_, authorizer) = cluster().await;
    for request in [
        "get secrets a/pull",
        "get secrets a/from",
        "list secrets a/key",
        "watch secrets a/mounted",
        "get secrets a/projected",
        "get secrets b/csi",
        "get configmaps a/cm-from",
        "get configmaps a/cm-key",
        "get configmaps a/cm-mounted",
        "get configmaps a/cm-projected",
        "get persistentvolumeclaims a/claim",
        "patch persistentvolumeclaims/status a/claim",
        "get persistentvolumeclaims a/p1-e",
        "get persistentvolumes /pv1",
        "get serviceaccounts a/sa",
        "create serviceaccounts/token a/sa",
        "get pods a/p1",
        "watch pods a/p1",
    ] {
        assert!(ask(&authorizer, "n1", request), "{request}");
        assert!(!ask(&authorizer, "n2", request), "{request} by another node");
    }
}

#[tokio::test]
async fn reads_and_writes_nothing_else() {
    let (_, authorizer) = cluster().await;
    for (request, expect) in [
        ("get secrets a/other", false),
        ("get secrets c/pull", false),
        ("get secrets b/controller", false),
        ("list secrets a/", false),
        ("list secrets /", false),
        ("watch configmaps a/", false),
        ("update secrets a/pull", false),
        ("delete persistentvolumeclaims a/claim", false),
        ("update persistentvolumeclaims a/claim", false),
        ("create serviceaccounts/token a/other", false),
        ("update serviceaccounts a/sa", false),
        ("create serviceaccounts a/", false),
        ("list serviceaccounts a/", false),
        ("list pods /", false),
        ("list pods / spec.nodeName=n1", true),
        ("watch pods / spec.nodeName=n1", true),
        ("watch pods / spec.nodeName=n2", false),
        ("watch pods / spec.nodeName!=n1", false),
        ("watch pods / metadata.name=n1", false),
        ("update pods a/p1", false),
        ("patch pods/status a/p1", true),
        ("create pods/eviction a/p1", true),
        ("get pods/log a/p1", false),
        ("create pods/exec a/p1", false),
        ("create pods/binding a/p1", false),
        ("delete pods a/p1", true),
        ("deletecollection pods a/", false),
        ("get nodes /n1", true),
        ("get nodes /n2", false),
        ("list nodes /", false),
        ("watch nodes /n1", true),
        ("update nodes /n1", true),
        ("patch nodes/status /n1", true),
        // CVE-2025-5187: a node does not delete itself.
        ("delete nodes /n1", false),
        ("create nodes/proxy /n1", false),
        ("get coordination.k8s.io:leases kube-node-lease/n1", true),
        ("get coordination.k8s.io:leases kube-node-lease/n2", false),
        ("update coordination.k8s.io:leases kube-node-lease/n2", false),
        ("create coordination.k8s.io:leases kube-node-lease/", true),
        ("create coordination.k8s.io:leases kube-system/", false),
        ("list coordination.k8s.io:leases kube-node-lease/", false),
        ("get storage.k8s.io:csinodes /n1", true),
        ("get storage.k8s.io:csinodes /n2", false),
        ("list services /", true),
        ("get apps:deployments a/x", false),
        ("create events a/", true),
        ("create events.k8s.io:events a/", true),
        ("delete events a/e", false),
        ("list rbac.authorization.k8s.io:roles a/", false),
        ("update rbac.authorization.k8s.io:clusterrolebindings /x", false),
    ] {
        assert_eq!(ask(&authorizer, "n1", request), expect, "{request}");
    }
}

#[tokio::test]
async fn forgets_with_its_pods() {
    let (store, authorizer) = cluster().await;
    assert!(ask(&authorizer, "n1", "get secrets a/pull"));
    put(&store, "pods", &pod("p2", "n1")).await;
    delete(&store, "pods", "a", "p1").await;
    assert!(ask(&authorizer, "n1", "get secrets a/pull"), "the second pod needs it too");
    delete(&store, "pods", "a", "p2").await;
    for request in ["get secrets a/pull", "get persistentvolumes /pv1", "get secrets b/csi", "get pods a/p1"]
    {
        assert!(!ask(&authorizer, "n1", request), "{request}");
    }
    // A pod that is bound later counts from then on; a mirror pod opens nothing.
    put(&store, "pods", &pod("p3", "")).await;
    assert!(!ask(&authorizer, "n1", "get secrets a/pull"));
    put(&store, "pods", &pod("p3", "n1")).await;
    assert!(ask(&authorizer, "n1", "get secrets a/pull"));
    delete(&store, "pods", "a", "p3").await;
    let mut mirror = pod("p4", "n1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    put(&store, "pods", &mirror).await;
    assert!(ask(&authorizer, "n1", "get pods a/p4"));
    assert!(!ask(&authorizer, "n1", "get secrets a/pull"));
}

#[tokio::test]
async fn a_node_must_say_which_and_prove_it() {
    let (_, authorizer) = cluster().await;
    let at = Attributes::resource("list", "", "services", "", "");
    for (name, group, expect) in [
        ("system:node:n1", "system:nodes", true),
        ("system:node:n1", "other", false),
        ("system:node:", "system:nodes", false),
        ("n1", "system:nodes", false),
    ] {
        let decision = authorizer.decide(&User::new(name, [group]), &at);
        assert_eq!(matches!(decision, Decision::Allow(_)), expect, "{name} {group}");
    }
}
