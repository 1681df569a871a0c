//! The whole scheduler on a small API: it binds, waits for what helps, and says why.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::sync::Arc;
use std::time::Duration;

use carrack_client::SystemClock;
use carrack_client::fake::Fake;
use carrack_client::resource::{EVENTS, NODES, PODS};
use carrack_scheduler::{Context, start};
use serde_json::{Value, json};

fn node(cpu: &str) -> Value {
    json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "500"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "schedulerName": "default-scheduler",
        "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn bound(fake: &Fake) -> usize {
    fake.list(&PODS).iter().filter(|pod| pod["spec"]["nodeName"] == "n1").count()
}

fn context(fake: &Arc<Fake>) -> Context {
    let clients = fake.clone();
    Context {
        source: Arc::new(fake.clone()),
        clients: Arc::new(move |identity| clients.client(&identity.user)),
        clock: Arc::new(SystemClock),
        seed: 1,
        profiles: vec![carrack_scheduler::decide::Profile::default()],
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_until_there_is_room() {
    let fake = Fake::new(Duration::from_millis(20), 3);
    let scheduler = start(context(&fake));
    fake.put(&PODS, pod("p", "2"));
    fake.until(|fake| !fake.list(&EVENTS).is_empty()).await;
    assert_eq!(fake.list(&EVENTS)[0]["message"], "no nodes available to schedule pods");
    fake.put(&NODES, node("1"));
    let condition = |fake: &Fake| fake.list(&PODS)[0]["status"]["conditions"][0].clone();
    fake.until(|fake| condition(fake)["message"].as_str().is_some_and(|text| text.contains("cpu"))).await;
    assert_eq!(condition(&fake)["reason"], "Unschedulable");
    fake.put(&NODES, node("4"));
    fake.until(|fake| bound(fake) == 1).await;
    fake.until(|fake| fake.list(&EVENTS).iter().any(|event| event["reason"] == "Scheduled")).await;
    scheduler.abort();
}

#[tokio::test(start_paused = true)]
async fn late_caches_and_broken_bindings_never_overfill_a_node() {
    for seed in 0..8 {
        let fake = Fake::new(Duration::from_millis(150), seed);
        fake.put(&NODES, node("10"));
        let scheduler = start(context(&fake));
        for i in 0..30 {
            fake.put(&PODS, pod(&format!("p{i}"), "1"));
        }
        // The answer to a binding is lost just as the room runs out.
        fake.until(|fake| bound(fake) >= 2 + seed as usize).await;
        fake.break_write(1);
        fake.until(|fake| bound(fake) >= 10).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(bound(&fake), 10, "seed {seed}");
        scheduler.abort();
    }
}
