//! The edge: bytes to calls on the registry, and its answers back to bytes.
//!
//! Order: authentication → impersonation → authorization → (admission and) registry,
//! with an audit record of the answer. Errors become a `Status` here and nowhere else.

mod body;
mod pipeline;

use std::sync::Arc;

pub use body::Body;
pub(crate) use pipeline::answer;

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
}

/// What every request needs.
pub(crate) struct State {
    pub(crate) parts: Parts,
    pub(crate) registry: Arc<Registry>,
}

impl State {
    pub(crate) fn new(parts: Parts, registry: Arc<Registry>) -> Self {
        Self { parts, registry }
    }
}
