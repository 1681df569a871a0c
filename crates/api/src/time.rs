//! `metav1.Time` and `MicroTime` as text: read as Go reads RFC 3339, written in UTC
//! to the second or to the microsecond. Go's zero time (year 1) is null.

use std::borrow::Cow;

const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
/// 0001-01-01T00:00:00Z, which Go calls zero.
const ZERO: i64 = -62_135_596_800;

/// A text that is no RFC 3339 time; displays as Go's `time.Parse` words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// A `metav1.Time` in canonical form (`2026-01-02T03:04:05Z`); `None` for the zero time.
pub fn canonical(text: &str) -> Result<Option<Cow<'_, str>>, Error> {
    if is_canonical(text) && !text.starts_with("0001-01-01T00:00:00") {
        return Ok(Some(Cow::Borrowed(text)));
    }
    let (seconds, nanos) = parse(text, LAYOUT, false)?;
    Ok((seconds != ZERO || nanos != 0).then(|| Cow::Owned(from_unix(seconds))))
}

/// A `metav1.MicroTime` in canonical form (`2026-01-02T03:04:05.000006Z`); `None`
/// for the zero time. Six digits of fraction are required, as upstream does.
pub fn canonical_micro(text: &str) -> Result<Option<Cow<'_, str>>, Error> {
    let (seconds, nanos) = parse(text, MICRO_LAYOUT, true)?;
    Ok((seconds != ZERO || nanos != 0).then(|| Cow::Owned(micro_from_unix(seconds, nanos))))
}

/// Unix seconds and nanoseconds of an RFC 3339 text.
pub fn to_unix(text: &str) -> Option<(i64, u32)> {
    parse(text, LAYOUT, false).ok()
}

/// RFC 3339 to the second, in UTC. Clamped to the years 1 to 9999.
pub fn from_unix(seconds: i64) -> String {
    format!("{}Z", civil(seconds))
}

/// RFC 3339 to the microsecond, in UTC.
pub fn micro_from_unix(seconds: i64, nanos: u32) -> String {
    format!("{}.{:06}Z", civil(seconds), nanos / 1000)
}

/// Whether the Unix time is Go's zero time.
pub fn is_zero(seconds: i64) -> bool {
    seconds == ZERO
}

fn civil(seconds: i64) -> String {
    let seconds = seconds.clamp(ZERO, 253_402_300_799);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `dddd-dd-ddTdd:dd:ddZ` with each part in range.
fn is_canonical(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 20 || [4, 7, 10, 13, 16, 19].map(|at| bytes[at]) != *b"--T::Z" {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .try_fold(0i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    let parts = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].map(number);
    let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)] = parts else {
        return false;
    };
    (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
}

/// Reads piece by piece, so that an error can name the piece as Go does.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl<'a> Reader<'a> {
    fn refuse(&self, element: &str) -> Error {
        Error(format!(
            "parsing time {:?} as {:?}: cannot parse {:?} as {element:?}",
            self.text, self.layout, self.rest
        ))
    }

    fn out_of_range(&self, part: &str) -> Error {
        Error(format!("parsing time {:?}: {part} out of range", self.text))
    }

    fn number(&mut self, digits: usize, element: &str) -> Result<i64, Error> {
        let number = self.rest.get(..digits).filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        let number = number.ok_or_else(|| self.refuse(element))?;
        self.rest = &self.rest[digits..];
        Ok(number.parse().expect("at most four digits"))
    }

    fn literal(&mut self, literal: char) -> Result<(), Error> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.refuse(&literal.to_string()))?;
        Ok(())
    }

    fn fraction(&mut self, exactly_micro: bool) -> Result<u32, Error> {
        let digits =
            self.rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
        if exactly_micro && digits != 6 {
            return Err(self.refuse(".000000"));
        }
        if digits == 0 {
            return Ok(0);
        }
        let nanos = self.rest[1..=digits.min(9)].parse::<u32>().expect("at most nine digits");
        self.rest = &self.rest[digits + 1..];
        Ok(nanos * 10u32.pow(9 - digits.min(9) as u32))
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, Error> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let bytes = self.rest.as_bytes();
        let sign = match bytes.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.refuse("Z07:00")),
        };
        let shaped = bytes.len() >= 6
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|at: &usize| bytes[*at].is_ascii_digit());
        if !shaped {
            return Err(self.refuse("Z07:00"));
        }
        let two = |at: usize| i64::from(bytes[at] - b'0') * 10 + i64::from(bytes[at + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        if hours > 24 || minutes > 60 {
            let part = if hours > 24 { "time zone offset hour" } else { "time zone offset minute" };
            return Err(self.out_of_range(part));
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

fn parse(text: &str, layout: &'static str, exactly_micro: bool) -> Result<(i64, u32), Error> {
    let mut reader = Reader { text, rest: text, layout };
    let year = reader.number(4, "2006")?;
    reader.literal('-')?;
    let month = reader.number(2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(reader.out_of_range("month"));
    }
    reader.literal('-')?;
    let day = reader.number(2, "02")?;
    reader.literal('T')?;
    let hour = reader.number(2, "15")?;
    reader.literal(':')?;
    let minute = reader.number(2, "04")?;
    reader.literal(':')?;
    let second = reader.number(2, "05")?;
    for (value, limit, part) in [(hour, 24, "hour"), (minute, 60, "minute"), (second, 60, "second")] {
        if value >= limit {
            return Err(reader.out_of_range(part));
        }
    }
    let nanos = reader.fraction(exactly_micro)?;
    let offset = reader.offset()?;
    if !reader.rest.is_empty() {
        return Err(Error(format!("parsing time {text:?}: extra text: {:?}", reader.rest)));
    }
    if !(1..=days_in(year, month)).contains(&day) {
        return Err(reader.out_of_range("day"));
    }
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Ok((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let got = match canonical(text) {
            Ok(Some(time)) => time.into_owned(),
            Ok(None) => "null".into(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn canonicalises_as_go_does() {
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z");
        check("2026-01-02T03:04:05.999Z", "2026-01-02T03:04:05Z");
        check("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00Z");
        check("2024-02-29T23:59:59-00:30", "2024-03-01T00:29:59Z");
        check("0001-01-01T00:00:00Z", "null");
        check("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z");
        check("soon", r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#);
        check("2026-13-02T03:04:05Z", r#"parsing time "2026-13-02T03:04:05Z": month out of range"#);
        check("2026-02-29T03:04:05Z", r#"parsing time "2026-02-29T03:04:05Z": day out of range"#);
        check(
            "2026-01-02 03:04:05Z",
            r#"parsing time "2026-01-02 03:04:05Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 03:04:05Z" as "T""#,
        );
        check("2026-01-02T03:04:05Zé", r#"parsing time "2026-01-02T03:04:05Zé": extra text: "é""#);
    }

    #[test]
    fn micro_times() {
        let micro = |text| canonical_micro(text).map(|t| t.map(Cow::into_owned));
        assert_eq!(micro("2026-01-02T03:04:05.000006+00:00"), Ok(Some("2026-01-02T03:04:05.000006Z".into())));
        assert!(micro("2026-01-02T03:04:05Z").is_err());
        assert_eq!(to_unix("1970-01-01T00:00:01.5Z"), Some((1, 500_000_000)));
    }

    proptest::proptest! {
        #[test]
        fn round_trips(seconds in -62_135_596_799i64..253_402_300_800) {
            let text = from_unix(seconds);
            assert_eq!(to_unix(&text), Some((seconds, 0)));
            assert!(is_canonical(&text));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = (canonical(&text), canonical_micro(&text));
        }
    }
}
