//! Every verb over ConfigMaps, pods and Deployments, as a client sees it.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use common::{Client, Events};
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": {"a": "1"}})
}

#[tokio::test]
async fn create_get_update_delete() {
    let client = Client::builtin();
    let made = client.post(MAPS, &map("a")).await.expect(201);
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    assert_eq!(made["metadata"].get("generation"), None);
    let again = client.post(MAPS, &map("a")).await.expect(409);
    assert_eq!(
        (again["reason"].as_str(), again["message"].as_str()),
        (Some("AlreadyExists"), Some("configmaps \"a\" already exists"))
    );
    let path = format!("{MAPS}/a");
    assert_eq!(client.get(&path).await.expect(200), made);
    let same = client.put(&path, &made).await.expect(200);
    assert_eq!(same, made, "an empty update writes nothing");
    let mut changed = made.clone();
    changed["data"]["b"] = "2".into();
    let updated = client.put(&path, &changed).await.expect(200);
    assert_ne!(updated["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let stale = client.put(&path, &changed).await.expect(409);
    assert_eq!(stale["reason"], "Conflict");
    let gone = client.delete(&path).await.expect(200);
    assert_eq!((gone["kind"].as_str(), gone["status"].as_str()), (Some("Status"), Some("Success")));
    let missing = client.get(&path).await.expect(404);
    assert_eq!(missing["message"], "configmaps \"a\" not found");
    assert_eq!(client.put(&path, &map("a")).await.code, 404);
}

#[tokio::test]
async fn patches() {
    let client = Client::builtin();
    client.post(MAPS, &map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    let merged =
        client.patch(&path, "merge-patch", &json!({"data": {"a": null, "b": "2"}})).await.expect(200);
    assert_eq!(merged["data"], json!({"b": "2"}));
    let strategic =
        client.patch(&path, "strategic-merge-patch", &json!({"data": {"c": "3"}})).await.expect(200);
    assert_eq!(strategic["data"], json!({"b": "2", "c": "3"}));
    let ops = json!([{"op": "remove", "path": "/data/c"}]);
    let patched = client.patch(&path, "json-patch", &ops).await.expect(200);
    assert_eq!(patched["data"], json!({"b": "2"}));
    client.patch(&path, "apply-patch", &json!({})).await.expect(415);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}});
    client.patch(&path, "merge-patch", &stale).await.expect(409);
}

#[tokio::test]
async fn lists_page_over_one_snapshot() {
    let client = Client::builtin();
    for at in 0..5 {
        client.post(MAPS, &map(&format!("m{at}"))).await.expect(201);
    }
    let first = client.get(&format!("{MAPS}?limit=2")).await.expect(200);
    assert_eq!(first["kind"], "ConfigMapList");
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    assert_eq!(first["items"][0].get("kind"), None);
    client.delete(&format!("{MAPS}/m3")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = client.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(second["items"][1]["metadata"]["name"], "m3");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = client.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!((third["items"].as_array().unwrap().len(), third["metadata"].get("continue")), (1, None));
    let by_label = client.get(&format!("{MAPS}?labelSelector=app%3Dm1")).await.expect(200);
    assert_eq!(by_label["items"].as_array().unwrap().len(), 1);
    let by_name = client.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dm4").await.expect(200);
    assert_eq!(by_name["items"][0]["metadata"]["name"], "m4");
    client.get(&format!("{MAPS}?fieldSelector=spec.x%3Dm4")).await.expect(400);
    client.get(&format!("{MAPS}?resourceVersion=9999999")).await.expect(504);
}

#[tokio::test]
async fn watches_tell_transitions() {
    let client = Client::builtin();
    client.post(MAPS, &map("a")).await.expect(201);
    let mut all = Events::of(client.stream(&format!("{MAPS}?watch=1"), &[]).await);
    let mut some = Events::of(client.stream(&format!("{MAPS}?watch=1&labelSelector=app%3Da"), &[]).await);
    assert_eq!(all.brief().await, "ADDED a");
    assert_eq!(some.brief().await, "ADDED a");
    let path = format!("{MAPS}/a");
    let relabel = |value: &str| json!({"metadata": {"labels": {"app": value}}});
    client.patch(&path, "merge-patch", &relabel("b")).await.expect(200);
    assert_eq!(all.brief().await, "MODIFIED a");
    assert_eq!(some.brief().await, "DELETED a");
    client.patch(&path, "merge-patch", &relabel("a")).await.expect(200);
    assert_eq!(all.brief().await, "MODIFIED a");
    assert_eq!(some.brief().await, "ADDED a");
    client.delete(&path).await.expect(200);
    let last = all.next().await.unwrap();
    assert_eq!(last["type"], "DELETED");
    assert_eq!(last["object"]["kind"], "ConfigMap");
    assert_eq!(some.brief().await, "DELETED a");
    let rv: u64 = last["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let mut from =
        Events::of(client.stream(&format!("{MAPS}?watch=1&resourceVersion={}", rv - 1), &[]).await);
    assert_eq!(from.next().await.unwrap(), last);
}

#[tokio::test]
async fn watch_lists_end_with_a_bookmark() {
    let client = Client::builtin();
    client.post(MAPS, &map("a")).await.expect(201);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::of(client.stream(&format!("{MAPS}?{query}"), &[]).await);
    assert_eq!(events.brief().await, "ADDED a");
    let mark = events.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    client.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.expect(422);
    // An old watch from the start on is one of these, if it takes bookmarks.
    let mut old = Events::of(client.stream(&format!("{MAPS}?watch=1&allowWatchBookmarks=true"), &[]).await);
    assert_eq!(old.brief().await, "ADDED a");
    assert_eq!(old.next().await.unwrap()["type"], "BOOKMARK");
    let ended = client.get(&format!("{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=1")).await;
    assert_eq!(ended.code, 200);
}

#[tokio::test]
async fn status_and_spec_never_cross() {
    let client = Client::builtin();
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"app": "web"});
    let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"replicas": 7}});
    let made = client.post(path, &body).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"].get("replicas"), None);
    let path = format!("{path}/web");
    let both = json!({"spec": {"replicas": 3}, "status": {"replicas": 3}});
    let spec = client.patch(&path, "merge-patch", &both).await.expect(200);
    assert_eq!((&spec["spec"]["replicas"], spec["status"].get("replicas")), (&json!(3), None));
    assert_eq!(spec["metadata"]["generation"], 2);
    let both = json!({"spec": {"replicas": 4}, "status": {"replicas": 4}});
    let status = client.patch(&format!("{path}/status"), "merge-patch", &both).await.expect(200);
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(3), &json!(4)));
    assert_eq!(status["metadata"]["generation"], 2);
    let scale = client.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(3), &json!("app=web")));
    let scaled =
        client.patch(&format!("{path}/scale"), "merge-patch", &json!({"spec": {"replicas": 5}})).await;
    assert_eq!(scaled.expect(200)["spec"]["replicas"], 5);
    assert_eq!(client.get(&path).await.expect(200)["spec"]["replicas"], 5);
}

