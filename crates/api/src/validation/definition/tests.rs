//! What definitions are told, in upstream's words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{create, update};
use crate::crd;
use crate::field::Errors;

fn definition(schema: Value) -> Value {
    json!({
        "metadata": {"name": "boats.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        "status": {"storedVersions": ["v1"], "acceptedNames": {"plural": "", "kind": ""}},
    })
}

#[track_caller]
fn check(definition: &Value, expect: &[&str]) {
    let mut errors = Errors::new();
    create(definition, &mut errors);
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
}

#[track_caller]
fn check_schema(schema: Value, expect: &[&str]) {
    check(&definition(schema), expect);
}

#[test]
fn spec() {
    let mut wrong = definition(json!({"type": "object"}));
    wrong["spec"]["group"] = "example".into();
    wrong["spec"]["scope"] = "Galaxy".into();
    wrong["spec"]["names"] =
        json!({"plural": "Boats", "kind": "Boat", "listKind": "Boat", "shortNames": ["B"]});
    wrong["spec"]["versions"][0]["storage"] = false.into();
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
        character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
        '[a-z]([-a-z0-9]*[a-z0-9])?')";
    check(
        &wrong,
        &[
            "spec.group: Invalid value: \"example\": should be a domain with at least one dot",
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
            "spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\
         \"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\
         \"SelectableFields\":null}]: must have exactly one version marked as storage version",
            "spec.names.singular: Required value",
            &format!("spec.names.plural: Invalid value: \"Boats\": {label}"),
            &format!("spec.names.shortNames[0]: Invalid value: \"B\": {label}"),
            "spec.names.listKind: Invalid value: \"Boat\": kind and listKind may not be the same",
        ],
    );
    let mut wrong = definition(json!({"type": "object"}));
    wrong["status"]["storedVersions"] = json!(["v0"]);
    wrong["spec"]["versions"][0]["subresources"] =
        json!({"scale": {"specReplicasPath": "spec.x", "statusReplicasPath": ".spec.y"}});
    wrong["spec"]["versions"][0]["additionalPrinterColumns"] =
        json!([{"name": "", "type": "money", "jsonPath": "a"}]);
    wrong["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.x"}]);
    wrong["spec"]["conversion"] = json!({"strategy": "Webhook"});
    check(
        &wrong,
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \"spec.x\": must be a simple json path starting with .",
            "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.y\": should be a json path under .status",
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"money\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.x\": is an invalid path: does not refer to a valid field",
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
            "status.storedVersions: Invalid value: [\"v0\"]: must have the storage version v1",
            "status.storedVersions[0]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage version, \
         and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 \
         from status.storedVersions",
        ],
    );
}

#[test]
fn what_does_not_change() {
    let mut old = definition(json!({"type": "object"}));
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    new["spec"]["names"]["kind"] = "Ship".into();
    let mut errors = Errors::new();
    update(&new, &old, &mut errors);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Ship\": field is immutable",
        ]
    );
}

#[test]
fn structure() {
    let at = "spec.validation.openAPIV3Schema";
    check_schema(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}),
        &[],
    );
    check_schema(json!({}), &[&format!("{at}.type: Required value: must not be empty at the root")]);
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "array"}, "b": {}}}),
        &[
            &format!("{at}.properties[a].items: Required value: must be specified"),
            &format!(
                "{at}.properties[b].type: Required value: must not be empty for specified object fields"
            ),
        ],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "[a"}, "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        &[
            &format!(
                "{at}.properties[a].pattern: Invalid value: \"[a\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[a`"
            ),
            &format!(
                "{at}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            ),
        ],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string", "minLength": 1}]}}, "anyOf": [{"required": ["a"], "properties": {"b": {"minLength": 1}}}]}),
        &[
            &format!("{at}.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"),
            &format!(
                "{at}.properties[b]: Required value: because it is defined in {at}.anyOf[0].properties[b]"
            ),
        ],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
        &[],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"$ref": "#/x", "type": "string"}}}),
        &[&format!("{at}.properties[a].$ref: Forbidden: $ref is not supported")],
    );
}

#[test]
fn extensions() {
    let at = "spec.validation.openAPIV3Schema.properties[a]";
    let property = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    check_schema(
        property(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
        &[&format!(
            "{at}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )],
    );
    check_schema(
        property(
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "z"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
        ),
        &[
            &format!(
                "{at}.x-kubernetes-list-map-keys: Invalid value: [\"k\",\"z\"]: entries must all be names of item properties"
            ),
            &format!(
                "{at}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ),
        ],
    );
    check_schema(
        property(json!({"type": "string", "x-kubernetes-map-type": "atom"})),
        &[
            &format!(
                "{at}.type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified"
            ),
            &format!(
                "{at}.x-kubernetes-map-type: Unsupported value: \"atom\": supported values: \"atomic\", \"granular\""
            ),
        ],
    );
    check_schema(
        property(json!({"type": "integer", "default": "x"})),
        &[&format!("{at}.default: Invalid value: \"string\":  in body must be of type integer: \"string\"")],
    );
    check_schema(
        property(json!({"type": "object", "default": {"b": 1}})),
        &[&format!("{at}.default: Invalid value: {{\"b\":1}}: must not have unknown fields")],
    );
}

/// Anything that looks like a schema, however odd.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!("object")),
        Just(json!("array")),
        Just(json!("string")),
        Just(json!(-1)),
        Just(json!(1e300)),
        Just(json!(["a", "b"])),
        Just(json!("^(a|b)*{3}$")),
        Just(json!("map")),
    ];
    let names = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "additionalProperties",
        "anyOf",
        "allOf",
        "not",
        "required",
        "enum",
        "default",
        "pattern",
        "minimum",
        "multipleOf",
        "maxLength",
        "nullable",
        "format",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
        "a",
        "metadata",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec((names.clone(), inner.clone()), 0..6).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
            prop::collection::vec(inner, 0..3).prop_map(Value::Array),
        ]
    })
}

