//! Validation of values by a schema, with kube-openapi's order, wording and counting.
//!
//! A node's checks run in a fixed order: type, combinations (`anyOf`, `oneOf`, `allOf`,
//! `not`), string, format, number, list, enumeration, object. On an update, what a value
//! that has not changed breaks is forgiven where old and new can be told to be the same
//! place (ratcheting). Rules in CEL are not evaluated yet.

mod result;
mod scalar;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::props::{Additional, Props};
use crate::field::{Errors, Path};
use crate::schema::ListType;
use result::Outcome;

/// Errors after which nothing more is looked for.
const ENOUGH: usize = 200;

/// Checks a value against a schema. `path` is where errors say the value is (upstream
/// names a custom object's fields from its root, and those of `status` in a status
/// update from there).
pub fn create(value: &Value, props: &Props, path: &Path<'_>, errors: &mut Errors) {
    let outcome = Checker::default().node(value, props, None, "");
    outcome.append_to(path, errors);
}

/// The same for a value that replaces `old`.
pub fn update(value: &Value, old: Option<&Value>, props: &Props, path: &Path<'_>, errors: &mut Errors) {
    let before = old.map(|old| Before { old, props });
    let outcome = Checker::default().node(value, props, before, "");
    outcome.append_to(path, errors);
}

/// The value that stood where the checked one now is, and the schema of that place.
#[derive(Clone, Copy)]
struct Before<'a> {
    old: &'a Value,
    props: &'a Props,
}

impl<'a> Before<'a> {
    fn field(self, name: &str) -> Option<Self> {
        Some(Self { old: self.old.get(name)?, props: self.props.of_field(name)? })
    }

    /// The old item that has the keys of the new one, in a list that is a map.
    fn item(self, item: &Value) -> Option<Self> {
        let props: &'a Props = self.props.items.as_deref()?;
        if self.props.list() != ListType::Map {
            return None;
        }
        let key = |item: &'a Value, name: &str| {
            item.get(name).or_else(|| props.properties.get(name)?.default.as_ref())
        };
        let new_key = |name: &str| item.get(name).or_else(|| props.properties.get(name)?.default.as_ref());
        let same = |old: &&'a Value| self.props.list_keys.iter().all(|name| key(old, name) == new_key(name));
        let old = self.old.as_array()?.iter().find(same)?;
        Some(Self { old, props })
    }
}

#[derive(Default)]
struct Checker {
    depth: usize,
}

impl Checker {
    fn node(&mut self, value: &Value, props: &Props, before: Option<Before<'_>>, path: &str) -> Outcome {
        // As deep as bodies may be; combinations stay at the same value.
        if self.depth > 256 {
            return Outcome::default();
        }
        self.depth += 1;
        let mut outcome = Outcome::default();
        if value.is_null() {
            outcome.merge(scalar::ty(value, props, path));
            outcome.merge(scalar::enumeration(value, props, path));
        } else {
            self.checks(value, props, before, path, &mut outcome);
        }
        self.depth -= 1;
        if !outcome.is_valid() && before.is_some_and(|before| before.old == value) {
            outcome.forgive();
        }
        outcome
    }

    fn checks(
        &mut self,
        value: &Value,
        props: &Props,
        before: Option<Before<'_>>,
        path: &str,
        outcome: &mut Outcome,
    ) {
        let mut take = |found: Outcome| {
            outcome.merge(found);
            outcome.matched += 1;
        };
        if !props.ty.is_empty() || props.int_or_string || scalar::format(props).is_some() {
            take(scalar::ty(value, props, path));
        }
        take(self.combinations(value, props, before, path));
        match value {
            Value::String(text) => {
                take(scalar::text(text, props, path));
                if let Some(format) = scalar::format(props) {
                    take(scalar::format_of(text, format, path));
                }
            }
            Value::Number(number) => take(scalar::number(number, props, path)),
            Value::Array(items) => take(self.list(items, props, before, path)),
            _ => {}
        }
        take(scalar::enumeration(value, props, path));
        if let Value::Object(fields) = value {
            take(self.object(fields, props, before, path));
        }
        outcome.matched += 1;
    }

