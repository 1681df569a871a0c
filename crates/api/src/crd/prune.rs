//! Pruning of unknown fields, of nulls, and defaulting, by a structural schema.
//!
//! (After upstream's `schema/pruning` and `schema/defaulting`.)

use serde_json::{Map, Value};

use super::props::Props;

/// Fields that every object has without its schema saying so.
pub(super) const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Where pruning is: paths are joined only for what is found.
#[derive(Default)]
pub(super) struct Trail {
    path: Vec<String>,
    /// Paths of the fields that were dropped.
    pub found: Vec<String>,
}

impl Trail {
    fn within(&mut self, step: String, visit: impl FnOnce(&mut Self)) {
        self.path.push(step);
        visit(self);
        self.path.pop();
    }

    pub(super) fn field(&mut self, name: &str, visit: impl FnOnce(&mut Self)) {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.within(format!("{dot}{name}"), visit);
    }

    pub(super) fn index(&mut self, at: usize, visit: impl FnOnce(&mut Self)) {
        self.within(format!("[{at}]"), visit);
    }

    fn record(&mut self, name: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.found.push(format!("{}{dot}{name}", self.path.concat()));
    }
}

/// Drops what a resource's schema does not know (its types and metadata stay) and
/// returns the paths of what was dropped, sorted.
pub fn resource(object: &mut Value, props: &Props) -> Vec<String> {
    let mut trail = Trail::default();
    object_of(object, props, true, &mut trail);
    trail.found.sort();
    trail.found
}

/// The same for a value within a resource, such as a default.
pub fn value(value: &mut Value, props: &Props) -> Vec<String> {
    let mut trail = Trail::default();
    object_of(value, props, props.embedded, &mut trail);
    trail.found.sort();
    trail.found
}

fn object_of(value: &mut Value, props: &Props, embedded: bool, trail: &mut Trail) {
    let keep = props.preserves();
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                if embedded && META.contains(&name.as_str()) {
                    return true;
                }
                match (props.properties.get(name.as_str()), &props.additional) {
                    (Some(props), _) => trail.field(name, |trail| visit(value, Some(props), trail)),
                    (None, Some(_)) => {
                        trail.field(name, |trail| visit(value, props.additional_schema(), trail));
                    }
                    (None, None) if keep => {}
                    (None, None) => {
                        if !META.contains(&name.as_str()) || !trail.path.is_empty() {
                            trail.record(name);
                        }
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(list) => {
            for (at, item) in list.iter_mut().enumerate() {
                trail.index(at, |trail| match &props.items {
                    Some(items) if keep => keeping(item, items, trail),
                    None if keep => {}
                    items => visit(item, items.as_deref(), trail),
                });
            }
        }
        _ => {}
    }
}

/// Items of a list that keeps what it does not know: only known fields are entered.
fn keeping(value: &mut Value, props: &Props, trail: &mut Trail) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if props.embedded && META.contains(&name.as_str()) {
                    continue;
                }
                if let Some(inner) = props.properties.get(name.as_str()) {
                    trail.field(name, |trail| visit(value, Some(inner), trail));
                } else if props.additional.is_some() {
                    trail.field(name, |trail| visit(value, props.additional_schema(), trail));
                }
            }
        }
        Value::Array(list) => {
            for (at, item) in list.iter_mut().enumerate() {
                if let Some(items) = &props.items {
                    trail.index(at, |trail| keeping(item, items, trail));
                }
            }
        }
        _ => {}
    }
}

fn visit(value: &mut Value, props: Option<&Props>, trail: &mut Trail) {
    match props {
        Some(props) => object_of(value, props, props.embedded, trail),
        None => nothing_known(value, trail),
    }
}

/// Without a schema no field is known.
fn nothing_known(value: &mut Value, trail: &mut Trail) {
    match value {
        Value::Object(fields) => {
            fields.keys().for_each(|name| trail.record(name));
            fields.clear();
        }
        Value::Array(list) => {
            for (at, item) in list.iter_mut().enumerate() {
                trail.index(at, |trail| nothing_known(item, trail));
            }
        }
        _ => {}
    }
}

