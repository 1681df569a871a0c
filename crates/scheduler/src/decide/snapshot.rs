//! The cluster as the scheduler sees it, kept up to date incrementally: nodes with the
//! pods on them, and everything that decisions count.
//!
//! A node has a slot as long as it is known or a pod is on it; tables are by slot. A
//! pod whose binding is under way is *assumed*: it counts on its node at once, and the
//! confirmation by the watch replaces it. After any sequence of changes the state is
//! the one that the final objects alone would give.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::budgets::BudgetInfo;
use super::labels::{LabelSet, Selector};
use super::node::{NodeFacts, NodeInfo};
use super::owners::Owners;
use super::pod::{Needs, PodInfo};
use super::questions::{Part, Question, Questions};
use super::terms::{Carried, PodTerms, Term};
use super::topology::Topology;
use super::volumes::Volumes;

/// Nodes, placed pods, and what else decisions look at.
#[derive(Debug, Default)]
pub struct Snapshot {
    slots: Vec<NodeInfo>,
    free: Vec<u32>,
    by_name: HashMap<Box<str>, u32>,
    /// Slots of the known nodes, in the order in which they are looked at.
    order: Vec<u32>,
    /// Place of each known node in `order`, by slot.
    at: HashMap<u32, usize>,
    /// Each placed pod with its slot, by uid.
    placed: HashMap<Arc<str>, (u32, Arc<PodInfo>)>,
    by_namespace: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// Pods for which a node is kept, by uid, with its name.
    nominated: BTreeMap<Arc<str>, (Box<str>, Arc<PodInfo>)>,
    /// Their uids, by the node.
    kept: HashMap<Box<str>, BTreeSet<Arc<str>>>,
    namespaces: HashMap<Box<str>, LabelSet>,
    topology: Topology,
    carried: Carried,
    questions: Questions,
    /// Nodes that have an image.
    images: HashMap<Box<str>, i64>,
    /// Pods that mount a claim, by namespace and name.
    claim_users: HashMap<(Box<str>, Box<str>), i64>,
    owners: Owners,
    volumes: Volumes,
    budgets: BTreeMap<(Box<str>, Box<str>), BudgetInfo>,
    needs: HashSet<Arc<Needs>>,
    /// Entries of `needs` after which those that nobody has any more are dropped.
    needs_limit: usize,
    clock: u64,
}

// === reading ===

impl Snapshot {
    /// The number of known nodes.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Slots of the known nodes.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Slots that tables by slot need.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The node in a slot.
    pub fn at(&self, slot: u32) -> &NodeInfo {
        &self.slots[slot as usize]
    }

    /// The known nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.order.iter().map(|slot| self.at(*slot))
    }

    /// The slot of a known node.
    pub fn slot(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied().filter(|slot| self.at(*slot).known)
    }

    /// A known node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.slot(name).map(|slot| self.at(slot))
    }

    /// Node of a placed pod.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.placed.get(uid).map(|(slot, _)| &*self.at(*slot).facts.name)
    }

    /// A placed pod.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.placed.get(uid).map(|(_, pod)| pod)
    }

    /// Uids of all placed pods.
    pub fn placed(&self) -> impl Iterator<Item = &str> {
        self.placed.keys().map(|uid| &**uid)
    }

    /// Values of topology labels.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Terms that placed pods carry.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Standing questions.
    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Services and controllers.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Storage.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Disruption budgets, by namespace and name.
    pub fn budgets(&self) -> &BTreeMap<(Box<str>, Box<str>), BudgetInfo> {
        &self.budgets
    }

    /// Labels of a namespace; `None` when it is not known.
    pub fn namespace(&self, name: &str) -> Option<&LabelSet> {
        self.namespaces.get(name)
    }

    /// How many nodes have an image; `None` for none.
    pub fn image_holders(&self, image: &str) -> Option<i64> {
        self.images.get(image).copied()
    }

    /// How many placed pods mount a claim.
    pub fn claim_users(&self, namespace: &str, name: &str) -> i64 {
        self.claim_users.get(&(namespace.into(), name.into())).copied().unwrap_or(0)
    }

    /// Pods that a node is kept for.
    pub fn nominated_to<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        let uids = self.kept.get(node).into_iter().flatten();
        uids.filter_map(|uid| self.nominated.get(uid)).map(|(_, pod)| pod)
    }

    /// Whether a node is kept for a pod.
    pub fn is_kept(&self, node: &str) -> bool {
        self.kept.contains_key(node)
    }

    /// Names of the namespaces that a term is about; `None` for all.
    pub fn covered(&self, term: &Term) -> Option<Arc<[Box<str>]>> {
        if term.namespace_selector.is_everything() {
            return None;
        }
        let selected = self.namespaces.iter().filter(|(_, labels)| term.namespace_selector.matches(labels));
        let mut names: Vec<Box<str>> =
            term.namespaces.iter().cloned().chain(selected.map(|(name, _)| name.clone())).collect();
        names.sort();
        names.dedup();
        Some(names.into())
    }
}

