//! The newest state of everything, in memory: a map and a history per resource.
//!
//! Whoever publishes does so under one lock, so a snapshot's revision, the history
//! and the wake-ups always agree. A reader holds the lock only to take a reference.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use carrack_api::{Content, Key, Record, Revision};
use tokio::sync::watch;

use crate::history::{Change, Event, History, Read};
use crate::labels::Index;
use crate::snapshot::{Map, Snapshot};
use crate::watch::{Expired, Field, Watch};
use crate::{CommitError, Expect, Limits, Write};

/// Who falls out of a resource's history reads all of the resource again, so the history of
/// a large one may be worth a part of that: one over this.
const HISTORY_SHARE: usize = 4;

/// The head behind its lock.
pub(crate) struct Shared {
    head: RwLock<Head>,
    limits: Limits,
}

struct Head {
    revision: Revision,
    /// Revision at which history begins for every resource without changes since.
    start: Revision,
    /// Between these two, writes may have been lost in a power cut: whoever has seen
    /// one of them must list again.
    lost: (Revision, Revision),
    resources: HashMap<Arc<str>, Resource>,
}

struct Resource {
    map: Map,
    /// Bytes of the records in the map.
    bytes: usize,
    labels: Index,
    history: History,
    wake: watch::Sender<Revision>,
}

impl Resource {
    fn new(since: Revision) -> Self {
        Self {
            map: Map::new_sync(),
            bytes: 0,
            labels: Index::new(),
            history: History::new(since),
            wake: watch::channel(since).0,
        }
    }
}

/// A head that is being filled with what an engine has kept.
pub(crate) struct Loading {
    head: Head,
    limits: Limits,
    gone: Vec<Arc<Event>>,
}

/// A write that has passed its check and has its revision.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) revision: Revision,
    pub(crate) change: Change,
    /// The new record; for a deletion, the one that goes.
    pub(crate) record: Arc<Record>,
    /// Revision of the record whose place it takes; 0 when there was none.
    pub(crate) replaced: Revision,
}

// === impl Loading ===

impl Loading {
    /// A head whose history begins at `start` for every resource.
    pub(crate) fn new(start: Revision, limits: Limits) -> Self {
        let head = Head { revision: start, start, lost: (0, 0), resources: HashMap::new() };
        Self { head, limits, gone: Vec::new() }
    }

    /// History of a resource begins at `since`. Before the resource's first row.
    pub(crate) fn since(&mut self, resource: &str, since: Revision) {
        self.head.resources.insert(resource.into(), Resource::new(since.max(self.head.start)));
    }

    /// A write, in order of revision; `None` is a deletion. Returns whether it follows
    /// on what came before: it took the place of `replaced`.
    pub(crate) fn write(
        &mut self,
        key: Key,
        revision: Revision,
        replaced: Revision,
        content: Option<Content>,
    ) -> bool {
        let name = key.resource();
        if !self.head.resources.contains_key(name) {
            self.since(name, 0);
        }
        let resource = self.head.resources.get_mut(key.resource()).expect("inserted above");
        let current = resource.map.get(&key).cloned();
        let past = revision <= resource.history.since();
        let (change, record) = match (content, current.as_ref()) {
            (Some(content), current) => {
                let change = if current.is_some() { Change::Updated } else { Change::Created };
                (change, Arc::new(Record { key, revision, content }))
            }
            (None, Some(record)) => (Change::Deleted, record.clone()),
            (None, None) => return past,
        };
        let follows = replaced == current.as_ref().map_or(0, |record| record.revision);
        let write = Accepted { revision, change, record, replaced };
        if past {
            resource.apply(&write, current.as_deref());
        } else {
            resource.publish(&write, &self.limits, &mut self.gone);
        }
        self.head.revision = self.head.revision.max(revision);
        past || follows
    }

    /// The newest revision so far, or where history begins.
    pub(crate) fn revision(&self) -> Revision {
        self.head.revision
    }

    /// The head, at `revision`; between `known` and there, writes may have been lost.
    /// Returns what did not fit into the history, too.
    pub(crate) fn finish(mut self, known: Revision, revision: Revision) -> (Arc<Shared>, Vec<Arc<Event>>) {
        self.head.revision = revision;
        self.head.lost = (known, revision);
        (Arc::new(Shared { head: RwLock::new(self.head), limits: self.limits }), self.gone)
    }
}

