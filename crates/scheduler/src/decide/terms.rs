//! Inter-pod affinity terms: those of a pod, and those that placed pods carry.
//!
//! Carried terms are kept once each, with the number of pods that carry them on every
//! node, so that a new pod meets a handful of terms instead of every pod.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::anchors::Anchors;
use super::labels::{LabelSet, Selector};
use super::topology::Topology;

/// Which pods are meant, and how near they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// Names of namespaces, sorted.
    pub namespaces: Box<[Box<str>]>,
    /// Selects further namespaces.
    pub namespace_selector: Selector,
    /// Selects pods.
    pub selector: Selector,
    /// Label of nodes that makes two of them the same place.
    pub topology_key: Box<str>,
}

/// What a pod says about other pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PodTerms {
    /// Must be near pods that all of these select.
    pub affinity: Box<[Arc<Term>]>,
    /// Must not be near pods that one of these selects.
    pub anti_affinity: Box<[Arc<Term>]>,
    /// Likes to be near, or with a negative weight not to be.
    pub preferred: Box<[(i64, Arc<Term>)]>,
}

/// What a carried term does to a pod that it selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Keeps it away.
    Forbids,
    /// Attracts it with the weight of required terms.
    Requires,
    /// Attracts it with a weight.
    Prefers(i64),
}

/// All terms that placed pods carry.
#[derive(Debug, Default)]
pub struct Carried {
    terms: Vec<Option<Carrying>>,
    ids: HashMap<(Arc<Term>, Effect), u32>,
    anchors: Anchors,
    vacant: Vec<u32>,
}

/// A term with its carriers.
#[derive(Debug)]
pub struct Carrying {
    /// The term.
    pub term: Arc<Term>,
    /// What it does.
    pub effect: Effect,
    /// Column of its topology key.
    pub column: u32,
    /// Pods that carry it, by slot of their node; never 0.
    pub holders: HashMap<u32, i64>,
}

// === impl Term ===

impl Term {
    /// Whether a pod is meant. `namespace_labels` are those of its namespace.
    pub fn selects(&self, namespace: &str, namespace_labels: Option<&LabelSet>, labels: &LabelSet) -> bool {
        self.covers(namespace, namespace_labels) && self.selector.matches(labels)
    }

    /// Whether pods of a namespace are meant.
    pub fn covers(&self, namespace: &str, namespace_labels: Option<&LabelSet>) -> bool {
        self.namespaces.iter().any(|one| **one == *namespace)
            || match namespace_labels {
                Some(labels) => self.namespace_selector.matches(labels),
                // A namespace that is not known has no labels.
                None => self.namespace_selector.matches(&LabelSet::default()),
            }
    }

    fn read(term: &Value, namespace: &str) -> Arc<Self> {
        let texts = term["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut namespaces: Vec<Box<str>> = texts.map(Into::into).collect();
        if namespaces.is_empty() && term["namespaceSelector"].is_null() {
            namespaces.push(namespace.into());
        }
        namespaces.sort();
        namespaces.dedup();
        Arc::new(Self {
            namespaces: namespaces.into(),
            namespace_selector: Selector::read(&term["namespaceSelector"]),
            selector: Selector::read(&term["labelSelector"]),
            topology_key: term["topologyKey"].as_str().unwrap_or_default().into(),
        })
    }
}

impl PodTerms {
    /// Reads `spec.affinity` of a pod in a namespace.
    pub fn read(affinity: &Value, namespace: &str) -> Self {
        let list = |kind: &str, field: &str| affinity[kind][field].as_array().cloned().unwrap_or_default();
        let required = |kind: &str| -> Box<[Arc<Term>]> {
            let terms = list(kind, "requiredDuringSchedulingIgnoredDuringExecution");
            terms.iter().map(|term| Term::read(term, namespace)).collect()
        };
        let preferred = |kind: &str, sign: i64| -> Vec<(i64, Arc<Term>)> {
            let terms = list(kind, "preferredDuringSchedulingIgnoredDuringExecution");
            let weighted = |term: &Value| {
                let weight = term["weight"].as_i64().unwrap_or(0);
                (sign * weight, Term::read(&term["podAffinityTerm"], namespace))
            };
            terms.iter().map(weighted).collect()
        };
        let mut likes = preferred("podAffinity", 1);
        likes.extend(preferred("podAntiAffinity", -1));
        Self {
            affinity: required("podAffinity"),
            anti_affinity: required("podAntiAffinity"),
            preferred: likes.into(),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferred.is_empty()
    }

    /// The terms with their effects on others, once the pod is placed.
    fn effects(&self) -> impl Iterator<Item = (Effect, &Arc<Term>)> {
        let forbids = self.anti_affinity.iter().map(|term| (Effect::Forbids, term));
        let requires = self.affinity.iter().map(|term| (Effect::Requires, term));
        let prefers = self.preferred.iter().map(|(weight, term)| (Effect::Prefers(*weight), term));
        forbids.chain(requires).chain(prefers)
    }
}

// === impl Carried ===

impl Carried {
    /// A pod with these terms was placed on the node in a slot. `nodes` fill columns.
    pub fn add<'a, I: Iterator<Item = (u32, &'a LabelSet)>>(
        &mut self,
        terms: &PodTerms,
        slot: u32,
        topology: &mut Topology,
        nodes: impl Fn() -> I,
    ) {
        for (effect, term) in terms.effects() {
            let id = match self.ids.get(&(term.clone(), effect)) {
                Some(id) => *id,
                None => {
                    let column = topology.column(&term.topology_key, nodes());
                    topology.hold(column);
                    self.insert(Carrying { term: term.clone(), effect, column, holders: HashMap::new() })
                }
            };
            if let Some(carrying) = &mut self.terms[id as usize] {
                *carrying.holders.entry(slot).or_default() += 1;
            }
        }
    }

    /// It was taken off.
    pub fn remove(&mut self, terms: &PodTerms, slot: u32, topology: &mut Topology) {
        for (effect, term) in terms.effects() {
            let Some(id) = self.ids.get(&(term.clone(), effect)).copied() else { continue };
            let Some(carrying) = &mut self.terms[id as usize] else { continue };
            if let Some(count) = carrying.holders.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    carrying.holders.remove(&slot);
                }
            }
            if carrying.holders.is_empty() {
                topology.release(carrying.column);
                self.anchors.remove(&term.selector, id);
                self.ids.remove(&(term.clone(), effect));
                self.terms[id as usize] = None;
                self.vacant.push(id);
            }
        }
    }

    /// The terms that select a pod, each once.
    pub fn selecting<'a>(
        &'a self,
        namespace: &'a str,
        namespace_labels: Option<&'a LabelSet>,
        labels: &'a LabelSet,
    ) -> impl Iterator<Item = &'a Carrying> + 'a {
        let candidates = self.anchors.candidates(labels);
        candidates
            .filter_map(|id| self.terms[id as usize].as_ref())
            .filter(move |carrying| carrying.term.selects(namespace, namespace_labels, labels))
    }

    /// Whether nothing is carried.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Everything in it, for comparing two states.
    pub fn entries(&self) -> impl Iterator<Item = &Carrying> {
        self.terms.iter().flatten()
    }

    fn insert(&mut self, carrying: Carrying) -> u32 {
        let id = match self.vacant.pop() {
            Some(id) => id,
            None => {
                self.terms.push(None);
                (self.terms.len() - 1) as u32
            }
        };
        self.anchors.insert(&carrying.term.selector, id);
        self.ids.insert((carrying.term.clone(), carrying.effect), id);
        self.terms[id as usize] = Some(carrying);
        id
    }
}
