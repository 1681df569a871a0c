//! Which simulated nodes there are: names, addresses, sizes, and whose heartbeat is due. Pure.
//!
//! Nodes get internal addresses from 198.18.0.0/15 (RFC 2544, never routed) and their pods
//! addresses from 100.64.0.0/10 (RFC 6598), a block for each node, so that no two pods
//! of a simulation ever have the same.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::facts::{Facts, Pressure};
use crate::machine::object::{self, NodeConfig};

const NODES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const NODE_BITS: u32 = 17;
const PODS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const POD_BITS: u32 = 22;
/// Label by which a simulation finds its own nodes.
pub const LABEL: &str = "simulate.carrack.io/fleet";

/// A set of equal nodes `<name>-0`, `<name>-1`, ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// What the nodes' names begin with.
    pub name: String,
    /// Number of the first node, for fleets in several processes.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Processors of each.
    pub cpus: u64,
    /// Bytes of memory of each.
    pub memory: u64,
    /// Pods that each takes.
    pub pods: u32,
    /// As `kubelet --version` would say.
    pub version: String,
}

/// Why there cannot be such a fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// The name cannot begin a node's name.
    #[error("{0:?} cannot begin the name of a node: use lower-case letters, digits and '-', at most 50")]
    Name(String),
    /// Addresses do not suffice.
    #[error(
        "{nodes} nodes with {pods} pods each do not fit the ranges of simulated addresses; at most {most} do"
    )]
    TooMany {
        /// Asked for, counting from number 0.
        nodes: u64,
        /// Of each.
        pods: u32,
        /// What fits.
        most: u64,
    },
}

// === impl Fleet ===

impl Fleet {
    /// Nodes of 32 processors, 256 GiB and 110 pods.
    pub fn new(name: &str, count: u32, version: &str) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { name, first: 0, count, cpus: 32, memory: 256 << 30, pods: 110, version }
    }

    /// Whether every node gets a name and addresses.
    ///
    /// # Errors
    /// It would not; says why.
    pub fn check(&self) -> Result<(), FleetError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let starts = self.name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !starts || self.name.len() > 50 || !self.name.bytes().all(fits) {
            return Err(FleetError::Name(self.name.clone()));
        }
        let most = 1u64.checked_shl(POD_BITS.saturating_sub(self.pod_bits())).unwrap_or(0);
        let most = most.min((1 << NODE_BITS) - 2);
        let nodes = u64::from(self.first) + u64::from(self.count);
        if nodes > most { Err(FleetError::TooMany { nodes, pods: self.pods, most }) } else { Ok(()) }
    }

    /// Name of a node by its place in the fleet.
    pub fn node_name(&self, place: u32) -> String {
        format!("{}-{}", self.name, self.first + place)
    }

    /// The place of a node in the fleet, if it is one of ours.
    pub fn place(&self, node: &str) -> Option<u32> {
        let number = node.strip_prefix(&self.name)?.strip_prefix('-')?;
        if number.len() > 1 && number.starts_with('0') || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let place = number.parse::<u32>().ok()?.checked_sub(self.first)?;
        (place < self.count).then_some(place)
    }

    /// Internal address of a node.
    pub fn node_address(&self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(NODES) + 1 + self.first + place)
    }

    /// How many bits number the pods of a node: twice as many as it takes, so that an
    /// address rests before it is used again.
    pub fn pod_bits(&self) -> u32 {
        (self.pods.saturating_mul(2).max(2) + 1).next_power_of_two().ilog2()
    }

    /// The first address of a node's block.
    pub fn pod_base(&self, place: u32) -> Ipv4Addr {
        let block = u32::from(PODS) + ((self.first + place) << self.pod_bits());
        Ipv4Addr::from(block)
    }

    /// The Node to register.
    pub fn node(&self, place: u32) -> Value {
        let mut node = object::node(&self.config(place), &self.facts(place));
        node["metadata"]["labels"][LABEL] = self.name.as_str().into();
        node
    }

    /// Its status, with times.
    pub fn status(&self, place: u32, before: &Value, now: &str) -> Value {
        let runtime = "simulated://1";
        let bare = object::status(&self.config(place), &self.facts(place), runtime, &[], Pressure::default());
        let mut status = bare.clone();
        object::stamp(&mut status, &bare, before, now);
        // There is no endpoint to ask for logs.
        status.as_object_mut().map(|status| status.remove("daemonEndpoints"));
        status
    }

    fn config(&self, place: u32) -> NodeConfig {
        NodeConfig {
            name: self.node_name(place),
            addresses: vec![self.node_address(place).into()],
            pod_cidrs: vec![format!("{}/{}", self.pod_base(place), 32 - self.pod_bits())],
            max_pods: self.pods,
            version: self.version.clone(),
            ..NodeConfig::default()
        }
    }

    fn facts(&self, place: u32) -> Facts {
        let id = format!("{:032x}", u64::from(self.first + place) + 1);
        Facts {
            cpus: self.cpus,
            memory: self.memory,
            storage: 1 << 40,
            machine_id: id.clone(),
            boot_id: id.clone(),
            system_uuid: id,
            kernel: "6.12.0".into(),
            os_image: "simulated".into(),
            architecture: match std::env::consts::ARCH {
                "aarch64" => "arm64",
                _ => "amd64",
            },
        }
    }

    /// The Lease of a node whose object has this uid.
    pub fn lease(&self, place: u32, uid: &str, seconds: u64, now: &str) -> Value {
        let name = self.node_name(place);
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now},
        })
    }
}

