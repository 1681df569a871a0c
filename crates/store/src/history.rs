//! The recent changes of one resource, from which watches are served.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use carrack_api::{Record, Revision};
use tokio::sync::watch;

use crate::fields::Index;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Created,
    /// It was replaced.
    Updated,
    /// It was deleted.
    Deleted,
}

/// One change, shared by all who watch it.
#[derive(Debug)]
pub struct Event {
    /// The change's own revision; for a deletion it is newer than the record's.
    pub revision: Revision,
    /// What happened.
    pub change: Change,
    /// The object after the change; for a deletion, the last one.
    pub record: Arc<Record>,
    /// The object before the change, where there was one: a selector needs both sides,
    /// and so does whoever wants to know how things were.
    pub previous: Option<Arc<Record>>,
    /// The frame most watchers send, made by the first of them.
    pub frame: OnceLock<Bytes>,
}

/// A bounded window of events in order of revision.
#[derive(Debug)]
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    /// Sequence number of `events[0]`.
    first: u64,
    /// Changes after this revision are all in the window.
    since: Revision,
    bytes: usize,
    /// Of the fields that watches have asked for.
    indexes: Vec<Index>,
}

/// What a watch reads at once.
pub(crate) struct Read {
    pub(crate) events: Vec<Arc<Event>>,
    /// Where to read on.
    pub(crate) position: u64,
    /// Whether that is the window's end.
    pub(crate) complete: bool,
}

impl History {
    pub(crate) fn new(since: Revision) -> Self {
        Self { events: VecDeque::new(), first: 0, since, bytes: 0, indexes: Vec::new() }
    }

    /// Adds an event; what falls out of the window of so many events and bytes goes to `gone`.
    pub(crate) fn push(
        &mut self,
        event: Arc<Event>,
        (events, bytes): (usize, usize),
        gone: &mut Vec<Arc<Event>>,
    ) {
        self.bytes += cost(&event);
        let sequence = self.end();
        self.indexes.iter_mut().for_each(|index| index.push(&event, sequence));
        self.events.push_back(event);
        while self.events.len() > 1 && (self.events.len() > events || self.bytes > bytes) {
            gone.extend(self.drop_first());
        }
    }

    fn drop_first(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= cost(&event);
        self.since = event.revision;
        self.indexes.iter_mut().for_each(|index| index.drop_first(&event, self.first));
        self.first += 1;
        Some(event)
    }

    /// Forgets everything up to `since`; every watch that stands in the window, or at
    /// its end, has fallen out of it.
    pub(crate) fn reset(&mut self, since: Revision) {
        self.first += self.events.len() as u64 + 1;
        self.events.clear();
        self.bytes = 0;
        self.since = since;
        self.indexes.iter_mut().for_each(|index| index.reset(self.first, since));
    }

    /// The events after `revision`, newest first.
    pub(crate) fn after(&self, revision: Revision) -> Vec<Arc<Event>> {
        self.events.iter().rev().take_while(|event| event.revision > revision).cloned().collect()
    }

    /// The oldest revision from which the window is complete.
    pub(crate) fn since(&self) -> Revision {
        self.since
    }

    /// The sequence number of the first event after `revision`; `None` when the
    /// window does not reach back to it.
    pub(crate) fn position(&self, revision: Revision) -> Option<u64> {
        if revision < self.since {
            return None;
        }
        Some(self.first + self.events.partition_point(|event| event.revision <= revision) as u64)
    }

    /// Up to `most` events from a sequence number on; `None` when they are gone.
    pub(crate) fn read(&self, position: u64, most: usize) -> Option<Read> {
        let skip = position.checked_sub(self.first)? as usize;
        let events: Vec<_> = self.events.iter().skip(skip).take(most).cloned().collect();
        let position = position + events.len() as u64;
        Some(Read { complete: position == self.end(), events, position })
    }

    /// To be woken by the events that concern a value of a field.
    pub(crate) fn subscribe(&mut self, field: &str, value: &str) -> watch::Receiver<Revision> {
        let at = self.indexes.iter().position(|index| index.field() == field).unwrap_or_else(|| {
            let mut index = Index::new(field);
            (self.first..).zip(&self.events).for_each(|(sequence, event)| index.push(event, sequence));
            self.indexes.push(index);
            self.indexes.len() - 1
        });
        self.indexes[at].subscribe(value, self.since)
    }

    /// As [`read`](Self::read), only what concerns a value of a field that has been
    /// subscribed to.
    pub(crate) fn read_field(&self, field: &str, value: &str, position: u64, most: usize) -> Option<Read> {
        let Some(index) = self.indexes.iter().find(|index| index.field() == field) else {
            return self.read(position, most);
        };
        let found = index.read(value, position, most)?;
        let complete = found.len() < most;
        let next = if complete { self.end() } else { found.last().map_or(position, |last| last + 1) };
        let at = |sequence: &u64| self.events.get(sequence.checked_sub(self.first)? as usize).cloned();
        Some(Read { events: found.iter().filter_map(at).collect(), position: next, complete })
    }

    /// Sequence number of the next event.
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// What an event weighs: its record and a frame of the same size.
fn cost(event: &Event) -> usize {
    2 * event.record.content.size() + 256
}
