//! Services through a registry: what they are given, what they give back.

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Key, Value};
use carrack_store::Store;
use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::Server;
use crate::auth::testing::store;
use crate::registry::Registry;
use crate::request::User;

fn server(store: &Arc<dyn Store>, cidrs: &[&str], ports: PortRange) -> Server {
    let addresses = cidrs.iter().filter_map(|cidr| AddressRange::parse(cidr)).collect();
    let ranges = Ranges { addresses, ports, seed: 1 };
    Server::builder(store.clone(), carrack_api::kinds::builtin())
        .strategy("services", Arc::new(Services::new(store.clone(), ranges)))
        .build()
}

fn one() -> Server {
    server(&store(), &["10.96.0.0/24"], PortRange { first: 30000, last: 30019 })
}

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec})
}

async fn create(registry: &Registry, name: &str, spec: Value) -> Result<Value, Status> {
    let call = registry.call(User::loopback(), "services", "a", "").unwrap();
    registry.create(&call, service(name, spec)).await.map(|written| written.record.decode())
}

async fn update(
    registry: &Registry,
    name: &str,
    change: impl Fn(&mut Value) + Send + Sync,
) -> Result<Value, Status> {
    let call = registry.call(User::loopback(), "services", "a", name).unwrap();
    let written = registry.modify(&call, |object| {
        change(object);
        Ok(())
    });
    written.await.map(|written| written.record.decode())
}

/// Names of the addresses and ports that are held.
fn held(registry: &Registry) -> Vec<String> {
    let names = |resource: &str| -> Vec<String> {
        registry.store().snapshot(resource).iter().map(|record| record.key.name().to_owned()).collect()
    };
    [names(held::ADDRESSES), names(held::PORTS)].concat()
}

