//! Cluster IPs and node ports: who holds which, so that no two Services hold the same.

mod families;
mod held;
mod range;
pub mod repair;
mod strategy;

use std::net::IpAddr;

pub use families::Family;
pub use range::{AddressRange, PortRange};
pub use strategy::Services;

/// What Services are given from.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// One range, or one of each family; the first is of the cluster's default family.
    pub addresses: Vec<AddressRange>,
    /// Node ports.
    pub ports: PortRange,
    /// Where searches for a free address or port start, together with a Service's uid.
    pub seed: u64,
}

impl Ranges {
    /// The families of the cluster, the default one first.
    pub fn families(&self) -> Vec<Family> {
        self.addresses.iter().map(AddressRange::family).collect()
    }

    /// The addresses of the `kubernetes` Service, one of each family.
    pub fn kubernetes(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(AddressRange::first).collect()
    }
}

impl Default for Ranges {
    fn default() -> Self {
        let addresses = AddressRange::parse("10.96.0.0/16").into_iter().collect();
        Self { addresses, ports: PortRange::default(), seed: 0 }
    }
}

#[cfg(test)]
mod tests;
