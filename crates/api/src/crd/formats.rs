//! Formats of texts and numbers: which ones are looked at, and what they ask for.
//!
//! (After kube-openapi's `strfmt` and apiextensions' list of supported formats.)

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use jiff::civil::Date;
use regex::Regex;

use crate::validation::names;

/// Formats of texts, without dashes.
const TEXTS: [&str; 26] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Whether a format is looked at for values of a type (empty: of no type, or of two).
pub fn is_known(ty: &str, format: &str) -> bool {
    match ty {
        "" | "string" => TEXTS.contains(&&*normalized(format)),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn normalized(format: &str) -> String {
    format.replace('-', "")
}

/// Whether a text has a format; every text has one that is not known.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match &*normalized(format) {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "byte" => is(text, &BASE64),
        "cidr" => is_cidr(text),
        "creditcard" => is_credit_card(text),
        "date" => text.len() == 10 && text.parse::<Date>().is_ok(),
        "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "email" => is_email(text),
        "hexcolor" => is(text, &HEX_COLOR),
        "hostname" => is_hostname(text),
        "ipv4" => sloppy_ipv4(text).is_some(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "k8slongname" => names::dns_subdomain(text).is_empty(),
        "k8sshortname" => names::dns_label(text).is_empty(),
        "mac" => is_mac(text),
        "rgbcolor" => is(text, &RGB_COLOR),
        "ssn" => is(text, &SSN),
        "uri" => is_uri(text),
        "uuid" => is_uuid(text, None, false),
        "uuid3" => is_uuid(text, Some('3'), false),
        "uuid4" => is_uuid(text, Some('4'), true),
        "uuid5" => is_uuid(text, Some('5'), true),
        _ => true,
    }
}

type Lazy = LazyLock<Regex>;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns here are constant")
}

static BASE64: Lazy = LazyLock::new(|| {
    pattern(
        "^(?:[A-Za-z0-9+\\\\/]{4})*(?:[A-Za-z0-9+\\\\/]{2}==|[A-Za-z0-9+\\\\/]{3}=|[A-Za-z0-9+\\\\/]{4})$",
    )
});
static HEX_COLOR: Lazy = LazyLock::new(|| pattern("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static RGB_COLOR: Lazy = LazyLock::new(|| {
    let byte = "\\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\\s*";
    pattern(&format!("^rgb\\({byte},{byte},{byte}\\)$"))
});
static SSN: Lazy = LazyLock::new(|| pattern("^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
static CREDIT_CARD: Lazy = LazyLock::new(|| {
    pattern(
        "^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)\
         [0-9]{12}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|\
         (?:2131|1800|35[0-9]{3})[0-9]{11}|6[27][0-9]{14}|^(81[0-9]{14,17}))$",
    )
});
static HOSTNAME: Lazy = LazyLock::new(|| {
    pattern(
        "^([a-zA-Z0-9\\p{S}\\p{L}]((-?[a-zA-Z0-9\\p{S}\\p{L}]{0,62})?)|([a-zA-Z0-9\\p{S}\\p{L}]\
         (([a-zA-Z0-9-\\p{S}\\p{L}]{0,61}[a-zA-Z0-9\\p{S}\\p{L}])?)(\\.)){1,}([a-zA-Z\\p{L}]){2,63})$",
    )
});

fn is(text: &str, pattern: &Regex) -> bool {
    pattern.is_match(text)
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 255 && is(text, &HOSTNAME) && text.split('.').all(|part| part.len() <= 63)
}

/// IPv4 with leading zeros, as Go once read it.
fn sloppy_ipv4(text: &str) -> Option<Ipv4Addr> {
    let byte = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let number = part.trim_start_matches('0');
        if !digits {
            return None;
        }
        if number.is_empty() { Some(0) } else { number.parse::<u8>().ok() }
    };
    let bytes: Vec<u8> = text.split('.').map(byte).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = if sloppy_ipv4(address).is_some() {
        32
    } else if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    bits.bytes().all(|b| b.is_ascii_digit())
        && bits.len() <= 3
        && bits.parse().is_ok_and(|bits: u32| bits <= most)
}

/// `net.ParseMAC`: 6, 8 or 20 bytes, by colons, dashes or in groups of four by dots.
fn is_mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    let by = |separator: char, length: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, length))
    };
    by(':', 2, [6, 8, 20]) || by('-', 2, [6, 8, 20]) || by('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>, variant: bool) -> bool {
    let mut letters = text.chars();
    let mut digits = Vec::with_capacity(32);
    for length in [8, 4, 4, 4, 12] {
        if !digits.is_empty() && letters.as_str().starts_with('-') {
            letters.next();
        }
        for _ in 0..length {
            match letters.next().filter(char::is_ascii_hexdigit) {
                Some(digit) => digits.push(digit.to_ascii_lowercase()),
                None => return false,
            }
        }
    }
    letters.next().is_none()
        && version.is_none_or(|version| digits[12] == version)
        && (!variant || matches!(digits[16], '8' | '9' | 'a' | 'b'))
}

