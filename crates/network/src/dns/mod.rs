//! DNS: being filled; the public shape.
use crate::plan::ServiceWithEndpoints;
use core::net::IpAddr;
use std::sync::Arc;

pub mod resolv_conf;

/// An immutable snapshot of all names of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Zone {}

impl Zone {
    /// From the same inputs as the rules. `namespaces` are those that exist (for pod names).
    pub fn build<'a>(
        _domain: &str,
        _services: impl IntoIterator<Item = &'a ServiceWithEndpoints>,
        _namespaces: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {}
    }
}

/// How the server runs.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Port 53 of each, UDP and TCP.
    pub listen: Vec<core::net::SocketAddr>,
    /// Where other names are asked; see [`resolv_conf::upstreams`]. None: SERVFAIL.
    pub upstreams: Vec<core::net::SocketAddr>,
    /// `cluster.local`.
    pub domain: String,
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct DnsServer {}

impl DnsServer {
    /// Binds and serves on the current tokio runtime, with an empty zone.
    pub async fn start(_config: DnsConfig) -> std::io::Result<Self> {
        Ok(Self {})
    }
    /// The names from now on.
    pub fn publish(&self, _zone: Arc<Zone>) {}
    /// The addresses bound.
    pub fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }
}
