//! `make bench`: compares `carrack server` with the null server and with
//! kube-apiserver + etcd on this machine and prints the table.

use std::path::PathBuf;

use anyhow::{Context, Result};
use carrack_lab::bench::report::{self, Runs};
use carrack_lab::bench::{Load, Programs, drive, large, servers};

/// Nobody makes service accounts there: its controllers do not run.
const NO_ACCOUNTS: &str = "--disable-admission-plugins=ServiceAccount";

fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text:?} is not a number")),
        Err(_) => Ok(default),
    }
}

fn main() -> Result<()> {
    let sources = std::env::var_os("BENCH").map_or_else(|| PathBuf::from("../shared/bench"), PathBuf::from);
    let load = Load {
        pods: setting("PODS", 10_000)?,
        clients: setting("CLIENTS", 32)?,
        watchers: setting("WATCHERS", 100)?,
        wide: setting("WIDE", 1000)?,
        rounds: setting("ROUNDS", 3)?,
    };
    let only_ours = std::env::var_os("ONLY_CARRACK").is_some();
    let programs = Programs::build(&sources)?;
    let size = servers::carrack(&[])?.pod_size(&programs)?;
    println!("a stored pod has {size} bytes; {load:?}");
    let mut runs = Runs::default();
    for round in 1..=load.rounds {
        if !only_ours {
            println!("round {round}: null server");
            // It answers a watch with the whole list: a thousand at once are more than apiload holds.
            let narrow = Load { wide: 0, ..load.clone() };
            runs.null.push(drive(&programs, &servers::null(&programs, size, load.pods)?, &narrow)?);
            println!("round {round}: kube-apiserver + etcd");
            runs.peer.push(drive(&programs, &servers::upstream(&[NO_ACCOUNTS])?, &load)?);
        }
        println!("round {round}: carrack");
        runs.carrack.push(drive(&programs, &servers::carrack(&[])?, &load)?);
    }
    println!("\n{}", report::table(&runs, 5.0, 0.5));
    let mut raw = report::raw(&runs);
    let many = setting("LARGE", 100_000)?;
    if many > 0 {
        let large = large::measure(&programs, &servers::carrack(&[])?, many)?;
        println!("{}", large.report());
        raw["large"] = large.raw();
    }
    let out = carrack_lab::paths::target().join("bench/figures.json");
    std::fs::write(&out, serde_json::to_vec_pretty(&raw)?)?;
    println!("all figures: {}", out.display());
    Ok(())
}
