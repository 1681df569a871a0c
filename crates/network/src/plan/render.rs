//! A ruleset as text, the way `nft list table inet carrack` would print it. Pure.
//!
//! For people, golden files and the comparison with the kernel in tests; nothing parses
//! it, and the kernel is not told by it.

use core::fmt::Write;
use std::collections::BTreeMap;

use super::diff::{Element, elements_of};
use super::rules::{Chain, Draw, DrawBy, Family, HASH_SEED, Rule, slot_offset};
use super::ruleset::Verdict;
use super::{Ruleset, View};

/// The table's name; its family is `inet`.
pub const TABLE: &str = "carrack";

/// The whole table.
pub fn render(ruleset: &Ruleset) -> String {
    let mut text = format!("table inet {TABLE} {{\n");
    let mut elements: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = ruleset.frontends.iter().flat_map(|(key, frontend)| elements_of(key, frontend));
    let hairpin = ruleset.hairpin.iter().map(|ip| Element::Hairpin(*ip));
    let remote = ruleset.remote.iter().map(|(to, protocol)| Element::Remote(*to, *protocol));
    for element in all.chain(hairpin).chain(remote) {
        elements.entry(map_of(&element)).or_default().push(element_text(&element));
    }
    for (name, kind, declaration) in Family::BOTH.into_iter().flat_map(declarations) {
        let _ = write!(text, "\t{kind} {name} {{\n{declaration}");
        if let Some(list) = elements.get(&name) {
            let list = list.join(",\n\t\t\t     ");
            let _ = writeln!(text, "\t\telements = {{ {list} }}");
        }
        text.push_str("\t}\n\n");
    }
    for chain in Chain::FIXED {
        let rules = ruleset.fixed.get(&chain).map(Vec::as_slice).unwrap_or_default();
        chain_text(&mut text, chain, rules);
    }
    for chain in ruleset.choosers() {
        chain_text(&mut text, chain, &chain.chooser_rules());
    }
    text.push_str("}\n");
    text
}

fn declarations(family: Family) -> [(String, &'static str, String); 5] {
    let (digit, address) = (family.digit(), address_type(family));
    let key = format!("{address} . inet_proto . inet_service");
    let declare = |kind: &'static str, name: &str, what: String| {
        (format!("{name}{digit}"), kind, format!("\t\ttype {what}\n"))
    };
    [
        declare("map", "service", format!("{key} : verdict")),
        declare("map", "internal", format!("{key} : verdict")),
        declare("map", "endpoint", format!("{key} . mark : {address} . inet_service")),
        declare("set", "hairpin", format!("{address} . {address}")),
        declare("set", "remote", key.clone()),
    ]
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

/// The map or set that an element belongs to.
pub fn map_of(element: &Element) -> String {
    let (name, family) = match element {
        Element::Service(key, _) => (service_map(key.view), key.family()),
        Element::Endpoint(key, ..) => ("endpoint", key.family()),
        Element::Hairpin(ip) => ("hairpin", Family::of(*ip)),
        Element::Remote(to, _) => ("remote", Family::of(to.ip)),
    };
    format!("{name}{}", family.digit())
}

/// The map of verdicts of a view, without its family's digit.
pub fn service_map(view: View) -> &'static str {
    match view {
        View::Any => "service",
        View::Internal => "internal",
    }
}

fn element_text(element: &Element) -> String {
    match element {
        Element::Service(key, verdict) => {
            let verdict = match verdict {
                Verdict::Choose(chain) => format!("goto {chain}"),
                Verdict::Refuse => format!("goto {}", Chain::Refuse),
                Verdict::Drop => "drop".to_owned(),
            };
            format!("{} . {} . {} : {verdict}", key.ip, key.protocol.name(), key.port)
        }
        Element::Endpoint(key, slot, to) => {
            let slot = slot_offset(key.view) + u32::from(*slot);
            let (ip, protocol, port) = (key.ip, key.protocol.name(), key.port);
            format!("{ip} . {protocol} . {port} . 0x{slot:08x} : {} . {}", to.ip, to.port)
        }
        Element::Hairpin(ip) => format!("{ip} . {ip}"),
        Element::Remote(to, protocol) => format!("{} . {} . {}", to.ip, protocol.name(), to.port),
    }
}

fn chain_text(text: &mut String, chain: Chain, rules: &[Rule]) {
    let _ = writeln!(text, "\tchain {chain} {{");
    let hook = match chain {
        Chain::Prerouting => Some("prerouting priority dstnat"),
        Chain::Output => Some("output priority -100"),
        Chain::Postrouting => Some("postrouting priority srcnat"),
        _ => None,
    };
    if let Some(hook) = hook {
        let _ = writeln!(text, "\t\ttype nat hook {hook}; policy accept;");
    }
    for rule in rules {
        let _ = writeln!(text, "\t\t{}", rule_text(rule));
    }
    text.push_str("\t}\n\n");
}

fn rule_text(rule: &Rule) -> String {
    match rule {
        Rule::Jump(chain) => format!("jump {chain}"),
        Rule::Goto(chain) => format!("goto {chain}"),
        Rule::JumpFrom(from, chain) => {
            format!("{} saddr {from} jump {chain}", header(Family::of(from.address())))
        }
        Rule::GotoTo(to, chain) => {
            format!("{} daddr {to} goto {chain}", header(Family::of(to.address())))
        }
        Rule::ReturnTo(ip) => format!("{} daddr {ip} return", header(Family::of(*ip))),
        Rule::Verdict { family, view } => {
            format!("{} vmap @{}{}", key_text(*family), service_map(*view), family.digit())
        }
        Rule::RejectTcp => "meta l4proto tcp reject with tcp reset".to_owned(),
        Rule::Reject => "reject".to_owned(),
        Rule::Dnat { draw } => {
            format!("dnat {} to {}", header(draw.family), draw_text(draw))
        }
        Rule::MasqueradeHairpin(family) => {
            let (header, digit) = (header(*family), family.digit());
            format!("{header} saddr . {header} daddr @hairpin{digit} masquerade fully-random")
        }
        Rule::MasqueradeRemote { family, except } => {
            let (header, digit) = (header(*family), family.digit());
            let except: String = except.iter().map(|p| format!("{header} saddr != {p} ")).collect();
            let key = key_text(*family);
            format!("ct status dnat {except}{key} @remote{digit} masquerade fully-random")
        }
        Rule::MasqueradePods { from, except } => {
            let header = header(Family::of(from.address()));
            let except: String = except.iter().map(|p| format!("{header} daddr != {p} ")).collect();
            format!("{header} saddr {from} {except}masquerade fully-random")
        }
    }
}

fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn key_text(family: Family) -> String {
    format!("{} daddr . meta l4proto . th dport", header(family))
}

fn draw_text(draw: &Draw) -> String {
    let offset = match slot_offset(draw.view) {
        0 => String::new(),
        offset => format!(" offset {offset}"),
    };
    let (count, digit) = (draw.count, draw.family.digit());
    let slot = match draw.by {
        DrawBy::Chance => format!("numgen random mod {count}"),
        DrawBy::Client => {
            format!("jhash {} saddr mod {count} seed 0x{HASH_SEED:x}", header(draw.family))
        }
    };
    format!("{} . {slot}{offset} map @endpoint{digit}", key_text(draw.family))
}
