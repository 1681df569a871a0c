//! Writes under quotas.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::*;
use crate::Server;
use crate::auth::Authorizers;
use crate::auth::testing::store;
use crate::request::User;

struct Cluster {
    server: Server,
    ledger: Arc<Ledger>,
}

async fn cluster() -> Cluster {
    let store = store();
    let authorizers = Arc::new(Authorizers::new(store.clone()));
    let ledger = Ledger::new(store.clone());
    let mut builder = Server::builder(store.clone(), carrack_api::kinds::builtin());
    for plugin in crate::admission::plugins(&store, &authorizers, &ledger) {
        builder = builder.admission(plugin);
    }
    let cluster = Cluster { server: builder.build(), ledger };
    cluster.create("namespaces", "", json!({"metadata": {"name": "a"}})).await.unwrap();
    cluster.create("serviceaccounts", "a", json!({"metadata": {"name": "default"}})).await.unwrap();
    cluster
}

impl Cluster {
    async fn create(&self, resource: &str, namespace: &str, object: Value) -> Result<(), Status> {
        let call = self.server.registry().call(User::loopback(), resource, namespace, "")?;
        self.server.registry().create(&call, object).await.map(drop)
    }

    async fn quota(&self, hard: Value) {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
        self.create(QUOTAS, "a", quota).await.unwrap();
        self.count().await;
    }

    async fn count(&self) {
        recount::count(self.server.registry(), &self.ledger, "a").await.unwrap();
    }

    fn used(&self) -> Value {
        self.ledger.store.get(&Key::new(QUOTAS, "a", "q")).unwrap().decode()["status"]["used"].clone()
    }
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn racing_writes_never_exceed() {
    let cluster = cluster().await;
    cluster.quota(json!({"configmaps": "5", "count/configmaps": "7"})).await;
    let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    let all = join_all(names.iter().map(|name| cluster.create("configmaps", "a", map(name)))).await;
    let refused: Vec<Status> = all.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 15);
    let expect =
        "is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=5, limited: configmaps=5";
    assert!(
        refused.iter().all(|status| status.code == 403 && status.message.ends_with(expect)),
        "{refused:?}"
    );
    assert_eq!(cluster.used(), json!({"configmaps": "5", "count/configmaps": "5"}));
    assert!(held(&cluster.ledger.under_way).is_empty());
}

#[tokio::test]
async fn what_fails_is_given_back() {
    let cluster = cluster().await;
    cluster.quota(json!({"configmaps": "2"})).await;
    cluster.create("configmaps", "a", map("m")).await.unwrap();
    let again = cluster.create("configmaps", "a", map("m")).await.unwrap_err();
    assert_eq!(again.reason, "AlreadyExists");
    assert_eq!(cluster.used(), json!({"configmaps": "2"}));
    assert!(held(&cluster.ledger.dirty).contains("a"));
    cluster.count().await;
    assert_eq!(cluster.used(), json!({"configmaps": "1"}));
    // A count in the midst of a write does not forget it.
    let charge = Charge { quota: "q".into(), amounts: Amounts::read(&json!({"configmaps": "1"})) };
    let under_way = cluster.ledger.begin("a", vec![charge]);
    cluster.count().await;
    assert_eq!(cluster.used(), json!({"configmaps": "2"}));
    drop(under_way);
    cluster.count().await;
    assert_eq!(cluster.used(), json!({"configmaps": "1"}));
}

#[tokio::test]
async fn dry_runs_take_nothing_and_are_held_to_it() {
    let cluster = cluster().await;
    cluster.quota(json!({"configmaps": "0"})).await;
    let registry = cluster.server.registry();
    let mut call = registry.call(User::loopback(), "configmaps", "a", "").unwrap();
    call.options.dry_run = true;
    let refused = registry.create(&call, map("m")).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (403, "Forbidden"));
    assert_eq!(cluster.used(), json!({"configmaps": "0"}));
}

#[tokio::test(start_paused = true)]
async fn counts_when_something_goes() {
    let cluster = cluster().await;
    let keeper = tokio::spawn(keep(cluster.server.registry().clone(), cluster.ledger.clone()));
    let hard = json!({"pods": "2", "requests.cpu": "1", "count/deployments.apps": "1"});
    cluster.create(QUOTAS, "a", json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await.unwrap();
    let becomes = |expect: Value| {
        let cluster = &cluster;
        async move {
            let reached = async {
                while cluster.used() != expect {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let waited = tokio::time::timeout(Duration::from_secs(60), reached).await;
            assert!(waited.is_ok(), "{} is not {expect}", cluster.used());
        }
    };
    becomes(json!({"pods": "0", "requests.cpu": "0", "count/deployments.apps": "0"})).await;
    let pod = |name: &str, cpu: &str| {
        json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    cluster.create("pods", "a", pod("x", "600m")).await.unwrap();
    // A count that runs meanwhile may count the write and its reservation, for a moment.
    becomes(json!({"pods": "1", "requests.cpu": "600m", "count/deployments.apps": "0"})).await;
    let refused = cluster.create("pods", "a", pod("y", "600m")).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"y\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, \
         limited: requests.cpu=1"
    );
    let registry = cluster.server.registry();
    let call = registry.call(User::loopback(), "pods", "a", "x").unwrap().on("status");
    let ends = registry.modify(&call, |pod| {
        pod["status"]["phase"] = "Succeeded".into();
        Ok(())
    });
    ends.await.unwrap();
    becomes(json!({"pods": "0", "requests.cpu": "0", "count/deployments.apps": "0"})).await;
    keeper.abort();
}
