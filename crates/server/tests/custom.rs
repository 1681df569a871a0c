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
