//! Label selectors: the string form of queries and the object form of specs.

use std::fmt;

use serde_json::Value;

use super::Error;
use crate::field::{self, Errors, Path};
use crate::record::Header;
use crate::validation::names;

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
        let mut requirements = super::parse::requirements(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }

    /// Reads a `metav1.LabelSelector`. Null selects nothing, an empty one everything.
    pub fn from_value(selector: &Value) -> Result<Self, Error> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        Ok(Self { requirements: Some(super::object::requirements(selector)?) })
    }

    /// Reads a plain map of labels, as a Service or ReplicationController has. An
    /// empty or absent one selects everything; mind that such a Service selects
    /// nothing.
    pub fn from_map(map: &Value) -> Self {
        let entries = map.as_object().into_iter().flatten();
        let requirement =
            |(key, value): (&String, &Value)| Requirement::equals(key, value.as_str().unwrap_or_default());
        Self { requirements: Some(entries.map(requirement).collect()) }
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
        let requirements = self.requirements.as_ref();
        requirements.is_some_and(|all| all.iter().all(|one| one.matches(label(&one.key))))
    }

    /// Whether a tree of labels (`metadata.labels`) is selected.
    pub fn matches_value(&self, labels: &Value) -> bool {
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }
}

impl Requirement {
    /// The label must have the value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: key.into(), operator: Operator::In, values: [value.into()].into() }
    }

    /// Whether a label's value, or its absence, fits.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|one| **one == *value);
        let compare = |holds: fn(i64, i64) -> bool| {
            let number = |text: &str| text.parse::<i64>().ok();
            let limit = self.values.first().and_then(|text| number(text));
            value.and_then(number).zip(limit).is_some_and(|(value, limit)| holds(value, limit))
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => value.is_none_or(|value| !listed(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(|value, limit| value > limit),
            Operator::LessThan => compare(|value, limit| value < limit),
        }
    }

    /// Checks a requirement as upstream's constructor does.
    pub(super) fn checked(self) -> Result<Self, Error> {
        let mut errors = Errors::new();
        let (key, values) = (Path::ROOT.child("key"), Path::ROOT.child("values"));
        let wrong = names::qualified_name(&self.key);
        if !wrong.is_empty() {
            errors.push(field::Error::invalid(&key, &*self.key, &wrong.join("; ")));
        }
        let all = || Value::Array(self.values.iter().map(|value| Value::from(&**value)).collect());
        match self.operator {
            Operator::In | Operator::NotIn if self.values.is_empty() => {
                let rule = "for 'in', 'notin' operators, values set can't be empty";
                errors.push(field::Error::invalid(&values, all(), rule));
            }
            Operator::Exists | Operator::DoesNotExist if !self.values.is_empty() => {
                let rule = "values set must be empty for exists and does not exist";
                errors.push(field::Error::invalid(&values, all(), rule));
            }
            Operator::GreaterThan | Operator::LessThan => {
                for (at, value) in self.values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let rule = "for 'Gt', 'Lt' operators, the value must be an integer";
                        errors.push(field::Error::invalid(&values.index(at), &**value, rule));
                    }
                }
            }
            _ => {}
        }
        for (at, value) in self.values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                let path = values.index(at);
                errors.push(field::Error::invalid(&path.key(&self.key), &**value, &wrong.join("; ")));
            }
        }
        match &errors[..] {
            [] => Ok(self),
            [one] => Err(Error(one.to_string())),
            many => {
                let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
                Err(Error(format!("[{}]", texts.join(", "))))
            }
        }
    }
}

impl fmt::Display for Labels {
    /// The string form, as queries carry it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().flatten().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let (key, values) = (&requirement.key, requirement.values.join(","));
            match (requirement.operator, requirement.values.len()) {
                (Operator::In, 1) => write!(f, "{comma}{key}={values}"),
                (Operator::NotIn, 1) => write!(f, "{comma}{key}!={values}"),
                (Operator::In, _) => write!(f, "{comma}{key} in ({values})"),
                (Operator::NotIn, _) => write!(f, "{comma}{key} notin ({values})"),
                (Operator::Exists, _) => write!(f, "{comma}{key}"),
                (Operator::DoesNotExist, _) => write!(f, "{comma}!{key}"),
                (Operator::GreaterThan, _) => write!(f, "{comma}{key}>{values}"),
                (Operator::LessThan, _) => write!(f, "{comma}{key}<{values}"),
            }?;
        }
        Ok(())
    }
}
