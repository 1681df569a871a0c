//! Facts about patches from upstream's tests and behaviour.

use super::*;
use crate::facts;
use serde_json::json;

fn shown(result: Result<Patched, Error>) -> Value {
    result.map_or_else(|e| Value::String(e.to_string()), |p| p.value)
}

fn ops(object: Value, patch: Value, expect: Value) {
    assert_eq!(shown(super::json(object, patch.to_string().as_bytes())), expect, "{patch}");
}

fn pod_patch(original: Value, patch: Value, expect: Value) {
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.core.v1.Pod").unwrap();
    assert_eq!(shown(strategic(&schema, root, original, patch.to_string().as_bytes())), expect, "{patch}");
}

#[test]
fn json_patch() {
    let doc = || json!({"a": {"b": 1}, "l": [1, 2, 3], "x/y": {"~": 0}});
    let op = |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
    ops(doc(), op("add", "/a/c", json!(2)), json!({"a": {"b": 1, "c": 2}, "l": [1, 2, 3], "x/y": {"~": 0}}));
    ops(json!([]), op("add", "/-", json!(1)), json!([1]));
    ops(json!({"l": [1, 3]}), op("add", "/l/1", json!(2)), json!({"l": [1, 2, 3]}));
    ops(json!({"l": [1, 2]}), op("add", "/l/-1", json!(3)), json!({"l": [1, 2, 3]}));
    ops(json!({"l": [1, 2]}), op("replace", "/l/-1", json!(3)), json!({"l": [1, 3]}));
    ops(json!({}), op("replace", "/new", json!(3)), json!({"new": 3}));
    ops(json!({"x/y": {"~": 0}}), op("replace", "/x~1y/~0", json!(1)), json!({"x/y": {"~": 1}}));
    ops(json!({}), op("test", "/none", json!(null)), json!({}));
    ops(json!({"a": 1}), op("test", "/a", json!(2)), json!("testing value /a failed: test failed"));
    ops(
        json!({}),
        op("remove", "/a", json!(null)),
        json!("error in remove for path: '/a': Unable to remove nonexistent key: a: missing value"),
    );
    ops(
        json!({}),
        op("add", "/a/b", json!(1)),
        json!("add operation does not apply: doc is missing path: \"/a/b\": missing value"),
    );
    ops(
        json!({"l": [1]}),
        op("add", "/l/5", json!(1)),
        json!("error in add for path: '/l/5': Unable to access invalid index: 5: invalid index referenced"),
    );
    ops(json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1}));
    ops(json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), json!({"a": 1, "b": 1}));
    ops(json!({"a": 1}), op("grow", "/a", json!(2)), json!("Unexpected kind: grow"));
    let path = json!([{"op": "add", "value": 1}]);
    ops(json!({}), path, json!("add operation failed to decode path: missing value"));
}

#[test]
fn json_patch_limits_and_findings() {
    let many = vec![json!({"op": "add", "path": "/a", "value": 1}); MAX_OPERATIONS + 1];
    let error = super::json(json!({}), Value::from(many).to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_status().code, 413);
    assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
    let deep = json!({"op": "copy", "from": "/a", "path": "/a/a"});
    let nest = vec![deep; MAX_OPERATIONS];
    let bomb = super::json(json!({"a": {}}), Value::from(nest).to_string().as_bytes());
    assert!(matches!(bomb, Err(Error::Unprocessable(_))));
    let patched =
        super::json(json!({}), br#"[{"op":"add","path":"/a","value":1,"vaule":2,"op":"add"}]"#).unwrap();
    assert_eq!(
        patched.strict,
        [r#"json patch duplicate field "[0].op""#, r#"json patch unknown field "[0].vaule""#]
    );
    assert!(matches!(super::json(json!({}), b"{}"), Err(Error::Bad(_))));
    assert_eq!(super::json(json!({}), b"[").unwrap_err().to_status().code, 400);
}

#[test]
fn json_merge_patch() {
    let check = |object: Value, patch: Value, expect: Value| {
        assert_eq!(shown(merge(object, patch.to_string().as_bytes())), expect, "{patch}");
    };
    check(json!({"a": 1, "b": {"c": 1}}), json!({"a": null, "b": {"d": 2}}), json!({"b": {"c": 1, "d": 2}}));
    check(json!({}), json!({"a": {"b": null, "c": [null, {"d": null}]}}), json!({"a": {"c": [null, {}]}}));
    check(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
    check(
        json!({}),
        json!([1]),
        json!(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        ),
    );
    assert_eq!(merge(json!({}), br#"{"a":1,"a":2}"#).unwrap().strict, [r#"duplicate field "a""#]);
}

#[test]
fn strategic_merges_maps_and_keyed_lists() {
    let pod = || json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
    pod_patch(
        pod(),
        json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
        json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}),
    );
    // Items that the patch names come in its order, new ones where upstream puts them.
    pod_patch(
        pod(),
        json!({"spec": {"containers": [{"name": "c", "image": "3"}]}}),
        json!({"spec": {"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}),
    );
    pod_patch(
        pod(),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "a", "image": null, "tty": true}]}}),
        json!({"spec": {"containers": [{"name": "b", "image": "1"}, {"name": "a", "tty": true}]}}),
    );
    pod_patch(
        pod(),
        json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
        json!({"spec": {"containers": [{"name": "b", "image": "1"}]}}),
    );
    pod_patch(
        pod(),
        json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}),
        json!({"spec": {"containers": [{"name": "z"}]}}),
    );
    pod_patch(
        pod(),
        json!({"spec": {"containers": [{"image": "2"}]}}),
        json!("map: map[image:2] does not contain declared merge key: name"),
    );
    pod_patch(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
    );
    pod_patch(
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
        json!({"metadata": {"labels": {"c": "3"}}}),
    );
    pod_patch(json!({}), json!({"$patch": "odd"}), json!("unknown patch type: odd in map: map[$patch:odd]"));
}

