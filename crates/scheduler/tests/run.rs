//! The whole scheduler on a small API: it binds, waits for what helps, and says why.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::sync::Arc;
use std::time::Duration;

use carrack_client::SystemClock;
use carrack_client::fake::Fake;
use carrack_client::resource::{
    EVENTS, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES,
};
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

fn named(fake: &Fake, name: &str) -> Option<Value> {
    fake.get(&PODS, "default", name)
}

fn on_node(fake: &Fake, name: &str) -> bool {
    named(fake, name).is_some_and(|pod| pod["spec"]["nodeName"] == "n1")
}

fn reasons(fake: &Fake) -> Vec<String> {
    fake.list(&EVENTS).iter().map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn pods_of_lower_priority_make_room() {
    for seed in 0..4 {
        let fake = Fake::new(Duration::from_millis(50), seed);
        fake.put(&NODES, node("3"));
        let scheduler = start(context(&fake));
        for name in ["low1", "low2", "low3"] {
            fake.put(&PODS, pod(name, "1"));
        }
        fake.until(|fake| bound(fake) == 3).await;
        let mut high = pod("high", "2");
        high["spec"]["priority"] = 10.into();
        fake.put(&PODS, high);
        // The victims go gracefully; until they are gone, the node is kept for the pod.
        let leaving = |fake: &Fake| -> Vec<String> {
            let pods = fake.list(&PODS);
            let leaving = pods.iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
            leaving.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        fake.until(|fake| leaving(fake).len() == 2).await;
        fake.until(|fake| named(fake, "high").is_some_and(|pod| pod["status"]["nominatedNodeName"] == "n1"))
            .await;
        assert_eq!((on_node(&fake, "high"), leaving(&fake).len()), (false, 2));
        for name in leaving(&fake) {
            let status = named(&fake, &name).unwrap()["status"].clone();
            assert_eq!(status["conditions"][0]["reason"], "PreemptionByScheduler");
            fake.remove(&PODS, "default", &name);
        }
        fake.until(|fake| on_node(fake, "high")).await;
        // No more than needed went, and whoever went was told why.
        assert_eq!((bound(&fake), fake.list(&PODS).len()), (2, 2), "seed {seed}");
        fake.until(|fake| reasons(fake).iter().filter(|reason| *reason == "Preempted").count() == 2).await;
        let mut never = pod("never", "1");
        never["spec"]["priority"] = 20.into();
        never["spec"]["preemptionPolicy"] = "Never".into();
        fake.put(&PODS, never);
        let waits = |fake: &Fake| {
            let condition = named(fake, "never").map(|pod| pod["status"]["conditions"][0].clone());
            condition.is_some_and(|one| {
                one["message"].as_str().is_some_and(|text| text.contains("preemptionPolicy=Never"))
            })
        };
        fake.until(waits).await;
        assert_eq!(bound(&fake), 2);
        scheduler.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn gates_hold_a_pod_until_they_are_gone() {
    let fake = Fake::new(Duration::from_millis(20), 5);
    fake.put(&NODES, node("4"));
    let scheduler = start(context(&fake));
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    fake.put(&PODS, gated.clone());
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = "someone-else".into();
    fake.put(&PODS, other);
    fake.put(&PODS, pod("free", "1"));
    fake.until(|fake| on_node(fake, "free")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bound(&fake), 1);
    let mut open = named(&fake, "gated").unwrap();
    open["spec"].as_object_mut().unwrap().remove("schedulingGates");
    fake.put(&PODS, open);
    fake.until(|fake| on_node(fake, "gated")).await;
    assert!(!on_node(&fake, "other"));
    scheduler.abort();
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_its_volume_before_its_pod_gets_its_node() {
    let fake = Fake::new(Duration::from_millis(20), 6);
    fake.put(&NODES, node("4"));
    fake.put(
        &STORAGE_CLASSES,
        json!({"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    fake.put(
        &PERSISTENT_VOLUME_CLAIMS,
        json!({"metadata": {"name": "data", "namespace": "default"}, "status": {"phase": "Pending"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    let scheduler = start(context(&fake));
    let mut with_claim = pod("p", "1");
    with_claim["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    fake.put(&PODS, with_claim);
    let told = |fake: &Fake| {
        let message = named(fake, "p").map(|pod| pod["status"]["conditions"][0]["message"].clone());
        message
            .is_some_and(|text| text.to_string().contains("didn't find available persistent volumes to bind"))
    };
    fake.until(told).await;
    fake.put(
        &PERSISTENT_VOLUMES,
        json!({"metadata": {"name": "disk"}, "status": {"phase": "Available"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}}),
    );
    let kept = |fake: &Fake| fake.list(&PERSISTENT_VOLUMES)[0]["spec"]["claimRef"]["name"] == "data";
    fake.until(kept).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!on_node(&fake, "p"), "the binding is not complete yet");
    // What the volume controller does.
    let mut claim = fake.list(&PERSISTENT_VOLUME_CLAIMS)[0].clone();
    claim["spec"]["volumeName"] = "disk".into();
    claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    fake.put(&PERSISTENT_VOLUME_CLAIMS, claim);
    fake.until(|fake| on_node(fake, "p")).await;
    scheduler.abort();
}
