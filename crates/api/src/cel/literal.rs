//! What literals are, and which of them are none although they are written like one.

use super::Type;
use super::lex::{Kind, Token};

/// The type of a literal, and what is wrong with it.
pub fn read(token: Token<'_>, negative: bool) -> (Type, Option<&'static str>) {
    let sign = if negative { "-" } else { "" };
    match token.kind {
        Kind::True | Kind::False => (Type::Bool, None),
        Kind::Null => (Type::Null, None),
        Kind::Float => {
            let fits = token.text.parse::<f64>().is_ok_and(f64::is_finite);
            (Type::Double, (!fits).then_some("invalid double literal"))
        }
        Kind::Int => {
            let fits = match token.text.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(&format!("{sign}{digits}"), 16).is_ok(),
                None => format!("{sign}{}", token.text).parse::<i64>().is_ok(),
            };
            (Type::Int, (!fits).then_some("invalid int literal"))
        }
        Kind::Uint => {
            let text = token.text.trim_end_matches(['u', 'U']);
            let fits = match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).is_ok(),
                None => text.parse::<u64>().is_ok(),
            };
            (Type::Uint, (!fits).then_some("invalid uint literal"))
        }
        Kind::Bytes => (Type::Bytes, unreadable(token.text)),
        _ => (Type::String, unreadable(token.text)),
    }
}

/// What is wrong with the escapes of a string or of bytes.
fn unreadable(text: &str) -> Option<&'static str> {
    let prefix = &text[..text.find(['"', '\'']).unwrap_or(0)];
    let bytes = prefix.contains(['b', 'B']);
    if prefix.contains(['r', 'R']) {
        return None;
    }
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at + 1..];
        let (start, length, radix) = match escape.as_bytes().first() {
            Some(b'u') => (1, 4, 16),
            Some(b'U') => (1, 8, 16),
            Some(b'0'..=b'3') => (0, 3, 8),
            _ => (0, 1, 0),
        };
        if radix == 16 && bytes {
            return Some("unable to unescape string");
        }
        if radix > 0 {
            let digits = escape.get(start..start + length).unwrap_or_default();
            let code = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
            if !bytes && char::from_u32(code).is_none() {
                return Some("invalid unicode code point");
            }
        }
        rest = escape.get(start + length..).unwrap_or_default();
    }
    None
}
