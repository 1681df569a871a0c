//! A pod's interface, addresses and routes, over rtnetlink.
//!
//! Each pod hangs on the host by a veth pair of its own: `eth0` inside, `ck…` outside.
//! There is no bridge between pods. A pod's address is a /32 (or /128) with a default
//! route to the gateway address, so everything a pod sends passes the host's routing and
//! with it our DNAT, and so do the answers; on a bridge, two pods would answer each other
//! directly, past the rules, unless `br_netfilter` is loaded. It also keeps pods from
//! pretending to be each other: neighbours are fixed entries (no ARP, no wait for it), and
//! the host takes from a veth only what is routed back to it (`rp_filter`).
//!
//! The link `carrack0` (a bridge without ports: the one kind of link without a peer that
//! every kernel has) carries what belongs to the node: the gateway address, the cluster's
//! DNS address, and the route to the Service CIDR, by which this node reaches Services even
//! when it has no default route.
//!
//! Invariants: an address belongs to one pod until the pod's link is gone; what is ours in
//! the kernel can be found by name or route protocol alone; calls may be repeated.
//!
//! Not here: namespaces themselves (crate `runtime` makes them), routes to other nodes.

pub mod addresses;
pub mod links;
mod network;
mod sysctl;

pub use network::PodNetwork;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::io;
use std::path::PathBuf;

use crate::plan::Prefix;

/// The node's own link.
pub const NODE_LINK: &str = "carrack0";
/// A pod's link, inside.
pub const POD_LINK: &str = "eth0";

/// What the pods of this node get.
#[derive(Debug, Clone)]
pub struct PodNetworkConfig {
    /// Holds allocations (`addresses/`) and the former values of sysctls; made if absent.
    pub state_dir: PathBuf,
    /// At most one a family; an IPv4 one is required. The first address is the gateway.
    pub pod_cidrs: Vec<Prefix>,
    /// Routed to `carrack0`, so that this node can reach Services without a default route.
    pub service_cidrs: Vec<Prefix>,
    /// Addresses put on `carrack0` besides the gateway: the cluster's DNS.
    pub host_addresses: Vec<IpAddr>,
    /// `None`: that of the interface with the default route, else 1500.
    pub mtu: Option<u32>,
}

/// A pod's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodAddresses {
    /// From the IPv4 pod CIDR.
    pub v4: Ipv4Addr,
    /// If there is an IPv6 pod CIDR.
    pub v6: Option<Ipv6Addr>,
}

/// What [`PodNetwork::reconcile`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Addresses freed.
    pub addresses: usize,
    /// Links deleted.
    pub links: usize,
}

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// All addresses are taken.
    #[error("no address is free in {0}: delete pods or give the node a larger pod CIDR")]
    Exhausted(Prefix),
    /// Without IPv4 there is nothing to give.
    #[error("the node needs an IPv4 pod CIDR of at least 4 addresses")]
    NoPodCidr,
    /// The kernel or the file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: io::Error,
    },
}

impl PodNetworkError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
