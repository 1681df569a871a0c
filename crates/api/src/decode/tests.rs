//! Facts about what upstream's decoder keeps, drops, reports and refuses.

use super::*;
use crate::facts;
use serde_json::json;

fn decode(ty: &str, body: &str) -> Result<Decoded, Error> {
    let schema = facts::schema();
    json(&schema, schema.find(ty).unwrap(), body.as_bytes())
}

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn refuses(ty: &str, body: &str, expect: &str) {
    assert_eq!(decode(ty, body).unwrap_err().to_string(), expect, "{body}");
}

#[test]
fn reports_unknown_and_duplicate_fields_with_their_paths() {
    let body = r#"{"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"Spec":{},
        "spec":{"foo":1,"containers":[{"name":"c","livenesProbe":{}},{"name":"d","name":"e"}],"foo":2}}"#;
    let decoded = decode(POD, body).unwrap();
    assert_eq!(
        decoded.strict,
        [
            r#"duplicate field "metadata.labels.x""#,
            r#"unknown field "Spec""#,
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.containers[0].livenesProbe""#,
            r#"duplicate field "spec.containers[1].name""#,
        ]
    );
    assert_eq!(decoded.value["metadata"]["labels"], json!({"x": "2"}));
    assert_eq!(decoded.value["spec"]["containers"][1]["name"], "e");
    assert_eq!(decoded.value["spec"].get("foo"), None);
    let error = decode(DEPLOYMENT, r#"{"spec":{"foo":1,"replicas":1,"replicas":2}}"#).unwrap();
    assert_eq!(
        error.strict_error().unwrap().to_status("Deployment", "v1").message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"spec.foo\", duplicate field \"spec.replicas\""
    );
}

