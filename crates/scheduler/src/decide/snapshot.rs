//! The cluster as the scheduler sees it: nodes with the pods on them, kept up to
//! date incrementally.
//!
//! A pod whose binding is under way is *assumed*: it counts on its node at once, and
//! the confirmation by the watch replaces it.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::NodeInfo;
use super::pod::PodInfo;

/// Nodes and placed pods.
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    at: HashMap<String, usize>,
    /// Node of each placed pod, by uid.
    placed: HashMap<String, String>,
    /// Pods on nodes that are not (or not yet) known.
    homeless: HashMap<String, HashMap<String, Arc<PodInfo>>>,
}

impl Snapshot {
    /// The nodes.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.at.get(name).map(|at| &self.nodes[*at])
    }

    /// Adds a node or brings it up to date.
    pub fn set_node(&mut self, mut node: NodeInfo) {
        if let Some(at) = self.at.get(&node.name) {
            node.inherit(&mut self.nodes[*at]);
            self.nodes[*at] = node;
            return;
        }
        for pod in self.homeless.remove(&node.name).unwrap_or_default().into_values() {
            node.add(pod);
        }
        self.at.insert(node.name.clone(), self.nodes.len());
        self.nodes.push(node);
    }

    /// Removes a node; its pods stay known in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.at.remove(name) else { return };
        let node = self.nodes.swap_remove(at);
        if !node.pods.is_empty() {
            self.homeless.insert(node.name, node.pods);
        }
        if let Some(moved) = self.nodes.get(at) {
            self.at.insert(moved.name.clone(), at);
        }
    }

    /// Puts a pod on a node: when it is bound, or assumed to be.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove(&pod.uid);
        self.placed.insert(pod.uid.clone(), node.to_owned());
        match self.at.get(node) {
            Some(at) => self.nodes[*at].add(pod),
            None => {
                self.homeless.entry(node.to_owned()).or_default().insert(pod.uid.clone(), pod);
            }
        }
    }

    /// Takes a pod off its node; answers whether it was on one.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some(node) = self.placed.remove(uid) else { return false };
        if let Some(at) = self.at.get(&node) {
            self.nodes[*at].remove(uid);
        } else if let Some(pods) = self.homeless.get_mut(&node) {
            pods.remove(uid);
            if pods.is_empty() {
                self.homeless.remove(&node);
            }
        }
        true
    }

    /// Node of a placed pod.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.placed.get(uid).map(String::as_str)
    }

    /// Uids of all placed pods.
    pub fn placed(&self) -> impl Iterator<Item = &str> {
        self.placed.keys().map(String::as_str)
    }
}
