//! Why a pod fits nowhere, in upstream's sentence and node by node.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cycle::Cycle;
use super::node::NodeFacts;
use super::plugins::{Plugin, Plugins, Refusal};
use super::preempt::{Eviction, Preemption};
use super::snapshot::Snapshot;

/// Why a pod fits nowhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Upstream's sentence, such as `0/3 nodes are available: 3 Insufficient cpu. …`.
    pub message: String,
    /// The plugins that refused: a change that none of them looks at cannot help.
    pub plugins: Plugins,
    /// Each node with its refusal.
    pub nodes: Vec<Refused>,
    /// Pods to evict, and the node to keep for the pod then.
    pub eviction: Option<Eviction>,
    /// Whether a node that was kept for the pod is not kept any more.
    pub withdraw: bool,
}

/// A node and why it refuses.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The node.
    pub node: Arc<NodeFacts>,
    /// Why.
    pub refusal: Arc<Refusal>,
}

/// What upstream's plugin for dynamic resources has to add about pods without claims.
const NO_CLAIMS: &str = "no new claims to deallocate";

impl Verdict {
    /// There is no node at all. Any node may help, and nothing else.
    pub fn no_nodes() -> Self {
        Self {
            message: "no nodes available to schedule pods".into(),
            plugins: Plugins::default(),
            nodes: Vec::new(),
            eviction: None,
            withdraw: true,
        }
    }

    /// The pod is refused before any node is asked. Nothing is evicted then; upstream's
    /// dynamic resources, which were not reached, say that they do not know the pod.
    pub fn of_all(total: usize, refusal: Refusal) -> Self {
        let reasons = refusal.reasons.join(", ");
        Self {
            message: format!("0/{total} nodes are available: {reasons}. not found"),
            plugins: Plugins::default().with(refusal.plugin),
            nodes: Vec::new(),
            eviction: None,
            withdraw: false,
        }
    }

    /// Every node refuses, or is not one of those that the pod names.
    pub fn of_nodes(
        total: usize,
        cycle: &Cycle<'_>,
        snapshot: &Snapshot,
        refused: Vec<(u32, Arc<Refusal>)>,
        preemption: Preemption,
    ) -> Self {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in refused.iter().flat_map(|(_, refusal)| &refusal.reasons) {
            *reasons.entry(reason).or_default() += 1;
        }
        if cycle.named.is_some() {
            let rest = total - refused.len();
            reasons.insert("node(s) didn't satisfy plugin(s) [NodeAffinity]", rest);
        }
        let reasons = histogram(&reasons);
        let reasons = if reasons.is_empty() { reasons } else { format!(" {reasons}.") };
        let mut message = format!("0/{total} nodes are available:{reasons}");
        let (eviction, withdraw) = match preemption {
            Preemption::Evict(eviction) => (Some(eviction), false),
            Preemption::Ineligible(reason) => {
                message.push_str(&format!(" {NO_CLAIMS}, preemption: {reason}"));
                (None, false)
            }
            Preemption::Useless(reasons) => {
                let reasons = reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
                let reasons = histogram(&reasons);
                message.push_str(&format!(
                    " {NO_CLAIMS}, preemption: 0/{total} nodes are available: {reasons}."
                ));
                (None, true)
            }
            Preemption::Off => (None, true),
        };
        let mut plugins: Plugins = refused.iter().map(|(_, refusal)| refusal.plugin).collect();
        if cycle.named.is_some() {
            plugins = plugins.with(Plugin::NodeAffinity);
        }
        let nodes = refused
            .into_iter()
            .map(|(slot, refusal)| Refused { node: snapshot.at(slot).facts.clone(), refusal })
            .collect();
        Self { message, plugins, nodes, eviction, withdraw }
    }
}

/// `1 Insufficient cpu, 2 Too many pods`, sorted as text.
fn histogram(reasons: &BTreeMap<&str, usize>) -> String {
    let mut texts: Vec<String> =
        reasons.iter().filter(|(_, n)| **n > 0).map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}