#[tokio::test]
async fn pods_bind_and_go_gracefully() {
    let client = Client::builtin();
    let pods = "/api/v1/namespaces/default/pods";
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30}});
    let made = client.post(pods, &body).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!((name.len(), &made["status"]["phase"]), (9, &json!("Pending")));
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": "n1"}});
    let other = json!({"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "n1"}});
    let other = client.post(&format!("{pods}/{name}/binding"), &other).await.expect(400);
    assert_eq!(other["message"], "name in URL does not match name in Binding object");
    client.post(&format!("{pods}/{name}/binding"), &binding).await.expect(201);
    client.post(&format!("{pods}/{name}/binding"), &binding).await.expect(409);
    let bound = client.get(&format!("{pods}/{name}")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let found = client.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let going = client.delete(&format!("{pods}/{name}")).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    client.delete(&format!("{pods}/{name}")).await.expect(200);
    client.delete(&format!("{pods}/{name}?gracePeriodSeconds=0")).await.expect(200);
    client.get(&format!("{pods}/{name}")).await.expect(404);
}

#[tokio::test]
async fn what_no_route_takes_is_not_warned_of() {
    let client = Client::builtin();
    let endpoints = "/api/v1/namespaces/default/endpoints";
    for (accept, code, warnings) in [("application/json", 200, 1), ("text/plain", 406, 0)] {
        let answer = client.send("GET", endpoints, &[("accept", accept)], "").await;
        assert_eq!((answer.code, answer.warnings().len()), (code, warnings), "{accept}");
    }
}

#[tokio::test]
async fn pods_with_gates_are_not_bound() {
    let client = Client::builtin();
    let pods = "/api/v1/namespaces/default/pods";
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i"}], "schedulingGates": [{"name": "x.y/z"}],
        "schedulingGroup": {"podGroupName": "g"}}});
    let made = client.post(pods, &body).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n1"}});
    let refused = client.post(&format!("{pods}/p/binding"), &binding).await.expect(409);
    let detail = "pod p has non-empty .spec.schedulingGates";
    assert!(refused["message"].as_str().unwrap().ends_with(detail), "{refused}");
    // What is behind a gate of the server's is not kept, though its writer owns it.
    assert_eq!(made["spec"].get("schedulingGroup"), None);
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(owned["f:schedulingGroup"].is_object(), "{owned}");
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted() {
    let client = Client::builtin();
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.post(MAPS, &held).await.expect(201);
    let path = format!("{MAPS}/held");
    let going = client.delete(&path).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    client.patch(&path, "merge-patch", &json!({"metadata": {"finalizers": null}})).await.expect(200);
    client.get(&path).await.expect(404);
    client.post(MAPS, &map("parent")).await.expect(201);
    let path = format!("{MAPS}/parent?propagationPolicy=Foreground");
    let going = client.delete(&path).await.expect(200);
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn dry_runs_leave_no_trace() {
    let client = Client::builtin();
    let made = client.post(&format!("{MAPS}?dryRun=All"), &map("a")).await.expect(201);
    assert_eq!(made["metadata"].get("resourceVersion"), None);
    client.get(&format!("{MAPS}/a")).await.expect(404);
    client.post(MAPS, &map("a")).await.expect(201);
    let patch = json!({"data": {"x": "y"}});
    let patched = client.patch(&format!("{MAPS}/a?dryRun=All"), "merge-patch", &patch).await.expect(200);
    assert_eq!(patched["data"]["x"], "y");
    client.delete(&format!("{MAPS}/a?dryRun=All")).await.expect(200);
    assert_eq!(client.get(&format!("{MAPS}/a")).await.expect(200)["data"], json!({"a": "1"}));
    client.post(&format!("{MAPS}?dryRun=Some"), &map("b")).await.expect(422);
}

#[tokio::test]
async fn unknown_fields() {
    let client = Client::builtin();
    let mut odd = map("a");
    odd["metadata"]["foo"] = "x".into();
    let strict = client.post(&format!("{MAPS}?fieldValidation=Strict"), &odd).await.expect(400);
    assert_eq!(
        strict["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.foo\""
    );
    let warned = client.post(MAPS, &odd).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"metadata.foo\\\"\""]);
    assert_eq!(warned.expect(201)["metadata"].get("foo"), None);
    odd["metadata"]["name"] = "b".into();
    assert!(client.post(&format!("{MAPS}?fieldValidation=Ignore"), &odd).await.warnings().is_empty());
}
