//! Nobody notices a rollout: under a steady load with a new connection for each request
//! and no second try, scaling, updating and undoing fail no request, and neither does an
//! image that cannot be had. `LONG=1` keeps the load on for a minute a step.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use carrack_lab::cluster::{Cluster, PATIENCE};
use carrack_lab::load::Load;
use carrack_lab::machine::{run, until};
use carrack_lab::registry::Registry;
use carrack_lab::{images, paths};

const PER_SECOND: u32 = 50;
const PAGE: &str = "Served by Carrack";

/// Asks a Service again and again, each time with a program and connection of its own.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: load
    image: docker.io/library/busybox:1
    command:
    - sh
    - -c
    - |
      while :; do
        (wget -qO- http://SERVICE/ | grep -q 'Served by Carrack' && echo answered || echo "failed $(date)") &
        sleep 0.009
      done
"#;

fn import(cluster: &Cluster, archive: &Path) {
    let mut command = cluster.carrack("image").unwrap();
    command.arg("import").arg(archive);
    run(command, PATIENCE).unwrap();
}

/// A cluster with both versions of nginx, three replicas of the first, and busybox.
fn cluster() -> Cluster {
    let cluster = Cluster::start(&[]).unwrap();
    for archive in [images::nginx_archive("1"), images::nginx_archive("2"), images::busybox_archive()] {
        import(&cluster, &archive.unwrap());
    }
    let example = paths::repository().join("examples/nginx/nginx.yaml");
    cluster.k(&["apply", "-f", &example.display().to_string()]).unwrap();
    rolled_out(&cluster);
    cluster
}

fn rolled_out(cluster: &Cluster) {
    if let Err(error) = cluster.k(&["rollout", "status", "deployment/nginx", "--timeout=60s"]) {
        let pods = cluster.k(&["describe", "pods", "-l", "app=nginx"]).unwrap();
        panic!("{error:#}\n{pods}\n{}", cluster.said());
    }
}

/// Waits until as many pods of nginx are there as are wanted, the ending ones gone.
fn settled(cluster: &Cluster, replicas: usize) {
    rolled_out(cluster);
    until(PATIENCE, || {
        let pods = cluster.k(&["get", "pods", "-l", "app=nginx", "-o", "name"])?;
        anyhow::ensure!(pods.lines().count() == replicas, "{pods}");
        Ok(())
    })
    .unwrap();
}

/// The loads from the host and from a pod.
struct Loads {
    host: Vec<(SocketAddr, Load)>,
}

impl Loads {
    fn start(cluster: &Cluster) -> Self {
        let service = cluster.k(&["get", "service", "nginx", "-o", "jsonpath={.spec.clusterIP}"]).unwrap();
        cluster.apply(&POD.replace("SERVICE", &service)).unwrap();
        cluster.k(&["wait", "--for=condition=Ready", "pod/load", "--timeout=30s"]).unwrap();
        let addresses: [SocketAddr; 2] =
            ["127.0.0.1:30081".parse().unwrap(), "10.77.0.2:30081".parse().unwrap()];
        let load = |address| (address, Load::start(&cluster.machine, address, PER_SECOND, PAGE));
        Self { host: addresses.map(load).into() }
    }

    /// What has failed so far, one line each.
    fn failures(&self, cluster: &Cluster) -> Vec<String> {
        let mut failed = Vec::new();
        for (address, load) in &self.host {
            failed.extend(load.so_far().failed.iter().map(|why| format!("{address} at {why}")));
        }
        let log = cluster.k(&["logs", "load"]).unwrap();
        failed.extend(log.lines().filter(|line| *line != "answered").map(|line| format!("pod: {line}")));
        failed
    }

    fn stop(self, cluster: &Cluster, seconds: f64) {
        let log = cluster.k(&["logs", "load"]).unwrap();
        println!(
            "pod: {} answered in {seconds:.0} s",
            log.lines().filter(|line| *line == "answered").count()
        );
        for (address, load) in self.host {
            let outcome = load.stop();
            println!("{address}: {} answered, slowest {:?}", outcome.answered, outcome.slowest);
            assert!(outcome.answered as f64 > seconds * f64::from(PER_SECOND) * 0.5, "a load worth the name");
            assert_eq!(outcome.failed, [""; 0]);
        }
    }
}

#[test]
fn fails_no_request() {
    let cluster = cluster();
    let loads = Loads::start(&cluster);
    let start = Instant::now();
    let at_least = Duration::from_secs(if std::env::var_os("LONG").is_some() { 60 } else { 4 });
    let steps: [(&str, usize, &[&str]); 5] = [
        ("scale up", 6, &["scale", "deployment/nginx", "--replicas=6"]),
        ("scale down", 2, &["scale", "deployment/nginx", "--replicas=2"]),
        ("back to three", 3, &["scale", "deployment/nginx", "--replicas=3"]),
        ("update", 3, &["set", "image", "deployment/nginx", "nginx=docker.io/library/nginx:2"]),
        ("undo", 3, &["rollout", "undo", "deployment/nginx"]),
    ];
    for (step, replicas, command) in steps {
        let begun = Instant::now();
        cluster.k(command).unwrap();
        settled(&cluster, replicas);
        println!("{step}: {:.1} s", begun.elapsed().as_secs_f64());
        std::thread::sleep(at_least.saturating_sub(begun.elapsed()));
        let failures = loads.failures(&cluster);
        assert!(failures.is_empty(), "{step}: {} requests failed:\n{}", failures.len(), failures.join("\n"));
    }
    loads.stop(&cluster, start.elapsed().as_secs_f64());
}

/// What the newest pod of nginx waits for: reason and message.
fn waiting(cluster: &Cluster, image: &str) -> String {
    let path = format!(
        "jsonpath={{range .items[?(@.spec.containers[0].image==\"{image}\")]}}\
         {{.status.containerStatuses[0].state.waiting.reason}}: \
         {{.status.containerStatuses[0].state.waiting.message}}{{end}}"
    );
    cluster.k(&["get", "pods", "-l", "app=nginx", "-o", &path]).unwrap()
}

#[test]
fn an_image_that_cannot_be_had_harms_nobody() {
    let cluster = cluster();
    let registry = Registry::start(&cluster.machine, &images::busybox_archive().unwrap()).unwrap();
    let at = registry.address;
    let loads = Loads::start(&cluster);
    let start = Instant::now();
    for (repository, answer) in [
        ("unknown", "404 Not Found: name unknown: repository name not known to registry"),
        ("private", "401 Unauthorized: unauthorized: authentication required"),
    ] {
        let image = format!("{at}/{repository}:1");
        cluster.k(&["set", "image", "deployment/nginx", &format!("nginx={image}")]).unwrap();
        let (code, said, error) =
            cluster.try_k(&["rollout", "status", "deployment/nginx", "--timeout=30s"]).unwrap();
        assert_eq!(code, 1, "{said}{error}");
        assert!(error.contains("deployment \"nginx\" exceeded its progress deadline"), "{said}{error}");
        until(PATIENCE, || {
            let said = waiting(&cluster, &image);
            anyhow::ensure!(said.starts_with("ImagePullBackOff: ") && said.contains(answer), "{said:?}");
            Ok(())
        })
        .unwrap();
        let ready = "jsonpath={.status.availableReplicas}/{.status.updatedReplicas}";
        assert_eq!(cluster.k(&["get", "deployment", "nginx", "-o", ready]).unwrap(), "3/1");
        cluster.k(&["rollout", "undo", "deployment/nginx"]).unwrap();
        settled(&cluster, 3);
    }
    let failures = loads.failures(&cluster);
    assert!(failures.is_empty(), "{} requests failed:\n{}", failures.len(), failures.join("\n"));
    loads.stop(&cluster, start.elapsed().as_secs_f64());

    let config = format!("--from-literal=.dockerconfigjson={}", registry.docker_config());
    let kind = "--type=kubernetes.io/dockerconfigjson";
    cluster.k(&["create", "secret", "generic", "login", kind, &config]).unwrap();
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: private}}, spec: {{imagePullSecrets: [{{name: login}}], \
         terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{at}/private:1', command: [sleep, '600']}}]}}}}"
    );
    cluster.apply(&pod).unwrap();
    cluster.k(&["wait", "--for=condition=Ready", "pod/private", "--timeout=30s"]).unwrap();
    assert_eq!(cluster.k(&["exec", "private", "--", "echo", "pulled"]).unwrap(), "pulled\n");
}
