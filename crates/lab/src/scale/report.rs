//! The tables of a run.

use std::fmt::Write as _;

use super::{Outcome, Phase};

/// The longest that an answer may take at p99, in milliseconds.
pub const WANTED_P99: f64 = 100.0;

/// Heads the lines of [`line()`].
pub const HEAD: &str = "phase                            s   server CPU s   cores     MB  peak MB   simulator CPU s   cores     MB";

/// One phase: processor time used in it, and memory at its end.
pub fn line(phase: &Phase) -> String {
    let seconds = phase.took.as_secs_f64();
    let (server, simulator) = (&phase.server, &phase.simulator);
    format!(
        "{:<27} {seconds:>6.1} {:>14.1} {:>7.2} {:>6.0} {:>8.0} {:>17.1} {:>7.2} {:>6.0}",
        phase.name,
        server.cpu,
        server.cpu / seconds,
        server.memory_mb,
        server.peak_mb,
        simulator.cpu,
        simulator.cpu / seconds,
        simulator.memory_mb,
    )
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = (q * sorted.len().saturating_sub(1) as f64) as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn row(name: &str, mut times: Vec<f64>, failures: usize, wanted: Option<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let p99 = quantile(&times, 0.99);
    let mark = wanted.map_or("", |wanted| if p99 < wanted { "✓" } else { "✗" });
    let (p50, max) = (quantile(&times, 0.5), quantile(&times, 1.0));
    format!("{name:<18} {:>8} {failures:>8} {p50:>9.1} {p99:>9.1} {mark} {max:>9.1}", times.len())
}

/// Requests during the churn, kind by kind and all together.
pub fn table(outcome: &Outcome) -> String {
    let mut text = String::from("request               count   failed    p50 ms    p99 ms      max ms\n");
    let kinds = &outcome.requests.0;
    for (kind, (times, failures)) in kinds {
        let _ = writeln!(text, "{}", row(kind, times.clone(), failures.len(), Some(WANTED_P99)));
    }
    let all = kinds.values().flat_map(|(times, _)| times).copied().collect();
    let failed = kinds.values().map(|(_, failures)| failures.len()).sum();
    let _ = writeln!(text, "{}", row("all", all, failed, Some(WANTED_P99)));
    for (kind, (times, failures)) in &outcome.starts.0 {
        let _ = writeln!(text, "{}", row(kind, times.clone(), failures.len(), None));
    }
    let every = kinds.values().chain(outcome.starts.0.values());
    for failure in every.flat_map(|(_, failures)| failures).take(5) {
        let _ = writeln!(text, "  failed: {failure}");
    }
    let (before, after) = outcome.running;
    let _ = writeln!(text, "Running before the churn: {before}, after: {after}");
    text
}
