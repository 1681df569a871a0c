//! Which policy a namespace's labels ask for. Pure.

use std::fmt;

use carrack_api::field::{Error, Errors, Path};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict, the least strict first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The rules as of a minor version of Kubernetes; none is the latest.
pub(super) type Version = Option<u32>;

/// A level in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What a namespace enforces and warns of. (Audit annotations are not kept.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) warn: Standard,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// Reads a namespace's labels. There is a policy even where they are wrong: what cannot
/// be read is enforced strictly and warned of not at all.
pub(super) fn policy<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Policy, Errors) {
    let lax = Standard { level: Level::Privileged, version: None };
    let mut policy = Policy { enforce: lax, warn: lax };
    let mut errors = Vec::new();
    let mut read_level = |mode: &str| {
        let key = format!("{PREFIX}{mode}");
        let text = label(&key)?;
        let level = match text {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            _ => {
                errors.push((key, text, "must be one of privileged, baseline, restricted"));
                return Some(None);
            }
        };
        Some(Some(level))
    };
    let (enforce, audit, warn) = (read_level("enforce"), read_level("audit"), read_level("warn"));
    let mut version_errors = Vec::new();
    let mut read_version = |mode: &str| {
        let key = format!("{PREFIX}{mode}-version");
        let text = label(&key)?;
        let version = parse_version(text);
        if version.is_none() {
            version_errors.push((key, text, r#"must be "latest" or "v1.x""#));
        }
        Some(version.flatten())
    };
    let (enforce_version, _, warn_version) =
        (read_version("enforce"), read_version("audit"), read_version("warn"));
    let _ = audit;
    if let Some(level) = enforce {
        policy.enforce.level = level.unwrap_or(Level::Restricted);
    }
    policy.enforce.version = enforce_version.flatten();
    if let Some(level) = warn {
        policy.warn.level = level.unwrap_or(Level::Privileged);
    }
    policy.warn.version = warn_version.flatten();
    if let (Some(Some(level)), None) = (enforce, warn)
        && level > policy.warn.level
    {
        policy.warn.level = level;
        if warn_version.is_none() {
            policy.warn.version = policy.enforce.version;
        }
    }
    errors.extend(version_errors);
    // In the order in which upstream reads them: mode by mode.
    let rank = |key: &str| {
        ["enforce", "audit", "warn"].iter().position(|mode| key[PREFIX.len()..].starts_with(mode))
    };
    errors.sort_by_key(|(key, ..)| (rank(key), key.len()));
    let labels = Path::ROOT.child("metadata");
    let labels = labels.child("labels");
    let errors =
        errors.into_iter().map(|(key, text, detail)| Error::invalid(&labels.key(&key), text, detail));
    (policy, errors.collect())
}

/// `latest` or `v1.x`; the outer `None` is neither.
fn parse_version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let canonical = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
    if canonical { minor.parse().ok().map(Some) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_is_enforced_and_warned_of() {
        let check = |labels: &[(&str, &str)], enforce: &str, warn: &str, errors: &[&str]| {
            let find =
                |key: &str| labels.iter().find(|(own, _)| key == format!("{PREFIX}{own}")).map(|l| l.1);
            let (policy, found) = policy(find);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!((policy.enforce.to_string(), policy.warn.to_string()), (enforce.into(), warn.into()));
            assert_eq!(found, errors, "{labels:?}");
        };
        check(&[], "privileged:latest", "privileged:latest", &[]);
        check(&[("enforce", "baseline")], "baseline:latest", "baseline:latest", &[]);
        check(
            &[("enforce", "restricted"), ("enforce-version", "v1.24")],
            "restricted:v1.24",
            "restricted:v1.24",
            &[],
        );
        check(
            &[("enforce", "baseline"), ("warn", "restricted")],
            "baseline:latest",
            "restricted:latest",
            &[],
        );
        check(
            &[("enforce", "high"), ("warn-version", "v01"), ("enforce-version", "1")],
            "restricted:latest",
            "privileged:latest",
            &[
                r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "high": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "1": must be "latest" or "v1.x""#,
                r#"metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v01": must be "latest" or "v1.x""#,
            ],
        );
    }
}
