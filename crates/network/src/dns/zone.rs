//! The cluster's names, as one immutable value. Pure.
//!
//! Kubernetes DNS specification 1.1.0 (kubernetes/dns), and CoreDNS' `kubernetes` plugin
//! with `pods insecure` where the specification leaves room. A name that exists without
//! the type asked for is "no data", a name that does not exist is NXDOMAIN; both with the
//! SOA, so that clients remember it no longer than they should.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::plan::{EndpointInput, ServiceInput, ServiceType, ServiceWithEndpoints};

/// Seconds for which answers may be remembered: CoreDNS' default.
const TTL: u32 = 5;
/// The most records in one answer; far beyond what fits into a datagram.
const MAX_RECORDS: usize = 1000;

/// What the zone knows about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Not a name of the cluster: ask someone else.
    NotOurs,
    /// Records, and others that will be asked for next.
    Records(Vec<Record>, Vec<Record>),
    /// The name is there, but nothing of this type. The record is the SOA.
    NoData(Record),
    /// There is no such name. The record is the SOA.
    NoSuchName(Record),
    /// The name is another name for this one, which is to be resolved.
    Alias(Record, Name),
}

/// An immutable snapshot of all names of the cluster.
#[derive(Debug, Clone)]
pub struct Zone {
    domain: Vec<String>,
    origin: Name,
    services: HashMap<(String, String), Names>,
    namespaces: HashSet<String>,
    reverse: HashMap<IpAddr, Vec<Name>>,
}

/// What there is under a Service's name.
#[derive(Debug, Clone)]
enum Names {
    Alias(Name),
    Service {
        addresses: Vec<IpAddr>,
        /// By port name and protocol.
        ports: Vec<(String, &'static str, u16)>,
    },
    Headless(Vec<Host>),
}

/// An endpoint of a headless Service.
#[derive(Debug, Clone)]
struct Host {
    label: String,
    address: IpAddr,
    ports: Vec<(String, &'static str, u16)>,
}

impl Default for Zone {
    fn default() -> Self {
        Zone::build("cluster.local", [], [])
    }
}

impl Zone {
    /// From the same inputs as the rules. `namespaces` are those that exist (for the names of
    /// pods). What would not make a name is left out.
    pub fn build<'a>(
        domain: &str,
        services: impl IntoIterator<Item = &'a ServiceWithEndpoints>,
        namespaces: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let domain: Vec<_> =
            domain.split('.').filter(|label| !label.is_empty()).map(str::to_lowercase).collect();
        let mut zone = Self {
            origin: name(&domain).unwrap_or_else(Name::root),
            domain,
            services: HashMap::new(),
            namespaces: namespaces.into_iter().map(str::to_lowercase).collect(),
            reverse: HashMap::new(),
        };
        for entry in services {
            zone.add(&entry.service, &entry.endpoints);
        }
        zone
    }

    fn add(&mut self, service: &ServiceInput, endpoints: &[EndpointInput]) {
        let names = if service.service_type == ServiceType::ExternalName {
            let target = service.external_name.as_deref().unwrap_or_default();
            match Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) {
                Ok(target) if !target.is_root() => Names::Alias(target),
                _ => return,
            }
        } else if service.headless {
            Names::Headless(hosts(service, endpoints))
        } else {
            let ports = service.ports.iter();
            Names::Service {
                addresses: service.cluster_ips.clone(),
                ports: ports.map(|p| (p.name.to_lowercase(), p.protocol.name(), p.port)).collect(),
            }
        };
        let key = (service.name.to_lowercase(), service.namespace.to_lowercase());
        let Some(own) = self.name_below([key.0.as_str(), &key.1, "svc"]) else { return };
        match &names {
            Names::Service { addresses, .. } => {
                for address in addresses {
                    self.reverse.entry(*address).or_default().push(own.clone());
                }
            }
            Names::Headless(hosts) => {
                for host in hosts {
                    if let Ok(name) = own.prepend_label(host.label.as_bytes()) {
                        let known = self.reverse.entry(host.address).or_default();
                        if !known.contains(&name) {
                            known.push(name);
                        }
                    }
                }
            }
            Names::Alias(_) => {}
        }
        self.namespaces.insert(key.1.clone());
        self.services.insert(key, names);
    }

