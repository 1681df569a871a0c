//! Pod interfaces: being filled; the public shape.
use crate::plan::Prefix;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the pods of this node get.
#[derive(Debug, Clone)]
pub struct PodNetworkConfig {
    /// Holds allocations (`addresses/`) and the sysctls' former values; made if absent.
    pub state_dir: PathBuf,
    /// At most one a family; v4 is required.
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
    /// Something outside refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: std::io::Error,
    },
}

/// The node's pod network. All calls block for about a millisecond; they may be made from
/// several threads.
#[derive(Debug)]
pub struct PodNetwork {}

impl PodNetwork {
    /// Makes (or adopts) `carrack0`, routes and sysctls; reads the allocations.
    pub fn open(_config: PodNetworkConfig) -> Result<Self, PodNetworkError> {
        Ok(Self {})
    }
    /// Gives the pod `eth0`, addresses and routes in the network namespace at `netns`. Safe
    /// to repeat: the same pod gets the same addresses.
    pub fn attach(&self, _netns: &Path, _pod_uid: &str) -> Result<PodAddresses, PodNetworkError> {
        Ok(PodAddresses { v4: Ipv4Addr::UNSPECIFIED, v6: None })
    }
    /// The addresses a pod holds, if any (for adoption after a restart).
    pub fn addresses(&self, _pod_uid: &str) -> Option<PodAddresses> {
        None
    }
    /// Takes the link away and frees the addresses. Safe to repeat, also after the
    /// namespace has gone.
    pub fn detach(&self, _pod_uid: &str) -> Result<(), PodNetworkError> {
        Ok(())
    }
    /// Detaches every pod that is not in `live`: for after a crash.
    pub fn reconcile(&self, _live: &BTreeSet<String>) -> Result<Reconciled, PodNetworkError> {
        Ok(Reconciled::default())
    }
    /// Removes every link, address and route of ours and gives sysctls their former
    /// values: `down --purge`. Needs nothing but the state directory.
    pub fn cleanup(_state_dir: &Path) -> Result<(), PodNetworkError> {
        Ok(())
    }
}
