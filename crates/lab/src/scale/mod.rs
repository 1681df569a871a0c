//! A large cluster on this machine: simulated nodes in a process of their own beside one
//! `carrack server`, Deployments that fill them, then pods coming and going while an
//! administrator asks this and that.
//!
//! Processor time and memory of the server and of the simulator are read apart, from
//! `/proc`; this program's own are in neither. Every wait is bounded.

mod churn;
pub mod report;
mod simulator;
mod workload;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrack_client::Client;

use crate::process::Usage;
use crate::server::Server;
use churn::Latencies;
use simulator::Simulator;
use workload::Workload;
pub(crate) use workload::pod;

/// How large a cluster, and for how long pods come and go.
#[derive(Debug, Clone)]
pub struct Size {
    /// Simulated nodes.
    pub nodes: usize,
    /// Pods that Deployments keep.
    pub pods: usize,
    /// Pods of each Deployment.
    pub replicas: usize,
    /// How long pods come and go.
    pub churn: Duration,
    /// Pods deleted a second; as many are made in their place.
    pub rate: u32,
    /// For how long nothing but heartbeats is looked at.
    pub idle: Duration,
}

/// What a phase took.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What happened in it.
    pub name: String,
    /// Time on the wall.
    pub took: Duration,
    /// Of the server, at its end; CPU in this phase.
    pub server: Usage,
    /// Of the simulator.
    pub simulator: Usage,
}

/// What a run showed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// In order.
    pub phases: Vec<Phase>,
    /// Requests during the churn.
    pub requests: Latencies,
    /// From creating a pod to seeing it Running, during the churn.
    pub starts: Latencies,
    /// Pods that a list showed as Running before and after the churn.
    pub running: (usize, usize),
}

/// Measures phase after phase.
struct Clock {
    server: u32,
    simulator: u32,
    since: (Instant, Usage, Usage),
    phases: Vec<Phase>,
}

impl Clock {
    fn new(server: u32, simulator: u32) -> Self {
        let since = (Instant::now(), Usage::of(server), Usage::of(simulator));
        Self { server, simulator, since, phases: Vec::new() }
    }

    /// The time since the last phase was one of this name.
    fn end(&mut self, name: impl Into<String>) {
        let now = (Instant::now(), Usage::of(self.server), Usage::of(self.simulator));
        let (begun, server, simulator) = std::mem::replace(&mut self.since, now);
        let phase = Phase {
            name: name.into(),
            took: begun.elapsed(),
            server: self.since.1.after(&server),
            simulator: self.since.2.after(&simulator),
        };
        println!("{}", report::line(&phase));
        self.phases.push(phase);
    }
}

/// Builds the cluster up, lets pods come and go, and leaves nothing behind.
///
/// # Errors
/// Something does not come up in its time.
pub async fn run(size: &Size) -> Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("scale-").tempdir_in(crate::paths::cache()?)?;
    let mut server = Server::new(&dir.path().join("data"), &[])?;
    server.start()?;
    let client = Client::new(server.client()?, "scale");
    let simulator = Simulator::start(&server, size.nodes, &dir.path().join("simulator.log"))?;
    let pid = server.pid().context("the server runs")?;
    let mut clock = Clock::new(pid, simulator.pid());
    println!("{}", report::HEAD);

    workload::nodes_ready(&client, size.nodes).await?;
    clock.end(format!("{} nodes Ready", size.nodes));
    let workload = Workload::of(size);
    workload.create(&client).await?;
    workload.ready(&client).await?;
    clock.end(format!("{} pods ready", workload.pods()));
    let pods = workload::running(&client).await?;
    let before = pods.len();
    clock.end("list them all");
    tokio::time::sleep(size.idle).await;
    clock.end("nothing but heartbeats");

    let (requests, starts) = churn::run(&client, &pods, size).await?;
    clock.end(format!("{} pods/s come and go", size.rate));
    workload.ready(&client).await?;
    clock.end("ready again");
    let after = workload::running(&client).await?.len();
    Ok(Outcome { phases: clock.phases, requests, starts, running: (before, after) })
}