// === asking, which remembers the question ===

impl Snapshot {
    /// The column of a topology key.
    pub fn column(&mut self, key: &str) -> u32 {
        let (slots, order) = (&self.slots, &self.order);
        let nodes = order.iter().map(|slot| (*slot, &slots[*slot as usize].facts.labels));
        self.topology.column(key, nodes)
    }

    /// Pods by slot that a question counts.
    pub fn ask(&mut self, question: Question) -> Vec<(u32, i64)> {
        let (placed, by_namespace) = (&self.placed, &self.by_namespace);
        let pods = |part: &Part| -> Box<dyn Iterator<Item = (u32, &PodInfo)>> {
            let of = |uid: &Arc<str>| placed.get(uid).map(|(slot, pod)| (*slot, &**pod));
            match part.namespaces.clone() {
                None => Box::new(placed.values().map(|(slot, pod)| (*slot, &**pod))),
                Some(names) => {
                    let sets: Vec<_> = names.iter().filter_map(|name| by_namespace.get(&**name)).collect();
                    Box::new(sets.into_iter().flatten().filter_map(of))
                }
            }
        };
        self.questions.ask(question, pods).iter().map(|(slot, count)| (*slot, *count)).collect()
    }

    /// Pods by slot that a selector selects in a pod's namespace and that are not being
    /// deleted; nothing for a selector that selects everything, as upstream counts.
    pub fn count(&mut self, pod: &PodInfo, selector: &Selector) -> Vec<(u32, i64)> {
        if selector.is_everything() || selector.is_nothing() {
            return Vec::new();
        }
        let namespaces = Some([Box::from(&*pod.namespace)].into());
        self.ask(Question { parts: vec![Part { namespaces, selector: selector.clone() }], live: true })
    }

    /// Drops what was laid out for questions that are no longer asked.
    pub fn sweep(&mut self) {
        self.topology.sweep();
    }
}

// === nodes ===

impl Snapshot {
    /// Adds a node or brings it up to date.
    pub fn set_node(&mut self, facts: NodeFacts) {
        let slot = self.slot_for(&facts.name);
        let facts = Arc::new(facts);
        self.topology.set_node(slot, Some(&facts.labels));
        let node = &mut self.slots[slot as usize];
        let before = std::mem::replace(&mut node.facts, facts.clone());
        self.clock += 1;
        node.generation = self.clock;
        if std::mem::replace(&mut node.known, true) {
            count_images(&mut self.images, &before, -1);
        } else {
            self.at.insert(slot, self.order.len());
            self.order.push(slot);
        }
        count_images(&mut self.images, &facts, 1);
    }

    /// Removes a node; its pods stay known in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.slot(name) else { return };
        self.topology.set_node(slot, None);
        let node = &mut self.slots[slot as usize];
        count_images(&mut self.images, &node.facts, -1);
        node.facts = Arc::new(NodeFacts { name: name.into(), ..NodeFacts::default() });
        node.known = false;
        self.clock += 1;
        node.generation = self.clock;
        if let Some(at) = self.at.remove(&slot) {
            self.order.swap_remove(at);
            if let Some(moved) = self.order.get(at) {
                self.at.insert(*moved, at);
            }
        }
        self.free_if_empty(slot);
    }

    fn slot_for(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(NodeInfo::default());
            (self.slots.len() - 1) as u32
        });
        self.clock += 1;
        let facts = Arc::new(NodeFacts { name: name.into(), ..NodeFacts::default() });
        self.slots[slot as usize] = NodeInfo { facts, generation: self.clock, ..NodeInfo::default() };
        self.by_name.insert(name.into(), slot);
        slot
    }

    fn free_if_empty(&mut self, slot: u32) {
        let node = &self.slots[slot as usize];
        if !node.known && node.pods.is_empty() {
            self.by_name.remove(&node.facts.name);
            self.free.push(slot);
        }
    }
}

fn count_images(images: &mut HashMap<Box<str>, i64>, facts: &NodeFacts, by: i64) {
    for image in facts.images.keys() {
        let count = images.entry(image.clone()).or_default();
        *count += by;
        if *count == 0 {
            images.remove(image);
        }
    }
}

// === pods ===

