//! Which pod has which address: one small file an address, so that a crash at any moment
//! loses or invents nothing.
//!
//! A file `addresses/10.42.0.5` holds the pod's uid, and its IPv6 address on a second line.
//! It appears by rename, complete. Addresses are handed out in turn, so that one just freed
//! is reused last: old connections and caches must not meet a new pod.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{PodAddresses, PodNetworkError};
use crate::plan::Prefix;

/// The allocations of a node; the only owner of its directory.
#[derive(Debug)]
pub struct Addresses {
    directory: PathBuf,
    v4: Prefix,
    v6: Option<Prefix>,
    by_pod: BTreeMap<String, PodAddresses>,
    taken: BTreeSet<Ipv4Addr>,
    cursor: u64,
}

/// The first one is the network's, the second the gateway.
const FIRST: u64 = 2;

impl Addresses {
    /// Reads what is allocated. What cannot be read was never handed out, and goes.
    pub fn open(directory: &Path, cidrs: &[Prefix]) -> Result<Self, PodNetworkError> {
        let of = |v6: bool| cidrs.iter().find(|cidr| cidr.is_v6() == v6).copied();
        let v4 = of(false).filter(|cidr| cidr.size() >= 4).ok_or(PodNetworkError::NoPodCidr)?;
        let mut addresses = Self {
            directory: directory.to_owned(),
            v4,
            v6: of(true),
            by_pod: BTreeMap::new(),
            taken: BTreeSet::new(),
            cursor: FIRST,
        };
        let at = || format!("cannot read the addresses in {}", directory.display());
        fs::create_dir_all(directory).map_err(PodNetworkError::io(at()))?;
        for entry in fs::read_dir(directory).map_err(PodNetworkError::io(at()))? {
            let entry = entry.map_err(PodNetworkError::io(at()))?;
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            match parse(entry.file_name().to_str().unwrap_or_default(), &text) {
                Some((pod, pair)) => addresses.insert(pod, pair),
                None => {
                    fs::remove_file(entry.path()).map_err(PodNetworkError::io(at()))?;
                }
            }
        }
        Ok(addresses)
    }

    /// The gateway of pods: the first address of the IPv4 CIDR, and of the IPv6 one.
    pub fn gateways(&self) -> Vec<IpAddr> {
        [Some(self.v4), self.v6].into_iter().flatten().filter_map(|cidr| cidr.nth(1)).collect()
    }

    /// The pod's addresses: those it has, or new ones.
    pub fn allocate(&mut self, pod: &str) -> Result<PodAddresses, PodNetworkError> {
        if let Some(pair) = self.by_pod.get(pod) {
            return Ok(*pair);
        }
        // The last one is the broadcast address.
        let end = self.v4.size() - 1;
        let turn = (self.cursor..end).chain(FIRST..self.cursor.min(end));
        let free = turn.filter_map(|offset| match self.v4.nth(offset)? {
            IpAddr::V4(v4) if !self.taken.contains(&v4) => Some((offset, v4)),
            _ => None,
        });
        let Some((offset, v4)) = free.into_iter().next() else {
            return Err(PodNetworkError::Exhausted(self.v4));
        };
        let v6 = match self.v6.and_then(|cidr| cidr.nth(offset)) {
            Some(IpAddr::V6(v6)) => Some(v6),
            _ => None,
        };
        let pair = PodAddresses { v4, v6 };
        self.write(pod, pair).map_err(PodNetworkError::io(format!("cannot note that {v4} is taken")))?;
        self.cursor = offset + 1;
        self.insert(pod.to_owned(), pair);
        Ok(pair)
    }

    /// The addresses a pod has.
    pub fn get(&self, pod: &str) -> Option<PodAddresses> {
        self.by_pod.get(pod).copied()
    }

    /// Every pod that has any.
    pub fn pods(&self) -> Vec<String> {
        self.by_pod.keys().cloned().collect()
    }

    /// Frees a pod's addresses; whether it had any.
    pub fn release(&mut self, pod: &str) -> Result<bool, PodNetworkError> {
        let Some(pair) = self.by_pod.get(pod).copied() else { return Ok(false) };
        match fs::remove_file(self.directory.join(pair.v4.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PodNetworkError::io(format!("cannot free {}", pair.v4))(error));
            }
            _ => {}
        }
        self.by_pod.remove(pod);
        self.taken.remove(&pair.v4);
        Ok(true)
    }

    fn insert(&mut self, pod: String, pair: PodAddresses) {
        self.taken.insert(pair.v4);
        self.by_pod.insert(pod, pair);
    }

    fn write(&self, pod: &str, pair: PodAddresses) -> io::Result<()> {
        let v6 = pair.v6.map(|v6| format!("{v6}\n")).unwrap_or_default();
        // Not an address, so that a crash before the rename leaves nothing that counts.
        let draft = self.directory.join("draft");
        fs::write(&draft, format!("{pod}\n{v6}"))?;
        fs::rename(draft, self.directory.join(pair.v4.to_string()))
    }
}

fn parse(name: &str, text: &str) -> Option<(String, PodAddresses)> {
    let mut lines = text.lines();
    let pod = lines.next().filter(|pod| !pod.is_empty() && text.ends_with('\n'))?;
    let v6 = lines.next().map(str::parse).transpose().ok()?;
    Some((pod.to_owned(), PodAddresses { v4: name.parse().ok()?, v6 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Addresses {
        let cidrs = ["10.42.0.0/29".parse().unwrap(), "fd00:42::/64".parse().unwrap()];
        Addresses::open(directory, &cidrs).unwrap()
    }

    #[test]
    fn in_turn_until_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut addresses = open(directory.path());
        let mut take = |pod: &str| addresses.allocate(pod).map(|pair| pair.v4.octets()[3]);
        assert_eq!([take("a").unwrap(), take("b").unwrap(), take("a").unwrap()], [2, 3, 2]);
        assert_eq!([take("c").unwrap(), take("d").unwrap(), take("e").unwrap()], [4, 5, 6]);
        let error = take("f").unwrap_err().to_string();
        assert!(error.starts_with("no address is free in 10.42.0.0/29"), "{error}");
        assert!(addresses.release("b").unwrap());
        assert!(!addresses.release("b").unwrap());
        assert_eq!(addresses.allocate("f").unwrap().v4.octets()[3], 3);
        assert_eq!(addresses.gateways().len(), 2);
    }

    #[test]
    fn one_just_freed_is_reused_last() {
        let directory = tempfile::tempdir().unwrap();
        let mut addresses = open(directory.path());
        addresses.allocate("a").unwrap();
        addresses.release("a").unwrap();
        assert_eq!(addresses.allocate("b").unwrap().v4.octets()[3], 3);
    }

    #[test]
    fn a_restart_knows_them_and_drops_what_is_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let before = open(directory.path()).allocate("a").unwrap();
        assert_eq!(before.v6, Some("fd00:42::2".parse().unwrap()));
        fs::write(directory.path().join("10.42.0.3"), "cut").unwrap();
        fs::write(directory.path().join("draft"), "x\n").unwrap();
        let mut after = open(directory.path());
        assert_eq!(after.pods(), ["a"]);
        assert_eq!(after.get("a"), Some(before));
        assert_eq!(after.allocate("b").unwrap().v4.octets()[3], 3);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