// === impl Shared ===

impl Shared {
    /// A head that holds `records` at `revision`; history starts there.
    pub(crate) fn new(records: Vec<Record>, revision: Revision, limits: Limits) -> Arc<Self> {
        let mut loading = Loading::new(revision, limits);
        for record in records {
            loading.write(record.key, record.revision, 0, Some(record.content));
        }
        loading.finish(revision, revision).0
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn revision(&self) -> Revision {
        self.head().revision
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.head().resources.get(key.resource())?.map.get(key).cloned()
    }

    pub(crate) fn snapshot(&self, resource: &str) -> Snapshot {
        let head = self.head();
        match head.resources.get(resource) {
            Some(resource) => Snapshot::new(head.revision, resource.map.clone(), resource.labels.clone()),
            None => Snapshot::new(head.revision, Map::new_sync(), Index::new()),
        }
    }

    pub(crate) fn watch(
        self: &Arc<Self>,
        resource: &str,
        from: Revision,
        field: Option<Field>,
    ) -> Result<Watch, Expired> {
        let mut head = self.head_mut();
        let start = head.start;
        if head.lost.0 < from && from < head.lost.1 {
            return Err(Expired { from, oldest: head.lost.1 });
        }
        let name: Arc<str> = match head.resources.get_key_value(resource) {
            Some((name, _)) => name.clone(),
            None => {
                head.resources.insert(resource.into(), Resource::new(start));
                resource.into()
            }
        };
        let entry = head.resources.get_mut(&name).expect("found or inserted above");
        let oldest = entry.history.since();
        let position = entry.history.position(from).ok_or(Expired { from, oldest })?;
        let wake = match &field {
            Some(field) => entry.history.subscribe(&field.name, &field.value),
            None => entry.wake.subscribe(),
        };
        Ok(Watch::new(self.clone(), (name, field), (position, from), wake))
    }

    /// Events from a position on and the head's revision, for a [`Watch`] that has seen
    /// everything up to `from`.
    pub(crate) fn read(
        &self,
        (resource, field): &(Arc<str>, Option<Field>),
        (position, from): (u64, Revision),
        most: usize,
    ) -> Result<(Read, Revision), Expired> {
        let head = self.head();
        let Some(entry) = head.resources.get(resource) else {
            return Ok((Read { events: Vec::new(), position, complete: true }, head.revision));
        };
        let read = match field {
            Some(field) => entry.history.read_field(&field.name, &field.value, position, most),
            None => entry.history.read(position, most),
        };
        let read = read.ok_or_else(|| Expired { from, oldest: entry.history.since() })?;
        Ok((read, head.revision))
    }

    /// Every resource at one revision.
    pub(crate) fn everything(&self) -> (Revision, Vec<Snapshot>) {
        let head = self.head();
        let one = |r: &Resource| Snapshot::new(head.revision, r.map.clone(), r.labels.clone());
        (head.revision, head.resources.values().map(one).collect())
    }

    /// One resource as it was at a revision within its history.
    pub(crate) fn snapshot_at(&self, resource: &str, revision: Revision) -> Result<Snapshot, Expired> {
        let head = self.head();
        let expired = |oldest| Err(Expired { from: revision, oldest });
        if head.lost.0 < revision && revision < head.lost.1 {
            return expired(head.lost.1);
        }
        let Some(entry) = head.resources.get(resource) else {
            let empty = Snapshot::new(revision, Map::new_sync(), Index::new());
            return if revision < head.start { expired(head.start) } else { Ok(empty) };
        };
        if revision < entry.history.since() {
            return expired(entry.history.since());
        }
        let (mut map, mut labels) = (entry.map.clone(), entry.labels.clone());
        let undo = entry.history.after(revision);
        drop(head);
        for event in undo {
            let now = (event.change != Change::Deleted).then(|| event.record.header());
            labels.update(&event.record.key, now, event.previous.as_deref().map(Record::header));
            match &event.previous {
                Some(record) => map.insert_mut(record.key.clone(), record.clone()),
                None => {
                    map.remove_mut(&event.record.key);
                }
            }
        }
        Ok(Snapshot::new(revision, map, labels))
    }

    /// Replaces everything by `records`. Every watch has fallen out of the history,
    /// which begins anew at `revision`.
    pub(crate) fn replace(&self, records: Vec<Arc<Record>>, revision: Revision) {
        let mut head = self.head_mut();
        for resource in head.resources.values_mut() {
            (resource.map, resource.bytes) = (Map::new_sync(), 0);
            resource.labels = Index::new();
            resource.history.reset(revision);
        }
        (head.start, head.revision, head.lost) = (revision, revision, (0, 0));
        for record in records {
            let name = record.key.resource();
            if !head.resources.contains_key(name) {
                head.resources.insert(name.into(), Resource::new(revision));
            }
            let (revision, change) = (record.revision, Change::Created);
            let resource = head.resources.get_mut(record.key.resource()).expect("inserted above");
            resource.apply(&Accepted { revision, change, record, replaced: 0 }, None);
        }
        for resource in head.resources.values() {
            resource.wake.send_replace(revision);
        }
    }

    /// Makes accepted writes visible, in order, and wakes who watches. The caller
    /// has made them durable and is the only one who publishes. Returns what has fallen
    /// out of the history.
    pub(crate) fn publish(&self, accepted: &[Accepted]) -> Vec<Arc<Event>> {
        let mut gone = Vec::new();
        let mut head = self.head_mut();
        let start = head.start;
        let mut touched: Vec<Arc<str>> = Vec::new();
        for write in accepted {
            head.revision = write.revision;
            let name = write.record.key.resource();
            if !head.resources.contains_key(name) {
                head.resources.insert(name.into(), Resource::new(start));
            }
            let (name, _) = head.resources.get_key_value(name).expect("inserted above");
            if touched.last() != Some(name) {
                let name = name.clone();
                touched.push(name);
            }
            let name = touched.last().expect("pushed above").clone();
            let entry = head.resources.get_mut(&name).expect("inserted above");
            entry.publish(write, &self.limits, &mut gone);
        }
        for name in touched {
            head.resources[&name].wake.send_replace(head.revision);
        }
        gone
    }

    /// Raises the revision without a write: nothing else happened up to there.
    pub(crate) fn advance(&self, revision: Revision) {
        let mut head = self.head_mut();
        head.revision = head.revision.max(revision);
    }

    fn head(&self) -> RwLockReadGuard<'_, Head> {
        self.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn head_mut(&self) -> RwLockWriteGuard<'_, Head> {
        self.head.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource {
    fn publish(&mut self, write: &Accepted, limits: &Limits, gone: &mut Vec<Arc<Event>>) {
        let event = Event {
            revision: write.revision,
            change: write.change,
            record: write.record.clone(),
            previous: self.map.get(&write.record.key).cloned(),
            frame: Default::default(),
        };
        self.apply(write, event.previous.as_deref());
        let bytes = limits.history_bytes.max(self.bytes / HISTORY_SHARE);
        self.history.push(Arc::new(event), (limits.history_events, bytes), gone);
    }

    /// Brings map and labels up to a write.
    fn apply(&mut self, write: &Accepted, previous: Option<&Record>) {
        let key = &write.record.key;
        let left = (write.change != Change::Deleted).then(|| write.record.header());
        self.labels.update(key, previous.map(Record::header), left);
        self.bytes -= previous.map_or(0, |record| record.content.size());
        if write.change != Change::Deleted {
            self.bytes += write.record.content.size();
        }
        match write.change {
            Change::Deleted => {
                self.map.remove_mut(key);
            }
            Change::Created | Change::Updated => {
                self.map.insert_mut(key.clone(), write.record.clone());
            }
        }
    }
}

/// Checks a write against what is there and gives it its revision.
pub(crate) fn accept(
    write: Write,
    current: Option<&Arc<Record>>,
    revision: Revision,
) -> Result<Accepted, CommitError> {
    let fits = match (write.expect, current) {
        (Expect::Absent, None) => true,
        (Expect::At(expected), Some(record)) => record.revision == expected,
        _ => false,
    };
    if !fits {
        return Err(CommitError::Conflict(current.cloned()));
    }
    let (change, record) = match (write.content, current) {
        (Some(content), current) => {
            let change = if current.is_some() { Change::Updated } else { Change::Created };
            (change, Arc::new(Record { key: write.key, revision, content }))
        }
        (None, Some(record)) => (Change::Deleted, record.clone()),
        (None, None) => return Err(CommitError::Conflict(None)),
    };
    let replaced = current.map_or(0, |record| record.revision);
    Ok(Accepted { revision, change, record, replaced })
}
