//! Custom kinds, from their definition to their end, over the memory store.
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use common::{Client, Events};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const BOATS: &str = "/apis/example.com/v1/namespaces/default/boats";

/// A server with its keeper of kinds.
fn client() -> Client {
    let client = Client::builtin();
    tokio::spawn(carrack_server::crd::run(client.0.registry().clone()));
    client
}

fn version(name: &str, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.sails",
            "statusReplicasPath": ".status.sails", "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.name"}],
        "additionalPrinterColumns": [
            {"name": "Sails", "type": "integer", "jsonPath": ".spec.sails"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 8},
            "sails": {"type": "integer", "minimum": 1, "default": 3},
            "rig": {"type": "string", "enum": ["square", "lateen"]}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

fn definition(versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": "boats", "kind": "Boat", "shortNames": ["bo"], "categories": ["all"]}}})
}

fn boat(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": name}, "spec": spec})
}

/// Waits until a condition of the definition has a status.
async fn wait_for(client: &Client, ty: &str, status: &str) -> Value {
    let path = format!("{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3Dboats.example.com");
    let mut events = Events::of(client.stream(&path, &[]).await);
    loop {
        let object = events.next().await.expect("an event")["object"].take();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|found| found["type"] == ty && found["status"] == status) {
            return object;
        }
    }
}

async fn established(client: &Client, versions: Value) -> Value {
    client.post(DEFINITIONS, &definition(versions)).await.expect(201);
    wait_for(client, "Established", "True").await
}

#[tokio::test]
async fn a_definition_is_served_and_goes_with_its_objects() {
    let client = client();
    let made = established(&client, json!([version("v1", schema())])).await;
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "BoatList");
    let found = client.get("/apis/example.com/v1").await.expect(200);
    let names: Vec<&str> =
        found["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["boats", "boats/status", "boats/scale"]);

    let maria = client.post(BOATS, &boat("maria", json!({"name": "m", "engine": 1}))).await;
    assert_eq!(maria.warnings(), ["299 - \"unknown field \\\"spec.engine\\\"\""]);
    let maria = maria.expect(201);
    assert_eq!(maria["spec"], json!({"name": "m", "sails": 3}));
    let refused = client.post(BOATS, &boat("x", json!({"sails": "many", "rig": "gaff"}))).await.expect(422);
    assert_eq!(
        refused["message"],
        "Boat.example.com \"x\" is invalid: [spec.rig: Unsupported value: \"gaff\": supported values: \"square\", \
         \"lateen\", spec.sails: Invalid value: \"string\": spec.sails in body must be of type integer: \"string\", \
         spec.name: Required value, .spec.sails: Invalid value: 0: .spec.sails accessor error: many is of the type \
         string, expected int64]"
    );

    let mut events = Events::of(client.stream(&format!("{BOATS}?watch=1"), &[]).await);
    assert_eq!(events.brief().await, "ADDED maria");
    client.delete(&format!("{DEFINITIONS}/boats.example.com")).await.expect(200);
    assert_eq!(events.brief().await, "DELETED maria");
    assert_eq!(events.next().await, None, "the watch ends with its kind");
    assert_eq!(client.get(&format!("{DEFINITIONS}/boats.example.com")).await.code, 404);
    assert_eq!(client.get(BOATS).await.code, 404);
}

/// Posts a boat and hands its answer out.
async fn post(client: &Client, object: &Value) -> common::Answer {
    client.post(BOATS, object).await
}

