//! How times, selectors and lists are written in a cell.

use jiff::Timestamp;
use serde_json::Value;

use crate::tree::{entries, items, text, texts};

/// What stands for no value.
pub const NONE: &str = "<none>";
/// What stands for a value that nobody set.
pub const UNSET: &str = "<unset>";
/// What stands for a value that nobody knows.
pub const UNKNOWN: &str = "<unknown>";

/// The text, or `instead` when it is empty.
pub fn or<'a>(text: &'a str, instead: &'a str) -> &'a str {
    if text.is_empty() { instead } else { text }
}

/// Time from an RFC 3339 timestamp to now.
pub fn since(timestamp: &str, now: Timestamp) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(then) => human_duration(now.as_nanosecond() - then.as_nanosecond()),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// A duration in nanoseconds as `kubectl get` shows it: `90s`, `5m30s`, `3h20m`, `4d`
/// (apimachinery's `HumanDuration`).
pub fn human_duration(nanoseconds: i128) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let two = |major: i128, unit: &str, minor: i128, smaller: &str| match minor {
        0 => format!("{major}{unit}"),
        _ => format!("{major}{unit}{minor}{smaller}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds.max(0) {
        s if s < 120 => format!("{s}s"),
        s if minutes < 10 => two(minutes, "m", s % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// Labels as `a=b,c=d`.
pub fn labels(object: &Value, field: &str) -> String {
    let all: Vec<String> =
        entries(object, field).map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    or(&all.join(","), NONE).to_owned()
}

/// A label selector as `a=b,c in (d,e),!f`, sorted by key; empty when it has no terms.
pub fn selector(selector: &Value) -> String {
    let labels = entries(selector, "matchLabels")
        .map(|(key, value)| (key, format!("{key}={}", value.as_str().unwrap_or_default())));
    let expressions = items(selector, "matchExpressions").iter().map(|term| {
        let key = text(term, "key");
        let mut values: Vec<&str> = texts(term, "values").collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match text(term, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        (key, text)
    });
    let mut terms: Vec<(&str, String)> = labels.chain(expressions).collect();
    terms.sort_by_key(|(key, _)| *key);
    terms.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The same, with a word for an empty one.
pub fn selector_or_none(object: &Value) -> String {
    or(&selector(object), NONE).to_owned()
}

/// Names and images of a pod template's containers.
pub fn containers(template: &Value) -> [Value; 2] {
    let all = items(&template["spec"], "containers");
    let join =
        |field: &str| all.iter().map(|container| text(container, field)).collect::<Vec<_>>().join(",").into();
    [join("name"), join("image")]
}

/// The first three, and how many more there are.
pub fn first_three(all: &[String], count: usize) -> String {
    let shown = all.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(",");
    if all.len() > 3 { format!("{shown} + {} more...", count - 3) } else { shown }
}

/// `IntOrString`, quantity or number as text.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `True`, `False` or unset.
pub fn boolean(value: Option<&Value>) -> &'static str {
    match value.and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => UNSET,
    }
}