impl Snapshot {
    /// Puts a pod on a node: when it is bound, or assumed to be.
    pub fn place(&mut self, mut pod: Arc<PodInfo>, node: &str) {
        if !self.needs.contains(&pod.needs)
            || !self.needs.get(&pod.needs).is_some_and(|one| Arc::ptr_eq(one, &pod.needs))
        {
            let needs = self.share(&pod.needs);
            Arc::make_mut(&mut pod).needs = needs;
        }
        self.withdraw(&pod.uid);
        if self.replace(&pod, node) {
            return;
        }
        self.remove(&pod.uid);
        let slot = self.slot_for(node);
        self.by_namespace.entry(pod.namespace.clone()).or_default().insert(pod.uid.clone());
        let (slots, order) = (&self.slots, &self.order);
        let nodes = || order.iter().map(|slot| (*slot, &slots[*slot as usize].facts.labels));
        self.carried.add(&pod.terms, slot, &mut self.topology, nodes);
        self.questions.moved(&pod, slot, 1);
        for mount in pod.mounts.iter() {
            let key = (Box::from(&*pod.namespace), mount.claim.clone());
            *self.claim_users.entry(key).or_default() += 1;
        }
        self.placed.insert(pod.uid.clone(), (slot, pod.clone()));
        self.clock += 1;
        let node = &mut self.slots[slot as usize];
        node.generation = self.clock;
        node.add(pod);
    }

    /// Takes a pod off its node; answers whether it was on one.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some((slot, pod)) = self.placed.remove(uid) else { return false };
        if let Some(uids) = self.by_namespace.get_mut(&pod.namespace) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_namespace.remove(&pod.namespace);
            }
        }
        self.carried.remove(&pod.terms, slot, &mut self.topology);
        self.questions.moved(&pod, slot, -1);
        for mount in pod.mounts.iter() {
            let key = (Box::from(&*pod.namespace), mount.claim.clone());
            if let Some(users) = self.claim_users.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claim_users.remove(&key);
                }
            }
        }
        self.clock += 1;
        let node = &mut self.slots[slot as usize];
        node.generation = self.clock;
        node.remove(uid);
        self.free_if_empty(slot);
        true
    }

    /// Keeps a node for a pod that is not placed yet.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        if !self.placed.contains_key(&pod.uid) {
            self.withdraw(&pod.uid);
            self.kept.entry(node.into()).or_default().insert(pod.uid.clone());
            self.nominated.insert(pod.uid.clone(), (node.into(), pod));
        }
    }

    /// Keeps no node for a pod any more.
    pub fn withdraw(&mut self, uid: &str) {
        let Some((node, _)) = self.nominated.remove(uid) else { return };
        if let Some(uids) = self.kept.get_mut(&node) {
            uids.remove(uid);
            if uids.is_empty() {
                self.kept.remove(&node);
            }
        }
    }

    /// The needs of a pod, shared with others that say the same.
    pub fn share(&mut self, needs: &Arc<Needs>) -> Arc<Needs> {
        if let Some(known) = self.needs.get(needs) {
            return known.clone();
        }
        if self.needs.len() >= self.needs_limit.max(1024) {
            self.needs.retain(|one| Arc::strong_count(one) > 1);
            self.needs_limit = self.needs.len() * 2;
        }
        self.needs.insert(needs.clone());
        needs.clone()
    }

    /// Most changes of a placed pod change nothing that is counted: then only its
    /// projection is replaced.
    fn replace(&mut self, pod: &Arc<PodInfo>, node: &str) -> bool {
        let Some((slot, before)) = self.placed.get_mut(&pod.uid) else { return false };
        let here = &mut self.slots[*slot as usize];
        let same = *here.facts.name == *node
            && Arc::ptr_eq(&before.needs, &pod.needs)
            && before.resized == pod.resized
            && before.labels == pod.labels
            && before.deleting == pod.deleting
            && before.mounts == pod.mounts
            && before.terms == pod.terms;
        if same {
            if let Some(entry) = here.pods.iter_mut().find(|one| one.uid == pod.uid) {
                *entry = pod.clone();
            }
            *before = pod.clone();
        }
        same
    }
}

// === everything else ===

impl Snapshot {
    /// Takes a namespace's labels; `None` forgets it.
    pub fn set_namespace(&mut self, name: &str, labels: Option<LabelSet>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.into(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// Services and controllers, to change.
    pub fn owners_mut(&mut self) -> &mut Owners {
        &mut self.owners
    }

    /// Storage, to change.
    pub fn volumes_mut(&mut self) -> &mut Volumes {
        &mut self.volumes
    }

    /// Disruption budgets, to change.
    pub fn budgets_mut(&mut self) -> &mut BTreeMap<(Box<str>, Box<str>), BudgetInfo> {
        &mut self.budgets
    }

    /// Lays the topologies out that nominated pods talk about.
    pub fn prepare_nominated(&mut self) {
        let terms: Vec<Arc<PodTerms>> = self.nominated.values().map(|(_, pod)| pod.terms.clone()).collect();
        for term in terms.iter().flat_map(|terms| terms.anti_affinity.iter()) {
            self.column(&term.topology_key);
        }
    }
}
