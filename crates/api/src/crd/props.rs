//! A schema as a CustomResourceDefinition gives it (`JSONSchemaProps`), read once into
//! a tree that pruning, defaulting, validation and OpenAPI walk.
//!
//! A tree is as deep and as large as the body that it came in, and bodies are bounded
//! by decoding. Nothing here judges a schema: that is `validation::definition`'s part.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::pattern;
use crate::schema::ListType;

/// One node of a schema.
#[derive(Debug, Clone, Default)]
pub struct Props {
    /// `type`; may be empty.
    pub ty: Box<str>,
    /// `format`, as given.
    pub format: Box<str>,
    /// `title`.
    pub title: Box<str>,
    /// `description`.
    pub description: Box<str>,
    /// `nullable`.
    pub nullable: bool,
    /// `default`; a null one is none.
    pub default: Option<Value>,
    /// `maximum`.
    pub maximum: Option<f64>,
    /// `exclusiveMaximum`.
    pub exclusive_maximum: bool,
    /// `minimum`.
    pub minimum: Option<f64>,
    /// `exclusiveMinimum`.
    pub exclusive_minimum: bool,
    /// `maxLength`, in characters.
    pub max_length: Option<i64>,
    /// `minLength`, in characters.
    pub min_length: Option<i64>,
    /// `pattern`.
    pub pattern: Pattern,
    /// `maxItems`.
    pub max_items: Option<i64>,
    /// `minItems`.
    pub min_items: Option<i64>,
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `maxProperties`.
    pub max_properties: Option<i64>,
    /// `minProperties`.
    pub min_properties: Option<i64>,
    /// `required`.
    pub required: Box<[Box<str>]>,
    /// `enum`.
    pub allowed: Box<[Value]>,
    /// `properties`.
    pub properties: BTreeMap<Box<str>, Props>,
    /// `additionalProperties`.
    pub additional: Option<Additional>,
    /// `items`, when it is a schema.
    pub items: Option<Box<Props>>,
    /// `items`, when it is a list of schemas (which no structural schema has).
    pub tuple: Box<[Props]>,
    /// `allOf`.
    pub all_of: Box<[Props]>,
    /// `anyOf`.
    pub any_of: Box<[Props]>,
    /// `oneOf`.
    pub one_of: Box<[Props]>,
    /// `not`.
    pub not: Option<Box<Props>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: Option<bool>,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<Box<str>>,
    /// `x-kubernetes-list-map-keys`.
    pub list_keys: Box<[Box<str>]>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<Box<str>>,
    /// `x-kubernetes-validations`: kept, and not evaluated yet.
    pub rules: Box<[Value]>,
    /// What no structural schema may have.
    pub unsupported: Unsupported,
    /// Further fields that are only published: `example`, `externalDocs`.
    pub published: Map<String, Value>,
}

/// `additionalProperties`: a schema, or whether there may be any.
#[derive(Debug, Clone)]
pub enum Additional {
    /// `true` or `false`.
    Any(bool),
    /// A schema of every value.
    Schema(Box<Props>),
}

/// Parts of JSON Schema that are refused in every definition.
#[derive(Debug, Clone, Default)]
pub struct Unsupported {
    /// `id` is set.
    pub id: bool,
    /// `$schema` is set.
    pub schema: bool,
    /// `$ref` is there; whether it is also not empty.
    pub reference: Option<bool>,
    /// `patternProperties` has entries.
    pub pattern_properties: bool,
    /// `definitions`.
    pub definitions: BTreeMap<Box<str>, Props>,
    /// `dependencies` is there; whether it also has entries.
    pub dependencies: Option<bool>,
    /// `additionalItems` is there.
    pub additional_items: bool,
}

