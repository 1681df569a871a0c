//! Simulated nodes: Node objects, Leases and pod life cycles without containers, thousands
//! of nodes in one process.
//!
//! What always holds: all traffic goes through the API like that of real nodes; one watch
//! serves all nodes; a pod that waits for nothing costs a few dozen bytes; heartbeats are
//! spread evenly over their period. Pods live by the very rules of real ones
//! ([`crate::decide`], [`crate::status`]); only the runtime below them is made up
//! ([`decide`], pure). [`plan`] (pure) says which nodes there are and where they stand.
//! It runs nothing and answers no logs or exec.

pub mod addresses;
pub mod decide;
mod nodes;
pub mod plan;
mod pods;
pub mod scenario;

use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Client, Clock, Source};
use tokio::task::JoinSet;

pub use plan::{Fleet, FleetError};
pub use scenario::Behaviour;

/// What a simulation works with.
pub struct Context {
    /// Writes; may do to nodes, leases and pods what nodes may.
    pub client: Client,
    /// Reads of nodes and pods.
    pub source: Arc<dyn Source>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Which nodes there are.
    pub fleet: Fleet,
    /// How their pods behave.
    pub behaviour: Behaviour,
    /// How often each Lease is renewed; kubelet's is 10 s.
    pub heartbeat: Duration,
}

/// Runs the nodes until it is dropped or told to stop.
pub struct Simulation {
    tasks: JoinSet<()>,
}

/// Starts the nodes; they register at once, as fast as the API takes them.
pub fn start(context: Context) -> Simulation {
    let mut tasks = JoinSet::new();
    let fleet = Arc::new(context.fleet);
    let nodes = nodes::Nodes::new(context.client.clone(), context.clock.clone(), fleet.clone());
    tasks.spawn(nodes.run(context.source.clone(), context.heartbeat));
    let pods = pods::Pods::new(context.client, context.clock, fleet, context.behaviour);
    tasks.spawn(pods.run(context.source));
    Simulation { tasks }
}

// === impl Simulation ===

impl Simulation {
    /// Ends the nodes without a word, as a power cut would.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