#[tokio::test]
async fn columns_status_scale_and_selectors() {
    let client = client();
    established(&client, json!([version("v1", schema())])).await;
    post(&client, &boat("a", json!({"name": "x"}))).await.expect(201);
    post(&client, &boat("b", json!({"name": "y", "sails": 5}))).await.expect(201);
    let status = json!({"status": {"sails": 2, "selector": "app=boat", "conditions": [{"type": "Ready", "status": "True"}]},
        "spec": {"sails": 9}});
    let one = client.patch(&format!("{BOATS}/a/status"), "merge-patch", &status).await.expect(200);
    assert_eq!((&one["spec"]["sails"], &one["metadata"]["generation"]), (&json!(3), &json!(1)));
    let scale = client.get(&format!("{BOATS}/a/scale")).await.expect(200);
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 3}), &json!({"replicas": 2, "selector": "app=boat"}))
    );
    let four = json!({"spec": {"replicas": 4}});
    client.patch(&format!("{BOATS}/a/scale"), "merge-patch", &four).await.expect(200);
    let one = client.get(&format!("{BOATS}/a")).await.expect(200);
    assert_eq!((&one["spec"]["sails"], &one["metadata"]["generation"]), (&json!(4), &json!(2)));

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = client.send("GET", BOATS, &accept, "").await.expect(200);
    let names: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Name", "Sails", "Ready", "Age"]);
    let cells = |at: usize| table["rows"][at]["cells"].as_array().unwrap()[..3].to_vec();
    assert_eq!(
        (cells(0), cells(1)),
        (vec![json!("a"), json!(4), json!("True")], vec![json!("b"), json!(5), json!(null)])
    );

    let found = client.get(&format!("{BOATS}?fieldSelector=spec.name%3Dy")).await.expect(200);
    assert_eq!(
        (&found["items"].as_array().unwrap().len(), &found["items"][0]["metadata"]["name"]),
        (&1, &json!("b"))
    );
    let refused = client.get(&format!("{BOATS}?fieldSelector=spec.sails%3D5")).await.expect(400);
    assert_eq!(refused["message"], "field label not supported: spec.sails");
}

#[tokio::test]
async fn a_changed_definition_holds_for_what_is_there_and_after_a_restart() {
    let client = client();
    established(&client, json!([version("v1", schema())])).await;
    post(&client, &boat("a", json!({"name": "x", "rig": "square"}))).await.expect(201);
    let path = format!("{DEFINITIONS}/boats.example.com");
    let mut events = Events::of(client.stream(&format!("{BOATS}?watch=1"), &[]).await);
    assert_eq!(events.brief().await, "ADDED a");

    let mut changed = client.get(&path).await.expect(200);
    let mut new = schema();
    new["properties"]["spec"]["properties"]["flag"] = json!({"type": "string", "default": "none"});
    new["properties"]["spec"]["properties"].as_object_mut().unwrap().remove("rig");
    let mut second = version("v2", new.clone());
    second["storage"] = false.into();
    changed["spec"]["versions"] = json!([version("v1", new), second]);
    client.put(&path, &changed).await.expect(200);
    assert_eq!(events.next().await, None, "what was watched has another shape now");

    let spec = json!({"name": "x", "sails": 3, "flag": "none"});
    assert_eq!(client.get(&format!("{BOATS}/a")).await.expect(200)["spec"], spec);
    assert_eq!(client.get(BOATS).await.expect(200)["items"][0]["spec"], spec);
    let other = client.get("/apis/example.com/v2/namespaces/default/boats/a").await.expect(200);
    assert_eq!((&other["apiVersion"], &other["spec"]), (&json!("example.com/v2"), &spec));
    let found = client.get("/apis/example.com").await.expect(200);
    assert_eq!(found["preferredVersion"]["version"], "v2");

    // A server over the same store serves the kind before anything has run.
    let store = client.0.registry().store().clone();
    let again = Client(
        carrack_server::Server::builder(store, carrack_api::kinds::builtin())
            .authorizer(std::sync::Arc::new(common::AlwaysAllow))
            .build(),
    );
    assert_eq!(again.get(&format!("{BOATS}/a")).await.expect(200)["spec"], spec);

    let mut changed = client.get(&path).await.expect(200);
    changed["spec"]["versions"][1]["served"] = false.into();
    client.put(&path, &changed).await.expect(200);
    while client.get("/apis/example.com/v2").await.code != 404 {
        tokio::task::yield_now().await;
    }
    changed = client.get(&path).await.expect(200);
    changed["spec"]["scope"] = "Cluster".into();
    let refused = client.put(&path, &changed).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["message"], "Invalid value: \"Cluster\": field is immutable");
}

