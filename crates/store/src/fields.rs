//! Which of the recent changes concern objects with a certain value in a field, so that a
//! watch of one node's pods is woken by those and looks at those, however many others change.
//!
//! A field is indexed from the first watch on that asks for it. A change concerns the value
//! before it and the one after it: an object that leaves a selection is news there too.

use std::collections::{HashMap, VecDeque};

use carrack_api::{Record, Revision};
use tokio::sync::watch;

use crate::history::Event;

/// The value of a field as selectors compare it: of the key, or as the header has it.
fn value<'a>(record: &'a Record, field: &str) -> &'a str {
    match field {
        "metadata.name" => record.key.name(),
        "metadata.namespace" => record.key.namespace(),
        field => record.field(field).unwrap_or_default(),
    }
}

/// The values that an event concerns: one, or two.
fn values<'a>(event: &'a Event, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let now = value(&event.record, field);
    let before = event.previous.as_deref().map(|record| value(record, field));
    [Some(now), before.filter(|before| *before != now)].into_iter().flatten()
}

/// The window's events by the value of one field.
#[derive(Debug)]
pub(crate) struct Index {
    field: Box<str>,
    values: HashMap<Box<str>, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Sequence numbers of the events that concern the value, oldest first.
    events: VecDeque<u64>,
    /// Events below this number that concerned the value have left the window.
    gone: u64,
    /// Wakes the watches of the value; made by the first of them.
    wake: Option<watch::Sender<Revision>>,
}

impl Index {
    pub(crate) fn new(field: &str) -> Self {
        Self { field: field.into(), values: HashMap::new() }
    }

    pub(crate) fn field(&self) -> &str {
        &self.field
    }

    /// An event enters the window; wakes whom it concerns.
    pub(crate) fn push(&mut self, event: &Event, sequence: u64) {
        for value in values(event, &self.field) {
            if !self.values.contains_key(value) {
                self.values.insert(value.into(), Entry::default());
            }
            let entry = self.values.get_mut(value).expect("inserted above");
            entry.events.push_back(sequence);
            if let Some(wake) = &entry.wake {
                wake.send_replace(event.revision);
            }
        }
    }

    /// The oldest event leaves the window.
    pub(crate) fn drop_first(&mut self, event: &Event, sequence: u64) {
        for value in values(event, &self.field) {
            let Some(entry) = self.values.get_mut(value) else { continue };
            entry.events.pop_front();
            entry.gone = sequence + 1;
            if entry.is_idle() {
                self.values.remove(value);
            }
        }
    }

    /// Everything leaves the window, whose next event has this number.
    pub(crate) fn reset(&mut self, next: u64, revision: Revision) {
        self.values.retain(|_, entry| {
            (entry.events, entry.gone) = (VecDeque::new(), next);
            if let Some(wake) = &entry.wake {
                wake.send_replace(revision);
            }
            !entry.is_idle()
        });
    }

    /// To be woken by changes that concern a value. Its entry stays as long as that is kept.
    pub(crate) fn subscribe(&mut self, value: &str, revision: Revision) -> watch::Receiver<Revision> {
        let entry = self.values.entry(value.into()).or_default();
        entry.wake.get_or_insert_with(|| watch::channel(revision).0).subscribe()
    }

    /// Up to `most` sequence numbers from `position` on that concern a value; `None` when
    /// some have left the window.
    pub(crate) fn read(&self, value: &str, position: u64, most: usize) -> Option<Vec<u64>> {
        let Some(entry) = self.values.get(value) else { return Some(Vec::new()) };
        if position < entry.gone {
            return None;
        }
        let start = entry.events.partition_point(|sequence| *sequence < position);
        Some(entry.events.range(start..).take(most).copied().collect())
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.wake.as_ref().is_none_or(|wake| wake.receiver_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use carrack_api::Key;

    use crate::contract::content;
    use crate::{Expect, Field, Limits, Local, Store, Write};

    #[tokio::test]
    async fn a_watch_falls_behind_only_by_what_concerns_it() {
        let store = Local::memory(Limits { history_events: 4, ..Limits::default() });
        let write = async |namespace: &str, name: &str| {
            let key = Key::new("configmaps", namespace, name);
            let content = Some(content(name, 0));
            store
                .commit(Write { key, expect: Expect::Absent, content, unsynced: true })
                .await
                .unwrap()
                .revision
        };
        let start = write("busy", "first").await;
        let watch = |namespace: &str| {
            let (name, value) = ("metadata.namespace".into(), namespace.into());
            store.watch_field("configmaps", start, Field { name, value }).unwrap()
        };
        let (mut busy, mut quiet, mut all) =
            (watch("busy"), watch("quiet"), store.watch("configmaps", start).unwrap());
        for name in ["a", "b", "c", "d", "e"] {
            write("busy", name).await;
        }
        assert!(busy.try_next().is_err(), "one of its events has left the history");
        assert!(all.try_next().is_err());
        let revision = write("quiet", "x").await;
        assert_eq!(quiet.next().await.unwrap()[0].revision, revision);
        assert!(quiet.try_next().unwrap().is_empty());
        assert_eq!(quiet.revision(), store.revision());
    }
}
