//! Medians side by side, and whether Carrack meets what it set out to.

use std::fmt::Write as _;

use serde_json::Value;

use super::Figures;

/// The phases of apiload that have a rate.
const PHASES: &[&str] = &[
    "create",
    "get",
    "patch_status",
    "list_all",
    "list_all_cached",
    "list_label",
    "list_page_500",
    "delete",
];

/// Runs of the three servers.
#[derive(Debug, Default)]
pub struct Runs {
    /// Of the null server.
    pub null: Vec<Figures>,
    /// Of kube-apiserver and etcd.
    pub peer: Vec<Figures>,
    /// Of Carrack.
    pub carrack: Vec<Figures>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn figure(runs: &[Figures], phase: &str, field: &str) -> f64 {
    median(runs.iter().filter_map(|run| run.load[phase][field].as_f64()).collect())
}

fn errors(runs: &[Figures]) -> u64 {
    let of = |run: &Figures| PHASES.iter().filter_map(|p| run.load[*p]["errors"].as_u64()).sum::<u64>();
    runs.iter().map(of).sum()
}

/// How one figure compares with what is asked: the smaller of `times` the peer and
/// `share` of the null server.
fn verdict(ours: f64, peer: f64, null: f64, times: f64, share: f64) -> String {
    let wanted = (times * peer).min(share * null);
    let mark = if ours >= wanted { "✓" } else { "✗" };
    format!("{mark} {:.0}% of {wanted:.0}", 100.0 * ours / wanted)
}

/// The comparison as a table. `times` and `share` as in [`verdict`]; the server's CPU
/// may be at most a `times`th of the peer's, memory a tenth.
pub fn table(runs: &Runs, times: f64, share: f64) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<16} {:>10} {:>10} {:>10}  {:<22} {:>9} {:>9}  {:>8} {:>8}",
        "", "null/s", "peer/s", "carrack/s", "wanted", "peer ms", "ours ms", "p50 ms", "p99 ms"
    );
    for phase in PHASES {
        let rate = |runs: &[Figures]| figure(runs, phase, "per_second");
        let cpu = |runs: &[Figures]| figure(runs, phase, "server_cpu_ms_per_request");
        let (null, peer, ours) = (rate(&runs.null), rate(&runs.peer), rate(&runs.carrack));
        let (peer_cpu, our_cpu) = (cpu(&runs.peer), cpu(&runs.carrack));
        let mark = if our_cpu * times <= peer_cpu { "✓" } else { "✗" };
        let _ = writeln!(
            text,
            "{phase:<16} {null:>10.0} {peer:>10.1} {ours:>10.1}  {:<22} {peer_cpu:>9.2} {our_cpu:>7.2} {mark}  {:>8.1} {:>8.1}",
            verdict(ours, peer, null, times, share),
            figure(&runs.carrack, phase, "p50_ms"),
            figure(&runs.carrack, phase, "p99_ms"),
        );
    }
    let fanout = |runs: &[Figures], field: &str| figure(runs, "watch_fanout", field);
    for (name, of) in [("peer", &runs.peer), ("carrack", &runs.carrack)] {
        let _ = writeln!(
            text,
            "watch fan-out, {name}: {:.0} of {:.0} delivered, p50 {:.1} ms, p99 {:.1} ms",
            fanout(of, "delivered"),
            fanout(of, "expected"),
            fanout(of, "p50_ms"),
            fanout(of, "p99_ms"),
        );
    }
    let memory = |runs: &[Figures]| median(runs.iter().map(|run| run.after_mb).collect());
    let (peer, ours) = (memory(&runs.peer), memory(&runs.carrack));
    let mark = if ours * 10.0 <= peer { "✓" } else { "✗" };
    let _ = writeln!(text, "memory after the run: peer {peer:.0} MB, carrack {ours:.0} MB {mark}");
    let _ = writeln!(text, "errors: peer {}, carrack {}", errors(&runs.peer), errors(&runs.carrack));
    text
}

/// Everything that was measured, for keeping.
pub fn raw(runs: &Runs) -> Value {
    let all = |runs: &[Figures]| -> Value {
        runs.iter().map(|run| serde_json::json!({"load": run.load, "memory_mb": run.after_mb})).collect()
    };
    serde_json::json!({"null": all(&runs.null), "peer": all(&runs.peer), "carrack": all(&runs.carrack)})
}
