//! Whole controllers on a small API: rollouts converge whatever the caches' delay and
//! wherever a crash hits, and on the way there are never too many pods nor too few.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_client::fake::Fake;
use carrack_client::resource::{DEPLOYMENTS, ENDPOINT_SLICES, EVENTS, PODS, REPLICA_SETS, SERVICES};
use carrack_client::{Informers, SystemClock};
use carrack_controllers::{Context, Controllers, start};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::watch;

const REPLICAS: i64 = 5;
const SURGE: i64 = 1;
const UNAVAILABLE: i64 = 1;

fn deployment(version: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "generation": 1},
        "spec": {
            "replicas": REPLICAS,
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": UNAVAILABLE},
            },
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": version,
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
            },
        },
    })
}

/// The API, its controllers, and a node that starts and stops pods at once.
struct World {
    fake: Arc<Fake>,
    _resources: watch::Sender<Arc<[carrack_client::Resource]>>,
    context: Context,
    controllers: Option<Controllers>,
    node: tokio::task::JoinHandle<()>,
    troubles: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(delay_ms: u64, seed: u64) -> Self {
        let fake = Fake::new(Duration::from_millis(delay_ms), seed);
        let (sender, receiver) = watch::channel(fake.resources());
        fake.put(
            &carrack_client::resource::NODES,
            json!({"metadata": {"name": "n1"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        let clients = fake.clone();
        let context = Context {
            informers: Arc::new(Informers::new(Arc::new(fake.clone()))),
            clients: Arc::new(move |identity| clients.client(&identity.user)),
            clock: Arc::new(SystemClock),
            resources: receiver,
            root_ca_pem: "pem".into(),
            signer: None,
            disabled: BTreeSet::from(["nodelifecycle".to_owned(), "taint-eviction".to_owned()]),
        };
        let troubles: Arc<Mutex<Vec<String>>> = Arc::default();
        let node = tokio::spawn(node(fake.clone(), troubles.clone()));
        let controllers = Some(start(context.clone()));
        Self { fake, _resources: sender, context, controllers, node, troubles }
    }

    /// Ends the controllers and their caches as a crash does, and starts new ones.
    fn restart(&mut self) {
        self.controllers = None;
        self.context.informers = Arc::new(Informers::new(Arc::new(self.fake.clone())));
        self.controllers = Some(start(self.context.clone()));
    }

    async fn until(&self, what: &str, done: impl FnMut(&Fake) -> bool) {
        if tokio::time::timeout(Duration::from_secs(600), self.fake.until(done)).await.is_err() {
            let all = [&DEPLOYMENTS, &REPLICA_SETS, &PODS, &EVENTS].map(|kind| self.fake.list(kind));
            panic!("not {what}: {}", serde_json::to_string_pretty(&all).unwrap());
        }
        let troubles = self.troubles.lock().unwrap().clone();
        assert_eq!(troubles, Vec::<String>::new(), "on the way to {what}");
    }

    async fn rolled_out(&self, version: &str) {
        self.until(version, |fake| {
            let Some(deployment) = fake.get(&DEPLOYMENTS, "default", "web") else { return false };
            let status = &deployment["status"];
            let all = |field: &str| status[field] == REPLICAS;
            let ready = all("replicas") && all("updatedReplicas") && all("availableReplicas");
            ready
                && status["observedGeneration"] == deployment["metadata"]["generation"]
                && pods(fake, version) == REPLICAS
                && fake.list(&PODS).len() as i64 == REPLICAS
        })
        .await;
    }

    fn set_version(&self, version: &str) {
        let mut object = self.fake.get(&DEPLOYMENTS, "default", "web").unwrap();
        object["spec"]["template"]["spec"]["containers"][0]["image"] = version.into();
        object["metadata"]["generation"] = (object["metadata"]["generation"].as_i64().unwrap() + 1).into();
        self.fake.put(&DEPLOYMENTS, object);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.node.abort();
    }
}

fn ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["conditions"][0]["status"] == "True"
}

fn pods(fake: &Fake, version: &str) -> i64 {
    let of = |pod: &&Value| ready(pod) && pod["spec"]["containers"][0]["image"] == version;
    fake.list(&PODS).iter().filter(of).count() as i64
}

/// Starts pods, stops deleted ones, and notes when there are too many or too few.
async fn node(fake: Arc<Fake>, troubles: Arc<Mutex<Vec<String>>>) {
    let (mut wanted, mut address, mut largest) = (0, 0, HashMap::new());
    loop {
        let mut idle = true;
        let all = fake.list(&PODS);
        let sets = fake.list(&REPLICA_SETS);
        let sized: i64 = sets.iter().filter_map(|set| set["spec"]["replicas"].as_i64()).sum();
        for set in &sets {
            // A set on a late cache may still have what it was once told, but never more.
            let (uid, size) = (&set["metadata"]["uid"], set["spec"]["replicas"].as_i64().unwrap());
            let of = |pod: &&Value| {
                pod["metadata"]["ownerReferences"][0]["uid"] == *uid
                    && pod["metadata"]["deletionTimestamp"].is_null()
            };
            let active = all.iter().filter(of).count() as i64;
            let most = largest.entry(uid.to_string()).or_insert(0);
            *most = size.max(*most);
            if active > *most {
                troubles.lock().unwrap().push(format!("{active} pods of a set of {size}"));
            }
        }
        let serving = all.iter().filter(|pod| ready(pod)).count() as i64;
        if sized > REPLICAS + SURGE {
            troubles.lock().unwrap().push(format!("sets for {sized} pods"));
        }
        wanted = if serving == REPLICAS { REPLICAS - UNAVAILABLE } else { wanted };
        if serving < wanted {
            troubles.lock().unwrap().push(format!("only {serving} pods serve"));
        }
        for pod in all {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                fake.remove(&PODS, "default", &name);
                idle = false;
            } else if pod["status"].is_null() {
                let mut pod = pod;
                address += 1;
                pod["status"] = json!({
                    "phase": "Running", "podIPs": [{"ip": format!("10.0.0.{address}")}],
                    "conditions": [{"type": "Ready", "status": "True",
                        "lastTransitionTime": "2026-01-01T00:00:10Z"}],
                });
                fake.put(&PODS, pod);
                idle = false;
            }
        }
        if idle {
            let revision = fake.revision();
            fake.until(|fake| fake.revision() != revision).await;
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_rollout_converges_under_delays(seed: u64, delay in 0u64..200) {
        run(async move {
            let world = World::new(delay, seed);
            world.fake.put(&DEPLOYMENTS, deployment("v1"));
            world.rolled_out("v1").await;
            world.set_version("v2");
            world.rolled_out("v2").await;
            // Back again in the middle of the next one.
            world.set_version("v3");
            world.until("under way", |fake| pods(fake, "v3") > 0).await;
            world.set_version("v2");
            world.rolled_out("v2").await;
            // The sets of v1 and v3 are kept for undoing, empty; the numbers tell the order.
            let sets = world.fake.list(&REPLICA_SETS);
            let mut revisions: Vec<&str> = sets
                .iter()
                .map(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().unwrap())
                .collect();
            revisions.sort_unstable();
            assert_eq!(revisions, ["1", "3", "4"]);
        });
    }
}

#[test]
fn a_crash_at_any_write_changes_nothing_in_the_end() {
    // Every write of a first rollout and of an update, one world each.
    let mut at = 1;
    loop {
        let mut hit = false;
        run(async {
            let mut world = World::new(20, at);
            world.fake.break_write(at);
            world.fake.put(&DEPLOYMENTS, deployment("v1"));
            for version in ["v1", "v2"] {
                world.set_version(version);
                let broken = world.fake.clone();
                tokio::select! {
                    () = world.rolled_out(version) => {}
                    () = broken.until(|fake| !fake.unbroken()), if broken.unbroken() => {
                        hit = true;
                        world.restart();
                        world.rolled_out(version).await;
                    }
                }
            }
        });
        if !hit {
            break;
        }
        // Each of the first ones, which create things, then every third.
        at += if at < 24 { 1 } else { 3 };
    }
    assert!(at > 20, "only {at} writes were tried");
}

#[test]
fn endpoints_follow_the_pods() {
    run(async {
        let world = World::new(30, 1);
        world.fake.put(
            &SERVICES,
            json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
                "clusterIP": "10.96.0.20", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]}}),
        );
        world.fake.put(&DEPLOYMENTS, deployment("v1"));
        let addresses = |fake: &Fake| {
            let slices = fake.list(&ENDPOINT_SLICES);
            let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
            let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
            ready.filter_map(|e| e["addresses"][0].as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
        };
        let serving = |fake: &Fake| {
            let all = fake.list(&PODS);
            all.iter()
                .filter(|pod| ready(pod))
                .map(|pod| pod["status"]["podIPs"][0]["ip"].as_str().unwrap().to_owned())
                .collect::<BTreeSet<_>>()
        };
        world.rolled_out("v1").await;
        world.until("endpoints of v1", |fake| addresses(fake) == serving(fake)).await;
        world.set_version("v2");
        world.rolled_out("v2").await;
        world.until("endpoints of v2", |fake| addresses(fake) == serving(fake)).await;
        let slices = world.fake.list(&ENDPOINT_SLICES);
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0]["ports"][0], json!({"name": "http", "port": 8080, "protocol": "TCP"}));
        assert_eq!(slices[0]["metadata"]["labels"]["kubernetes.io/service-name"], "web");
        let endpoints = world.fake.get(&carrack_client::resource::ENDPOINTS, "default", "web").unwrap();
        assert_eq!(endpoints["subsets"][0]["addresses"].as_array().unwrap().len(), REPLICAS as usize);
    });
}

#[test]
fn deleting_a_deployment_takes_everything_along() {
    for policy in ["Background", "Foreground", "Orphan"] {
        run(async {
            let world = World::new(30, 2);
            world.fake.put(&DEPLOYMENTS, deployment("v1"));
            world.rolled_out("v1").await;
            let options = carrack_client::DeleteOptions { propagation: Some(policy), ..Default::default() };
            let client = world.fake.client("user");
            client.delete(&DEPLOYMENTS, ("default", "web"), &options).await.unwrap();
            if policy == "Orphan" {
                world.until("gone", |fake| fake.list(&DEPLOYMENTS).is_empty()).await;
                let sets = world.fake.list(&REPLICA_SETS);
                assert!(sets[0]["metadata"]["ownerReferences"].is_null());
                assert_eq!(world.fake.list(&PODS).len() as i64, REPLICAS);
                return;
            }
            let kinds = [&DEPLOYMENTS, &REPLICA_SETS, &PODS];
            let all_gone = |fake: &Fake| kinds.iter().all(|kind| fake.list(kind).is_empty());
            // Fewer pods than usual are no trouble now.
            let wait = world.fake.until(all_gone);
            tokio::time::timeout(Duration::from_secs(600), wait).await.expect(policy);
        });
    }
}
