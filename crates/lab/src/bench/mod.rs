//! Carrack beside its peers: the same load program against the null server, upstream's
//! kube-apiserver with etcd, and `carrack server`, one after the other on this machine.
//!
//! Everything listens on the loopback, every run is bounded, and ratios, not single
//! figures, are what to quote: machines are noisy.

pub mod node;
pub mod report;
pub mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::machine::run;
use crate::paths;
use servers::Running;

/// Sizes of a run.
#[derive(Debug, Clone)]
pub struct Load {
    /// Pods.
    pub pods: usize,
    /// Concurrent clients.
    pub clients: usize,
    /// Watches in the fan-out phase.
    pub watchers: usize,
    /// Rounds; each runs every server once, and the medians are reported.
    pub rounds: usize,
}

/// The load program and the null server, built from their sources.
pub struct Programs {
    /// Drives a server.
    pub apiload: PathBuf,
    /// Does no work.
    pub nullserver: PathBuf,
}

impl Programs {
    /// Builds them from `sources` (the directory with `apiload/` and `nullserver/`).
    ///
    /// # Errors
    /// Go is missing, or the sources are.
    pub fn build(sources: &Path) -> Result<Self> {
        let out = paths::target().join("bench");
        std::fs::create_dir_all(&out)?;
        let build = |name: &str| -> Result<PathBuf> {
            let main = sources.join(name).join("main.go");
            ensure!(
                main.exists(),
                "{} is not there; set BENCH to the directory of the load programs",
                main.display()
            );
            let program = out.join(name);
            let mut go = Command::new("go");
            go.arg("build").arg("-o").arg(&program).arg(&main).env("CGO_ENABLED", "0");
            run(go, Duration::from_secs(300))?;
            Ok(program)
        };
        Ok(Self { apiload: build("apiload")?, nullserver: build("nullserver")? })
    }
}

/// What one run showed: apiload's figures, and memory of the server's processes.
#[derive(Debug, Clone)]
pub struct Figures {
    /// apiload's JSON.
    pub load: Value,
    /// Resident memory after the run, in MB.
    pub after_mb: f64,
}

/// Runs the load against a server that has just been started.
///
/// # Errors
/// The load program fails.
pub fn drive(programs: &Programs, server: &Running, load: &Load) -> Result<Figures> {
    let mut command = Command::new(&programs.apiload);
    command.args(["-server", &server.url, "-c", &load.clients.to_string(), "-n", &load.pods.to_string()]);
    command.args(["-watchers", &load.watchers.to_string(), "-pids", &server.pids()]);
    command.args(&server.credentials);
    let text = run(command, Duration::from_secs(1800))?;
    let load = serde_json::from_str(&text).with_context(|| format!("apiload said {text}"))?;
    Ok(Figures { load, after_mb: server.memory_mb() })
}
