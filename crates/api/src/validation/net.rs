//! Rules of addresses and networks, strict as v1.36 is: no leading zeros, no
//! IPv4 mapped into IPv6.

use std::net::{IpAddr, Ipv4Addr};

use super::names::Messages;
use crate::field::{Error, Errors, Path};

/// An address in canonical form; the sentences for a new field (and a name).
pub fn ip_messages(value: &str) -> Messages {
    match legacy_ip_messages(value) {
        messages if !messages.is_empty() => messages,
        _ => match value.parse::<IpAddr>() {
            Ok(address) if address.to_string() != value => {
                vec![format!("must be in canonical form ({:?})", address.to_string())]
            }
            _ => Messages::new(),
        },
    }
}

/// An address, in whatever form of IPv6 (fields that are older than the strict rule).
pub fn legacy_ip_messages(value: &str) -> Messages {
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(_) => Messages::new(),
        Err(_) if sloppy_v4(value).is_some() => vec!["must not have leading 0s".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Dotted quad with leading zeros, as older versions took it.
fn sloppy_v4(value: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = value.split('.').collect();
    let [a, b, c, d] = parts[..] else { return None };
    let octet = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse::<u8>().ok() } else { None }
    };
    Some(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?))
}

/// An address as older versions took it, leading zeros and all.
pub fn sloppy_ip(value: &str) -> Option<IpAddr> {
    value.parse().ok().or_else(|| sloppy_v4(value).map(IpAddr::V4))
}

/// An address of a field older than the strict rule.
pub fn legacy_ip(errors: &mut Errors, path: &Path<'_>, value: &str) {
    super::rules::invalid_each(errors, path, value, legacy_ip_messages(value));
}

/// An address in canonical form.
pub fn ip(errors: &mut Errors, path: &Path<'_>, value: &str) {
    super::rules::invalid_each(errors, path, value, ip_messages(value));
}

/// Network and prefix length of `10.0.0.0/8`.
pub fn parse_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) || length.len() > 3 {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    (length <= max).then_some((address, length))
}

/// The address with all host bits zero.
pub fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// A network in canonical form, host bits zero.
pub fn cidr(errors: &mut Errors, path: &Path<'_>, value: &str) {
    let Some((address, length)) = parse_cidr(value) else {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(Error::invalid(path, value, detail));
        return;
    };
    let network = masked(address, length);
    let canonical = format!("{network}/{length}");
    if network != address {
        errors.push(Error::invalid(path, value, "must not have bits set beyond the prefix length"));
    } else if canonical != value {
        errors.push(Error::invalid(path, value, &format!("must be in canonical form ({canonical:?})")));
    }
}

/// A network of a field older than the strict rule.
pub fn legacy_cidr(errors: &mut Errors, path: &Path<'_>, value: &str) {
    match parse_cidr(value) {
        None => {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(Error::invalid(path, value, detail));
        }
        Some((address, length)) if masked(address, length) != address => {
            errors.push(Error::invalid(path, value, "must not have bits set beyond the prefix length"));
        }
        Some(_) => {}
    }
}

/// An address that an endpoint may have.
pub fn endpoint_ip(errors: &mut Errors, path: &Path<'_>, value: &str) {
    let Ok(address) = value.parse::<IpAddr>() else {
        errors.push(Error::invalid(path, value, "must be a valid IP address"));
        return;
    };
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let unspecified = format!("may not be unspecified ({value})");
    for (refused, detail) in [
        (address.is_unspecified(), unspecified.as_str()),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if refused {
            errors.push(Error::invalid(path, value, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (value, expect) in [
            ("10.0.0.1", ""),
            ("2001:db8::1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
            ("2001:DB8::1", "must be in canonical form (\"2001:db8::1\")"),
            ("x", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ] {
            assert_eq!(ip_messages(value).join(""), expect, "{value}");
        }
    }

    #[test]
    fn networks() {
        for (value, expect) in [
            ("10.0.0.0/8", ""),
            ("0.0.0.0/0", ""),
            ("2001:db8::/32", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ] {
            let mut errors = Errors::new();
            cidr(&mut errors, &Path::ROOT.child("c"), value);
            let text: String = errors.iter().map(|e| e.message.clone()).collect();
            assert!(text.ends_with(expect) && text.is_empty() == expect.is_empty(), "{value}: {text}");
        }
    }
}
