//! rtnetlink requests (`linux/rtnetlink.h`, `linux/if_link.h`, `linux/veth.h`).
//!
//! Functions append a request to [`Messages`]; several go to the kernel in one system call.

use core::net::IpAddr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::netlink::message::{ACK, CREATE, DUMP, EXCL, REPLACE};
use crate::netlink::{Attributes, Messages, Socket};
use crate::plan::Prefix;

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
const OPERSTATE_UP: u8 = 6;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const UP: u32 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;
const TYPE_UNREACHABLE: u8 = 7;
const ONLINK: u32 = 4;
/// A neighbour that is never asked for and never forgotten.
const PERMANENT: u16 = 0x80;
/// An IPv6 address that is usable at once.
const NO_DAD: u32 = 2;

/// Who made a route. Not taken by any known routing daemon (`/etc/iproute2/rt_protos`).
pub const OUR_PROTOCOL: u8 = 202;

/// A hardware address.
pub type Mac = [u8; 6];

/// The lower priority, so that any other route to the same prefix wins.
const LAST_RESORT: u32 = u32::MAX;

fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header
}

/// A bridge without ports.
pub fn new_bridge(m: &mut Messages, name: &str, mtu: u32) -> u32 {
    m.push(NEW_LINK, ACK | CREATE | EXCL, &link_header(0, 0), |m| {
        m.string(IFLA_IFNAME, name);
        m.ne32(IFLA_MTU, mtu);
        m.nest(IFLA_LINKINFO, |m| m.string(INFO_KIND, "bridge"));
    })
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Name in its namespace.
    pub name: &'a str,
    /// Hardware address.
    pub mac: Mac,
}

/// A veth pair: one end here, the other in the namespace.
pub fn new_veth(m: &mut Messages, here: End<'_>, there: End<'_>, netns: BorrowedFd<'_>, mtu: u32) {
    let end = |m: &mut Messages, end: End<'_>| {
        m.string(IFLA_IFNAME, end.name);
        m.attribute(IFLA_ADDRESS, &end.mac);
        m.ne32(IFLA_MTU, mtu);
    };
    let namespace = netns.as_raw_fd().cast_unsigned();
    m.push(NEW_LINK, ACK | CREATE | EXCL, &link_header(0, 0), |m| {
        end(m, here);
        m.nest(IFLA_LINKINFO, |m| {
            m.string(INFO_KIND, "veth");
            m.nest(INFO_DATA, |m| {
                m.nest(VETH_PEER, |m| {
                    m.raw(&link_header(0, 0));
                    end(m, there);
                    m.ne32(IFLA_NET_NS_FD, namespace);
                });
            });
        });
    });
}

/// Brings a link up.
pub fn set_up(m: &mut Messages, index: u32) {
    m.push(SET_LINK, ACK, &link_header(index, UP), |_| {});
}

/// The alias that people see.
pub fn set_alias(m: &mut Messages, index: u32, alias: &str) {
    m.push(SET_LINK, ACK, &link_header(index, 0), |m| {
        m.attribute(IFLA_IFALIAS, alias.as_bytes());
    });
}

/// No packets with foreign sources, no redirects: what the sysctls `rp_filter` and
/// `send_redirects` of the link do.
pub fn set_strict(m: &mut Messages, index: u32) {
    const CONF: u16 = 1;
    const SEND_REDIRECTS: u16 = 6;
    const RP_FILTER: u16 = 8;
    m.push(SET_LINK, ACK, &link_header(index, 0), |m| {
        m.nest(IFLA_AF_SPEC, |m| {
            m.nest(AF_INET.into(), |m| {
                m.nest(CONF, |m| {
                    m.ne32(SEND_REDIRECTS, 0);
                    m.ne32(RP_FILTER, 1);
                });
            });
        });
    });
}

/// No IPv6 address that nobody asked for, and none of its chatter. Refused by a kernel
/// without IPv6.
pub fn set_no_link_local(m: &mut Messages, index: u32) -> u32 {
    const ADDR_GEN_MODE: u16 = 8;
    m.push(SET_LINK, ACK, &link_header(index, 0), |m| {
        m.nest(IFLA_AF_SPEC, |m| {
            m.nest(AF_INET6.into(), |m| m.attribute(ADDR_GEN_MODE, &[1]));
        });
    })
}

