//! What objects use, and whether more fits.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

#[track_caller]
fn uses(resource: &str, object: Value, expect: &str) {
    let usage = evaluator(resource).unwrap().usage(&object, now());
    assert_eq!(usage.without_zeros().show(), expect, "{object}");
}

fn container(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn what_pods_use() {
    let small = container(json!({"cpu": "100m", "example.com/gpu": "1"}), json!({"memory": "1Gi"}));
    let pod = json!({"spec": {"containers": [small, small]}});
    uses(
        "pods",
        pod.clone(),
        "count/pods=1,cpu=200m,limits.memory=2Gi,pods=1,requests.cpu=200m,requests.example.com/gpu=2",
    );
    let mut gone = pod.clone();
    gone["status"]["phase"] = "Succeeded".into();
    uses("pods", gone, "count/pods=1");
    let mut overdue = pod.clone();
    overdue["metadata"] =
        json!({"deletionTimestamp": "2025-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30});
    uses("pods", overdue, "count/pods=1");
    // An init container runs beside the sidecars that came before it.
    let mut sidecar = container(json!({"cpu": "1"}), json!({}));
    sidecar["restartPolicy"] = "Always".into();
    let init = container(json!({"cpu": "2"}), json!({}));
    let spec = json!({"containers": [small], "initContainers": [sidecar, init], "overhead": {"cpu": "10m"}});
    let requests = pods::requests(&json!({ "spec": spec }));
    assert_eq!(requests.get("cpu").unwrap().to_string(), "3010m");
    let mut whole = json!({ "spec": spec });
    whole["spec"]["resources"] = json!({"requests": {"cpu": "500m"}});
    assert_eq!(pods::requests(&whole).get("cpu").unwrap().to_string(), "510m");
}

#[test]
fn what_others_use() {
    let service =
        |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}, {"port": 2, "nodePort": 3}]}});
    uses("services", service("ClusterIP"), "count/services=1,services=1");
    uses("services", service("NodePort"), "count/services=1,services=1,services.nodeports=2");
    let mut balanced = service("LoadBalancer");
    balanced["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    uses("services", balanced, "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1");
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5"}}}});
    uses(
        "persistentvolumeclaims",
        claim,
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2",
    );
    uses("secrets", json!({}), "count/secrets=1,secrets=1");
    uses("widgets.example.com", json!({}), "count/widgets.example.com=1");
    let request = |class: &str, count: i64| json!({"deviceClassName": class, "count": count});
    let devices = json!({"spec": {"devices": {"requests": [
        {"firstAvailable": [request("a", 2), request("b", 1)]}, {"exactly": request("a", 3)}]}}});
    uses(
        "resourceclaims.resource.k8s.io",
        devices,
        "a.deviceclass.resource.k8s.io/devices=5,b.deviceclass.resource.k8s.io/devices=1,\
         count/resourceclaims.resource.k8s.io=1",
    );
    assert_eq!(evaluator("events"), None);
}

#[test]
fn names_belong_to_resources() {
    let names = ["cpu", "requests.storage", "secrets", "count/widgets.example.com", "nonsense"];
    let all: Vec<Box<str>> = resources(names.into_iter()).into_iter().collect();
    assert_eq!(all, ["persistentvolumeclaims", "pods", "secrets", "widgets.example.com"].map(Box::from));
}

#[test]
fn scopes_select() {
    let pod = |spec: Value| json!({ "spec": spec });
    let quota = |scope: Value| json!({"spec": {"scopeSelector": {"matchExpressions": [scope]}}});
    let check = |scope: Value, object: Value, expect: bool| {
        assert_eq!(scopes(&quota(scope.clone()))[0].of_pod(&object), expect, "{scope} {object}");
    };
    let plain = pod(json!({"containers": [{}]}));
    let classed = pod(json!({"containers": [{}], "priorityClassName": "high"}));
    check(json!({"scopeName": "BestEffort", "operator": "Exists"}), plain.clone(), true);
    check(json!({"scopeName": "NotBestEffort", "operator": "Exists"}), plain.clone(), false);
    check(
        json!({"scopeName": "Terminating", "operator": "Exists"}),
        pod(json!({"activeDeadlineSeconds": 1})),
        true,
    );
    let class =
        |operator: &str| json!({"scopeName": "PriorityClass", "operator": operator, "values": ["high"]});
    for (operator, of_plain, of_classed) in
        [("In", false, true), ("NotIn", true, false), ("Exists", false, true), ("DoesNotExist", true, false)]
    {
        check(class(operator), plain.clone(), of_plain);
        check(class(operator), classed.clone(), of_classed);
    }
    let far =
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}});
    check(
        json!({"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}),
        pod(json!({"affinity": far})),
        true,
    );
}

#[test]
fn more_fits_or_says_why() {
    let quota =
        |hard: Value, used: Value| json!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}});
    let pod = json!({"spec": {"containers": [container(json!({"cpu": "500m"}), json!({}))]}});
    let check = |quota: Value, new: &Value, old: Option<&Value>, expect: Result<&str, &str>| {
        let evaluator = evaluator("pods").unwrap();
        let request = Request { evaluator: &evaluator, new, old, now: now() };
        let found = charge(&quota, &request).map(|more| more.show());
        assert_eq!(found.as_ref().map(String::as_str).map_err(String::as_str), expect, "{quota}");
    };
    let room = quota(json!({"cpu": "1", "pods": "2"}), json!({"cpu": "500m", "pods": "1"}));
    check(room, &pod, None, Ok("cpu=500m,pods=1"));
    let full = quota(json!({"cpu": "1", "pods": "2"}), json!({"cpu": "600m", "pods": "1"}));
    check(
        full.clone(),
        &pod,
        None,
        Err("exceeded quota: q, requested: cpu=500m, used: cpu=600m, limited: cpu=1"),
    );
    check(full.clone(), &pod, Some(&pod), Ok(""));
    check(
        quota(json!({"limits.memory": "1", "pods": "1"}), json!({})),
        &pod,
        None,
        Err("failed quota: q: must specify limits.memory for: c"),
    );
    check(
        quota(json!({"cpu": "1", "pods": "1"}), json!({"pods": "0"})),
        &pod,
        None,
        Err("status unknown for quota: q, resources: cpu,pods"),
    );
    let mut scoped = full;
    scoped["spec"]["scopes"] = json!(["BestEffort"]);
    check(scoped, &pod, None, Ok(""));
    check(quota(json!({"secrets": "0"}), json!({"secrets": "0"})), &pod, None, Ok(""));
}

#[test]
fn counts_anew() {
    let evaluator = evaluator("pods").unwrap();
    let pod = json!({"spec": {"containers": [container(json!({"cpu": "500m"}), json!({}))]}});
    let sum = |names: &[&str]| {
        total(&evaluator, names.iter().copied(), &[], [pod.clone(), pod.clone()].into_iter(), now()).show()
    };
    assert_eq!(sum(&["cpu", "pods", "memory", "secrets"]), "cpu=1,memory=0,pods=2");
    assert_eq!(sum(&["services"]), "");
}
