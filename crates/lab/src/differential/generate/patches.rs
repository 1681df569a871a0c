//! Patches of each type: what they change, what they may not, and what is no patch.

use serde_json::{Value, json};

use super::super::case::{APPLY, Case, MERGE, PATCH, PROTOBUF, STRATEGIC, Target, raw};
use super::super::objects::named;
use super::with_object;

/// The cases of a kind.
pub fn cases(target: &Target<'_>, templates: &[Value], cases: &mut Vec<Case>) {
    let (Some(small), Some(rich)) = (templates.first(), templates.last()) else { return };
    if !target.has("patch") {
        return;
    }
    let object = named(rich, "patched", &target.namespace);
    let mut one = |title: String, content_type: &str, body: String, query: &str| {
        let case = target.case("patch", title);
        cases.push(with_object(target, &object, case, |case, path| {
            case.then(raw("PATCH", path, content_type, body).query(query))
        }));
    };
    let types = [(MERGE, "merge"), (STRATEGIC, "strategic")];
    for (content_type, name) in types {
        for (title, body) in [
            ("a label", json!({"metadata": {"labels": {"p": "q"}}})),
            ("nothing", json!({})),
            ("an annotation away", json!({"metadata": {"annotations": {"not-there": null}}})),
            ("the revision", json!({"metadata": {"resourceVersion": "@rv@", "labels": {"p": "q"}}})),
            ("an old revision", json!({"metadata": {"resourceVersion": "1", "labels": {"p": "q"}}})),
            ("another uid", json!({"metadata": {"uid": "11111111-1111-1111-1111-111111111111"}})),
            ("another name", json!({"metadata": {"name": "other"}})),
            ("another namespace", json!({"metadata": {"namespace": "other"}})),
            ("another kind", json!({"kind": "Other"})),
            ("another apiVersion", json!({"apiVersion": "example.com/v7"})),
            ("metadata away", json!({"metadata": null})),
            ("bad labels", json!({"metadata": {"labels": {"a b": "c"}}})),
            ("a wrong type", json!({"metadata": {"labels": ["a"]}})),
            ("an unknown field", json!({"unheardOf": 1, "metadata": {"unheardOf": 2}})),
            ("managed fields emptied", json!({"metadata": {"managedFields": [{}]}})),
            ("the spec away", json!({"spec": null})),
            ("a spec of a wrong type", json!({"spec": "x"})),
            ("a directive", json!({"metadata": {"labels": {"$patch": "replace", "only": "this"}}})),
            ("delete as directive", json!({"metadata": {"annotations": {"$patch": "delete"}}})),
            ("an unknown directive", json!({"metadata": {"$patch": "bogus"}})),
            ("finalizers", json!({"metadata": {"finalizers": ["example.com/x"]}})),
            ("finalizers deleted from", json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}})),
            (
                "owners",
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}}),
            ),
        ] {
            one(format!("{name}: {title}"), content_type, body.to_string(), "fieldManager=me");
        }
        for (title, body) in [
            ("a list", "[]"),
            ("null", "null"),
            ("a number", "7"),
            ("nothing", ""),
            ("no JSON", "{a"),
            ("YAML", "metadata:\n  labels:\n    a: b\n"),
            ("a key twice", r#"{"metadata":{"labels":{"a":"1"},"labels":{"b":"2"}}}"#),
        ] {
            one(format!("{name}: {title} as patch"), content_type, body.into(), "dryRun=All");
        }
        for query in [
            "dryRun=All",
            "fieldValidation=Strict",
            "fieldValidation=Ignore",
            "force=true",
            "fieldManager=",
            "pretty=true",
        ] {
            let body = json!({"metadata": {"labels": {"p": "q"}}, "unheardOf": 1}).to_string();
            one(format!("{name}: with {query}"), content_type, body, query);
        }
    }
    for (title, body) in [
        ("add a label", json!([{"op": "add", "path": "/metadata/labels", "value": {"p": "q"}}])),
        ("nothing", json!([])),
        ("a test that holds", json!([{"op": "test", "path": "/kind", "value": target.kind.kind}])),
        ("a test that fails", json!([{"op": "test", "path": "/kind", "value": "Other"}])),
        ("remove what is not there", json!([{"op": "remove", "path": "/metadata/nothing"}])),
        ("replace what is not there", json!([{"op": "replace", "path": "/metadata/nothing/x", "value": 1}])),
        ("add below what is not there", json!([{"op": "add", "path": "/nothing/x/y", "value": 1}])),
        ("copy", json!([{"op": "copy", "from": "/metadata/name", "path": "/metadata/annotations/n"}])),
        ("move", json!([{"op": "move", "from": "/metadata/name", "path": "/metadata/generateName"}])),
        ("an unknown operation", json!([{"op": "bogus", "path": "/a"}])),
        ("no path", json!([{"op": "add", "value": 1}])),
        ("a bad path", json!([{"op": "add", "path": "metadata", "value": 1}])),
        ("replace the root", json!([{"op": "replace", "path": "", "value": {}}])),
        ("an unknown field", json!([{"op": "add", "path": "/unheardOf", "value": 1}])),
        ("the revision", json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}])),
        ("an object", json!({"op": "add", "path": "/metadata/labels", "value": {}})),
        (
            "too many",
            Value::Array(vec![json!({"op": "test", "path": "/kind", "value": target.kind.kind}); 10_001]),
        ),
    ] {
        one(format!("JSON patch: {title}"), PATCH, body.to_string(), "fieldManager=me");
    }
    for (content_type, body) in
        [("application/json", "{}"), ("", "{}"), ("text/plain", "{}"), (PROTOBUF, "x")]
    {
        one(format!("of type {content_type:?}"), content_type, body.into(), "fieldManager=me");
    }
    applying(target, small, cases);
    for (content_type, body) in [(MERGE, "{}"), (STRATEGIC, "{}"), (PATCH, "[]")] {
        let request = raw("PATCH", target.object("absent"), content_type, body);
        cases.push(target.case("patch", format!("absent, {content_type}")).then(request));
    }
    let request = raw("PATCH", target.collection(), MERGE, "{}");
    cases.push(target.case("patch", "the collection").then(request));
}