/// Deletes a link by name; its peer, addresses and routes go with it.
pub fn delete(m: &mut Messages, name: &str) {
    m.push(DEL_LINK, ACK, &link_header(0, 0), |m| m.string(IFLA_IFNAME, name));
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn family(ip: IpAddr) -> (u8, u8) {
    if ip.is_ipv4() { (AF_INET, 32) } else { (AF_INET6, 128) }
}

/// An address for one host, on a link.
pub fn add_address(m: &mut Messages, index: u32, ip: IpAddr) {
    let (family, bits) = family(ip);
    let mut header = vec![family, bits, 0, SCOPE_UNIVERSE];
    header.extend(index.to_ne_bytes());
    m.push(NEW_ADDRESS, ACK | CREATE | REPLACE, &header, |m| {
        m.attribute(2, &octets(ip));
        m.attribute(1, &octets(ip));
        if ip.is_ipv6() {
            m.ne32(8, NO_DAD);
        }
    });
}

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
pub enum Via {
    /// Out of the link.
    Link(u32),
    /// To a gateway on the link.
    Gateway(u32, IpAddr),
    /// Nowhere: an error for the sender.
    Unreachable,
}

/// Adds or replaces a route.
pub fn add_route(m: &mut Messages, to: Prefix, via: Via, source: Option<IpAddr>) {
    let (scope, kind, flags) = match via {
        Via::Link(_) => (SCOPE_LINK, TYPE_UNICAST, 0),
        Via::Gateway(..) => (SCOPE_UNIVERSE, TYPE_UNICAST, ONLINK),
        Via::Unreachable => (SCOPE_UNIVERSE, TYPE_UNREACHABLE, 0),
    };
    let (family, _) = family(to.address());
    let mut header = vec![family, to.length(), 0, 0, TABLE_MAIN, OUR_PROTOCOL, scope, kind];
    header.extend(u32::to_ne_bytes(flags));
    m.push(NEW_ROUTE, ACK | CREATE | REPLACE, &header, |m| {
        if to.length() > 0 {
            m.attribute(RTA_DST, &octets(to.address()));
        }
        match via {
            Via::Link(index) => m.ne32(RTA_OIF, index),
            Via::Gateway(index, ip) => {
                m.attribute(RTA_GATEWAY, &octets(ip));
                m.ne32(RTA_OIF, index);
            }
            Via::Unreachable => m.ne32(RTA_PRIORITY, LAST_RESORT),
        }
        if let Some(source) = source {
            m.attribute(RTA_PREFSRC, &octets(source));
        }
    });
}

/// A neighbour that need not be asked for.
pub fn add_neighbour(m: &mut Messages, index: u32, ip: IpAddr, mac: Mac) {
    let mut header = vec![family(ip).0, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(PERMANENT.to_ne_bytes());
    header.extend([0, 0]);
    m.push(NEW_NEIGHBOUR, ACK | CREATE | REPLACE, &header, |m| {
        m.attribute(1, &octets(ip));
        m.attribute(2, &mac);
    });
}

/// A link, as far as anyone here cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// In the socket's namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Bytes.
    pub mtu: u32,
    /// `veth`, `bridge`, …; empty for hardware.
    pub kind: String,
    /// Whether it passes packets (RFC 2863: operationally up), not only is told to.
    pub is_working: bool,
}

/// Every link of the socket's namespace.
pub fn list(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut request = Messages::default();
    request.push(GET_LINK, DUMP, &link_header(0, 0), |_| {});
    let mut links = Vec::new();
    socket.dump(&request, |message| links.extend(link(message.payload)))?;
    Ok(links)
}

/// The link of that name, if there is one.
pub fn find(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    let mut request = Messages::default();
    request.push(GET_LINK, ACK, &link_header(0, 0), |m| m.string(IFLA_IFNAME, name));
    let mut found = None;
    match socket.dump(&request, |message| found = link(message.payload)) {
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
        result => result.map(|()| found),
    }
}

fn link(payload: &[u8]) -> Option<Link> {
    let attributes = Attributes(payload.get(16..)?);
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let info = attributes.nested(IFLA_LINKINFO);
    Some(Link {
        index: number(&payload[4..8])?,
        name: attributes.string(IFLA_IFNAME)?.to_owned(),
        mtu: attributes.get(IFLA_MTU).and_then(number)?,
        kind: info.and_then(|info| info.string(INFO_KIND)).unwrap_or_default().to_owned(),
        is_working: attributes.get(IFLA_OPERSTATE) == Some(&[OPERSTATE_UP]),
    })
}

/// A route: who made it, where it leads, and the bytes by which it can be deleted.
#[derive(Debug, Clone)]
pub struct Route {
    /// As in [`OUR_PROTOCOL`].
    pub protocol: u8,
    /// Whether it is a default route of the main table.
    pub is_default: bool,
    /// Its link.
    pub link: Option<u32>,
    /// What it is for.
    pub to: Option<Prefix>,
    raw: Vec<u8>,
}

/// Every route of the socket's namespace, of both families.
pub fn routes(socket: &mut Socket) -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = Messages::default();
        request.push(GET_ROUTE, DUMP, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_| {});
        let result = socket.dump(&request, |message| {
            let payload = message.payload;
            if let (Some(header), Some(attributes)) = (payload.get(..12), payload.get(12..)) {
                let link = Attributes(attributes).get(RTA_OIF);
                let to = Attributes(attributes).get(RTA_DST).and_then(address);
                routes.push(Route {
                    protocol: header[5],
                    is_default: header[1] == 0 && header[4] == TABLE_MAIN && header[7] == TYPE_UNICAST,
                    link: link.and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?))),
                    to: to.and_then(|address| Prefix::new(address, header[1])),
                    raw: payload.to_vec(),
                });
            }
        });
        // A kernel without IPv6 has no routes of it.
        if family == AF_INET {
            result?;
        }
    }
    Ok(routes)
}

/// Deletes a route.
pub fn delete_route(m: &mut Messages, route: &Route) {
    m.push(DEL_ROUTE, ACK, &route.raw[..12], |m| {
        let wanted = [RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY];
        let attributes = Attributes(&route.raw[12..]);
        for (kind, payload) in attributes.iter().filter(|(kind, _)| wanted.contains(kind)) {
            m.attribute(kind, payload);
        }
    });
}
