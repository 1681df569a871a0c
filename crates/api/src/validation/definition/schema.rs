//! Rules of a version's schema, beyond those of its structure.

use serde_json::{Value, json};

use super::{defaults, fields, internal, structural};
use crate::crd::Props;
use crate::crd::props::Additional;
use crate::field::{Error, Errors, Path};
use crate::tree::{get, text};
use crate::validation::expressions;
use crate::validation::rules::invalid_json;

const ROOT_FIELDS: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum \
    MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs \
    Example XPreserveUnknownFields XValidations]";

/// Rules of `schema` (or `validation`), whose path is given.
pub(super) fn check(validation: &Value, has_status: bool, path: &Path<'_>, errors: &mut Errors) {
    let Some(given) = get(validation, "openAPIV3Schema") else { return };
    let mut found = Errors::new();
    let schema = Props::read(given);
    let place = path.child("openAPIV3Schema");
    if has_status {
        if !schema.ty.is_empty() && &*schema.ty != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            found.push(Error::invalid(&path.child("openAPIV3Schema.type"), &*schema.ty, detail));
        } else if beyond_root(&schema) {
            let detail = format!(
                "only {ROOT_FIELDS} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            found.push(invalid_json(&place, &internal::schema(given), &detail));
        }
    }
    if schema.nullable {
        let path = path.child("openAPIV3Schema.nullable");
        found.push(Error::forbidden(&path, "nullable cannot be true at the root"));
    }
    let unreadable = structural::unsupported(&schema);
    if unreadable.is_none() {
        let structure = structural::check(&schema, &place);
        if structure.is_empty() {
            defaults::check(&schema, &place, &mut found);
        }
        found.extend(structure);
    }
    let mut late = Errors::new();
    node(&schema, &Within::ROOT, true, &place, &mut late, &mut found);
    found.append(&mut late);
    if let Some(reason) = unreadable.filter(|_| found.is_empty()) {
        found.push(Error::invalid(&place, "", &reason));
    }
    errors.extend(found);
}

/// Whether a root has what is not allowed beside a status subresource.
fn beyond_root(schema: &Props) -> bool {
    let not = &schema.unsupported;
    not.id
        || not.schema
        || not.reference.is_some()
        || schema.nullable
        || schema.default.is_some()
        || !schema.allowed.is_empty()
        || schema.max_properties.is_some()
        || schema.min_properties.is_some()
        || [&schema.all_of, &schema.any_of, &schema.one_of].iter().any(|all| !all.is_empty())
        || schema.not.is_some()
        || schema.additional.is_some()
        || not.pattern_properties
        || not.dependencies.is_some()
        || not.additional_items
        || !not.definitions.is_empty()
        || schema.embedded
        || schema.int_or_string
        || schema.list_type.is_some()
        || schema.map_type.is_some()
        || !schema.list_keys.is_empty()
}

/// What holds below a place.
#[derive(Clone, Copy)]
struct Within<'a> {
    /// Whether it is within the metadata or types of a resource.
    meta: bool,
    /// Why there may be no defaults, if so.
    no_defaults: Option<&'a str>,
}

impl Within<'static> {
    const ROOT: Self = Self { meta: false, no_defaults: None };
}

/// Errors after which nothing more is looked for.
const ENOUGH: usize = 200;

