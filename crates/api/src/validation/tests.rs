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
    crate::defaults::drop_gated(kind, index, &mut object);
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
fn finalizers_need_a_domain_where_upstream_asks_for_one() {
    let object = json!({"metadata": {"name": "a", "namespace": "n", "finalizers": ["mine"]}});
    for (group, plural, asks) in [
        ("", "configmaps", true),
        ("coordination.k8s.io", "leases", false),
        ("policy", "poddisruptionbudgets", false),
    ] {
        let said = created(group, "v1", plural, &object);
        assert_eq!(said.iter().any(|error| error.contains("fully qualified")), asks, "{plural}: {said:?}");
    }
    let event = json!({"metadata": object["metadata"], "involvedObject": {"namespace": "n"}});
    assert_eq!(created("", "v1", "events", &event), [""; 0]);
}

#[test]
fn structs_are_shown_as_go_shows_them() {
    let range =
        json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/24"]}});
    assert_eq!(
        created("networking.k8s.io", "v1", "servicecidrs", &range),
        [
            r#"spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/24","10.1.0.0/24","10.2.0.0/24"]}: may only hold up to 2 values"#
        ]
    );
    let parent = |parent: Value| json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}});
    let old = parent(json!({"resource": "services", "namespace": "n", "name": "a"}));
    for (new, shown) in [
        (parent(json!({"name": "b"})), r#"{"Group":"","Resource":"","Namespace":"","Name":"b"}"#),
        (json!({"metadata": {"name": "10.0.0.1"}, "spec": {}}), "null"),
    ] {
        let mut errors = Errors::new();
        network::ip_address_update(&new, &old, &mut errors);
        assert_eq!(errors[0].message, format!("Invalid value: {shown}: field is immutable"));
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
fn newer_kinds_look_at_names_and_not_at_what_they_are_made_from() {
    for (group, plural) in [("", "replicationcontrollers"), ("resource.k8s.io", "deviceclasses")] {
        let object = json!({"metadata": {"name": "n".repeat(254), "generateName": "Not a Name"}});
        let errors = created(group, "v1", plural, &object);
        let expect =
            format!("metadata.name: Invalid value: {:?}: must be no more than 253 bytes", "n".repeat(254));
        assert!(errors.contains(&expect), "{plural}: {errors:?}");
        assert!(!errors.iter().any(|error| error.contains("generateName")), "{plural}: {errors:?}");
    }
}

#[test]
fn networks_of_services_are_looked_at_one_by_one_first() {
    for (cidrs, expect) in [
        (
            json!(["10.1.0.0/24", ""]),
            vec![
                "spec.cidrs[1]: Invalid value: \"\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
        (
            json!(["10.1.0.0/24", "10.2.0.0/24"]),
            vec![
                "spec.cidrs: Invalid value: [\"10.1.0.0/24\",\"10.2.0.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ],
        ),
        (json!(["10.1.0.0/24", "2001:db8::/64"]), vec![]),
    ] {
        let object = json!({"metadata": {"name": "c"}, "spec": {"cidrs": cidrs}});
        assert_eq!(created("networking.k8s.io", "v1", "servicecidrs", &object), expect);
    }
}

#[test]
fn a_volume_may_only_get_the_stable_names_of_its_labels() {
    let volume = |key: &str, value: &str| {
        json!({"metadata": {"name": "v", "uid": "u", "resourceVersion": "1"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/a"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": key, "operator": "In", "values": [value]}]}]}}}})
    };
    let old = volume("beta.kubernetes.io/os", "linux");
    let detail = "field is immutable, except for updating from beta label to GA";
    for (new, refused) in [
        (volume("kubernetes.io/os", "linux"), false),
        (volume("kubernetes.io/os", "other"), true),
        (volume("kubernetes.io/arch", "linux"), true),
    ] {
        let errors = updated("", "v1", "persistentvolumes", &new, &old);
        assert_eq!(errors.iter().any(|error| error.ends_with(detail)), refused, "{new}: {errors:?}");
    }
}

#[test]
fn a_changed_event_is_looked_at_by_the_names_of_its_group() {
    let old = json!({"apiVersion": "events.k8s.io/v1", "metadata": {"name": "e", "namespace": "default",
        "uid": "u", "resourceVersion": "1"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a",
        "reason": "r", "reportingController": "c", "reportingInstance": "i", "type": "Normal",
        "regarding": {"namespace": "default"}});
    let new = with(&old, &json!({"metadata": {"uid": "v"}, "reportingController": "n".repeat(64)}));
    let errors = updated("events.k8s.io", "v1", "events", &new, &old);
    let about = |field: &str| errors.iter().filter(|error| error.starts_with(field)).count();
    assert_eq!(
        (about("metadata.uid:"), about("reportingController:"), errors.len()),
        (2, 2, 4),
        "{errors:?}"
    );
}

#[test]
fn images_of_a_changed_pod_are_asked_for_twice() {
    let pod = |image: &str| {
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": {
            "containers": [{"name": "c", "image": image, "terminationMessagePolicy": "File"}]}})
    };
    for (image, expect) in [("j", 0), ("", 2), (" j", 2)] {
        let errors = updated("", "v1", "pods", &pod(image), &pod("i"));
        let about = errors.iter().filter(|error| error.starts_with("spec.containers[0].image:")).count();
        assert_eq!(about, expect, "{errors:?}");
    }
}

#[test]
fn services_and_endpoints_repeat_what_upstream_repeats() {
    let old = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1"}});
    let new = with(&old, &json!({"metadata": {"labels": {"-": "v"}, "generateName": "a.b"}}));
    for (plural, labels) in [("services", 3), ("endpoints", 4)] {
        let errors = updated("", "v1", plural, &new, &old);
        let about = |field: &str| errors.iter().filter(|error| error.starts_with(field)).count();
        let seen = (about("metadata.labels:"), about("metadata.generateName:"));
        assert_eq!(seen, (labels, 0), "{plural}: {errors:?}");
    }
}

#[test]
fn where_a_pod_that_waits_may_go_can_be_narrowed() {
    let term = |expressions: Value| {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": expressions}]}})
    };
    let pod = |affinity: Value| {
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": {
            "containers": [{"name": "c", "image": "i", "terminationMessagePolicy": "File"}],
            "schedulingGates": [{"name": "x.y/z"}], "affinity": {"nodeAffinity": affinity}}})
    };
    let (a, b) = (json!({"key": "a", "operator": "Exists"}), json!({"key": "b", "operator": "Exists"}));
    let old = pod(term(json!([a])));
    for (now, expect) in [
        (term(json!([a, b])), 0),
        (term(json!([b])), 1),
        (
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [a]}, {"matchExpressions": [b]}]}}),
            1,
        ),
    ] {
        let errors = updated("", "v1", "pods", &pod(now), &old);
        assert_eq!(errors.len(), expect, "{errors:?}");
    }
}

#[test]
fn a_prefix_that_no_rule_of_its_kind_looks_at_still_stands_in_a_path() {
    let spec = json!({"selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "c", "image": "i", "terminationMessagePolicy": "File"}]}}});
    let set = |prefix: &str, name: &str| {
        let meta = json!({"name": name, "namespace": "n", "generateName": prefix});
        created("", "v1", "replicationcontrollers", &json!({"metadata": meta, "spec": spec}))
    };
    assert_eq!(set("A_b-", "a"), [""; 0]);
    assert_eq!(set("a/b", "a"), ["metadata.generateName: Invalid value: \"a/b\": may not contain '/'"]);
    // Other errors come first.
    assert_eq!(set("a/b", "A").len(), 1);
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
