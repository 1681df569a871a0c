//! Names of time zones. Which exist is what the bundled IANA database knows.

use serde_json::Value;

use crate::cron::location;
use crate::field::{Error, Errors, Path};

/// `spec.timeZone`.
pub fn check(zone: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let Some(zone) = zone.and_then(Value::as_str) else { return };
    if zone.is_empty() {
        errors.push(Error::invalid(path, zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let character = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let sane = |part: &str| {
        !matches!(part, "." | ".." | "")
            && !part.starts_with('-')
            && part.len() <= 14
            && part.bytes().all(character)
    };
    if !zone.split('/').all(sane) {
        errors.push(Error::invalid(path, zone, &format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(path, zone, detail));
    }
    if let Err(detail) = location(zone) {
        errors.push(Error::invalid(path, zone, &detail));
    }
}