/// Drops nulls that are neither allowed nor defaulted.
pub fn nulls(value: &mut Value, props: Option<&Props>) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let inner = props.and_then(|props| props.of_field(name));
            if value.is_null() && inner.is_some_and(|props| !props.nullable && props.default.is_none()) {
                return false;
            }
            nulls(value, inner);
            true
        }),
        Value::Array(list) => {
            let inner = props.and_then(|props| props.items.as_deref());
            list.iter_mut().for_each(|item| nulls(item, inner));
        }
        _ => {}
    }
}

/// Fills in defaults; a null where none may be counts as absent.
pub fn default(value: &mut Value, props: &Props) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in &props.properties {
                let Some(default) = &inner.default else { continue };
                let missing = fields.get(&**name).is_none_or(|value| value.is_null() && !inner.nullable);
                if missing {
                    fields.insert(name.to_string(), default.clone());
                }
            }
            default_fields(fields, props);
        }
        Value::Array(list) => {
            let Some(inner) = &props.items else { return };
            for item in list {
                default_null(item, inner);
                default(item, inner);
            }
        }
        _ => {}
    }
}

fn default_fields(fields: &mut Map<String, Value>, props: &Props) {
    if fields.is_empty() || (props.properties.is_empty() && props.additional.is_none()) {
        return;
    }
    for (name, value) in fields {
        if let Some(inner) = props.properties.get(name.as_str()) {
            default(value, inner);
        } else if let Some(inner) = props.additional_schema() {
            default_null(value, inner);
            default(value, inner);
        }
    }
}

fn default_null(value: &mut Value, props: &Props) {
    if value.is_null() && !props.nullable {
        *value = props.default.clone().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn props(schema: Value) -> Props {
        Props::read(&schema)
    }

    #[test]
    fn prunes_what_is_not_known() {
        let string = json!({"type": "string"});
        let check = |schema: Value, mut object: Value, expect: Value, unknown: &[&str]| {
            let found = resource(&mut object, &props(schema));
            assert_eq!(
                (&object, &found[..]),
                (&expect, &unknown.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
            );
        };
        check(
            json!({"properties": {"spec": {"properties": {"a": string}}}}),
            json!({"apiVersion": "x", "metadata": {"z": 1}, "spec": {"a": "1", "b": 2}, "c": 3}),
            json!({"apiVersion": "x", "metadata": {"z": 1}, "spec": {"a": "1"}}),
            &["c", "spec.b"],
        );
        check(
            json!({"properties": {"list": {"items": {"properties": {"a": string}}}, "map": {"additionalProperties": true}}}),
            json!({"list": [{"a": "1", "kind": 1}, 5, [{"x": 1}]], "map": {"k": {"x": 1}}}),
            json!({"list": [{"a": "1"}, 5, [{}]], "map": {"k": {}}}),
            &["list[0].kind", "list[2][0].x", "map.k.x"],
        );
        check(
            json!({"x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {"properties": {"a": string}}}}),
            json!({"spec": {"a": "1", "b": 2}, "c": {"d": 3}}),
            json!({"spec": {"a": "1"}, "c": {"d": 3}}),
            &["spec.b"],
        );
        check(
            json!({"properties": {"e": {"x-kubernetes-embedded-resource": true, "properties": {"spec": {}}}}}),
            json!({"e": {"kind": "K", "metadata": {}, "spec": 1, "x": 1}}),
            json!({"e": {"kind": "K", "metadata": {}, "spec": 1}}),
            &["e.x"],
        );
    }

    #[test]
    fn defaults_where_nothing_or_a_forbidden_null_is() {
        let schema = props(json!({"properties": {
            "a": {"default": "A"},
            "n": {"default": 1, "nullable": true},
            "o": {"properties": {"x": {"default": {"y": 1}, "properties": {"y": {}, "z": {"default": 2}}}}},
            "l": {"items": {"default": {}, "properties": {"b": {"default": true}}}},
            "m": {"additionalProperties": {"properties": {"c": {"default": 3}}}},
            "d": {},
        }}));
        let mut object = json!({"a": null, "n": null, "o": {}, "l": [{}, null], "m": {"k": {}}, "d": null});
        nulls(&mut object, Some(&schema));
        default(&mut object, &schema);
        assert_eq!(
            object,
            json!({"a": "A", "n": null, "o": {"x": {"y": 1, "z": 2}}, "l": [{"b": true}, {"b": true}], "m": {"k": {"c": 3}}})
        );
        let once = object.clone();
        default(&mut object, &schema);
        assert_eq!(object, once);
    }
}
