//! Lists of named amounts (`ResourceList`) and the arithmetic of quotas on them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::quantity::{Format, Quantity};

/// Amounts by resource name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<Box<str>, Quantity>);

impl Amounts {
    /// Reads a `ResourceList`; what is no quantity is left out.
    pub fn read(list: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let each = list.as_object().into_iter().flatten();
        let each = each.filter_map(|(name, value)| {
            let amount = Quantity::parse(&text(value)?).ok()?;
            Some((name.as_str().into(), amount))
        });
        Self(each.collect())
    }

    /// As a `ResourceList`.
    pub fn to_value(&self) -> Value {
        let each = self.0.iter().map(|(name, amount)| (name.to_string(), amount.to_string().into()));
        Value::Object(each.collect::<Map<_, _>>())
    }

    /// The amount of one name.
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    /// Sets the amount of one name.
    pub fn set(&mut self, name: &str, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Sets a whole number.
    pub fn count(&mut self, name: &str, number: i64) {
        self.set(name, Quantity::new(number, Format::DecimalSi));
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// All names and amounts, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, amount)| (&**name, *amount))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds another list, name by name.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.get(name).map_or(*amount, |own| own.plus(*amount));
            self.0.insert(name.clone(), sum);
        }
    }

    /// Raises each amount to that of another list.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|own| amount > own) {
                self.0.insert(name.clone(), *amount);
            }
        }
    }

    /// This list less another, nowhere below zero.
    pub fn less(&self, other: &Self) -> Self {
        let each = self.0.iter().map(|(name, amount)| {
            let rest = other.0.get(name).map_or(*amount, |own| amount.minus(*own));
            (name.clone(), if rest.sign() > 0 { rest } else { Quantity::ZERO })
        });
        Self(each.collect())
    }

    /// Only the given names.
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut rest = self.clone();
        rest.0.retain(|name, _| names.contains(&**name));
        rest
    }

    /// Without the names of which there is nothing.
    pub fn without_zeros(mut self) -> Self {
        self.0.retain(|_, amount| !amount.is_zero());
        self
    }

    /// Names of which there is more here than in `limits`, where those name them.
    pub fn beyond(&self, limits: &Self) -> Vec<&str> {
        let more = |(name, amount): &(&str, Quantity)| limits.get(name).is_some_and(|limit| *amount > limit);
        self.iter().filter(more).map(|(name, _)| name).collect()
    }

    /// Names with less than nothing.
    pub fn negative(&self) -> Vec<&str> {
        self.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name).collect()
    }

    /// `cpu=1,memory=2Gi`.
    pub fn show(&self) -> String {
        let each: Vec<String> = self.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        each.join(",")
    }
}

impl FromIterator<(Box<str>, Quantity)> for Amounts {
    fn from_iter<T: IntoIterator<Item = (Box<str>, Quantity)>>(each: T) -> Self {
        Self(each.into_iter().collect())
    }
}
