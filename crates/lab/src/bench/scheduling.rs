//! schedload against `carrack server` and against kube-apiserver, etcd and kube-scheduler, one
//! after the other, each on a fresh directory.
//!
//! Upstream's scheduler may send 5,000 requests a second, or its client's default limit of
//! 50 would be what is measured.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Programs;
use super::servers::{self, Running};
use crate::machine::run;

/// Nobody makes service accounts there: its controllers do not run.
const NO_ACCOUNTS: &str = "--disable-admission-plugins=ServiceAccount";

/// One kind of pods on so many nodes.
#[derive(Debug, Clone)]
pub struct Work {
    /// schedload's name of it.
    pub workload: &'static str,
    /// Nodes.
    pub nodes: usize,
    /// Pods.
    pub pods: usize,
}

/// What schedload said, and what the servers took.
#[derive(Debug, Clone)]
pub struct Placed {
    /// schedload's JSON.
    pub load: Value,
    /// Resident memory of all processes, in MB.
    pub memory_mb: f64,
    /// Their processor time in seconds.
    pub cpu: f64,
}

/// Carrack, with everything on.
///
/// # Errors
/// It does not start, or not every pod is placed.
pub fn ours(programs: &Programs, work: &Work) -> Result<Placed> {
    place(programs, &servers::carrack(&[])?, work)
}

/// kube-apiserver, etcd and kube-scheduler.
///
/// # Errors
/// They do not start, or not every pod is placed.
pub fn peers(programs: &Programs, work: &Work) -> Result<Placed> {
    let mut server = servers::upstream(&[NO_ACCOUNTS])?;
    server.add_scheduler()?;
    place(programs, &server, work)
}

fn place(programs: &Programs, server: &Running, work: &Work) -> Result<Placed> {
    let before = server.cpu();
    let mut command = Command::new(&programs.schedload);
    command.args(["-server", &server.url, "-workload", work.workload]).args(&server.credentials);
    command.args(["-nodes", &work.nodes.to_string(), "-pods", &work.pods.to_string()]);
    let text = run(command, Duration::from_secs(900))?;
    let load: Value = serde_json::from_str(&text).with_context(|| format!("schedload said {text}"))?;
    ensure!(load["bound"] == work.pods && load["failed_requests"] == 0, "schedload said {text}");
    Ok(Placed { load, memory_mb: server.memory_mb(), cpu: server.cpu() - before })
}

// === impl Placed ===

impl Placed {
    /// Pods placed a second.
    pub fn rate(&self) -> f64 {
        self.figure("pods_per_second")
    }

    /// One of schedload's figures.
    pub fn figure(&self, name: &str) -> f64 {
        self.load[name].as_f64().unwrap_or(f64::NAN)
    }
}
