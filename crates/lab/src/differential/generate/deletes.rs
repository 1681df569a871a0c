//! Deleting one or many: options in query and body, preconditions, finalizers.

use serde_json::{Value, json};

use super::super::case::{Case, JSON, MERGE, PROTOBUF, Target, YAML, ask, json, raw};
use super::super::objects::named;
use super::with_object;

/// The cases of a kind.
pub fn cases(target: &Target<'_>, templates: &[Value], cases: &mut Vec<Case>) {
    let Some(small) = templates.first() else { return };
    let object = named(small, "gone", &target.namespace);
    let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if target.has("delete") {
        one(target, &object, cases);
        let absent = |title: &str| target.case("delete", title);
        cases.push(absent("absent").then(ask("DELETE", target.object("absent"))));
        let precondition = json!({"preconditions": {"uid": "u"}});
        cases.push(absent("absent, with a uid").then(json("DELETE", target.object("absent"), &precondition)));
        let missing = target.object(&own_name);
        cases.push(absent("absent, dry run").then(ask("DELETE", missing).query("dryRun=All")));
    }
    if target.has("deletecollection") {
        collection(target, &object, cases);
    } else {
        let request = ask("DELETE", target.collection()).query("labelSelector=none");
        cases.push(target.case("deletecollection", "not served").then(request));
    }
}

fn one(target: &Target<'_>, object: &Value, cases: &mut Vec<Case>) {
    let mut delete = |title: &str, body: Value, query: &str| {
        let case = target.case("delete", title);
        cases.push(with_object(target, object, case, |case, path| {
            let mut request = if body.is_null() { ask("DELETE", path) } else { json("DELETE", path, &body) };
            if !query.is_empty() {
                request = request.query(query);
            }
            case.then(request).then(ask("GET", path))
        }));
    };
    for query in [
        "",
        "gracePeriodSeconds=0",
        "gracePeriodSeconds=5",
        "gracePeriodSeconds=-1",
        "gracePeriodSeconds=x",
        "propagationPolicy=Orphan",
        "propagationPolicy=Foreground",
        "propagationPolicy=Background",
        "propagationPolicy=Bogus",
        "orphanDependents=true",
        "orphanDependents=true&propagationPolicy=Orphan",
        "dryRun=All",
        "dryRun=Bogus",
        "ignoreStoreReadErrorWithClusterBreakingPotential=true",
        "pretty=true",
    ] {
        delete(&format!("with {query:?}"), Value::Null, query);
    }
    for (title, body) in [
        ("empty options", json!({})),
        ("options of v1", json!({"apiVersion": "v1", "kind": "DeleteOptions"})),
        ("options of the group", json!({"apiVersion": target.api_version(), "kind": "DeleteOptions"})),
        ("another kind", json!({"apiVersion": "v1", "kind": "Pod"})),
        ("another version", json!({"apiVersion": "example.com/v7", "kind": "DeleteOptions"})),
        ("an unknown field", json!({"unheardOf": 1})),
        ("a wrong type", json!({"gracePeriodSeconds": "x"})),
        ("grace", json!({"gracePeriodSeconds": 3})),
        ("grace 0", json!({"gracePeriodSeconds": 0})),
        ("the uid", json!({"preconditions": {"uid": "@uid@"}})),
        ("another uid", json!({"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}})),
        ("the revision", json!({"preconditions": {"resourceVersion": "@rv@"}})),
        ("another revision", json!({"preconditions": {"resourceVersion": "1"}})),
        ("no preconditions", json!({"preconditions": {}})),
        ("a dry run", json!({"dryRun": ["All"]})),
        ("an unknown dry run", json!({"dryRun": ["Some"]})),
        ("both policies", json!({"orphanDependents": true, "propagationPolicy": "Orphan"})),
        ("an unknown policy", json!({"propagationPolicy": "Sideways"})),
        ("foreground", json!({"propagationPolicy": "Foreground"})),
        ("orphaning", json!({"propagationPolicy": "Orphan"})),
    ] {
        delete(title, body, "");
    }
    let case = target.case("delete", "options in body and query");
    cases.push(with_object(target, object, case, |case, path| {
        case.then(
            json("DELETE", path, &json!({"gracePeriodSeconds": 1})).query("gracePeriodSeconds=x&dryRun=All"),
        )
    }));
    for (title, content_type, body) in [
        ("options in YAML", YAML, "gracePeriodSeconds: 0"),
        ("options in no protobuf", PROTOBUF, "x"),
        ("options in no JSON", JSON, "x"),
        ("options in text", "text/plain", "{}"),
    ] {
        let case = target.case("delete", title);
        cases.push(with_object(target, object, case, |case, path| {
            case.then(raw("DELETE", path, content_type, body))
        }));
    }
    for (title, accept) in [("answered in YAML", YAML), ("answered in protobuf", PROTOBUF)] {
        let case = target.case("delete", title);
        cases.push(with_object(target, object, case, |case, path| {
            case.then(ask("DELETE", path).header("Accept", accept))
        }));
    }
    let mut held = object.clone();
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    for policy in ["Background", "Foreground", "Orphan"] {
        let case = target.case("delete", format!("held by a finalizer, {policy}"));
        cases.push(with_object(target, &held, case, |case, path| {
            let patch = |text: Value| raw("PATCH", path, MERGE, text.to_string());
            case.then(ask("DELETE", path).query(&format!("propagationPolicy={policy}")))
                .then(ask("DELETE", path))
                .then(patch(json!({"metadata": {"labels": {"still": "here"}}})))
                .then(patch(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})))
                .then(patch(json!({"metadata": {"deletionTimestamp": null}})))
                .then(patch(json!({"metadata": {"finalizers": null}})))
                .then(ask("GET", path))
        }));
    }
}

fn collection(target: &Target<'_>, object: &Value, cases: &mut Vec<Case>) {
    let mut marked = object.clone();
    marked["metadata"]["labels"]["sweep"] = json!("yes");
    let path = target.collection();
    let mut sweep = |title: &str, query: &str, body: Value| {
        let case = target.case("deletecollection", title);
        cases.push(with_object(target, &marked, case, |case, object_path| {
            let request = if body.is_null() { ask("DELETE", &path) } else { json("DELETE", &path, &body) };
            // Upstream takes what is to go from a cache, which this brings up to date.
            let case = case.prepared(ask("GET", &path).query("labelSelector=sweep"));
            case.then(request.query("labelSelector=sweep").query(query)).then(ask("GET", object_path))
        }));
    };
    for query in [
        "timeoutSeconds=5",
        "dryRun=All",
        "limit=1",
        "fieldSelector=metadata.name=none",
        "fieldSelector=spec.unknown=x",
        "gracePeriodSeconds=0",
        "propagationPolicy=Foreground",
        "propagationPolicy=Bogus",
        "resourceVersion=0",
        "continue=x",
    ] {
        sweep(&format!("with {query}"), query, Value::Null);
    }
    sweep(
        "with options",
        "limit=5",
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}),
    );
    sweep("with a uid", "limit=5", json!({"preconditions": {"uid": "u"}}));
    let bad = ask("DELETE", &path).query("labelSelector=a%20b");
    cases.push(target.case("deletecollection", "with a bad selector").then(bad));
    let none = ask("DELETE", &path).query("labelSelector=none-of-these");
    cases.push(target.case("deletecollection", "of nothing").then(none));
}
