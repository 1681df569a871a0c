//! Where pods go, in tables: filters with upstream's words, scores, the queue.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::sync::Arc;
use std::time::Duration;

use carrack_api::Record;
use carrack_scheduler::decide::hints::Event;
use carrack_scheduler::decide::queue::Queue;
use carrack_scheduler::decide::{
    Decision, Memory, NodeFacts, Plugin, Plugins, PodInfo, Profile, Snapshot, Turn, decide,
};
use serde_json::{Value, json};

fn record(resource: &str, mut object: Value) -> Record {
    object["metadata"]["resourceVersion"] = "1".into();
    Record::from_wire::<&str>(resource, &object, &[]).unwrap()
}

/// A node of 4 cores, 8Gi and 10 pods, with `more` merged in.
fn node(name: &str, more: Value) -> NodeFacts {
    let mut object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    merge(&mut object, &more);
    NodeFacts::read(&record("nodes", object))
}

fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "i"}]},
    });
    merge(&mut object["spec"], &spec);
    Arc::new(PodInfo::read(&record("pods", object)))
}

fn merge(target: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(fields) => fields.iter().for_each(|(field, value)| merge(&mut target[field], value)),
        None => *target = patch.clone(),
    }
}

fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]})
}

fn snapshot(nodes: Vec<NodeFacts>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.into_iter().for_each(|node| snapshot.set_node(node));
    snapshot
}

fn decided(snapshot: &mut Snapshot, pod: &Arc<PodInfo>, seed: u64) -> Decision {
    let turn = Turn { seed, start: 0, now: 0 };
    decide(snapshot, &mut Memory::default(), pod, (0, &Profile::default()), turn).0
}

/// `expect` is a node's name, or the message.
fn check(snapshot: &mut Snapshot, pod: &Arc<PodInfo>, expect: &str) {
    let got = match decided(snapshot, pod, 1) {
        Decision::Place { node, .. } => node,
        Decision::Unschedulable(verdict) => verdict.message,
    };
    assert_eq!(got, expect, "{}", pod.name);
}

#[test]
fn refusals_are_worded_as_upstream_does() {
    check(&mut snapshot(vec![]), &pod("p", json!({})), "no nodes available to schedule pods");
    check(
        &mut snapshot(vec![node("a", json!({"status": {"allocatable": {"pods": "2k"}}}))]),
        &pod("p", json!({})),
        "a",
    );
    let taint = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let three = || {
        let mut snapshot =
            snapshot(vec![node("a", json!({})), node("b", taint.clone()), node("c", taint.clone())]);
        snapshot.place(pod("big", asks("3")), "a");
        snapshot
    };
    check(
        &mut three(),
        &pod("p", asks("2")),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). no new \
         claims to deallocate, preemption: 0/3 \
         nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful \
         for scheduling.",
    );
    check(
        &mut three(),
        &pod("p", asks("5")),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). no new \
         claims to deallocate, preemption: 0/3 \
         nodes are available: 3 Preemption is not helpful for scheduling.",
    );
    let alone = |more: Value| snapshot(vec![node("a", more)]);
    let message = |reason: &str, preemption: &str| {
        format!(
            "0/1 nodes are available: 1 {reason}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 {preemption}."
        )
    };
    let hopeless = "Preemption is not helpful for scheduling";
    for (node, spec, reason, preemption) in [
        (json!({"spec": {"unschedulable": true}}), json!({}), "node(s) were unschedulable", hopeless),
        (
            json!({}),
            json!({"nodeSelector": {"disk": "ssd"}}),
            "node(s) didn't match Pod's node affinity/selector",
            hopeless,
        ),
        (
            json!({"status": {"allocatable": {"pods": "0"}}}),
            json!({}),
            "Too many pods",
            "No preemption victims found for incoming pod",
        ),
    ] {
        check(&mut alone(node), &pod("p", spec), &message(reason, preemption));
    }
}

#[test]
fn affinity_tolerations_and_ports_choose_the_node() {
    let labelled =
        |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone, "n": "7"}}}));
    let mut two = snapshot(vec![labelled("a", "east"), labelled("b", "west")]);
    let term = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let required = |term: Value| {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    };
    check(&mut two, &pod("in", required(term("zone", "In", &["west", "south"]))), "b");
    check(&mut two, &pod("not-in", required(term("zone", "NotIn", &["west"]))), "a");
    check(&mut two, &pod("selector", json!({"nodeSelector": {"zone": "west"}})), "b");
    let by_name = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]});
    check(&mut two, &pod("field", required(by_name)), "b");
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": term("zone", "In", &["west"])}]}}});
    check(&mut two, &pod("preferred", preferred), "b");
    let port = json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    two.place(pod("holds", port.clone()), "a");
    check(&mut two, &pod("port", port), "b");
    two.place(pod("heavy", asks("2")), "b");
    check(&mut two, &pod("least", asks("1")), "a");

    let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let mut one = snapshot(vec![node("t", tainted)]);
    for toleration in [
        json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}),
        json!({"key": "k", "operator": "Exists"}),
        json!({"operator": "Exists"}),
    ] {
        check(&mut one, &pod("tolerant", json!({"tolerations": [toleration]})), "t");
    }
}

