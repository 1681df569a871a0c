//! Types, texts, formats, numbers and enumerations.

use serde_json::{Number, Value};

use super::super::formats;
use super::super::props::Props;
use super::result::Outcome;

/// The format that is looked at: one that upstream supports for the type.
pub(super) fn format(props: &Props) -> Option<&str> {
    let format = &*props.format;
    let ty = if props.int_or_string { "" } else { &*props.ty };
    (!format.is_empty() && formats::is_known(ty, format)).then_some(format)
}

/// The types that a schema allows, in upstream's words.
fn allowed(props: &Props) -> (&str, [&str; 2]) {
    if props.int_or_string { ("integer,string", ["integer", "string"]) } else { (&props.ty, [&props.ty, ""]) }
}

pub(super) fn ty(value: &Value, props: &Props, path: &str) -> Outcome {
    let mut outcome = Outcome::passed();
    let (name, types) = allowed(props);
    let has = |ty: &str| types.contains(&ty);
    let mut wrong = |expected: &str, found: &str| {
        let message = format!("{path} in body must be of type {expected}: {found:?}");
        outcome.wrong_type(path, found.into(), message);
    };
    let (ty, native) = match value {
        Value::Null => {
            if !name.is_empty() && !has("null") && !props.nullable {
                wrong(name, "null");
            }
            return outcome;
        }
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Number(number) if number.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    };
    let integer_as_number = ty == "integer" && has("number");
    let texts = matches!(value, Value::String(_) | Value::Array(_));
    if let Some(format) = format(props) {
        if !(texts || has(ty) || native == format || integer_as_number) {
            wrong(format, native);
            return outcome;
        }
        if texts && !has("number") && !has("integer") {
            return outcome;
        }
    }
    if !has(ty) && !integer_as_number && !name.is_empty() {
        wrong(name, ty);
    }
    outcome
}

pub(super) fn text(text: &str, props: &Props, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let length = || text.chars().count() as i64;
    let shown = || Value::from(text);
    if let Some(most) = props.max_length.filter(|most| length() > *most) {
        outcome.too_long(path, most);
    } else if let Some(least) = props.min_length.filter(|least| length() < *least) {
        let message = format!("{path} in body should be at least {least} chars long");
        outcome.invalid(path, shown(), message);
    } else if !props.pattern.text.is_empty() && props.pattern.matches(text) != Some(true) {
        let message = format!("{path} in body should match '{}'", props.pattern.text);
        outcome.invalid(path, shown(), message);
    }
    outcome
}

pub(super) fn format_of(text: &str, format: &str, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    if !formats::matches(format, text) {
        outcome.wrong_type(path, text.into(), format!("{path} in body must be of type {format}: {text:?}"));
    }
    outcome
}

pub(super) fn enumeration(value: &Value, props: &Props, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let same = |allowed: &&Value| match (value, allowed) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == *b && !a.is_null(),
    };
    if !props.allowed.is_empty() && !props.allowed.iter().any(|allowed| same(&allowed)) {
        outcome.not_supported(path, value, &props.allowed);
    }
    outcome
}

pub(super) fn number(number: &Number, props: &Props, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let ty = if props.int_or_string { "" } else { &*props.ty };
    let range = Range { ty, format: format(props), path };
    let value = number.as_f64().unwrap_or_default();
    range.check(number, "Checked", &mut outcome);
    let bound = |bound: f64| Number::from_f64(bound).map(whole);
    if let Some(factor) = props.multiple_of {
        let fits = bound(factor).is_some_and(|factor| range.check(&factor, "MultipleOf", &mut outcome));
        multiple_of(number, factor, fits, path, &mut outcome);
    }
    let limits = [
        (props.minimum, props.exclusive_minimum, "Minimum boundary", false),
        (props.maximum, props.exclusive_maximum, "Maximum boundary", true),
    ];
    for (limit, exclusive, what, upper) in limits {
        let Some(limit) = limit else { continue };
        let fits = bound(limit).is_some_and(|limit| range.check(&limit, what, &mut outcome));
        // Whole numbers are compared as such, with the limit cut to one.
        let (beyond, at, shown) = match number.as_i64().filter(|_| fits) {
            Some(value) => {
                let limit = limit as i64;
                (if upper { value > limit } else { value < limit }, value == limit, limit.to_string())
            }
            None => (if upper { value > limit } else { value < limit }, value == limit, go_float(limit)),
        };
        if beyond || (exclusive && at) {
            let than = match (upper, exclusive) {
                (true, false) => "less than or equal to",
                (true, true) => "less than",
                (false, false) => "greater than or equal to",
                (false, true) => "greater than",
            };
            let message = format!("{path} in body should be {than} {shown}");
            outcome.invalid(path, Value::Number(number.clone()), message);
        }
    }
    outcome.matched += 1;
    outcome
}

fn multiple_of(number: &Number, factor: f64, fits: bool, path: &str, outcome: &mut Outcome) {
    let integer = number.as_i64().filter(|_| fits);
    let shown = if integer.is_some() { (factor as i64).to_string() } else { go_float(factor) };
    let positive = if integer.is_some() { factor as i64 > 0 } else { factor > 0.0 };
    if !positive {
        let message = format!("factor MultipleOf declared for {path} must be positive: {shown}");
        let value = match integer {
            Some(_) => (factor as i64).into(),
            None => factor.into(),
        };
        outcome.invalid(path, value, message);
        return;
    }
    let is_multiple = match integer {
        Some(value) => value % (factor as i64) == 0,
        None => {
            let value = number.as_f64().unwrap_or_default();
            let times = if factor < 1.0 { 1.0 / factor * value } else { value / factor };
            is_whole(times)
        }
    };
    if !is_multiple {
        let message = format!("{path} in body should be a multiple of {shown}");
        outcome.invalid(path, Value::Number(number.clone()), message);
    }
}

/// Whether a float is a whole number, as `swag.IsFloat64AJSONInteger` sees it.
fn is_whole(value: f64) -> bool {
    const EPSILON: f64 = 1e-9;
    if !value.is_finite() || value.abs() > 9_007_199_254_740_991.0 {
        return false;
    }
    let (whole, difference) = (value.trunc(), (value - value.trunc()).abs());
    if value == whole {
        return true;
    }
    if value == 0.0 || whole == 0.0 || difference < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / (value.abs() + whole.abs()).min(f64::MAX) < EPSILON
}

fn whole(number: Number) -> Number {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 9.2e18 => Number::from(float as i64),
        _ => number,
    }
}

/// What numbers of a type and format may be.
struct Range<'a> {
    ty: &'a str,
    format: Option<&'a str>,
    path: &'a str,
}

impl Range<'_> {
    fn check(&self, number: &Number, what: &str, outcome: &mut Outcome) -> bool {
        let fits = match (self.ty, self.format) {
            ("integer", Some("int32")) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            ("integer", _) => number.is_i64(),
            ("number", Some("float")) => {
                number.as_f64().is_some_and(|float| float.abs() <= f64::from(f32::MAX))
            }
            _ => true,
        };
        if !fits {
            let (ty, path) = (self.ty, self.path);
            outcome.plain(match self.format {
                Some(format) => format!("{what} value must be of type {ty} with format {format} in {path}"),
                None => format!("{what} value must be of type {ty} (default format) in {path}"),
            });
        }
        fits
    }
}

/// A float as Go's `%v` shows it.
fn go_float(value: f64) -> String {
    let magnitude = value.abs();
    if value != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value}")
}
