//! Creating and replacing, as every kind does it: bodies in each format, names, dry runs,
//! field validation, bodies that are none, revisions.

use carrack_api::proto;
use serde_json::{Value, json};

use super::super::case::{Case, PROTOBUF, Target, YAML, ask, json, raw};
use super::super::objects::{grow, named};
use super::super::random::Random;
use super::{removed, with_object};
use crate::https::Request;

/// The cases of a kind.
pub fn cases(target: &Target<'_>, templates: &[Value], random: &mut Random, cases: &mut Vec<Case>) {
    let Some(small) = templates.first() else { return };
    let rich = templates.last().unwrap_or(small);
    for (at, template) in templates.iter().enumerate() {
        let size = if at == 0 { "minimal" } else { "rich" };
        formats(target, template, &format!("{size}-{at}"), cases);
    }
    for round in 0..4 {
        let mut object = named(rich, &format!("grown-{round}"), &target.namespace);
        let version = &target.kind.versions[target.version];
        grow(&version.schema, version.root, &mut object, 2 + round, random);
        cases.push(made(target, &object, "create", format!("maximal {round}")));
    }
    bodies(target, small, cases);
    strictness(target, rich, cases);
    if target.kind.stored() {
        names(target, small, cases);
        replacing(target, small, rich, cases);
    }
}

/// A compared create, after which the object goes.
fn made(target: &Target<'_>, object: &Value, verb: &str, title: String) -> Case {
    let case = target.case(verb, title).then(json("POST", target.collection(), object));
    cleaned(target, object, case)
}

fn cleaned(target: &Target<'_>, object: &Value, case: Case) -> Case {
    if !target.kind.stored() {
        return case;
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    removed(case, &target.object(name), object)
}

fn formats(target: &Target<'_>, template: &Value, name: &str, cases: &mut Vec<Case>) {
    let collection = target.collection();
    let object = named(template, name, &target.namespace);
    let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let case = |title: &str| target.case("create", format!("{name} {title}"));
    if target.kind.stored() {
        let read = case("and read back").then(json("POST", &collection, &object));
        let read = read.then(ask("GET", target.object(&own_name)));
        cases.push(cleaned(target, &object, read));
    } else {
        cases.push(case("as JSON").then(json("POST", &collection, &object)));
    }
    let dry = |request: Request| request.query("dryRun=All");
    cases.push(case("as YAML").then(dry(raw("POST", &collection, YAML, object.to_string()))));
    let answer = dry(json("POST", &collection, &object));
    cases.push(case("answered in YAML").then(answer.clone().header("Accept", YAML)));
    cases.push(case("answered in protobuf").then(answer.clone().header("Accept", PROTOBUF)));
    cases.push(case("dry run").then(answer.clone()));
    cases.push(case("pretty").then(answer.query("pretty=true")));
    let version = &target.kind.versions[target.version];
    let tree = carrack_api::decode::value(&version.schema, version.root, object.clone());
    if let Ok(tree) = tree
        && let Ok(message) = proto::encode(&version.schema, version.root, &tree.value)
    {
        let body = proto::wrap(&target.api_version(), &target.kind.kind, &message);
        let request = dry(raw("POST", &collection, PROTOBUF, body.clone()));
        cases.push(case("as protobuf").then(request.clone()));
        cases.push(case("in protobuf both ways").then(request.header("Accept", PROTOBUF)));
        let short = dry(raw("POST", &collection, PROTOBUF, &body[..body.len() / 2]));
        cases.push(case("as half a protobuf").then(short));
    }
}

/// Bodies that are not what was asked for.
fn bodies(target: &Target<'_>, template: &Value, cases: &mut Vec<Case>) {
    let collection = target.collection();
    let object = named(template, "body", &target.namespace);
    let text = object.to_string();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut object = object.clone();
        change(&mut object);
        object.to_string()
    };
    let bodies: Vec<(&str, &str, String)> = vec![
        ("no body", "application/json", String::new()),
        ("no JSON", "application/json", "hello".into()),
        ("half a JSON", "application/json", text[..text.len() / 2].into()),
        ("a list", "application/json", "[]".into()),
        ("null", "application/json", "null".into()),
        ("an empty object", "application/json", "{}".into()),
        ("trailing text", "application/json", format!("{text} x")),
        ("a second document", "application/json", format!("{text}{text}")),
        ("bad YAML", "application/yaml", "a: b: c".into()),
        ("a scalar as YAML", "application/yaml", "hello".into()),
        ("no protobuf", "application/vnd.kubernetes.protobuf", "hello".into()),
        ("JSON as protobuf", "application/vnd.kubernetes.protobuf", text.clone()),
        ("no kind", "application/json", with(&|o| drop(o.as_object_mut().map(|o| o.remove("kind"))))),
        (
            "no apiVersion",
            "application/json",
            with(&|o| {
                drop(o.as_object_mut().map(|o| o.remove("apiVersion")));
            }),
        ),
        (
            "neither kind nor apiVersion",
            "application/json",
            with(&|o| {
                drop(o.as_object_mut().map(|o| (o.remove("apiVersion"), o.remove("kind"))));
            }),
        ),
        ("another kind", "application/json", with(&|o| o["kind"] = "Unknown".into())),
        (
            "a kind of elsewhere",
            "application/json",
            with(&|o| {
                o["kind"] = "Pod".into();
                o["apiVersion"] = "v1".into();
            }),
        ),
        ("another version", "application/json", with(&|o| o["apiVersion"] = "example.com/v7".into())),
        ("a bad apiVersion", "application/json", with(&|o| o["apiVersion"] = "a/b/c".into())),
        ("text", "text/plain", text.clone()),
        ("XML", "application/xml", text.clone()),
        ("a charset", "application/json; charset=utf-8", text.clone()),
        ("a content type that is none", "x", text.clone()),
    ];
    for (title, content_type, body) in bodies {
        let request = raw("POST", &collection, content_type, body).query("dryRun=All");
        cases.push(target.case("create", title).then(request));
    }
    let request = raw("POST", &collection, "", text.clone()).without("Content-Type").query("dryRun=All");
    cases.push(target.case("create", "no content type").then(request));
    for accept in ["text/html", "application/xml", "*/*", "", "application/json;as=Table", "application/*"] {
        let request = json("POST", &collection, &object).query("dryRun=All").header("Accept", accept);
        cases.push(target.case("create", format!("accepting {accept:?}")).then(request));
    }
}

