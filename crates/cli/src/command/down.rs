//! `carrack down`: stops what `up` started, and every container with it; with
//! `--purge` nothing of Carrack remains on the machine.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use carrack_network::apply::conntrack::forget;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::args;
use crate::dirs::Dirs;
use crate::{node, process};

/// How long containers have to end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// How long the process has before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Stops the cluster.
///
/// # Errors
/// Something cannot be stopped or removed; everything else has been.
pub fn run(down: &args::Down) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "`carrack down` stops containers and needs root; try sudo");
    let Some(dirs) = Dirs::existing(&down.at.data_dir)? else {
        println!(" there is no cluster in {}", down.at.data_dir.display());
        return Ok(());
    };
    process::log("warn")?;
    let ranges = dirs.ranges();
    let held = stop(&dirs)?;
    println!(" ✓ control plane and node stopped");
    let errors = process::runtime()?.block_on(async {
        let runtime = node::runtime(&dirs).await?;
        let errors = carrack_node::purge(&runtime, dirs.root(), GRACE, !down.purge).await;
        runtime.close();
        // Connections of containers that are gone; without this they linger for minutes.
        if let Err(error) = forget(&ranges) {
            tracing::warn!(%error, "connection tracking could not be tidied; its entries expire by themselves");
        }
        anyhow::Ok(errors)
    })?;
    if !errors.is_empty() {
        bail!("not everything could be stopped:\n  {}", errors.join("\n  "));
    }
    println!(" ✓ containers stopped, network removed");
    if down.purge {
        std::fs::remove_dir_all(dirs.root())
            .with_context(|| format!("cannot remove {}", dirs.root().display()))?;
        println!(" ✓ {} removed", dirs.root().display());
    }
    drop(held);
    Ok(())
}

/// Ends the process that holds the directory, if there is one, and takes its place.
fn stop(dirs: &Dirs) -> Result<crate::dirs::Held> {
    let Some(pid) = dirs.holder() else { return dirs.hold() };
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}"))?;
    let impatient = std::thread::spawn({
        let dirs = dirs.clone();
        move || {
            std::thread::park_timeout(PATIENCE);
            if dirs.holder() == Some(pid.as_raw()) {
                // It did not listen; what it acknowledged is on disk.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    });
    let held = dirs.hold_when_free()?;
    impatient.thread().unpark();
    Ok(held)
}
