//! `make bench-node`: starts a cluster with the example in a machine of its own, watches what
//! it costs when nothing happens, then starts pods one after the other and many at once.
//! ONE_BY_ONE, AT_ONCE and IDLE (seconds, twice) choose how much of each.

use std::time::Duration;

use anyhow::{Context, Result};
use carrack_lab::bench::node;
use carrack_lab::machine::{Machine, run};
use carrack_lab::paths;

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text:?} is not a number")),
        Err(_) => Ok(default),
    }
}

fn main() -> Result<()> {
    let (one_by_one, at_once) = (setting("ONE_BY_ONE", 200)?, setting("AT_ONCE", 50)?);
    let idle = Duration::from_secs(setting("IDLE", 300)?);
    let machine = Machine::start()?;
    let (carrack, data) = (paths::carrack()?, machine.dir().join("data"));
    print!("{}", node::up(&machine, &carrack, &data)?);

    if !idle.is_zero() {
        let seen = node::idle(&machine, idle)?;
        println!(
            "idle for {:.0} s: {} processes, {:.1} MB (PSS), {:.2}% of a core",
            seen.seconds,
            seen.processes,
            seen.memory_mb,
            seen.cpu * 100.0
        );
        match node::syncs(&machine, idle)? {
            Some(syncs) => println!("idle for another {} s: {syncs} syncs", idle.as_secs()),
            None => println!("syncs not counted (strace is not installed)"),
        }
    }
    let podstart = std::env::current_exe()?.with_file_name("podstart");
    let mut pods = machine.command(podstart);
    pods.arg(data.join("kubeconfig")).args([one_by_one.to_string(), at_once.to_string()]);
    print!("{}", run(pods, Duration::from_secs(900))?);
    node::down(&machine, &carrack, &data)?;
    Ok(())
}
