//! `make bench-scheduler`: how fast pods are placed, by Carrack and by kube-scheduler with
//! kube-apiserver and etcd, on this machine in one run; prints the ratios.

use std::path::PathBuf;

use anyhow::{Context, Result};
use carrack_lab::bench::Programs;
use carrack_lab::bench::scheduling::{Placed, Work, ours, peers};

/// Workloads with as many pods as the comparison places.
const WORKLOADS: [(&str, usize); 4] = [("basic", 5000), ("spread", 2000), ("anti", 2000), ("affinity", 2000)];
/// Nodes of the comparison.
const NODES: usize = 1000;
/// Nodes and pods of the large one, which only Carrack runs.
const LARGE: (usize, usize) = (5000, 50_000);
/// How many times as fast is aimed at.
const WANTED: f64 = 10.0;

fn number(name: &str) -> Result<Option<usize>> {
    match std::env::var(name).unwrap_or_default() {
        text if text.is_empty() => Ok(None),
        text => text.parse().map(Some).with_context(|| format!("{name}={text:?} is not a number")),
    }
}

fn line(name: &str, server: &str, placed: &Placed, ratio: &str) {
    println!(
        "{name:<32} {server:<14} {:>8.0} {:>10.1} {:>10.1} {:>9.1} {:>8.0}  {ratio}",
        placed.rate(),
        placed.figure("create_to_bound_p50_ms"),
        placed.figure("create_to_bound_p99_ms"),
        placed.cpu,
        placed.memory_mb,
    );
}

fn main() -> Result<()> {
    let sources = std::env::var_os("BENCH").map_or_else(|| PathBuf::from("../shared/bench"), PathBuf::from);
    let programs = Programs::build(&sources)?;
    let (nodes, pods) = (number("NODES")?.unwrap_or(NODES), number("PODS")?);
    println!(
        "{:<32} {:<14} {:>8} {:>10} {:>10} {:>9} {:>8}",
        "pods placed", "by", "pods/s", "p50 ms", "p99 ms", "CPU s", "MB"
    );
    for (workload, usual) in WORKLOADS {
        let work = Work { workload, nodes, pods: pods.unwrap_or(usual) };
        let name = format!("{workload}, {} on {nodes}", work.pods);
        let carrack = ours(&programs, &work)?;
        line(&name, "carrack", &carrack, "");
        if std::env::var_os("ONLY_CARRACK").is_none() {
            let peer = peers(&programs, &work)?;
            let ratio = carrack.rate() / peer.rate();
            let mark = if ratio >= WANTED { "✓" } else { "✗" };
            line(&name, "kube-scheduler", &peer, &format!("{mark} {ratio:.1} times"));
        }
    }
    let (nodes, pods) = (number("LARGE_NODES")?.unwrap_or(LARGE.0), number("LARGE_PODS")?.unwrap_or(LARGE.1));
    if nodes > 0 {
        let work = Work { workload: "basic", nodes, pods };
        line(&format!("basic, {pods} on {nodes}"), "carrack", &ours(&programs, &work)?, "");
    }
    Ok(())
}
