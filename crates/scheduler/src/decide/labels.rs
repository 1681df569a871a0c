//! Labels and selectors in the form that decisions want: small, shared, hashable.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use carrack_api::selector::{Labels, Operator, Requirement};
use serde_json::Value;

/// The labels of an object, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelSet(Arc<[(Box<str>, Box<str>)]>);

/// A label selector that can be a key.
#[derive(Debug, Clone)]
pub struct Selector {
    labels: Labels,
    /// Its canonical text; equal selectors have equal ones.
    text: Arc<str>,
}

// === impl LabelSet ===

impl Default for LabelSet {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for LabelSet {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Box<str>, Box<str>)> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        pairs.sort();
        Self(pairs.into())
    }
}

impl LabelSet {
    /// Reads a JSON map of texts.
    pub fn read(map: &Value) -> Self {
        let entries = map.as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect()
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

// === impl Selector ===

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Default for Selector {
    /// Selects nothing.
    fn default() -> Self {
        Self::of(Labels::nothing())
    }
}

impl Selector {
    fn of(labels: Labels) -> Self {
        // The text of "everything" is empty, so "nothing" needs one of its own.
        let text = if labels.requirements().is_none() { "\0".into() } else { labels.to_string().into() };
        Self { labels, text }
    }

    /// Reads a `metav1.LabelSelector`; null, and what cannot be read, selects nothing.
    pub fn read(selector: &Value) -> Self {
        Self::of(Labels::from_value(selector).unwrap_or_else(|_| Labels::nothing()))
    }

    /// Selects those that have all of these labels.
    pub fn equals<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let map: serde_json::Map<String, Value> =
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        Self::of(Labels::from_map(&Value::Object(map)))
    }

    /// Selects what both select.
    pub fn and(&self, other: &Self) -> Self {
        let (Some(mine), Some(others)) = (self.labels.requirements(), other.labels.requirements()) else {
            return Self::default();
        };
        if mine.is_empty() {
            return other.clone();
        }
        if others.is_empty() {
            return self.clone();
        }
        let all = mine.iter().chain(others);
        let mut expressions: Vec<Value> = all.map(expression).collect();
        expressions.sort_by_key(ToString::to_string);
        expressions.dedup();
        Self::read(&serde_json::json!({"matchExpressions": expressions}))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &LabelSet) -> bool {
        self.labels.matches_with(|key| labels.get(key))
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything()
    }

    /// Whether nothing is selected.
    pub fn is_nothing(&self) -> bool {
        self.labels.requirements().is_none()
    }

    /// A label and the values of which a selected object has one: lets an index find
    /// the selectors that may select an object. `None` when there is no such label.
    pub fn anchor(&self) -> Option<(&str, &[Box<str>])> {
        let all = self.labels.requirements()?;
        let one = all.iter().find(|one| one.operator == Operator::In && !one.values.is_empty())?;
        Some((&one.key, &one.values))
    }
}

fn expression(requirement: &Requirement) -> Value {
    let operator = match requirement.operator {
        Operator::In => "In",
        Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        // Label selectors of objects cannot say these.
        Operator::GreaterThan | Operator::LessThan => "",
    };
    let values: Vec<&str> = requirement.values.iter().map(|value| &**value).collect();
    serde_json::json!({"key": &*requirement.key, "operator": operator, "values": values})
}
