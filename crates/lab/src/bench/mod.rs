//! Carrack beside its peers: the same load program against the null server, upstream's
//! kube-apiserver with etcd, and `carrack server`, one after the other on this machine.
//!
//! Everything listens on the loopback, every run is bounded, and ratios, not single
//! figures, are what to quote: machines are noisy.

pub mod large;
pub mod node;
pub mod report;
pub mod scheduling;
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
    /// Watches in a second fan-out, at the end; none when 0.
    pub wide: usize,
    /// Rounds; each runs every server once, and the medians are reported.
    pub rounds: usize,
}

/// The load programs and the null server, built from their sources.
pub struct Programs {
    /// Drives a server.
    pub apiload: PathBuf,
    /// Has pods placed.
    pub schedload: PathBuf,
    /// Does no work.
    pub nullserver: PathBuf,
}

impl Programs {
    /// Builds them from `sources` (the directory with `apiload/`, `nullserver/` and
    /// `schedload/`).
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
        let (apiload, schedload) = (build("apiload")?, build("schedload")?);
        Ok(Self { apiload, schedload, nullserver: build("nullserver")? })
    }
}

/// What one run showed: apiload's figures, and memory of the server's processes.
#[derive(Debug, Clone)]
pub struct Figures {
    /// apiload's JSON.
    pub load: Value,
    /// apiload's figures of the second fan-out; null without one.
    pub wide: Value,
    /// Resident memory after the run, in MB.
    pub after_mb: f64,
}

/// Runs the load against a server that has just been started.
///
/// # Errors
/// The load program fails.
pub fn drive(programs: &Programs, server: &Running, load: &Load) -> Result<Figures> {
    let numbers = [("-n", load.pods), ("-c", load.clients), ("-watchers", load.watchers)];
    let figures = apiload(programs, server, &numbers, &["-pids", &server.pids()])?;
    let after_mb = server.memory_mb();
    let wide = match load.wide {
        0 => Value::Null,
        watchers => {
            let numbers = [("-n", load.clients), ("-c", load.clients), ("-watchers", watchers)];
            apiload(programs, server, &numbers, &["-namespace", "wide"])?["watch_fanout"].take()
        }
    };
    Ok(Figures { load: figures, wide, after_mb })
}

/// Runs apiload with these flags; answers with what it prints.
///
/// # Errors
/// It fails.
pub fn apiload(
    programs: &Programs,
    server: &Running,
    numbers: &[(&str, usize)],
    more: &[&str],
) -> Result<Value> {
    let mut command = Command::new(&programs.apiload);
    command.args(["-server", &server.url]).args(&server.credentials).args(more);
    for (flag, number) in numbers {
        command.arg(flag).arg(number.to_string());
    }
    let text = run(command, Duration::from_secs(1800))?;
    serde_json::from_str(&text).with_context(|| format!("apiload said {text}"))
}