#[test]
fn strategic_orders_what_it_deletes_and_adds() {
    let env = |list: Value| json!({"spec": {"containers": [{"name": "c", "env": list}]}});
    let item = |name: &str| json!({"name": name});
    pod_patch(
        env(json!([item("1"), item("2"), item("4")])),
        json!({"spec": {"containers": [{"name": "c", "$setElementOrder/env": [item("2"), item("3")],
            "env": [item("3"), {"name": "1", "$patch": "delete"}]}]}}),
        env(json!([item("2"), item("4"), item("3")])),
    );
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.policy.v1.PodDisruptionBudget").unwrap();
    let budget = |labels: Value| json!({"spec": {"selector": {"matchLabels": labels}}});
    let patched =
        strategic(&schema, root, budget(json!({"a": "1"})), budget(json!({"b": "2"})).to_string().as_bytes());
    assert_eq!(shown(patched), budget(json!({"b": "2"})));
}

#[test]
fn strategic_merges_primitive_and_plain_lists() {
    let meta = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    pod_patch(meta(json!(["a", "b"])), meta(json!(["b", "c"])), meta(json!(["a", "b", "c"])));
    pod_patch(
        meta(json!(["a", "b", "c"])),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
        meta(json!(["a", "c"])),
    );
    pod_patch(
        meta(json!(["a", "b"])),
        json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"], "finalizers": ["c"],
            "$deleteFromPrimitiveList/finalizers": ["b"]}}),
        meta(json!(["c", "a"])),
    );
    let tolerations = |list: Value| json!({"spec": {"tolerations": list}});
    pod_patch(
        tolerations(json!([{"key": "a"}])),
        tolerations(json!([{"key": "b"}])),
        tolerations(json!([{"key": "b"}])),
    );
    let error = json!({"metadata": {"$deleteFromPrimitiveListx": ["b"]}});
    pod_patch(meta(json!(["a"])), error, json!("invalid patch format of primitive list"));
}

#[test]
fn strategic_retains_keys() {
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.apps.v1.Deployment").unwrap();
    let strategy = |value: Value| json!({"spec": {"strategy": value}});
    let original = strategy(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}));
    let patch = strategy(json!({"$retainKeys": ["type"], "type": "Recreate"}));
    let patched = strategic(&schema, root, original, patch.to_string().as_bytes());
    assert_eq!(shown(patched), strategy(json!({"type": "Recreate"})));
    let patch = strategy(json!({"$retainKeys": ["rollingUpdate"], "type": "Recreate"}));
    let patched = strategic(&schema, root, strategy(json!({})), patch.to_string().as_bytes());
    assert_eq!(shown(patched), json!("invalid patch format of retainKeys"));
}

