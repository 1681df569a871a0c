//! What a local backend adds to the head: durability.

use std::sync::Arc;

use carrack_api::Revision;

use crate::head::Accepted;

/// Keeps batches. Called by the committer's thread only, one batch at a time.
pub(crate) trait Engine: Send + 'static {
    /// Stores a batch, all or nothing, and returns once it is durable when `sync` is
    /// set. After an error nothing of the batch is kept.
    fn persist(&mut self, batch: &[Accepted], sync: bool) -> Result<(), Arc<str>>;

    /// Leaves everything durable and tidy before the process ends.
    fn close(&mut self, revision: Revision);
}

/// Keeps nothing: for tests and throw-away servers.
pub(crate) struct Nothing;

impl Engine for Nothing {
    fn persist(&mut self, _: &[Accepted], _: bool) -> Result<(), Arc<str>> {
        Ok(())
    }

    fn close(&mut self, _: Revision) {}
}