#[tokio::test]
async fn names_go_to_the_first_and_come_free() {
    let client = client();
    established(&client, json!([version("v1", schema())])).await;
    let mut rival = definition(json!([version("v1", json!({"type": "object"}))]));
    rival["metadata"]["name"] = "ships.example.com".into();
    rival["spec"]["names"] = json!({"plural": "ships", "kind": "Boat"});
    rival["spec"]["versions"][0]["selectableFields"] = json!([]);
    client.post(DEFINITIONS, &rival).await.expect(201);
    let path = format!("{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3Dships.example.com");
    let mut events = Events::of(client.stream(&path, &[]).await);
    let mut seen = Vec::new();
    let mut freed = false;
    loop {
        let object = events.next().await.unwrap()["object"].take();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let Some(first) = conditions.first() else { continue };
        seen.push(first["reason"].as_str().unwrap().to_owned());
        if conditions.iter().any(|found| found["type"] == "Established" && found["status"] == "True") {
            break;
        }
        if !std::mem::replace(&mut freed, true) {
            assert_eq!(client.get("/apis/example.com/v1/namespaces/default/ships").await.code, 404);
            client.delete(&format!("{DEFINITIONS}/boats.example.com")).await.expect(200);
        }
    }
    // The names are told of first, and then served.
    assert_eq!(seen, ["ListKindConflict", "NoConflicts", "NoConflicts"]);
    client.get("/apis/example.com/v1/namespaces/default/ships").await.expect(200);
}

#[tokio::test]
async fn a_definition_that_is_going_lets_nothing_in() {
    let client = client();
    established(&client, json!([version("v1", schema())])).await;
    let mut held = boat("held", json!({"name": "x"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, &held).await.expect(201);
    client.delete(&format!("{DEFINITIONS}/boats.example.com")).await.expect(200);
    wait_for(&client, "Terminating", "True").await;
    while client.get(&format!("{BOATS}/held")).await.json()["metadata"]["deletionTimestamp"].is_null() {
        tokio::task::yield_now().await;
    }
    let refused = post(&client, &boat("late", json!({"name": "x"}))).await.expect(403);
    assert_eq!(
        refused["message"],
        "boats.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating"
    );
    let found = client.get("/apis/example.com/v1").await.expect(200);
    assert_eq!(found["resources"][0]["verbs"], json!(["delete", "deletecollection", "get", "list", "watch"]));
    client
        .patch(&format!("{BOATS}/held"), "merge-patch", &json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    while client.get(&format!("{DEFINITIONS}/boats.example.com")).await.code != 404 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn field_validation_and_metadata() {
    let client = client();
    established(&client, json!([version("v1", schema())])).await;
    let raw = r#"{"apiVersion":"example.com/v1","kind":"Boat","metadata":{"name":"d","foo":1},"spec":{"name":"ab","name":"cd","q":1}}"#;
    let json = [("content-type", "application/json")];
    let refused =
        client.send("POST", &format!("{BOATS}?fieldValidation=Strict"), &json, raw).await.expect(400);
    assert_eq!(
        refused["message"],
        "Boat in version \"v1\" cannot be handled as a Boat: strict decoding error: duplicate field \"spec.name\", \
         unknown field \"metadata.foo\", unknown field \"spec.q\""
    );
    let quiet = client.send("POST", &format!("{BOATS}?fieldValidation=Ignore"), &json, raw).await;
    assert_eq!(quiet.warnings(), Vec::<String>::new());
    assert_eq!(quiet.expect(201)["spec"], json!({"name": "cd", "sails": 3}));
    let mut odd = boat("o", json!({"name": "x"}));
    odd["kind"] = "Ship".into();
    let refused = post(&client, &odd).await.expect(422);
    assert_eq!(
        refused["message"],
        "Ship.example.com \"o\" is invalid: kind: Invalid value: \"Ship\": must be Boat"
    );
    odd.as_object_mut().unwrap().remove("kind");
    assert!(
        post(&client, &odd).await.expect(400)["message"]
            .as_str()
            .unwrap()
            .contains("Object 'Kind' is missing")
    );
    let document = client.get("/openapi/v3/apis/example.com/v1").await.expect(200);
    let published = &document["components"]["schemas"]["com.example.v1.Boat"];
    assert_eq!(published["properties"]["spec"]["properties"]["rig"]["enum"], json!(["square", "lateen"]));
    assert_eq!(published["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.name"}]));
    assert!(document["components"]["schemas"]["com.example.v1.BoatList"].is_object());
}
