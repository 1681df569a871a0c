//! What a local backend adds to the head: durability.

use std::sync::Arc;

use carrack_api::{Record, Revision};

use crate::head::Accepted;
use crate::history::Event;

/// Why a batch could not be stored. Nothing of it is kept.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The disk is full; the same batch may be stored once there is space.
    Full,
    /// Anything else.
    Other(Arc<str>),
}

/// Keeps batches. Called by the committer's thread only, one call at a time.
pub(crate) trait Engine: Send + 'static {
    /// Stores a batch, all or nothing, and returns once it is durable when `sync` is
    /// set. After an error nothing of the batch is kept.
    fn persist(&mut self, batch: &[Accepted], sync: bool) -> Result<(), Failure>;

    /// Told of what the history has let go; what only it needed may be removed, in
    /// small steps.
    fn forget(&mut self, _gone: &[Arc<Event>]) {}

    /// Does a small step of housekeeping, if one is due. `idle` says that nobody waits;
    /// returns whether more should be done while that is so.
    fn tidy(&mut self, _idle: bool) -> bool {
        false
    }

    /// Stores everything anew in the form that the transform makes now, in small steps
    /// from [`tidy`](Self::tidy).
    fn rewrite(&mut self) {}

    /// How rewriting ended; `None` while it goes on.
    fn rewritten(&self) -> Option<Result<(), Arc<str>>> {
        Some(Ok(()))
    }

    /// Replaces everything by `records`, synced; history before `revision` is gone.
    fn replace(&mut self, records: &[Arc<Record>], revision: Revision) -> Result<(), Failure>;

    /// Leaves everything durable and tidy before the process ends.
    fn close(&mut self, revision: Revision);
}

/// Keeps nothing: for tests and throw-away servers.
pub(crate) struct Nothing;

impl Engine for Nothing {
    fn persist(&mut self, _: &[Accepted], _: bool) -> Result<(), Failure> {
        Ok(())
    }

    fn replace(&mut self, _: &[Arc<Record>], _: Revision) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self, _: Revision) {}
}
