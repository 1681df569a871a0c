//! An index over stored objects that is never behind the store when it is read.
//!
//! No task runs behind it: whoever reads first takes in what has changed since. When
//! the history no longer reaches back to where it stands, it is built anew. Reading it
//! unchanged costs one comparison of revisions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use carrack_api::Record;
use carrack_store::{Change, Expired, Store, Watch};

/// What an index makes of records.
pub(crate) trait Index: Default + Send + Sync + 'static {
    /// The resources it is made from.
    const RESOURCES: &'static [&'static str];

    /// Takes in an object as it now is; `gone` when it is deleted.
    fn apply(&mut self, record: &Record, gone: bool);

    /// Called after every batch of changes.
    fn settle(&mut self) {}
}

/// An index together with its place in the store.
pub(crate) struct Follow<I> {
    store: Arc<dyn Store>,
    index: RwLock<I>,
    watches: Mutex<Vec<Watch>>,
    /// Revision up to which the index is complete; 0 before the first read.
    seen: AtomicU64,
}

impl<I: Index> Follow<I> {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, index: RwLock::default(), watches: Mutex::default(), seen: AtomicU64::new(0) }
    }

    /// The index as of now.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, I> {
        let newest = self.store.revision();
        if self.seen.load(Ordering::Acquire) < newest {
            self.catch_up(newest);
        }
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn catch_up(&self, newest: u64) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if self.seen.load(Ordering::Acquire) >= newest {
            return;
        }
        if watches.is_empty() || self.drain(&mut watches).is_err() {
            self.rebuild(&mut watches);
        }
        self.seen.store(newest, Ordering::Release);
    }

    /// Takes in what the watches have; fails when one has fallen out of the history.
    fn drain(&self, watches: &mut [Watch]) -> Result<(), Expired> {
        let mut events = Vec::new();
        for watch in watches {
            loop {
                let batch = watch.try_next()?;
                if batch.is_empty() {
                    break;
                }
                events.extend(batch);
            }
        }
        if !events.is_empty() {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            for event in &events {
                index.apply(&event.record, event.change == Change::Deleted);
            }
            index.settle();
        }
        Ok(())
    }

    /// Starts over from snapshots. A watch that cannot start where its snapshot was
    /// taken (a history of no length) is tried again with a newer one.
    fn rebuild(&self, watches: &mut Vec<Watch>) {
        let mut index = I::default();
        watches.clear();
        for resource in I::RESOURCES {
            loop {
                let snapshot = self.store.snapshot(resource);
                if let Ok(watch) = self.store.watch(resource, snapshot.revision) {
                    snapshot.iter().for_each(|record| index.apply(record, false));
                    watches.push(watch);
                    break;
                }
            }
        }
        index.settle();
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }
}