/// Errors of expressions come `late`, after all others, and not while something else at
/// the place or below it is wrong.
fn node(
    props: &Props,
    within: &Within<'_>,
    is_root: bool,
    path: &Path<'_>,
    late: &mut Errors,
    errors: &mut Errors,
) {
    if errors.len() > ENOUGH {
        return;
    }
    let before = errors.len();
    standard(props, within, path, errors);
    if props.unique_items {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), detail));
    }
    if let Some(additional) = &props.additional {
        let path = path.child("additionalProperties");
        if !props.properties.is_empty() && !matches!(additional, Additional::Any(true)) {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.push(Error::forbidden(&path, detail));
        }
        if let Additional::Schema(inner) = additional {
            let reason = Some("inside additionalProperties applying to object metadata");
            let within = if within.meta { Within { no_defaults: reason, ..*within } } else { *within };
            node(inner, &within, false, &path, late, errors);
        }
    }
    let properties = path.child("properties");
    for (name, inner) in &props.properties {
        let is_meta = (is_root || props.embedded) && matches!(&**name, "metadata" | "kind" | "apiVersion");
        let reason = format!("in top-level {name}");
        let within = Within {
            meta: within.meta || is_meta,
            no_defaults: if is_meta && is_root { Some(&*reason) } else { within.no_defaults },
        };
        node(inner, &within, false, &properties.key(name), late, errors);
    }
    if let Some(inner) = &props.not {
        node(inner, within, false, &path.child("not"), late, errors);
    }
    for (name, all) in [("allOf", &props.all_of), ("oneOf", &props.one_of), ("anyOf", &props.any_of)] {
        let list = path.child(name);
        for (at, inner) in all.iter().enumerate() {
            node(inner, within, false, &list.index(at), late, errors);
        }
    }
    let definitions = path.child("definitions");
    for (name, inner) in &props.unsupported.definitions {
        node(inner, within, false, &definitions.key(name), late, errors);
    }
    if let Some(inner) = &props.items {
        node(inner, within, false, &path.child("items"), late, errors);
    }
    let items = path.child("items");
    for (at, inner) in props.tuple.iter().enumerate() {
        node(inner, within, false, &items.index(at), late, errors);
    }
    extensions(props, path, errors);
    rules(props, path, errors);
    if errors.len() == before {
        expressions::rules(&props.rules, path, late);
    }
}

/// What is refused in OpenAPI version 3 as Kubernetes has it.
fn standard(props: &Props, within: &Within<'_>, path: &Path<'_>, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    if !props.ty.is_empty() && !TYPES.contains(&&*props.ty) {
        errors.push(Error::not_supported(&path.child("type"), &*props.ty, &TYPES));
    }
    if props.default.is_some()
        && let Some(reason) = within.no_defaults
    {
        errors.push(Error::forbidden(&path.child("default"), &format!("must not be set {reason}")));
    }
    let not = &props.unsupported;
    for (set, name, detail) in [
        (not.id, "id", "id is not supported"),
        (not.additional_items, "additionalItems", "additionalItems is not supported"),
        (not.pattern_properties, "patternProperties", "patternProperties is not supported"),
        (!not.definitions.is_empty(), "definitions", "definitions is not supported"),
        (not.dependencies.is_some(), "dependencies", "dependencies is not supported"),
        (not.reference.is_some(), "$ref", "$ref is not supported"),
        (&*props.ty == "null", "type", "type cannot be set to null, use nullable as an alternative"),
        (!props.tuple.is_empty(), "items", "items must be a schema object and not an array"),
        (
            within.meta && props.embedded,
            "x-kubernetes-embedded-resource",
            "must not be used inside of resource meta",
        ),
    ] {
        if set {
            errors.push(Error::forbidden(&path.child(name), detail));
        }
    }
}

fn extensions(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    let ty = &*props.ty;
    if props.preserve_unknown == Some(false) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&path, false, "must be true or undefined"));
    }
    let must_be = |wanted: &str, because: &str| {
        let detail = format!("must be {wanted} if {because} is specified");
        match ty {
            "" => Error::required(&path.child("type"), &detail),
            ty => Error::invalid(&path.child("type"), ty, &detail),
        }
    };
    if let Some(map_type) = props.map_type.as_deref() {
        if ty != "object" {
            errors.push(must_be("object", "x-kubernetes-map-type"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            errors.push(super::super::rules::not_supported(&path, map_type, &["atomic", "granular"]));
        }
    }
    let list_path = path.child("x-kubernetes-list-type");
    if let Some(list_type) = props.list_type.as_deref() {
        if ty != "array" {
            errors.push(must_be("array", "x-kubernetes-list-type"));
        } else if list_type == "set" {
            set_items(props, path, errors);
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            let supported = ["atomic", "set", "map"];
            errors.push(super::super::rules::not_supported(&list_path, list_type, &supported));
        }
    }
    if !props.list_keys.is_empty() && props.list_type.as_deref() != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match props.list_type.as_deref() {
            None => Error::required(&list_path, detail),
            Some(list_type) => Error::invalid(&list_path, list_type, detail),
        });
    }
    if props.list_type.as_deref() == Some("map") {
        map_items(props, path, errors);
    }
    if matches!(props.list_type.as_deref(), Some("set" | "map")) {
        keys(props, path, errors);
    }
}