#[test]
fn words_wrong_types_as_upstream_does() {
    refuses(
        DEPLOYMENT,
        r#"{"spec":{"replicas":"three"}}"#,
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refuses(
        DEPLOYMENT,
        r#"{"spec":{"replicas":1.5}}"#,
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refuses(
        POD,
        r#"{"spec":{"containers":{"name":"x"}}}"#,
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    refuses(
        POD,
        r#"{"metadata":{"labels":{"a":1}}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    refuses(
        POD,
        "[]",
        r#"couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#,
    );
    refuses(
        POD,
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    refuses("io.k8s.api.core.v1.Secret", r#"{"data":{"a":"!!"}}"#, "illegal base64 data at input byte 0");
    refuses(
        POD,
        r#"{"metadata":{"deletionTimestamp":7}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.deletionTimestamp of type string",
    );
}

#[test]
fn says_when_a_body_is_no_json() {
    let status = decode(POD, "{\"kind\": nope}").unwrap_err().to_status("Pod", "v1");
    assert_eq!(
        status.message,
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; \
         json parse error: invalid character 'o' in literal null (expecting 'u') ({\"kind\": nope})"
    );
    assert!(decode(POD, "{} {}").is_err());
    assert!(decode(POD, &"[".repeat(1_000_000)).is_err());
    assert_eq!(
        type_meta(br#"{"kind":1}"#).unwrap_err().to_string(),
        "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field \
         .kind of type string"
    );
    assert_eq!(type_meta(br#"{"apiVersion":"v1"}"#), Ok(("v1".into(), String::new())));
}

#[test]
fn canonicalises_values() {
    let body = r#"{"metadata":{"creationTimestamp":"2026-01-01T01:00:00+01:00"},"spec":{"containers":[
        {"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1000m"}},
         "readinessProbe":{"httpGet":{"port":"http"}}}]}}"#;
    let value = decode(POD, body).unwrap().value;
    assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    let container = &value["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({"cpu": "500m", "memory": "1"}));
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], "http");
}

#[test]
fn yaml_goes_the_same_way() {
    let schema = facts::schema();
    let root = schema.find(POD).unwrap();
    let body = b"kind: Pod\nspec:\n  hostNetwork: yes\n  nope: 1\nkind: Pod\n";
    let decoded = yaml(&schema, root, body).unwrap();
    assert_eq!(decoded.value["spec"]["hostNetwork"], true);
    assert_eq!(
        decoded.strict,
        ["yaml: unmarshal errors:\n  line 5: key \"kind\" already set in map", "unknown field \"spec.nope\""]
    );
    let status = yaml(&schema, root, b"a: b: c").unwrap_err().to_status("Pod", "v1");
    assert!(status.message.starts_with("the object provided is unrecognized (must be of type Pod): yaml: "));
}

proptest::proptest! {
    #[test]
    fn never_panics(body in "[{}\\[\\]\":,0-9a-z\\\\. ]{0,60}") {
        let _ = decode(POD, &body);
    }
}

#[test]
fn keeps_what_go_keeps_of_absent_and_zero_values() {
    let body = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{},"creationTimestamp":null},
        "spec":{"hostNetwork":false,"nodeName":"","terminationGracePeriodSeconds":0,"volumes":[],
            "containers":[{"name":"c","env":[{"name":"E","value":""}],"command":null}]}}"#;
    assert_eq!(
        decode(POD, body).unwrap().value,
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"},
            "spec": {"terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "env": [{"name": "E"}], "resources": {}}]},
            "status": {}})
    );
    assert_eq!(
        decode(DEPLOYMENT, r#"{"metadata":{"name":"a"},"spec":{"selector":null,"replicas":0}}"#)
            .unwrap()
            .value,
        json!({"metadata": {"name": "a"}, "status": {},
            "spec": {"replicas": 0, "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}}}})
    );
    assert_eq!(
        decode("io.k8s.api.core.v1.Event", r#"{"firstTimestamp":null}"#).unwrap().value,
        json!({"metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": ""})
    );
}

#[test]
fn custom_kinds_keep_what_validation_is_to_judge() {
    use crate::schema::{Field, Object, Schema};
    let mut schema = Schema::default();
    let meta = schema.add(Object {
        name: "x.v1.ObjectMeta".into(),
        fields: [Field::new("name", Ty::String)].into(),
        ..Object::default()
    });
    let spec = schema.add(Object {
        fields: [Field::new("n", Ty::Int32), Field::new("l", Ty::List(Box::new(Ty::String)))].into(),
        loose: true,
        ..Object::default()
    });
    let root = schema.add(Object {
        fields: [Field::new("metadata", Ty::Object(meta)), Field::new("spec", Ty::Object(spec))].into(),
        loose: true,
        ..Object::default()
    });
    let body = br#"{"metadata":{"name":"a"},"spec":{"n":"x","l":{"a":1,"a":2},"z":1,"n":null},"y":0}"#;
    let decoded = super::json(&schema, root, body).unwrap();
    assert_eq!(decoded.value, json!({"metadata": {"name": "a"}, "spec": {"n": null, "l": {"a": 2}}}));
    assert_eq!(
        decoded.strict,
        [
            r#"duplicate field "spec.l.a""#,
            r#"unknown field "spec.z""#,
            r#"duplicate field "spec.n""#,
            r#"unknown field "y""#
        ]
    );
    assert!(super::json(&schema, root, br#"{"metadata":{"name":1}}"#).is_err());
}

#[test]
fn bodies_cannot_blow_up() {
    let many = |open: &str, item: &str, close: &str| format!("{open}{}{close}", item.repeat(200_000));
    let refused = "the body holds more than 50000 objects and lists";
    for body in [
        many(r#"{"spec":{"containers":["#, "{},", "{}]}}"),
        many(r#"{"metadata":{"managedFields":[{"fieldsV1":["#, "[],", "[]]}]}}"),
    ] {
        assert!(decode(POD, &body).unwrap_err().to_string() == refused);
    }
    let schema = facts::schema();
    let root = schema.find(POD).unwrap();
    assert!(
        yaml(&schema, root, many("", "- {}\n", "").as_bytes()).unwrap_err().to_string().ends_with(refused)
    );
    // Findings are bounded and cheap.
    let decoded = decode(POD, &many(r#"{"spec":{"#, r#""nope":1,"#, r#""x":1}}"#)).unwrap();
    assert_eq!(decoded.strict, [r#"unknown field "spec.nope""#, r#"unknown field "spec.x""#]);
}

#[test]
fn what_was_empty_can_be_put_back() {
    let body = r#"{"metadata":{"labels":{},"annotations":{"a":"b"}},"spec":{"nodeSelector":{},"volumes":[],
        "containers":[{"name":"c","env":[],"resources":{"limits":{}},"securityContext":{}}]}}"#;
    let decoded = decode(POD, body).unwrap();
    assert_eq!(decoded.value["spec"].get("volumes"), None);
    let shown = decoded.empties.put_back(&decoded.value).unwrap();
    assert_eq!(shown["metadata"]["labels"], json!({}));
    assert_eq!((&shown["spec"]["nodeSelector"], &shown["spec"]["volumes"]), (&json!({}), &json!([])));
    let container = &shown["spec"]["containers"][0];
    assert_eq!((&container["env"], &container["resources"]), (&json!([]), &json!({"limits": {}})));
    // What is not there any more stays away; what has been filled in stays as it is.
    let changed = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeSelector": null}});
    let expect = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeSelector": {}, "volumes": []}});
    assert_eq!(decoded.empties.put_back(&changed), Some(expect));
    assert_eq!(decoded.empties.put_back(&shown), None);
    assert_eq!(decode(POD, r#"{"spec":{}}"#).unwrap().empties, Empties::default());
}

#[test]
fn maps_by_a_named_type_are_refused_by_its_name() {
    refuses(
        "io.k8s.api.resource.v1.ResourceSlice",
        r#"{"spec":{"devices":[{"attributes":[]}]}}"#,
        "json: cannot unmarshal array into Go struct field Device.spec.devices.attributes of type map[v1.QualifiedName]v1.DeviceAttribute",
    );
}
