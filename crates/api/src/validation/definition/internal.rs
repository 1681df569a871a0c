//! Versions and schemas as errors show them: in upstream's own form of them, which has
//! every field there is, in the order and with the names of Go's structs.

use serde_json::Value;

use crate::field::go_json;
use crate::tree::{flag, get, text};
use crate::validation::expressions::shown_rule;

/// A schema (`JSONSchemaProps`).
pub(super) fn schema(given: &Value) -> String {
    let string = |field: &str| go_json(&text(given, field).into());
    let plain = |field: &str| get(given, field).map_or_else(null, number);
    let boolean = |field: &str| flag(given, field).to_string();
    let one = |field: &str| get(given, field).map_or_else(null, schema);
    let all = |field: &str| list(get(given, field), schema);
    let named = |field: &str| map(get(given, field), schema);
    let or_flag = |field: &str| get(given, field).map_or_else(null, schema_or_flag);
    object(&[
        ("ID", string("id")),
        ("Schema", string("$schema")),
        ("Ref", plain("$ref")),
        ("Description", string("description")),
        ("Type", string("type")),
        ("Nullable", boolean("nullable")),
        ("Format", string("format")),
        ("Title", string("title")),
        ("Default", plain("default")),
        ("Maximum", plain("maximum")),
        ("ExclusiveMaximum", boolean("exclusiveMaximum")),
        ("Minimum", plain("minimum")),
        ("ExclusiveMinimum", boolean("exclusiveMinimum")),
        ("MaxLength", plain("maxLength")),
        ("MinLength", plain("minLength")),
        ("Pattern", string("pattern")),
        ("MaxItems", plain("maxItems")),
        ("MinItems", plain("minItems")),
        ("UniqueItems", boolean("uniqueItems")),
        ("MultipleOf", plain("multipleOf")),
        ("Enum", plain("enum")),
        ("MaxProperties", plain("maxProperties")),
        ("MinProperties", plain("minProperties")),
        ("Required", plain("required")),
        (
            "Items",
            get(given, "items").map_or_else(null, |items| schema_or_list("JSONSchemas", items, schema)),
        ),
        ("AllOf", all("allOf")),
        ("OneOf", all("oneOf")),
        ("AnyOf", all("anyOf")),
        ("Not", one("not")),
        ("Properties", named("properties")),
        ("AdditionalProperties", or_flag("additionalProperties")),
        ("PatternProperties", named("patternProperties")),
        ("Dependencies", map(get(given, "dependencies"), |value| schema_or_list("Property", value, go_json))),
        ("AdditionalItems", or_flag("additionalItems")),
        ("Definitions", named("definitions")),
        ("ExternalDocs", get(given, "externalDocs").map_or_else(null, documentation)),
        ("Example", plain("example")),
        ("XPreserveUnknownFields", plain("x-kubernetes-preserve-unknown-fields")),
        ("XEmbeddedResource", boolean("x-kubernetes-embedded-resource")),
        ("XIntOrString", boolean("x-kubernetes-int-or-string")),
        ("XListMapKeys", plain("x-kubernetes-list-map-keys")),
        ("XListType", plain("x-kubernetes-list-type")),
        ("XMapType", plain("x-kubernetes-map-type")),
        ("XValidations", list(get(given, "x-kubernetes-validations"), shown_rule)),
    ])
}

/// The `schema` of a version (`CustomResourceValidation`).
fn validation(given: Option<&Value>) -> String {
    given.map_or_else(null, |given| {
        object(&[("OpenAPIV3Schema", get(given, "openAPIV3Schema").map_or_else(null, schema))])
    })
}

/// The `subresources` of a version.
fn subresources(given: Option<&Value>) -> String {
    let scale = |scale: &Value| {
        object(&[
            ("SpecReplicasPath", go_json(&text(scale, "specReplicasPath").into())),
            ("StatusReplicasPath", go_json(&text(scale, "statusReplicasPath").into())),
            ("LabelSelectorPath", get(scale, "labelSelectorPath").map_or_else(null, go_json)),
        ])
    };
    given.map_or_else(null, |given| {
        let status = get(given, "status").map_or_else(null, |_| "{}".to_owned());
        object(&[("Status", status), ("Scale", get(given, "scale").map_or_else(null, scale))])
    })
}

/// The `additionalPrinterColumns` of a version.
fn columns(given: Option<&Value>) -> String {
    list(given, |column| {
        let string = |field: &str| go_json(&text(column, field).into());
        object(&[
            ("Name", string("name")),
            ("Type", string("type")),
            ("Format", string("format")),
            ("Description", string("description")),
            ("Priority", get(column, "priority").map_or_else(|| "0".to_owned(), number)),
            ("JSONPath", string("jsonPath")),
        ])
    })
}

/// The `selectableFields` of a version.
fn selectable(given: Option<&Value>) -> String {
    list(given, |field| object(&[("JSONPath", go_json(&text(field, "jsonPath").into()))]))
}

fn null() -> String {
    "null".to_owned()
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn list(given: Option<&Value>, show: impl Fn(&Value) -> String) -> String {
    let Some(Value::Array(items)) = given else { return null() };
    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
}

fn map(given: Option<&Value>, show: impl Fn(&Value) -> String) -> String {
    let Some(Value::Object(fields)) = given else { return null() };
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    let field = |(name, value): (&String, &Value)| {
        format!("{}:{}", go_json(&Value::from(name.as_str())), show(value))
    };
    format!("{{{}}}", fields.into_iter().map(field).collect::<Vec<_>>().join(","))
}

/// A value in which a whole number is written without a fraction.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 1e15 => {
            format!("{number:.0}")
        }
        _ => go_json(value),
    }
}

fn schema_or_flag(given: &Value) -> String {
    match given {
        Value::Bool(allows) => object(&[("Allows", allows.to_string()), ("Schema", null())]),
        given => object(&[("Allows", "true".to_owned()), ("Schema", schema(given))]),
    }
}

fn schema_or_list(name: &str, given: &Value, show: impl Fn(&Value) -> String) -> String {
    match given {
        Value::Array(_) => object(&[("Schema", null()), (name, list(Some(given), show))]),
        given => object(&[("Schema", schema(given)), (name, null())]),
    }
}

fn documentation(given: &Value) -> String {
    let string = |field: &str| go_json(&text(given, field).into());
    object(&[("Description", string("description")), ("URL", string("url"))])
}

/// What of a version stands in it, and not beside all versions because they have it in common.
pub(super) struct Own {
    pub schema: bool,
    pub subresources: bool,
    pub columns: bool,
    pub selectable: bool,
}

/// The `versions` of a spec.
pub(super) fn versions(spec: &Value, own: &Own) -> String {
    let one = |version: &Value| {
        let of = |own: bool, field: &str| get(version, field).filter(|_| own);
        object(&[
            ("Name", go_json(&text(version, "name").into())),
            ("Served", flag(version, "served").to_string()),
            ("Storage", flag(version, "storage").to_string()),
            ("Deprecated", flag(version, "deprecated").to_string()),
            ("DeprecationWarning", get(version, "deprecationWarning").map_or_else(null, go_json)),
            ("Schema", validation(of(own.schema, "schema"))),
            ("Subresources", subresources(of(own.subresources, "subresources"))),
            ("AdditionalPrinterColumns", columns(of(own.columns, "additionalPrinterColumns"))),
            ("SelectableFields", selectable(of(own.selectable, "selectableFields"))),
        ])
    };
    list(get(spec, "versions"), one)
}