#[test]
fn what_does_not_fit_is_a_422_that_shows_the_patch() {
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.core.v1.Pod").unwrap();
    let patch = |patch: Value| strategic(&schema, root, json!({}), patch.to_string().as_bytes()).unwrap();
    let status = patch(json!({"spec": {"foo": 1}})).decode(&schema, root, true).unwrap_err();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            422,
            r#" "" is invalid: patch: Invalid value: "map[spec:map[foo:1]]": strict decoding error: unknown field "spec.foo""#
        )
    );
    let decoded = patch(json!({"spec": {"foo": 1}})).decode(&schema, root, false).unwrap();
    assert_eq!(decoded.strict, [r#"unknown field "spec.foo""#]);
    assert!(patch(json!({"spec": {"hostNetwork": "x"}})).decode(&schema, root, false).is_err());
}

proptest::proptest! {
    #[test]
    fn never_panics(patch in "(\\[|\\{)[{}\\[\\]\":,$/a-c0-2-]{0,60}") {
        let doc = || json!({"a": {"b": [1, {"c": 2}]}, "metadata": {"finalizers": ["a"]}});
        let schema = facts::schema();
        let root = schema.find("io.k8s.api.core.v1.Pod").unwrap();
        let _ = (super::json(doc(), patch.as_bytes()), merge(doc(), patch.as_bytes()));
        let _ = strategic(&schema, root, doc(), patch.as_bytes());
    }
}

/// What is said of a patched ConfigMap, as a kube-apiserver said it.
fn refused(patched: Result<Patched, Error>) -> String {
    let kinds = crate::kinds::builtin();
    let (kind, version) = kinds.resource("", "v1", "configmaps").unwrap();
    match patched.unwrap().decode_as(kind, version, true) {
        Ok(decoded) => panic!("{} is taken", decoded.value),
        Err(status) => status.message,
    }
}

#[test]
fn a_merged_tree_is_converted_rather_than_decoded() {
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.core.v1.ConfigMap").unwrap();
    let merged = |patch: Value| {
        let old = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}});
        refused(strategic(&schema, root, old, patch.to_string().as_bytes()))
    };
    let said =
        |shown: &str, reason: &str| format!(" \"\" is invalid: patch: Invalid value: {shown:?}: {reason}");
    for (patch, shown, reason) in [
        (
            json!({"metadata": {"labels": ["a"]}}),
            "map[metadata:map[labels:[a]]]",
            "cannot restore map from slice",
        ),
        (json!({"metadata": "x"}), "map[metadata:x]", "cannot restore struct from: string"),
        (json!({"kind": 7}), "map[kind:7]", "cannot convert int64 to string"),
        (json!({"kind": true}), "map[kind:true]", "unrecognized type: string"),
        (json!({"immutable": "x"}), "map[immutable:x]", "unrecognized type: bool"),
        (
            json!({"metadata": {"generation": 1.5}}),
            "map[metadata:map[generation:1.5]]",
            "cannot convert float64 to int64",
        ),
        (
            json!({"metadata": {"finalizers": {}}}),
            "map[metadata:map[finalizers:map[]]]",
            "cannot restore slice from map",
        ),
        (
            json!({"metadata": {"deletionTimestamp": 7}}),
            "map[metadata:map[deletionTimestamp:7]]",
            "json: cannot unmarshal number into Go value of type string",
        ),
        (
            json!({"unheardOf": 1, "metadata": {"a": 2}}),
            "map[metadata:map[a:2] unheardOf:1]",
            "strict decoding error: unknown field \"metadata.a\", unknown field \"unheardOf\"",
        ),
    ] {
        assert_eq!(merged(patch), said(shown, reason));
    }
}

#[test]
fn what_a_patch_left_alone_is_shown_in_gos_order() {
    let old = || {
        json!({"apiVersion": "v1", "data": {"b": "<", "a": "1"}, "kind": "ConfigMap",
            "metadata": {"labels": {"b": "2", "a": "1"}, "name": "n", "namespace": "d", "uid": "u"}})
    };
    let said =
        |shown: &str, reason: &str| format!(" \"\" is invalid: patch: Invalid value: {shown:?}: {reason}");
    let kept = r#""metadata":{"name":"n","namespace":"d","uid":"u","labels":{"a":"1","b":"2"}}}"#;
    assert_eq!(
        refused(merge(old(), br#"{"immutable": "x"}"#)),
        said(
            &format!(
                r#"{{"apiVersion":"v1","data":{{"a":"1","b":"\u003c"}},"immutable":"x","kind":"ConfigMap",{kept}"#
            ),
            "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool"
        )
    );
    let touched = r#"{"apiVersion":"v1","kind":"Other","metadata":{"labels":{"a":"1","b":"2"},"name":"m","namespace":"d","uid":"u"}}"#;
    let patch = json!([
        {"op": "replace", "path": "/metadata/name", "value": "m"},
        {"op": "replace", "path": "/kind", "value": "Other"},
        {"op": "remove", "path": "/data"},
    ]);
    assert_eq!(
        refused(super::json(old(), patch.to_string().as_bytes())),
        said(
            touched,
            "no kind \"Other\" is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:111\""
        )
    );
    // Without a version it is of the internal one, of which nothing can be read.
    let kinds = crate::kinds::builtin();
    let (kind, index) = kinds.resource("", "v1", "configmaps").unwrap();
    let read = merge(old(), br#"{"apiVersion": null}"#).unwrap().decode_as(kind, index, false).unwrap();
    assert_eq!(read.value, json!({}));
    assert_eq!(read.strict, ["unknown field \"data\"", "unknown field \"metadata\""]);
    let refused = merge(old(), br#"{"apiVersion": "", "kind": "Other"}"#).unwrap();
    let refused = refused.decode_as(kind, index, false).unwrap_err().message;
    let reason = "no kind \"Other\" is registered for the internal version of group \"\" in scheme";
    assert!(refused.contains(reason), "{refused}");
    assert_eq!(merge(old(), b"null").unwrap_err().to_string(), "Invalid JSON Patch");
}
