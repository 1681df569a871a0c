//! Whether a node takes a pod, and if not, which filter refuses and in what words.
//!
//! The order is upstream's; the first filter that refuses ends the matter.

use super::node::{NodeInfo, Taint};
use super::pod::PodInfo;

/// The filters, by what they look at. The order is that of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// There is no node at all.
    NoNodes,
    /// `spec.unschedulable` of the node.
    Unschedulable,
    /// `spec.nodeName` of the pod.
    NodeName,
    /// Taints of the node.
    Taints,
    /// Labels of the node.
    Affinity,
    /// Ports that other pods hold.
    HostPorts,
    /// Resources that other pods hold.
    Resources,
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub filter: Filter,
    /// In whose words.
    pub reasons: Vec<String>,
    /// Whether evicting pods could not change it.
    pub unresolvable: bool,
}

/// Taint that cordoned nodes are treated as having.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Asks all filters.
pub fn check(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let refuse = |filter, reason: &str, unresolvable| {
        Err(Refusal { filter, reasons: vec![reason.to_owned()], unresolvable })
    };
    if node.unschedulable {
        let cordoned = Taint { key: CORDONED.into(), value: String::new(), effect: "NoSchedule".into() };
        if !tolerates(pod, &cordoned) {
            return refuse(Filter::Unschedulable, "node(s) were unschedulable", true);
        }
    }
    if !pod.node_name.is_empty() && pod.node_name != node.name {
        return refuse(Filter::NodeName, "node(s) didn't match the requested node name", true);
    }
    let forbids = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if !node.taints.iter().filter(forbids).all(|taint| tolerates(pod, taint)) {
        return refuse(Filter::Taints, "node(s) had untolerated taint(s)", true);
    }
    if !pod.affinity.allows(node) {
        return refuse(Filter::Affinity, "node(s) didn't match Pod's node affinity/selector", true);
    }
    let taken =
        |wanted| node.pods.values().flat_map(|pod| &pod.host_ports).any(|held| held.conflicts(wanted));
    if pod.host_ports.iter().any(taken) {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return refuse(Filter::HostPorts, reason, false);
    }
    fits(pod, node)
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let (mut reasons, mut unresolvable) = (Vec::new(), false);
    if node.pods.len() + 1 > node.max_pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut need = |name: &str, wanted: i64, held: i64, capacity: i64| {
        if wanted > 0 && wanted > capacity - held {
            reasons.push(format!("Insufficient {name}"));
            unresolvable |= wanted > capacity;
        }
    };
    let (wanted, held, all) = (&pod.requests, &node.requested, &node.allocatable);
    need("cpu", wanted.milli_cpu, held.milli_cpu, all.milli_cpu);
    need("memory", wanted.memory, held.memory, all.memory);
    need("ephemeral-storage", wanted.ephemeral, held.ephemeral, all.ephemeral);
    for (name, amount) in &wanted.others {
        let of = |others: &std::collections::BTreeMap<String, i64>| others.get(name).copied().unwrap_or(0);
        need(name, *amount, of(&held.others), of(&all.others));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Refusal { filter: Filter::Resources, reasons, unresolvable })
}

fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    pod.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}
