//! How fast the pure core decides: `speed NODES PODS WORKLOAD`, where the workload is that
//! of the yardstick `schedload` (basic, spread, anti, affinity), or `owned`: pods of many
//! ReplicaSets with the default spread constraints. Prints decisions a second; no API
//! server takes part. Figures mean something only of a release build.

#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::sync::Arc;
use std::time::Instant;

use carrack_api::Record;
use carrack_scheduler::decide::{
    Decision, Memory, NodeFacts, OwnerKind, PodInfo, Profile, Snapshot, Turn, decide,
};
use serde_json::{Value, json};

fn record(resource: &str, mut object: Value) -> Record {
    object["metadata"]["resourceVersion"] = "1".into();
    Record::from_wire::<&str>(resource, &object, &[]).expect("the objects are whole")
}

fn node(at: usize) -> NodeFacts {
    let name = format!("fake-{at:05}");
    NodeFacts::read(&record(
        "nodes",
        json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": format!("zone-{}", at % 10)}},
            "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110"}},
        }),
    ))
}

fn pod(at: usize, workload: &str) -> PodInfo {
    let group = format!("g{}", at / 100);
    let mut spec = json!({
        "schedulerName": "default-scheduler", "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "registry.example/pause:1",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
    });
    match workload {
        "spread" => {
            spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
                "topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "sched"}}}]);
        }
        "anti" => {
            spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"group": group}}}]}});
        }
        "affinity" => {
            spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone",
                    "operator": "In", "values": [format!("zone-{}", at % 10)]}]}]}}});
        }
        _ => {}
    }
    let mut metadata = json!({"name": format!("sched-{at:06}"), "namespace": "schedload", "uid": format!("uid-{at}"),
        "labels": {"app": "sched", "group": group}});
    if workload == "owned" {
        metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": group,
            "uid": group, "controller": true}]);
    }
    PodInfo::read(&record("pods", json!({"metadata": metadata, "spec": spec})))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(or);
    let (nodes, pods) = (number(0, 1000), number(1, 5000));
    let workload = arguments.get(2).map_or("basic", String::as_str);
    let (mut snapshot, mut memory, profile) = (Snapshot::default(), Memory::default(), Profile::default());
    (0..nodes).for_each(|at| snapshot.set_node(node(at)));
    if workload == "owned" {
        for group in 0..=pods / 100 {
            let name = format!("g{group}");
            let set = json!({"metadata": {"name": name, "namespace": "schedload"},
                "spec": {"selector": {"matchLabels": {"group": name}}}});
            snapshot.owners_mut().set(OwnerKind::ReplicaSet, &record("replicasets.apps", set));
        }
    }
    let waiting: Vec<PodInfo> = (0..pods).map(|at| pod(at, workload)).collect();
    let (begin, mut start, mut placed) = (Instant::now(), 0, 0);
    for mut pod in waiting {
        pod.needs = snapshot.share(&pod.needs);
        let pod = Arc::new(pod);
        let turn = Turn { seed: 1, start, now: 0 };
        let (decision, next) = decide(&mut snapshot, &mut memory, &pod, (0, &profile), turn);
        start = next;
        if let Decision::Place { node, .. } = decision {
            snapshot.place(pod, &node);
            placed += 1;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{workload}: {placed} of {pods} pods on {nodes} nodes, {:.0} decisions/s",
        pods as f64 / seconds
    );
}
