//! Rules as tables: an object, and the errors it gets, one a line.

use serde_json::{Value, json};

use super::*;
use crate::kinds;

/// The errors of a new object, one a line.
pub(super) fn created(group: &str, version: &str, plural: &str, object: &Value) -> Vec<String> {
    let kinds = kinds::builtin();
    let (kind, index) = kinds.resource(group, version, plural).expect("a built-in kind");
    let mut object = object.clone();
    crate::defaults::default_object(kind, index, &mut object);
    validate_create(kind, &object).iter().map(ToString::to_string).collect()
}

/// The errors of an update, one a line.
pub(super) fn updated(group: &str, version: &str, plural: &str, new: &Value, old: &Value) -> Vec<String> {
    let kinds = kinds::builtin();
    let (kind, index) = kinds.resource(group, version, plural).expect("a built-in kind");
    let (mut new, mut old) = (new.clone(), old.clone());
    crate::defaults::default_object(kind, index, &mut new);
    crate::defaults::default_object(kind, index, &mut old);
    validate_update(kind, &new, &old).iter().map(ToString::to_string).collect()
}

/// `base` with `changes` merged into it (null removes).
pub(super) fn with(base: &Value, changes: &Value) -> Value {
    let mut out = base.clone();
    json_patch::merge(&mut out, changes);
    out
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn metadata_of_a_new_object() {
    let base = json!({"metadata": {"name": "a", "namespace": "n"}});
    for (changes, expect) in [
        (json!({}), vec![]),
        (json!({"name": null}), vec!["metadata.name: Required value: name or generateName is required".to_owned()]),
        (json!({"name": "A"}), vec![format!("metadata.name: Invalid value: \"A\": {SUBDOMAIN}")]),
        (json!({"generateName": "a-"}), vec![]),
        (json!({"namespace": null}), vec!["metadata.namespace: Required value".to_owned()]),
        (json!({"labels": {"-": "v"}}), vec![format!("metadata.labels: Invalid value: \"-\": {KEY}")]),
        (json!({"annotations": {"A.b/C": "any thing"}}), vec![]),
        (
            json!({"annotations": {"a": "x".repeat(300_000)}}),
            vec!["metadata.annotations: Too long: may not be more than 262144 bytes".to_owned()],
        ),
        (
            json!({"finalizers": ["mine"]}),
            vec!["metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified".to_owned()],
        ),
        (
            json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a"}]}),
            vec!["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty".to_owned()],
        ),
    ] {
        let object = with(&base, &json!({ "metadata": changes }));
        assert_eq!(created("", "v1", "limitranges", &object), expect, "{changes}");
    }
}

#[test]
fn names_differ_by_kind() {
    for (group, plural, name, valid) in [
        ("", "namespaces", "a.b", false),
        ("", "nodes", "a.b", true),
        ("rbac.authorization.k8s.io", "clusterroles", "system:node", true),
        ("rbac.authorization.k8s.io", "clusterroles", "a/b", false),
        ("networking.k8s.io", "ipaddresses", "10.0.0.1", true),
        ("networking.k8s.io", "ipaddresses", "010.0.0.1", false),
    ] {
        let errors = created(group, "v1", plural, &json!({"metadata": {"name": name}}));
        let about_names = errors.iter().filter(|error| error.starts_with("metadata.name:")).count();
        assert_eq!(about_names == 0, valid, "{plural} {name}: {errors:?}");
    }
}

#[test]
fn metadata_of_an_update() {
    let old = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/a"]}});
    for (changes, expect) in [
        (json!({"finalizers": null}), vec![]),
        (
            json!({"finalizers": ["x/a", "x/b"]}),
            vec![
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/b\"}",
            ],
        ),
        (
            json!({"resourceVersion": null}),
            vec!["metadata.resourceVersion: Invalid value: \"\": must be specified for an update"],
        ),
        (json!({"uid": "v"}), vec!["metadata.uid: Invalid value: \"v\": field is immutable"]),
    ] {
        let new = with(&old, &json!({ "metadata": changes }));
        assert_eq!(updated("", "v1", "limitranges", &new, &old), expect, "{changes}");
    }
}
