//! Ports of the node.

use super::super::node::NodeInfo;
use super::super::pod::Needs;
use super::{Plugin, Refusal};

/// Refuses nodes where another pod holds a wanted port.
pub fn filter(needs: &Needs, node: &NodeInfo) -> Result<(), Refusal> {
    let taken =
        |wanted| node.pods.iter().flat_map(|pod| &pod.needs.host_ports).any(|held| held.conflicts(wanted));
    if needs.host_ports.iter().any(taken) {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::of(Plugin::NodePorts, reason));
    }
    Ok(())
}