    /// What is known of this name. `turn` rotates lists of addresses, so that clients that take
    /// the first spread out; any number will do.
    pub fn lookup(&self, asked: &Name, kind: RecordType, turn: usize) -> Answer {
        let labels: Vec<String> = asked.iter().map(lowercase).collect();
        if let Some(answer) = self.reverse_lookup(asked, &labels, kind) {
            return answer;
        }
        let Some(rest) = labels.strip_suffix(self.domain.as_slice()) else {
            return Answer::NotOurs;
        };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            [] => self.apex(asked, kind),
            ["dns-version"] => {
                let version = RData::TXT(TXT::new(vec!["1.1.0".to_owned()]));
                self.typed(asked, kind, vec![version])
            }
            ["svc" | "pod"] => Answer::NoData(self.soa()),
            [namespace, "svc" | "pod"] if self.namespaces.contains(*namespace) => Answer::NoData(self.soa()),
            [dashed, namespace, "pod"] if self.namespaces.contains(*namespace) => match address_of(dashed) {
                Some(ip) => self.typed(asked, kind, vec![address(ip)]),
                None => Answer::NoSuchName(self.soa()),
            },
            [below @ .., service, namespace, "svc"] => {
                match self.services.get(&((*service).to_owned(), (*namespace).to_owned())) {
                    Some(names) => self.service(asked, kind, turn, names, below),
                    None => Answer::NoSuchName(self.soa()),
                }
            }
            _ => Answer::NoSuchName(self.soa()),
        }
    }

    fn apex(&self, asked: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA => Answer::Records(vec![self.soa()], Vec::new()),
            RecordType::NS => {
                let server = self.name_below(["ns", "dns"]).map(|name| RData::NS(NS(name)));
                self.typed(asked, kind, server.into_iter().collect())
            }
            _ => Answer::NoData(self.soa()),
        }
    }

    fn service(&self, asked: &Name, kind: RecordType, turn: usize, names: &Names, below: &[&str]) -> Answer {
        let missing = || Answer::NoSuchName(self.soa());
        match (names, below) {
            (Names::Alias(target), []) => {
                let data = RData::CNAME(CNAME(target.clone()));
                Answer::Alias(Record::from_rdata(asked.clone(), TTL, data), target.clone())
            }
            (Names::Alias(_), _) => missing(),
            (Names::Service { .. }, []) => self.typed(asked, kind, addresses_of(names)),
            (Names::Headless(hosts), []) => {
                let addresses: BTreeSet<_> = hosts.iter().map(|host| host.address).collect();
                let mut addresses: Vec<_> = addresses.into_iter().map(address).collect();
                if !addresses.is_empty() {
                    let first = turn % addresses.len();
                    addresses.rotate_left(first);
                }
                self.typed(asked, kind, addresses)
            }
            (Names::Headless(hosts), [label]) if !label.starts_with('_') => {
                let host = hosts.iter().filter(|host| host.label == *label);
                let addresses: Vec<_> = host.map(|host| address(host.address)).collect();
                if addresses.is_empty() { missing() } else { self.typed(asked, kind, addresses) }
            }
            (names, [protocol]) => {
                // Above the names of ports, so it exists if one of them does.
                let exists = targets(names).any(|(_, found, ..)| protocol.strip_prefix('_') == Some(found));
                if exists { Answer::NoData(self.soa()) } else { missing() }
            }
            (names, [port, protocol]) => {
                let parts = (port.strip_prefix('_'), protocol.strip_prefix('_'));
                let (Some(port), Some(protocol)) = parts else { return missing() };
                let found = targets(names).filter(|(name, kind, ..)| *name == port && *kind == protocol);
                self.srv(asked, kind, names, found.map(|(_, _, port, host)| (port, host)).collect())
            }
            _ => missing(),
        }
    }

    /// Records for `_port._protocol.service…`, whose owner's tail is the target's name.
    fn srv(&self, asked: &Name, kind: RecordType, names: &Names, found: Vec<(u16, Option<&Host>)>) -> Answer {
        if found.is_empty() {
            return Answer::NoSuchName(self.soa());
        }
        let service = asked.base_name().base_name();
        let weight = u16::try_from(100 / found.len()).unwrap_or(1).max(1);
        let (mut records, mut additional) = (Vec::new(), Vec::new());
        for (port, host) in found.into_iter().take(MAX_RECORDS) {
            let below = host.and_then(|host| service.prepend_label(host.label.as_bytes()).ok());
            let target = below.unwrap_or_else(|| service.clone());
            let addresses = match host {
                Some(host) => vec![address(host.address)],
                None => addresses_of(names),
            };
            for data in addresses {
                let record = Record::from_rdata(target.clone(), TTL, data);
                if !additional.contains(&record) {
                    additional.push(record);
                }
            }
            records.push(RData::SRV(SRV::new(0, weight, port, target)));
        }
        match self.typed(asked, kind, records) {
            Answer::Records(records, _) => Answer::Records(records, additional),
            other => other,
        }
    }

    fn reverse_lookup(&self, asked: &Name, labels: &[String], kind: RecordType) -> Option<Answer> {
        let names = self.reverse.get(&reversed_address(labels)?)?;
        let data = names.iter().map(|name| RData::PTR(PTR(name.clone()))).collect();
        Some(self.typed(asked, kind, data))
    }

    /// Of these, the ones of the type asked for.
    fn typed(&self, asked: &Name, kind: RecordType, data: Vec<RData>) -> Answer {
        let wanted = |data: &RData| kind == RecordType::ANY || data.record_type() == kind;
        let record = |data| Record::from_rdata(asked.clone(), TTL, data);
        let records: Vec<_> = data.into_iter().filter(wanted).take(MAX_RECORDS).map(record).collect();
        if records.is_empty() { Answer::NoData(self.soa()) } else { Answer::Records(records, Vec::new()) }
    }

    fn soa(&self) -> Record {
        let below = |label: &str| self.origin.prepend_label(label).unwrap_or_else(|_| self.origin.clone());
        let server = self.name_below(["ns", "dns"]).unwrap_or_else(|| self.origin.clone());
        let data = SOA::new(server, below("hostmaster"), 1, 7200, 1800, 86_400, TTL);
        Record::from_rdata(self.origin.clone(), TTL, RData::SOA(data))
    }

    fn name_below<const N: usize>(&self, labels: [&str; N]) -> Option<Name> {
        let own = self.domain.iter().map(String::as_str);
        name(&labels.into_iter().chain(own).collect::<Vec<_>>())
    }
}

