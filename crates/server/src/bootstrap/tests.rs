//! Bootstrapping a registry, once and again.

use std::time::Instant;

use super::*;
use crate::Server;
use crate::allocate::Services;
use crate::auth::testing::store;

fn server() -> Server {
    let store = store();
    Server::builder(store.clone(), carrack_api::kinds::builtin())
        .strategy("services", Arc::new(Services::new(store, Ranges::default())))
        .build()
}

fn config(address: [u8; 4]) -> BootstrapConfig {
    BootstrapConfig {
        ranges: Ranges::default(),
        advertise: vec![address.into()],
        port: 6443,
        client_ca: "ca".into(),
    }
}

fn get(registry: &Registry, key: &str) -> Value {
    let (resource, rest) = key.split_once(' ').unwrap();
    let (namespace, name) = rest.split_once('/').unwrap();
    let record = registry.store().get(&Key::new(resource, namespace, name));
    record.unwrap_or_else(|| panic!("{key} is missing")).decode()
}

#[tokio::test]
async fn makes_everything_once() {
    let server = server();
    let registry = server.registry();
    let started = Instant::now();
    bootstrap(registry, &config([192, 0, 2, 7]), &Progress::default()).await.unwrap();
    bootstrap_roles(registry, &Progress::default()).await.unwrap();
    eprintln!("first start: {:?}", started.elapsed());
    let service = get(registry, "services default/kubernetes");
    assert_eq!(service["spec"]["clusterIPs"], serde_json::json!(["10.96.0.1"]));
    assert_eq!(service["spec"]["ipFamilies"], serde_json::json!(["IPv4"]));
    let address = get(registry, "ipaddresses.networking.k8s.io /10.96.0.1");
    assert_eq!(address["spec"]["parentRef"]["name"], "kubernetes");
    let slice = get(registry, "endpointslices.discovery.k8s.io default/kubernetes");
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.7");
    let range = get(registry, "servicecidrs.networking.k8s.io /kubernetes");
    assert_eq!(range["status"]["conditions"][0]["status"], "True");
    let managed = &range["metadata"]["managedFields"][0];
    assert_eq!(
        (&managed["manager"], &managed["operation"]),
        (&"kubernetes-service-cidr-controller".into(), &"Apply".into())
    );
    let owned = &service["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(owned["f:clusterIP"].is_object() && owned["f:clusterIPs"].is_null(), "{owned}");
    for key in [
        "namespaces /kube-node-lease",
        "priorityclasses.scheduling.k8s.io /system-node-critical",
        "clusterroles.rbac.authorization.k8s.io /cluster-admin",
        "rolebindings.rbac.authorization.k8s.io kube-public/system:controller:bootstrap-signer",
        "configmaps kube-system/extension-apiserver-authentication",
    ] {
        get(registry, key);
    }
    // Again: nothing is written.
    let revision = registry.store().revision();
    let started = Instant::now();
    bootstrap(registry, &config([192, 0, 2, 7]), &Progress::default()).await.unwrap();
    bootstrap_roles(registry, &Progress::default()).await.unwrap();
    eprintln!("second start: {:?}", started.elapsed());
    assert_eq!(registry.store().revision(), revision);
    // The machine has moved.
    bootstrap(registry, &config([192, 0, 2, 8]), &Progress::default()).await.unwrap();
    let slice = get(registry, "endpointslices.discovery.k8s.io default/kubernetes");
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.8");
    let endpoints = get(registry, "endpoints default/kubernetes");
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.8");
}

#[tokio::test]
async fn several_at_once_agree() {
    let server = server();
    let registry = server.registry();
    let config = config([192, 0, 2, 7]);
    let all = join_all((0..4).map(|_| async {
        bootstrap(registry, &config, &Progress::default())
            .await
            .and(bootstrap_roles(registry, &Progress::default()).await)
    }));
    for result in all.await {
        result.unwrap();
    }
    get(registry, "services default/kubernetes");
}

#[tokio::test]
async fn puts_back_what_is_deleted() {
    let server = server();
    let registry = server.registry();
    let keeper = tokio::spawn(keep(registry.clone(), config([192, 0, 2, 7]), Progress::default()));
    let key = Key::new("services", "default", "kubernetes");
    let appears = || async {
        while registry.store().get(&key).is_none() {
            tokio::task::yield_now().await;
        }
    };
    appears().await;
    let call = registry.call(User::loopback(), "services", "default", "kubernetes").unwrap();
    registry.delete(&call, &Default::default()).await.unwrap();
    appears().await;
    keeper.abort();
}

#[tokio::test]
async fn writes_into_roles_what_they_gather() {
    let server = server();
    let registry = server.registry();
    bootstrap_roles(registry, &Progress::default()).await.unwrap();
    let admin = format!("{CLUSTER_ROLES} /admin");
    let owners = || -> Vec<Value> {
        let managed = get(registry, &admin)["metadata"]["managedFields"].clone();
        managed.as_array().unwrap().iter().map(|entry| entry["manager"].clone()).collect()
    };
    let made = owners();
    let rbac = Rbac::new(registry.store().clone());
    write_gathered(registry, &rbac).await.unwrap();
    let rules = Rule::read_all(&get(registry, &admin));
    let wanted =
        ["view", "edit", "admin"].map(|to| policy::cluster_role(&format!("system:aggregate-to-{to}")));
    assert_eq!(crate::auth::rbac::rules::missing(&rules, &wanted.concat()), None);
    assert!(made.len() == 1 && owners().len() == 2 && owners().contains(&GATHERER.into()));
    // Once is enough, and nothing is put back that stood there before.
    let revision = registry.store().revision();
    write_gathered(registry, &rbac).await.unwrap();
    bootstrap_roles(registry, &Progress::default()).await.unwrap();
    assert_eq!(registry.store().revision(), revision);
    let rule = serde_json::json!({"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]});
    let role = serde_json::json!({
        "metadata": {"name": "things", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [rule],
    });
    let call = registry.call(User::loopback(), CLUSTER_ROLES, "", "").unwrap();
    registry.create(&call, role).await.unwrap();
    let keeper = tokio::spawn(keep_gathered(registry.clone()));
    for name in ["view", "edit", "admin"] {
        let key = format!("{CLUSTER_ROLES} /{name}");
        while !get(registry, &key)["rules"].as_array().unwrap().contains(&rule) {
            tokio::task::yield_now().await;
        }
    }
    keeper.abort();
}
