//! What values are told, in upstream's words.

use serde_json::{Value, json};

use super::super::props::Props;
use super::{create, update};
use crate::field::{Errors, Path};

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(schema: Value, value: Value, expect: &[&str]) {
    let mut errors = Errors::new();
    let root = json!({"type": "object", "properties": {"x": schema}});
    create(&json!({ "x": value }), &Props::read(&root), &Path::ROOT, &mut errors);
    assert_eq!(texts(errors), expect, "{value}");
}

#[test]
fn types() {
    let integer = json!({"type": "integer"});
    check(integer.clone(), json!(1), &[]);
    let wrong = "x: Invalid value: \"string\": x in body must be of type integer: \"string\"";
    check(integer.clone(), json!("1"), &[wrong]);
    check(
        integer.clone(),
        json!(null),
        &["x: Invalid value: \"null\": x in body must be of type integer: \"null\""],
    );
    check(
        integer,
        json!(1.5),
        &[
            "x: Invalid value: \"number\": x in body must be of type integer: \"number\"",
            "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in x",
        ],
    );
    check(json!({"type": "number"}), json!(1), &[]);
    check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check(json!({"x-kubernetes-int-or-string": true}), json!("1"), &[]);
    check(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &["x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\""],
    );
    check(
        json!({"type": "integer", "format": "int32"}),
        json!(3_000_000_000_i64),
        &["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in x"],
    );
    check(
        json!({"type": "string", "format": "date"}),
        json!(5),
        &["x: Invalid value: \"int64\": x in body must be of type date: \"int64\""],
    );
    check(
        json!({"type": "string", "format": "date"}),
        json!("soon"),
        &["x: Invalid value: \"soon\": x in body must be of type date: \"soon\""],
    );
}

#[test]
fn bounds() {
    check(
        json!({"type": "integer", "minimum": 2, "maximum": 5, "exclusiveMaximum": true}),
        json!(5),
        &["x: Invalid value: 5: x in body should be less than 5"],
    );
    check(
        json!({"type": "integer", "minimum": 2}),
        json!(1),
        &["x: Invalid value: 1: x in body should be greater than or equal to 2"],
    );
    check(
        json!({"type": "number", "multipleOf": 0.5}),
        json!(1.3),
        &["x: Invalid value: 1.3: x in body should be a multiple of 0.5"],
    );
    check(json!({"type": "integer", "multipleOf": 3}), json!(9), &[]);
    check(
        json!({"type": "string", "maxLength": 2}),
        json!("äöü"),
        &["x: Too long: may not be more than 2 bytes"],
    );
    check(
        json!({"type": "string", "minLength": 2}),
        json!("ä"),
        &["x: Invalid value: \"ä\": x in body should be at least 2 chars long"],
    );
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("b"),
        &["x: Invalid value: \"b\": x in body should match '^a+$'"],
    );
    check(
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
        json!(["a", 2]),
        &[
            "x[1]: Invalid value: \"integer\": x[1] in body must be of type string: \"integer\"",
            "x: Too many: 2: must have at most 1 items",
        ],
    );
    check(
        json!({"type": "object", "minProperties": 2, "additionalProperties": {"type": "string"}}),
        json!({"a": 1}),
        &[
            "x: Invalid value: 1: x in body should have at least 2 properties",
            "x.a: Invalid value: \"integer\": x.a in body must be of type string: \"integer\"",
        ],
    );
    check(
        json!({"type": "object", "required": ["a"], "properties": {"b": {"type": "string", "enum": ["y", "x"]}}}),
        json!({"b": "z"}),
        &["x.b: Unsupported value: \"z\": supported values: \"y\", \"x\"", "x.a: Required value"],
    );
}

#[test]
fn combinations() {
    let either = json!([{"minimum": 5}, {"maximum": 1}]);
    check(
        json!({"type": "integer", "anyOf": either}),
        json!(3),
        &[
            "<nil>: Invalid value: \"\": \"x\" must validate at least one schema (anyOf)",
            "x: Invalid value: 3: x in body should be greater than or equal to 5",
        ],
    );
    check(
        json!({"type": "integer", "oneOf": [{"minimum": 1}, {"maximum": 5}]}),
        json!(3),
        &[
            "<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    check(
        json!({"type": "integer", "not": {"minimum": 1}}),
        json!(3),
        &["<nil>: Invalid value: \"\": \"x\" must not validate the schema (not)"],
    );
    check(
        json!({"type": "integer", "allOf": [{"minimum": 1}, {"maximum": 2}]}),
        json!(3),
        &[
            "x: Invalid value: 3: x in body should be less than or equal to 2",
            "<nil>: Invalid value: \"\": \"x\" must validate all the schemas (allOf)",
        ],
    );
}

#[test]
fn what_did_not_change_is_forgiven() {
    let schema = json!({"type": "object", "properties": {
        "s": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1}}},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
        "l": {"type": "array", "items": {"type": "string", "maxLength": 1}},
    }});
    let check = |new: Value, old: Value, expect: &[&str]| {
        let mut errors = Errors::new();
        update(&new, Some(&old), &Props::read(&schema), &Path::ROOT, &mut errors);
        assert_eq!(texts(errors), expect, "{new}");
    };
    let old = json!({"s": {"a": "xx", "b": "xx"}, "m": [{"k": "1", "v": "xx"}], "l": ["xx"]});
    check(old.clone(), old.clone(), &[]);
    let too_long = |path: &str| format!("{path}: Too long: may not be more than 1 bytes");
    check(json!({"s": {"a": "xx", "b": "yy"}}), old.clone(), &[&too_long("s.b")]);
    check(json!({"m": [{"k": "2"}, {"k": "1", "v": "xx"}]}), old.clone(), &[]);
    check(json!({"m": [{"k": "2", "v": "xx"}]}), old.clone(), &[&too_long("m[0].v")]);
    check(json!({"l": ["xx", "y"]}), old, &[&too_long("l[0]")]);
}
