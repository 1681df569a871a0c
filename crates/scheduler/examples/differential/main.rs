//! Compares decisions with kube-scheduler's on generated cluster states.
//!
//! `generate SEED COUNT` prints states, one a line; `decide` reads them and prints what
//! Carrack makes of them; `compare STATES OURS THEIRS` reads both answers and fails when
//! they differ. The other side is `tests/upstream/scheduler`; `make
//! scheduler-differential` runs all of it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its answers")]

mod generate;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::Arc;

use carrack_api::Record;
use carrack_scheduler::decide::{
    AttachmentInfo, BudgetInfo, CapacityInfo, ClaimInfo, ClassInfo, LabelSet, NodeFacts, OwnerKind, PodInfo,
    Profile, Snapshot, VolumeInfo, explain, read_limits,
};
use serde_json::{Value, json};

/// "Now" of every state.
const NOW: i64 = 2_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["generate", seed, count] => {
            let mut out = std::io::stdout().lock();
            for number in 0..count.parse::<u64>()? {
                writeln!(out, "{}", generate::state(seed.parse()?, number))?;
            }
            Ok(())
        }
        ["decide"] => {
            for line in std::io::stdin().lock().lines() {
                println!("{}", decide(&serde_json::from_str(&line?)?));
            }
            Ok(())
        }
        ["compare", states, ours, theirs] => compare(states, ours, theirs),
        _ => Err("usage: generate SEED COUNT | decide | compare STATES OURS THEIRS".into()),
    }
}

fn record(resource: &str, object: &Value) -> Record {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = "1".into();
    Record::from_wire::<&str>(resource, &object, &[]).expect("generated objects are whole")
}

fn decide(state: &Value) -> Value {
    let mut snapshot = Snapshot::default();
    for object in state["objects"].as_array().into_iter().flatten() {
        add(&mut snapshot, object);
    }
    let pod = Arc::new(PodInfo::read(&record("pods", &state["pod"])));
    if !pod.nominated.is_empty() {
        snapshot.nominate(pod.clone(), &pod.nominated);
    }
    let found = explain(&mut snapshot, &pod, &Profile::default(), NOW);
    // What upstream's dynamic resources say, which the other side leaves out.
    let message = found.message.replace("no new claims to deallocate, ", "");
    let message = message.strip_suffix(" not found").filter(|rest| rest.ends_with('.')).unwrap_or(&message);
    let candidates: BTreeMap<&String, Value> = found
        .candidates
        .iter()
        .map(|(node, (victims, violations))| (node, json!({"victims": victims, "violations": violations})))
        .collect();
    json!({"scores": found.scores, "message": message, "candidates": candidates, "chosen": found.chosen})
}

fn add(snapshot: &mut Snapshot, object: &Value) {
    let kind = object["kind"].as_str().unwrap_or_default();
    let record = record(&format!("{}s", kind.to_lowercase()), object);
    let (namespace, name): (Box<str>, Box<str>) = (record.key.namespace().into(), record.key.name().into());
    match kind {
        "Node" => snapshot.set_node(NodeFacts::read(&record)),
        "Pod" => {
            let pod = Arc::new(PodInfo::read(&record));
            if pod.node_name.is_empty() {
                let node = pod.nominated.clone();
                snapshot.nominate(pod, &node);
            } else {
                let node = pod.node_name.clone();
                snapshot.place(pod, &node);
            }
        }
        "Namespace" => {
            let labels = record.header().labels.iter().map(|(key, value)| (&**key, &**value));
            snapshot.set_namespace(&name, Some(labels.collect::<LabelSet>()));
        }
        "PodDisruptionBudget" => {
            snapshot.budgets_mut().insert((namespace, name), BudgetInfo::read(&record));
        }
        "Service" => snapshot.owners_mut().set(OwnerKind::Service, &record),
        "ReplicationController" => snapshot.owners_mut().set(OwnerKind::ReplicationController, &record),
        "ReplicaSet" => snapshot.owners_mut().set(OwnerKind::ReplicaSet, &record),
        "StatefulSet" => snapshot.owners_mut().set(OwnerKind::StatefulSet, &record),
        "PersistentVolumeClaim" => {
            snapshot.volumes_mut().claims.insert((namespace, name), Arc::new(ClaimInfo::read(&record)));
        }
        "PersistentVolume" => {
            snapshot.volumes_mut().volumes.insert(name, Arc::new(VolumeInfo::read(&record)));
        }
        "StorageClass" => {
            snapshot.volumes_mut().classes.insert(name, ClassInfo::read(&record));
        }
        "CSINode" => {
            snapshot.volumes_mut().limits.insert(name, read_limits(&record));
        }
        "CSIDriver" => {
            let tracks = object["spec"]["storageCapacity"] == true;
            snapshot.volumes_mut().tracking.insert(name, tracks);
        }
        "CSIStorageCapacity" => {
            snapshot.volumes_mut().capacities.insert(name, CapacityInfo::read(&record));
        }
        "VolumeAttachment" => {
            snapshot.volumes_mut().attachments.insert(name, AttachmentInfo::read(&record));
        }
        other => panic!("nothing is known of {other}"),
    }
}

fn compare(states: &str, ours: &str, theirs: &str) -> Result<(), Box<dyn std::error::Error>> {
    let read = |path: &str| -> Result<Vec<Value>, Box<dyn std::error::Error>> {
        let text = std::fs::read_to_string(path)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let (states, ours, theirs) = (read(states)?, read(ours)?, read(theirs)?);
    if states.len() != ours.len() || ours.len() != theirs.len() {
        return Err(format!("{} states, {} and {} answers", states.len(), ours.len(), theirs.len()).into());
    }
    let mut differences: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut placed, mut evicted) = (0, 0);
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        placed += usize::from(!empty(&ours["scores"]));
        evicted += usize::from(!empty(&ours["candidates"]));
        for field in ["scores", "message", "candidates", "chosen"] {
            if ours[field] == theirs[field] {
                continue;
            }
            let seen = differences.entry(field).or_default();
            *seen += 1;
            if *seen <= 3 {
                eprintln!("state {number}, {field}:\n  ours   {}\n  theirs {}", ours[field], theirs[field]);
                eprintln!("  pod    {}", states[number]["pod"]);
            }
        }
    }
    println!("{} states: {placed} with feasible nodes, {evicted} with victims", states.len());
    if differences.is_empty() { Ok(()) } else { Err(format!("differences: {differences:?}").into()) }
}

fn empty(value: &Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty)
}
