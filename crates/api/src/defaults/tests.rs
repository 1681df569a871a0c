//! Defaults as tables: an object before and after.

use serde_json::{Value, json};

use super::*;
use crate::kinds;

fn defaulted(group: &str, version: &str, plural: &str, object: &Value) -> Value {
    let kinds = kinds::builtin();
    let (kind, index) = kinds.resource(group, version, plural).expect("a built-in kind");
    let mut object = object.clone();
    default_object(kind, index, &mut object);
    object
}

#[test]
fn every_rule_belongs_to_a_type() {
    let schema = facts::schema();
    for (name, _) in core::RULES.iter().chain(workloads::RULES).chain(others::RULES) {
        assert!(schema.find(&format!("io.k8s.{name}")).is_some(), "{name}");
    }
    for (name, fields) in GATED {
        let id = schema.find(&format!("io.k8s.{name}")).unwrap_or_else(|| panic!("{name}"));
        assert!(fields.iter().all(|field| schema.object(id).field(field).is_some()), "{name}");
    }
}

#[test]
fn a_pod() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"port": 80}}}],
        "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}],
        "serviceAccountName": "sa",
    }});
    assert_eq!(
        defaulted("", "v1", "pods", &pod),
        json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1", "memory": "1Gi"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "serviceAccount": "sa",
            "serviceAccountName": "sa", "terminationGracePeriodSeconds": 30,
        }})
    );
}

#[test]
fn other_kinds() {
    for (group, plural, object, expect) in [
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}}),
            json!({"spec": {"type": "NodePort", "sessionAffinity": "None", "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster", "ports": [
                    {"port": 80, "targetPort": 80, "protocol": "TCP"}, {"port": 81, "targetPort": "web", "protocol": "TCP"}]}}),
        ),
        (
            "apps",
            "deployments",
            json!({"spec": {"template": {"spec": {}}}}),
            json!({"spec": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"spec": {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                    "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30}}}}),
        ),
        (
            "",
            "secrets",
            json!({"data": {"a": "YQ=="}, "stringData": {"b": "b"}}),
            json!({"type": "Opaque", "data": {"a": "YQ==", "b": "Yg=="}}),
        ),
        (
            "",
            "namespaces",
            json!({"metadata": {"name": "n"}}),
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}, "status": {"phase": "Active"}}),
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}]}),
        ),
    ] {
        assert_eq!(defaulted(group, "v1", plural, &object), expect, "{plural}");
    }
}

#[test]
fn what_is_behind_gates_goes_after_defaults() {
    let given = json!({"spec": {"schedulingGroup": {}, "containers": [
        {"name": "a", "lifecycle": {"stopSignal": "SIGTERM"}},
        {"name": "b", "lifecycle": {"stopSignal": "SIGTERM", "preStop": {}}},
        {"name": "c", "lifecycle": {}}]}});
    let kinds = kinds::builtin();
    let (kind, version) = kinds.resource("", "v1", "pods").unwrap();
    let mut pod = given.clone();
    default_object(kind, version, &mut pod);
    assert_eq!(pod["spec"]["schedulingGroup"], json!({}));
    let mut pod = given;
    drop_gated(kind, version, &mut pod);
    assert_eq!(
        pod["spec"],
        json!({"containers": [
            {"name": "a"}, {"name": "b", "lifecycle": {"preStop": {}}}, {"name": "c", "lifecycle": {}}]})
    );
}

#[test]
fn defaulting_twice_changes_nothing() {
    for kind in kinds::builtin().iter() {
        let mut once = json!({"metadata": {"name": "a"}, "spec": {}});
        default_object(kind, 0, &mut once);
        let mut twice = once.clone();
        default_object(kind, 0, &mut twice);
        assert_eq!(once, twice, "{}", kind.resource);
    }
}

#[test]
fn a_key_of_a_file_has_to_be_there() {
    let from = |key: Value| {
        let env = json!([{"name": "E", "valueFrom": {"fileKeyRef": key}}]);
        let pod = json!({"spec": {"containers": [{"name": "c", "image": "i", "env": env}]}});
        defaulted("", "v1", "pods", &pod)["spec"]["containers"][0]["env"][0]["valueFrom"]["fileKeyRef"].take()
    };
    assert_eq!(from(json!({"key": "k"})), json!({"key": "k", "optional": false}));
    assert_eq!(from(json!({"key": "k", "optional": true})), json!({"key": "k", "optional": true}));
}

#[test]
fn a_device_is_tainted_when_it_is_said_and_without_what_is_gated() {
    let kinds = kinds::builtin();
    let (kind, version) = kinds.resource("resource.k8s.io", "v1", "resourceslices").unwrap();
    let mut slice = json!({"spec": {"devices": [
        {"name": "a", "nodeAllocatableResourceMappings": {"cpu": {}}, "attributes": {"x": {"ints": [1]}}},
        {"name": "b", "taints": [{"key": "k"}, {"key": "l", "timeAdded": "2020-01-01T00:00:00Z"}]}]}});
    stamp(kind, || "2026-01-01T00:00:00Z".into(), &mut slice);
    drop_gated(kind, version, &mut slice);
    let expect = json!({"spec": {"devices": [
        {"name": "a", "attributes": {"x": {}}},
        {"name": "b", "taints": [{"key": "k", "timeAdded": "2026-01-01T00:00:00Z"},
            {"key": "l", "timeAdded": "2020-01-01T00:00:00Z"}]}]}});
    assert_eq!(slice, expect);
}
