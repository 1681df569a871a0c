//! The chains and the few shapes of rules that the table is made of. Pure.
//!
//! A [`Rule`] says what it means, not how the kernel is told; [`super::render`] shows it
//! as `nft list` would, [`crate::apply`] encodes it. No rule sets or reads a packet mark:
//! marks belong to others. What must be known after DNAT is asked of conntrack.

use core::fmt;
use core::net::IpAddr;

use super::{NodeInput, Prefix, View};
use std::collections::BTreeMap;

/// An address family; chooses maps and header offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order of rules.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The digit in names of maps and chains.
    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }
}

/// A chain of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// Base chain: what arrives, before routing.
    Prerouting,
    /// Base chain: what this node itself sends.
    Output,
    /// Base chain: what leaves, after routing.
    Postrouting,
    /// What only insiders see; see [`View::Internal`].
    Internal,
    /// The lookup for everyone.
    Services,
    /// Answers with a reset or an ICMP error.
    Refuse,
    /// Chooses one of `count` endpoints at random.
    Pick {
        /// Of the frontend and its endpoints.
        family: Family,
        /// Whose slots.
        view: View,
        /// 1..=10,000.
        count: u16,
    },
    /// Chooses one of `count` slots by the client's address.
    Sticky {
        /// Of the frontend and its endpoints.
        family: Family,
        /// Whose slots.
        view: View,
        /// A power of two, 256..=32,768.
        count: u16,
    },
}

impl Chain {
    /// Every chain that exists whatever the Services are. Those that are jumped to first.
    pub const FIXED: [Chain; 6] = [
        Chain::Refuse,
        Chain::Internal,
        Chain::Services,
        Chain::Prerouting,
        Chain::Output,
        Chain::Postrouting,
    ];

    /// The rules of a chain that chooses endpoints; none for the fixed ones.
    pub fn chooser_rules(self) -> Vec<Rule> {
        match self {
            Chain::Pick { family, view, count } => {
                vec![Rule::Dnat { draw: Draw { family, view, count, by: DrawBy::Chance } }]
            }
            Chain::Sticky { family, view, count } => {
                vec![Rule::Dnat { draw: Draw { family, view, count, by: DrawBy::Client } }]
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = |view: &View| {
            if *view == View::Internal { "-internal" } else { "" }
        };
        match self {
            Chain::Prerouting => f.write_str("prerouting"),
            Chain::Output => f.write_str("output"),
            Chain::Postrouting => f.write_str("postrouting"),
            Chain::Internal => f.write_str("internal"),
            Chain::Services => f.write_str("services"),
            Chain::Refuse => f.write_str("refuse"),
            Chain::Pick { family, view, count } => {
                write!(f, "pick{}{}-{count}", family.digit(), inside(view))
            }
            Chain::Sticky { family, view, count } => {
                write!(f, "sticky{}{}-{count}", family.digit(), inside(view))
            }
        }
    }
}

/// How a slot is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrawBy {
    /// Anew for each connection.
    Chance,
    /// From the client's address: the same for all its connections.
    Client,
}

/// One endpoint of a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Of the maps.
    pub family: Family,
    /// Whose slots.
    pub view: View,
    /// Slots are drawn from 0..count.
    pub count: u16,
    /// How.
    pub by: DrawBy,
}

/// The slots of [`View::Internal`] lie beyond all those of [`View::Any`], in the same map.
pub fn slot_offset(view: View) -> u32 {
    match view {
        View::Any => 0,
        View::Internal => 1 << 16,
    }
}

/// Of the hash of a client's address. The same on every node, so that a client keeps its
/// endpoint whichever node it comes in by.
pub const HASH_SEED: u32 = 0x00ca_77ac;

/// A rule, by what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Continue there, and come back.
    Jump(Chain),
    /// Continue there, and do not come back.
    Goto(Chain),
    /// From this prefix: continue there, and come back.
    JumpFrom(Prefix, Chain),
    /// To this prefix: continue there, and do not come back.
    GotoTo(Prefix, Chain),
    /// To this address: back to the caller.
    ReturnTo(IpAddr),
    /// The verdict of the service map, `internal` or `service`, if the key is in it.
    Verdict {
        /// Which map of the pair.
        family: Family,
        /// Which pair.
        view: View,
    },
    /// TCP: a reset. Not an ICMP error: those are rate-limited, and clients would hang.
    RejectTcp,
    /// Anything else: ICMP port unreachable.
    Reject,
    /// Replace destination address and port.
    Dnat {
        /// By which endpoint.
        draw: Draw,
    },
    /// The source becomes the node if sender and receiver are the same pod.
    MasqueradeHairpin(Family),
    /// The source becomes the node if the connection was led from here to an endpoint
    /// elsewhere, unless its sender lives here and gets the answers anyway.
    MasqueradeRemote {
        /// Of the set.
        family: Family,
        /// This node's pods, of the same family.
        except: Vec<Prefix>,
    },
    /// The source becomes the node on the way out of the cluster.
    MasqueradePods {
        /// This node's pods.
        from: Prefix,
        /// The cluster's pods, of the same family.
        except: Vec<Prefix>,
    },
}

/// The fixed chains of a node.
pub fn fixed(node: &NodeInput) -> BTreeMap<Chain, Vec<Rule>> {
    let from_pods = |chain: Chain| node.cluster_cidrs.iter().map(move |p| Rule::JumpFrom(*p, chain));
    let prerouting = from_pods(Chain::Internal).chain([Rule::Jump(Chain::Services)]).collect();

    let own = node.local_service_ips.iter().map(|ip| Rule::ReturnTo(*ip));
    let lookup = Family::BOTH.map(|family| Rule::Verdict { family, view: View::Any });
    let rest = node.service_cidrs.iter().map(|cidr| Rule::GotoTo(*cidr, Chain::Refuse));
    let services = own.chain(lookup).chain(rest).collect();

    let of = |cidrs: &[Prefix], family| {
        let same = |cidr: &&Prefix| Family::of(cidr.address()) == family;
        cidrs.iter().filter(same).copied().collect::<Vec<_>>()
    };
    let masquerade_remote =
        Family::BOTH.map(|family| Rule::MasqueradeRemote { family, except: of(&node.pod_cidrs, family) });
    let masquerade_pods = node.pod_cidrs.iter().map(|from| {
        let except = of(&node.cluster_cidrs, Family::of(from.address()));
        Rule::MasqueradePods { from: *from, except }
    });
    let postrouting = (Family::BOTH.map(Rule::MasqueradeHairpin).into_iter())
        .chain(masquerade_remote)
        .chain(masquerade_pods)
        .collect();

    let internal = Family::BOTH.map(|family| Rule::Verdict { family, view: View::Internal });
    BTreeMap::from([
        (Chain::Prerouting, prerouting),
        (Chain::Output, vec![Rule::Jump(Chain::Internal), Rule::Jump(Chain::Services)]),
        (Chain::Postrouting, postrouting),
        (Chain::Internal, internal.to_vec()),
        (Chain::Services, services),
        (Chain::Refuse, vec![Rule::RejectTcp, Rule::Reject]),
    ])
}
