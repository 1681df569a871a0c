//! Rules as nf_tables expressions (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a short program over 16 registers of 32 bits. A key of several fields is
//! laid out in adjacent registers, each field padded to a whole one, exactly as the
//! elements of the maps are (see [`super::encode`]).

use core::net::IpAddr;

use super::encode::{NFPROTO_IPV4, NFPROTO_IPV6};
use crate::netlink::Messages;
use crate::plan::Prefix;
use crate::plan::render::service_map;
use crate::plan::rules::{Chain, Draw, DrawBy, Family, HASH_SEED, Rule, slot_offset};

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;

/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NFT_REG32_00`, the first of 16.
const FIRST: u32 = 8;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

const CT_STATUS: u32 = 2;
/// `IPS_DST_NAT`.
const CT_STATUS_DNAT: u32 = 1 << 5;

const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: two connections that become the same source are told
/// apart by a random port, so that none is lost to a clash.
const RANDOM_FULLY: u32 = 1 << 4;

/// Which address of the header.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// Writes the expressions of a rule, each as one `NFTA_LIST_ELEM`.
pub fn expressions(m: &mut Messages, rule: &Rule) {
    match rule {
        Rule::Jump(chain) => verdict(m, NFT_JUMP, Some(chain)),
        Rule::Goto(chain) => verdict(m, NFT_GOTO, Some(chain)),
        Rule::JumpFrom(prefix, chain) => {
            only(m, Family::of(prefix.address()));
            compare_prefix(m, Side::Source, prefix, true);
            verdict(m, NFT_JUMP, Some(chain));
        }
        Rule::GotoTo(prefix, chain) => {
            only(m, Family::of(prefix.address()));
            compare_prefix(m, Side::Destination, prefix, true);
            verdict(m, NFT_GOTO, Some(chain));
        }
        Rule::ReturnTo(ip) => {
            only(m, Family::of(*ip));
            address(m, Family::of(*ip), Side::Destination, FIRST);
            compare(m, FIRST, true, &address_bytes(*ip));
            verdict(m, NFT_RETURN, None);
        }
        Rule::Verdict { family, view } => {
            only(m, *family);
            frontend_key(m, *family, FIRST);
            lookup(m, service_map(*view), *family, FIRST, Some(VERDICT));
        }
        Rule::RejectTcp => {
            meta(m, META_L4PROTO, FIRST);
            compare(m, FIRST, true, &[6]);
            reject(m, 1, 0);
        }
        Rule::Reject => reject(m, 2, 1),
        Rule::Dnat { draw } => {
            only(m, draw.family);
            let slot = frontend_key(m, draw.family, FIRST);
            draw_slot(m, draw, slot);
            lookup(m, "endpoint", draw.family, FIRST, Some(FIRST));
            dnat(m, draw.family, FIRST);
        }
        Rule::MasqueradeHairpin(_) | Rule::MasqueradeRemote { .. } | Rule::MasqueradePods { .. } => {
            masquerade(m, rule);
        }
    }
}

fn masquerade(m: &mut Messages, rule: &Rule) {
    match rule {
        Rule::MasqueradeHairpin(family) => {
            only(m, *family);
            address(m, *family, Side::Source, FIRST);
            address(m, *family, Side::Destination, FIRST + words(*family));
            lookup(m, "hairpin", *family, FIRST, None);
        }
        Rule::MasqueradeRemote { family, except } => {
            only(m, *family);
            conntrack_status(m, FIRST);
            mask(m, FIRST, &CT_STATUS_DNAT.to_ne_bytes());
            compare(m, FIRST, false, &0u32.to_ne_bytes());
            for prefix in except {
                compare_prefix(m, Side::Source, prefix, false);
            }
            frontend_key(m, *family, FIRST);
            lookup(m, "remote", *family, FIRST, None);
        }
        Rule::MasqueradePods { from, except } => {
            only(m, Family::of(from.address()));
            compare_prefix(m, Side::Source, from, true);
            for prefix in except {
                compare_prefix(m, Side::Destination, prefix, false);
            }
        }
        _ => {}
    }
    expression(m, "masq", |m| m.be32(1, RANDOM_FULLY));
}

fn expression(m: &mut Messages, name: &str, data: impl FnOnce(&mut Messages)) {
    m.nest(LIST_ELEM, |m| {
        m.string(EXPR_NAME, name);
        m.nest(EXPR_DATA, data);
    });
}

/// How many registers an address takes.
fn words(family: Family) -> u32 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

fn address_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Goes on only for packets of the family.
fn only(m: &mut Messages, family: Family) {
    let number = match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    };
    meta(m, META_NFPROTO, FIRST);
    compare(m, FIRST, true, &[number]);
}

/// Destination address, protocol and port from `at` on; the register after them.
fn frontend_key(m: &mut Messages, family: Family, at: u32) -> u32 {
    address(m, family, Side::Destination, at);
    let protocol = at + words(family);
    meta(m, META_L4PROTO, protocol);
    payload(m, TRANSPORT_HEADER, 2, 2, protocol + 1);
    protocol + 2
}

fn address(m: &mut Messages, family: Family, side: Side, to: u32) {
    let (offset, length) = match (family, side) {
        (Family::V4, Side::Source) => (12, 4),
        (Family::V4, Side::Destination) => (16, 4),
        (Family::V6, Side::Source) => (8, 16),
        (Family::V6, Side::Destination) => (24, 16),
    };
    payload(m, NETWORK_HEADER, offset, length, to);
}

fn compare_prefix(m: &mut Messages, side: Side, prefix: &Prefix, equal: bool) {
    address(m, Family::of(prefix.address()), side, FIRST);
    let ones: IpAddr = match prefix.address() {
        IpAddr::V4(_) => [0xff; 4].into(),
        IpAddr::V6(_) => [0xff; 16].into(),
    };
    let netmask = Prefix::new(ones, prefix.length()).expect("the length is of the family");
    mask(m, FIRST, &address_bytes(netmask.address()));
    compare(m, FIRST, equal, &address_bytes(prefix.address()));
}

fn payload(m: &mut Messages, base: u32, offset: u32, length: u32, to: u32) {
    expression(m, "payload", |m| {
        m.be32(1, to);
        m.be32(2, base);
        m.be32(3, offset);
        m.be32(4, length);
    });
}

fn meta(m: &mut Messages, key: u32, to: u32) {
    expression(m, "meta", |m| {
        m.be32(1, to);
        m.be32(2, key);
    });
}

fn conntrack_status(m: &mut Messages, to: u32) {
    expression(m, "ct", |m| {
        m.be32(1, to);
        m.be32(2, CT_STATUS);
    });
}

fn compare(m: &mut Messages, register: u32, equal: bool, value: &[u8]) {
    expression(m, "cmp", |m| {
        m.be32(1, register);
        m.be32(2, if equal { 0 } else { 1 });
        m.nest(3, |m| m.attribute(1, value));
    });
}

fn mask(m: &mut Messages, register: u32, ones: &[u8]) {
    expression(m, "bitwise", |m| {
        m.be32(1, register);
        m.be32(2, register);
        m.be32(3, u32::try_from(ones.len()).expect("an address"));
        m.nest(4, |m| m.attribute(1, ones));
        m.nest(5, |m| m.attribute(1, &vec![0; ones.len()]));
    });
}

fn lookup(m: &mut Messages, set: &str, family: Family, key: u32, to: Option<u32>) {
    expression(m, "lookup", |m| {
        m.string(1, &format!("{set}{}", family.digit()));
        m.be32(2, key);
        if let Some(to) = to {
            m.be32(3, to);
        }
    });
}

fn draw_slot(m: &mut Messages, draw: &Draw, to: u32) {
    match draw.by {
        DrawBy::Chance => expression(m, "numgen", |m| {
            m.be32(1, to);
            m.be32(2, u32::from(draw.count));
            m.be32(3, 1);
            m.be32(4, slot_offset(draw.view));
        }),
        DrawBy::Client => {
            address(m, draw.family, Side::Source, to);
            expression(m, "hash", |m| {
                m.be32(1, to);
                m.be32(2, to);
                m.be32(3, words(draw.family) * 4);
                m.be32(4, u32::from(draw.count));
                m.be32(5, HASH_SEED);
                m.be32(6, slot_offset(draw.view));
                m.be32(7, 0);
            });
        }
    }
}

fn dnat(m: &mut Messages, family: Family, from: u32) {
    let number = match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    };
    expression(m, "nat", |m| {
        m.be32(1, 1);
        m.be32(2, u32::from(number));
        m.be32(3, from);
        m.be32(5, from + words(family));
    });
}

fn reject(m: &mut Messages, kind: u32, code: u8) {
    expression(m, "reject", |m| {
        m.be32(1, kind);
        m.attribute(2, &[code]);
    });
}

fn verdict(m: &mut Messages, code: i32, chain: Option<&Chain>) {
    expression(m, "immediate", |m| {
        m.be32(1, VERDICT);
        m.nest(2, |m| verdict_data(m, code, chain));
    });
}

/// A verdict as data: of an immediate, or of a map's element.
pub fn verdict_data(m: &mut Messages, code: i32, chain: Option<&Chain>) {
    m.nest(2, |m| {
        m.attribute(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            m.string(2, &chain.to_string());
        }
    });
}

/// The verdict of a service map's element, as [`verdict_data`] wants it.
pub const GOTO: i32 = NFT_GOTO;
/// `NF_DROP`.
pub const DROP: i32 = 0;