    fn combinations(
        &mut self,
        value: &Value,
        props: &Props,
        before: Option<Before<'_>>,
        path: &str,
    ) -> Outcome {
        let mut main = Outcome::default();
        if !props.any_of.is_empty() {
            self.any_of(value, props, before, path, &mut main);
        }
        if !props.one_of.is_empty() {
            self.one_of(value, props, before, path, &mut main);
        }
        if !props.all_of.is_empty() {
            let mut valid = 0;
            for schema in &props.all_of {
                let outcome = self.within(value, schema, before, path);
                valid += usize::from(outcome.is_valid());
                main.merge(outcome);
            }
            if valid != props.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                main.plain(format!("{path:?} must validate all the schemas (allOf){none}"));
            }
        }
        if let Some(schema) = &props.not
            && self.within(value, schema, before, path).is_valid()
        {
            main.plain(format!("{path:?} must not validate the schema (not)"));
        }
        main.matched += 1;
        main
    }

    fn any_of(
        &mut self,
        value: &Value,
        props: &Props,
        before: Option<Before<'_>>,
        path: &str,
        main: &mut Outcome,
    ) {
        let mut best: Option<Outcome> = None;
        for schema in &props.any_of {
            let outcome = self.within(value, schema, before, path);
            if outcome.is_valid() {
                main.merge(outcome);
                return;
            }
            if best.as_ref().is_none_or(|best| outcome.matched > best.matched) {
                best = Some(outcome);
            }
        }
        main.plain(format!("{path:?} must validate at least one schema (anyOf)"));
        main.merge(best.unwrap_or_default());
    }

    fn one_of(
        &mut self,
        value: &Value,
        props: &Props,
        before: Option<Before<'_>>,
        path: &str,
        main: &mut Outcome,
    ) {
        let (mut best, mut first, mut valid): (Option<Outcome>, Option<Outcome>, usize) = (None, None, 0);
        for schema in &props.one_of {
            let outcome = self.within(value, schema, before, path);
            if outcome.is_valid() {
                valid += 1;
                best = None;
                first.get_or_insert(outcome);
            } else if valid == 0 && best.as_ref().is_none_or(|best| outcome.matched > best.matched) {
                best = Some(outcome);
            }
        }
        if valid == 1 {
            main.merge(first.unwrap_or_default());
            return;
        }
        let found = match valid {
            0 => "Found none valid".to_owned(),
            valid => format!("Found {valid} valid alternatives"),
        };
        main.plain(format!("{path:?} must validate one and only one schema (oneOf). {found}"));
        main.merge(best.unwrap_or_default());
    }

    /// A schema of a combination: the value itself is not forgiven there, its parts are.
    fn within(&mut self, value: &Value, schema: &Props, before: Option<Before<'_>>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        if value.is_null() {
            outcome.merge(scalar::ty(value, schema, path));
            outcome.merge(scalar::enumeration(value, schema, path));
            return outcome;
        }
        if self.depth > 256 {
            return outcome;
        }
        self.depth += 1;
        self.checks(value, schema, before, path, &mut outcome);
        self.depth -= 1;
        outcome
    }

    fn list(&mut self, items: &[Value], props: &Props, before: Option<Before<'_>>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(schema) = &props.items {
            for (at, item) in items.iter().enumerate() {
                if outcome.len() > ENOUGH {
                    break;
                }
                let before = before.and_then(|before| before.item(item));
                outcome.merge(self.node(item, schema, before, &format!("{path}[{at}]")));
            }
        }
        let size = items.len() as i64;
        if let Some(least) = props.min_items.filter(|least| size < *least) {
            outcome.invalid(path, size.into(), format!("{path} in body should have at least {least} items"));
        }
        if let Some(most) = props.max_items.filter(|most| size > *most) {
            outcome.too_many(path, size, most, "items");
        }
        outcome.matched += 1;
        outcome
    }

    fn object(
        &mut self,
        fields: &Map<String, Value>,
        props: &Props,
        before: Option<Before<'_>>,
        path: &str,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let size = fields.len() as i64;
        if let Some(least) = props.min_properties.filter(|least| size < *least) {
            let message = format!("{path} in body should have at least {least} properties");
            outcome.invalid(path, size.into(), message);
        }
        if let Some(most) = props.max_properties.filter(|most| size > *most) {
            outcome.too_many(path, size, most, "properties");
        }
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, value) in fields.iter().filter(|(name, _)| !props.properties.contains_key(name.as_str())) {
            if outcome.len() > ENOUGH {
                break;
            }
            match &props.additional {
                Some(Additional::Any(false)) => {
                    let message = format!("{path}.{name} in body is a forbidden property");
                    outcome.invalid(path, name.as_str().into(), message);
                }
                Some(Additional::Schema(schema)) => {
                    let before = before.and_then(|before| before.field(name));
                    outcome.merge(self.node(value, schema, before, &format!("{path}.{name}")));
                }
                _ => {}
            }
        }
        for (name, schema) in &props.properties {
            if outcome.len() > ENOUGH {
                break;
            }
            let Some(value) = fields.get(&**name) else { continue };
            let types = path.is_empty() && matches!(&**name, "kind" | "apiVersion");
            let before = before.and_then(|before| before.field(name)).filter(|_| !types);
            outcome.merge(self.node(value, schema, before, &below(name)));
        }
        for name in props.required.iter().filter(|name| !fields.contains_key(&***name)) {
            outcome.required(&format!("{path}.{name}"));
        }
        outcome
    }
}