#[test]
fn equal_nodes_are_drawn_by_seed_and_evenly() {
    let nodes = |n: usize| snapshot((0..n).map(|i| node(&format!("n{i}"), json!({}))).collect());
    let mut four = nodes(4);
    let mut choice = |name: &str, seed: u64| match decided(&mut four, &pod(name, json!({})), seed) {
        Decision::Place { node, .. } => node,
        Decision::Unschedulable(verdict) => panic!("{}", verdict.message),
    };
    let first = choice("p", 1);
    assert_eq!(first, choice("p", 1));
    let mut counts = std::collections::BTreeMap::new();
    for i in 0..400 {
        *counts.entry(choice(&format!("p{i}"), 1)).or_insert(0) += 1;
    }
    assert!(counts.len() == 4 && counts.values().all(|count| *count > 60), "{counts:?}");
}

#[test]
fn pods_and_nodes_may_come_in_any_order() {
    let mut snapshot = Snapshot::default();
    snapshot.place(pod("early", asks("3")), "a");
    snapshot.set_node(node("a", json!({})));
    assert_eq!(snapshot.node("a").unwrap().requested.milli_cpu, 3000);
    snapshot.set_node(node("a", json!({"status": {"allocatable": {"cpu": "8"}}})));
    assert_eq!(snapshot.node("a").unwrap().requested.milli_cpu, 3000);
    snapshot.remove_node("a");
    snapshot.set_node(node("a", json!({})));
    assert!(snapshot.remove("early") && !snapshot.remove("early"));
    assert_eq!(snapshot.node("a").unwrap().requested.milli_cpu, 0);
}

#[test]
fn waiting_pods_wake_for_what_helps_them() {
    let at = Duration::from_secs;
    let only = |plugin| Plugins::default().with(plugin);
    let mut gone = (*pod("gone", json!({}))).clone();
    gone.node_name = "a".into();
    let mut queue = Queue::default();
    queue.set(pod("low", json!({})), at(0));
    queue.set(pod("high", json!({"priority": 10})), at(0));
    let first = queue.take(at(0)).unwrap();
    let second = queue.take(at(0)).unwrap();
    assert_eq!((first.name.as_str(), second.name.as_str()), ("high", "low"));
    queue.refused("high", only(Plugin::NodeResourcesFit), at(0));
    queue.refused("low", only(Plugin::TaintToleration), at(0));
    assert!(queue.take(at(2)).is_none());
    // A pod leaving helps one of them; its back-off is long over.
    queue.changed(&Event::PodGone(&gone), at(5));
    assert_eq!(queue.take(at(5)).unwrap().name, "high");
    // Now its back-off is not over; but there is nothing else to do.
    queue.refused("high", only(Plugin::NodeResourcesFit), at(5));
    queue.changed(&Event::PodGone(&gone), at(5));
    assert_eq!((queue.next_due(), queue.ready(at(5))), (Some(at(7)), true));
    assert_eq!(queue.take(at(5)).unwrap().name, "high");
    // A binding that failed is never tried early.
    queue.back_off("high", at(5));
    assert!(!queue.ready(at(5)) && queue.ready(at(6)));
    // While it evicts, it is not tried; what happens meanwhile is not forgotten.
    queue.take(at(6)).unwrap();
    queue.refused("high", only(Plugin::NodeResourcesFit), at(6));
    queue.evicting("high");
    queue.changed(&Event::PodGone(&gone), at(20));
    assert!(!queue.ready(at(20)));
    queue.evicted("high", false, at(20));
    assert_eq!(queue.take(at(20)).unwrap().name, "high");
    queue.remove("high");
    // Nothing that it looks at changes: after five minutes it is tried anyway.
    queue.changed(&Event::PodGone(&gone), at(21));
    assert!(queue.take(at(299)).is_none());
    assert_eq!(queue.take(at(300)).unwrap().name, "low");
    // Gates hold a pod until they are gone.
    let gated = json!({"schedulingGates": [{"name": "g"}]});
    queue.set(pod("gated", gated), at(301));
    assert!(!queue.ready(at(301)));
    queue.set(pod("gated", json!({})), at(302));
    assert_eq!(queue.take(at(302)).unwrap().name, "gated");
}
