//! Which of the feasible nodes is best: upstream's scores with its default weights.

use std::collections::HashMap;

use super::pod::PodInfo;
use super::resources::Resources;
use super::snapshot::Snapshot;
use super::{NodeInfo, Toleration};

const MAX: i64 = 100;
const TAINTS_WEIGHT: i64 = 3;
const AFFINITY_WEIGHT: i64 = 2;
const MIB: i64 = 1 << 20;

/// Scores of the nodes at `feasible`, in that order.
pub fn scores(snapshot: &Snapshot, pod: &PodInfo, feasible: &[usize]) -> Vec<i64> {
    let nodes: Vec<&NodeInfo> = feasible.iter().map(|at| &snapshot.nodes()[*at]).collect();
    if nodes.len() == 1 {
        return vec![0];
    }
    let taints = normalise(nodes.iter().map(|node| intolerable(pod, node)).collect(), true);
    let affinity = normalise(nodes.iter().map(|node| pod.affinity.preference(node)).collect(), false);
    let holders = image_holders(snapshot, pod);
    let total = snapshot.nodes().len();
    let score = |(at, node): (usize, &&NodeInfo)| {
        TAINTS_WEIGHT * taints[at]
            + AFFINITY_WEIGHT * affinity[at]
            + least_allocated(pod, node)
            + balance(pod, node)
            + image_locality(pod, node, &holders, total)
    };
    nodes.iter().enumerate().map(score).collect()
}

/// To 0…100 of the highest; reversed when less is better.
fn normalise(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let scaled = |score: i64| if highest == 0 { 0 } else { score * MAX / highest };
    scores.into_iter().map(|score| if reverse { MAX - scaled(score) } else { scaled(score) }).collect()
}

/// PreferNoSchedule taints that the pod does not tolerate.
fn intolerable(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let prefers = |t: &&Toleration| t.effect.is_empty() || t.effect == "PreferNoSchedule";
    let taints = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    taints.filter(|taint| !pod.tolerations.iter().filter(prefers).any(|t| t.tolerates(taint))).count() as i64
}

/// Free share of cpu and memory once the pod is there.
fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |held: i64, wanted: i64, capacity: i64| match held + wanted {
        _ if capacity == 0 => None,
        requested if requested > capacity => Some(0),
        requested => Some((capacity - requested) * MAX / capacity),
    };
    let (held, wanted, all) = (&node.weight, &pod.weight, &node.allocatable);
    let shares =
        [free(held.milli_cpu, wanted.milli_cpu, all.milli_cpu), free(held.memory, wanted.memory, all.memory)];
    let known: Vec<i64> = shares.into_iter().flatten().collect();
    known.iter().sum::<i64>() / (known.len().max(1) as i64)
}

/// Whether the pod brings the use of cpu and memory closer together.
fn balance(pod: &PodInfo, node: &NodeInfo) -> i64 {
    if pod.requests.milli_cpu == 0 && pod.requests.memory == 0 {
        return 0;
    }
    let score = |requested: &Resources| {
        let share =
            |amount: i64, capacity: i64| (capacity != 0).then(|| (amount as f64 / capacity as f64).min(1.0));
        let cpu = share(requested.milli_cpu, node.allocatable.milli_cpu);
        let memory = share(requested.memory, node.allocatable.memory);
        let deviation = cpu.zip(memory).map_or(0.0, |(cpu, memory)| ((cpu - memory) / 2.0).abs());
        ((1.0 - deviation) * MAX as f64) as i64
    };
    let mut with = node.requested.clone();
    with.milli_cpu += pod.requests.milli_cpu;
    with.memory += pod.requests.memory;
    MAX / 2 + (MAX / 2 + score(&with) - score(&node.requested)) / 2
}

/// How many nodes have each of the pod's images.
fn image_holders<'a>(snapshot: &Snapshot, pod: &'a PodInfo) -> HashMap<&'a str, i64> {
    let count = |image: &str| snapshot.nodes().iter().filter(|node| node.images.contains_key(image)).count();
    pod.images.iter().map(|image| (image.as_str(), count(image) as i64)).collect()
}

/// Bytes of the pod's images that are there, counted less the fewer nodes have them.
fn image_locality(pod: &PodInfo, node: &NodeInfo, holders: &HashMap<&str, i64>, total: usize) -> i64 {
    let share = |image: &String| {
        let size = node.images.get(image).copied().unwrap_or(0);
        let spread = holders.get(image.as_str()).copied().unwrap_or(0) as f64 / total as f64;
        (size as f64 * spread) as i64
    };
    let (least, most) = (23 * MIB, 1000 * MIB * pod.images.len().max(1) as i64);
    let sum: i64 = pod.images.iter().map(share).sum();
    MAX * (sum.clamp(least, most) - least) / (most - least)
}
