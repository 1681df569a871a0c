//! Facts about field ownership, as kube-apiserver records it.

use super::*;
use crate::kinds;
use serde_json::json;

const TIME: &str = "2026-01-01T00:00:00Z";

fn track(resource: &str, write: Write<'_>, old: Option<&Value>, mut new: Value) -> Value {
    let kinds = kinds::builtin();
    let kind = kinds.stored(resource).unwrap();
    update(&Types::of(kind, kind.storage, write.api_version, write.subresource), &write, old, &mut new);
    new
}

fn write(manager: &str) -> Write<'_> {
    Write { manager, api_version: "v1", time: TIME, subresource: "" }
}

const POD: &str = "pods";

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "default", "uid": "u", "creationTimestamp": TIME,
            "labels": {"app": "web"}, "finalizers": ["x/y"]},
        "spec": {"nodeName": "n", "nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}],
            "containers": [{"name": "c", "image": "i", "resources": {},
                "ports": [{"containerPort": 80}], "command": ["x"], "env": [{"name": "E"}],
                "securityContext": {}}],
            "imagePullSecrets": [{}], "volumes": [{"name": "v", "emptyDir": {}}]},
        "status": {"phase": "Pending"}})
}

fn fields(object: &Value, at: usize) -> &Value {
    &object["metadata"]["managedFields"][at]["fieldsV1"]
}

#[test]
fn a_create_owns_what_it_brings() {
    let created = track(POD, write("kubectl"), None, pod());
    assert_eq!(
        fields(&created, 0),
        &json!({
            "f:metadata": {"f:finalizers": {".": {}, "v:\"x/y\"": {}}, "f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:resources": {}, "f:command": {}, "f:securityContext": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:env": {".": {}, "k:{\"name\":\"E\"}": {".": {}, "f:name": {}}},
                }},
                "f:imagePullSecrets": {".": {}, "k:{\"name\":\"\"}": {}},
                "f:nodeName": {}, "f:nodeSelector": {}, "f:tolerations": {},
                "f:volumes": {".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
            },
        })
    );
    let mut entry = created["metadata"]["managedFields"][0].clone();
    entry["fieldsV1"].take();
    assert_eq!(
        entry,
        json!({"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": TIME,
            "fieldsType": "FieldsV1", "fieldsV1": null})
    );
}

#[test]
fn an_update_takes_and_loses_fields() {
    let created = track(POD, write("a"), None, pod());
    let mut changed = created.clone();
    changed["metadata"]["labels"] = json!({"tier": "x"});
    changed["spec"]["containers"][0]["image"] = json!("j");
    changed["spec"]["containers"][0].as_object_mut().unwrap().remove("env");
    let updated = track(POD, Write { time: "2026-01-02T00:00:00Z", ..write("b") }, Some(&created), changed);
    assert_eq!(fields(&updated, 0)["f:metadata"]["f:labels"], json!({}));
    let mine = &fields(&updated, 0)["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert_eq!((mine.get("f:image"), mine.get("f:env")), (None, None));
    assert_eq!(
        fields(&updated, 1),
        &json!({"f:metadata": {"f:labels": {"f:tier": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}})
    );
    // The same write again changes nothing, its time included.
    let again =
        track(POD, Write { time: "2026-01-03T00:00:00Z", ..write("b") }, Some(&updated), updated.clone());
    assert_eq!(again, updated);
}

#[test]
fn a_raw_extension_is_one_field() {
    let revision = json!({"metadata": {"name": "r"}, "data": {"spec": {"a": 1}}, "revision": 2});
    let created =
        track("controllerrevisions.apps", Write { api_version: "apps/v1", ..write("a") }, None, revision);
    assert_eq!(fields(&created, 0), &json!({"f:data": {}, "f:revision": {}}));
}

#[test]
fn status_belongs_to_its_subresource() {
    let created = track(POD, write("a"), None, pod());
    let mut changed = created.clone();
    changed["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    changed["spec"]["nodeName"] = json!("other");
    let updated =
        track(POD, Write { subresource: "status", ..write("kubelet") }, Some(&created), changed.clone());
    let entries = updated["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[1]["subresource"]), (2, &json!("status")));
    assert_eq!(
        entries[1]["fieldsV1"],
        json!({"f:status": {"f:phase": {},
            "f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:type": {}, "f:status": {}}}}})
    );
    let through_main = track(POD, write("b"), Some(&created), changed);
    assert_eq!(fields(&through_main, 1), &json!({"f:spec": {"f:nodeName": {}}}));
}

#[test]
fn entries_can_be_reset_and_stay_away() {
    let created = track(POD, write("a"), None, pod());
    let mut reset = created.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    let reset = track(POD, write("a"), Some(&created), reset);
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let mut changed = reset.clone();
    changed["spec"]["nodeName"] = json!("m");
    let changed = track(POD, write("a"), Some(&reset), changed);
    assert_eq!(changed["metadata"].get("managedFields"), None);
}

#[test]
fn old_managers_are_merged() {
    let mut object = track(POD, write("m00"), None, pod());
    for at in 1..=12 {
        let mut changed = object.clone();
        changed["metadata"]["labels"][format!("l{at:02}")] = json!("x");
        let (manager, time) = (format!("m{at:02}"), format!("2026-01-01T00:00:{at:02}Z"));
        object = track(POD, Write { time: &time, ..write(&manager) }, Some(&object), changed);
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["manager"]), (MAX_UPDATE_MANAGERS, &json!(ANCIENT)));
    let labels = &entries[0]["fieldsV1"]["f:metadata"]["f:labels"];
    assert_eq!(
        labels.as_object().unwrap().keys().collect::<Vec<_>>(),
        [".", "f:app", "f:l01", "f:l02", "f:l03"]
    );
}

proptest::proptest! {
    /// Uniting and subtracting a disjoint set gives back what was there.
    #[test]
    fn set_algebra(left in paths(), right in paths()) {
        let build = |paths: &[Vec<u8>]| {
            let mut set = set::Set::new();
            for path in paths {
                let mut one = Value::Object(Map::new());
                for step in path.iter().rev() {
                    one = json!({ format!("f:{step}"): one });
                }
                let Value::Object(one) = one else { unreachable!() };
                set::unite(&mut set, one);
            }
            set
        };
        let right: Vec<_> = right.into_iter().filter(|path| !left.contains(path)).collect();
        let (a, b) = (build(&left), build(&right));
        let mut both = a.clone();
        set::unite(&mut both, b.clone());
        set::subtract(&mut both, &b);
        assert_eq!(both, a);
    }
}

fn paths() -> impl proptest::strategy::Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(0u8..3, 1..4), 0..6)
}

