//! Evictions ask disruption budgets, in upstream's words.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use common::Client;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn pod(client: &Client, name: &str, phase: &str, ready: bool) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    client.post(PODS, &pod).await.expect(201);
    let word = if ready { "True" } else { "False" };
    let status = json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": word}]}});
    client.patch(&format!("{PODS}/{name}/status"), "merge-patch", &status).await.expect(200);
}

async fn budget(client: &Client, name: &str, status: Value) {
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    client.post(BUDGETS, &budget).await.expect(201);
    let patch = json!({"status": status});
    client.patch(&format!("{BUDGETS}/{name}/status"), "merge-patch", &patch).await.expect(200);
}

async fn evict(client: &Client, name: &str) -> (u16, Value) {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let answer = client.post(&format!("{PODS}/{name}/eviction"), &eviction).await;
    let code = answer.code;
    (code, answer.expect(code))
}

fn status(generation: i64, allowed: i64, healthy: i64) -> Value {
    json!({"observedGeneration": generation, "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": 1, "expectedPods": healthy})
}

#[tokio::test]
async fn a_budget_counts_down_and_then_refuses() {
    let client = Client::builtin();
    budget(&client, "b", status(1, 1, 2)).await;
    pod(&client, "p1", "Running", true).await;
    pod(&client, "p2", "Running", true).await;
    assert_eq!(evict(&client, "p1").await.0, 201);
    let left = client.get(&format!("{BUDGETS}/b")).await.expect(200)["status"].clone();
    assert_eq!(left["disruptionsAllowed"], 0);
    assert!(left["disruptedPods"]["p1"].is_string(), "{left}");
    assert_eq!(left["conditions"][0]["reason"], "InsufficientPods");
    let gone = client.get(&format!("{PODS}/p1")).await.expect(200);
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
    let told = gone["status"]["conditions"].as_array().unwrap();
    assert!(told.iter().any(|one| one["reason"] == "EvictionByEvictionAPI"), "{told:?}");

    let patch = json!({"status": {"currentHealthy": 1}});
    client.patch(&format!("{BUDGETS}/b/status"), "merge-patch", &patch).await.expect(200);
    let (code, refused) = evict(&client, "p2").await;
    assert_eq!((code, &refused["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(refused["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(
        refused["details"]["causes"],
        json!([{"reason": "DisruptionBudget",
            "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}])
    );
}

#[tokio::test]
async fn a_budget_that_is_behind_asks_to_wait() {
    let client = Client::builtin();
    budget(&client, "b", status(0, 1, 2)).await;
    pod(&client, "p", "Running", true).await;
    let (code, refused) = evict(&client, "p").await;
    assert_eq!((code, &refused["details"]["retryAfterSeconds"]), (429, &json!(10)));
    let message = "The disruption budget b is still being processed by the server.";
    assert_eq!(refused["details"]["causes"][0]["message"], message);
}

#[tokio::test]
async fn pods_that_serve_nobody_need_no_budget() {
    let client = Client::builtin();
    budget(&client, "b", status(1, 0, 1)).await;
    pod(&client, "pending", "Pending", false).await;
    pod(&client, "unready", "Running", false).await;
    pod(&client, "ready", "Running", true).await;
    assert_eq!(evict(&client, "pending").await.0, 201);
    // Enough others are healthy: this one may go.
    assert_eq!(evict(&client, "unready").await.0, 201);
    assert_eq!(evict(&client, "ready").await.0, 429);
    budget(&client, "second", status(1, 1, 1)).await;
    let (code, refused) = evict(&client, "ready").await;
    assert_eq!(code, 500);
    assert!(refused["message"].as_str().unwrap().contains("more than one PodDisruptionBudget"));
    let other = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "other"}});
    let wrong = client.post(&format!("{PODS}/ready/eviction"), &other).await.expect(400);
    assert_eq!(wrong["message"], "name in URL does not match name in Eviction object");
}
