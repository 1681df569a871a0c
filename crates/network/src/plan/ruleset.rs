//! The ruleset as a value: what the kernel's table shall hold. Pure.
//!
//! Two parts: a handful of fixed chains (they depend on the node only), and the
//! frontends, which become elements of a few shared hash maps. There is no chain, set
//! or rule per Service. How a connection finds its endpoint:
//!
//! 1. `service4` maps (address . protocol . port) to a verdict: go to `pick4-N`, where
//!    N is the frontend's number of endpoints; or refuse; or drop.
//! 2. `pick4-N`, shared by every frontend with N endpoints, draws a slot below N and
//!    looks (address . protocol . port . slot) up in `endpoint4`: the endpoint. With
//!    session affinity it is `sticky4-N`, which computes the slot from the client's
//!    address.
//!
//! Invariant: the slots of a frontend are 0..N without holes, since a missing slot
//! would lose a connection.

use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Protocol;
use super::rules::{Chain, Family, Rule};

/// For whom a frontend answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// For whoever asks.
    Any,
    /// For pods and for this node itself, where that differs from `Any`: inside, a
    /// Service with `externalTrafficPolicy: Local` has all its endpoints.
    Internal,
}

/// What a connection asks for: the key of the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// Cluster IP, external IP, or an address of the node.
    pub ip: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Service port, node port or host port.
    pub port: u16,
    /// For whom.
    pub view: View,
}

impl FrontendKey {
    /// The address family, which chooses the maps.
    pub fn family(&self) -> Family {
        Family::of(self.ip)
    }
}

/// Where a connection ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Of the frontend's family.
    pub ip: IpAddr,
    /// Target port.
    pub port: u16,
}

/// What happens to a connection when there is no endpoint for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhenEmpty {
    /// The Service has no endpoints at all: refused at once.
    Reject,
    /// It has some, but none on this node, and its policy says Local: dropped, so that
    /// a load balancer's client tries again elsewhere.
    Drop,
}

/// One way into a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// `namespace/name` of the Service (or pod, for a host port); for people only.
    pub owner: Arc<str>,
    /// Position is the slot. [`super::plan`] sorts them; see [`Ruleset::arranged_after`].
    pub endpoints: Vec<Endpoint>,
    /// The verdict without endpoints.
    pub when_empty: WhenEmpty,
    /// Whether a client keeps its endpoint.
    pub affinity: bool,
}

/// What the service maps say of a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Go to this chain, which chooses.
    Choose(Chain),
    /// Go to [`Chain::Refuse`].
    Refuse,
    /// No answer.
    Drop,
}

/// Everything that the table shall hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// The fixed chains, by what the node is.
    pub fixed: BTreeMap<Chain, Vec<Rule>>,
    /// The ways into Services.
    pub frontends: BTreeMap<FrontendKey, Arc<Frontend>>,
    /// Addresses of this node's pods that are endpoints: a connection that comes back to
    /// its own sender must look as if it came from the node.
    pub hairpin: BTreeSet<IpAddr>,
    /// Endpoints elsewhere of frontends that outsiders use: their answers must come back
    /// through this node, so connections to them must look as if they came from it.
    pub remote: BTreeSet<(Endpoint, Protocol)>,
    /// What was left out, and why; for people.
    pub notes: Vec<String>,
}

impl Frontend {
    /// What the service maps shall say.
    pub fn verdict(&self, key: &FrontendKey) -> Verdict {
        let (family, view) = (key.family(), key.view);
        let count = || u16::try_from(self.slot_count()).expect("the plan bounds endpoints");
        match (self.endpoints.is_empty(), self.when_empty) {
            (true, WhenEmpty::Reject) => Verdict::Refuse,
            (true, WhenEmpty::Drop) => Verdict::Drop,
            (false, _) if self.affinity => Verdict::Choose(Chain::Sticky { family, view, count: count() }),
            (false, _) => Verdict::Choose(Chain::Pick { family, view, count: count() }),
        }
    }

    fn slot_count(&self) -> usize {
        match (self.endpoints.len(), self.affinity) {
            (0, _) => 0,
            (count, false) => count,
            (count, true) => (count * 4).next_power_of_two().clamp(256, 32_768),
        }
    }

