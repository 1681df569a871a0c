//! A head that follows a store elsewhere: what a backend whose truth is on another
//! machine (etcd) serves its reads from. The backend feeds it, in order of revision,
//! from that store's own watch.

use std::sync::Arc;

use carrack_api::{Key, Record, Revision};
use tokio::sync::watch;

use crate::head::{Accepted, Shared};
use crate::{Change, Expired, Field, Limits, Snapshot, Watch};

/// A head fed from elsewhere.
pub struct Mirror {
    shared: Arc<Shared>,
    progress: watch::Sender<Revision>,
}

impl Mirror {
    /// A head that holds `records`, as of `revision`.
    pub fn new(records: Vec<Record>, revision: Revision, limits: Limits) -> Self {
        Self { shared: Shared::new(records, revision, limits), progress: watch::channel(revision).0 }
    }

    /// An object was written: `record` is its new state.
    pub fn put(&self, record: Record) {
        let replaced = self.get(&record.key).map_or(0, |before| before.revision);
        let change = if replaced == 0 { Change::Created } else { Change::Updated };
        let revision = record.revision;
        self.publish(Accepted { revision, change, record: Arc::new(record), replaced });
    }

    /// An object was deleted at `revision`. Nothing happens when it is not known.
    pub fn delete(&self, key: &Key, revision: Revision) {
        if let Some(record) = self.get(key) {
            let replaced = record.revision;
            self.publish(Accepted { revision, change: Change::Deleted, record, replaced });
        }
    }

    /// Everything up to `revision` has been fed.
    pub fn advance(&self, revision: Revision) {
        self.shared.advance(revision);
        self.progress.send_replace(self.shared.revision());
    }

    fn publish(&self, write: Accepted) {
        self.shared.publish(&[write]);
        self.progress.send_replace(self.shared.revision());
    }

    /// Resolves once everything up to `revision` has been fed.
    pub async fn reached(&self, revision: Revision) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.progress.subscribe().wait_for(|seen| *seen >= revision).await;
    }

    /// As [`Store::get`](crate::Store::get).
    pub fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.shared.get(key)
    }

    /// As [`Store::snapshot`](crate::Store::snapshot).
    pub fn snapshot(&self, resource: &str) -> Snapshot {
        self.shared.snapshot(resource)
    }

    /// As [`Store::snapshot_at`](crate::Store::snapshot_at).
    ///
    /// # Errors
    /// [`Expired`].
    pub fn snapshot_at(&self, resource: &str, revision: Revision) -> Result<Snapshot, Expired> {
        self.shared.snapshot_at(resource, revision)
    }

    /// As [`Store::watch`](crate::Store::watch).
    ///
    /// # Errors
    /// [`Expired`].
    pub fn watch(&self, resource: &str, from: Revision) -> Result<Watch, Expired> {
        self.shared.watch(resource, from, None)
    }

    /// As [`Store::watch_field`](crate::Store::watch_field).
    ///
    /// # Errors
    /// [`Expired`].
    pub fn watch_field(&self, resource: &str, from: Revision, field: Field) -> Result<Watch, Expired> {
        self.shared.watch(resource, from, Some(field))
    }

    /// As [`Store::revision`](crate::Store::revision).
    pub fn revision(&self) -> Revision {
        self.shared.revision()
    }
}
