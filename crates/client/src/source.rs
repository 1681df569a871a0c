//! The seam for reads: a stream of what a resource holds and how it changes.
//!
//! A source never ends and never fails: it reconnects by itself with back-off, and
//! when it cannot resume it starts over with [`Update::Reset`]. Between two resets
//! revisions only rise. A consumer is level-triggered: it keeps what it is told.

use std::sync::Arc;

use carrack_api::{Record, Revision};
use futures::stream::BoxStream;

use crate::Resource;

/// Which part of a resource a subscriber wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// One namespace; all of them when `None`.
    pub namespace: Option<String>,
    /// Label selector in its text form, such as `app=web,tier!=db`.
    pub labels: Option<String>,
    /// Field selector in its text form, such as `spec.nodeName=n1`.
    pub fields: Option<String>,
}

/// One step of what a subscriber sees.
#[derive(Debug, Clone)]
pub enum Update {
    /// Everything that is there now; replaces whatever was known.
    Reset {
        /// All objects in scope.
        records: Vec<Arc<Record>>,
        /// The revision at which they were read.
        revision: Revision,
    },
    /// An object was created, changed, or came into scope.
    Changed {
        /// Its new state.
        record: Arc<Record>,
        /// The revision of the change.
        revision: Revision,
    },
    /// An object was deleted or left the scope.
    Deleted {
        /// Its last state.
        record: Arc<Record>,
        /// The revision of the deletion.
        revision: Revision,
    },
    /// Everything up to this revision has been delivered (a bookmark).
    Progress(Revision),
}

/// Where reads come from: over HTTPS a list and watch
/// ([`HttpSource`](crate::HttpSource)), in the server's process its own records.
pub trait Source: Send + Sync + 'static {
    /// Subscribes; the first update is a `Reset`. The subscription ends when the
    /// stream is dropped.
    fn subscribe(&self, resource: &Resource, scope: Scope) -> BoxStream<'static, Update>;
}
