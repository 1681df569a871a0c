//! Round trips, envelopes, and what hostile bytes must not do.

use super::*;
use crate::facts;
use serde_json::{Value, json};

fn round_trip(ty: &str, body: Value) {
    let schema = facts::schema();
    let root = schema.find(ty).unwrap();
    let value = crate::decode::value(&schema, root, body).unwrap().value;
    let message = encode(&schema, root, &value).unwrap();
    assert_eq!(decode(&schema, root, &message), Ok(value));
}

#[test]
fn keeps_every_kind_of_value() {
    round_trip(
        "io.k8s.api.core.v1.Pod",
        json!({"metadata": {"name": "a", "labels": {"a": "b"}, "deletionGracePeriodSeconds": 0,
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "managedFields": [{"manager": "m", "fieldsV1": {"f:a": {}}, "time": "1969-12-31T23:59:59Z"}]},
            "spec": {"activeDeadlineSeconds": -1, "containers": [{"name": "c",
                "resources": {"limits": {"cpu": "100m"}}, "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": "http"}, "tcpSocket": {"port": 80}}}],
                "volumes": [{"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "items": []}}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    round_trip("io.k8s.api.core.v1.Secret", json!({"data": {"a": "AAEC", "b": ""}, "immutable": false}));
    round_trip(
        "io.k8s.api.coordination.v1.Lease",
        json!({"spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 0}}),
    );
    round_trip(
        "io.k8s.api.authentication.v1.TokenReview",
        json!({"status": {"user": {"username": "u", "extra": {"k": ["a", "b"]}}}}),
    );
    round_trip(
        "io.k8s.api.apps.v1.ControllerRevision",
        json!({"data": {"spec": {"a": [1, "x", null]}}, "revision": 3}),
    );
    round_trip("io.k8s.api.core.v1.Event", json!({"eventTime": "2026-01-02T03:04:05.123456Z", "count": 2}));
    round_trip(
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground"}),
    );
}

#[test]
fn envelopes() {
    let body = wrap("apps/v1", "Deployment", b"\x0a\x00");
    assert_eq!(open(&body), Ok(Envelope { api_version: "apps/v1", kind: "Deployment", raw: b"\x0a\x00" }));
    assert_eq!(
        open(b"{}").unwrap_err().to_string(),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    let listed = list("v1", "PodList", &json!({"resourceVersion": "7"}), [&b"\x0a\x00"[..]].into_iter());
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.core.v1.PodList").unwrap();
    let value = decode(&schema, root, open(&listed).unwrap().raw).unwrap();
    assert_eq!(value["metadata"]["resourceVersion"], "7");
    assert_eq!(value["items"].as_array().map(Vec::len), Some(1));
    let frame = watch_frame("ADDED", &body);
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
}

#[test]
fn nesting_is_bounded() {
    let schema = facts::schema();
    let root =
        schema.find("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let field = schema.object(root).field("not").unwrap().number;
    let mut message = Vec::new();
    for _ in 0..5000 {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, field, &message);
        message = outer;
    }
    assert_eq!(decode(&schema, root, &message).unwrap_err().to_string(), "exceeded max depth");
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let schema = facts::schema();
        let root = schema.find("io.k8s.api.core.v1.Pod").unwrap();
        let _ = (open(&bytes), decode(&schema, root, &bytes));
    }

    #[test]
    fn survives_flipped_bytes(at in 0usize..400, byte in proptest::num::u8::ANY) {
        let schema = facts::schema();
        let root = schema.find("io.k8s.api.core.v1.Pod").unwrap();
        let pod = json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}, "env": [{"name": "E", "value": "v"}]}]}});
        let mut message = encode(&schema, root, &pod).unwrap();
        let at = at % message.len();
        message[at] = byte;
        let _ = decode(&schema, root, &message);
    }
}

#[test]
fn schemas_and_what_may_stand_in_their_place() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "array", "items": {"type": "string", "default": "x"}},
        "b": {"items": [{"type": "string"}, {"type": "integer"}], "additionalItems": false},
        "c": {"additionalProperties": {"type": "object", "additionalProperties": true}},
        "d": {"dependencies": {"x": ["y", "z"], "w": {"type": "string"}}, "enum": ["e", 1, null]}}});
    let crd = json!({"spec": {"group": "g", "scope": "Namespaced", "names": {"kind": "K", "plural": "ks"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let ty = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    round_trip(ty, crd.clone());
    let all = facts::schema();
    let message = encode(&all, all.find(ty).unwrap(), &crd).unwrap();
    // As Go writes `additionalProperties: {type: string}`: allowed, and the schema.
    let nested = b"\x08\x01\x12";
    assert!(message.windows(nested.len()).any(|bytes| bytes == nested));
    assert_eq!(decode(&all, all.find(ty).unwrap(), &message).unwrap()["spec"]["group"], "g");
}
