//! A revisioned store of records with watch.
//!
//! The trait promises no more than any engine can keep: independent compare-and-set
//! writes with one revision each, range reads, a watch from a revision, and a
//! barrier for reads that must see every acknowledged write. There are no multi-key
//! transactions.
//!
//! Reads come from the head, which is in memory for every backend, so they neither
//! wait nor fail. What a backend adds is durability: memory none, SQLite one synced
//! transaction a batch (see [`Local`]). Records are opaque here but for key, revision and
//! header; transformers such as encryption sit above.

pub mod backup;
mod committer;
pub mod contract;
mod engine;
mod fields;
mod head;
mod history;
mod labels;
mod local;
mod mirror;
mod snapshot;
mod sqlite;
mod transform;
mod value;
mod watch;

use std::sync::Arc;

use carrack_api::{Content, Key, Record, Revision};
use futures::future::BoxFuture;

pub use history::{Change, Event};
pub use local::Local;
pub use mirror::Mirror;
pub use snapshot::Snapshot;
pub use sqlite::OpenError;
pub use transform::{Transform, Untransformed, is_clear};
pub use watch::{Expired, Field, Watch};

/// How much history and how many waiting writes a store keeps.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of records that the history of one resource holds before its oldest
    /// events go; a watch from before them gets [`Expired`]. A resource whose objects are
    /// many times that may hold a part of theirs.
    pub history_bytes: usize,
    /// Events that the history of one resource holds at most.
    pub history_events: usize,
    /// Writes that may wait for the committer; more wait at the door.
    pub queue: usize,
    /// Writes in one batch at most.
    pub batch: usize,
    /// Pages of 8 kB that a database may have; a write beyond them finds a full disk.
    pub database_pages: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_bytes: 8 << 20, history_events: 20_000, queue: 4096, batch: 512, database_pages: None }
    }
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No object under the key.
    Absent,
    /// An object last written at this revision.
    At(Revision),
}

/// One compare-and-set operation.
#[derive(Debug, Clone)]
pub struct Write {
    /// What is written.
    pub key: Key,
    /// What must be there.
    pub expect: Expect,
    /// The new content; `None` deletes.
    pub content: Option<Content>,
    /// A hint that the write may be lost in a power cut (Events, heartbeats). It is
    /// acknowledged once visible; its revision is never given to another write.
    pub unsynced: bool,
}

/// A write that took place.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its revision.
    pub revision: Revision,
    /// The record now stored; for a deletion, the last one.
    pub record: Arc<Record>,
}

/// Why a write did not take place.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The key was not as expected. Holds what is there.
    #[error("the stored object is not the expected one")]
    Conflict(Option<Arc<Record>>),
    /// The disk is full. The write is not visible; it may be tried again, and succeeds
    /// once there is space.
    #[error(
        "the disk that holds the data directory is full; writes resume by themselves once there is space"
    )]
    Full,
    /// The backend could not make the batch durable. The write is not visible; it
    /// may be tried again.
    #[error("cannot make writes durable: {0}")]
    Unavailable(Arc<str>),
}

/// A store. Share it by `Arc<dyn Store>`.
pub trait Store: Send + Sync + 'static {
    /// Commits one write; resolves once it is durable (or, when unsynced, visible).
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// The record under a key, from the head.
    fn get(&self, key: &Key) -> Option<Arc<Record>>;

    /// One resource (`pods`, `deployments.apps`) as of the head. It costs nothing to
    /// take, blocks nobody, and stays as it is.
    fn snapshot(&self, resource: &str) -> Snapshot;

    /// One resource as it was at an older revision. Costs as much as there were changes
    /// since.
    ///
    /// # Errors
    /// [`Expired`] when history does not reach back so far.
    fn snapshot_at(&self, resource: &str, revision: Revision) -> Result<Snapshot, Expired>;

    /// Every change of one resource after `from`, in order, without gaps. Fails with
    /// [`Expired`] when history does not reach back so far; so does a watch that
    /// falls behind it.
    fn watch(&self, resource: &str, from: Revision) -> Result<Watch, Expired>;

    /// As [`watch`](Self::watch), without changes of objects that have another value in the
    /// field, before and after: the watch neither wakes for them nor falls behind because
    /// of them.
    ///
    /// # Errors
    /// As for [`watch`](Self::watch).
    fn watch_field(&self, resource: &str, from: Revision, field: Field) -> Result<Watch, Expired>;

    /// The newest revision of which the head knows.
    fn revision(&self) -> Revision;

    /// Resolves when the head holds every write acknowledged before the call, by any
    /// server; returns the head's revision then.
    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>>;
}
