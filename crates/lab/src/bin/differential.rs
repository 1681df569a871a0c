//! `make differential`: sends the same requests to upstream's kube-apiserver and to
//! `carrack server` and prints the coverage and what differs.
//!
//! `SEED`, `CASES` and `KINDS` (plurals with commas between; `documents` and `manifests`
//! too) say what is asked.

use anyhow::{Context, Result};
use carrack_lab::bench::servers;
use carrack_lab::differential::{self, generate::Plan};
use carrack_lab::paths;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text:?} is not a number")),
        Err(_) => Ok(default),
    }
}

fn main() -> Result<()> {
    let only = std::env::var("KINDS").unwrap_or_default();
    let only: Vec<String> = only.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let plan = Plan { seed: setting("SEED", 1)?, cases: setting("CASES", 10_000)?, only };
    let cases = differential::cases(&plan)?;
    println!("seed {}: {} cases", plan.seed, cases.len());
    let dir = paths::target().join("differential");
    std::fs::create_dir_all(&dir)?;
    let theirs = servers::upstream(&["--allow-privileged=true"])?;
    let ours = servers::carrack(&["--disable", "controllers,scheduler"])?;
    let report = differential::run(&ours, &theirs, &cases, &dir.join("differences.jsonl"))?;
    let (clusters, coverage) = (report.clusters(), report.coverage(&plan.only));
    std::fs::write(dir.join("clusters.txt"), &clusters)?;
    std::fs::write(dir.join("coverage.txt"), &coverage)?;
    println!("{coverage}\n{clusters}\nall differences: {}", dir.join("differences.jsonl").display());
    if report.different > 0 {
        anyhow::bail!("{} of {} cases differ", report.different, report.cases);
    }
    Ok(())
}
