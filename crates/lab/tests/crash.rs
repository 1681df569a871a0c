//! `kill -9` of the control plane and the agent, again and again, at random moments of a
//! rollout and under a load of writes: what was acknowledged stays, revisions never go
//! back, no container notices. `SEED=n` repeats a run, `LONG=1` kills ten times.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use carrack_client::connect::{Credentials, Endpoint, connect};
use carrack_lab::cluster::{Cluster, PATIENCE};
use carrack_lab::images;
use carrack_lab::machine::{run, until};
use serde_json::{Value, json};

const WRITERS: usize = 4;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What the server has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Created ConfigMaps that nobody has touched since, with their revision.
    created: Mutex<BTreeMap<String, u64>>,
    /// A writer's own ConfigMap: the last number written and its revision.
    patched: Mutex<BTreeMap<String, (u64, u64)>>,
    /// The newest revision anybody has been told.
    newest: AtomicU64,
    /// Revisions that were not newer than what had been told before.
    back: Mutex<Vec<String>>,
}

impl Acknowledged {
    /// Notes the revision of a write that began when `before` was the newest.
    fn told(&self, before: u64, object: &Value) -> u64 {
        let revision = revision(object);
        if revision <= before {
            self.back.lock().unwrap().push(format!("{revision} after {before}: {}", object["metadata"]));
        }
        self.newest.fetch_max(revision, Ordering::SeqCst);
        revision
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// The administrator's way in, from the kubeconfig.
fn credentials(kubeconfig: &str) -> (Endpoint, Credentials) {
    let take = |field: &str| {
        let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(field)).expect("a field");
        base64::engine::general_purpose::STANDARD.decode(line.trim().trim_matches('"')).unwrap()
    };
    let endpoint = Endpoint {
        address: "127.0.0.1:6443".parse().unwrap(),
        server_name: "127.0.0.1".into(),
        ca_pem: take("certificate-authority-data:"),
    };
    let chain_pem = take("client-certificate-data:");
    (endpoint, Credentials::Certificate { chain_pem, key_pem: take("client-key-data:") })
}

/// A write; `None` when nobody knows what became of it.
async fn write(client: &kube::Client, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
    let request = request.body(kube::client::Body::from(serde_json::to_vec(body).unwrap())).unwrap();
    let exchange = async {
        let answer = client.send(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.ok()?
}

/// Creates ConfigMaps and patches one of its own, until told to stop.
async fn writer(number: usize, client: kube::Client, noted: Arc<Acknowledged>, stop: Arc<AtomicBool>) {
    let own = format!("own-{number}");
    for n in 1u64.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("load-{number}-{n}");
        let before = noted.newest.load(Ordering::SeqCst);
        let body =
            json!({"metadata": {"name": name, "labels": {"load": "yes"}}, "data": {"n": n.to_string()}});
        match write(&client, "POST", MAPS, &body).await {
            Some((201, object)) => {
                let revision = noted.told(before, &object);
                noted.created.lock().unwrap().insert(name, revision);
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        let before = noted.newest.load(Ordering::SeqCst);
        let patch = json!({"data": {"n": n.to_string()}});
        if let Some((200, object)) = write(&client, "PATCH", &format!("{MAPS}/{own}"), &patch).await {
            let revision = noted.told(before, &object);
            noted.patched.lock().unwrap().insert(own.clone(), (n, revision));
        }
    }
}

/// Starts the writers on a thread in the machine.
fn load(cluster: &Cluster, noted: &Arc<Acknowledged>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let kubeconfig = std::fs::read_to_string(cluster.data().join("kubeconfig")).unwrap();
    let (noted, stop) = (noted.clone(), stop.clone());
    cluster.machine.inside(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (endpoint, credentials) = credentials(&kubeconfig);
            let writers = (0..WRITERS).map(|number| {
                let client = connect(&endpoint, &credentials).unwrap();
                tokio::spawn(writer(number, client, noted.clone(), stop.clone()))
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.await.unwrap();
            }
        });
    })
}

/// Nothing may be missing, and nothing may be other than it was acknowledged.
fn verify(cluster: &Cluster, noted: &Acknowledged) {
    let list: Value = serde_json::from_str(&cluster.k(&["get", "--raw", MAPS]).unwrap()).unwrap();
    let found: BTreeMap<&str, &Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["metadata"]["name"].as_str().unwrap(), item))
        .collect();
    let (created, patched) = (noted.created.lock().unwrap(), noted.patched.lock().unwrap());
    let missing: Vec<_> = created
        .iter()
        .filter(|(name, at)| found.get(name.as_str()).map(|o| revision(o)) != Some(**at))
        .collect();
    assert!(missing.is_empty(), "{} of {} are missing or changed: {missing:?}", missing.len(), created.len());
    for (name, (number, at)) in patched.iter() {
        let object = found[name.as_str()];
        let stored: u64 = object["data"]["n"].as_str().unwrap().parse().unwrap();
        // A later write may have been stored and its answer lost.
        assert!(stored >= *number && revision(object) >= *at, "{name}: {number} at {at}, but {object}");
    }
    assert!(revision(&list) >= noted.newest.load(Ordering::SeqCst), "the list is older than a write");
    assert_eq!(*noted.back.lock().unwrap(), [""; 0], "revisions that went back");
    assert!(created.len() > 100 && patched.len() == WRITERS, "a load worth the name: {}", created.len());
    println!("{} objects created and {WRITERS} patched, newest revision {}", created.len(), revision(&list));
}

