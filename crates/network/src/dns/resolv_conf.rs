//! resolv.conf: being filled; the public shape.
use core::net::{IpAddr, SocketAddr};

/// `spec.dnsPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsPolicy {
    /// The cluster's DNS (pods on the host's network: as `Default`).
    #[default]
    ClusterFirst,
    /// The cluster's DNS, also on the host's network.
    ClusterFirstWithHostNet,
    /// As the node.
    Default,
    /// Only `dnsConfig`.
    None,
}

/// `spec.dnsConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodDnsConfig {
    /// Appended.
    pub nameservers: Vec<String>,
    /// Appended.
    pub searches: Vec<String>,
    /// Merged by name.
    pub options: Vec<(String, Option<String>)>,
}

/// The text of a pod's /etc/resolv.conf, as kubelet writes it.
pub fn resolv_conf(
    _policy: DnsPolicy,
    _host_network: bool,
    _namespace: &str,
    _cluster_domain: &str,
    _cluster_dns: &[IpAddr],
    _pod: &PodDnsConfig,
    _host_resolv_conf: &str,
) -> String {
    String::new()
}

/// The name servers of the host's resolv.conf, without those in `own` (loops).
pub fn upstreams(_host_resolv_conf: &str, _own: &[IpAddr]) -> Vec<SocketAddr> {
    Vec::new()
}