/// Unknown and duplicate fields, dry runs, managers, in each mode.
fn strictness(target: &Target<'_>, template: &Value, cases: &mut Vec<Case>) {
    let collection = target.collection();
    let object = named(template, "strict", &target.namespace);
    let mut unknown = object.clone();
    unknown["unheardOf"] = json!(1);
    unknown["metadata"]["unheardOf"] = json!({"a": 1});
    if unknown["spec"].is_object() {
        unknown["spec"]["unheardOf"] = json!([1]);
    }
    let unknown = unknown.to_string();
    let twice = object.to_string().replacen('{', "{\"kind\":\"Other\",", 1);
    for mode in ["", "Strict", "Warn", "Ignore", "Bogus", "strict"] {
        for (what, body) in [("unknown fields", &unknown), ("a field twice", &twice)] {
            for format in ["application/json", "application/yaml"] {
                let mut request = raw("POST", &collection, format, &**body).query("dryRun=All");
                if !mode.is_empty() {
                    request = request.query(&format!("fieldValidation={mode}"));
                }
                let title = format!("{what} as {}, mode {mode:?}", &format[12..]);
                cases.push(target.case("create", title).then(request));
            }
        }
    }
    let long = format!("fieldManager={}", "m".repeat(129));
    for parameter in [
        "dryRun=all",
        "dryRun=",
        "dryRun=All&dryRun=All",
        "dryRun=All&fieldManager=me",
        "dryRun=All&fieldManager=",
        "dryRun=All&fieldManager=%01",
        "dryRun=All&unknown=1",
        "dryRun=All&pretty=1",
        "dryRun=All&pretty=maybe",
        "dryRun=All&timeout=1s",
        "dryRun=All&timeout=x",
        &format!("dryRun=All&{long}"),
    ] {
        let request = json("POST", &collection, &object).query(parameter);
        let title = format!("with {}", &parameter[..parameter.len().min(40)]);
        cases.push(target.case("create", title).then(request));
    }
}