#[tokio::test]
async fn gives_and_takes_back() {
    let server = one();
    let registry = server.registry();
    let made = create(registry, "x", json!({"type": "NodePort"})).await.unwrap();
    let (ip, port) =
        (made["spec"]["clusterIP"].as_str().unwrap(), made["spec"]["ports"][0]["nodePort"].as_i64());
    assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(held(registry), [ip.to_owned(), port.unwrap().to_string()]);
    // To ClusterIP: the port goes. To ExternalName: the address goes too. And back.
    update(registry, "x", |x| x["spec"]["type"] = "ClusterIP".into()).await.unwrap();
    assert_eq!(held(registry), [ip]);
    let external = |x: &mut Value| {
        x["spec"]["type"] = "ExternalName".into();
        x["spec"]["externalName"] = "example.com".into();
    };
    update(registry, "x", external).await.unwrap();
    assert_eq!(held(registry), [""; 0]);
    let node_port = |x: &mut Value| {
        x["spec"]["type"] = "NodePort".into();
        x["spec"]["externalTrafficPolicy"] = "Cluster".into();
        x["spec"]["internalTrafficPolicy"] = "Cluster".into();
    };
    let back = update(registry, "x", node_port).await.unwrap();
    assert_eq!(back["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(held(registry).len(), 2);
    let call = registry.call(User::loopback(), "services", "a", "x").unwrap();
    registry.delete(&call, &Default::default()).await.unwrap();
    assert_eq!(held(registry), [""; 0]);
}

#[tokio::test]
async fn a_dry_run_looks_at_the_first_range_and_makes_ports_up() {
    let server = one();
    let registry = server.registry();
    let dry = async |spec: Value| {
        let mut call = registry.call(User::loopback(), "services", "a", "").unwrap();
        call.options.dry_run = true;
        registry.create(&call, service("x", spec)).await.map(|written| written.record.decode())
    };
    let refused = dry(json!({"clusterIP": "10.97.0.5"})).await.unwrap_err();
    let why = "the provided IP (10.97.0.5) is not in the valid range. The range of valid IPs is 10.96.0.0/24";
    assert!(refused.message.ends_with(why), "{}", refused.message);
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    let made = dry(json!({"type": "NodePort", "ports": ports})).await.unwrap();
    assert_eq!(made["spec"]["ports"][1]["nodePort"], 32770);
    assert_eq!(held(registry), [""; 0]);
}

#[test]
fn ports_of_a_dry_run_follow_those_told() {
    for (told, held, port) in
        [(&[][..], 0, 32769), (&[-1], 0, 1), (&[1], 2, 3), (&[600], 0, 601), (&[5, 30000], 30001, 30001)]
    {
        assert_eq!(strategy::made_up_port(told, |port| port == held), port, "{told:?}");
    }
}

#[tokio::test]
async fn a_name_that_no_address_can_refer_to_is_refused_with_the_service() {
    let server = one();
    let refused = create(server.registry(), "a/b", json!({})).await.unwrap_err();
    let why = r#"Service "a/b" is invalid: spec.clusterIPs: Invalid value: [""]: failed to allocate IP: IPAddress.networking.k8s.io "#;
    assert!(refused.message.starts_with(why), "{}", refused.message);
}

#[tokio::test]
async fn refuses_what_is_taken_and_keeps_nothing() {
    let server = one();
    let registry = server.registry();
    create(
        registry,
        "x",
        json!({"type": "NodePort", "clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 30001}]}),
    )
    .await
    .unwrap();
    let before = held(registry);
    for (spec, code, message) in [
        (
            json!({"clusterIP": "10.96.0.5"}),
            422,
            r#"Service "y" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.5"]: failed to allocate IP 10.96.0.5: provided IP is already allocated"#,
        ),
        (
            json!({"clusterIP": "10.97.0.5"}),
            422,
            r#"Service "y" is invalid: spec.clusterIPs: Invalid value: ["10.97.0.5"]: failed to allocate IP 10.97.0.5: the provided network does not match the current range"#,
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}),
            422,
            r#"Service "y" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"#,
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 8080}]}),
            422,
            r#"Service "y" is invalid: spec.ports[0].nodePort: Invalid value: 8080: provided port is not in the valid range. The range of valid ports is 30000-30019"#,
        ),
        (
            json!({"clusterIP": "x"}),
            422,
            r#"Service "y" is invalid: spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
        (
            json!({"clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.81"]}),
            422,
            r#"Service "y" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.81"]: first value must match `clusterIP`"#,
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            422,
            r#"Service "y" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
        ),
    ] {
        let status = create(registry, "y", spec).await.unwrap_err();
        assert_eq!((status.code, &*status.message), (code, message));
        assert_eq!(held(registry), before);
    }
    // The same name again.
    let status = create(registry, "x", json!({"type": "NodePort"})).await.unwrap_err();
    assert_eq!(status.reason, "AlreadyExists");
    assert_eq!(held(registry), before);
    // A dry run keeps nothing.
    let mut call = registry.call(User::loopback(), "services", "a", "").unwrap();
    call.options.dry_run = true;
    let dry = registry.create(&call, service("z", json!({"type": "NodePort"}))).await.unwrap();
    assert!(dry.record.decode()["spec"]["clusterIP"].is_string());
    assert_eq!(held(registry), before);
}

#[tokio::test]
async fn gives_all_ports_but_none_twice() {
    let server = one();
    let registry = server.registry();
    let protocols =
        json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]);
    let dns = create(registry, "dns", json!({"type": "NodePort", "ports": protocols})).await.unwrap();
    assert_eq!(dns["spec"]["ports"][0]["nodePort"], dns["spec"]["ports"][1]["nodePort"]);
    let all = futures::future::join_all((0..19).map(|number| {
        let name = format!("s{number}");
        async move { create(registry, &name, json!({"type": "NodePort"})).await }
    }));
    let ports: std::collections::BTreeSet<i64> =
        all.await.into_iter().map(|s| s.unwrap()["spec"]["ports"][0]["nodePort"].as_i64().unwrap()).collect();
    assert_eq!(ports.len(), 19);
    let status = create(registry, "more", json!({"type": "NodePort"})).await.unwrap_err();
    assert_eq!(status.message, "Internal error occurred: failed to allocate a nodePort: range is full");
    assert_eq!(held(registry).len(), 20 + 20);
}

