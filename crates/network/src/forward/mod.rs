//! Node ports on localhost: being filled; the public shape.
use crate::plan::{Endpoint, Protocol};
use std::collections::BTreeMap;

/// Listens on 127.0.0.1 and ::1 for each node port and passes connections on.
#[derive(Debug, Default)]
pub struct LocalForwarder {}

impl LocalForwarder {
    /// Nothing is bound yet.
    pub fn new() -> Self {
        Self {}
    }
    /// The ports and endpoints from now on (see [`crate::plan::local_ports`]). New ports are
    /// bound, old ones closed; connections that are under way go on. Returns what could not
    /// be bound, for an event or a log line; it is tried again at the next call.
    pub async fn update(
        &mut self,
        _ports: BTreeMap<(Protocol, u16), Vec<Endpoint>>,
    ) -> Vec<(Protocol, u16, std::io::Error)> {
        Vec::new()
    }
}
