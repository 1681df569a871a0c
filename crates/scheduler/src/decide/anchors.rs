//! An index of selectors: finds those that may select an object by its labels, without
//! asking all of them.
//!
//! A selector that requires a label to have one of some values is found under each of
//! them; the others are always found. Who asks still has to ask the selector itself.

use std::collections::HashMap;

use super::labels::{LabelSet, Selector};

/// Ids of selectors.
#[derive(Debug, Default)]
pub struct Anchors {
    by_label: HashMap<Box<str>, HashMap<Box<str>, Vec<u32>>>,
    floating: Vec<u32>,
}

impl Anchors {
    /// Adds a selector under an id.
    pub fn insert(&mut self, selector: &Selector, id: u32) {
        let Some((key, values)) = selector.anchor() else { return self.floating.push(id) };
        let by_value = self.by_label.entry(key.into()).or_default();
        for value in values {
            by_value.entry(value.clone()).or_default().push(id);
        }
    }

    /// Removes a selector that was added.
    pub fn remove(&mut self, selector: &Selector, id: u32) {
        let Some((key, values)) = selector.anchor() else {
            return self.floating.retain(|one| *one != id);
        };
        let Some(by_value) = self.by_label.get_mut(key) else { return };
        for value in values {
            if let Some(ids) = by_value.get_mut(value) {
                ids.retain(|one| *one != id);
                if ids.is_empty() {
                    by_value.remove(value);
                }
            }
        }
        if by_value.is_empty() {
            self.by_label.remove(key);
        }
    }

    /// Ids of the selectors that may select an object with these labels.
    pub fn candidates<'a>(&'a self, labels: &'a LabelSet) -> impl Iterator<Item = u32> + 'a {
        let anchored = labels
            .iter()
            .filter_map(|(key, value)| self.by_label.get(key)?.get(value))
            .flat_map(|ids| ids.iter().copied());
        anchored.chain(self.floating.iter().copied())
    }
}
