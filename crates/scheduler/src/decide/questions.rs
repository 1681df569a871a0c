//! Questions about placed pods that decisions ask again and again: how many pods on
//! each node does this select? The answers are kept up to date as pods come and go.
//!
//! A question is answered once by looking at the pods of its namespaces; from then on
//! every placed pod finds the questions that it counts for. Beyond a limit the one not
//! asked for longest is forgotten, and would be answered afresh.

use std::collections::HashMap;
use std::sync::Arc;

use super::anchors::Anchors;
use super::labels::Selector;
use super::pod::PodInfo;

/// Questions that are kept.
const KEPT: usize = 4096;

/// Which pods to count: those that every part selects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// At least one.
    pub parts: Vec<Part>,
    /// Whether pods that are being deleted do not count.
    pub live: bool,
}

/// A part of a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Names of namespaces, sorted; `None` for all.
    pub namespaces: Option<Arc<[Box<str>]>>,
    /// Selects pods.
    pub selector: Selector,
}

/// Questions with their answers.
#[derive(Debug, Default)]
pub struct Questions {
    asked: Vec<Option<Asked>>,
    ids: HashMap<Arc<Question>, u32>,
    anchors: Anchors,
    vacant: Vec<u32>,
    clock: u64,
}

#[derive(Debug)]
struct Asked {
    question: Arc<Question>,
    /// Pods by slot of their node; never 0.
    counts: HashMap<u32, i64>,
    last: u64,
}

impl Question {
    /// Whether a pod counts.
    pub fn counts(&self, pod: &PodInfo) -> bool {
        !(self.live && pod.deleting) && self.parts.iter().all(|part| part.selects(pod))
    }
}

impl Part {
    fn selects(&self, pod: &PodInfo) -> bool {
        let named = |names: &Arc<[Box<str>]>| names.iter().any(|name| **name == *pod.namespace);
        self.namespaces.as_ref().is_none_or(named) && self.selector.matches(&pod.labels)
    }
}

impl Questions {
    /// The pods by slot. `pods` are those to look at when it is asked for the first
    /// time, with their slots.
    pub fn ask<'a, I: Iterator<Item = (u32, &'a PodInfo)>>(
        &mut self,
        question: Question,
        pods: impl FnOnce(&Part) -> I,
    ) -> &HashMap<u32, i64> {
        self.clock += 1;
        let clock = self.clock;
        let id = match self.ids.get(&question) {
            Some(id) => *id,
            None => {
                let mut counts = HashMap::new();
                for (slot, _) in pods(&question.parts[0]).filter(|(_, pod)| question.counts(pod)) {
                    *counts.entry(slot).or_default() += 1;
                }
                self.insert(Asked { question: Arc::new(question), counts, last: clock })
            }
        };
        let asked = self.asked[id as usize].as_mut().expect("an id is that of a question");
        asked.last = clock;
        &asked.counts
    }

    /// A pod came to a node (`1`), or left it (`-1`).
    pub fn moved(&mut self, pod: &PodInfo, slot: u32, by: i64) {
        for id in self.anchors.candidates(&pod.labels) {
            let Some(asked) = self.asked[id as usize].as_mut() else { continue };
            if !asked.question.counts(pod) {
                continue;
            }
            let count = asked.counts.entry(slot).or_default();
            *count += by;
            if *count == 0 {
                asked.counts.remove(&slot);
            }
        }
    }

    /// Every answer, for comparing it with one from scratch.
    pub fn entries(&self) -> impl Iterator<Item = (&Question, &HashMap<u32, i64>)> {
        self.asked.iter().flatten().map(|asked| (&*asked.question, &asked.counts))
    }

    fn insert(&mut self, asked: Asked) -> u32 {
        if self.ids.len() >= KEPT {
            self.forget();
        }
        let id = match self.vacant.pop() {
            Some(id) => id,
            None => {
                self.asked.push(None);
                (self.asked.len() - 1) as u32
            }
        };
        self.anchors.insert(&asked.question.parts[0].selector, id);
        self.ids.insert(asked.question.clone(), id);
        self.asked[id as usize] = Some(asked);
        id
    }

    /// Forgets the older half, so that forgetting is rare.
    fn forget(&mut self) {
        let mut ages: Vec<u64> = self.asked.iter().flatten().map(|asked| asked.last).collect();
        ages.sort_unstable();
        let limit = ages[ages.len() / 2];
        for id in 0..self.asked.len() {
            if self.asked[id].as_ref().is_none_or(|asked| asked.last > limit) {
                continue;
            }
            if let Some(asked) = self.asked[id].take() {
                self.anchors.remove(&asked.question.parts[0].selector, id as u32);
                self.ids.remove(&asked.question);
                self.vacant.push(id as u32);
            }
        }
    }
}