fn applied(manager: &str, time: &str, live: Option<&Value>, config: &Value, force: bool) -> Value {
    let kinds = kinds::builtin();
    let types = Types::of(kinds.stored("pods").unwrap(), 0, "v1", "");
    let write = Write { time, ..write(manager) };
    let applied = apply(&types, &write, live, config, force).unwrap();
    let mut object = applied.object.or_else(|| live.cloned()).unwrap();
    object["metadata"]["managedFields"] = applied.managed.unwrap_or_default();
    object
}

fn times(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(|entry| entry["time"].as_str().unwrap_or("none")).collect()
}

#[test]
fn time_passes_only_with_changes() {
    let config = |labels: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels}});
    let (one, two, three) = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z");
    let first = applied("a", one, None, &config(json!({"x": "1"})), false);
    assert_eq!(times(&first), [one]);
    let again = applied("a", two, Some(&first), &config(json!({"x": "1"})), false);
    assert_eq!(again, first);
    // Who joins without changing anything has no time, as upstream has it.
    let joined = applied("b", two, Some(&first), &config(json!({"x": "1"})), false);
    assert_eq!(times(&joined), ["none", one]);
    let changed = applied("a", three, Some(&first), &config(json!({"x": "2"})), false);
    assert_eq!(times(&changed), [three]);
    let list = managed_list(&first);
    assert!(same_but_times(&list, &managed_list(&first)));
    let mut other = managed_list(&first);
    other[0]["time"] = three.into();
    assert!(same_but_times(&list, &other));
    other[0]["manager"] = "c".into();
    assert!(!same_but_times(&list, &other));
}

fn managed_list(object: &Value) -> Value {
    object["metadata"]["managedFields"].clone()
}

#[test]
fn entries_that_a_client_brings_are_brought_to_order() {
    let created = track(POD, write("a"), None, pod());
    let mut edited = created.clone();
    let entry = |manager: &str, fields: Value| {
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": TIME, "fieldsV1": fields})
    };
    edited["metadata"]["managedFields"] = json!([
        // nodeSelector is atomic; elements of a sort that is not known are none.
        entry("x", json!({"f:spec": {"f:nodeSelector": {".": {}, "f:a": {}}, "z:what": {}}})),
        entry("y", json!({"f:metadata": {"f:finalizers": {"v: \"a\"": {}}}})),
        entry("y", json!({"f:spec": {"f:containers": {"k:{ \"name\": \"c\" }": {}}}})),
    ]);
    let edited = track(POD, write("a"), Some(&created), edited);
    assert_eq!(fields(&edited, 0), &json!({"f:spec": {"f:nodeSelector": {}}}));
    assert_eq!(fields(&edited, 1), &json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {}}}}));
    // What cannot be read leaves things as they are.
    let mut broken = created.clone();
    broken["metadata"]["managedFields"] = json!([entry("x", json!({"spec": {}}))]);
    assert_eq!(track(POD, write("a"), Some(&created), broken), created);
}

#[test]
fn paths_are_shown_and_ordered_as_upstream_does() {
    let check = |element: &str, expect: &str| {
        let mut text = String::new();
        path::show(&mut text, element);
        assert_eq!(text, expect);
    };
    check("f:spec", ".spec");
    check("k:{\"containerPort\":80,\"protocol\":\"TCP\"}", "[containerPort=80,protocol=\"TCP\"]");
    check("v:\"a\\u003cb\"", "[=\"a<b\"]");
    check("v:true", "[=true]");
    check("i:3", "[3]");
    let mut elements = [
        "i:1",
        "v:\"b\"",
        "v:2",
        "v:10",
        "k:{\"port\":443}",
        "k:{\"port\":80}",
        "k:{\"port\":80,\"protocol\":\"TCP\"}",
        "f:b",
        "f:a",
    ];
    elements.sort_by(|a, b| path::compare(a, b));
    assert_eq!(
        elements,
        [
            "f:a",
            "f:b",
            "k:{\"port\":80}",
            "k:{\"port\":80,\"protocol\":\"TCP\"}",
            "k:{\"port\":443}",
            "v:2",
            "v:10",
            "v:\"b\"",
            "i:1"
        ]
    );
}