#[tokio::test]
async fn grows_and_shrinks_families() {
    let server = server(&store(), &["10.96.0.0/24", "fd00::/112"], PortRange::default());
    let registry = server.registry();
    let single = create(registry, "x", json!({})).await.unwrap();
    assert_eq!(single["spec"]["ipFamilyPolicy"], "SingleStack");
    let dual =
        update(registry, "x", |x| x["spec"]["ipFamilyPolicy"] = "RequireDualStack".into()).await.unwrap();
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(dual["spec"]["clusterIP"], single["spec"]["clusterIP"]);
    assert_eq!(held(registry).len(), 2);
    let again = update(registry, "x", |x| x["spec"]["ipFamilyPolicy"] = "SingleStack".into()).await.unwrap();
    assert_eq!(again["spec"]["clusterIPs"], json!([single["spec"]["clusterIP"]]));
    assert_eq!(held(registry).len(), 1);
}

#[tokio::test]
async fn headless_holds_nothing() {
    let server = one();
    let made =
        create(server.registry(), "x", json!({"clusterIP": "None", "selector": {"a": "b"}})).await.unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(held(server.registry()), [""; 0]);
}

#[tokio::test]
async fn repairs_what_a_crash_leaves() {
    let store = store();
    let server = server(&store, &["10.96.0.0/24"], PortRange::default());
    let registry = server.registry();
    create(registry, "x", json!({"type": "NodePort", "clusterIP": "10.96.0.9"})).await.unwrap();
    let good = held(registry);
    // Orphans: of a Service that was never stored, of one that lists another address.
    let now = registry.now();
    for name in ["gone", "x"] {
        let holder = held::Holder { namespace: "a".into(), name: name.into() };
        let address = [10, 96, 0, if name == "x" { 20 } else { 21 }].into();
        held::claim_address(registry, address, &holder).await.unwrap();
        held::claim_port(&store, if name == "x" { 32001 } else { 32002 }, &holder, now).await.unwrap();
    }
    assert_eq!(repair::repair(registry, SignedDuration::from_mins(1)).await, Default::default());
    let done = repair::repair(registry, SignedDuration::ZERO).await;
    assert_eq!((done.released, done.reclaimed), (4, 0));
    assert_eq!(held(registry), good);
    // Held in name only.
    for name in &good {
        for resource in [held::ADDRESSES, held::PORTS] {
            if let Some(record) = store.get(&Key::new(resource, "", name)) {
                held::forget(&store, &record).await.unwrap();
            }
        }
    }
    let done = repair::repair(registry, SignedDuration::ZERO).await;
    assert_eq!((done.released, done.reclaimed), (0, 2));
    assert_eq!(held(registry), good);
}

#[tokio::test]
async fn another_try_takes_up_what_a_crash_left() {
    let server = one();
    let registry = server.registry();
    let holder = held::Holder { namespace: "a".into(), name: "x".into() };
    held::claim_address(registry, [10, 96, 0, 7].into(), &holder).await.unwrap();
    assert!(create(registry, "y", json!({"clusterIP": "10.96.0.7"})).await.is_err());
    create(registry, "x", json!({"clusterIP": "10.96.0.7"})).await.unwrap();
    assert_eq!(held(registry), ["10.96.0.7"]);
}

#[tokio::test]
async fn ranges_that_are_added_count_once_they_are_ready() {
    let server = one();
    let registry = server.registry();
    let far = json!({"clusterIP": "10.99.0.7"});
    let refused = create(registry, "x", far.clone()).await.unwrap_err();
    assert!(refused.message.contains("does not match the current range"), "{}", refused.message);
    let cidrs = "servicecidrs.networking.k8s.io";
    let call = registry.call(User::loopback(), cidrs, "", "").unwrap();
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.99.0.0/24"]}});
    registry.create(&call, more).await.unwrap();
    create(registry, "x", far.clone()).await.unwrap_err();
    let call = registry.call(User::loopback(), cidrs, "", "more").unwrap().on("status");
    let ready = registry.modify(&call, |range| {
        range["status"] = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "r",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        Ok(())
    });
    ready.await.unwrap();
    let made = create(registry, "x", far).await.unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.99.0.7"]));
}