/// Server-side apply, its parameters and refusals; ownership has tests of its own.
fn applying(target: &Target<'_>, small: &Value, cases: &mut Vec<Case>) {
    let object = named(small, "applied", &target.namespace);
    let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let path = target.object(&own_name);
    let with = |change: Value| {
        let mut object = object.clone();
        for (field, value) in change.as_object().into_iter().flatten() {
            object["metadata"][field] = value.clone();
        }
        object
    };
    let apply = |body: &Value, query: &str| raw("PATCH", &path, APPLY, body.to_string()).query(query);
    for (title, query, body) in [
        ("no manager", "force=true", object.clone()),
        ("dry run", "fieldManager=me&dryRun=All", object.clone()),
        ("a bad force", "fieldManager=me&force=x", object.clone()),
        ("managed fields", "fieldManager=me", with(json!({"managedFields": [{}]}))),
        ("another name", "fieldManager=me", with(json!({"name": "other"}))),
        ("a revision", "fieldManager=me", with(json!({"resourceVersion": "1"}))),
        ("unknown fields", "fieldManager=me&fieldValidation=Strict", with(json!({"unheardOf": 1}))),
        ("unknown fields, warned", "fieldManager=me&dryRun=All", with(json!({"unheardOf": 1}))),
        ("a list", "fieldManager=me", json!([])),
        ("no kind", "fieldManager=me", json!({"apiVersion": "v1"})),
        (
            "another kind",
            "fieldManager=me",
            json!({"apiVersion": "v1", "kind": "Other", "metadata": {"name": own_name}}),
        ),
        (
            "another version",
            "fieldManager=me",
            json!({"apiVersion": "example.com/v7", "kind": target.kind.kind}),
        ),
    ] {
        cases.push(target.case("patch", format!("apply: {title}")).then(apply(&body, query)));
    }
    let labelled = with(json!({"labels": {"a": "1"}}));
    let other = with(json!({"labels": {"a": "2"}}));
    let case = target
        .case("patch", "apply: create, conflict, force, drop")
        .then(apply(&labelled, "fieldManager=one"))
        .then(apply(&labelled, "fieldManager=one"))
        .then(apply(&other, "fieldManager=two"))
        .then(apply(&other, "fieldManager=two&force=true"))
        .then(apply(&object, "fieldManager=one"))
        .then(apply(&object, "fieldManager=two"));
    cases.push(super::removed(case, &path, &object));
    let case = target.case("patch", "apply: half an object");
    let half =
        json!({"apiVersion": target.api_version(), "kind": target.kind.kind, "metadata": {"name": own_name}});
    cases.push(super::removed(case.then(apply(&half, "fieldManager=me")), &path, &object));
}
