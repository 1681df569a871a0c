//! An address prefix (CIDR), of either family. Pure.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An IP prefix. The bits beyond `length` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// What is wrong with the text of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a CIDR: write it as 10.42.0.0/16 or fd00:42::/48")]
pub struct PrefixError {
    text: String,
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`; `None` if the family has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(ip) if length <= 32 => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask4(length))),
            IpAddr::V6(ip) if length <= 128 => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask6(length))),
            _ => return None,
        };
        Some(Self { address, length })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits, 0..=32 or 0..=128.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is of the IPv6 family.
    pub fn is_v6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Prefix::new(ip, self.length).is_some_and(|other| other.address == self.address)
    }

    /// The address `offset` places after the first, if it is still within.
    pub fn nth(&self, offset: u64) -> Option<IpAddr> {
        let ip = match self.address {
            IpAddr::V4(ip) => {
                let offset = u32::try_from(offset).ok()?;
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().checked_add(offset)?))
            }
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().checked_add(u128::from(offset))?)),
        };
        self.contains(ip).then_some(ip)
    }

    /// How many addresses it holds, at most `u64::MAX`.
    pub fn size(&self) -> u64 {
        let bits = if self.is_v6() { 128 } else { 32 };
        1u64.checked_shl(u32::from(bits - self.length)).unwrap_or(u64::MAX)
    }
}

fn mask4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Prefix::new(address.parse().ok()?, length.parse().ok()?)
        };
        parse().ok_or_else(|| PrefixError { text: text.to_owned() })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_contains_and_counts() {
        let check = |text: &str, inside: &str, outside: &str, size: u64| {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), text);
            assert!(prefix.contains(inside.parse().unwrap()), "{text} holds {inside}");
            assert!(!prefix.contains(outside.parse().unwrap()), "{text} lacks {outside}");
            assert_eq!(prefix.size(), size);
        };
        check("10.42.0.0/24", "10.42.0.255", "10.42.1.0", 256);
        check("10.42.0.7/32", "10.42.0.7", "10.42.0.8", 1);
        check("0.0.0.0/0", "255.255.255.255", "::1", 1 << 32);
        check("fd00:42::/120", "fd00:42::ff", "fd00:42::100", 256);
        check("fd00::/8", "fdff::1", "fe00::", u64::MAX);
    }

    #[test]
    fn nth_stays_within() {
        let prefix: Prefix = "10.42.0.0/30".parse().unwrap();
        assert_eq!(prefix.nth(3), Some("10.42.0.3".parse().unwrap()));
        assert_eq!(prefix.nth(4), None);
    }

    #[test]
    fn refuses_what_is_no_cidr() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