    /// What each slot leads to, from slot 0 on. With affinity there are more slots than
    /// endpoints: a client's slot follows from its address, and which endpoint a slot leads
    /// to depends on no other endpoint, except that the slot's favourite among those there are
    /// gets it (rendezvous hashing). So an endpoint that goes takes only its own
    /// clients with it, and one that comes takes its fair share.
    pub fn slots(&self) -> Cow<'_, [Endpoint]> {
        if !self.affinity || self.endpoints.is_empty() {
            return Cow::Borrowed(&self.endpoints);
        }
        let favourite = |slot| self.endpoints.iter().max_by_key(|to| (affection(slot, to), **to));
        (0..self.slot_count() as u64).filter_map(favourite).copied().collect()
    }
}

impl Ruleset {
    /// The most endpoints that one frontend uses; [`super::plan`] leaves out the rest, with
    /// a note. Upstream warns above 1,000 as well.
    pub const MAX_ENDPOINTS: usize = 10_000;

    /// Whether a new connection to some frontend could still end up at `ip`. A container
    /// is sent SIGTERM once no ruleset that has been synced says yes.
    pub fn reaches(&self, ip: IpAddr) -> bool {
        let leads_to = |frontend: &Arc<Frontend>| frontend.endpoints.iter().any(|to| to.ip == ip);
        self.frontends.values().any(leads_to)
    }

    /// The same ruleset with each frontend's endpoints in the slots that `before` had given
    /// them, as far as possible, so that [`super::diff()`] touches only what changed. The
    /// order of a frontend's endpoints has no meaning otherwise.
    pub fn arranged_after(&self, before: &Ruleset) -> Ruleset {
        let mut arranged = self.clone();
        for (key, frontend) in &mut arranged.frontends {
            match before.frontends.get(key) {
                Some(old) if old == frontend => *frontend = Arc::clone(old),
                Some(old) => {
                    let endpoints = arrange(&old.endpoints, &frontend.endpoints);
                    Arc::make_mut(frontend).endpoints = endpoints;
                }
                None => {}
            }
        }
        arranged
    }

    /// The chains that choose endpoints and that some frontend uses.
    pub fn choosers(&self) -> BTreeSet<Chain> {
        let mut chains = BTreeSet::new();
        for (key, frontend) in &self.frontends {
            if let Verdict::Choose(chain) = frontend.verdict(key) {
                chains.insert(chain);
            }
        }
        chains
    }
}

/// How much a slot would like an endpoint: any number that is well mixed and always the same.
fn affection(slot: u64, to: &Endpoint) -> u64 {
    let ip = match to.ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    // The finalizer of splitmix64, over everything that tells endpoints apart.
    let mix = |state: u64, word: u64| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    [(ip >> 64) as u64, ip as u64, u64::from(to.port)].into_iter().fold(mix(0, slot), mix)
}

/// `new` with what it shares with `old` in the same places; whatever is left fills the holes.
fn arrange(old: &[Endpoint], new: &[Endpoint]) -> Vec<Endpoint> {
    let wanted: BTreeSet<_> = new.iter().collect();
    let had: BTreeSet<_> = old.iter().collect();
    let mut slots: Vec<Option<Endpoint>> = old.iter().map(|to| wanted.contains(to).then_some(*to)).collect();
    // Those beyond the new length move into holes, together with the newcomers.
    let beyond = slots.split_off(new.len().min(slots.len()));
    let newcomers = new.iter().filter(|to| !had.contains(to)).copied();
    let mut waiting = beyond.into_iter().flatten().chain(newcomers);
    for slot in &mut slots {
        if slot.is_none() {
            *slot = waiting.next();
        }
    }
    slots.into_iter().flatten().chain(waiting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(last: &[u8]) -> Vec<Endpoint> {
        let endpoint = |last: &u8| Endpoint { ip: [10, 42, 0, *last].into(), port: 80 };
        last.iter().map(endpoint).collect()
    }

    #[test]
    fn slots_stay_where_they_can() {
        let check = |old: &[u8], new: &[u8], expect: &[u8]| {
            assert_eq!(arrange(&endpoints(old), &endpoints(new)), endpoints(expect));
        };
        check(&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]);
        check(&[3, 1, 2], &[1, 2, 3], &[3, 1, 2]);
        check(&[1, 2, 3, 4], &[2, 3, 4], &[4, 2, 3]);
        check(&[1, 2, 3], &[1, 2], &[1, 2]);
        check(&[1, 2], &[1, 2, 9], &[1, 2, 9]);
        check(&[1, 2, 3], &[2, 3, 9], &[9, 2, 3]);
        check(&[1, 2, 3], &[7], &[7]);
        check(&[], &[5, 6], &[5, 6]);
        check(&[5, 6], &[], &[]);
    }
}
