//! `kill -9` of the control plane and the agent, again and again, at random moments of a
//! rollout and under a load of writes: what was acknowledged stays, revisions never go
//! back, no container notices. `SEED=n` repeats a run, `LONG=1` kills ten times.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrack_client::connect::connect;
use carrack_lab::cluster::{Cluster, PATIENCE};
use carrack_lab::images;
use carrack_lab::machine::{run, until};
use carrack_lab::writes::{Acknowledged, MAPS, credentials, next, writer};
use serde_json::Value;

const WRITERS: usize = 4;

/// Starts the writers on a thread in the machine.
fn load(cluster: &Cluster, noted: &Arc<Acknowledged>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let kubeconfig = std::fs::read_to_string(cluster.data().join("kubeconfig")).unwrap();
    let (noted, stop) = (noted.clone(), stop.clone());
    cluster.machine.inside(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (endpoint, credentials) = credentials(&kubeconfig).unwrap();
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
    println!("{}", noted.verify(&list, 100).unwrap());
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
        let told = noted.newest();
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
