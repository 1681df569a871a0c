//! One watcher's place in a resource's history.
//!
//! A watcher holds a position, not a queue: nothing is copied for it, and a slow
//! one either catches up or is told [`Expired`], never silently skipped.

use std::sync::Arc;

use carrack_api::Revision;
use tokio::sync::watch;

use crate::head::Shared;
use crate::history::Event;

/// Events handed over at once at most.
const BATCH: usize = 256;

/// The history no longer reaches back to where the watch stands; list again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {from} is no longer in the history, which starts after {oldest}")]
pub struct Expired {
    /// Where the watch wanted to go on from.
    pub from: Revision,
    /// The oldest revision from which a watch can start.
    pub oldest: Revision,
}

/// A field and the value that it has in the objects that a watch is about: what selectors
/// compare, `metadata.name`, `metadata.namespace` or a selectable field of a built-in kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The field, as a selector names it.
    pub name: Box<str>,
    /// Its value.
    pub value: Box<str>,
}

/// A running watch of one resource, or of its objects with a value in a field.
pub struct Watch {
    shared: Arc<Shared>,
    of: (Arc<str>, Option<Field>),
    position: u64,
    revision: Revision,
    wake: watch::Receiver<Revision>,
}

impl Watch {
    pub(crate) fn new(
        shared: Arc<Shared>,
        of: (Arc<str>, Option<Field>),
        (position, revision): (u64, Revision),
        wake: watch::Receiver<Revision>,
    ) -> Self {
        Self { shared, of, position, revision, wake }
    }

    /// The next events, at least one. Cancel-safe.
    ///
    /// # Errors
    /// [`Expired`] once the watcher has fallen out of the history.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        loop {
            self.wake.borrow_and_update();
            let events = self.try_next()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.wake.changed().await.is_err() {
                // The store is gone with the process; nothing will ever come.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The events that are there already; may be none.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        let (read, revision) = self.shared.read(&self.of, (self.position, self.revision), BATCH)?;
        self.position = read.position;
        self.revision = match read.events.last() {
            Some(last) if !read.complete => last.revision,
            _ => revision,
        };
        Ok(read.events)
    }

    /// Every change of the resource up to here has been handed over: what a
    /// bookmark may say.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}