fn addresses_of(names: &Names) -> Vec<RData> {
    match names {
        Names::Service { addresses, .. } => addresses.iter().map(|ip| address(*ip)).collect(),
        Names::Alias(_) | Names::Headless(_) => Vec::new(),
    }
}

/// Port name, protocol, number, and the host if each has its own.
fn targets(names: &Names) -> Box<dyn Iterator<Item = (&str, &'static str, u16, Option<&Host>)> + '_> {
    fn port<'a>(port: &'a (String, &'static str, u16)) -> (&'a str, &'static str, u16) {
        (port.0.as_str(), port.1, port.2)
    }
    match names {
        Names::Alias(_) => Box::new(core::iter::empty()),
        Names::Service { ports, .. } => {
            Box::new(ports.iter().map(port).map(|(name, protocol, port)| (name, protocol, port, None)))
        }
        Names::Headless(hosts) => Box::new(hosts.iter().flat_map(|host| {
            let ports = host.ports.iter().map(port);
            ports.map(move |(name, protocol, port)| (name, protocol, port, Some(host)))
        })),
    }
}

/// The endpoints that a headless Service names: those that are ready, or all if it says so.
fn hosts(service: &ServiceInput, endpoints: &[EndpointInput]) -> Vec<Host> {
    let mut hosts: BTreeMap<(IpAddr, String), Host> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|to| to.ready || service.publish_not_ready) {
        let label = match endpoint.hostname.as_deref() {
            Some(hostname) if !hostname.is_empty() => hostname.to_lowercase(),
            _ => dashed(endpoint.ip),
        };
        let host = hosts.entry((endpoint.ip, label.clone())).or_insert_with(|| Host {
            label,
            address: endpoint.ip,
            ports: Vec::new(),
        });
        for port in endpoint.ports.iter() {
            let port = (port.name.to_lowercase(), port.protocol.name(), port.port);
            if !host.ports.contains(&port) {
                host.ports.push(port);
            }
        }
    }
    hosts.into_values().collect()
}

fn name(labels: &[impl AsRef<str>]) -> Option<Name> {
    let mut name = Name::from_labels(labels.iter().map(|label| label.as_ref().as_bytes())).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Bytes that are no text cannot match anything, but are still below the domain they are below.
fn lowercase(label: &[u8]) -> String {
    String::from_utf8_lossy(label).to_ascii_lowercase()
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// `10-42-0-5`, `fd00-42--5`.
fn address_of(dashed: &str) -> Option<IpAddr> {
    let v4 = Ipv4Addr::from_str(&dashed.replace('-', ".")).map(IpAddr::V4);
    v4.or_else(|_| Ipv6Addr::from_str(&dashed.replace('-', ":")).map(IpAddr::V6)).ok()
}

/// The address of a name below `in-addr.arpa` or `ip6.arpa`.
fn reversed_address(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [octets @ .., "in-addr", "arpa"] if octets.len() == 4 => {
            let text: Vec<_> = octets.iter().rev().copied().collect();
            text.join(".").parse().ok().map(IpAddr::V4)
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut bits = 0u128;
            for nibble in nibbles.iter().rev() {
                let digit = (nibble.len() == 1).then(|| u128::from_str_radix(nibble, 16).ok())??;
                bits = bits << 4 | digit;
            }
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}