fn set_items(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    let Some(items) = &props.items else { return };
    let path = path.child("items");
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let shown = || items.list_type.as_deref().map_or(Value::Null, Value::from);
    match (&*items.ty, items.list_type.as_deref(), items.map_type.as_deref()) {
        ("array", Some(list_type), _) if list_type != "atomic" => {
            errors.push(Error::invalid(&path.child("x-kubernetes-list-type"), shown(), detail));
        }
        ("object", _, map_type) if map_type != Some("atomic") => {
            errors.push(Error::invalid(&path.child("x-kubernetes-map-type"), shown(), detail));
        }
        _ => {}
    }
}

fn map_items(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if props.list_keys.is_empty() {
        errors.push(Error::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    let place = path.child("items");
    let Some(items) = &props.items else {
        errors.push(match props.tuple.is_empty() {
            true => Error::required(&place, "must have a schema if x-kubernetes-list-type is map"),
            false => {
                let detail = "must only have a single schema if x-kubernetes-list-type is map";
                Error::invalid(&place, json!([]), detail)
            }
        });
        return;
    };
    if &*items.ty != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&place.child("type"), &*items.ty, detail));
        return;
    }
    let properties = place.child("properties");
    for (at, name) in props.list_keys.iter().enumerate() {
        match items.properties.get(name) {
            Some(inner) if matches!(&*inner.ty, "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let path = properties.key(name);
                errors.push(Error::invalid(&path.child("type"), &*items.ty, detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(Error::invalid(&keys_path, json!(props.list_keys), detail));
            }
        }
        if props.list_keys[..at].contains(name) {
            let detail = "must not contain duplicate entries";
            errors.push(Error::invalid(&keys_path, json!(props.list_keys), detail));
        }
    }
}

/// Keys are there and never null.
fn keys(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    let Some(items) = &props.items else { return };
    let place = path.child("items");
    let list_type = props.list_type.as_deref().unwrap_or_default();
    if items.nullable {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&place.child("nullable"), &detail));
    }
    if list_type != "map" {
        return;
    }
    let properties = place.child("properties");
    for name in &props.list_keys {
        let Some(inner) = items.properties.get(name) else { continue };
        let path = properties.key(name);
        if !items.required.contains(name) && inner.default.is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&path.child("default"), detail));
        }
        if inner.nullable {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&path.child("nullable"), detail));
        }
    }
}

/// What can be said of rules without evaluating them.
fn rules(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let list = path.child("x-kubernetes-validations");
    let lines = |text: &str| text.contains(['\n', '\r']);
    for (at, rule) in props.rules.iter().enumerate() {
        let path = list.index(at);
        let (source, message) = (text(rule, "rule").trim(), text(rule, "message"));
        if source.is_empty() {
            errors.push(Error::required(&path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(Error::invalid(&path.child("message"), message, "must be non-empty if specified"));
        } else if lines(message.trim()) {
            errors.push(Error::invalid(&path.child("message"), message, "must not contain line breaks"));
        } else if lines(source) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&path.child("message"), detail));
        }
        let expression = text(rule, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&path.child("messageExpression"), detail));
        }
        if let Some(reason) = get(rule, "reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            errors.push(Error::not_supported(&path.child("reason"), reason, &REASONS));
        }
        let field = text(rule, "fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            errors.push(Error::invalid(&path.child("fieldPath"), field, "must be non-empty if specified"));
        }
        if lines(field) {
            errors.push(Error::invalid(&path.child("fieldPath"), field, "must not contain line breaks"));
        }
        let leads_nowhere = || fields::find(field, props, true).is_err();
        if !field.is_empty() && structural::unsupported(props).is_none() && leads_nowhere() {
            errors.push(Error::invalid(&path.child("fieldPath"), field, "must be a valid path"));
        }
    }
}
