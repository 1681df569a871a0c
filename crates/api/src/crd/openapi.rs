//! What OpenAPI documents say of a custom kind's schema, in both versions.
//!
//! (After upstream's `controller/openapi/builder` and `controller/openapi/v2`.) Version 2
//! knows neither combinations nor nullable values, and its readers cannot cope with what
//! stands beside unknown fields; there, less is published.

use serde_json::{Map, Value, json};

use super::props::{Additional, Props};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A schema as it is published. `references` is what a reference begins with
/// (`#/definitions/` in version 2).
pub fn schema(props: &Props, references: &str) -> Value {
    let publisher = Publisher { references, v2: references == "#/definitions/" };
    Value::Object(publisher.root(props))
}

struct Publisher<'a> {
    references: &'a str,
    v2: bool,
}

impl Publisher<'_> {
    fn root(&self, props: &Props) -> Map<String, Value> {
        if self.v2 && props.preserves() {
            return Map::from_iter([("type".to_owned(), "object".into())]);
        }
        let mut node = self.node(props);
        self.add_types(&mut node);
        node
    }

    fn add_types(&self, node: &mut Map<String, Value>) {
        let properties = node.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = json!({"type": "string"});
        properties["kind"] = json!({"type": "string"});
        let reference = json!({"$ref": format!("{}{OBJECT_META}", self.references)});
        properties["metadata"] = if self.v2 { reference } else { json!({ "allOf": [reference] }) };
    }

    fn node(&self, props: &Props) -> Map<String, Value> {
        let mut node = Map::new();
        let untyped = self.v2 && (props.nullable || props.preserves());
        let items = props.items.as_deref().filter(|_| !untyped);
        let no_type = self.v2
            && (props.nullable
                || (items.is_none() && &*props.ty == "array")
                || (props.preserves() && &*props.ty == "object"));
        for (name, text) in [
            ("type", if no_type { "" } else { &props.ty }),
            ("format", &*props.format),
            ("title", &*props.title),
            ("description", &*props.description),
            ("pattern", &*props.pattern.text),
        ] {
            if !text.is_empty() {
                node.insert(name.into(), text.into());
            }
        }
        for (name, flag) in [
            ("nullable", props.nullable && !self.v2),
            ("exclusiveMaximum", props.exclusive_maximum),
            ("exclusiveMinimum", props.exclusive_minimum),
            ("uniqueItems", props.unique_items),
            ("x-kubernetes-preserve-unknown-fields", props.preserves()),
            ("x-kubernetes-embedded-resource", props.embedded),
            ("x-kubernetes-int-or-string", props.int_or_string),
        ] {
            if flag {
                node.insert(name.into(), true.into());
            }
        }
        for (name, number) in
            [("maximum", props.maximum), ("minimum", props.minimum), ("multipleOf", props.multiple_of)]
        {
            node.extend(number.map(|number| (name.to_owned(), float(number))));
        }
        for (name, number) in [
            ("maxLength", props.max_length),
            ("minLength", props.min_length),
            ("maxItems", props.max_items),
            ("minItems", props.min_items),
            ("maxProperties", props.max_properties),
            ("minProperties", props.min_properties),
        ] {
            node.extend(number.map(|number| (name.to_owned(), number.into())));
        }
        node.extend(props.default.clone().map(|default| ("default".to_owned(), default)));
        node.extend(props.published.clone());
        if !props.allowed.is_empty() {
            node.insert("enum".into(), props.allowed.to_vec().into());
        }
        self.extensions(props, &mut node);
        self.inner(props, items, untyped, &mut node);
        if !self.v2 {
            self.combinations(props, &mut node);
        }
        if props.embedded && !(self.v2 && props.preserves()) {
            self.add_types(&mut node);
            require(&mut node, ["kind", "apiVersion"]);
        }
        node
    }

    fn extensions(&self, props: &Props, node: &mut Map<String, Value>) {
        for (name, text) in
            [("x-kubernetes-list-type", &props.list_type), ("x-kubernetes-map-type", &props.map_type)]
        {
            node.extend(text.as_deref().map(|text| (name.to_owned(), text.into())));
        }
        if !props.list_keys.is_empty() {
            node.insert("x-kubernetes-list-map-keys".into(), json!(props.list_keys));
        }
        if !props.rules.is_empty() {
            node.insert("x-kubernetes-validations".into(), props.rules.to_vec().into());
        }
    }

    fn inner(&self, props: &Props, items: Option<&Props>, untyped: bool, node: &mut Map<String, Value>) {
        let nullable = |name: &str| props.properties.get(name).is_some_and(|props| props.nullable);
        let all_nullable = props.additional_schema().is_some_and(|props| props.nullable);
        let known = props.required.iter().filter(|name| !self.v2 || (!nullable(name) && !all_nullable));
        let required: Vec<&str> = known.map(|name| &**name).collect();
        if !required.is_empty() {
            node.insert("required".into(), json!(required));
        }
        if !props.properties.is_empty() && !untyped {
            let properties = props.properties.iter();
            let properties = properties.map(|(name, props)| (name.to_string(), self.node(props).into()));
            node.insert("properties".into(), Value::Object(properties.collect()));
        }
        match &props.additional {
            Some(Additional::Any(any)) => drop(node.insert("additionalProperties".into(), (*any).into())),
            Some(Additional::Schema(schema)) => {
                node.insert("additionalProperties".into(), self.node(schema).into());
            }
            None => {}
        }
        node.extend(items.map(|items| ("items".to_owned(), self.node(items).into())));
    }

    fn combinations(&self, props: &Props, node: &mut Map<String, Value>) {
        let list = |all: &[Props]| all.iter().map(|props| self.node(props).into()).collect::<Vec<Value>>();
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let (mut any_of, mut all_of) = (list(&props.any_of), list(&props.all_of));
        let is_either = |all: &[Value]| Value::from(all.to_vec()) == either;
        let first = all_of.first().and_then(|first| first["anyOf"].as_array());
        if props.int_or_string && !is_either(&any_of) && !first.is_some_and(|first| is_either(first)) {
            if any_of.is_empty() {
                any_of = either.as_array().cloned().unwrap_or_default();
            } else {
                all_of.insert(0, json!({ "anyOf": either }));
            }
        }
        for (name, all) in [("anyOf", any_of), ("allOf", all_of), ("oneOf", list(&props.one_of))] {
            if !all.is_empty() {
                node.insert(name.into(), all.into());
            }
        }
        node.extend(props.not.as_deref().map(|not| ("not".to_owned(), self.node(not).into())));
    }
}

fn require(node: &mut Map<String, Value>, names: [&str; 2]) {
    let required = node.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        for name in names {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
    }
}

fn float(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 { (number as i64).into() } else { number.into() }
}