fn is_isbn10(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |(at, digit): (usize, &char)| match digit {
        'X' if at == 9 => Some(10),
        digit => digit.to_digit(10),
    };
    let sum = digits.iter().enumerate().map(|(at, digit)| Some((10 - at as u32) * value((at, digit))?));
    digits.len() == 10 && sum.sum::<Option<u32>>().is_some_and(|sum| sum % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let sum = digits.iter().enumerate().map(|(at, digit)| Some(digit.to_digit(10)? * [1, 3][at % 2]));
    digits.len() == 13 && sum.sum::<Option<u32>>().is_some_and(|sum| sum % 10 == 0)
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |(at, digit): (usize, u8)| {
        let value = u32::from(digit - b'0') * if at % 2 == 1 { 2 } else { 1 };
        if value > 9 { value - 9 } else { value }
    };
    is(&digits, &CREDIT_CARD) && digits.bytes().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// RFC 3339 with `T` and a fraction of any length.
fn is_date_time(text: &str) -> bool {
    static SHAPE: Lazy = LazyLock::new(|| {
        pattern(
            "(?i)^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$",
        )
    });
    let in_range = |at: usize, most: u32| text[at..at + 2].parse().is_ok_and(|part: u32| part <= most);
    is(text, &SHAPE)
        && text[..10].parse::<Date>().is_ok()
        && in_range(11, 23)
        && in_range(14, 59)
        && in_range(17, 59)
}

/// `time.ParseDuration`, or a number and a unit in words.
fn is_duration(text: &str) -> bool {
    static GO: Lazy =
        LazyLock::new(|| pattern("^[-+]?(0|(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"));
    static WORDS: Lazy = LazyLock::new(|| {
        pattern(
            "^\\s*([0-9]+)\\s*(ns|nanos?|nanoseconds?|us|µs|μs|micros?|microseconds?|ms|millis?|milliseconds?|\
             s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?)",
        )
    });
    is(text, &GO) || is(&text.to_lowercase(), &WORDS)
}

/// An address, alone or in angle brackets behind a name.
fn is_email(text: &str) -> bool {
    static ADDRESS: Lazy = LazyLock::new(|| {
        let atom = "[^\\s()<>\\[\\]:;@\\\\,.\"]+";
        pattern(&format!("^({atom}(\\.{atom})*|\"[^\"\\\\]*\")@({atom}(\\.{atom})*|\\[[^\\]\\s]+\\])$"))
    });
    let text = text.trim();
    match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((_, address)) => is(address, &ADDRESS),
        None => is(text, &ADDRESS),
    }
}

/// `url.ParseRequestURI`: a path from the root, or something with a scheme.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text.starts_with('/') {
        return escapes_are_whole(text);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    let valid = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
        && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let host = rest.strip_prefix("//").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    valid && host.is_none_or(|host| !host.contains([' ', '<', '>', '"'])) && escapes_are_whole(rest)
}

fn escapes_are_whole(text: &str) -> bool {
    let path = text.split('?').next().unwrap_or_default();
    path.split('%').skip(1).all(|part| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_formats() {
        for (format, good, bad) in [
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-01-01T10:20:30.5Z", "2026-01-01 10:20:30Z"),
            ("datetime", "2026-01-01T10:20:30+02:00", "2026-01-01T25:20:30Z"),
            ("duration", "1h30m", "one"),
            ("duration", "22 ns", "22 xs"),
            ("email", "a.b@example.com", "a@b@c"),
            ("hostname", "www.example.com", "-a.example.com"),
            ("ipv4", "10.0.0.010", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11:22:33:44"),
            ("uuid", "0d6c2a9d-0a4e-4f3e-8f1e-1a2b3c4d5e6f", "0d6c2a9d-0a4e-4f3e-8f1e-1a2b3c4d5e6"),
            ("uuid4", "0d6c2a9d-0a4e-4f3e-8f1e-1a2b3c4d5e6f", "0d6c2a9d-0a4e-3f3e-8f1e-1a2b3c4d5e6f"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "123-45-6789", "123-45-678"),
            ("hexcolor", "#FFF", "#FFFF"),
            ("rgbcolor", "rgb(1,2,3)", "rgb(1,2,256)"),
            ("byte", "YWJj", "YWJ"),
            ("uri", "https://example.com/a", "example"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
            ("k8s-short-name", "web", "Web"),
            ("k8s-long-name", "web.example.com", "web_"),
        ] {
            assert!(is_known("string", format), "{format}");
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(matches("nothing", "x") && !is_known("string", "nothing"));
        assert!(is_known("integer", "int32") && !is_known("string", "int32") && !is_known("boolean", "date"));
    }
}
