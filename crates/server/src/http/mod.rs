//! The edge: bytes to calls on the registry, and its answers back to bytes.
//!
//! Order: authentication → impersonation → flow control → authorization → (admission and)
//! registry, with an audit record of the answer. Errors become a `Status` here and nowhere else.

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
mod warnings;
mod watch;
mod zpages;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch as watch_channel;

pub use body::Body;
pub(crate) use discovery::groups;
use metrics::Metrics;
pub(crate) use pipeline::answer;
pub(crate) use proxy::is_streaming;

use crate::flow::FlowControl;
use crate::maintenance::Keeper;
use crate::registry::Registry;
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

/// Requests that may be served at once, in kube-apiserver's numbers: 400 that read and 200
/// that write. Watches count until they have begun, streams into pods not at all.
const IN_FLIGHT: usize = 400 + 200;

/// What every request needs.
pub(crate) struct State {
    pub(crate) parts: Parts,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Metrics,
    /// Turns true when the server shuts down: watches end then.
    pub(crate) closing: watch_channel::Sender<bool>,
    pub(crate) flow: FlowControl,
    pub(crate) started: Timestamp,
}

impl State {
    pub(crate) fn new(parts: Parts, registry: Arc<Registry>) -> Self {
        let flow = FlowControl::new(registry.store().clone(), IN_FLIGHT);
        let closing = watch_channel::Sender::new(false);
        let started = registry.now();
        Self { parts, registry, metrics: Metrics::new(), closing, flow, started }
    }
}
