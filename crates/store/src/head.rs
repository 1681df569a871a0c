//! The newest state of everything, in memory: a map and a history per resource.
//!
//! Whoever publishes does so under one lock, so a snapshot's revision, the history
//! and the wake-ups always agree. A reader holds the lock only to take a reference.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use carrack_api::{Key, Record, Revision};
use tokio::sync::watch;

use crate::history::{Change, Event, History};
use crate::labels::Index;
use crate::snapshot::{Map, Snapshot};
use crate::watch::{Expired, Watch};
use crate::{CommitError, Expect, Limits, Write};

/// The head behind its lock.
pub(crate) struct Shared {
    head: RwLock<Head>,
    limits: Limits,
}

struct Head {
    revision: Revision,
    /// Revision at which history begins for every resource.
    start: Revision,
    resources: HashMap<Arc<str>, Resource>,
}

struct Resource {
    map: Map,
    labels: Index,
    history: History,
    wake: watch::Sender<Revision>,
}

impl Resource {
    fn new(since: Revision) -> Self {
        Self {
            map: Map::new_sync(),
            labels: Index::new(),
            history: History::new(since),
            wake: watch::channel(since).0,
        }
    }
}

/// A write that has passed its check and has its revision.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) revision: Revision,
    pub(crate) change: Change,
    /// The new record; for a deletion, the one that goes.
    pub(crate) record: Arc<Record>,
}

// === impl Shared ===

impl Shared {
    /// A head that holds `records` at `revision`; history starts there.
    pub(crate) fn new(records: Vec<Record>, revision: Revision, limits: Limits) -> Arc<Self> {
        let mut resources: HashMap<Arc<str>, Resource> = HashMap::new();
        for record in records {
            let name = record.key.resource();
            if !resources.contains_key(name) {
                resources.insert(name.into(), Resource::new(revision));
            }
            let resource = resources.get_mut(name).expect("inserted above");
            resource.labels.update(&record.key, None, Some(record.header()));
            resource.map.insert_mut(record.key.clone(), Arc::new(record));
        }
        Arc::new(Self { head: RwLock::new(Head { revision, start: revision, resources }), limits })
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

    pub(crate) fn watch(self: &Arc<Self>, resource: &str, from: Revision) -> Result<Watch, Expired> {
        let mut head = self.head_mut();
        let start = head.start;
        let name: Arc<str> = match head.resources.get_key_value(resource) {
            Some((name, _)) => name.clone(),
            None => {
                head.resources.insert(resource.into(), Resource::new(start));
                resource.into()
            }
        };
        let entry = head.resources.get(&name).expect("found or inserted above");
        let oldest = entry.history.since();
        let position = entry.history.position(from).ok_or(Expired { from, oldest })?;
        Ok(Watch::new(self.clone(), name, position, from, entry.wake.subscribe()))
    }

    /// Events from a position on and the head's revision, for a [`Watch`].
    pub(crate) fn read(
        &self,
        resource: &str,
        position: u64,
        most: usize,
        from: Revision,
    ) -> Result<(Vec<Arc<Event>>, Revision), Expired> {
        let head = self.head();
        let Some(entry) = head.resources.get(resource) else { return Ok((Vec::new(), head.revision)) };
        let expired = || Expired { from, oldest: entry.history.since() };
        let events = entry.history.read(position, most).ok_or_else(expired)?;
        Ok((events, head.revision))
    }

    /// Makes accepted writes visible, in order, and wakes who watches. The caller
    /// has made them durable and is the only one who publishes.
    pub(crate) fn publish(&self, accepted: &[Accepted]) {
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
            entry.publish(write, &self.limits);
        }
        for name in touched {
            head.resources[&name].wake.send_replace(head.revision);
        }
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
    fn publish(&mut self, write: &Accepted, limits: &Limits) {
        let key = &write.record.key;
        let previous = self.map.get(key).map(|record| record.content.header.clone());
        let left = (write.change != Change::Deleted).then(|| write.record.header());
        self.labels.update(key, previous.as_deref(), left);
        match write.change {
            Change::Deleted => {
                self.map.remove_mut(key);
            }
            Change::Created | Change::Updated => {
                self.map.insert_mut(key.clone(), write.record.clone());
            }
        }
        let event = Event {
            revision: write.revision,
            change: write.change,
            record: write.record.clone(),
            previous,
            frame: Default::default(),
        };
        self.history.push(Arc::new(event), limits);
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
    Ok(Accepted { revision, change, record })
}
