//! The contract of every stored kind: the same verbs, the same answers. A kind that
//! is added to the table is tested by being there.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use std::sync::Arc;

use carrack_api::Kind;
use carrack_api::schema::{Field, Schema, Ty};
use common::{Client, Events};
use serde_json::{Value, json};

/// The least object of a kind that validation lets pass, without metadata.
fn example(kind: &Kind) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let labels = json!({"app": "a"});
    let template = |restart: &str| {
        let mut spec = pod.clone();
        spec["restartPolicy"] = restart.into();
        json!({"metadata": {"labels": labels}, "spec": spec})
    };
    let workload = || json!({"spec": {"selector": {"matchLabels": labels}, "template": template("Always")}});
    match &*kind.resource {
        "pods" => json!({"spec": pod}),
        "podtemplates" => json!({"template": template("Always")}),
        "replicationcontrollers" => json!({"spec": {"selector": labels, "template": template("Always")}}),
        "deployments.apps" | "replicasets.apps" | "daemonsets.apps" => workload(),
        "statefulsets.apps" => {
            let mut all = workload();
            all["spec"]["serviceName"] = "s".into();
            all
        }
        "controllerrevisions.apps" => json!({"revision": 1, "data": {}}),
        "jobs.batch" => json!({"spec": {"template": template("Never")}}),
        "cronjobs.batch" => {
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template("Never")}}}})
        }
        "services" => {
            json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "selector": labels, "ports": [{"port": 80}]}})
        }
        "endpointslices.discovery.k8s.io" => json!({"addressType": "IPv4", "endpoints": []}),
        "ipaddresses.networking.k8s.io" => {
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}})
        }
        "servicecidrs.networking.k8s.io" => json!({"spec": {"cidrs": ["10.97.0.0/16"]}}),
        "events" if kind.is_alias() => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
            "action": "a", "reason": "r", "type": "Normal",
            "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        }),
        "events" => json!({
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "r", "type": "Normal",
        }),
        "roles.rbac.authorization.k8s.io" | "clusterroles.rbac.authorization.k8s.io" => json!({"rules": []}),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}})
        }
        "ingresses.networking.k8s.io" => {
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}})
        }
        "horizontalpodautoscalers.autoscaling" => {
            json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
        }
        "persistentvolumeclaims" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "persistentvolumes" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}})
        }
        "apiservices.apiregistration.k8s.io" => {
            json!({"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10}})
        }
        "priorityclasses.scheduling.k8s.io" => json!({"value": 1}),
        "runtimeclasses.node.k8s.io" => json!({"handler": "h"}),
        "storageclasses.storage.k8s.io" => json!({"provisioner": "p"}),
        "ingressclasses.networking.k8s.io" => json!({"spec": {"controller": "example.com/c"}}),
        "csistoragecapacities.storage.k8s.io" => json!({"storageClassName": "c"}),
        "volumeattachments.storage.k8s.io" => {
            json!({"spec": {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "volumeattributesclasses.storage.k8s.io" => {
            json!({"driverName": "a.example.com", "parameters": {"a": "b"}})
        }
        "certificatesigningrequests.certificates.k8s.io" => {
            json!({"spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"]}})
        }
        "resourceclaimtemplates.resource.k8s.io" => json!({"spec": {"spec": {}}}),
        "resourceslices.resource.k8s.io" => json!({"spec": {
            "driver": "d.example.com", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }}),
        "flowschemas.flowcontrol.apiserver.k8s.io" => {
            json!({"spec": {"priorityLevelConfiguration": {"name": "p"}}})
        }
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "validatingadmissionpolicies.admissionregistration.k8s.io" => json!({"spec": {
            "matchConstraints": rules(), "validations": [{"expression": "true"}],
        }}),
        "validatingadmissionpolicybindings.admissionregistration.k8s.io" => {
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        "mutatingadmissionpolicies.admissionregistration.k8s.io" => json!({"spec": {
            "matchConstraints": rules(), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
        }}),
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io" => {
            json!({"spec": {"policyName": "p"}})
        }
        "customresourcedefinitions.apiextensions.k8s.io" => json!({"spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "contracts", "kind": "Contract"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        _ => json!({}),
    }
}

/// A certificate request, in base64.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIaE1JR0hBZ0VBTUNVeEVEQU9CZ05WQkFvTUIyVjRZVzF3YkdVeEVUQVBCZ05WQkFNTUNHTnZiblJ5WVdOMApNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVEZTJyTC8yOUhLdFpUcGtnRXVuUDdUa3ZUbGtxCkFQUDVXd1lTcU8xOUpJSCs4TTBLM2J1bFVsUWlRRVY2TDVqeUZMemtYTXpoVGoyUjZQbEVTMmd1aXFBQU1Bb0cKQ0NxR1NNNDlCQU1DQTBrQU1FWUNJUUREVDBjeWRaYmhPQXZLVjNnLzR0dXhOdTA2QU54UmdtTHp0N0JHUFJhQwpiUUloQU52YUVtYlQ5K09xcEZ3TmRuMjBwTzZERENiWGx1MjJRNlkrS3ZXK2dPS2YKLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

/// What an admission policy is about.
fn rules() -> Value {
    json!({"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
    ]})
}

fn object(kind: &Kind, version: usize, name: &str) -> Value {
    let mut object = example(kind);
    object["apiVersion"] = kind.api_version(version).into();
    object["kind"] = (&*kind.kind).into();
    object["metadata"] = json!({"name": name, "labels": {"contract": "yes"}});
    object
}

fn path(kind: &Kind, version: usize) -> String {
    let root = match &*kind.group {
        "" => format!("/api/{}", kind.versions[version].name),
        group => format!("/apis/{group}/{}", kind.versions[version].name),
    };
    let scope = if kind.namespaced { "/namespaces/default" } else { "" };
    format!("{root}{scope}/{}", kind.plural)
}

/// Runs the contract for one kind's version.
async fn check(client: &Client, kind: &Kind, version: usize) {
    let collection = path(kind, version);
    let name = match &*kind.resource {
        "ipaddresses.networking.k8s.io" => "10.96.1.7",
        "apiservices.apiregistration.k8s.io" => "v1.example.com",
        "customresourcedefinitions.apiextensions.k8s.io" => "contracts.example.com",
        _ => "contract",
    };
    let one = format!("{collection}/{name}");
    let verb = |verb: &str| kind.verbs.iter().any(|v| &**v == verb);
    assert_eq!(client.get(&one).await.code, 404, "{one}");
    if !verb("create") {
        return;
    }
    let body = object(kind, version, name);
    let made = client.post(&collection, &body).await.expect(201);
    assert_eq!((&made["kind"], &made["apiVersion"]), (&body["kind"], &body["apiVersion"]), "{one}");
    client.post(&collection, &body).await.expect(409);
    let read = client.get(&one).await.expect(200);
    assert_eq!(read, made, "{one}");
    let mut events = Events::of(client.stream(&format!("{collection}?watch=1"), &[]).await);
    let added = events.next().await.unwrap();
    assert_eq!((&added["type"], &added["object"]), (&json!("ADDED"), &read), "{one}");
    let list = client.get(&format!("{collection}?labelSelector=contract")).await.expect(200);
    assert_eq!(list["kind"], kind.list_kind());
    assert_eq!(list["items"][0]["metadata"], read["metadata"], "{one}");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = client.send("GET", &collection, &table, "").await.expect(200);
    // (Upstream tells the age of IPAddresses without a column for it.)
    let more = usize::from(&*kind.plural == "ipaddresses");
    assert_eq!(
        table["columnDefinitions"].as_array().unwrap().len() + more,
        table["rows"][0]["cells"].as_array().unwrap().len(),
        "{one}"
    );
    let meta = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let mut expect = read["metadata"].clone();
    if &*kind.plural == "daemonsets" {
        // A counter that is no annotation of the internal type, which this is made of.
        expect.as_object_mut().unwrap().remove("annotations");
    }
    assert_eq!(client.send("GET", &one, &meta, "").await.expect(200)["metadata"], expect);

    let unchanged = client.put(&one, &read).await.expect(200);
    assert_eq!(unchanged, read, "an empty update of {one} writes nothing");
    let patch = json!({"metadata": {"labels": {"second": "yes"}}});
    let patched = client.patch(&one, "merge-patch", &patch).await.expect(200);
    assert_ne!(patched["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"], "{one}");
    let modified = events.next().await.unwrap();
    assert_eq!((&modified["type"], &modified["object"]), (&json!("MODIFIED"), &patched), "{one}");
    client.put(&one, &read).await.expect(409);
    // Custom kinds know no strategic merge.
    let patch = if kind.custom { "merge-patch" } else { "strategic-merge-patch" };
    let patched =
        client.patch(&one, patch, &json!({"metadata": {"labels": {"third": "yes"}}})).await.expect(200);
    for label in ["contract", "second", "third"] {
        assert_eq!(patched["metadata"]["labels"][label], "yes", "{one}");
    }
    assert_eq!(events.next().await.unwrap()["type"], "MODIFIED");
    let mut wrong = read.clone();
    wrong["metadata"]["name"] = "other".into();
    client.put(&one, &wrong).await.expect(400);
    delete(client, kind, &one, &mut events).await;
}

async fn delete(client: &Client, kind: &Kind, one: &str, events: &mut Events) {
    let precondition = json!({"preconditions": {"uid": "other"}}).to_string();
    let json = [("content-type", "application/json")];
    client.send("DELETE", one, &json, precondition).await.expect(409);
    let answer = client.delete(&format!("{one}?propagationPolicy=Background")).await.expect(200);
    if &*kind.resource == "namespaces" {
        assert_eq!(answer["status"]["phase"], "Terminating");
        let mut finalized = answer.clone();
        finalized["spec"]["finalizers"] = json!([]);
        client.put(&format!("{one}/finalize"), &finalized).await.expect(200);
        let marked = events.next().await.unwrap();
        assert_eq!(marked["object"], answer);
    }
    if &*kind.resource == carrack_api::crd::RESOURCE {
        tokio::spawn(carrack_server::crd::run(client.0.registry().clone()));
    }
    let mut gone = events.next().await.unwrap();
    while gone["type"] == "MODIFIED" && &*kind.resource == carrack_api::crd::RESOURCE {
        gone = events.next().await.unwrap();
    }
    assert_eq!(gone["type"], "DELETED", "{one}");
    assert_eq!(client.get(one).await.code, 404, "{one}");
    client.delete(one).await.expect(404);
}

#[tokio::test]
async fn every_kind_keeps_the_contract() {
    let kinds = carrack_api::kinds::builtin();
    let mut failed = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.stored()) {
        for version in 0..kind.versions.len() {
            let (kind, name) = (kind.clone(), format!("{}/{}", kind.resource, kind.api_version(version)));
            // A store each, so that one failure does not hide another.
            let run = tokio::spawn(async move { check(&Client::builtin(), &kind, version).await });
            if run.await.is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_custom_kind_keeps_the_contract() {
    for scope in ["Namespaced", "Cluster"] {
        let definition = json!({
            "metadata": {"name": "ships.example.com"},
            "spec": {"group": "example.com", "scope": scope, "versions": [
                {"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v2", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
            "status": {"acceptedNames": {"plural": "ships", "singular": "ship", "kind": "Ship", "listKind": "ShipList"},
                "conditions": [{"type": "Established", "status": "True"}]},
        });
        let kind = carrack_api::crd::kind(&definition).unwrap();
        for version in 0..2 {
            let client = Client::builtin();
            client.0.registry().change_kinds(|kinds| kinds.with(kind.clone()));
            let kind = client.0.registry().kinds().stored("ships.example.com").unwrap().clone();
            check(&client, &kind, version).await;
        }
    }
}

/// A custom kind with a field that upstream does not have.
fn boats() -> Kind {
    let mut schema = Schema::default();
    let sails = schema.add(carrack_api::schema::Object {
        name: "com.example.v1.Boat.spec".into(),
        fields: [Field::new("sails", Ty::Int64), Field::new("name", Ty::String)].into(),
        ..Default::default()
    });
    let status = schema.add(carrack_api::schema::Object {
        name: "com.example.v1.Boat.status".into(),
        fields: [Field::new("afloat", Ty::Bool)].into(),
        ..Default::default()
    });
    let metadata = schema.add(carrack_api::schema::Object {
        name: "com.example.v1.Boat.metadata".into(),
        preserve_unknown: true,
        ..Default::default()
    });
    let root = schema.add(carrack_api::schema::Object {
        name: "com.example.v1.Boat".into(),
        fields: [
            Field::new("apiVersion", Ty::String),
            Field::new("kind", Ty::String),
            Field::new("metadata", Ty::Object(metadata)),
            Field::new("spec", Ty::Object(sails)),
            Field::new("status", Ty::Object(status)),
        ]
        .into(),
        group_version_kinds: [("example.com".into(), "v1".into(), "Boat".into())].into(),
        ..Default::default()
    });
    let verbs: Box<[Box<str>]> =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            .map(Into::into)
            .into();
    Kind {
        group: "example.com".into(),
        kind: "Boat".into(),
        plural: "boats".into(),
        singular: "boat".into(),
        short_names: [].into(),
        categories: [].into(),
        namespaced: true,
        resource: "boats.example.com".into(),
        stored_group: "example.com".into(),
        versions: [carrack_api::kind::Version {
            name: "v1".into(),
            schema: Arc::new(schema),
            root,
            types: br#""kind":"Boat","apiVersion":"example.com/v1","#.as_slice().into(),
        }]
        .into(),
        storage: 0,
        verbs,
        subresources: [carrack_api::kind::Subresource {
            name: "status".into(),
            kind: "Boat".into(),
            group: "example.com".into(),
            version: "v1".into(),
            verbs: ["get", "patch", "update"].map(Into::into).into(),
        }]
        .into(),
        selectable: ["spec.name".into()].into(),
        field_paths: ["spec.name".into()].into(),
        custom: true,
        definition: None,
    }
}

#[tokio::test]
async fn a_kind_that_arrives_at_run_time_passes_through_the_same_pipeline() {
    let client = Client::builtin();
    let boats_path = "/apis/example.com/v1/namespaces/default/boats";
    assert_eq!(client.get(boats_path).await.code, 404);
    client.0.registry().change_kinds(|kinds| kinds.with(boats()));

    let mut boat = json!({"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "santa-maria"},
        "spec": {"sails": 3, "name": "carrack", "engine": true}, "status": {"afloat": true}});
    let made = client.post(boats_path, &boat).await;
    assert_eq!(made.warnings(), ["299 - \"unknown field \\\"spec.engine\\\"\""]);
    let made = made.expect(201);
    assert_eq!(made["spec"], json!({"sails": 3, "name": "carrack"}));
    assert_eq!((made.get("status"), &made["metadata"]["generation"]), (None, &json!(1)));
    boat["spec"]["sails"] = "three".into();
    boat["metadata"]["name"] = "b".into();
    client.post(boats_path, &boat).await.expect(400);
    let one = format!("{boats_path}/santa-maria");
    let selected = client.get(&format!("{boats_path}?fieldSelector=spec.name%3Dcarrack")).await.expect(200);
    assert_eq!(selected["items"][0]["kind"], "Boat", "items of custom lists carry their types");
    let sails = json!({"spec": {"sails": 4}, "status": {"afloat": true}});
    let patched = client.patch(&one, "merge-patch", &sails).await.expect(200);
    assert_eq!((patched.get("status"), &patched["metadata"]["generation"]), (None, &json!(2)));
    let status = client.patch(&format!("{one}/status"), "merge-patch", &sails).await.expect(200);
    assert_eq!((&status["status"]["afloat"], &status["metadata"]["generation"]), (&json!(true), &json!(2)));
    client.patch(&one, "strategic-merge-patch", &sails).await.expect(415);
    let found = client.get("/apis/example.com/v1").await.expect(200);
    assert_eq!(found["resources"][0]["name"], "boats");
    let openapi = client.get("/openapi/v3/apis/example.com/v1").await.expect(200);
    assert!(openapi["components"]["schemas"]["com.example.v1.Boat"].is_object());
    client.delete(&one).await.expect(200);
    client.get(&one).await.expect(404);
}

#[tokio::test]
async fn discovery_and_openapi_cover_every_kind() {
    let client = Client::builtin();
    let index: Value = serde_json::from_slice(&client.get("/openapi/v3").await.body).unwrap();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = client.send("GET", "/apis", &[("accept", accept)], "").await;
    assert_eq!(groups.headers["content-type"], accept);
    assert!(groups.json()["items"].as_array().unwrap().iter().any(|g| g["metadata"]["name"] == "apps"));
    for (path, entry) in index["paths"].as_object().unwrap() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let document = client.get(url).await.expect(200);
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{path}: {name} is missing");
        }
        // (This server issues no tokens.)
        if !path.contains("openid") {
            client.get(&format!("/{path}")).await.expect(200);
        }
    }
    if cfg!(feature = "descriptions") {
        let core = client.get("/openapi/v3/api/v1").await.expect(200);
        let pod = &core["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert!(pod["description"].as_str().unwrap().starts_with("Pod is a collection of containers"));
        let spec = pod["properties"]["spec"]["description"].as_str().unwrap();
        assert!(spec.starts_with("Specification of the desired behavior of the pod."));
    }
    let v2 = client.get("/openapi/v2").await.expect(200);
    assert!(v2["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    let v2_text = v2.to_string();
    let mut shared: Vec<&str> = v2_text
        .split("\"#/parameters/")
        .skip(1)
        .map(|text| text.split('"').next().unwrap_or_default())
        .collect();
    shared.sort_unstable();
    shared.dedup();
    let defined: Vec<&String> = v2["parameters"].as_object().unwrap().keys().collect();
    assert_eq!(defined, shared, "what is shared is what is referred to");
    let namespace =
        json!({"in": "path", "name": "namespace", "required": true, "type": "string", "uniqueItems": true});
    assert_eq!(v2["parameters"]["namespace-vgWSWtn3"], namespace);
    let patch = &v2["paths"]["/api/v1/nodes/{name}"]["patch"]["parameters"];
    assert_eq!(patch[0], json!({"$ref": "#/parameters/body-78PwaGsr"}));
    assert_eq!(patch[1]["name"], "dryRun", "old clients look for it in the operation");
    assert_eq!(client.get("/version").await.expect(200)["minor"], "36");
    assert_eq!(client.get("/readyz?verbose").await.code, 200);
    client.get("/nothing").await.expect(404);
}

#[tokio::test]
async fn documents_refuse_without_a_word() {
    let client = Client::builtin();
    for (path, accept, code) in [
        ("/openapi/v3/nope", "application/json", 404),
        ("/openapi/v3/apis/apps/v7", "application/json", 404),
        ("/openapi/v2", "text/html", 406),
    ] {
        let answer = client.send("GET", path, &[("accept", accept)], "").await;
        assert_eq!((answer.code, answer.body.len()), (code, 0), "{path}");
        assert!(!answer.headers.contains_key("content-type"), "{path}");
    }
    // It does not look at the method.
    assert_eq!(client.send("POST", "/openapi/v2", &[], "{}").await.code, 200);
}

#[tokio::test]
async fn discovery_is_protobuf_for_those_who_take_nothing_else() {
    let client = Client::builtin();
    let schema = carrack_api::facts::schema();
    let protobuf = "application/vnd.kubernetes.protobuf";
    for (path, kind, field) in [
        ("/api", "APIVersions", "versions"),
        ("/apis", "APIGroupList", "groups"),
        ("/apis/apps", "APIGroup", "versions"),
        ("/apis/apps/v1", "APIResourceList", "resources"),
    ] {
        let answer = client.send("GET", path, &[("accept", protobuf)], "").await;
        assert_eq!(answer.headers["content-type"], protobuf, "{path}");
        let envelope = carrack_api::proto::open(&answer.body).unwrap();
        assert_eq!(envelope.kind, kind);
        let root = schema.find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")).unwrap();
        let told = carrack_api::proto::decode(&schema, root, envelope.raw).unwrap();
        assert_eq!(told[field], client.get(path).await.expect(200)[field], "{path}");
    }
}

#[tokio::test]
async fn readiness_waits_for_the_stages_of_the_start() {
    let progress = carrack_server::bootstrap::Progress::default();
    let builder = common::builder(carrack_api::kinds::builtin());
    let server = builder.starting(&progress).build();
    let (registry, client) = (server.registry().clone(), Client(server));
    let told = async || {
        let answer = client.get("/readyz?verbose").await;
        (answer.code, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let (code, text) = told().await;
    assert!(code == 500 && text.contains("[-]poststarthook/rbac/bootstrap-roles failed"), "{text}");
    carrack_server::bootstrap::bootstrap_roles(&registry, &progress).await.unwrap();
    let (code, text) = told().await;
    assert!(code == 500 && text.contains("[+]poststarthook/rbac/bootstrap-roles ok"), "{text}");
    assert!(text.contains("[-]autoregister-completion failed"), "{text}");
}

#[tokio::test]
async fn namespaces_lie_in_no_namespace() {
    let client = Client::builtin();
    let namespace = json!({"metadata": {"name": "a"}});
    client.post("/api/v1/namespaces", &namespace).await.expect(201);
    for path in ["/api/v1/namespaces/a/namespaces", "/api/v1/namespaces/b/namespaces/a"] {
        client.get(path).await.expect(404);
        client.post(path, &namespace).await.expect(404);
    }
    client.get("/api/v1/namespaces/a").await.expect(200);
}

#[tokio::test]
async fn pages_about_the_server_name_its_settings_and_paths() {
    let client = Client::builtin();
    let page = client.send("GET", "/statusz", &[("accept", "text/plain")], "").await;
    assert!(page.code == 200 && String::from_utf8_lossy(&page.body).contains("\nPaths: /flagz "));
    let accept = "application/json;as=Flagz;v=v1alpha1;g=config.k8s.io";
    let page = client.send("GET", "/flagz", &[("accept", accept)], "").await;
    assert_eq!(page.warnings().len(), 1);
    assert_eq!(page.expect(200)["kind"], "Flagz");
    let refused = client.send("GET", "/flagz", &[("accept", "application/json")], "").await.expect(406);
    let types = "only the following media types are accepted: application/json, application/yaml, text/plain";
    assert_eq!(refused["message"], types);
    let slis = client.get("/metrics/slis").await;
    let line = "kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1";
    assert!(String::from_utf8_lossy(&slis.body).lines().any(|told| told == line));
    assert_eq!(client.get("/debug/pprof/heap").await.code, 404);
}

#[tokio::test]
async fn who_selects_is_told_of_more_as_long_as_there_is_something_to_look_through() {
    let client = Client::builtin();
    let maps = "/api/v1/namespaces/default/configmaps";
    client.post("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
    for (name, labels) in [("a", json!({"sweep": "yes"})), ("b", json!({}))] {
        client.post(maps, &json!({"metadata": {"name": name, "labels": labels}})).await.expect(201);
    }
    let listed = client.get(&format!("{maps}?labelSelector=sweep&limit=1")).await.expect(200);
    let token = listed["metadata"]["continue"].as_str().unwrap();
    let rest = client.get(&format!("{maps}?labelSelector=sweep&limit=1&continue={token}")).await.expect(200);
    assert_eq!((&rest["items"], &rest["metadata"]["continue"]), (&json!([]), &json!(null)));
    let swept = client.delete(&format!("{maps}?labelSelector=sweep&limit=1")).await.expect(200);
    assert_eq!(swept["items"][0]["metadata"]["name"], "a");
    assert!(swept["metadata"]["continue"].is_string());
    client.get(&format!("{maps}/a")).await.expect(404);
}

#[tokio::test]
async fn health_has_a_path_for_every_check_it_tells_of() {
    let client = Client::builtin();
    let root = client.get("/").await.expect(200);
    let text = |answer: &common::Answer| String::from_utf8_lossy(&answer.body).into_owned();
    for health in ["/healthz", "/livez", "/readyz"] {
        let told = text(&client.get(&format!("{health}?verbose")).await);
        let names = told.lines().filter_map(|line| line.strip_prefix("[+]")?.strip_suffix(" ok"));
        let paths: Vec<String> = names.map(|name| format!("{health}/{name}")).collect();
        assert!(paths.len() > 30, "{told}");
        for path in &paths {
            assert!(root["paths"].as_array().unwrap().iter().any(|known| known == path), "{path}");
        }
        assert_eq!(text(&client.get(&format!("{health}/poststarthook/rbac/bootstrap-roles")).await), "ok");
        assert_eq!(client.get(&format!("{health}/")).await.code, 404);
    }
    let excluded = client.get("/readyz?verbose&exclude=poststarthook/rbac/bootstrap-roles").await;
    assert!(text(&excluded).contains("[+]poststarthook/rbac/bootstrap-roles excluded: ok"));
}
