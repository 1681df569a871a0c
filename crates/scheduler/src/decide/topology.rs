//! The nodes' values of the labels that topologies are made of, as numbers in columns.
//!
//! A column exists while a placed pod's term names its key, or was asked for lately;
//! values that no node has any more give their number back. Number 0 means that a node
//! does not have the label.

use std::collections::HashMap;

use super::labels::LabelSet;

/// Columns beyond this many are dropped when nobody holds them.
const IDLE_COLUMNS: usize = 128;

/// All columns.
#[derive(Debug, Default)]
pub struct Topology {
    columns: Vec<Column>,
    by_key: HashMap<Box<str>, u32>,
    vacant: Vec<u32>,
}

/// One label of all nodes.
#[derive(Debug, Default)]
pub struct Column {
    /// The label.
    pub key: Box<str>,
    /// Number of the value of the node in each slot.
    pub of: Vec<u32>,
    numbers: HashMap<Box<str>, u32>,
    /// Nodes that have a value, by its number; the first entry is not used.
    population: Vec<u32>,
    free: Vec<u32>,
    holders: u32,
}

impl Topology {
    /// The column of a key, if there is one.
    pub fn find(&self, key: &str) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The column of a key; `nodes` gives slot and labels of every node, to fill a new
    /// column.
    pub fn column<'a>(&mut self, key: &str, nodes: impl Iterator<Item = (u32, &'a LabelSet)>) -> u32 {
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let mut column = Column { key: key.into(), population: vec![0], ..Column::default() };
        for (slot, labels) in nodes {
            column.set(slot, labels.get(key));
        }
        let id = match self.vacant.pop() {
            Some(id) => id,
            None => {
                self.columns.push(Column::default());
                (self.columns.len() - 1) as u32
            }
        };
        self.columns[id as usize] = column;
        self.by_key.insert(key.into(), id);
        id
    }

    /// A column by its id.
    pub fn get(&self, id: u32) -> &Column {
        &self.columns[id as usize]
    }

    /// Keeps a column from being dropped.
    pub fn hold(&mut self, id: u32) {
        self.columns[id as usize].holders += 1;
    }

    /// Takes a [`Topology::hold`] back.
    pub fn release(&mut self, id: u32) {
        self.columns[id as usize].holders -= 1;
    }

    /// Drops columns that nobody holds, when there are too many.
    pub fn sweep(&mut self) {
        if self.by_key.len() <= IDLE_COLUMNS {
            return;
        }
        let idle = |id: &u32| self.columns[*id as usize].holders == 0;
        let ids: Vec<u32> = self.by_key.values().copied().filter(idle).collect();
        for id in ids {
            let column = std::mem::take(&mut self.columns[id as usize]);
            self.by_key.remove(&column.key);
            self.vacant.push(id);
        }
    }

    /// A node came to a slot, changed there, or left it (no labels).
    pub fn set_node(&mut self, slot: u32, labels: Option<&LabelSet>) {
        for id in self.by_key.values() {
            let column = &mut self.columns[*id as usize];
            let value = labels.and_then(|labels| labels.get(&column.key));
            column.set(slot, value);
        }
    }
}

impl Column {
    /// Number of the value of the node in a slot; 0 when it has none.
    pub fn value(&self, slot: u32) -> u32 {
        self.of.get(slot as usize).copied().unwrap_or(0)
    }

    /// Room for one entry per number.
    pub fn numbers(&self) -> usize {
        self.population.len()
    }

    /// Nodes that have the value of a number.
    pub fn nodes(&self, number: usize) -> u32 {
        self.population[number]
    }

    fn set(&mut self, slot: u32, value: Option<&str>) {
        let slot = slot as usize;
        if self.of.len() <= slot {
            self.of.resize(slot + 1, 0);
        }
        let number = value.map_or(0, |value| self.number(value));
        let before = std::mem::replace(&mut self.of[slot], number);
        if number != 0 {
            self.population[number as usize] += 1;
        }
        if before != 0 {
            self.population[before as usize] -= 1;
            if self.population[before as usize] == 0 {
                self.numbers.retain(|_, one| *one != before);
                self.free.push(before);
            }
        }
    }

    fn number(&mut self, value: &str) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.population.push(0);
            (self.population.len() - 1) as u32
        });
        self.numbers.insert(value.into(), number);
        number
    }
}