/// The nodes whose turn comes between two moments of an evenly spread round, both
/// counted from its beginning.
pub fn due(count: u32, period: Duration, from: Duration, until: Duration) -> Vec<u32> {
    let at = |moment: Duration| -> u128 {
        let turns = moment.as_nanos() * u128::from(count);
        turns.div_ceil(period.as_nanos().max(1))
    };
    // Who was missed for more than a round has one turn, not many.
    let (from, until) = (at(from), at(until));
    let from = from.max(until.saturating_sub(u128::from(count)));
    (from..until).map(|turn| (turn % u128::from(count.max(1))) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_names_and_blocks_of_their_own() {
        let fleet = Fleet { first: 10, ..Fleet::new("sim", 5000, "v1.36.3") };
        assert_eq!(fleet.check(), Ok(()));
        assert_eq!(fleet.node_name(0), "sim-10");
        for (name, place) in [
            ("sim-10", Some(0)),
            ("sim-5009", Some(4999)),
            ("sim-5010", None),
            ("sim-9", None),
            ("sim-010", None),
            ("sim-+12", None),
            ("other-10", None),
        ] {
            assert_eq!(fleet.place(name), place, "{name}");
        }
        assert_eq!(fleet.node_address(0), Ipv4Addr::new(198, 18, 0, 11));
        let size = u32::from(fleet.pod_base(1)) - u32::from(fleet.pod_base(0));
        assert!(size >= 2 * fleet.pods, "a block of {size}");
    }

    #[test]
    fn a_fleet_without_addresses_is_refused() {
        let large = Fleet::new("sim", 20_000, "v1");
        assert_eq!(large.check(), Err(FleetError::TooMany { nodes: 20_000, pods: 110, most: 16_384 }));
        assert!(matches!(Fleet::new("Sim", 1, "v1").check(), Err(FleetError::Name(_))));
        assert!(matches!(Fleet::new("", 1, "v1").check(), Err(FleetError::Name(_))));
    }

    #[test]
    fn a_node_looks_schedulable() {
        let fleet = Fleet::new("sim", 3, "v1.36.3");
        let status = fleet.status(1, &Value::Null, "2026-01-01T00:00:00Z");
        assert_eq!(status["allocatable"]["cpu"], "32");
        assert_eq!(status["capacity"]["memory"], "268435456Ki");
        assert_eq!(status["allocatable"]["pods"], "110");
        assert_eq!(status["addresses"][0]["address"], "198.18.0.2");
        let node = fleet.node(1);
        assert_eq!(node["spec"]["podCIDR"], "100.64.1.0/24");
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "sim-1");
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/os"], "linux");
    }

    #[test]
    fn each_node_has_one_turn_in_a_round() {
        let period = Duration::from_secs(10);
        let mut turns = vec![0; 7];
        let steps: Vec<Duration> = (0..=100).map(|step| period / 100 * step).collect();
        for pair in steps.windows(2) {
            due(7, period, pair[0], pair[1]).into_iter().for_each(|place| turns[place as usize] += 1);
        }
        assert_eq!(turns, [1; 7]);
        assert_eq!(due(3, period, Duration::ZERO, period * 5).len(), 3, "no turn is made up for twice");
        assert!(due(0, period, Duration::ZERO, period).is_empty());
    }
}
