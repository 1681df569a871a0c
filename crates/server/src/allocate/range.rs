//! Ranges of addresses and ports, and the order in which free ones are tried. Pure.
//!
//! A range has two bands: what is asked for by name usually lies in the lower one, so
//! what is handed out comes from the upper one first (KEP-3070, KEP-3668). Where a
//! search starts follows from a seed, so that two servers rarely collide and a test
//! can foretell it; from there it goes on one by one, around the band.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::families::Family;

/// Candidates looked at in one search of addresses at most; a band is never larger.
const SEARCH: u128 = 1 << 20;

/// A CIDR that cluster IPs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    length: u8,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 30000, last: 32767 }
    }
}

// === impl AddressRange ===

impl AddressRange {
    /// Reads `10.96.0.0/16`; `None` unless it is a CIDR with room for two hosts. Host
    /// bits are dropped.
    pub fn parse(cidr: &str) -> Option<Self> {
        let (address, length) = cidr.split_once('/')?;
        let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length + 2 > bits {
            return None;
        }
        let range = Self { network: address, length };
        let mask = u128::MAX.checked_shl(u32::from(bits - length)).unwrap_or(0);
        Some(Self { network: range.at(number(address) & mask), ..range })
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        if self.network.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The first usable address: that of the `kubernetes` Service.
    pub fn first(&self) -> IpAddr {
        self.at(number(self.network) + 1)
    }

    /// Whether an address can be handed out: neither the network's own nor, of IPv4,
    /// the broadcast address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.bounds();
        address.is_ipv4() == self.network.is_ipv4() && (first..=last).contains(&number(address))
    }

    /// Addresses to try, best first.
    pub fn candidates(&self, seed: u64) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, last) = self.bounds();
        let range = *self;
        let middle = first + self.lower_band();
        around(middle, last, seed)
            .take(SEARCH as usize)
            .chain(around(first, middle.wrapping_sub(1), seed))
            .map(move |number| range.at(number))
    }

    fn bounds(&self) -> (u128, u128) {
        let network = number(self.network);
        let (bits, reserved) = if self.network.is_ipv4() { (32, 1) } else { (128, 0) };
        let size = 1u128.checked_shl(u32::from(bits - self.length)).unwrap_or(u128::MAX);
        (network + 1, network + (size - 1) - reserved)
    }

    /// Addresses of the lower band.
    fn lower_band(&self) -> u128 {
        let (first, last) = self.bounds();
        let size = last - first + 1 + if self.network.is_ipv4() { 2 } else { 1 };
        if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
    }

    fn at(&self, number: u128) -> IpAddr {
        match self.network {
            IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

// === impl PortRange ===

impl PortRange {
    /// Whether a port lies in it.
    pub fn contains(&self, port: i64) -> bool {
        (i64::from(self.first)..=i64::from(self.last)).contains(&port)
    }

    /// Ports to try, best first.
    pub fn candidates(&self, seed: u64) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = (u128::from(self.first), u128::from(self.last));
        let size = last - first + 1;
        let middle = first + if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        around(middle, last, seed).chain(around(first, middle.wrapping_sub(1), seed)).map(|port| port as u16)
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Every number of a band once, from a place that follows from the seed. A band whose
/// end lies before its start is empty.
fn around(first: u128, last: u128, seed: u64) -> impl Iterator<Item = u128> {
    let size = if last >= first && last != u128::MAX { last - first + 1 } else { 0 };
    let start = if size == 0 { 0 } else { u128::from(mix(seed)) % size };
    (0..size).map(move |step| first + (start + step) % size)
}

/// Spreads a seed (the finalizer of SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The seed of one Service's searches.
pub(super) fn seed(server: u64, uid: &str) -> u64 {
    uid.bytes().fold(mix(server), |seed, byte| mix(seed ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_as_upstream() {
        for (cidr, first, band, last) in [
            ("10.96.0.0/16", "10.96.0.1", 256, "10.96.255.254"),
            ("10.96.3.7/24", "10.96.3.1", 16, "10.96.3.254"),
            ("10.0.0.0/28", "10.0.0.1", 0, "10.0.0.14"),
            ("10.0.0.0/23", "10.0.0.1", 32, "10.0.1.254"),
            ("fd00::/112", "fd00::1", 256, "fd00::ffff"),
        ] {
            let range = AddressRange::parse(cidr).unwrap();
            assert_eq!((range.first().to_string(), range.lower_band()), (first.into(), band), "{cidr}");
            assert!(range.contains(last.parse().unwrap()), "{cidr}");
            assert!(!range.contains(range.network), "{cidr}");
        }
        let range = AddressRange::parse("10.96.0.0/16").unwrap();
        for (address, expect) in
            [("10.96.255.255", false), ("10.97.0.1", false), ("10.95.255.255", false), ("::1", false)]
        {
            assert_eq!(range.contains(address.parse().unwrap()), expect, "{address}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/31", "x/8", "fd00::/127", "10.0.0.0/33"] {
            assert_eq!(AddressRange::parse(bad), None, "{bad}");
        }
        assert_eq!(PortRange::default().to_string(), "30000-32767");
    }

    #[test]
    fn every_address_and_port_comes_once_upper_band_first() {
        let range = AddressRange::parse("10.0.0.0/23").unwrap();
        let all: Vec<IpAddr> = range.candidates(7).collect();
        assert_eq!(all.len(), 510);
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 510);
        let middle: IpAddr = [10, 0, 0, 33].into();
        assert!(all[..510 - 32].iter().all(|a| *a >= middle) && all[510 - 32..].iter().all(|a| *a < middle));
        assert_eq!(range.candidates(7).next(), range.candidates(7).next());
        let ports: Vec<u16> = PortRange::default().candidates(1).collect();
        assert_eq!((ports.len(), ports[..2768 - 86].iter().min()), (2768, Some(&30086)));
        assert_eq!(PortRange { first: 5, last: 5 }.candidates(3).collect::<Vec<_>>(), [5]);
    }
}