/// Names, container ids, start times and restarts of an application's pods.
fn containers(cluster: &Cluster, app: &str) -> Vec<(String, String, String, i64)> {
    let list = cluster.k(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let pod = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        (
            pod["metadata"]["name"].as_str().unwrap().to_owned(),
            status["containerID"].as_str().unwrap_or_default().to_owned(),
            status["state"]["running"]["startedAt"].as_str().unwrap_or_default().to_owned(),
            status["restartCount"].as_i64().unwrap_or(-1),
        )
    };
    list["items"].as_array().unwrap().iter().map(pod).collect()
}

fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - {{name: c, \
         image: 'docker.io/library/busybox:1', command: [sleep, '3600'], \
         readinessProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}}}\n"
    )
}

/// Xorshift: enough for moments.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Every process of the machine that is Carrack's, by command: shims and others.
fn carracks(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let mut ps = cluster.machine.busybox("ps").unwrap();
    ps.args(["-o", "pid,comm,args"]);
    let all = run(ps, PATIENCE).unwrap();
    let ours = all.lines().filter(|line| line.contains("carrack")).map(str::to_owned);
    ours.partition(|line| line.contains("shim"))
}

#[test]
fn survives_kills_at_random_moments() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut seed = std::env::var("SEED").map_or_else(|_| clock() | 1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let kills = if std::env::var_os("LONG").is_some() { 10 } else { 4 };

    let mut cluster = Cluster::start(&[]).unwrap();
    let mut import = cluster.carrack("image").unwrap();
    import.arg("import").arg(images::busybox_archive().unwrap());
    run(import, PATIENCE).unwrap();
    cluster.apply(&deployment("still", 2)).unwrap();
    cluster.apply(&deployment("rolling", 3)).unwrap();
    for number in 0..WRITERS {
        cluster.k(&["create", "configmap", &format!("own-{number}"), "--from-literal=n=0"]).unwrap();
    }
    for name in ["still", "rolling"] {
        let name = format!("deployment/{name}");
        cluster.k(&["rollout", "status", &name, "--timeout=60s"]).unwrap();
    }
    let still = containers(&cluster, "still");
    assert!(
        still.len() == 2 && still.iter().all(|(_, id, started, _)| !id.is_empty() && !started.is_empty())
    );

    let (noted, stop) = (Arc::new(Acknowledged::default()), Arc::new(AtomicBool::new(false)));
    let writers = load(&cluster, &noted, &stop);
    for kill in 1..=kills {
        // `rollout restart` refuses to go twice within a second.
        cluster.k(&["set", "env", "deployment/rolling", &format!("KILL={kill}")]).unwrap();
        let moment = Duration::from_millis(next(&mut seed) % 2500);
        std::thread::sleep(moment);
        let told = noted.newest.load(Ordering::SeqCst);
        cluster.kill().unwrap();
        let (_, left) = carracks(&cluster);
        assert!(left.is_empty(), "still there: {left:#?}");
        println!("kill {kill} after {moment:?}, at revision {told}");
        if kill % 2 == 0 {
            // Once more, while it takes up what it finds.
            let moment = Duration::from_millis(next(&mut seed) % 400);
            cluster.begin(&[]).unwrap();
            std::thread::sleep(moment);
            until(PATIENCE, || cluster.kill()).unwrap();
            println!("kill {kill} again {moment:?} after its start");
        }
        cluster.up(&[]).unwrap();
    }
    cluster.k(&["rollout", "status", "deployment/rolling", "--timeout=60s"]).unwrap();
    stop.store(true, Ordering::SeqCst);
    writers.join().unwrap();

    verify(&cluster, &noted);
    assert_eq!(containers(&cluster, "still"), still, "who was not touched runs on");
    let restarted: Vec<_> =
        containers(&cluster, "rolling").into_iter().filter(|(_, _, _, restarts)| *restarts != 0).collect();
    assert_eq!(restarted, [], "restarts");
    until(PATIENCE, || {
        let pods = cluster.k(&["get", "pods", "-A", "-o", "name"])?.lines().count();
        let (shims, _) = carracks(&cluster);
        anyhow::ensure!(pods == 5 && shims.len() == pods, "{pods} pods, {shims:#?}");
        Ok(())
    })
    .expect("one shim a pod, and no pod left behind");
    let said = cluster.k(&["exec", &still[0].0, "--", "echo", "alive"]).unwrap();
    assert_eq!(said, "alive\n");
}