/// Names and namespaces.
fn names(target: &Target<'_>, template: &Value, cases: &mut Vec<Case>) {
    let object = named(template, "name", &target.namespace);
    let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let meta = |change: Value| {
        let mut object = object.clone();
        for (field, value) in change.as_object().into_iter().flatten() {
            object["metadata"][field] = value.clone();
        }
        object
    };
    let long = "n".repeat(254);
    let metas = [
        ("generated", json!({"name": null, "generateName": "made-"})),
        ("name and generateName", json!({"generateName": "made-"})),
        ("a long generateName", json!({"name": null, "generateName": "g".repeat(80)})),
        ("a bad generateName", json!({"name": null, "generateName": "Bad_"})),
        ("no name", json!({"name": null})),
        ("name with a slash", json!({"name": "a/b"})),
        ("name with a percent", json!({"name": "a%b"})),
        ("name ..", json!({"name": ".."})),
        ("upper case", json!({"name": "Upper"})),
        ("a long name", json!({"name": long})),
        ("name with a colon", json!({"name": "a:b"})),
        ("another namespace", json!({"namespace": "elsewhere"})),
        ("uid given", json!({"uid": "11111111-1111-1111-1111-111111111111"})),
        ("revision given", json!({"resourceVersion": "1"})),
        ("revision 0", json!({"resourceVersion": "0"})),
        ("no revision", json!({"resourceVersion": "abc"})),
        ("generation given", json!({"generation": 7})),
        ("a negative generation", json!({"generation": -1})),
        (
            "times given",
            json!({"creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5}),
        ),
        ("selfLink given", json!({"selfLink": "/x"})),
        ("finalizers", json!({"finalizers": ["example.com/a", "orphan", "foregroundDeletion"]})),
        ("bad finalizers", json!({"finalizers": ["short", "a b", ""]})),
        ("both propagation finalizers", json!({"finalizers": ["orphan", "foregroundDeletion"]})),
        (
            "an owner",
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}),
        ),
        (
            "bad owners",
            json!({"ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}, {"apiVersion": "a/b/c", "kind": "K", "name": "n", "uid": "u"}]}),
        ),
        (
            "two controllers",
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}, {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "v", "controller": true}]}),
        ),
        (
            "an Event as owner",
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "p", "uid": "u"}]}),
        ),
        ("bad labels", json!({"labels": {"a b": "c", "ok": "not ok!", "": "x", "l": "v".repeat(64)}})),
        ("bad annotations", json!({"annotations": {"a b": "c", "": "x", "UPPER/ok": "x"}})),
        ("large annotations", json!({"annotations": {"a": "x".repeat(262_145)}})),
        (
            "managed by hand",
            json!({"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": target.api_version(), "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {}}}]}),
        ),
        (
            "badly managed by hand",
            json!({"managedFields": [{"manager": "m", "operation": "Bogus", "fieldsType": "x"}]}),
        ),
    ];
    for (title, change) in metas {
        let object = meta(change);
        cases.push(made_metadata(target, &object, title));
    }
    let again = target.case("create", "a name that is taken");
    cases.push(with_object(target, &object, again, |case, _| {
        case.then(json("POST", target.collection(), &object))
    }));
    if target.namespace.is_empty() {
        let with_namespace = meta(json!({"namespace": "somewhere"}));
        cases.push(made(target, &with_namespace, "create", "a namespace it cannot have".into()));
        let inside = json("POST", target.collection_in("default"), &object);
        cases.push(target.case("create", "in a namespace it cannot have").then(inside));
    } else {
        let elsewhere = meta(json!({"namespace": null}));
        let absent = json("POST", target.collection_in("not-there"), &elsewhere);
        cases.push(target.case("create", "in a namespace that is not there").then(absent));
        let outside = json("POST", target.collection_in(""), &object);
        cases.push(target.case("create", "without a namespace").then(outside));
        let unnamed = json("POST", target.collection(), &elsewhere);
        let dry = unnamed.query("dryRun=All");
        cases.push(target.case("create", "whose body leaves the namespace out").then(dry));
    }
    for method in ["POST", "DELETE", "PATCH", "PUT"] {
        let path =
            if method == "POST" { target.object(&own_name) } else { format!("{}/", target.collection()) };
        let request = json(method, path, &object);
        cases.push(target.case("create", format!("{method} where it does not belong")).then(request));
    }
    let put = json("PUT", target.collection(), &object);
    cases.push(target.case("create", "PUT to the collection").then(put));
    let post = json("POST", format!("{}/nothing", target.object("name")), &object);
    cases.push(target.case("create", "an unknown subresource").then(post));
}

