//! Errors about a field, as Kubernetes words them: `spec.replicas: Invalid value:
//! -1: must be greater than or equal to 0`. They accumulate in a list, so that a
//! user sees all of them at once. (Wording after apimachinery's `field` package.)

use std::fmt;

use serde_json::Value;

/// Why a field is refused. The text in `Status.details.causes[].reason` is
/// [`Kind::reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A needed value is missing.
    Required,
    /// The value breaks a rule.
    Invalid,
    /// The value must be unique and is not.
    Duplicate,
    /// The value is not one of those supported.
    NotSupported,
    /// The field may not be set here, or not be changed.
    Forbidden,
    /// A value that something refers to does not exist.
    NotFound,
    /// The string is too long.
    TooLong,
    /// The list is too long.
    TooMany,
    /// The JSON type is wrong.
    TypeInvalid,
    /// Something failed in checking.
    Internal,
}

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Why.
    pub kind: Kind,
    /// Path such as `spec.containers[0].ports[1].containerPort`.
    pub path: String,
    /// The message without the path: `Invalid value: 0: must be between 1 and 65535, inclusive`.
    pub message: String,
}

/// Accumulated field errors.
pub type Errors = Vec<Error>;

/// A path to a field, extended step by step and rendered only for an error.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

// === impl Kind ===

impl Kind {
    /// The machine-readable cause, such as `FieldValueInvalid`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
}

// === impl Error ===

impl Error {
    fn new(kind: Kind, path: &Path<'_>, message: String) -> Self {
        Self { kind, path: crate::go::echoed(&path.to_string()).into_owned(), message }
    }

    /// `Required value: detail`.
    pub fn required(path: &Path<'_>, detail: &str) -> Self {
        Self::new(Kind::Required, path, with_detail("Required value", detail))
    }

    /// `Invalid value: "x": detail`.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: &str) -> Self {
        let head = format!("Invalid value: {}", go_value(&value.into()));
        Self::new(Kind::Invalid, path, with_detail(&head, detail))
    }

    /// `Duplicate value: "x"`.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(Kind::Duplicate, path, format!("Duplicate value: {}", go_value(&value.into())))
    }

    /// `Unsupported value: "x": supported values: "a", "b"`; the values are sorted.
    pub fn not_supported<S: AsRef<str>>(path: &Path<'_>, value: impl Into<Value>, supported: &[S]) -> Self {
        let mut names: Vec<String> = supported.iter().map(|s| format!("{:?}", s.as_ref())).collect();
        names.sort();
        let head = format!("Unsupported value: {}", go_value(&value.into()));
        let detail =
            if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self::new(Kind::NotSupported, path, with_detail(&head, &detail))
    }

    /// As [`Error::not_supported`], with the values in the order that they are given in.
    pub fn unlisted(path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let head = format!("Unsupported value: {}", go_value(&value.into()));
        let detail = format!("supported values: {}", names.join(", "));
        Self::new(Kind::NotSupported, path, with_detail(&head, &detail))
    }

    /// `Forbidden: detail`.
    pub fn forbidden(path: &Path<'_>, detail: &str) -> Self {
        Self::new(Kind::Forbidden, path, with_detail("Forbidden", detail))
    }

    /// `Not found: "x"`.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(Kind::NotFound, path, format!("Not found: {}", go_value(&value.into())))
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        Self::new(Kind::TooLong, path, format!("Too long: may not be more than {max} bytes"))
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        Self::new(Kind::TooMany, path, format!("Too many: {actual}: must have at most {max} items"))
    }

    /// `Invalid value: "x": detail` for a wrong JSON type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: &str) -> Self {
        let head = format!("Invalid value: {}", go_value(&value.into()));
        Self::new(Kind::TypeInvalid, path, with_detail(&head, detail))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.to_owned() } else { format!("{head}: {detail}") }
}

/// A value as apimachinery prints it: strings quoted, scalars plain, the rest JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => crate::go::quoted(text),
        Value::Object(_) | Value::Array(_) => crate::go::echoed(&go_json(value)).into_owned(),
        other => other.to_string(),
    }
}

/// A value as Go's `encoding/json` writes it, which keeps it out of the way of HTML.
pub(crate) fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", letter as u32)),
            _ => out.push(letter),
        }
    }
    out
}

// === impl Path ===

impl<'a> Path<'a> {
    /// The empty path, from which all others grow.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// `self.name`.
    pub fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// `self[index]`.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// `self[key]`, an entry of a map.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => {
                let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
                if first { f.write_str(name) } else { write!(f, ".{name}") }
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_errors_as_kubernetes_does() {
        let spec = Path::ROOT.child("spec");
        let ports = spec.child("ports");
        let port = ports.index(1);
        let error = Error::invalid(&port.child("port"), 0, "must be between 1 and 65535, inclusive");
        assert_eq!(
            error.to_string(),
            "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive"
        );
        let error = Error::not_supported(&spec.child("type"), "x", &["NodePort", "ClusterIP"]);
        assert_eq!(
            error.to_string(),
            r#"spec.type: Unsupported value: "x": supported values: "ClusterIP", "NodePort""#
        );
        let error = Error::invalid(&spec.child("a"), "it's \"é\"\0\u{7f}\n\u{200b}", "");
        assert_eq!(error.message, r#"Invalid value: "it's \"é\"\x00\x7f\n\u200b""#);
        let labels = spec.child("labels");
        assert_eq!(Error::required(&labels.key("a/b"), "").to_string(), "spec.labels[a/b]: Required value");
    }
}
