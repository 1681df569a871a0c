//! Ends UDP "connections" that conntrack would keep sending to an endpoint that is gone.
//!
//! TCP needs none of this: its connections end by themselves, and those under way may
//! finish. A UDP client that keeps its port would be led to the old endpoint for as long
//! as it keeps sending (kubernetes/kubernetes#56903 and others; kube-proxy's
//! `pkg/proxy/conntrack` does the same).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::encode::{NFPROTO_IPV4, NFPROTO_IPV6};
use crate::netlink::message::{ACK, DUMP};
use crate::netlink::{Attributes, Messages, Socket};
use crate::plan::{Endpoint, Prefix, Protocol, Ruleset};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// UDP frontends, and the endpoints to which each may lead.
pub type Allowed = BTreeMap<(IpAddr, u16), BTreeSet<Endpoint>>;

/// The UDP frontends whose connections have to be looked at when `new` replaces `old`: those
/// that lost an endpoint, came or went. With an unknown `old`, all.
pub fn affected(old: Option<&Ruleset>, new: &Ruleset) -> Allowed {
    let none = Allowed::new();
    let (before, after) = (old.map_or(none, udp), udp(new));
    let empty = BTreeSet::new();
    let mut affected = Allowed::new();
    for at in before.keys().chain(after.keys()) {
        let allowed = after.get(at).unwrap_or(&empty);
        if !before.get(at).is_some_and(|had| after.contains_key(at) && had.is_subset(allowed)) {
            affected.insert(*at, allowed.clone());
        }
    }
    affected
}

fn udp(ruleset: &Ruleset) -> Allowed {
    let mut frontends = Allowed::new();
    for (key, frontend) in &ruleset.frontends {
        if key.protocol == Protocol::Udp {
            let endpoints: &mut BTreeSet<_> = frontends.entry((key.ip, key.port)).or_default();
            endpoints.extend(frontend.endpoints.iter().copied());
        }
    }
    frontends
}

/// Deletes the entries of these frontends that lead elsewhere than they may; how many.
pub fn end(socket: &mut Socket, allowed: &Allowed) -> io::Result<usize> {
    if allowed.is_empty() {
        return Ok(0);
    }
    let concerns = |v4: bool| allowed.keys().any(|(ip, _)| ip.is_ipv4() == v4);
    delete(socket, concerns, |entry| is_stale(entry, allowed) == Some(true))
}

/// Deletes every entry in which an address of these ranges takes part, whatever its
/// protocol: for when nobody has such an address any more. How many.
pub fn forget(ranges: &[Prefix]) -> io::Result<usize> {
    let mut socket = Socket::open(crate::netlink::Protocol::Netfilter)?;
    let ours = |ip: IpAddr| ranges.iter().any(|range| range.contains(ip));
    let concerns = |v4: bool| ranges.iter().any(|range| range.is_v6() != v4);
    delete(&mut socket, concerns, |entry| {
        let tuples = [entry.nested(TUPLE_ORIGINAL), entry.nested(TUPLE_REPLY)];
        let addresses = tuples.into_iter().flatten().filter_map(addresses).flatten();
        addresses.into_iter().any(ours)
    })
}

/// Deletes the entries that `unwanted` picks, in the families that `concerns` (asked
/// whether IPv4) names.
fn delete(
    socket: &mut Socket,
    concerns: impl Fn(bool) -> bool,
    unwanted: impl Fn(Attributes<'_>) -> bool,
) -> io::Result<usize> {
    let mut stale = Vec::new();
    for family in [NFPROTO_IPV4, NFPROTO_IPV6] {
        if !concerns(family == NFPROTO_IPV4) {
            continue;
        }
        let mut request = Messages::default();
        request.push(GET, DUMP, &[family, 0, 0, 0], |_| {});
        socket.dump(&request, |message| {
            let attributes = Attributes(message.payload.get(4..).unwrap_or_default());
            if unwanted(attributes) {
                stale.push((family, keep(attributes)));
            }
        })?;
    }
    for (family, attributes) in &stale {
        let mut request = Messages::default();
        request.push(DELETE, ACK, &[*family, 0, 0, 0], |m| {
            for (kind, payload) in attributes {
                // Tuples hold attributes.
                let nested = if *kind == TUPLE_ORIGINAL { 1 << 15 } else { 0 };
                m.attribute(kind | nested, payload);
            }
        });
        // One that is gone by now is what we want.
        socket.exchange(&request)?;
    }
    Ok(stale.len())
}

fn keep(attributes: Attributes<'_>) -> Vec<(u16, Vec<u8>)> {
    let wanted = attributes.iter().filter(|(kind, _)| [TUPLE_ORIGINAL, ID, ZONE].contains(kind));
    wanted.map(|(kind, payload)| (kind, payload.to_vec())).collect()
}

fn is_stale(entry: Attributes<'_>, allowed: &Allowed) -> Option<bool> {
    let original = Tuple::read(entry.nested(TUPLE_ORIGINAL)?)?;
    let reply = Tuple::read(entry.nested(TUPLE_REPLY)?)?;
    if original.protocol != Protocol::Udp.number() {
        return Some(false);
    }
    let endpoints = allowed.get(&original.destination)?;
    let (ip, port) = reply.source;
    Some(!endpoints.contains(&Endpoint { ip, port }))
}

struct Tuple {
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

/// Source and destination of a tuple.
fn addresses(tuple: Attributes<'_>) -> Option<[IpAddr; 2]> {
    let ip = tuple.nested(1)?;
    let address = |v4: u16, v6: u16| match (ip.get(v4), ip.get(v6)) {
        (Some(bytes), _) => Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        (_, Some(bytes)) => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    };
    Some([address(1, 3)?, address(2, 4)?])
}

impl Tuple {
    fn read(tuple: Attributes<'_>) -> Option<Self> {
        let ([source, destination], protocol) = (addresses(tuple)?, tuple.nested(2)?);
        let port = |kind| Some(u16::from_be_bytes(protocol.get(kind)?.try_into().ok()?));
        Some(Self {
            protocol: *protocol.get(1)?.first()?,
            source: (source, port(2)?),
            destination: (destination, port(3)?),
        })
    }
}
