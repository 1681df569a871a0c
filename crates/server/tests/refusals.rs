//! Bad input, as raw bodies: what is refused, with which code and words.
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use common::Client;
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const YAML: &[(&str, &str)] = &[("content-type", "application/yaml")];

#[tokio::test]
async fn limits_name_themselves() {
    let client = Client::builtin();
    let big = format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(3 << 20));
    let refused = client.send("POST", MAPS, JSON, big).await.expect(413);
    assert_eq!(refused["message"], "Request entity too large: limit is 3145728");
    client.post(MAPS, &json!({"metadata": {"name": "a"}})).await.expect(201);
    let operations: Vec<_> =
        (0..10_001).map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"})).collect();
    let refused = client.patch(&format!("{MAPS}/a"), "json-patch", &json!(operations)).await.expect(413);
    assert_eq!(
        refused["message"],
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

#[tokio::test]
async fn what_was_sent_empty_is_shown_so() {
    const SETS: &str = "/apis/apps/v1/namespaces/default/deployments";
    let client = Client::builtin();
    let set = |labels: serde_json::Value, selector: serde_json::Value| {
        json!({"metadata": {"name": "a"}, "spec": {"selector": selector, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    };
    let web = json!({"app": "web"});
    let by_web = json!({"matchLabels": web});
    for (labels, selector, expect) in [
        (json!({}), &by_web, "spec.template.metadata.labels: Invalid value: {}: `selector` does not match"),
        (json!(null), &by_web, "spec.template.metadata.labels: Invalid value: null: `selector` does not"),
        (
            web.clone(),
            &json!({"matchLabels": {}, "matchExpressions": []}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
    ] {
        let refused = client.post(SETS, &set(labels, selector.clone())).await.expect(422);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(expect), "{message}");
    }
    client.post(SETS, &set(web.clone(), by_web.clone())).await.expect(201);
    let changed = json!({"spec": {"selector": {"matchLabels": null, "matchExpressions": []}}});
    let refused = client.patch(&format!("{SETS}/a"), "merge-patch", &changed).await.expect(422);
    let causes = refused["details"]["causes"].as_array().unwrap();
    let fixed = "Invalid value: {}: field is immutable";
    assert!(causes.iter().any(|cause| cause["message"] == fixed), "{refused}");
    // Nothing of it is kept for what comes later.
    let empty = json!({"spec": {"template": {"spec": {"volumes": [], "nodeSelector": {}}}}});
    let kept = client.patch(&format!("{SETS}/a"), "merge-patch", &empty).await.expect(200);
    assert_eq!(kept["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_refused_patch_is_shown_with_the_whole_object() {
    let client = Client::builtin();
    client.post(MAPS, &json!({"metadata": {"name": "a"}, "data": {"a": "1"}})).await.expect(201);
    let refused =
        client.patch(&format!("{MAPS}/a"), "merge-patch", &json!({"immutable": "x"})).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("patch: Invalid value:"), "{message}");
    assert!(message.contains("managedFields"), "{message}");
}

#[tokio::test]
async fn devices_are_seen_into_where_the_namespace_allows_it() {
    const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let client = Client::builtin();
    let claim = |name: &str, admin: bool| {
        let exactly = json!({"deviceClassName": "x.io", "adminAccess": admin});
        json!({"metadata": {"name": name},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}})
    };
    client.post(CLAIMS, &claim("a", false)).await.expect(201);
    let refused = client.post(CLAIMS, &claim("b", true)).await.expect(422);
    assert_eq!(
        refused["details"]["causes"],
        json!([{"reason": "FieldValueForbidden", "field": "spec.devices.requests[0].adminAccess",
            "message": "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"}])
    );
    let label =
        json!({"metadata": {"name": "default", "labels": {"resource.kubernetes.io/admin-access": "true"}}});
    client.post("/api/v1/namespaces", &label).await.expect(201);
    client.post(CLAIMS, &claim("b", true)).await.expect(201);
}

#[tokio::test]
async fn bad_bodies() {
    let client = Client::builtin();
    let check = async |headers: &[(&str, &str)], body: &str, code: u16, part: &str| {
        let answer = client.send("POST", MAPS, headers, body.to_owned()).await.expect(code);
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "{body}: {message}");
    };
    check(JSON, "", 400, "").await;
    check(JSON, "[]", 400, "").await;
    check(JSON, "{", 400, "").await;
    check(JSON, r#"{"metadata": {"name": 7}}"#, 400, "cannot unmarshal number").await;
    check(
        JSON,
        r#"{"apiVersion": "apps/v1"}"#,
        400,
        "no kind \"ConfigMap\" is registered for version \"apps/v1\"",
    )
    .await;
    check(JSON, r#"{"kind": "Pod"}"#, 400, "cannot be handled as a ConfigMap").await;
    check(JSON, r#"{"metadata": {"name": "A"}}"#, 422, "metadata.name: Invalid value").await;
    check(JSON, r#"{"metadata": {}}"#, 422, "name or generateName is required").await;
    check(JSON, r#"{"metadata": {"name": "a", "namespace": "b"}}"#, 400, "does not match the namespace")
        .await;
    check(JSON, r#"{"metadata": {"name": "a", "labels": {"a b": "c"}}}"#, 422, "metadata.labels").await;
    check(&[("content-type", "text/html")], "x", 415, "accepted media types include").await;
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for at in 1..12 {
        let previous = format!("*a{}", at - 1);
        bomb += &format!("a{at}: &a{at} [{}]\n", [&*previous; 10].join(","));
    }
    check(YAML, &bomb, 400, "").await;
    let made = client.send("POST", MAPS, YAML, "metadata: {name: web}\ndata: {a: \"1\"}\n").await.expect(201);
    assert_eq!(made["data"]["a"], "1");
}

/// Upstream repeats such names whole and escaped, at six bytes for each of theirs.
#[tokio::test]
async fn no_answer_outweighs_what_it_refuses() {
    let client = Client::builtin();
    let long = "\u{fffd}".repeat(200_000);
    for (body, code) in [
        (json!({"metadata": {"name": long}}), 422),
        (json!({"metadata": {"name": "a", "labels": {&*long: ""}}}), 422),
        (json!({"metadata": {"name": "a", "labels": {"a": long}}}), 422),
        (json!({"metadata": {"name": "a", "annotations": {&*long: ""}}}), 422),
        (json!({"metadata": {"name": "a", "finalizers": [long]}}), 422),
        (json!({"metadata": {"name": "a"}, "data": {&*long: ""}}), 422),
        (json!({"kind": long, "metadata": {"name": "a"}}), 400),
        (json!({"apiVersion": long, "metadata": {"name": "a"}}), 400),
        (json!({"metadata": {"name": "a", "namespace": long}}), 400),
        (json!({&*long: 1, "metadata": {"name": "a"}}), 400),
    ] {
        let path = format!("{MAPS}?fieldValidation=Strict");
        let answer = client.send("POST", &path, JSON, body.to_string()).await.expect(code);
        let size = answer.to_string().len();
        assert!(size < 100_000, "{size}: {:.300}", answer.to_string());
    }
}

#[tokio::test]
async fn who_is_unknown_gets_401_and_who_may_not_403() {
    use carrack_server::{Server, User};
    use tower_service::Service;
    let store = std::sync::Arc::new(carrack_store::Local::memory(carrack_store::Limits::default()));
    let server = Server::builder(store, carrack_api::kinds::builtin()).build();
    let refused = Client(server.clone()).get("/api/v1/namespaces/default/pods/p").await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: User \"tester\" cannot get resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let mut request = Client::request("GET", MAPS, &[], "");
    request.extensions_mut().remove::<User>();
    assert_eq!(server.clone().call(request).await.unwrap().status(), 401);
}