proptest! {
    #[test]
    fn no_schema_is_too_much(schema in schema(), object in schema()) {
        let mut definition = definition(schema);
        let mut errors = Errors::new();
        create(&definition, &mut errors);
        definition["status"] = json!({"storedVersions": ["v1"],
            "acceptedNames": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"},
            "conditions": [{"type": "Established", "status": "True"}]});
        let kind = crd::kind(&definition).unwrap();
        let facts = kind.facts(0).unwrap();
        let _ = crd::openapi::schema(&facts.schema, "#/definitions/");
        let text = json!({"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "a"}, "a": object}).to_string();
        if let Ok(mut decoded) = crate::decode::object(&kind, 0, text.as_bytes()) {
            crd::prune::default(&mut decoded.value, &facts.schema);
            let errors = crate::validation::custom::create(&kind, 0, &decoded.value);
            prop_assert!(errors.len() < 10_000);
        }
    }
}

#[test]
fn what_is_shown_has_the_form_of_upstream() {
    let node = |ty: &str, from: &str| {
        let middle = from.replace("TYPE", ty);
        format!("{{\"ID\":\"\",\"Schema\":\"\",\"Ref\":null,\"Description\":\"\",{middle}}}")
    };
    let bounds = "\"Nullable\":false,\"Format\":\"\",\"Title\":\"\",\"Default\":null,\"Maximum\":null,\
        \"ExclusiveMaximum\":false,\"Minimum\":null,\"ExclusiveMinimum\":false,\"MaxLength\":null,\"MinLength\":null,\
        \"Pattern\":\"\",\"MaxItems\":null,\"MinItems\":null,\"UniqueItems\":false,\"MultipleOf\":null";
    let end = "\"PatternProperties\":null,\"Dependencies\":null,\"AdditionalItems\":null,\"Definitions\":null,\
        \"ExternalDocs\":null,\"Example\":null,\"XPreserveUnknownFields\":null,\"XEmbeddedResource\":false,\
        \"XIntOrString\":false,\"XListMapKeys\":null,\"XListType\":null,\"XMapType\":null,\"XValidations\":null";
    let plain = "\"Enum\":null,\"MaxProperties\":null,\"MinProperties\":null,\"Required\":null,\"Items\":null,\
        \"AllOf\":null,\"OneOf\":null,\"AnyOf\":null,\"Not\":null,\"Properties\":null,\"AdditionalProperties\":null";
    let inner = node("string", &format!("\"Type\":\"TYPE\",{bounds},{plain},{end}"));
    let outer = plain
        .replace("\"MaxProperties\":null", "\"MaxProperties\":10")
        .replace("\"Properties\":null", &format!("\"Properties\":{{\"a\":{inner}}}"));
    let outer = node("object", &format!("\"Type\":\"TYPE\",{bounds},{outer},{end}"));
    let mut wrong =
        definition(json!({"type": "object", "maxProperties": 10, "properties": {"a": {"type": "string"}}}));
    wrong["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    let rest = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
        Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
        XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is \
        enabled";
    check(&wrong, &[&format!("spec.validation.openAPIV3Schema: Invalid value: {outer}: {rest}")]);

    let mut none = definition(json!({}));
    none["spec"].as_object_mut().unwrap().remove("versions");
    none["status"]["storedVersions"] = Value::Null;
    check(
        &none,
        &[
            "spec.versions: Invalid value: null: must have exactly one version marked as storage version",
            "status.storedVersions: Invalid value: null: must have at least one stored version",
        ],
    );
}

#[test]
fn the_path_of_a_rule_leads_to_a_field() {
    let check = |path: &str, leads: bool| {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "additionalProperties": {"type": "string"}}, "a.b": {"type": "string"}},
            "x-kubernetes-validations": [{"rule": "true", "fieldPath": path}]});
        let text = format!(
            "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].fieldPath: Invalid value: {path:?}: must be a \
             valid path"
        );
        let expect: &[&str] = if leads { &[] } else { &[&text] };
        check_schema(schema, expect);
    };
    for (path, leads) in [
        (".spec", true),
        (".spec.any", true),
        (".spec['any']", true),
        ("['a.b']", true),
        ("spec", false),
        ("a", false),
        (".other", false),
        (".spec[any]", false),
        (".spec['any'", false),
        (".", false),
    ] {
        check(path, leads);
    }
}

#[test]
fn a_prefix_may_end_in_a_dash() {
    let boats = definition(json!({"type": "object"}));
    let wrong = "must be spec.names.plural+\".\"+spec.group";
    assert_eq!(super::name(&boats, "boats.example.com", "boats.example.com"), Vec::<String>::new());
    assert_eq!(super::name(&boats, "made-", "madea"), [wrong]);
}