fn made_metadata(target: &Target<'_>, object: &Value, title: &str) -> Case {
    let case = target.case("create", format!("metadata: {title}"));
    if object["metadata"]["name"].is_null() || title.contains("finalizers") || title.contains("name") {
        return case.then(json("POST", target.collection(), object).query("dryRun=All"));
    }
    cleaned(target, object, case.then(json("POST", target.collection(), object)))
}

/// PUT: revisions, names, what cannot change.
fn replacing(target: &Target<'_>, small: &Value, rich: &Value, cases: &mut Vec<Case>) {
    let object = named(small, "put", &target.namespace);
    let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut labelled = object.clone();
    labelled["metadata"]["labels"]["changed"] = json!("yes");
    let meta = |field: &str, value: Value| {
        let mut object = labelled.clone();
        object["metadata"][field] = value;
        object
    };
    let mut richer = named(rich, "put", &target.namespace);
    richer["metadata"]["name"] = own_name.clone().into();
    let variants = [
        ("a label, with the revision", meta("resourceVersion", json!("@rv@"))),
        ("a label, without revision", labelled.clone()),
        ("an old revision", meta("resourceVersion", json!("1"))),
        ("revision 0", meta("resourceVersion", json!("0"))),
        ("no revision at all", meta("resourceVersion", json!("x"))),
        ("another uid", meta("uid", json!("11111111-1111-1111-1111-111111111111"))),
        ("the uid", meta("uid", json!("@uid@"))),
        ("another name", meta("name", json!("other"))),
        ("no name", meta("name", Value::Null)),
        ("another namespace", meta("namespace", json!("other"))),
        ("another creation time", meta("creationTimestamp", json!("2001-01-01T00:00:00Z"))),
        ("a deletion time", meta("deletionTimestamp", json!("2001-01-01T00:00:00Z"))),
        ("a generation", meta("generation", json!(77))),
        ("a new finalizer in deletion", meta("finalizers", json!([]))),
        ("managed fields emptied", meta("managedFields", json!([{}]))),
        ("generateName", meta("generateName", json!("g-"))),
        ("the rich one", {
            richer["metadata"]["resourceVersion"] = json!("@rv@");
            richer.clone()
        }),
        ("nothing new", {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = json!("@rv@");
            object
        }),
    ];
    for (title, body) in &variants {
        let case = target.case("update", *title);
        cases.push(with_object(target, &object, case, |case, path| case.then(json("PUT", path, body))));
    }
    let absent = json("PUT", target.object(&own_name), &object);
    cases.push(target.case("update", "one that is not there").then(absent.query("dryRun=All")));
    let dry =
        json("PUT", target.object(&own_name), &meta("resourceVersion", json!("@rv@"))).query("dryRun=All");
    let case = target.case("update", "dry run, and read");
    cases.push(with_object(target, &object, case, |case, path| case.then(dry).then(ask("GET", path))));
    let case = target.case("update", "twice with one revision");
    let body = meta("resourceVersion", json!("@rv0@"));
    let mut second = body.clone();
    second["metadata"]["labels"]["changed"] = json!("again");
    cases.push(with_object(target, &object, case, |case, path| {
        case.then(json("PUT", path, &body)).then(json("PUT", path, &second))
    }));
    let empty = raw("PUT", target.object(&own_name), "application/json", "");
    cases.push(target.case("update", "no body").then(empty));
}
