//! The scheduler: a pure core that picks nodes for pods, and a loop that binds.
//!
//! It keeps small projections of nodes and pods, not copies of them, and is woken by
//! what can help a waiting pod; it never polls. Dynamic resources and gangs are left out.

mod act;
pub mod decide;
mod run;
mod view;

use std::sync::Arc;

use carrack_client::{Clients, Clock, EventRecorder, Identity, Source};

use decide::Profile;

/// Name of the scheduler among the components.
pub const NAME: &str = "default-scheduler";

/// What the scheduler needs.
#[derive(Clone)]
pub struct Context {
    /// Where pods and nodes are read.
    pub source: Arc<dyn Source>,
    /// Makes its client; asked for `system:kube-scheduler`.
    pub clients: Clients,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Decides between equally good nodes.
    pub seed: u64,
    /// How pods are scheduled, by the name that they ask for.
    pub profiles: Vec<Profile>,
}

/// Runs the scheduler until the future is dropped.
pub async fn run(context: Context) {
    let client = (context.clients)(&Identity::user("system:kube-scheduler", &[]));
    let client = client.with_manager("kube-scheduler");
    let events = EventRecorder::new(client.clone(), NAME, "", context.clock.clone());
    let writer = act::Writer { client, events, clock: context.clock };
    run::Scheduler::new(writer, context.profiles, context.seed).run(context.source).await;
}

/// Starts the scheduler; it runs until the handle is aborted. Must be called within a
/// tokio runtime.
pub fn start(context: Context) -> tokio::task::JoinHandle<()> {
    tokio::spawn(run(context))
}
