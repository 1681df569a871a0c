//! `carrack agent`: simulated nodes of a cluster elsewhere, in the foreground.

use std::sync::Arc;

use anyhow::{Context, Result};
use carrack_client::{Client, HttpSource, connect};

use crate::args;
use crate::{kubeconfig, process, simulate};

/// Runs the nodes until it is told to stop.
///
/// # Errors
/// There is nothing to simulate, or no way to the server.
pub fn run(agent: &args::Agent) -> Result<()> {
    let fleet = simulate::fleet(&agent.simulate)?
        .context("only simulated nodes can be run beside a cluster so far: --simulate N")?;
    process::log(&agent.log)?;
    process::runtime()?.block_on(async {
        let (endpoint, credentials) = kubeconfig::read(&agent.kubeconfig).await?;
        let kube = connect::connect(&endpoint, &credentials)?;
        let client = Client::new(kube, "kubelet");
        client.get_path("/version").await.with_context(|| format!("no way to {}", endpoint.address))?;
        let count = fleet.count;
        let source = Arc::new(HttpSource::new(client.clone()));
        let simulation = simulate::start(fleet, &agent.simulate, client, source);
        println!("simulating {count} nodes of {}", endpoint.address);
        process::told_to_stop().await?;
        simulation.stop().await;
        Ok(())
    })
}
