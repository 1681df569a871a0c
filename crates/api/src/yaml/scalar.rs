//! What a scalar is by the rules of YAML 1.1, as go-yaml 2 resolves it.

use serde_json::{Number, Value};

use super::Error;

/// The value of a plain (unquoted, untagged) scalar.
pub(super) fn plain(text: &str) -> Result<Value, Error> {
    if let Some(value) = word(text) {
        return Ok(value);
    }
    match text.as_bytes().first() {
        Some(b'.' | b'-' | b'+') if infinite(text) => {
            Err(Error::NoJson(format!("json: unsupported value: {text}")))
        }
        Some(b'.') => Ok(float(text).unwrap_or_else(|| text.into())),
        Some(b'0'..=b'9' | b'-' | b'+') => Ok(number(text).unwrap_or_else(|| text.into())),
        _ => Ok(text.into()),
    }
}

fn word(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        _ => return None,
    })
}

fn infinite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

fn number(text: &str) -> Option<Value> {
    let plain = text.replace('_', "");
    if let Some(integer) = integer(&plain) {
        return Some(integer);
    }
    // Timestamps such as 2026-01-02 are no numbers either way.
    float(&plain)
}

/// Go's `ParseInt` with base 0: prefixes 0x, 0o, 0b, and a leading 0 for octal.
fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let prefix = digits.get(..2).unwrap_or_default();
    let (radix, digits) = match prefix {
        "0x" | "0X" => (16, &digits[2..]),
        "0o" | "0O" => (8, &digits[2..]),
        "0b" | "0B" => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        Ok(number) => Some(number.into()),
        Err(_) if sign.is_empty() => u64::from_str_radix(digits, radix).ok().map(Value::from),
        Err(_) => None,
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Value> {
    let shaped = |text: &str| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (number, exponent) = text.split_once(['e', 'E']).map_or((text, "0"), |(n, e)| (n, e));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        !exponent.is_empty()
            && digits(exponent)
            && digits(whole)
            && digits(fraction)
            && !(whole.is_empty() && fraction.is_empty())
    };
    if !shaped(text) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // Go writes a float without fraction as an integer.
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Some((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number)
}

/// A key as text: JSON has no other keys.
pub(super) fn key(value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null => Err(Error::NoJson("unsupported map key of type: %!s(<nil>), key: <nil>".into())),
        Value::Array(_) | Value::Object(_) => Err(Error::Refused("invalid map key")),
    }
}
