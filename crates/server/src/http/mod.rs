//! The edge: bytes to calls on the registry, and its answers back to bytes.
//!
//! Order: authentication → impersonation → authorization → (admission and) registry,
//! with an audit record of the answer. Errors become a `Status` here and nowhere else.

mod accept;
mod admin;
mod body;
mod compress;
mod discovery;
mod health;
mod input;
pub mod listen;
mod metrics;
mod openapi;
mod options;
mod output;
mod paths;
mod pipeline;
mod proxy;
mod resource;
mod subresource;
mod table;
mod watch;

use std::sync::Arc;

use carrack_api::status::Status;
use tokio::sync::{Semaphore, SemaphorePermit, watch as watch_channel};

pub use body::Body;
use metrics::Metrics;
pub(crate) use pipeline::answer;

use crate::maintenance::Keeper;
use crate::registry::Registry;
use crate::request::{Attributes, User};
use crate::seams::{Audit, Authenticator, Authorizer, Check, Impersonator, NodeDialer};
use crate::server::Config;

/// What the edge is made of.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) authenticators: Vec<Arc<dyn Authenticator>>,
    pub(crate) authorizers: Vec<Arc<dyn Authorizer>>,
    pub(crate) impersonator: Option<Arc<dyn Impersonator>>,
    pub(crate) audit: Option<Arc<dyn Audit>>,
    pub(crate) dialer: Option<Arc<dyn NodeDialer>>,
    pub(crate) checks: Vec<Check>,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) documents: Vec<Document>,
}

/// A text that anyone may read who may read its path.
pub(crate) struct Document {
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

/// Reads that may be served at once; watches and streams are not counted.
const READS_IN_FLIGHT: usize = 400;
/// Writes that may be served at once.
const WRITES_IN_FLIGHT: usize = 200;

/// What every request needs.
pub(crate) struct State {
    pub(crate) parts: Parts,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Metrics,
    /// Turns true when the server shuts down: watches end then.
    pub(crate) closing: watch_channel::Sender<bool>,
    reads: Semaphore,
    writes: Semaphore,
}

impl State {
    pub(crate) fn new(parts: Parts, registry: Arc<Registry>) -> Self {
        let (reads, writes) = (Semaphore::new(READS_IN_FLIGHT), Semaphore::new(WRITES_IN_FLIGHT));
        let closing = watch_channel::Sender::new(false);
        Self { parts, registry, metrics: Metrics::new(), closing, reads, writes }
    }

    /// A place among the requests that are being served.
    ///
    /// # Errors
    /// 429 when there is none. The cluster's own machinery always has one.
    pub(crate) fn admit_in_flight(
        &self,
        user: &User,
        attributes: &Attributes,
    ) -> Result<Option<SemaphorePermit<'_>>, Status> {
        if &*attributes.verb == "watch" || user.in_group("system:masters") {
            return Ok(None);
        }
        let places = if attributes.is_read_only() { &self.reads } else { &self.writes };
        let busy = |_| Status::too_many_requests("Too many requests, please try again later.", 1);
        places.try_acquire().map(Some).map_err(busy)
    }
}
