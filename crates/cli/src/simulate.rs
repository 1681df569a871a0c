//! Simulated nodes from the command line: what each has and how its pods behave.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use carrack_api::quantity::Quantity;
use carrack_client::{Client, Source, SystemClock};
use carrack_node::simulate::{self, Behaviour, Fleet, Simulation};

use crate::args::Simulate;

/// Under which name simulated nodes write in the server's own process.
pub const USER: &str = "carrack:simulated-nodes";

/// The nodes asked for; none when there is nothing to simulate.
///
/// # Errors
/// A value cannot be, named in the message.
pub fn fleet(simulate: &Simulate) -> Result<Option<Fleet>> {
    if simulate.nodes == 0 {
        return Ok(None);
    }
    ensure!(
        (0.0..=1.0).contains(&simulate.failures),
        "--simulate-failures {}: a share is between 0 and 1",
        simulate.failures
    );
    ensure!(!simulate.heartbeat.is_zero(), "--simulate-heartbeat: nodes cannot write all the time");
    let version = concat!("v1.36.3+carrack", env!("CARGO_PKG_VERSION"), "-simulated");
    let mut fleet = Fleet::new(&simulate.name, simulate.nodes, version);
    fleet.first = simulate.first;
    for part in &simulate.capacity {
        let about =
            || format!("--simulate-capacity {part:?}: use a list such as cpu=32,memory=256Gi,pods=110");
        let (name, text) = part.split_once('=').with_context(about)?;
        let amount = Quantity::parse(text).ok().map(|q| q.value()).filter(|amount| *amount > 0);
        let amount = amount.with_context(about)?.unsigned_abs();
        match name {
            "cpu" => fleet.cpus = amount,
            "memory" => fleet.memory = amount,
            "pods" => fleet.pods = u32::try_from(amount).with_context(about)?,
            _ => bail!(about()),
        }
    }
    fleet.check()?;
    Ok(Some(fleet))
}

/// Starts the nodes.
pub fn start(fleet: Fleet, simulate: &Simulate, client: Client, source: Arc<dyn Source>) -> Simulation {
    simulate::start(simulate::Context {
        client,
        source,
        clock: Arc::new(SystemClock),
        fleet,
        behaviour: Behaviour {
            start: simulate.start,
            stop: simulate.stop,
            job: simulate.job,
            failures: simulate.failures,
            missing: simulate.missing.clone(),
        },
        heartbeat: simulate.heartbeat,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn read(words: &[&str]) -> Result<Option<Fleet>> {
        let all = ["carrack", "server"].iter().chain(words);
        match crate::args::Carrack::try_parse_from(all)?.command {
            crate::args::Command::Server(server) => fleet(&server.simulate),
            _ => bail!("another command"),
        }
    }

    #[test]
    fn fleets_are_read_and_nonsense_is_refused() {
        assert_eq!(read(&[]).unwrap(), None);
        let fleet = read(&["--simulate", "3"]).unwrap().unwrap();
        assert_eq!((fleet.count, fleet.cpus, fleet.memory, fleet.pods), (3, 32, 256 << 30, 110));
        let fleet = read(&["--simulate", "3", "--simulate-capacity", "cpu=4,memory=1G"]).unwrap().unwrap();
        assert_eq!((fleet.cpus, fleet.memory, fleet.pods), (4, 1_000_000_000, 110));
        for (words, about) in [
            (&["--simulate-capacity", "cpu"], "--simulate-capacity"),
            (&["--simulate-capacity", "gpu=1"], "gpu"),
            (&["--simulate-capacity", "pods=-1"], "pods=-1"),
            (&["--simulate-failures", "2"], "--simulate-failures"),
            (&["--simulate-start", "soon"], "500ms"),
            (&["--simulate-name", "No"], "\"No\""),
        ] {
            let error = read(&[&["--simulate", "1"], &words[..]].concat()).unwrap_err();
            assert!(format!("{error:#}").contains(about), "{error:#}");
        }
        assert!(format!("{:#}", read(&["--simulate", "99999"]).unwrap_err()).contains("16384"));
    }
}
