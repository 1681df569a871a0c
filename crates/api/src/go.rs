//! What Go's standard library says to texts that users write: numbers, durations and
//! quoted text, with its errors, which stand in upstream's answers.

use std::borrow::Cow;

/// How much of a text an error repeats, in bytes. No valid name or value of a single line
/// is as long; what is longer is cut, so that no answer outweighs what it refuses.
const MAX_ECHO: usize = 16 * 1024;

/// A text as an error repeats it: cut at [`MAX_ECHO`], which `…` shows.
pub fn echoed(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_ECHO {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(MAX_ECHO)]))
}

/// A text in quotes as Go's `%q` shows it, cut as [`echoed`] does.
pub fn quoted(text: &str) -> String {
    let text = echoed(text);
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            // What Rust's Debug escapes is what does not print.
            c if c.escape_debug().len() > 1 && c != '\'' => {
                let code = c as u32;
                out.push_str(&if code < 0x1_0000 {
                    format!("\\u{code:04x}")
                } else {
                    format!("\\U{code:08x}")
                });
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `strconv.Atoi`.
///
/// # Errors
/// Its error.
pub fn atoi(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let why = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "invalid syntax"
    } else {
        match text.parse() {
            Ok(number) => return Ok(number),
            Err(_) => "value out of range",
        }
    };
    Err(format!("strconv.Atoi: parsing {}: {why}", quoted(text)))
}

/// `time.ParseDuration`, in nanoseconds.
///
/// # Errors
/// Its error.
pub fn duration(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole_end = digits(rest);
        let whole =
            if whole_end == 0 { 0 } else { rest[..whole_end].parse::<u64>().map_err(|_| invalid())? };
        let mut end = whole_end;
        let mut fraction = "";
        if rest[end..].starts_with('.') {
            let count = digits(&rest[end + 1..]);
            fraction = &rest[end + 1..end + 1 + count];
            end += 1 + count;
        }
        if whole_end == 0 && fraction.is_empty() {
            return Err(invalid());
        }
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..unit_end];
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text)));
        };
        let mut part = whole.checked_mul(*nanos).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            let fraction: f64 = format!("0.{fraction}").parse().unwrap_or(0.0);
            part += (fraction * *nanos as f64) as u64;
        }
        total = total.checked_add(part).filter(|total| *total <= 1 << 63).ok_or_else(invalid)?;
        rest = &rest[unit_end..];
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(total)) => Ok(-total),
        (true, Err(_)) => Ok(i64::MIN),
        (false, total) => total.map_err(|_| invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_what_no_error_should_repeat() {
        let longest = "é".repeat(MAX_ECHO / 2);
        assert_eq!(quoted(&longest), format!("\"{longest}\""));
        assert_eq!(quoted(&format!("{longest}a")), format!("\"{longest}…\""));
        assert_eq!(echoed(&format!("a{longest}")), format!("a{}…", "é".repeat(MAX_ECHO / 2 - 1)));
    }

    #[test]
    fn durations() {
        for (text, expect) in [
            ("1h30m", Ok(5_400_000_000_000)),
            ("-1.5s", Ok(-1_500_000_000)),
            ("0", Ok(0)),
            ("1", Err("time: missing unit in duration \"1\"")),
            ("1y", Err("time: unknown unit \"y\" in duration \"1y\"")),
            ("", Err("time: invalid duration \"\"")),
            (".s", Err("time: invalid duration \".s\"")),
        ] {
            assert_eq!(duration(text), expect.map_err(str::to_owned), "{text}");
        }
        assert_eq!(atoi("+5"), Ok(5));
        assert!(atoi("99999999999999999999").unwrap_err().ends_with("value out of range"));
    }
}