/// A pattern, compiled when it is first needed.
#[derive(Debug, Clone, Default)]
pub struct Pattern {
    /// As given, in Go's syntax; empty when there is none.
    pub text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

// === impl Pattern ===

impl Pattern {
    /// Whether a text matches somewhere; `None` when the pattern is none.
    pub fn matches(&self, text: &str) -> Option<bool> {
        let compiled = self.compiled.get_or_init(|| pattern::compile(&self.text).ok());
        compiled.as_ref().map(|regex| regex.is_match(text))
    }
}

// === impl Props ===

impl Props {
    /// Reads a decoded `JSONSchemaProps`. What is of a wrong type counts as absent.
    pub fn read(value: &Value) -> Self {
        let text = |field: &str| -> Box<str> { value[field].as_str().unwrap_or_default().into() };
        let flag = |field: &str| value[field].as_bool().unwrap_or(false);
        let some = |field: &str| value.get(field).filter(|value| !value.is_null());
        let int = |field: &str| value[field].as_i64();
        let list = |field: &str| value[field].as_array().into_iter().flatten().map(Self::read).collect();
        let map = |field: &str| -> BTreeMap<Box<str>, Self> {
            let entries = value[field].as_object().into_iter().flatten();
            entries.map(|(name, value)| (name.as_str().into(), Self::read(value))).collect()
        };
        let filled = |field: &str| value[field].as_object().is_some_and(|map| !map.is_empty());
        let published = ["example", "externalDocs"].into_iter().filter_map(|name| {
            let value = some(name)?;
            Some((name.to_owned(), value.clone()))
        });
        Self {
            ty: text("type"),
            format: text("format"),
            title: text("title"),
            description: text("description"),
            nullable: flag("nullable"),
            default: some("default").cloned(),
            maximum: value["maximum"].as_f64(),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: value["minimum"].as_f64(),
            exclusive_minimum: flag("exclusiveMinimum"),
            max_length: int("maxLength"),
            min_length: int("minLength"),
            pattern: Pattern { text: text("pattern"), compiled: OnceLock::new() },
            max_items: int("maxItems"),
            min_items: int("minItems"),
            unique_items: flag("uniqueItems"),
            multiple_of: value["multipleOf"].as_f64(),
            max_properties: int("maxProperties"),
            min_properties: int("minProperties"),
            required: texts(&value["required"]),
            allowed: value["enum"].as_array().cloned().unwrap_or_default().into(),
            properties: map("properties"),
            additional: match some("additionalProperties") {
                None => None,
                Some(Value::Bool(any)) => Some(Additional::Any(*any)),
                Some(schema) => Some(Additional::Schema(Box::new(Self::read(schema)))),
            },
            items: some("items").filter(|items| items.is_object()).map(|items| Box::new(Self::read(items))),
            tuple: list("items"),
            all_of: list("allOf"),
            any_of: list("anyOf"),
            one_of: list("oneOf"),
            not: some("not").map(|not| Box::new(Self::read(not))),
            preserve_unknown: value["x-kubernetes-preserve-unknown-fields"].as_bool(),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: value["x-kubernetes-list-type"].as_str().map(Into::into),
            list_keys: texts(&value["x-kubernetes-list-map-keys"]),
            map_type: value["x-kubernetes-map-type"].as_str().map(Into::into),
            rules: value["x-kubernetes-validations"].as_array().cloned().unwrap_or_default().into(),
            unsupported: Unsupported {
                id: !text("id").is_empty(),
                schema: !text("$schema").is_empty(),
                reference: some("$ref").map(|text| text.as_str().is_some_and(|text| !text.is_empty())),
                pattern_properties: filled("patternProperties"),
                definitions: map("definitions"),
                dependencies: some("dependencies").map(|_| filled("dependencies")),
                additional_items: some("additionalItems").is_some(),
            },
            published: published.collect(),
        }
    }

    /// Whether unknown fields are kept.
    pub fn preserves(&self) -> bool {
        self.preserve_unknown == Some(true)
    }

    /// The schema of all values without a property of their own.
    pub fn additional_schema(&self) -> Option<&Self> {
        match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// The schema of a field's value.
    pub fn of_field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or_else(|| self.additional_schema())
    }

    /// How lists merge.
    pub fn list(&self) -> ListType {
        match self.list_type.as_deref() {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        }
    }

    /// Every node, this one first, each with its children after it.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        let nested = [&self.tuple, &self.all_of, &self.any_of, &self.one_of];
        let boxed = [self.items.as_deref(), self.not.as_deref(), self.additional_schema()];
        let named = self.properties.values().chain(self.unsupported.definitions.values());
        for node in boxed.into_iter().flatten().chain(nested.into_iter().flatten()).chain(named) {
            node.walk(visit);
        }
    }

    /// Whether a node anywhere in the tree is of a sort.
    pub fn any(&self, mut is: impl FnMut(&Self) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |node| found = found || is(node));
        found
    }
}

/// Brings what of a schema has no type of its own (`items`, `additionalProperties`,
/// `dependencies`: a schema or something else) into the form that decoding gives
/// everything else.
pub(crate) fn normalize(schema: &mut Value) {
    let items = match schema.get_mut("items") {
        Some(Value::Array(list)) => list.iter_mut().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    items.into_iter().for_each(settle);
    schema.get_mut("additionalProperties").into_iter().for_each(settle);
    if let Some(Value::Object(dependencies)) = schema.get_mut("dependencies") {
        dependencies.values_mut().for_each(settle);
    }
}

fn settle(value: &mut Value) {
    const NAME: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    if !value.is_object() {
        return;
    }
    let schema = crate::facts::schema();
    let Some(root) = schema.find(NAME) else { return };
    if let Ok(decoded) = crate::decode::value(&schema, root, value.take()) {
        *value = decoded.value;
    }
    nested(value);
}

/// What is within a schema that stood where no type was known.
fn nested(schema: &mut Value) {
    normalize(schema);
    for name in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(all)) = schema.get_mut(name) {
            all.iter_mut().for_each(nested);
        }
    }
    for name in ["properties", "patternProperties", "definitions"] {
        if let Some(Value::Object(all)) = schema.get_mut(name) {
            all.values_mut().for_each(nested);
        }
    }
    schema.get_mut("not").into_iter().for_each(nested);
}

fn texts(value: &Value) -> Box<[Box<str>]> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}
