//! Updates as one nf_tables transaction: netlink messages between a batch's begin and end.
//!
//! The kernel applies all of it or nothing, and packets see the table before or after,
//! never in between.

use std::collections::BTreeMap;

use super::expressions::{DROP, GOTO, expressions, verdict_data};
use crate::netlink::Messages;
use crate::netlink::message::{APPEND, CREATE};
use crate::plan::Update;
use crate::plan::diff::Element;
use crate::plan::render::{TABLE, map_of};
use crate::plan::rules::{Chain, Family, Rule, slot_offset};
use crate::plan::ruleset::Verdict;

/// `NFPROTO_INET`, of the table.
pub const NFPROTO_INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub const NFPROTO_IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
pub const NFPROTO_IPV6: u8 = 10;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DEL_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DEL_ELEMENT: u16 = SUBSYSTEM | 14;

const SET_MAP: u32 = 8;

/// Elements in one message, in bytes: below what an attribute can hold, with room for one more.
const ELEMENTS: usize = 48 * 1024;

/// A transaction in the making, and what each of its messages is about.
#[derive(Debug)]
pub struct Batch {
    messages: Messages,
    about: Vec<&'static str>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        let mut batch = Self { messages: Messages::default(), about: Vec::new() };
        // The subsystem, in network order, stands where others have a resource.
        batch.push("begin", BATCH_BEGIN, 0, [0, 0, 0, 10], |_| {});
        batch
    }

    /// Removes the table, whether or not it is there.
    pub fn remove_table(&mut self) {
        self.table("table", NEW_TABLE, CREATE, |m| m.string(1, TABLE));
        self.table("table", DEL_TABLE, 0, |m| m.string(1, TABLE));
    }

    /// Adds the table with its maps and sets, and the fixed chains without rules.
    pub fn add_table(&mut self) {
        self.table("table", NEW_TABLE, CREATE, |m| m.string(1, TABLE));
        for (id, set) in (1..).zip(Family::BOTH.into_iter().flat_map(Set::all)) {
            self.table("map", NEW_SET, CREATE, |m| set.attributes(m, id));
        }
        for chain in Chain::FIXED {
            self.table("chain", NEW_CHAIN, CREATE, |m| {
                m.string(1, TABLE);
                m.string(3, &chain.to_string());
                if let Some((hook, priority)) = hook(chain) {
                    m.nest(4, |m| {
                        m.be32(1, hook);
                        m.attribute(2, &i32::to_be_bytes(priority));
                    });
                    m.string(7, "nat");
                    m.be32(5, 1);
                }
            });
        }
    }

    /// Adds what the updates say, in their order (but elements of one map together).
    pub fn updates(&mut self, updates: &[Update]) {
        let (mut removed, mut added) = (BTreeMap::new(), BTreeMap::new());
        let mut gone = Vec::new();
        for update in updates {
            match update {
                Update::AddChain(chain) => {
                    self.table("chain", NEW_CHAIN, CREATE, |m| {
                        m.string(1, TABLE);
                        m.string(3, &chain.to_string());
                    });
                    self.rules(*chain, &chain.chooser_rules());
                }
                Update::SetRules(chain, rules) => {
                    self.clear(*chain);
                    self.rules(*chain, rules);
                }
                Update::Remove(element) => sort_in(&mut removed, element),
                Update::Add(element) => sort_in(&mut added, element),
                Update::RemoveChain(chain) => gone.push(*chain),
            }
        }
        for (map, elements) in &removed {
            self.elements(DEL_ELEMENT, map, elements);
        }
        for (map, elements) in &added {
            self.elements(NEW_ELEMENT, map, elements);
        }
        for chain in gone {
            self.clear(chain);
            self.table("chain", DEL_CHAIN, 0, |m| {
                m.string(1, TABLE);
                m.string(3, &chain.to_string());
            });
        }
    }

    /// Ends it; the messages, and what the one of a number is about.
    pub fn finish(mut self) -> (Messages, Vec<&'static str>) {
        self.messages.acknowledge_last();
        self.push("end", BATCH_END, 0, [0, 0, 0, 10], |_| {});
        (self.messages, self.about)
    }

    fn clear(&mut self, chain: Chain) {
        self.table("rules", DEL_RULE, 0, |m| {
            m.string(1, TABLE);
            m.string(2, &chain.to_string());
        });
    }

    fn rules(&mut self, chain: Chain, rules: &[Rule]) {
        for rule in rules {
            self.table("rule", NEW_RULE, CREATE | APPEND, |m| {
                m.string(1, TABLE);
                m.string(2, &chain.to_string());
                m.nest(4, |m| expressions(m, rule));
            });
        }
    }

    fn elements(&mut self, kind: u16, map: &str, elements: &[Element]) {
        // An element takes at most some 120 bytes: IPv6 addresses, and the name of a chain.
        for some in elements.chunks(ELEMENTS / 120) {
            self.table("element", kind, if kind == NEW_ELEMENT { CREATE } else { 0 }, |m| {
                m.string(1, TABLE);
                m.string(2, map);
                m.nest(3, |m| {
                    for element in some {
                        m.nest(1, |m| element_attributes(m, element, kind == NEW_ELEMENT));
                    }
                });
            });
        }
    }

    fn table(&mut self, about: &'static str, kind: u16, flags: u16, attributes: impl FnOnce(&mut Messages)) {
        self.push(about, kind, flags, [NFPROTO_INET, 0, 0, 0], attributes);
    }

    fn push(
        &mut self,
        about: &'static str,
        kind: u16,
        flags: u16,
        fixed: [u8; 4],
        attributes: impl FnOnce(&mut Messages),
    ) {
        self.messages.push(kind, flags, &fixed, attributes);
        self.about.push(about);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

fn sort_in(into: &mut BTreeMap<String, Vec<Element>>, element: &Element) {
    into.entry(map_of(element)).or_default().push(*element);
}

fn hook(chain: Chain) -> Option<(u32, i32)> {
    match chain {
        Chain::Prerouting => Some((0, -100)),
        Chain::Output => Some((3, -100)),
        Chain::Postrouting => Some((4, 100)),
        _ => None,
    }
}

/// A field of a key, for nft to show it; the numbers are those of its data types.
#[derive(Debug, Clone, Copy)]
enum Field {
    Address,
    Protocol,
    Port,
    Slot,
}

struct Set {
    name: &'static str,
    family: Family,
    key: &'static [Field],
    data: Data,
}

#[derive(Clone, Copy)]
enum Data {
    None,
    Verdict,
    Endpoint,
}

const FRONTEND: &[Field] = &[Field::Address, Field::Protocol, Field::Port];
const SLOT: &[Field] = &[Field::Address, Field::Protocol, Field::Port, Field::Slot];
const PAIR: &[Field] = &[Field::Address, Field::Address];
const ENDPOINT: &[Field] = &[Field::Address, Field::Port];

impl Set {
    fn all(family: Family) -> [Set; 5] {
        let set = |name, key, data| Set { name, family, key, data };
        [
            set("service", FRONTEND, Data::Verdict),
            set("internal", FRONTEND, Data::Verdict),
            set("endpoint", SLOT, Data::Endpoint),
            set("hairpin", PAIR, Data::None),
            set("remote", FRONTEND, Data::None),
        ]
    }

    fn attributes(&self, m: &mut Messages, id: u32) {
        let (key_type, key_length) = type_of(self.key, self.family);
        m.string(1, TABLE);
        m.string(2, &format!("{}{}", self.name, self.family.digit()));
        m.be32(
            3,
            match self.data {
                Data::None => 0,
                Data::Verdict | Data::Endpoint => SET_MAP,
            },
        );
        m.be32(4, key_type);
        m.be32(5, key_length);
        match self.data {
            Data::None => {}
            Data::Verdict => {
                m.be32(6, 0xffff_ff00);
                m.be32(7, 16);
            }
            Data::Endpoint => {
                let (data_type, data_length) = type_of(ENDPOINT, self.family);
                m.be32(6, data_type);
                m.be32(7, data_length);
            }
        }
        m.be32(10, id);
    }
}

/// nft's number for a concatenation, and its length with padding.
fn type_of(fields: &[Field], family: Family) -> (u32, u32) {
    fields.iter().fold((0, 0), |(kind, length), field| {
        let (number, size) = match (field, family) {
            (Field::Address, Family::V4) => (7, 4),
            (Field::Address, Family::V6) => (8, 16),
            (Field::Protocol, _) => (12, 4),
            (Field::Port, _) => (13, 4),
            (Field::Slot, _) => (19, 4),
        };
        (kind << 6 | number, length + size)
    })
}

fn element_attributes(m: &mut Messages, element: &Element, with_data: bool) {
    let key = element_key(element);
    m.nest(1, |m| m.attribute(1, &key));
    if !with_data {
        return;
    }
    match element {
        Element::Service(_, verdict) => m.nest(2, |m| match verdict {
            Verdict::Choose(chain) => verdict_data(m, GOTO, Some(chain)),
            Verdict::Refuse => verdict_data(m, GOTO, Some(&Chain::Refuse)),
            Verdict::Drop => verdict_data(m, DROP, None),
        }),
        Element::Endpoint(_, _, to) => {
            let data = Key::new().address(to.ip).port(to.port).bytes;
            m.nest(2, |m| m.attribute(1, &data));
        }
        Element::Hairpin(_) | Element::Remote(..) => {}
    }
}

fn element_key(element: &Element) -> Vec<u8> {
    match element {
        Element::Service(key, _) => {
            Key::new().address(key.ip).protocol(key.protocol.number()).port(key.port).bytes
        }
        Element::Endpoint(key, slot, _) => {
            let slot = slot_offset(key.view) + u32::from(*slot);
            let frontend = Key::new().address(key.ip).protocol(key.protocol.number());
            frontend.port(key.port).slot(slot).bytes
        }
        Element::Hairpin(ip) => Key::new().address(*ip).address(*ip).bytes,
        Element::Remote(to, protocol) => {
            Key::new().address(to.ip).protocol(protocol.number()).port(to.port).bytes
        }
    }
}

/// A key or data of several fields, as registers hold it.
#[derive(Debug, Default)]
pub struct Key {
    /// What there is so far.
    pub bytes: Vec<u8>,
}

impl Key {
    /// Without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an address.
    pub fn address(mut self, ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(ip) => self.bytes.extend(ip.octets()),
            core::net::IpAddr::V6(ip) => self.bytes.extend(ip.octets()),
        }
        self
    }

    /// Appends a transport protocol.
    pub fn protocol(mut self, number: u8) -> Self {
        self.bytes.extend([number, 0, 0, 0]);
        self
    }

    /// Appends a port.
    pub fn port(mut self, port: u16) -> Self {
        self.bytes.extend(port.to_be_bytes());
        self.bytes.extend([0, 0]);
        self
    }

    /// Appends a slot; in the machine's order, as the kernel's random numbers are.
    pub fn slot(mut self, slot: u32) -> Self {
        self.bytes.extend(slot.to_ne_bytes());
        self
    }
}
