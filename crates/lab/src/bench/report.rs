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
        "{:<16} {:>10} {:>10} {:>10}  {:<22} {:>9} {:>9}",
        "", "null/s", "peer/s", "carrack/s", "wanted", "peer CPU", "ours ms"
    );
    for phase in PHASES {
        let rate = |runs: &[Figures]| figure(runs, phase, "per_second");
        let cpu = |runs: &[Figures]| figure(runs, phase, "server_cpu_ms_per_request");
        let (null, peer, ours) = (rate(&runs.null), rate(&runs.peer), rate(&runs.carrack));
        let (peer_cpu, our_cpu) = (cpu(&runs.peer), cpu(&runs.carrack));
        let mark = if our_cpu * times <= peer_cpu { "✓" } else { "✗" };
        let _ = writeln!(
            text,
            "{phase:<16} {null:>10.0} {peer:>10.1} {ours:>10.1}  {:<22} {peer_cpu:>9.2} {our_cpu:>7.2} {mark}",
            verdict(ours, peer, null, times, share),
        );
    }
    text.push('\n');
    text.push_str(&latencies(runs));
    for (part, name, of) in [
        ("watch fan-out", "peer", &runs.peer),
        ("watch fan-out", "carrack", &runs.carrack),
        ("wide", "peer", &runs.peer),
        ("wide", "carrack", &runs.carrack),
    ] {
        if let Some(line) = fanout(part, name, of) {
            let _ = writeln!(text, "{line}");
        }
    }
    let memory = |runs: &[Figures]| median(runs.iter().map(|run| run.after_mb).collect());
    let (peer, ours) = (memory(&runs.peer), memory(&runs.carrack));
    let mark = if ours * 10.0 <= peer { "✓" } else { "✗" };
    let _ = writeln!(text, "memory after the run: peer {peer:.0} MB, carrack {ours:.0} MB {mark}");
    let _ = writeln!(text, "errors: peer {}, carrack {}", errors(&runs.peer), errors(&runs.carrack));
    text
}

/// Latencies beside each other: p99 may be at most the larger of a tenth of the peer's and
/// twice the null server's.
fn latencies(runs: &Runs) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<16} {:>17} {:>19} {:>17}  wanted p99",
        "ms", "null p50     p99", "peer p50      p99", "ours p50     p99"
    );
    for phase in PHASES {
        let (p50, p99) = ("p50_ms", "p99_ms");
        let wanted = (figure(&runs.peer, phase, p99) / 10.0).max(2.0 * figure(&runs.null, phase, p99));
        let ours = figure(&runs.carrack, phase, p99);
        let mark = if ours <= wanted { "✓" } else { "✗" };
        let _ = writeln!(
            text,
            "{phase:<16} {:>8.1} {:>8.1} {:>9.1} {:>9.1} {:>8.1} {ours:>8.1}  {mark} {wanted:.1}",
            figure(&runs.null, phase, p50),
            figure(&runs.null, phase, p99),
            figure(&runs.peer, phase, p50),
            figure(&runs.peer, phase, p99),
            figure(&runs.carrack, phase, p50),
        );
    }
    text
}

/// One server's deliveries to many watches; `None` when none were made.
fn fanout(part: &str, name: &str, runs: &[Figures]) -> Option<String> {
    let of = |run: &Figures, field: &str| {
        let figures = if part == "wide" { &run.wide } else { &run.load["watch_fanout"] };
        figures[field].as_f64()
    };
    let middle = |field: &str| median(runs.iter().filter_map(|run| of(run, field)).collect());
    runs.iter().find_map(|run| of(run, "watchers"))?;
    let complete = runs.iter().all(|run| of(run, "delivered") == of(run, "expected"));
    Some(format!(
        "fan-out to {:.0} watches, {name}: {:.0} of {:.0} delivered{}, p50 {:.1} ms, p99 {:.1} ms",
        middle("watchers"),
        middle("delivered"),
        middle("expected"),
        if complete { "" } else { " ✗" },
        middle("p50_ms"),
        middle("p99_ms"),
    ))
}

/// Everything that was measured, for keeping.
pub fn raw(runs: &Runs) -> Value {
    let all = |runs: &[Figures]| -> Value {
        runs.iter()
            .map(|run| serde_json::json!({"load": run.load, "wide": run.wide, "memory_mb": run.after_mb}))
            .collect()
    };
    serde_json::json!({"null": all(&runs.null), "peer": all(&runs.peer), "carrack": all(&runs.carrack)})
}
